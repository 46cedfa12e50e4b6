"""Writes fixtures/neighbours/*.json, what metrics of distances between images are tested against.

Run from the repository root: python reference/neighbours.py   (numpy, scipy, scikit-learn; seconds)

Everything here is the definition with whole N x N matrices of scipy's cdist in f64, which sums squared differences:

- prdc.json       k-NN radii, precision, recall, density, coverage with < and with <= (Kynkaanniemi et al. 2019,
                  arXiv:1904.06991; Naeem et al. 2020, arXiv:2002.09797), realism in dgm-eval's and in the original
                  form, rarity (Han et al. 2023, arXiv:2206.08549), nearest reference image, and authenticity (Alaa et al.
                  2022, arXiv:2102.08921). Open-ball figures are checked here against scikit-learn's neighbours.
- data_copying.json  CT (Meehan et al. 2020, arXiv:2004.05675) by scikit-learn's PCA and k-means and scipy's mannwhitneyu.

Features are f32, printed as the shortest decimals that give them back. The case names say what each case is for.
"""

import json
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "neighbours"


def without_self(distances):
    distances = distances.copy()
    np.fill_diagonal(distances, np.inf)
    return distances


def radii(features, k):
    return np.sort(without_self(cdist(features, features)), axis=1)[:, k - 1]


def prdc(reference, generated, k, closed):
    inside = np.less_equal if closed else np.less
    real, fake = radii(reference, k), radii(generated, k)
    between = cdist(reference, generated)
    return {
        "precision": float(inside(between, real[:, None]).any(axis=0).mean()),
        "recall": float(inside(between, fake[None, :]).any(axis=1).mean()),
        "density": float(inside(between, real[:, None]).sum(axis=0).mean() / k),
        "coverage": float(inside(between.min(axis=1), real).mean()),
    }


def finite(values):
    return [None if not np.isfinite(v) else float(v) for v in values]


def realism_below_median(reference, generated, k):
    real, between = radii(reference, k), cdist(reference, generated)
    kept = real < np.median(real)
    if not kept.any():
        return [None] * len(generated)
    with np.errstate(divide="ignore", invalid="ignore"):
        return finite((real[kept][:, None] / between[kept]).max(axis=0))


def realism_squared(reference, generated, k):
    real, between = radii(reference, k), cdist(reference, generated)
    return finite((real[:, None] ** 2 / (between**2 + 1e-5)).max(axis=0))


def rarity(reference, generated, k):
    real, between = radii(reference, k), cdist(reference, generated)
    return finite(np.where(between < real[:, None], real[:, None], np.inf).min(axis=0))


def authentic(reference, generated):
    nearest = cdist(reference, generated)
    own = without_self(cdist(reference, reference)).min(axis=1)
    return (own[nearest.argmin(axis=0)] < nearest.min(axis=0)).tolist()


def case(name, reference, generated, ks=(1, 3, 5)):
    reference, generated = np.asarray(reference, dtype=np.float32), np.asarray(generated, dtype=np.float32)
    r, g = reference.astype(np.float64), generated.astype(np.float64)
    between = cdist(r, g)
    made = {
        "name": name,
        "dim": reference.shape[1],
        "reference": [float(str(v)) for v in reference.ravel()],
        "generated": [float(str(v)) for v in generated.ravel()],
        "nearest_index": between.argmin(axis=0).tolist(),
        "nearest_distance": between.min(axis=0).tolist(),
        "authentic": authentic(r, g),
        "k": [],
    }
    for k in ks:
        found, _ = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(r).kneighbors()
        assert np.allclose(found[:, -1], radii(r, k), rtol=1e-6, atol=1e-6)
        made["k"].append(
            {
                "nearest_k": k,
                "reference_radii": radii(r, k).tolist(),
                "open": prdc(r, g, k, closed=False),
                "closed": prdc(r, g, k, closed=True),
                "realism_below_median": realism_below_median(r, g, k),
                "realism_squared": realism_squared(r, g, k),
                "rarity": rarity(r, g, k),
            }
        )
    return made


# --- data copying ------------------------------------------------------------------------------------------------


