"""Reproduces the facts about precision, attack direction and seeds that the choice of protocols rests on.

    python reference/method_facts.py PHOTOS PART [--images N] [--threads T] --json FILE.json
    python reference/method_facts.py --render FILE.json…        prints the tables of docs/method_facts.md from such files

PART is `complexity`, or `lite0` or `vits14` for the attacks on one network, so that parts can be run apart.
PHOTOS is a folder of photos; the first N by name are used (default 24; the f64 facts use the first 4). Networks: ViT-S/14 as timm initialises DINOv2's (seed 0, nothing trained), the same architecture with the
generated weights of fixtures/network (attention and MLP count for more there), and EfficientNet-Lite0 with its published
weights. The attacks leave the first of them out: its LayerScale of 1e-5 makes a feature that barely depends on the image.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image, ImageOps
from scipy.stats import spearmanr

from backbones import Backbone, Case, TimmClassToken, backbone, generated, normalisation
from jets import jet
from lite_normalisation import published_weights
from method import ATTACK_START, attack, exact_complexity, inside, path_complexity, unit

PX = 224


def photo(path: Path, px: int = PX) -> torch.Tensor:
    """1×3×px×px in [0, 1], f32: short side to px (PIL bicubic, antialiased), centre crop."""
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    scale = px / min(image.size)
    image = image.resize([max(px, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
    left, top = ((side - px) // 2 for side in image.size)
    pixels = np.asarray(image.crop((left, top, left + px, top + px)), np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()  # HWC → CHW


def timm_initialised(dtype) -> Backbone:
    timm.layers.set_fused_attn(False)
    torch.manual_seed(0)
    net = timm.create_model("vit_small_patch14_dinov2", pretrained=False, num_classes=0, img_size=PX)
    return Backbone(TimmClassToken(net.to(dtype)), *normalisation("dinov2-vits14")).eval().requires_grad_(False)


def lite0(dtype) -> Backbone:
    return backbone(Case("lite0", "efficientnet-lite0", PX), published_weights("0"), dtype)


NETWORKS = {
    "ViT-S/14, timm's initial weights": timm_initialised,
    "ViT-S/14, generated weights": lambda dtype: generated(Case("vits14", "dinov2-vits14", PX, 12, 16), dtype),
    "EfficientNet-Lite0, published weights": lite0,
}


def gaussian(seed: int) -> torch.Tensor:
    return torch.randn((1, 3, PX, PX), generator=torch.Generator().manual_seed(seed))


def uniform_start(seed: int) -> torch.Tensor:
    return ATTACK_START * (2 * torch.rand((1, 3, PX, PX), generator=torch.Generator().manual_seed(seed)) - 1)


def central_difference_complexity(net, image, noise, epsilon=0.01, h=0.05) -> float:
    """The exact C with both derivatives by central differences (fourth order, step h along n̂), for f64 only."""
    direction = inside(image, unit(noise))
    with torch.inference_mode():
        f = {k: net(image + k * h * direction)[0] for k in (-2, -1, 0, 1, 2)}
    first = (f[-2] - 8 * f[-1] + 8 * f[1] - f[2]) / (12 * h)
    second = (-f[-2] + 16 * f[-1] - 30 * f[0] + 16 * f[1] - f[2]) / (12 * h * h)
    along = first / first.norm()
    return (epsilon * (second - along * (along @ second)).norm() / first.norm()).item()


def precision(images) -> list:
    rows = []
    for label, make in NETWORKS.items():
        single, double = make(torch.float32), make(torch.float64)
        smooth = "ViT" in label
        for n, image in enumerate(images):
            noise = gaussian(n)
            row = {
                "network": label,
                "image": n,
                "paper_f32": path_complexity(single, image, noise).value[0],
                "paper_f64": path_complexity(double, image.double(), noise.double()).value[0],
            }
            if smooth:
                row["exact_f32"] = exact_complexity(single, image, noise).value[0]
                row["exact_f64"] = exact_complexity(double, image.double(), noise.double()).value[0]
                row["differences_f64"] = central_difference_complexity(double, image.double(), noise.double())
            rows.append(row)
    return rows


def second_derivative_of_kinks(image) -> float:
    """‖g''‖ of EfficientNet-Lite0 by jet: what `exact` would divide by ‖g'‖."""
    _, second = jet(lite0(torch.float64), image.double(), unit(gaussian(0)).double())
    return second.norm().item()


