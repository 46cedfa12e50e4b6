"""The full-size check: every backbone at full depth and input size through its weights file, against PyTorch in f64.

    python reference/networks_full_size.py WORK RESULTS.json [NAME…]       measures; rows already there are replaced
    python reference/networks_full_size.py --render RESULTS.json DOC.md    writes the table between DOC.md's markers

NAME is a backbone's name; DINOv2 also with ":huggingface" behind it for that spelling of the tensors, ConvNeXt with
":torchvision", ":huggingface" or ":authors"; without any, all of ALL are measured. For each the weights are generated
(generated_weights.py; position grid 37 for DINOv2, 16 in the other spelling) and written to WORK as safetensors, loaded by
PyTorch and, through the registry and its reader, by `cargo run --release -p anomaly-score --example backbone_numbers`.
Compared: the feature, the gradient of ⟨feature, cotangent⟩ by the pixels, and on smooth networks both derivatives of the
feature along a direction; relative L2 errors, limits 5e-6 for the feature and 2e-5 for the rest. A row that exceeds them, or a network that does not load, ends the run with status 1.

On networks with kinks some unit of millions may lie within rounding of one, and every f32 gradient may then jump by what
is no error of the implementation. `margin` says how far the nearest is, in units of that layer's rounding. The image is the
first of the streams input, input.1, … at which the gradient keeps its limit in f32 and in f64, out of STREAMS at the most; `tried` says
how many that took. A unit across its kink can only spoil a gradient, and a wrong one would keep the limit at no image. If
none does, it is the engine's gradient in f64 arithmetic that has to, and the first image is taken where it does. PyTorch's
own f32 gradient is given beside ours.

vitg14 takes 20 GB of memory and 5 GB in WORK.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

import convnets
import vits
from backbones import LITE_PX, Case, backbone, generated_image, specs
from jets import jet
from networks import feature_and_gradient, kink_margin, relative, vector

DINOV2 = [f"dinov2-vit{size}14{registers}" for size in "sblg" for registers in ("", "-reg4")]
ALL = [
    *(f"efficientnet-lite{n}" for n in "012"),
    *(f"resnet{n}-cifar" for n in (20, 32, 44, 56)),
    *DINOV2,
    "dinov2-vits14:huggingface",
    *vits.SIZES,
    *convnets.RESNET_BLOCKS,
    "inception-v3-fid",
    *convnets.CONVNEXT,
    *(f"convnext-tiny:{names}" for names in ("torchvision", "huggingface", "authors")),
]
# How many images are tried for one without a unit on the other side of its kink.
STREAMS = 16
LIMITS = {"feature": 5e-6, "gradient": 2e-5, "gradient_f64": 2e-5, "y1": 2e-5, "y2": 2e-5}
MARKERS = "<!-- networks_full_size.py: begin -->", "<!-- networks_full_size.py: end -->"
CARGO = ["cargo", "run", "--release", "-q", "-p", "anomaly-score", "--example", "backbone_numbers", "--"]
ROOT = Path(__file__).resolve().parent.parent


def full_case(argument: str) -> Case:
    network, _, names = argument.partition(":")
    names = names or "upstream"
    if network.startswith("dinov2-vit"):
        # transformers resizes the grid in another way than upstream; the weights are the same and are resized as upstream
        return Case(argument, network, 224, None, 37 if names == "upstream" else 16, names)
    if network.startswith("efficientnet-lite") and network[-1] in LITE_PX:
        return Case(argument, network, LITE_PX[network[-1]])
    if vits.handles(network):
        return Case(argument, network, vits.input_px(network))
    if network.startswith("resnet") and network.endswith("-cifar"):
        return Case(argument, network, 32)
    if convnets.handles(network):
        return Case(argument, network, 299 if network.startswith("inception") else 224, names=names)
    sys.exit(f"no backbone is called {network}")


class Generated(Mapping):
    """The case's tensors by name, made when they are asked for: vitg14 is 14 GB all at once in f32 and f64."""

    def __init__(self, case: Case):
        self.specs = {spec.name: spec for spec in specs(case)}

    def __getitem__(self, name):
        return self.specs[name].generate()

    def __iter__(self):
        return iter(self.specs)

    def __len__(self):
        return len(self.specs)


