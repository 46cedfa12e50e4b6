"""Writes fixtures/stats/*.json, the values the tests and intervals of the Rust statistics are checked against.

Run from the repository root: python reference/stats.py   (numpy, scipy, mpmath; about a minute)

- distributions.json  tails of the normal distribution (scipy.special) and of Student's t (mpmath, 40 digits), quantiles.
- rank_tests.json     scipy.stats.mannwhitneyu, ttest_ind(equal_var=False), kendalltau, spearmanr, pearsonr; Cliff's
                      delta from the matrix of all comparisons.
- bootstrap.json      scipy.stats.bootstrap(method="BCa"): whole intervals from many resamples, and intervals of a few
                      resamples that are kept, with the jackknife behind them.
- permutation.json    scipy.stats.permutation_test over all arrangements.
"""

import json
import math
import warnings
from pathlib import Path

import mpmath
import numpy as np
from scipy import special, stats

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "stats"


# --- distributions -----------------------------------------------------------------------------------------------


def student_t_ln_sf(t, df):
    """ln P(T > t) from the regularised incomplete beta function in 40 digits."""
    mpmath.mp.dps = 40
    t, df = mpmath.mpf(t), mpmath.mpf(df)
    tail = mpmath.betainc(df / 2, mpmath.mpf(1) / 2, 0, df / (df + t * t), regularized=True) / 2
    return float(mpmath.log(tail if t >= 0 else 1 - tail))


def distributions():
    xs = np.concatenate([np.linspace(-9, 9, 73), [4.999999, 5.0, 5.000001, 12.5, 20.0, 30.0, 37.0]])
    ps = [1e-300, 1e-100, 1e-20, 1e-9, 1e-3, 0.01, 0.025, 0.2, 0.4, 0.499, 0.5, 0.501, 0.7, 0.9, 0.975, 0.99, 1 - 1e-9]
    student = [
        (t, df)
        for df in (0.7, 1, 2, 3.5, 8, 24, 99, 150, 199.5, 200, 201, 1234.5, 9998, 1e5)
        for t in (-3.0, -0.2, 1e-6, 0.3, 1.0, 1.96, 5.0, 40.0)
    ]
    return {
        "normal": [[float(x), float(stats.norm.sf(x)), float(special.log_ndtr(-x))] for x in xs],
        "normal_quantile": [[p, float(special.ndtri(p))] for p in ps],
        "student_t": [[t, df, student_t_ln_sf(t, df)] for t, df in student],
    }


# --- tests -------------------------------------------------------------------------------------------------------


def p_values(test):
    return {side.replace("-", "_"): float(test(side).pvalue) for side in ("less", "greater", "two-sided")}


def cliffs_delta(x, y, confidence):
    matrix = np.sign(x[:, None] - y[None, :])
    nx, ny = matrix.shape
    d = matrix.mean()
    if nx < 2 or ny < 2 or abs(d) == 1:
        return {"delta": float(d)}
    rows = ((matrix.mean(axis=1) - d) ** 2).sum()
    columns = ((matrix.mean(axis=0) - d) ** 2).sum()
    cells = ((matrix - d) ** 2).sum()
    variance = (ny**2 * rows + nx**2 * columns - cells) / (nx * ny * (nx - 1) * (ny - 1))
    variance = max(variance, (1 - d * d) / (nx * ny - 1))
    z = stats.norm.ppf(0.5 + confidence / 2)
    half = z * math.sqrt(variance) * math.sqrt((1 - d * d) ** 2 + z * z * variance)
    low, high = ((d - d**3 + s * half) / (1 - d * d + z * z * variance) for s in (-1, 1))
    return {"delta": float(d), "std_error": math.sqrt(variance), "low": max(low, -1.0), "high": min(high, 1.0)}


def two_sample_cases():
    rng = np.random.default_rng(11)
    normal = rng.standard_normal
    inputs = [
        ("exact_small", normal(6) + 0.8, normal(8)),
        ("exact_one_small", normal(5) - 0.5, normal(60)),
        ("exact_far_apart", normal(8) + 50, normal(70)),
        ("ties_small", rng.integers(0, 4, 7).astype(float), rng.integers(0, 5, 6).astype(float)),
        ("normal_limit", normal(40), normal(55) + 0.4),
        ("heavy_ties", rng.integers(0, 3, 60).astype(float), rng.integers(0, 4, 50).astype(float)),
        ("unequal_spread", normal(30) * 5, normal(90) + 1),
        ("far_apart", normal(120) + 6, normal(100)),
    ]
    cases = []
    for name, x, y in inputs:
        u = lambda side: stats.mannwhitneyu(x, y, alternative=side)
        t = lambda side: stats.ttest_ind(x, y, equal_var=False, alternative=side)
        cases.append(
            {
                "name": name,
                "x": x.tolist(),
                "y": y.tolist(),
                "u": float(u("less").statistic),
                "u_p": p_values(u),
                "t": float(t("less").statistic),
                "df": float(t("less").df),
                "t_p": p_values(t),
                "cliff": cliffs_delta(x, y, 0.9),
            }
        )
    return cases


