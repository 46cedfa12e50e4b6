"""Writes fixtures/kernels/*.json, what kernel distances are tested against.

Run from the repository root: python reference/kernels.py   (numpy, scipy, scikit-learn; seconds)

- mmd.json   unbiased MMD^2 from whole kernel matrices of scikit-learn in f64, its delete-one jackknife by computing it
             anew without each image, KID over numpy's RandomState subsets, CMMD (1000 x biased MMD^2, unit-length rows,
             sigma 10).

Features are f32, printed as the shortest decimals that give them back. The case names say what each case is for.
"""

import json
import math
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "kernels"


def singles(values):
    return [float(str(v)) for v in np.asarray(values, dtype=np.float32).ravel()]


# --- maximum mean discrepancy ------------------------------------------------------------------------------------


def kernel(x, y, sigma):
    if sigma is None:
        return polynomial_kernel(x, y, degree=3, coef0=1)
    return np.exp(-cdist(x, y, "sqeuclidean") / (2 * sigma**2))


def unbiased(x, y, sigma):
    n, m = len(x), len(y)
    xx, yy = kernel(x, x, sigma), kernel(y, y, sigma)
    off_diagonal = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(off_diagonal - 2 * kernel(x, y, sigma).mean())


def jackknife(x, y, sigma):
    variance = 0.0
    for values in (
        [unbiased(np.delete(x, i, 0), y, sigma) for i in range(len(x))],
        [unbiased(x, np.delete(y, i, 0), sigma) for i in range(len(y))],
    ):
        n = len(values)
        variance += (n - 1) / n * np.sum((np.array(values) - np.mean(values)) ** 2)
    return math.sqrt(variance)


def cmmd(x, y):
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    gamma = 1 / (2 * 10**2)
    means = rbf_kernel(x, x, gamma).mean(), rbf_kernel(y, y, gamma).mean(), rbf_kernel(x, y, gamma).mean()
    return float(1000 * (means[0] + means[1] - 2 * means[2]))


def mmd_case(name, x, y, subset_size):
    x, y = np.asarray(x, dtype=np.float32), np.asarray(y, dtype=np.float32)
    made = {"name": name, "dim": x.shape[1], "reference": singles(x), "generated": singles(y)}
    x, y = x.astype(np.float64), y.astype(np.float64)
    draw = np.random.RandomState(2020)
    subsets = [
        [draw.choice(len(x), subset_size, replace=False), draw.choice(len(y), subset_size, replace=False)]
        for _ in range(6)
    ]
    made["subsets"] = [[a.tolist(), b.tolist()] for a, b in subsets]
    made["cmmd"] = cmmd(x, y)
    made["kernels"] = []
    for sigma in (None, 10.0, 1.0):
        estimates = [unbiased(x[a], y[b], sigma) for a, b in subsets]
        largest = max(np.abs(kernel(u, v, sigma)).max() for u, v in ((x, x), (y, y), (x, y)))
        made["kernels"].append(
            {
                "sigma": sigma,
                "largest_kernel": float(largest),
                "unbiased": unbiased(x, y, sigma),
                "jackknife": jackknife(x, y, sigma),
                "estimates": estimates,
                "mean": float(np.mean(estimates)),
                "std_dev": float(np.std(estimates)),
            }
        )
    return made


def mmd_cases():
    normal = np.random.default_rng(20231218).standard_normal
    return [
        mmd_case("equal_distributions", normal((40, 16)), normal((50, 16)), 20),
        mmd_case("shifted", normal((30, 8)), normal((25, 8)) + 0.7, 25),
        mmd_case("far_from_the_origin", 20 + 0.1 * normal((20, 6)), 20 + 0.1 * normal((22, 6)), 12),
        mmd_case("positive_like_pooled_features", np.abs(normal((30, 32))) * 0.4, np.abs(normal((30, 32))) * 0.45, 15),
        mmd_case("a_set_against_itself", np.arange(36).reshape(12, 3) % 7 / 3, np.arange(36).reshape(12, 3) % 7 / 3, 5),
        mmd_case("three_images", normal((3, 2)), normal((3, 2)), 2),
    ]


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    script = "reference/kernels.py"
    (OUT / "mmd.json").write_text(json.dumps({"script": script, "cases": mmd_cases()}) + "\n")


if __name__ == "__main__":
    main()
