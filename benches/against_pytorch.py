"""Seconds a whole `paper` measurement takes, this project's binary against PyTorch, alternating in one run.

    python benches/against_pytorch.py BINARY IMAGES OUTPUT.json [--images 8] [--rounds 3] [--networks NAME,NAME]

PyTorch does the same work on the same images and threads: 13 forward passes for complexity and its noise floor, ten
forward + input-gradient passes and a final forward for vulnerability, batch of all images, no graph where none is
needed, in contiguous and channels-last layout; its faster layout counts. Decoding is left out of PyTorch's time and in
ours. Needs torch, timm, safetensors, pillow, numpy, efficientnet-lite-pytorch.
"""

import argparse, json, os, platform, shutil, statistics, subprocess, tempfile, time
from pathlib import Path

import numpy as np
import torch
from PIL import Image


def load(name, folder):
    """(PyTorch module giving the feature, extra arguments of the binary)"""
    torch.manual_seed(0)
    if name == "dinov2-vits14":
        import timm
        from safetensors.torch import save_file
        net = timm.create_model("vit_small_patch14_dinov2", img_size=224, num_classes=0).eval()
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "vits14.safetensors")
        return net, ["--weights", str(folder / "vits14.safetensors")]
    from efficientnet_lite_pytorch import EfficientNet
    net = EfficientNet.from_name("efficientnet-lite0").eval()

    class Pooled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net.extract_features(x).mean((2, 3))

    return Pooled().eval(), []


def measure(net, x):
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    feature_of = lambda x: net((x - mean) / std)
    with torch.inference_mode():
        n = torch.randn_like(x)
        n /= n.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        path = [feature_of((x + k * 0.01 * n).clamp(0, 1)) for k in [*range(11), 5 - 1 / 32, 5 + 1 / 32]]
        v = [b - a for a, b in zip(path[:10], path[1:11])]
        torch.stack([torch.cosine_similarity(a, b).clamp(-1, 1).arccos() for a, b in zip(v, v[1:])]).mean(0)
    target = path[0].clone()
    at = (x + torch.empty_like(x).uniform_(-1e-6, 1e-6)).clamp(0, 1)
    for _ in range(10):
        at.requires_grad_(True)
        loss = ((feature_of(at) - target) ** 2).mean(1).sum()
        (gradient,) = torch.autograd.grad(loss, at)
        at = (x + (at.detach() + 2 / 255 * gradient.sign() - x).clamp(-8 / 255, 8 / 255)).clamp(0, 1)
    with torch.inference_mode():
        return (feature_of(at) - target).norm(dim=1)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("binary"), args.add_argument("folder"), args.add_argument("output")
    args.add_argument("--images", type=int, default=8)
    args.add_argument("--rounds", type=int, default=3)
    args.add_argument("--networks", default="efficientnet-lite0,dinov2-vits14")
    args = args.parse_args()
    torch.set_num_threads(2)
    result = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__,
              "threads": 2, "images": args.images, "networks": {}}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "images").mkdir()
        files = sorted(p for p in Path(args.folder).rglob("*") if p.suffix.lower() in (".jpg", ".png"))[: args.images]
        for file in files:
            shutil.copy(file, folder / "images" / file.name)
        pixels = [np.asarray(Image.open(f).convert("RGB").resize((224, 224), Image.BICUBIC)) for f in files]
        x = torch.tensor(np.stack(pixels)).permute(0, 3, 1, 2).float().div(255)
        for name in args.networks.split(","):
            net, extra = load(name, folder)
            # Parameters never need a gradient here; leaving it on would make PyTorch compute them.
            for p in net.parameters():
                p.requires_grad_(False)
            seconds = {"ours": [], "contiguous": [], "channels_last": []}
            for _ in range(args.rounds):
                command = [args.binary, "measure", str(folder / "images"), "-o", str(folder / "t.parquet"),
                           "--backbone", name, "--no-cache", "--threads", "2", *extra]
                start = time.perf_counter()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                seconds["ours"].append(time.perf_counter() - start)
                for layout, memory in [("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)]:
                    start = time.perf_counter()
                    measure(net.to(memory_format=memory), x.contiguous(memory_format=memory))
                    seconds[layout].append(time.perf_counter() - start)
            medians = {k: statistics.median(v) for k, v in seconds.items()}
            ratio = min(medians["contiguous"], medians["channels_last"]) / medians["ours"]
            print(name, {k: round(v, 2) for k, v in medians.items()}, f"PyTorch / ours = {ratio:.2f}", flush=True)
            result["networks"][name] = {"seconds": seconds, "ratio": ratio}
            Path(args.output).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.pop("OPENBLAS_CORETYPE", None)
    main()