def correlation_cases():
    rng = np.random.default_rng(12)
    normal = rng.standard_normal

    def pair(n, r):
        x = normal(n)
        return x, r * x + math.sqrt(1 - r * r) * normal(n)

    grid = rng.integers(0, 4, (50, 2)).astype(float)
    wide = pair(34, 0.4)
    inputs = [
        ("tiny", *pair(4, 0.5)),
        ("exact_kendall", *pair(20, 0.6)),
        ("last_exact_kendall", *pair(33, -0.7)),
        ("first_normal_kendall", *wide),
        ("sorted_beyond_exact", np.arange(60.0), np.arange(60.0) ** 2),
        ("one_swap_beyond_exact", np.arange(40.0), np.r_[np.arange(38.0), 39.0, 38.0]),
        ("large", *pair(400, 0.2)),
        ("strong", *pair(200, -0.95)),
        ("heavy_ties", grid[:, 0], grid[:, 1] + grid[:, 0]),
        ("ties_in_one", grid[:20, 0], normal(20)),
        ("outlier", np.r_[normal(30), 1e6], np.r_[normal(30), -1e3]),
    ]
    cases = []
    for name, x, y in inputs:
        results = [stats.pearsonr(x, y), stats.spearmanr(x, y), stats.kendalltau(x, y)]
        keys = ("pearson", "spearman", "kendall")
        differ = np.sign(y[:, None] - y[None, :])
        agree = (np.sign(x[:, None] - x[None, :]) * differ + 1) / 2
        cases.append(
            {
                "name": name,
                "x": x.tolist(),
                "y": y.tolist(),
                **{key: [float(r.statistic), float(r.pvalue)] for key, r in zip(keys, results)},
                "pairwise_accuracy": float(agree[differ != 0].mean()),
            }
        )
    return cases


# --- bootstrap ---------------------------------------------------------------------------------------------------


def mean_difference(x, y, axis=-1):
    return np.mean(x, axis=axis) - np.mean(y, axis=axis)


def mean_ratio(x, y, axis=-1):
    return np.mean(x, axis=axis) / np.mean(y, axis=axis)


def influences(samples, statistic, paired):
    """(n - 1)(mean of the jackknife - jackknife), of each sample; of pairs once."""
    n_lists = 1 if paired else len(samples)
    lists = []
    for k in range(n_lists):
        n = len(samples[k])
        without = []
        for i in range(n):
            left = [np.delete(s, i) if paired or j == k else s for j, s in enumerate(samples)]
            without.append(float(statistic(*left)))
        without = np.array(without)
        lists.append(((n - 1) * (without.mean() - without)).tolist())
    return lists


def bootstrap_cases():
    rng = np.random.default_rng(13)
    inputs = [
        ("mean", np.mean, (rng.exponential(size=30),), False),
        ("variance", np.var, (rng.standard_normal(45),), False),
        ("mean_difference", mean_difference, (rng.exponential(size=25), rng.standard_normal(40)), False),
        ("mean_ratio_of_pairs", mean_ratio, (rng.gamma(3, 1, 35), rng.gamma(4, 1, 35)), True),
    ]
    cases = []
    for name, statistic, samples, paired in inputs:
        options = {"paired": paired, "vectorized": True, "method": "BCa", "axis": -1}
        many = stats.bootstrap(samples, statistic, n_resamples=200_000, rng=1, batch=2000, **options)
        few = stats.bootstrap(samples, statistic, n_resamples=399, rng=2, confidence_level=0.9, **options)
        interval, narrow = many.confidence_interval, few.confidence_interval
        cases.append(
            {
                "statistic": name,
                "samples": [s.tolist() for s in samples],
                "value": float(statistic(*samples)),
                "std_error": float(many.standard_error),
                "low_95": float(interval.low),
                "high_95": float(interval.high),
                "resampled": few.bootstrap_distribution.tolist(),
                "influences": influences(samples, statistic, paired),
                "low_90": float(narrow.low),
                "high_90": float(narrow.high),
            }
        )
    return cases


# --- permutation -------------------------------------------------------------------------------------------------


def permutation_cases():
    rng = np.random.default_rng(14)
    inputs = [
        ("rows", rng.standard_normal(6) + 1.0, rng.standard_normal(8), False),
        ("rows_with_ties", rng.integers(0, 3, 7).astype(float), rng.integers(0, 4, 7).astype(float), False),
        ("pairs", rng.standard_normal(12), rng.standard_normal(12) + 0.6, True),
    ]
    cases = []
    for name, a, b, paired in inputs:
        kind = "samples" if paired else "independent"

        def test(side):
            return stats.permutation_test(
                (a, b), mean_difference, permutation_type=kind, alternative=side, n_resamples=np.inf, vectorized=True
            )

        cases.append(
            {
                "name": name,
                "a": a.tolist(),
                "b": b.tolist(),
                "paired": paired,
                "difference": float(test("less").statistic),
                **p_values(test),
            }
        )
    return cases


def write(name, **content):
    text = json.dumps({"source": "written by reference/stats.py", **content}, separators=(",", ":"))
    # One case a line, so that a change shows as the case it concerns.
    text = text.replace("},{", "},\n{").replace('"cases":[', '"cases":[\n').replace("]],", "]],\n")
    (OUT / name).write_text(text + "\n")


if __name__ == "__main__":
    warnings.simplefilter("error")
    OUT.mkdir(parents=True, exist_ok=True)
    write("distributions.json", **distributions())
    write("rank_tests.json", two_sample=two_sample_cases(), correlation=correlation_cases())
    write("bootstrap.json", cases=bootstrap_cases())
    write("permutation.json", cases=permutation_cases())
