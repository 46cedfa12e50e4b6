"""Writes fixtures/image/preprocessing.json/.npz: network inputs as the field's tools make them, one tool a resampler.

    python reference/preprocessing.py

Every value comes from the tool itself: torchvision on Pillow images, torch.nn.functional.interpolate as pytorch-fid and
torchmetrics call it, clean-fid's resizer, torch-fidelity's rebuilding of TensorFlow 1. What a tool rounds to 8 bits is
stored as uint8; everything else as float32 in [0, 1] (the bicubic of torch may leave it).
"""

import json
import warnings
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
from cleanfid.resize import make_resizer
from PIL import Image
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F
from torchvision.transforms._presets import ImageClassification

from image import photo

_resize = Image.Image.resize


def _horizontal_first(image, size, resample=None, *rest, **named):
    """Pillow up to 12 shrinks the width before the height, with 8 bits in between; 13.0 takes whichever order is cheaper,
    which moves some values by 1/255. Published numbers were made with the former, so it is asked for one axis at a time.
    """
    width, height = size
    narrow = _resize(image, (width, image.height), resample, *rest, **named)
    return _resize(narrow, (width, height), resample, *rest, **named)


Image.Image.resize = _horizontal_first

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "image"


def pictures():
    found = {
        "wide": photo(27, 40, 21),
        "tall": photo(61, 25, 22),
        "square": photo(16, 16, 23),
        "tiny": photo(5, 7, 24),
        "strip": photo(3, 70, 25),
        "deep": photo(19, 26, 26, 65535),
    }
    # Single bright pixels, and a single dark one: a cubic kernel overshoots.
    found["spikes"] = np.zeros((26, 33, 3), np.uint8)
    found["spikes"][::5, ::4] = 255
    found["spikes"][11, 14] = 0
    return found


def tensor(pixels):
    """1×3×H×W, f32 in [0, 1], as torchvision's ToTensor makes it of 8 bits."""
    full = np.iinfo(pixels.dtype).max
    return torch.from_numpy(pixels.astype(np.float32) / np.float32(full)).permute(2, 0, 1)[None]


def array(x):
    return x[0].permute(1, 2, 0).numpy()


def pil(pixels, mode, short_px, px):
    """torchvision on a Pillow image; squashes where short_px is None."""
    if short_px is None:
        # dgm-eval at 74c79f7, dgm_eval/models/dinov2.py
        steps = [transforms.Resize((px, px), mode)]
        return np.asarray(transforms.Compose(steps)(Image.fromarray(pixels)))
    if mode is InterpolationMode.BILINEAR:
        # the transforms() of torchvision's weights, whose result is normalised by nothing here
        preset = ImageClassification(crop_size=px, resize_size=short_px, mean=(0, 0, 0), std=(1, 1, 1))
        return np.rint(array(preset(Image.fromarray(pixels))[None]) * 255).astype(np.uint8)
    steps = [transforms.Resize(short_px, mode), transforms.CenterCrop(px)]
    return np.asarray(transforms.Compose(steps)(Image.fromarray(pixels)))


def interpolate(pixels, mode, antialias, short_px, px):
    x = tensor(pixels)
    if short_px is None:
        # pytorch-fid 0.3.0 without antialias, torchmetrics 1.9.0 with it
        return array(torch.nn.functional.interpolate(x, size=(px, px), mode=mode, align_corners=False, antialias=antialias))
    x = F.resize(x, short_px, InterpolationMode(mode), antialias=antialias)
    return array(F.center_crop(x, px))


def clean(pixels, px):
    return make_resizer("PIL", False, "bicubic", (px, px))(pixels) / np.float32(255)


def tf1(pixels, px):
    x = tensor(pixels) * 255
    return array(interpolate_bilinear_2d_like_tensorflow1x(x, size=(px, px), align_corners=False)) / np.float32(255)


TOOLS = {
    "pil-bicubic-u8": lambda p, short, px: pil(p, InterpolationMode.BICUBIC, short, px),
    "pil-bilinear-u8": lambda p, short, px: pil(p, InterpolationMode.BILINEAR, short, px),
    "pil-bicubic-f32": lambda p, short, px: clean(p, px),
    "torch-bilinear": lambda p, short, px: interpolate(p, "bilinear", False, short, px),
    "torch-bilinear-antialias": lambda p, short, px: interpolate(p, "bilinear", True, short, px),
    "torch-bicubic-antialias": lambda p, short, px: interpolate(p, "bicubic", True, short, px),
    "tf1-bilinear": lambda p, short, px: tf1(p, px),
}

# picture, short side before the crop (None: squash), input
WANTED = [
    ("wide", None, 12), ("wide", None, 31), ("wide", 16, 14), ("wide", 30, 26), ("tall", None, 17), ("tall", 18, 16),
    ("square", None, 16), ("square", 16, 13), ("tiny", None, 23), ("tiny", 16, 15), ("strip", None, 8), ("strip", 8, 7),
    ("deep", None, 11), ("deep", None, 29), ("spikes", None, 14), ("spikes", None, 45),
]


def main():
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    given = pictures()
    arrays, cases = dict(given), []
    for resampler, tool in TOOLS.items():
        crops = resampler not in ("pil-bicubic-f32", "tf1-bilinear")
        deep = resampler.startswith(("torch", "tf1"))
        for name, short_px, px in WANTED:
            if (short_px and not crops) or (name == "deep" and not deep):
                continue
            key = f"{resampler}_{name}_{short_px or 'squash'}_{px}"
            arrays[key] = tool(given[name], short_px, px)
            assert arrays[key].dtype == (np.uint8 if resampler.endswith("u8") else np.float32), key
            case = {"picture": name, "resampler": resampler, "short_px": short_px, "px": px, "expected": key}
            cases.append(case)
    np.savez_compressed(OUT / "preprocessing.npz", **arrays)
    made_by = {"script": "reference/preprocessing.py", "pillow": PIL.__version__, "torch": torch.__version__}
    made_by["torchvision"] = torchvision.__version__
    lines = ",\n".join("  " + json.dumps(case) for case in cases)
    text = f'{{"made_by": {json.dumps(made_by)},\n "cases": [\n{lines}\n]}}\n'
    (OUT / "preprocessing.json").write_text(text)
    print(len(cases), "cases")


if __name__ == "__main__":
    main()
