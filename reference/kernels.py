"""Writes fixtures/kernels/*.json, what kernel distances and kernel density metrics are tested against.

Run from the repository root: python reference/kernels.py   (numpy, scipy, scikit-learn, torch; seconds)

- mmd.json   unbiased MMD^2 from whole kernel matrices of scikit-learn in f64, its delete-one jackknife by computing it
             anew without each image, KID over numpy's RandomState subsets, CMMD (1000 x biased MMD^2, unit-length rows,
             sigma 10).
- likelihood.json  feature likelihood scores: kernels at the generated points fitted with torch.optim.Adam in f64 by
             automatic differentiation (dgm-eval's FLS and POG; fld's FLD and its per-sample scores).

Features are f32, printed as the shortest decimals that give them back. The case names say what each case is for.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
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


# --- feature likelihood ------------------------------------------------------------------------------------------


def squared_distances(points, centres):
    return torch.from_numpy(cdist(points, centres, "sqeuclidean"))


def log_likelihoods(distances, log_widths, dim):
    """Of each point under each Gaussian, less (D/2) ln 2 pi."""
    return -0.5 * distances / torch.exp(log_widths) - dim / 2 * log_widths


def fls(train, baseline, test, generated):
    pooled = np.concatenate([train, baseline, test, generated])
    mean, spread = pooled.mean(axis=0), pooled.std(axis=0, ddof=1)
    train, baseline, test, generated = ((v - mean) / spread for v in (train, baseline, test, generated))
    dim = train.shape[1]

    def mean_nll(distances, widths):
        weighted = log_likelihoods(distances, widths, dim) - math.log(distances.shape[1])
        return -torch.logsumexp(weighted, dim=1).mean()

    def fitted(centres):
        widths = torch.zeros(len(centres), dtype=torch.float64, requires_grad=True)
        adam = torch.optim.Adam([widths], lr=0.5)
        schedule = torch.optim.lr_scheduler.MultiStepLR(adam, [50], 0.1)
        distances = squared_distances(train, centres)
        for _ in range(100):
            adam.zero_grad()
            mean_nll(distances, widths).backward()
            adam.step()
            schedule.step()
            with torch.no_grad():
                widths.clamp_(-100, 20)
        return widths.detach()

    widths = fitted(generated)
    nll = float(mean_nll(squared_distances(test, generated), widths))
    baseline_nll = float(mean_nll(squared_distances(test, baseline), fitted(baseline)))
    train_sum, test_sum = (
        torch.logsumexp(log_likelihoods(squared_distances(v, generated), widths, dim), dim=0) for v in (train, test)
    )
    return {
        "fls": 100 * math.exp(-2 * (nll - baseline_nll) / dim),
        "overfit_gaussians": 100 * float((train_sum > test_sum).double().mean()) - 50,
    }


def fld(train, test, generated):
    mean, spread = test.mean(axis=0), test.std(axis=0, ddof=1)
    train, test, generated = ((v - mean) / spread for v in (train, test, generated))
    dim = train.shape[1]
    constant = dim / 2 * math.log(2 * math.pi)

    def fitted(centres, points):
        distances = squared_distances(points, centres)
        widths = ((distances.min(dim=0).values + 1e-3) / dim).log().requires_grad_()
        extra_width = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        extra = 0.9**2 * squared_distances(points, points.mean(axis=0, keepdims=True))
        adam = torch.optim.Adam([widths, extra_width], lr=0.5)
        losses = []
        for epoch in range(50):
            adam.zero_grad()
            each = log_likelihoods(distances, widths, dim) - constant - math.log(len(centres))
            far = log_likelihoods(extra, extra_width, dim) - constant
            loss = -torch.logsumexp(torch.cat([each, far], dim=1), dim=1).mean() / dim
            loss.backward()
            adam.step()
            with torch.no_grad():
                widths.clamp_(-40, 40)
            losses.append(loss.item())
            if epoch > 5 and max(abs(losses[-1] - loss) for loss in losses[-5:]) < 5e-4:
                break
        return widths.detach(), len(losses)

    def each_over_dim(points, centres, widths):
        each = log_likelihoods(squared_distances(points, centres), widths, dim) - constant
        return (torch.logsumexp(each - math.log(len(centres)), dim=1) / dim).numpy()

    widths, epochs = fitted(generated, train)
    nll = -each_over_dim(test, generated, widths).mean()
    split = min(len(generated), len(train) // 2)
    base_widths, base_epochs = fitted(train[:split], train[split:])
    baseline_nll = -each_over_dim(test, train[:split], base_widths).mean()
    memorisation = log_likelihoods(squared_distances(train, generated), widths, dim) - constant
    quality_widths, _ = fitted(test, train)
    return {
        "fld": 100 * (nll - baseline_nll),
        "gap": 100 * (-each_over_dim(train, generated, widths).mean() - nll),
        "nll": nll,
        "baseline_nll": baseline_nll,
        "epochs": [epochs, base_epochs],
        "memorisation": (memorisation.max(dim=0).values / dim).tolist(),
        "quality": each_over_dim(generated, test, quality_widths).tolist(),
    }


def likelihood_case(name, train, baseline, test, generated):
    sets = [np.asarray(v, dtype=np.float32) for v in (train, baseline, test, generated)]
    names = ("train", "baseline", "test", "generated")
    made = {"name": name, "dim": sets[0].shape[1]} | {k: singles(v) for k, v in zip(names, sets)}
    train, baseline, test, generated = (v.astype(np.float64) for v in sets)
    made |= {"fls": fls(train, baseline, test, generated)}
    made |= {"fld": fld(np.concatenate([train, baseline]), test, generated)}
    return made


def likelihood_cases():
    normal = np.random.default_rng(20231219).standard_normal
    train = normal((20, 6))
    return [
        likelihood_case("as_good_as_training", normal((24, 8)), normal((24, 8)), normal((24, 8)), normal((24, 8))),
        likelihood_case("shifted", normal((20, 5)), normal((20, 5)), normal((20, 5)), normal((20, 5)) * 1.3 + 0.5),
        # Exact copies: their widths run to the clamp.
        likelihood_case("copies_of_training", train, normal((20, 6)), normal((20, 6)), train[::-1]),
        likelihood_case("collapsed", normal((16, 3)), normal((16, 3)), normal((16, 3)), normal((16, 3)) * 0.05),
    ]


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    script = "reference/kernels.py"
    (OUT / "mmd.json").write_text(json.dumps({"script": script, "cases": mmd_cases()}) + "\n")
    (OUT / "likelihood.json").write_text(json.dumps({"script": script, "cases": likelihood_cases()}) + "\n")


if __name__ == "__main__":
    main()
