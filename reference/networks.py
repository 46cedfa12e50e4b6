"""Writes fixtures/network/<case>.json: feature, input gradient and jet of every backbone, by PyTorch in f64.

    python reference/networks.py                 all cases
    python reference/networks.py CASE...         some
    python reference/networks.py --search CASE   look for an image that keeps clear of the kinks; writes nothing

Nothing random: weights, image, cotangent and direction come from generated_weights.py, see fixtures/network/README.md.
Before a case is written its numbers are checked against each other: ⟨cotangent, J·d⟩ = ⟨Jᵀ·cotangent, d⟩, and y1 and y2
against central differences.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import backbones
import convnets
import generated_weights
import vits
from backbones import Case, backbone, generated_image, normalisation, resized_position_embedding, specs
from jets import jet

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "network"
GRADIENT_SAMPLES = 1500

CASES = [
    Case("efficientnet-lite0-96", "efficientnet-lite0", 96, image="input.137"),
    Case("efficientnet-lite1-64", "efficientnet-lite1", 64, image="input.53"),
    # 68 → 34 → 17 → 9 → 5 → 3: odd sizes, padded on both sides alike, as 260 px has them
    Case("efficientnet-lite2-68", "efficientnet-lite2", 68, image="input.173"),
    Case("efficientnet-lite0-224", "efficientnet-lite0", 224),
    Case("efficientnet-lite1-240", "efficientnet-lite1", 240),
    Case("efficientnet-lite2-260", "efficientnet-lite2", 260),
    Case("resnet20-cifar", "resnet20-cifar", 32, image="input.3"),
    Case("resnet32-cifar", "resnet32-cifar", 32, image="input.19"),
    Case("resnet44-cifar", "resnet44-cifar", 32, image="input.26"),
    Case("resnet56-cifar", "resnet56-cifar", 32, image="input.113"),
    Case("resnet18-33", "resnet18", 33),
    Case("resnet50-48", "resnet50", 48, (2, 1, 2, 1), image="input.2"),
    Case("resnet50-64-full-depth", "resnet50", 64, image="input.183"),
    Case("swav-resnet50-40", "swav-resnet50", 40, (1, 1, 1, 1), image="input.5"),
    Case("convnext-tiny-64", "convnext-tiny", 64, (1, 1, 2, 1)),
    # 70 → 17 → 8 → 4 → 2: odd sizes lose their last row
    Case("convnext-small-70", "convnext-small", 70, (1, 1, 3, 1)),
    Case("convnext-base-64", "convnext-base", 64, (1, 1, 1, 1)),
    Case("convnext-large-32", "convnext-large", 32, (1, 1, 1, 1)),
    Case("torchvision-convnext-tiny-64", "convnext-tiny", 64, (1, 1, 1, 1), names="torchvision"),
    Case("huggingface-convnext-tiny-64", "convnext-tiny", 64, (1, 1, 1, 1), names="huggingface"),
    Case("authors-convnext-tiny-64", "convnext-tiny", 64, (1, 1, 1, 1), names="authors"),
    Case("inception-v3-fid-75", "inception-v3-fid", 75, image="input.5"),
    Case("vit-s16-64", "vit-s16", 64, 2),
    Case("vit-b16-48", "vit-b16", 48, 2),
    Case("vit-l16-32", "vit-l16", 32, 2),
    Case("deit-s16-48", "deit-s16", 48, 3),
    Case("mae-b16-32", "mae-b16", 32, 2),
    Case("clip-vit-b32-96", "clip-vit-b32", 96, 2),
    Case("clip-vit-b32-laion2b-64", "clip-vit-b32-laion2b", 64, 2),
    Case("clip-vit-b16-48", "clip-vit-b16", 48, 2),
    Case("clip-vit-l14-42", "clip-vit-l14", 42, 2),
    Case("siglip-b16-48", "siglip-b16", 48, 2),
    Case("dinov2-vits14-56", "dinov2-vits14", 56, 2, 4),
    Case("dinov2-vits14-224", "dinov2-vits14", 224, 12, 16),
    Case("dinov2-vits14-reg4-56", "dinov2-vits14-reg4", 56, 2, 4),
    Case("dinov2-vits14-reg4-224", "dinov2-vits14-reg4", 224, 2, 16),
    Case("dinov2-vitb14-112", "dinov2-vitb14", 112, 3, 8),
    Case("dinov2-vitb14-reg4-56", "dinov2-vitb14-reg4", 56, 3, 4),
    Case("dinov2-vitl14-56", "dinov2-vitl14", 56, 2, 4),
    Case("dinov2-vitl14-reg4-56", "dinov2-vitl14-reg4", 56, 2, 4),
    Case("dinov2-vitg14-56", "dinov2-vitg14", 56, 2, 4),
    Case("dinov2-vitg14-reg4-56", "dinov2-vitg14-reg4", 56, 2, 4),
    # position grid as in the published files, resized on the way
    Case("dinov2-vits14-56-grid37", "dinov2-vits14", 56, 2, 37),
    Case("dinov2-vits14-reg4-56-grid37", "dinov2-vits14-reg4", 56, 2, 37),
    Case("huggingface-vits14-56", "dinov2-vits14", 56, 2, 4, "huggingface"),
    Case("huggingface-vits14-reg4-56", "dinov2-vits14-reg4", 56, 2, 4, "huggingface"),
    Case("huggingface-vitg14-56", "dinov2-vitg14", 56, 2, 4, "huggingface"),
    Case("huggingface-vitg14-reg4-56", "dinov2-vitg14-reg4", 56, 2, 4, "huggingface"),
    Case("huggingface-vits14-56-grid37", "dinov2-vits14", 56, 2, 37, "huggingface"),
    Case("huggingface-vits14-reg4-56-grid37", "dinov2-vits14-reg4", 56, 2, 37, "huggingface"),
]


def vector(name: str, like: torch.Tensor) -> torch.Tensor:
    """The u values of `name` in the shape of `like`."""
    values = torch.from_numpy(generated_weights.uniform(name, like.numel()))
    return values.to(like.dtype).reshape(like.shape)


def feature_and_gradient(net, image, cotangent=None):
    """(feature D, gradient of ⟨feature, cotangent⟩ 3×H×W) of one image 1×3×H×W; cotangent defaults to its u values."""
    image = image.clone().requires_grad_()
    feature = net(image)[0]
    cotangent = vector("cotangent", feature) if cotangent is None else cotangent
    (gradient,) = torch.autograd.grad(feature @ cotangent, image)
    return feature.detach(), gradient[0]


def relative(found, expected) -> float:
    return ((found - expected).norm() / expected.norm()).item()


# --- kinks -----------------------------------------------------------------------------------------------------------


class _BeforeKinks(TorchDispatchMode):
    """Collects what every ReLU, ReLU6 and maximum pooling is given, whether it is a module or a function."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__.removesuffix("_")
        if name in ("relu", "hardtanh", "max_pool2d_with_indices"):
            self.found.append((name, args[0].detach().clone(), args[1:]))
        return func(*args, **(kwargs or {}))


