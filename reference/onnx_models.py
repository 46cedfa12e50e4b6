"""Whether ONNX files of whole networks give PyTorch's features and input gradients: a table for docs/onnx.md.

    python reference/onnx_models.py                        the networks that must load
    python reference/onnx_models.py --more                 further families of timm
    python reference/onnx_models.py NAME[:legacy|:dynamo]  some
    … --table FILE                                         also writes the table

Every network is built at full size with random weights, exported into a temporary folder by both of PyTorch's exporters,
run by PyTorch in f64, and by the engine (cargo run --example onnx_gradient) in f32 and f64. The columns are relative L2
errors of the feature and of the gradient of ⟨feature, cotangent⟩ by the pixels.

The f64 columns hold the reading and folding to account: weights folded in f64 and stored in f32 leave about 1e-7 there.
The f32 columns add rounding. Networks with kinks (ReLU and its kin) may have units within rounding of a kink among their
millions, where the gradient in f32 jumps, PyTorch's too: then another image is taken, and the table says which. Where the f64 gradients
differ, PyTorch's own forward mode says which of the two is wrong.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
import generated_weights

ROOT = Path(__file__).resolve().parent.parent
FEATURE, GRADIENT = 5e-6, 2e-5

REQUIRED = [
    "torchvision/resnet18",
    "torchvision/mobilenet_v2",
    "torchvision/mobilenet_v3_large",
    "timm/efficientnet_b0",
    "timm/convnext_atto",
    "timm/vit_tiny_patch16_224",
    "timm/deit_tiny_patch16_224",
    "timm/swin_tiny_patch4_window7_224",
    "timm/regnety_002",
    "torchvision/densenet121",
    "torchvision/vgg11",
    "torchvision/squeezenet1_1",
    "timm/mobilevit_xxs",
    "torchvision/inception_v3",
    "transformers/dinov2-small",
]
MORE = [
    "timm/beit_base_patch16_224",
    "timm/coat_lite_tiny",
    "timm/convmixer_768_32",
    "timm/crossvit_tiny_240",
    "timm/cspdarknet53",
    "timm/davit_tiny",
    "timm/dla34",
    "timm/dpn68",
    "timm/edgenext_xx_small",
    "timm/efficientformer_l1",
    "timm/efficientvit_b0",
    "timm/eva02_tiny_patch14_224",
    "timm/fastvit_t8",
    "timm/focalnet_tiny_srf",
    "timm/gcresnet33ts",
    "timm/ghostnet_100",
    "timm/hardcorenas_a",
    "timm/hiera_tiny_224",
    "timm/hrnet_w18_small",
    "timm/inception_resnet_v2",
    "timm/levit_128s",
    "timm/maxvit_tiny_tf_224",
    "timm/mixer_s32_224",
    "timm/mnasnet_100",
    "timm/mobileone_s0",
    "timm/mvitv2_tiny",
    "timm/nasnetalarge",
    "timm/nf_resnet26",
    "timm/pit_ti_224",
    "timm/poolformer_s12",
    "timm/pvt_v2_b0",
    "timm/repvgg_a0",
    "timm/res2net50_14w_8s",
    "timm/resmlp_12_224",
    "timm/resnext50_32x4d",
    "timm/rexnet_100",
    "timm/seresnet18",
    "timm/skresnet18",
    "timm/swinv2_tiny_window8_256",
    "timm/tinynet_a",
    "timm/tiny_vit_5m_224",
    "timm/twins_svt_small",
    "timm/vgg11_bn",
    "timm/visformer_tiny",
    "timm/vitamin_small_224",
    "timm/xcit_nano_12_p16_224",
    "timm/xception41",
]


class Feature(torch.nn.Module):
    """transformers' model with its pooled output alone."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x).pooler_output


def build(name):
    """The network and the side of its input."""
    torch.manual_seed(0)
    family, name = name.split("/")
    if family == "timm":
        import timm

        net = timm.create_model(name, pretrained=False)
        px = net.default_cfg["input_size"][-1]
    elif family == "torchvision":
        import torchvision

        net = torchvision.models.get_model(name, weights=None)
        px = 299 if name == "inception_v3" else 224
    else:
        from transformers import Dinov2Config, Dinov2Model

        config = Dinov2Config(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518, patch_size=14)
        net, px = Feature(Dinov2Model(config)), 224
    enliven(net)
    return net.eval(), px