def measure(case: Case, folder: Path, program: list) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    values = Generated(case)
    weights = folder / "weights.safetensors"
    save_file(dict(values), weights)
    net = backbone(case, values)
    net_f32 = None if case.smooth else backbone(case, values, torch.float32)
    most = 1 if case.smooth else STREAMS
    rows = []
    for n in range(most):
        stream = f"input.{n}" if n else "input"
        row = {"name": case.name, "input_px": case.input_px, "image": stream}
        if not case.smooth:
            row |= {"tried": n + 1, "margin": kink_margin(net, net_f32, stream, case.input_px)[0]}
        expected = expectations(case, net, net_f32, stream, folder, row)
        if n + 1 == most:
            # vitg14 does not fit into memory beside itself
            net = net_f32 = None
        ran = subprocess.run([*program, case.network, weights, folder], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        if ran.returncode:
            return row | {"refused": ran.stderr.strip().replace(str(folder), "WORK")}
        for key, value in expected.items():
            found = torch.from_numpy(np.load(folder / f"found-{key}.npy")).double()
            if found.shape != value.shape:
                sys.exit(f"{case.name}: {key} has shape {tuple(found.shape)}, expected {tuple(value.shape)}")
            row[key] = relative(found, value)
        # Rounding the folded weights to f32 crosses a kink at some images too, and then f64 cannot agree.
        if all(row[k] <= LIMITS[k] for k in ("gradient", "gradient_f64") if k in row):
            return row
        rows.append(row)
    row = next((r for r in rows if r.get("gradient_f64", 1.0) <= LIMITS["gradient_f64"]), rows[-1])
    return row | ({"tried": most} if "tried" in row else {})


def expectations(case: Case, net, net_f32, stream: str, folder: Path, row: dict) -> dict:
    """What PyTorch gives at an image, which is written to `folder` for the program; completes `row`."""
    image = generated_image(stream, case.input_px)
    direction = vector("direction", image)
    feature, gradient = feature_and_gradient(net, image)
    row["feature_dim"] = len(feature)
    expected = {"feature": feature, "gradient": gradient.flatten()}
    if case.smooth:
        expected["y1"], expected["y2"] = (y[0] for y in jet(net, image, direction))
    else:
        expected["gradient_f64"] = gradient.flatten()
        _, rounded = feature_and_gradient(net_f32, image.float())
        row["pytorch_f32_gradient"] = relative(rounded.double(), gradient)
    for name, value in (("image", image[0]), ("direction", direction[0]), ("cotangent", vector("cotangent", feature))):
        np.save(folder / f"{name}.npy", value.float().numpy())
    return expected


def good(row) -> bool:
    judged = dict(LIMITS)
    if "margin" in row:
        del judged["gradient"]
    return "refused" not in row and all(row[k] <= limit for k, limit in judged.items() if k in row)


def table(rows) -> str:
    lines = ["| backbone | input, px | D | feature | gradient | the same in f64 | first derivative | second derivative | image | images tried | nearest kink | PyTorch's f32 gradient |"]
    lines += ["|---|--:|--:|--:|--:|--:|--:|--:|---|--:|--:|--:|"]
    for row in rows:
        if "refused" in row:
            lines.append(f"| {row['name']} | {row['input_px']} | {row['feature_dim']} | refused: {row['refused']} |||||||||")
            continue
        cells = [f"{row[k]:.1e}" if k in row else "–" for k in LIMITS]
        cells.append(row["image"])
        if "margin" in row:
            cells += [str(row["tried"]), f"{row['margin']:.2g}", f"{row['pytorch_f32_gradient']:.1e}"]
        else:
            cells += ["–"] * 3
        lines.append(f"| {row['name']} | {row['input_px']} | {row['feature_dim']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("first", type=Path, metavar="WORK")
    arguments.add_argument("second", type=Path, metavar="RESULTS.json")
    arguments.add_argument("names", nargs="*")
    arguments.add_argument("--render", action="store_true")
    arguments.add_argument("--program", type=Path, help="the example's binary, instead of cargo run")
    given = arguments.parse_intermixed_args()
    if given.render:
        rows = json.loads(given.first.read_text())["rows"]
        begin, end = (re.escape(m) for m in MARKERS)
        text, found = given.second.read_text(), f"{MARKERS[0]}\n{table(rows)}\n{MARKERS[1]}"
        text, count = re.subn(f"{begin}.*?{end}", lambda _: found, text, flags=re.DOTALL)
        if count != 1:
            sys.exit(f"{given.second}: expected one pair of the markers {MARKERS}, found {count}")
        given.second.write_text(text)
        return
    torch.set_num_threads(1)
    rows = json.loads(given.second.read_text())["rows"] if given.second.exists() else []
    failed = False
    for name in given.names or ALL:
        case = full_case(name)
        folder = given.first / name.replace(":", "-")
        row = measure(case, folder, [given.program] if given.program else CARGO)
        shutil.rmtree(folder)
        print(("ok  " if good(row) else "BAD ") + json.dumps(row), flush=True)
        failed |= not good(row)
        rows = [r for r in rows if r["name"] != name] + [row]
        rows.sort(key=lambda r: ALL.index(r["name"]) if r["name"] in ALL else len(ALL))
        given.second.write_text(json.dumps({"script": "reference/networks_full_size.py", "rows": rows}, indent=1) + "\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