def vulnerabilities(net, images, seed, **options) -> np.ndarray:
    found = []
    for n, image in enumerate(images):
        _, distances = attack(net, image, uniform_start(1000 * seed + n), **options)
        found.append(distances[0, -1].item())
    return np.array(found)


def rank_correlation(a, b) -> float:
    return float(spearmanr(a, b).statistic)


def attacks(images, labels) -> list:
    rows = []
    for label in labels:
        make = NETWORKS[label]
        net = make(torch.float32)
        started = time.monotonic()
        first, second = (vulnerabilities(net, images, seed) for seed in (1, 2))
        descent = vulnerabilities(net, images, 1, ascend=False)
        exact1, exact2 = (vulnerabilities(net, images, seed, noise_free_start=True) for seed in (1, 2))
        double = make(torch.float64)
        few = images[:4]
        exact_f64 = vulnerabilities(double, [i.double() for i in few], 1, noise_free_start=True)
        paper_f64 = vulnerabilities(double, [i.double() for i in few], 1)

        def moved(a, b):
            return float(np.median(np.abs(a - b) / ((a + b) / 2)))

        rows.append(
            {
                "network": label,
                "images": len(images),
                "ascent_mean": float(first.mean()),
                "descent_mean": float(descent.mean()),
                "ascent_descent_rank_correlation": rank_correlation(first, descent),
                "seed_moves_paper_v_by": moved(first, second),
                "seeds_paper_rank_correlation": rank_correlation(first, second),
                "seed_moves_exact_v_by": moved(exact1, exact2),
                "seeds_exact_rank_correlation": rank_correlation(exact1, exact2),
                "f32_moves_paper_v_by": moved(first[:4], paper_f64),
                "f32_moves_exact_v_by": moved(exact1[:4], exact_f64),
                "seconds": time.monotonic() - started,
                "v_seed1": first.tolist(),
                "v_seed2": second.tolist(),
                "v_descent": descent.tolist(),
                "v_exact_seed1": exact1.tolist(),
                "v_exact_seed2": exact2.tolist(),
            }
        )
        print_attack(rows[-1])
    return rows


def print_attack(row):
    print(f"\n{row['network']}, {row['images']} photos, V ({row['seconds']:.0f} s)")
    print(f"  ascent, mean {row['ascent_mean']:.4g}; descent, mean {row['descent_mean']:.4g}; ", end="")
    print(f"rank correlation of the two {row['ascent_descent_rank_correlation']:+.2f}")
    for key, text in (("paper", "start 1e-6 away"), ("exact", "noise-free start")):
        print(f"  {text}: another seed moves V by {row[f'seed_moves_{key}_v_by']:.1%} (median), ", end="")
        print(f"rank correlation {row[f'seeds_{key}_rank_correlation']:+.2f}; ", end="")
        print(f"f32 against f64, same seed: {row[f'f32_moves_{key}_v_by']:.1e}")
    sys.stdout.flush()


