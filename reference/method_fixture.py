"""Writes fixtures/method/<case>.json: the method's numbers on small networks with generated weights, in f64 and f32.

    python reference/method_fixture.py

Nothing random: images, noise and starts come from generated_weights.py. fixtures/method/README.md explains the keys.
"""

from pathlib import Path

import torch

import generated_weights
from backbones import Case, backbone, specs
from method import ATTACK_START, attack, exact_complexity, path_complexity
from networks import write

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "method"

CASES = [Case("dinov2-vits14-56", "dinov2-vits14", 56, 2, 4), Case("resnet20-cifar", "resnet20-cifar", 32)]

# (stream, on the faces): whether every seventh pixel is exactly 0 and every seventh exactly 1. The other pixels stay
# inside (0.02, 0.98): none reaches a face on the path of complexity, so the clamp acts there on those two sevenths only.
IMAGES = [("image.0", False), ("image.1", False), ("image.2", True)]


def numbers(net, image, noise, start, smooth: bool) -> dict:
    path = path_complexity(net, image, noise)
    features = path.features[0]
    result = {"complexity": path.value[0]}
    if smooth:
        result["complexity_exact"] = exact_complexity(net, image, noise).value[0]
    result["angles"] = path.angles[0].tolist()
    result["step_lengths"] = features.diff(dim=0).norm(dim=1).tolist()
    for key, options in (
        ("ascent", {}),
        ("descent", {"ascend": False}),
        ("exact_start", {"noise_free_start": True}),
    ):
        _, distances = attack(net, image, start, distances=True, **options)
        result[key] = distances[0].tolist()
    return result


def fixture(case) -> dict:
    tensors = specs(case)
    values = {spec.name: spec.generate() for spec in tensors}
    nets = {"float64": backbone(case, values), "float32": backbone(case, values, torch.float32)}
    shape = (1, 3, case.input_px, case.input_px)
    result = {
        "script": "reference/method_fixture.py",
        "network": case.network,
        "weights": f"fixtures/network/{case.name}.json",
        "constants": {
            "steps": 10,
            "epsilon": 0.01,
            "attack_steps": 10,
            "attack_epsilon": "8/255",
            "attack_step_size": "2/255",
            "attack_start": ATTACK_START,
        },
    }
    rows = []
    for n, (stream, on_faces) in enumerate(IMAGES):
        row = {"image": {"name": stream, "centre": 0.5, "scale": 0.48}, "noise": f"noise.{n}", "start": f"start.{n}"}
        image = torch.from_numpy(generated_weights.tensor(stream, shape, 0.5, 0.48))
        row["faces"] = on_faces
        if on_faces:
            image.view(-1)[0::7] = 0
            image.view(-1)[3::7] = 1
        noise = torch.from_numpy(generated_weights.uniform(row["noise"], image.numel())).reshape(shape)
        start = torch.from_numpy(generated_weights.uniform(row["start"], image.numel())).reshape(shape)
        for dtype, net in nets.items():
            kind = getattr(torch, dtype)
            start_here = ATTACK_START * start.to(kind)
            row[dtype] = numbers(net, image.to(kind), noise.to(kind), start_here, case.smooth)
        if n == 0:
            features = path_complexity(nets["float64"], image.double(), noise.double()).features[0]
            result["path_features_of_image_0"] = features.tolist()
        rows.append(row)
    result["images"] = rows
    return result


def main():
    torch.set_num_threads(1)  # sums in one order, so that the files come out the same again
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        result = fixture(case)
        write(FIXTURES / f"{case.name}.json", result)
        for row in result["images"]:
            for dtype in ("float64", "float32"):
                r = row[dtype]
                print(case.name, row["image"]["name"], dtype, "C", r["complexity"], "exact", r.get("complexity_exact"))
                print("   V ascent", r["ascent"][-1], "descent", r["descent"][-1], "exact start", r["exact_start"][-1])


if __name__ == "__main__":
    main()
