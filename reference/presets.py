"""Numbers of the presets' conventions, from their definitions in numpy: fixtures/evaluate/presets.json.

Features are made by a formula that has the same float32 bits in any language, so that sets of 1100 images need no room.

    python reference/presets.py
"""

import json
from pathlib import Path

import numpy as np

N_REFERENCE, N_GENERATED, DIM = 1100, 1050, 3
OUT = Path(__file__).resolve().parent.parent / "fixtures" / "evaluate" / "presets.json"


def features(n, step):
    """Entry j of image i: ((37·i + 101·j·j + step·i·j) mod 997) / 64, exact in float32."""
    i, j = np.arange(n)[:, None], np.arange(DIM)[None, :]
    return (((37 * i + 101 * j * j + step * i * j) % 997) / 64).astype(np.float32).astype(np.float64)


def mmd2(x, y):
    """Unbiased estimate as KID's tools have it: subsets of one size m, kernel (x·y/D + 1)³."""
    m = len(x)
    kernel = lambda a, b: (a @ b.T / DIM + 1) ** 3
    xx, yy, xy = kernel(x, x), kernel(y, y), kernel(x, y)
    within = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (m * (m - 1))
    return within - 2 * xy.sum() / m**2


def kid_torch_fidelity(reference, generated):
    """100 subsets of 1000 of RandomState(2020), input1 (generated) drawn before input2."""
    state = np.random.RandomState(2020)
    values = []
    for _ in range(100):
        first = generated[state.choice(len(generated), 1000, replace=False)]
        second = reference[state.choice(len(reference), 1000, replace=False)]
        values.append(mmd2(first, second))
    return float(np.mean(values)), float(np.std(values))


def distances(a, b):
    return ((a[:, None, :] - b[None, :, :]) ** 2).sum(-1)


def prdc(reference, generated, k, closed):
    inside = np.less_equal if closed else np.less
    radius = lambda x: np.sort(distances(x, x), axis=1)[:, k]
    real, fake, between = radius(reference), radius(generated), distances(reference, generated)
    in_real, in_fake = inside(between, real[:, None]), inside(between, fake[None, :])
    return [float(in_real.any(0).mean()), float(in_fake.any(1).mean()),
            float(in_real.sum() / (k * len(generated))), float(in_real.any(1).mean())]


def main():
    reference, generated = features(N_REFERENCE, 11), features(N_GENERATED, 13)
    kid, spread = kid_torch_fidelity(reference, generated)
    found = {
        "written_by": "reference/presets.py",
        "n_reference": N_REFERENCE,
        "n_generated": N_GENERATED,
        "dim": DIM,
        "torch_fidelity_kid": kid,
        "torch_fidelity_kid_std_dev": spread,
        "closed_k3": prdc(reference, generated, 3, True),
        "open_k5": prdc(reference, generated, 5, False),
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
