"""The full-size check: real weights files, features and gradients at full depth and input size, compared once by hand.

    python reference/networks_full_size.py NETWORK FOLDER               writes the files named below
    python reference/networks_full_size.py NETWORK FOLDER --compare RUST_OUTPUT.npz

NETWORK is a backbone's name, DINOv2 also with ":huggingface" behind it for that spelling of the tensors. FOLDER gets
weights.safetensors (generated values, upstream names, position grid 37 for DINOv2), image.npy (3×H×W, f32),
cotangent.npy (D, f32) and pytorch.npz: `feature` (D) and `gradient` (3×H×W, of ⟨feature, cotangent⟩ by the pixels), f64.
RUST_OUTPUT.npz holds arrays of the same two names. Nothing of this belongs into the repository: vitg14 is 4.5 GB.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from backbones import LITE_PX, Case, backbone, generated_image, specs
from networks import feature_and_gradient, vector


def full_case(argument: str) -> Case:
    network, _, names = argument.partition(":")
    if network.startswith("dinov2-vit"):
        return Case(argument, network, 224, None, 37, names or "upstream")
    if network.startswith("efficientnet-lite") and network[-1] in LITE_PX:
        return Case(argument, network, LITE_PX[network[-1]])
    import vits

    if vits.handles(network):
        return Case(argument, network, vits.input_px(network))
    if network.startswith("resnet") and network.endswith("-cifar"):
        return Case(argument, network, 32)
    sys.exit(f"no backbone is called {network}")


def write(case: Case, folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    values = {spec.name: spec.generate() for spec in specs(case)}
    save_file(values, folder / "weights.safetensors")
    net = backbone(case, values)
    del values
    image = generated_image(case.image, case.input_px)
    feature, gradient = feature_and_gradient(net, image)
    np.save(folder / "image.npy", image[0].float().numpy())
    np.save(folder / "cotangent.npy", vector("cotangent", feature).float().numpy())
    np.savez(folder / "pytorch.npz", feature=feature.numpy(), gradient=gradient.numpy())
    print(f"{case.name}: feature {tuple(feature.shape)} norm {feature.norm():.6g}, gradient norm {gradient.norm():.6g}")


def compare(case: Case, folder: Path, found: Path) -> bool:
    """Prints the relative L2 errors; True if both are within the project's limits (5e-6 feature, 2e-5 gradient)."""
    expected, found = np.load(folder / "pytorch.npz"), np.load(found)
    good = True
    for key, limit in (("feature", 5e-6), ("gradient", 2e-5)):
        a, b = expected[key].ravel(), found[key].astype(np.float64).ravel()
        if a.shape != b.shape:
            sys.exit(f"{case.name}: {key} has {b.size} values, expected {a.size}")
        error = np.linalg.norm(b - a) / np.linalg.norm(a)
        good &= bool(error <= limit)
        print(f"{case.name}: {key} relative error {error:.2e} (limit {limit:.0e})")
    return good


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("network")
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--compare", type=Path, metavar="RUST_OUTPUT.npz")
    given = arguments.parse_args()
    case = full_case(given.network)
    if given.compare is None:
        write(case, given.folder)
    elif not compare(case, given.folder, given.compare):
        sys.exit(1)


if __name__ == "__main__":
    main()