def _before_kinks(net, image):
    with torch.no_grad(), _BeforeKinks() as collected:
        net(image)
    return collected.found


def _windows(value, kernel, stride=(), padding=0, *rest):
    """B×C×H×W → the values under each window, B×C×windows×taps; padding is −∞."""
    if rest and any(d != 1 for d in rest[0]):
        raise RuntimeError("no dilated pooling here")
    top, left = padding if padding else (0, 0)
    stride = stride or kernel
    padded = nn.functional.pad(value, (left, left, top, top), value=float("-inf"))
    found = padded.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1])
    return found.flatten(4).flatten(2, 3)


def kink_margin(net, net_f32, name, px):
    """How far every unit is from a kink (0; 0 and 6; another value of its pooling window), in units of its layer's rms
    rounding error in f32; the least, and the number of units.

    A unit that rounding moves across a kink changes the f32 gradient by a jump that is no error of the implementation.
    """
    least, units = float("inf"), 0
    exact = _before_kinks(net, generated_image(name, px))
    rounded = _before_kinks(net_f32, generated_image(name, px, torch.float32))
    for (kind, value, args), (_, value_f32, _) in zip(exact, rounded, strict=True):
        error = (value_f32 - value).square().mean().sqrt()
        if kind == "max_pool2d_with_indices":
            first, second = _windows(value, *args).topk(2, -1).values.unbind(-1)
            # zeros of a ReLU tie, and no gradient passes them
            distance = (first - second)[first != 0]
        else:
            distance = value.abs()
        if kind == "hardtanh":
            distance = torch.minimum(distance, (value - 6).abs())
        least = min(least, (distance.min() / error).item())
        units += distance.numel()
    return least, units


def search_image(case):
    """Prints the stream among input, input.1, … whose units all keep a margin of 20 to the kinks; else the best of 200.

    The names found are written into CASES, so that a fixture does not change with the rounding of another PyTorch.
    """
    values = {spec.name: spec.generate() for spec in specs(case)}
    net, net_f32 = backbone(case, values), backbone(case, values, torch.float32)
    best = ("input", 0.0)
    for name in ["input"] + [f"input.{n}" for n in range(1, 200)]:
        margin, _ = kink_margin(net, net_f32, name, case.input_px)
        if margin > best[1]:
            best = (name, margin)
        if margin >= 20:
            break
    print(f"{case.name}: {best[0]}, margin {best[1]:.1f}")


# --- a case ----------------------------------------------------------------------------------------------------------