def enliven(net):
    """Gives every parameter that starts as a constant a value of its own, so that nothing cancels or vanishes unseen.

    BatchNorms get values with which folding them into a convolution is exact in f32, whoever folds: the exporter, the
    engine, or nobody. Otherwise the exported network is another one by 1e-7, and units within 1e-7 of a kink are many.
    """
    generator = torch.Generator().manual_seed(1)

    def steps(tensor, low, high, size):
        return torch.randint(low, high, tensor.shape, generator=generator).to(tensor.dtype) * size

    with torch.no_grad():
        norms = set()
        for name, module in net.named_modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and module.running_var is not None:
                norms.add(name)
                module.eps = 2.0**-16
                module.running_var.fill_(1 - 2.0**-16)
                module.running_mean.copy_(steps(module.running_mean, -64, 64, 2.0**-9))
                if module.weight is not None:
                    module.weight.copy_(2.0 ** steps(module.weight, -1, 1, 1.0))
                    module.bias.copy_(steps(module.bias, -64, 64, 2.0**-8))
        for name, tensor in list(net.named_parameters()) + list(net.named_buffers()):
            if not tensor.is_floating_point() or tensor.numel() < 2 or name.rpartition(".")[0] in norms:
                continue
            if tensor.min() == tensor.max():
                start = tensor.flatten()[0].item()
                noise = torch.rand(tensor.shape, generator=generator) - 0.5
                tensor.copy_(start + 0.2 * noise if abs(start) < 1e-3 else start * (1 + 0.4 * noise))


def export(net, px, exporter, path):
    image = torch.rand(1, 3, px, px)
    if exporter == "legacy":
        torch.onnx.export(net, (image,), path, dynamo=False, opset_version=17)
    else:
        torch.onnx.export(net, (image,), path, dynamo=True, opset_version=18, verbose=False)


def feature_and_gradient(net, image, cotangent):
    image = image.clone().requires_grad_()
    feature = net(image).flatten()
    if cotangent is None:
        cotangent = torch.from_numpy(generated_weights.uniform("cotangent", feature.numel())).to(feature.dtype)
    (gradient,) = torch.autograd.grad(feature @ cotangent.to(feature.dtype), image)
    return feature.detach().double().numpy(), gradient.double().flatten().numpy(), cotangent


