"""Writes fixtures/ks2d/*.json, the values the Rust set score is tested against.

Run from the repository root: python reference/ks2d.py   (numpy, scipy; a minute or less)

Everything here is written from the definitions, by the slow and obvious way, so that it can disagree with the Rust code:

- statistic.json   two-sample 2-D Kolmogorov-Smirnov statistic by counting four quadrants around every point in numpy
                   (Peacock 1983; Fasano & Franceschini 1987; Numerical Recipes section 14.8), and the asymptotic p
                   through scipy.stats.kstwobign.sf. The correlations are formed in exact rational arithmetic, because
                   sqrt(1 - r^2) magnifies a rounding of r, and are checked against scipy.stats.pearsonr.
- kolmogorov.json  scipy.stats.kstwobign.sf on a grid that covers both tails.
- counter_rng.json the first words of the random streams: SHA-256 from hashlib, ChaCha8 from its published definition.
- permutation.json the whole permutation test on top of those streams, with exact rational statistics.
- summary.json     numpy's mean, standard deviation and quantiles, from sums math.fsum makes exactly.

The case names say what each case is for.
"""

import hashlib
import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy import stats

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "ks2d"


# --- the statistic -----------------------------------------------------------------------------------------------


def quadrant_fractions(x, y, xs, ys):
    left, below = xs <= x, ys <= y
    n = len(xs)
    return np.array(
        [
            np.count_nonzero(left & below) / n,
            np.count_nonzero(left & ~below) / n,
            np.count_nonzero(~left & below) / n,
            np.count_nonzero(~left & ~below) / n,
        ]
    )


def one_sided(first, second):
    """Largest quadrant difference over centres taken from `first`."""
    n1 = len(first)
    differences = np.array(
        [
            quadrant_fractions(x, y, first[:, 0], first[:, 1]) - quadrant_fractions(x, y, second[:, 0], second[:, 1])
            for x, y in first
        ]
    )
    differences[:, 0] -= 1 / n1
    return max(-differences.min(), differences.max() + 1 / n1)


def statistic(reference, generated):
    return float((one_sided(reference, generated) + one_sided(generated, reference)) / 2)


def exact_statistic(reference, generated):
    """The same by plain Python loops in rational arithmetic."""

    def side(first, second):
        n1 = len(first)
        lowest, highest = None, None
        for x, y in first:
            counts = []
            for sample in (first, second):
                quadrants = [0, 0, 0, 0]
                for px, py in sample:
                    quadrants[2 * (px > x) + (py > y)] += 1
                counts.append([Fraction(q, len(sample)) for q in quadrants])
            d = [p - q for p, q in zip(*counts)]
            d[0] -= Fraction(1, n1)
            lowest = min(d) if lowest is None else min(lowest, *d)
            highest = max(d) if highest is None else max(highest, *d)
        return max(-lowest, highest + Fraction(1, n1))

    return (side(reference, generated) + side(generated, reference)) / 2


def one_minus_r_squared(points):
    """Exact up to the last rounding; None where a coordinate is constant."""
    xs = [Fraction(float(v)) for v in points[:, 0]]
    ys = [Fraction(float(v)) for v in points[:, 1]]
    n = len(xs)
    mx, my = sum(xs) / n, sum(ys) / n
    sxx = sum((x - mx) ** 2 for x in xs)
    syy = sum((y - my) ** 2 for y in ys)
    sxy = sum((x - mx) * (y - my) for x, y in zip(xs, ys))
    if sxx == 0 or syy == 0:
        return None
    exact = 1 - sxy * sxy / (sxx * syy)
    r = stats.pearsonr(points[:, 0], points[:, 1])[0]
    assert abs(float(exact) - (1 - r * r)) < 1e-12
    return exact


def asymptotic_p(reference, generated, d):
    u1, u2 = one_minus_r_squared(reference), one_minus_r_squared(generated)
    if u1 is None or u2 is None:
        return None
    n1, n2 = len(reference), len(generated)
    sqrt_ne = math.sqrt(n1 * n2 / (n1 + n2))
    r = math.sqrt((u1 + u2) / 2)
    return float(stats.kstwobign.sf(d * sqrt_ne / (1 + r * (0.25 - 0.75 / sqrt_ne))))