def gradient_indices(count: int, most: int) -> list:
    """At most `most` flat indices, a fixed stride apart; the stride is prime, so it walks through all columns."""
    stride = -(-count // most)
    while any(stride % d == 0 for d in range(2, int(stride**0.5) + 1)) or stride < 2:
        stride += 1
    return list(range(0, count, stride))


def check(case, net, image, feature, gradient, cotangent):
    """The numbers of a case against each other; returns the jet of a smooth network, else None."""
    direction = vector("direction", image)
    if not case.smooth:
        _, y1 = torch.func.jvp(net, (image,), (direction,))
        adjoint = abs((y1[0] @ cotangent / (gradient.flatten() @ direction.flatten()) - 1).item())
        if adjoint > 1e-9:
            raise RuntimeError(f"{case.name}: jvp and vjp disagree by {adjoint:.1e}")
        return None
    y1, y2 = (y[0] for y in jet(net, image, direction))
    adjoint = abs((y1 @ cotangent / (gradient.flatten() @ direction.flatten()) - 1).item())
    with torch.inference_mode():
        h = 1e-4
        up, down = net(image + h * direction)[0], net(image - h * direction)[0]
        finite1 = relative((up - down) / (2 * h), y1)
        finite2 = relative((up - 2 * feature + down) / h**2, y2)
    # both differences fall with h² and are about 4e-7 at this h; a wrong second derivative misses by a hundredth or more
    if adjoint > 1e-9 or finite1 > 5e-6 or finite2 > 5e-6:
        raise RuntimeError(f"{case.name}: adjoint {adjoint:.1e}, differences {finite1:.1e}, {finite2:.1e}")
    return y1, y2


def sampled(vector, most: int) -> dict:
    """Norm of a vector, and at most `most` of its values, a fixed stride apart."""
    index = list(range(0, vector.numel(), max(1, -(-vector.numel() // most) | 1)))
    return {"norm": vector.norm().item(), "index": index, "value": [float(f"{vector[i].item():.9g}") for i in index]}


def taps(case, net, image) -> list:
    """What the network gives at every tap, and the gradient of ⟨that, u values of cotangent.NAME⟩ by the pixels."""
    found = []
    if convnets.handles(case.network):
        places = [(name, None, *place) for name, place in convnets.taps(case, net.body).items()]
    else:
        places = vits.taps(case, net.body)
    for name, read_as, module, pool in places:
        caught = []
        hook = module.register_forward_hook(lambda module, args, output: caught.append(output))
        pixels = image.clone().requires_grad_()
        net(pixels)
        hook.remove()
        feature = pool(caught[0])[0]
        (gradient,) = torch.autograd.grad(feature @ vector(f"cotangent.{name}", feature), pixels)
        entry = {"name": name} | ({"pool": read_as} if read_as else {})
        entry |= {"length": feature.numel(), "feature": sampled(feature.detach(), 40)}
        found.append(entry | {"gradient": sampled(gradient[0].flatten(), 20)})
    return found


def fixture(case) -> dict:
    tensors = specs(case)
    values = {spec.name: spec.generate() for spec in tensors}
    net, net_f32 = backbone(case, values), backbone(case, values, torch.float32)
    del values
    image = generated_image(case.image, case.input_px)
    feature, gradient = feature_and_gradient(net, image)
    cotangent = vector("cotangent", feature)
    feature_f32, gradient_f32 = feature_and_gradient(net_f32, image.float())
    kinks = None
    if not case.smooth:
        margin, units = kink_margin(net, net_f32, case.image, case.input_px)
        kinks = {"units": units, "least_margin": float(f"{margin:.3g}")}
    del net_f32
    derivatives = check(case, net, image, feature, gradient, cotangent)
    mean, std = normalisation(case.network)
    few = vits.handles(case.network)
    index = gradient_indices(gradient.numel(), 500 if few else GRADIENT_SAMPLES)

    def listed(vector):
        return [float(f"{v:.11g}") for v in vector.tolist()] if few else vector.tolist()

    flat = gradient.flatten()
    config = {"names": case.names}
    if case.depth is not None:
        config["depth"] = case.depth
    if case.grid is not None:
        config["position_grid"] = case.grid
    result = {
        "script": "reference/networks.py",
        "network": case.network,
        "config": config,
        "input_px": case.input_px,
        "mean": list(mean),
        "std": list(std),
        "input": {"name": case.image, "shape": [3, case.input_px, case.input_px], "centre": 0.5, "scale": 0.48},
        "tensors": [
            {"name": s.name, "shape": list(s.shape), "centre": s.centre, "scale": s.scale} for s in tensors
        ],
        "feature": listed(feature),
        "cotangent": "cotangent",
        "gradient": {
            "norm": gradient.norm().item(),
            "index": index,
            "value": [float(f"{flat[i].item():.9g}") for i in index],
        },
        # relative errors of PyTorch's own f32 run: what f32 can be asked for on this case
        "pytorch_f32_error": {
            "feature": float(f"{relative(feature_f32.double(), feature):.2g}"),
            "gradient": float(f"{relative(gradient_f32.double(), gradient):.2g}"),
        },
    }
    if kinks:
        result["kinks"] = kinks
    # one DINOv2 is enough: its builder is the one of the other vision transformers
    if convnets.handles(case.network) or vits.handles(case.network) or case.name == "dinov2-vits14-reg4-56":
        result["taps"] = taps(case, net, image)
    if derivatives:
        y1, y2 = derivatives
        result["jet"] = {"direction": "direction", "y1": listed(y1), "y2": listed(y2)}
    return result


def write(path: Path, result: dict):
    """One key a line, so that a diff shows what moved."""
    lines = []
    for key, value in result.items():
        if key in ("tensors", "taps", "spellings"):
            rows = ",\n  ".join(json.dumps(row) for row in value)
            text = f"[\n  {rows}\n ]"
        else:
            text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        lines.append(f" {json.dumps(key)}: {text}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def position_embedding() -> dict:
    """Grid 37 → 16, width 8, the four ways that are in use, in f64."""
    shape = (1, 37**2 + 1, 8)
    embedding = torch.from_numpy(generated_weights.tensor("pos_embed", shape, 0.0, 0.3)).double()
    result = {
        "script": "reference/networks.py",
        "embedding": {"name": "pos_embed", "shape": list(shape), "centre": 0.0, "scale": 0.3},
        "from_grid": 37,
        "to_grid": 16,
        "layout": "patch rows 1..=256 of the result, row-major 256×8; row 0 is the class token's, unchanged",
    }
    for way in ("upstream", "upstream-registers", "huggingface", "huggingface-registers"):
        resized = resized_position_embedding(embedding, 16, way)[0, 1:]
        result[way] = [float(f"{v:.10g}") for v in resized.flatten().tolist()]
    if result["huggingface-registers"] != result["upstream-registers"]:
        raise RuntimeError("the two ways with registers were the same function")
    del result["huggingface-registers"]
    return result


# The networks of the spellings: one of each family, with and without registers and SwiGLU.
SPELLED = [
    "vit-b16-48",
    "deit-s16-48",
    "mae-b16-32",
    "clip-vit-b32-96",
    "siglip-b16-48",
    "dinov2-vits14-56",
    "dinov2-vitg14-reg4-56",
    "resnet18-33",
    "resnet50-48",
]


def spellings() -> dict:
    """Other packages' names of the same tensors, each checked in the package whose names they are.

    The feature of a case's upstream tensors, and what that package makes of them under its names, agree to 1e-12 in f64.
    """
    found = []
    for case in (case for case in CASES if case.name in SPELLED):
        values = {spec.name: spec.generate() for spec in specs(case)}
        net = backbone(case, values)
        image = generated_image(case.image, case.input_px)
        mean, std = (image.new_tensor(v).view(1, 3, 1, 1) for v in normalisation(case.network))
        with torch.inference_mode():
            expected = net(image)
        for spelling in backbones.spellings(case):
            error = relative(spelling.features(values, (image - mean) / std), expected)
            if error > 1e-12:
                raise RuntimeError(f"{case.name} by {spelling.package}: off by {error:.1e}")
            tensors = [{"name": n, "shape": list(shape), "of": pieces} for n, (shape, pieces) in spelling.names.items()]
            found.append({"spelling": spelling.package, "case": case.name, "tensors": tensors})
    return {"script": "reference/networks.py", "spellings": found}


def main():
    torch.set_num_threads(1)  # sums in one order, so that the files come out the same again
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("cases", nargs="*", metavar="CASE", help="names of cases; all when none is given")
    arguments.add_argument("--search", action="store_true", help="look for an image clear of the kinks, write nothing")
    given = arguments.parse_args()
    wanted = given.cases
    known = [case.name for case in CASES] + ["position-embedding", "spellings"]
    if unknown := set(wanted) - set(known):
        sys.exit(f"unknown case {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    if given.search:
        for case in CASES:
            if case.name in wanted:
                search_image(case)
        return
    FIXTURES.mkdir(parents=True, exist_ok=True)
    if not wanted or "position-embedding" in wanted:
        write(FIXTURES / "position-embedding.json", position_embedding())
    if not wanted or "spellings" in wanted:
        write(FIXTURES / "spellings.json", spellings())
    for case in CASES:
        if not wanted or case.name in wanted:
            result = fixture(case)
            write(FIXTURES / f"{case.name}.json", result)
            print(case.name, result["input"]["name"], result["pytorch_f32_error"], result.get("kinks"), flush=True)


if __name__ == "__main__":
    main()