def data_copying(train, test, generated, components, least):
    """Meehan et al. 2020, arXiv:2004.05675, in the cells of scikit-learn's k-means."""
    if train.shape[1] > components:
        axes = PCA(components, svd_solver="full").fit(train)
        train, test, generated = (axes.transform(v) for v in (train, test, generated))
    cells = KMeans(3, n_init=10, random_state=0).fit(train)
    of_train, of_test, of_generated = (cells.predict(v) for v in (train, test, generated))
    zs, weights, sizes = [], [], []
    for cell in range(3):
        t, p, q = train[of_train == cell], test[of_test == cell], generated[of_generated == cell]
        n, m = len(p), len(q)
        u = mannwhitneyu(cdist(q, t).min(axis=1), cdist(p, t).min(axis=1), alternative="less").statistic
        z = (u - (n * m / 2 - 0.5)) / np.sqrt(n * m * (n + m + 1) / 12)
        sizes.append([len(t), n, m, float(z)])
        if m > least:
            zs.append(z)
            weights.append(n)
    return {"value": float(np.average(zs, weights=weights)), "cells": sorted(sizes)}


def data_copying_case(name, train, test, generated, components):
    train, test, generated = (np.asarray(v, dtype=np.float32) for v in (train, test, generated))
    made = {"name": name, "dim": train.shape[1], "components": components}
    for key, values in (("train", train), ("test", test), ("generated", generated)):
        made[key] = [float(str(v)) for v in values.ravel()]
    return made | data_copying(*(v.astype(np.float64) for v in (train, test, generated)), components, 20)


def data_copying_cases():
    rng = np.random.default_rng(20231220)
    # Three clusters so far apart that every k-means finds them; spread falls from axis to axis.
    spread = 0.8 ** np.arange(10)
    places = 20 * np.eye(10)[:3] * np.array([[1.0], [1.3], [0.7]])

    def draw(*sizes):
        return np.concatenate([p + spread * rng.standard_normal((n, 10)) for n, p in zip(sizes, places)])

    train = draw(40, 30, 35)
    copies = train[rng.permutation(len(train))[:80]] + 0.02 * rng.standard_normal((80, 10))
    return [
        data_copying_case("no_copying", train, draw(20, 25, 15), draw(30, 25, 28), 4),
        data_copying_case("copies", train, draw(20, 25, 15), copies, 4),
        data_copying_case("a_cell_too_small_to_count", train, draw(20, 25, 15), 1.05 * draw(30, 9, 28), 64),
    ]


def main():
    rng = np.random.default_rng(20231217)
    normal = rng.standard_normal
    OUT.mkdir(parents=True, exist_ok=True)
    lattice = rng.integers(0, 3, (30, 2))
    shared = normal((12, 5))
    cases = [
        case("equal_distributions", normal((60, 16)), normal((50, 16))),
        case("collapsed_generator", normal((40, 8)), 0.02 * normal((40, 8))),
        case("disjoint", normal((20, 4)), normal((15, 4)) + 50),
        # |x - y| is 1e-5 of |x|: products of f32 alone would return noise.
        case("far_from_the_origin", 300 + 0.01 * normal((30, 12)), 300 + 0.01 * normal((25, 12))),
        case("duplicates_across_and_within", np.r_[shared, shared[:6]], np.r_[shared[3:], shared[3:5] + 1]),
        case("integers_full_of_ties", lattice, rng.integers(0, 3, (25, 2))),
        case("all_in_one_place", np.full((8, 3), 0.1), np.full((7, 3), 0.1)),
        case("two_tight_clusters", np.r_[normal((15, 6)) * 1e-3, normal((15, 6)) * 1e-3 + 9], normal((20, 6)) * 1e-3),
    ]
    (OUT / "prdc.json").write_text(json.dumps({"script": "reference/neighbours.py", "cases": cases}) + "\n")
    made = {"script": "reference/neighbours.py", "cases": data_copying_cases()}
    (OUT / "data_copying.json").write_text(json.dumps(made) + "\n")


if __name__ == "__main__":
    main()