def statistic_cases():
    rng = np.random.default_rng(20231210)
    normal = rng.standard_normal

    def case(name, a, b):
        a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
        d = statistic(a, b)
        assert abs(d - float(exact_statistic(a.tolist(), b.tolist()))) < 1e-14
        return {
            "name": name,
            "x1": a[:, 0].tolist(),
            "y1": a[:, 1].tolist(),
            "x2": b[:, 0].tolist(),
            "y2": b[:, 1].tolist(),
            "statistic": d,
            "p_value": asymptotic_p(a, b, d),
        }

    def integers(n, levels):
        return rng.integers(0, levels, size=(n, 2)).astype(float)

    same = normal((25, 2))
    correlated = normal((60, 2)) @ np.array([[1.0, 0.9], [0.0, 0.4]])
    cases = [
        case("two_points_each", [[0, 0], [1, 1]], [[0.5, 2], [2, -1]]),
        case("two_against_many", normal((2, 2)), normal((30, 2))),
        case("identical_samples", same, same[::-1]),
        case("disjoint_samples", normal((15, 2)), normal((20, 2)) + 100),
        case("null_equal_n", normal((50, 2)), normal((50, 2))),
        case("null_unequal_n", normal((33, 2)), normal((71, 2))),
        case("swapped_null_unequal_n", normal((71, 2)), normal((33, 2))),
        case("shifted", normal((64, 2)), normal((64, 2)) + [0.5, -0.4]),
        case("correlated_against_independent", correlated, normal((45, 2))),
        case("opposite_correlations", correlated, correlated * [1, -1]),
        case("heavy_ties_both_axes", integers(40, 3), integers(55, 4)),
        case("ties_in_one_axis", np.c_[integers(30, 2)[:, 0], normal(30)], np.c_[integers(22, 3)[:, 0], normal(22)]),
        case("one_shared_point", [[1, 1]] * 4 + [[2, 1]], [[1, 1]] * 3 + [[1, 2], [3, 0]]),
        case("collinear", [[i / 7, i / 3] for i in range(12)], [[i / 5, -i / 9] for i in range(10)]),
        case("constant_coordinate", np.c_[normal(20), np.ones(20)], normal((20, 2))),
        case("everything_equal", np.ones((6, 2)), np.ones((9, 2))),
        # A cloud as measured: complexity in radians near 0.1, vulnerability of tens of feature units.
        case(
            "like_measurements",
            np.c_[rng.gamma(9, 0.01, 150), rng.gamma(20, 1.8, 150)],
            np.c_[rng.gamma(8, 0.01, 120), rng.gamma(20, 2.0, 120)],
        ),
    ]

    # The two examples printed in the README of the public ndtest package: P=.219 D=.17 and P=2.36e-5 D=.385.
    old = np.random.RandomState(42)
    a, b, c = old.randn(2, 100).T, old.randn(2, 100).T, old.randn(2, 100).T * 1.5 + 0.5
    for name, other, p, d in (("ndtest_readme_same", b, "0.219", "0.17"), ("ndtest_readme_different", c, "2.36e-05", "0.385")):
        made = case(name, a, other)
        assert (f"{made['p_value']:.3g}", f"{made['statistic']:.3g}") == (p, d), made
        cases.append(made)
    return cases


# --- the random streams ------------------------------------------------------------------------------------------


def chacha8_words(key):
    """Little-endian u32 words of ChaCha with 8 rounds, 64-bit counter from 0, stream 0 (Bernstein 2008)."""
    assert len(key) == 32
    mask = 0xFFFFFFFF
    constants = [int.from_bytes(b"expand 32-byte k"[i : i + 4], "little") for i in range(0, 16, 4)]
    words = [int.from_bytes(key[i : i + 4], "little") for i in range(0, 32, 4)]

    def rotate(v, by):
        return ((v << by) | (v >> (32 - by))) & mask

    def quarter(s, a, b, c, d):
        for first, second, third, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[first] = (s[first] + s[second]) & mask
            s[third] = rotate(s[third] ^ s[first], by)

    counter = 0
    while True:
        start = constants + words + [counter & mask, counter >> 32, 0, 0]
        s = list(start)
        for _ in range(4):
            for column in range(4):
                quarter(s, column, column + 4, column + 8, column + 12)
            for shift in range(4):
                quarter(s, shift, (shift + 1) % 4 + 4, (shift + 2) % 4 + 8, (shift + 3) % 4 + 12)
        yield from ((v + w) & mask for v, w in zip(s, start))
        counter += 1


def stream(seed, purpose, key):
    digest = hashlib.sha256()
    for part in (b"anomaly-score/counter-rng/1", seed.to_bytes(8, "little"), purpose.encode(), key):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return chacha8_words(digest.digest())


def uniform_below(words, bound):
    """Lemire 2019: the high half of a 32x32-bit product, unbiased by rejection."""
    while True:
        product = next(words) * bound
        if product & 0xFFFFFFFF >= (1 << 32) % bound:
            return product >> 32