def markdown(result) -> str:
    lines = ["| network | photo | `paper` f32 | `paper` f64 | `exact` f32 | `exact` f64 | f64 differences |"]
    lines += ["|---|--:|--:|--:|--:|--:|--:|"]
    for row in result["complexity"]:
        cells = [row.get(k) for k in ("paper_f32", "paper_f64", "exact_f32", "exact_f64", "differences_f64")]
        cells = ["–" if c is None else f"{c:.4g}" for c in cells]
        lines.append(f"| {row['network']} | {row['image']} | " + " | ".join(cells) + " |")
    lines += ["", "| | " + " | ".join(r["network"] for r in result["vulnerability"]) + " |"]
    lines += ["|---|" + "--:|" * len(result["vulnerability"])]
    for text, cell in (
        ("photos", lambda r: r["images"]),
        ("mean V, ascent (`paper`)", lambda r: f"{r['ascent_mean']:.4g}"),
        ("mean V, descent (`official-code`)", lambda r: f"{r['descent_mean']:.4g}"),
        ("rank correlation of the two", lambda r: f"{r['ascent_descent_rank_correlation']:+.2f}"),
        ("`paper`: another seed moves V by (median)", lambda r: f"{r['seed_moves_paper_v_by']:.1%}"),
        ("`exact`: another seed moves V by (median)", lambda r: f"{r['seed_moves_exact_v_by']:.1%}"),
        ("`paper`: rank correlation between two seeds", lambda r: f"{r['seeds_paper_rank_correlation']:+.2f}"),
        ("`exact`: rank correlation between two seeds", lambda r: f"{r['seeds_exact_rank_correlation']:+.2f}"),
        ("`paper`: f32 against f64, same start (median)", lambda r: f"{r['f32_moves_paper_v_by']:.1e}"),
        ("`exact`: f32 against f64, same start (median)", lambda r: f"{r['f32_moves_exact_v_by']:.1e}"),
    ):
        lines.append(f"| {text} | " + " | ".join(str(cell(r)) for r in result["vulnerability"]) + " |")
    return "\n".join(lines)


PARTS = {"complexity": None, "lite0": "EfficientNet-Lite0, published weights", "vits14": "ViT-S/14, generated weights"}


def complexity_part(images) -> dict:
    print("Complexity, radians\nnetwork                                image  paper f32  paper f64  exact f32  exact f64  differences f64")
    rows = precision(images)
    for row in rows:
        cells = [row.get(k) for k in ("paper_f32", "paper_f64", "exact_f32", "exact_f64", "differences_f64")]
        print(f"{row['network']:<38} {row['image']:>5}  " + "  ".join("        –" if c is None else f"{c:9.3e}" for c in cells))
    exact = [r for r in rows if "exact_f64" in r]
    apart = max(abs(r[k] / r["differences_f64"] - 1) for r in exact for k in ("exact_f32", "exact_f64"))
    path = max(abs(r["exact_f64"] / r["paper_f64"] - 1) for r in exact)
    print(f"exact (f32 and f64) against f64 differences: at most {apart:.2%} apart; against the f64 path: at most {path:.2%}")
    kinks = second_derivative_of_kinks(images[0])
    print(f"EfficientNet-Lite0: second derivative by jet has norm {kinks:.1e}, so exact complexity has no meaning there")
    return {
        "complexity": rows,
        "exact_against_differences": apart,
        "exact_against_f64_path": path,
        "second_derivative_norm_lite0": kinks,
    }


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("photos", type=Path, nargs="?")
    arguments.add_argument("part", choices=PARTS, nargs="?")
    arguments.add_argument("--images", type=int, default=24)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--json", type=Path)
    arguments.add_argument("--render", type=Path, nargs="+", metavar="FILE.json")
    given = arguments.parse_args()
    if given.render:
        result = {"complexity": [], "vulnerability": []}
        for file in given.render:
            part = json.loads(file.read_text())
            for key in result:
                result[key] += part.get(key, [])
        print(markdown(result))
        return
    if not (given.photos and given.part and given.json):
        arguments.error("PHOTOS, PART and --json are needed")
    torch.set_num_threads(given.threads)
    files = sorted(p for p in given.photos.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))[: given.images]
    if not files:
        sys.exit(f"no .jpg, .jpeg or .png in {given.photos}")
    images = [photo(path) for path in files]
    result = {"script": "reference/method_facts.py", "photos": [path.name for path in files]}
    if given.part == "complexity":
        result |= complexity_part(images[:4])
    else:
        result["vulnerability"] = attacks(images, [PARTS[given.part]])
    given.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