def relative(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def compare(name, exporters, folder):
    """Yields one row an exporter."""
    net, px = build(name)
    paths = {}
    for exporter in exporters:
        paths[exporter] = folder / f"{exporter}.onnx"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                export(net, px, exporter, paths[exporter])
        except Exception as error:  # the exporter's failure is not ours
            paths[exporter] = f"PyTorch does not export it: {str(error).splitlines()[0][:80]}"
    rows = {}
    for stream in IMAGES:
        missing = [e for e in exporters if e not in rows or not settled(rows[e])]
        for row in at_image(name, net, px, {e: paths[e] for e in missing}, stream, folder) if missing else ():
            exporter = row["exporter"]
            if exporter not in rows or settled(row) or not good(rows[exporter]):
                rows[exporter] = row
    yield from rows.values()


# A unit within rounding of a kink is no error: such an image is passed over, and the table says which one was taken.
IMAGES = ["input", "input.1", "input.2", "input.3", "input.4", "input.5"]


def at_image(name, net, px, paths, stream, folder):
    """Rows of the files `paths` at the image that is the generated stream `stream`."""
    image = torch.from_numpy(generated_weights.uniform(stream, 3 * px * px)).reshape(1, 3, px, px) * 0.48 + 0.5
    image = image.float()
    f32_feature, f32_gradient, cotangent = feature_and_gradient(net.float(), image, None)
    feature, gradient, _ = feature_and_gradient(net.double(), image.double(), cotangent)
    files = {k: folder / k for k in ("image", "cotangent", "output")}
    image.double().numpy().tofile(files["image"])
    cotangent.double().numpy().tofile(files["cotangent"])
    torch_f32 = relative(f32_feature, feature), relative(f32_gradient, gradient)
    for exporter, path in paths.items():
        row = {"name": name, "exporter": exporter, "image": stream, "torch_f32": torch_f32}
        if isinstance(path, str):
            yield row | {"failure": path}
            continue
        binary = ROOT / "target/release/examples/onnx_gradient"
        run = subprocess.run(
            [binary, path, files["image"], files["cotangent"], files["output"]], capture_output=True, text=True
        )
        if run.returncode != 0:
            yield row | {"failure": run.stderr.strip().split(". Supported are")[0][:300]}
            continue
        numbers = np.fromfile(files["output"])
        half, n = len(numbers) // 2, len(feature)
        row |= json.loads(run.stdout) | {
            "f32": (relative(numbers[:n], feature), relative(numbers[n:half], gradient)),
            "f64": (relative(numbers[half : half + n], feature), relative(numbers[half + n :], gradient)),
        }
        if row["f64"][1] > GRADIENT:
            slopes = [vector @ direction(px).flatten().numpy() for vector in (gradient, numbers[half + n :], numbers[n:half])]
            row["along"] = [slope_of(net.double(), image.double(), cotangent.double()), *map(float, slopes)]
        yield row


def direction(px):
    return torch.from_numpy(generated_weights.uniform("direction", 3 * px * px)).double().reshape(1, 3, px, px)


def slope_of(net, image, cotangent, h=1e-5):
    """Slope of ⟨feature, cotangent⟩ along `direction` without a backward pass: in forward mode, or by central differences."""
    way = direction(image.shape[-1])
    try:
        _, slope = torch.func.jvp(net, (image,), (way,))
    except (RuntimeError, NotImplementedError):
        with torch.no_grad():
            slope = (net(image + h * way) - net(image - h * way)) / (2 * h)
    return (slope.flatten() @ cotangent).item()


def pytorch_errs(row):
    """Whether PyTorch's gradient is off the slope that it gives itself without a backward pass, and the engine's is not."""
    if "along" not in row:
        return False
    slope, theirs, ours, rounded = row["along"]
    return abs(ours / slope - 1) < 1e-4 and abs(rounded / slope - 1) < 1e-3 and abs(theirs / slope - 1) > 1e-2


def good(row):
    """Within the bounds; with kinks the gradient in f32 may also be as far off as PyTorch's own, which jumps too."""
    if "failure" in row:
        return False
    if pytorch_errs(row):
        return row["f32"][0] <= FEATURE and row["f64"][0] <= FEATURE
    (f32, g32), (f64, g64) = row["f32"], row["f64"]
    bound = GRADIENT if row["kink"] is None else max(GRADIENT, 2 * row["torch_f32"][1])
    return f32 <= FEATURE and f64 <= FEATURE and g32 <= bound and g64 <= GRADIENT


def settled(row):
    """Whether no other image would say more."""
    return "failure" in row or pytorch_errs(row) or good(row) and row["f32"][1] <= GRADIENT


def line(row):
    name = f"| {row['name']} | {row['exporter']} |"
    if "failure" in row:
        return f"{name} {' '.join(row['failure'].split())} |"
    (f32, g32), (f64, g64), torch_f32 = row["f32"], row["f64"], row["torch_f32"]
    smooth = "yes" if row["kink"] is None else "no"
    macs = row["multiply_adds"] / 1e9
    fused = "; ".join(f"{k} {v}" for k, v in row["fusions"].items())
    kink = row["kink"] and f32 <= FEATURE and f64 <= FEATURE and g64 <= GRADIENT
    verdict = "yes" if good(row) else "unit on a kink" if kink else "**no**"
    if pytorch_errs(row):
        slope, theirs, ours, _ = row["along"]
        verdict = f"PyTorch errs: {theirs:.4g} along a line where its forward mode has the slope {slope:.4g}, ours {ours:.4g}"
    return (
        f"{name} {f32:.1e} | {g32:.1e} | {torch_f32[1]:.1e} | {f64:.1e} | {g64:.1e} | {smooth} | {macs:.2f} |"
        f" {row['image']} | {verdict} | {fused} |"
    )


HEAD = (
    "| network | exporter | feature f32 | gradient f32 | PyTorch's gradient f32 | feature f64 | gradient f64 | smooth |"
    " G multiply-adds | image | agrees | joined |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--more", action="store_true")
    parser.add_argument("--table", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = args.names or (MORE if args.more else REQUIRED)
    subprocess.run(
        ["cargo", "build", "--release", "-q", "-p", "anomaly-score-nn", "--example", "onnx_gradient"], cwd=ROOT, check=True
    )
    print(HEAD, flush=True)
    lines = [HEAD]
    for name in names:
        name, _, exporter = name.partition(":")
        with tempfile.TemporaryDirectory() as folder:
            for row in compare(name, [exporter] if exporter else ["legacy", "dynamo"], Path(folder)):
                lines.append(line(row))
                print(lines[-1], flush=True)
    if args.table:
        args.table.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