def counter_rng_cases():
    image = hashlib.sha256(b"an image").digest()
    keys = [
        (0, "", b""),
        (0, "set_metric/permutation", (0).to_bytes(8, "little")),
        (0, "set_metric/permutation", (1).to_bytes(8, "little")),
        (1, "set_metric/permutation", (0).to_bytes(8, "little")),
        (2**64 - 1, "measure/complexity", image),
        # The same bytes cut differently between purpose and key: the lengths keep the streams apart.
        (7, "ab", b"c"),
        (7, "a", b"bc"),
    ]
    cases = []
    for seed, purpose, key in keys:
        words = stream(seed, purpose, key)
        first = [next(words) for _ in range(20)]
        words = stream(seed, purpose, key)
        bounds = [1, 2, 3, 10, 1000, 2**31 + 1, 2**32 - 1] * 3
        below = [[bound, uniform_below(words, bound)] for bound in bounds]
        cases.append({"seed": str(seed), "purpose": purpose, "key": key.hex(), "words": first, "uniform_below": below})
    return cases


# --- the permutation test ----------------------------------------------------------------------------------------


def permutation_cases():
    rng = np.random.default_rng(7)
    inputs = [
        ("equal_n", rng.standard_normal((12, 2)), rng.standard_normal((12, 2)) + 0.6, 99, 0),
        ("fewer_reference", rng.standard_normal((6, 2)), rng.standard_normal((17, 2)), 99, 3),
        ("fewer_generated", rng.standard_normal((15, 2)), rng.standard_normal((8, 2)) * 2, 60, 2**63 + 5),
        ("ties", rng.integers(0, 3, (10, 2)).astype(float), rng.integers(0, 4, (13, 2)).astype(float), 80, 11),
        ("everything_equal", np.ones((4, 2)), np.ones((5, 2)), 20, 1),
        ("two_points_each", np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[2.0, 5.0], [3.0, 4.0]]), 50, 0),
    ]
    cases = []
    for name, a, b, permutations, seed in inputs:
        observed = exact_statistic(a.tolist(), b.tolist())
        pooled = sorted(map(tuple, np.concatenate([a, b]).tolist()))
        n, m = len(pooled), min(len(a), len(b))
        null = []
        for index in range(permutations):
            words = stream(seed, "set_metric/permutation", index.to_bytes(8, "little"))
            chosen = set()
            for top in range(n - m, n):  # Floyd's uniform m-subset of 0..n
                pick = uniform_below(words, top + 1)
                chosen.add(top if pick in chosen else pick)
            first = [p for i, p in enumerate(pooled) if i in chosen]
            second = [p for i, p in enumerate(pooled) if i not in chosen]
            null.append(exact_statistic(first, second))
        at_least = sum(d >= observed for d in null)
        cases.append(
            {
                "name": name,
                "reference": a.tolist(),
                "generated": b.tolist(),
                "permutations": permutations,
                "seed": str(seed),
                "value": float(observed),
                "p_value": (at_least + 1) / (permutations + 1),
                "null_mean": float(sum(null) / permutations),
                "null_q95": float(np.quantile([float(d) for d in null], 0.95)),
            }
        )
    return cases


# --- the rest ----------------------------------------------------------------------------------------------------


def kolmogorov_cases():
    grid = np.concatenate([np.linspace(0, 0.3, 13), np.linspace(0.3, 3, 109), np.linspace(3, 18.5, 32)])
    return [[float(x), float(stats.kstwobign.sf(x))] for x in np.unique(grid)]


def summary_cases():
    rng = np.random.default_rng(5)
    inputs = [
        ("one", [0.25]),
        ("two", [3.0, -1.0]),
        ("constant", [0.1] * 11),
        ("odd", rng.standard_normal(9).tolist()),
        ("even_with_ties", rng.integers(-3, 4, 20).astype(float).tolist()),
        ("large_offset", (1e9 + rng.standard_normal(31)).tolist()),
        ("wide_range", (10.0 ** rng.uniform(-12, 12, 40)).tolist()),
    ]
    cases = []
    for name, values in inputs:
        n = len(values)
        exact = [Fraction(v) for v in values]
        mean = sum(exact) / n
        variance = None if n < 2 else sum((v - mean) ** 2 for v in exact) / (n - 1)
        probabilities = [0.0, 0.05, 0.25, 0.5, 0.9, 0.95, 1.0]
        cases.append(
            {
                "name": name,
                "values": values,
                "mean": float(mean),
                "std_dev": None if variance is None else math.sqrt(variance),
                "median": float(np.median(values)),
                "quantiles": [[p, float(np.quantile(values, p))] for p in probabilities],
            }
        )
    return cases


def write(name, **content):
    text = json.dumps({"source": "written by reference/ks2d.py", **content}, indent=None, separators=(",", ":"))
    # One case a line, so that a change shows as the case it concerns.
    text = text.replace('},{', '},\n{').replace('"cases":[', '"cases":[\n')
    (OUT / name).write_text(text + "\n")


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    write("statistic.json", cases=statistic_cases())
    write("kolmogorov.json", cases=kolmogorov_cases())
    write("counter_rng.json", cases=counter_rng_cases())
    write("permutation.json", cases=permutation_cases())
    write("summary.json", cases=summary_cases())
