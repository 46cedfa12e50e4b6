"""Writes fixtures/spectral/*.json and *.npz, the values the Rust metrics from moments and spectra are tested against.

Run from the repository root: python reference/spectral.py   (numpy, scipy; seconds)

Everything is written from the definitions and by other routes than the Rust code takes:

- frechet.json       mean and covariance by numpy.cov; tr sqrt(S1 S2) by scipy.linalg.sqrtm, which is what the published
                     tools do, and as the nuclear norm of the product of the centred data by numpy's SVD, which needs no
                     root and is exact to rounding also where a covariance is singular. FD infinity draws its subsets
                     from ChaCha8 as reference/ks2d.py defines it and fits by numpy.polyfit.
- vendi.json         numpy.linalg.eigvalsh of the N x N matrix of cosines.
- inception.json     numpy, with numpy's own RandomState where rows are permuted.
- sliced.json        sliced Wasserstein closed form; MIND along given directions, by quantile functions for unequal N.
- mifid.json         FID by scipy.linalg.sqrtm over the memorisation distance.
- random_state.json  numpy.random.RandomState: permutation and choice without replacement.
- statistics-*.npz   statistics and features as numpy writes them, sound and hostile.

Inputs are multiples of 1/64, which float32 and short decimals both hold exactly.
"""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
from ks2d import stream, uniform_below
from scipy import linalg
from scipy.special import log_softmax

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "spectral"


def grid(x):
    return np.round(np.asarray(x) * 64) / 64


def listed(x):
    return {"dim": x.shape[1], "values": x.reshape(-1).tolist()}


# --- Fréchet distance ----------------------------------------------------------------------------------------------


def by_svd(a, b):
    """Distance and tr sqrt(S1 S2): with X and Y centred and divided by sqrt(N - 1), the trace is |X Y^T|_*."""
    x = (a - a.mean(0)) / np.sqrt(len(a) - 1)
    y = (b - b.mean(0)) / np.sqrt(len(b) - 1)
    root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    gap = a.mean(0) - b.mean(0)
    return gap @ gap + (x**2).sum() + (y**2).sum() - 2 * root, root


def by_sqrtm(a, b):
    s1, s2 = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    gap = a.mean(0) - b.mean(0)
    return gap @ gap + np.trace(s1) + np.trace(s2) - 2 * np.trace(linalg.sqrtm(s1 @ s2)).real


def pairs():
    rng = np.random.default_rng(11)
    normal = rng.standard_normal
    mix = normal((8, 8))
    yield "full_rank", normal((60, 8)) @ mix, normal((45, 8)) @ mix * 1.2 + 0.3
    yield "one_dimension", normal((20, 1)), normal((9, 1)) * 2 + 1
    yield "far_from_zero", normal((50, 5)) + 1000, normal((40, 5)) * 1.5 + 1001
    yield "fewer_images_than_features", normal((7, 16)), normal((9, 16)) + 0.5
    yield "one_set_singular", normal((5, 12)), normal((60, 12)) * 0.7
    a, b = normal((40, 6)), normal((30, 6))
    a[:, 5], b[:, 5] = 2, 2
    yield "constant_feature", a, b
    a, b = normal((40, 6)), normal((30, 6))
    a[:, 4], b[:, 4] = a[:, 3], b[:, 3]
    yield "repeated_feature", a, b
    yield "wide_spectrum", normal((80, 7)) * 4.0 ** -np.arange(-3, 4), normal((70, 7)) * 4.0 ** -np.arange(-3, 4)


def infinity(a, b, seed, sizes=15):
    n = len(b)
    order = sorted(range(n), key=lambda i: tuple(b[i]))
    rows = b[order]
    points = []
    smallest = min(5000, max(n // 10, 2))
    for index, size in enumerate(np.linspace(smallest, n, sizes).astype(int)):
        words = stream(seed, "set_metric/frechet-infinity", index.to_bytes(8, "little"))
        chosen = set()
        for top in range(n - size, n):
            pick = uniform_below(words, top + 1)
            chosen.add(top if pick in chosen else pick)
        points.append([int(size), by_svd(a, rows[sorted(chosen)])[0]])
    slope, intercept = np.polyfit([1 / p[0] for p in points], [p[1] for p in points], 1)
    return {"seed": seed, "points": points, "value": intercept, "slope": slope}


def frechet_cases():
    for name, a, b in pairs():
        a, b = grid(a), grid(b)
        distance, root = by_svd(a, b)
        case = {"name": name, "reference": listed(a), "generated": listed(b)}
        case |= {"mean": a.mean(0).tolist(), "covariance": np.atleast_2d(np.cov(a, rowvar=False)).reshape(-1).tolist()}
        case |= {"svd": distance, "trace_root": root, "sqrtm": by_sqrtm(a, b)}
        case["rank"] = [int(np.linalg.matrix_rank(x - x.mean(0))) for x in (a, b)]
        if name in ("full_rank", "one_set_singular"):
            case["infinity"] = infinity(a, b, 3)
        yield case


# --- Vendi, Inception Score, sliced distances, MiFID -------------------------------------------------------------


def vendi_cases():
    rng = np.random.default_rng(12)
    for name, x in [
        ("more_images", rng.standard_normal((40, 5))),
        ("more_features", rng.standard_normal((6, 30))),
        ("one_image", rng.standard_normal((1, 4))),
        ("offset", rng.standard_normal((20, 20)) + 3),
    ]:
        x = grid(x)
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        values = np.linalg.eigvalsh(unit @ unit.T / len(x))
        values = values[values > 1e-14]
        yield {"name": name, "features": listed(x), "value": np.exp(-(values * np.log(values)).sum())}


def inception_cases():
    rng = np.random.default_rng(13)
    logits = grid(rng.standard_normal((47, 6)) * 2)

    def scores(rows, parts):
        out = []
        for start, end in parts:
            log_p = log_softmax(rows[start:end], axis=1)
            p = np.exp(log_p)
            out.append(np.exp((p * (log_p - np.log(p.mean(0)))).sum(1).mean()))
        return np.array(out)

    n = len(logits)
    shuffled = logits[np.random.RandomState(2020).permutation(n)]
    even = [(i * n // 10, (i + 1) * n // 10) for i in range(10)]
    whole = [(i * (n // 10), (i + 1) * (n // 10)) for i in range(10)]
    fives = [(i, min(i + 20, n)) for i in range(0, n, 20)]
    yield listed(logits)
    for name, rows, parts in [
        ("one_split", logits, [(0, n)]),
        ("even_shuffled", shuffled, even),
        ("even_consecutive", logits, even),
        ("equal_shuffled", shuffled, whole),
        ("size_consecutive", logits, fives),
    ]:
        s = scores(rows, parts)
        yield {"name": name, "value": s.mean(), "std_dev": s.std(), "std_dev_ddof1": s.std(ddof=1) if len(s) > 1 else None}


def wasserstein2_squared(x, y):
    """Exact, by the quantile functions on their common refinement."""
    x, y = np.sort(x), np.sort(y)
    cuts = np.unique(np.concatenate([np.arange(1, len(x) + 1) * len(y), np.arange(1, len(y) + 1) * len(x)]))
    total, start = 0.0, 0
    for cut in cuts:
        total += (cut - start) * (x[start // len(y)] - y[start // len(x)]) ** 2
        start = cut
    return total / (len(x) * len(y))


def sliced_cases():
    rng = np.random.default_rng(14)
    for name, n, m, d in [("equal_n", 12, 12, 4), ("unequal_n", 9, 14, 3), ("multiple_n", 6, 12, 2), ("one_each", 1, 1, 5)]:
        a, b = grid(rng.standard_normal((n, d))), grid(rng.standard_normal((m, d)) * 1.3 + 0.4)
        directions = rng.standard_normal((7, d))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        along = [wasserstein2_squared(a @ u, b @ u) for u in directions]
        if n == m:
            plain = [((np.sort(a @ u) - np.sort(b @ u)) ** 2).mean() for u in directions]
            assert np.allclose(along, plain, rtol=1e-13)
        second = [(np.linalg.norm(x - x.mean(0), axis=1) ** 2).mean() / d for x in (a, b)]
        asw = np.sqrt(np.linalg.norm(a.mean(0) - b.mean(0)) ** 2 / d + (second[0] ** 0.5 - second[1] ** 0.5) ** 2)
        yield {
            "name": name,
            "reference": listed(a),
            "generated": listed(b),
            "directions": directions.reshape(-1).tolist(),
            "mind": 3 * d * np.mean(along),
            "sliced_wasserstein": asw,
        }


def mifid_cases():
    rng = np.random.default_rng(15)
    for name, a, b in [
        ("independent", rng.standard_normal((30, 6)), rng.standard_normal((25, 6))),
        ("near_copies", rng.standard_normal((30, 6)) + 1, None),
    ]:
        b = a[:25] * 1.1 + 0.2 * rng.standard_normal((25, 6)) if b is None else b
        a, b = grid(a), grid(b)
        unit_a = a / np.linalg.norm(a, axis=1, keepdims=True)
        unit_b = b / np.linalg.norm(b, axis=1, keepdims=True)
        away = 1 - np.abs(unit_a @ unit_b.T)
        case = {"name": name, "reference": listed(a), "generated": listed(b)}
        for over, axis in (("generated", 0), ("reference", 1)):
            memorisation = away.min(axis).mean()
            penalty = memorisation if memorisation < 0.1 else 1.0
            case["over_" + over] = {"distance": memorisation, "value": by_sqrtm(a, b) / (penalty + 1e-14)}
        yield case


# --- numpy's generator -----------------------------------------------------------------------------------------------


def random_state_cases():
    for seed in (0, 1, 2020, 2**32 - 1):
        state = np.random.RandomState(seed)
        draws = []
        # One generator throughout: every draw starts where the one before ended. 700 words pass a refill of the state.
        for n, k in [(10, 10), (1, 1), (0, 0), (33, 7), (700, 20), (64, 64)]:
            draws.append({"n": n, "permutation": state.permutation(n).tolist()[:40]})
            if n:
                draws.append({"n": n, "choice": state.choice(n, k, replace=False).tolist()})
        yield {"seed": seed, "draws": draws}


# --- files -------------------------------------------------------------------------------------------------------------


def npz_files():
    rng = np.random.default_rng(16)
    x = grid(rng.standard_normal((12, 3)))
    y = grid(rng.standard_normal((12, 2)))
    mu, sigma = x.mean(0), np.cov(x, rowvar=False)
    np.savez(OUT / "statistics-pytorch-fid.npz", mu=mu, sigma=sigma)
    np.savez_compressed(
        OUT / "statistics-adm.npz",
        mu=mu.astype("f4"), sigma=sigma, mu_s=y.mean(0), sigma_s=np.asfortranarray(np.cov(y, rowvar=False)),
    )
    np.savez(OUT / "features-dgm-eval.npz", reps=x, hparams=np.array({"model": "dinov2"}, dtype=object))
    names = np.array([f"é/{i:02}.png" for i in range(12)])
    np.savez(OUT / "features-float32.npz", features=x.astype("f4"))
    np.savez(OUT / "features-named.npz", features=x.astype("f4"), paths=names)
    np.savez(OUT / "features-unnamed.npz", x.astype("f4"), np.arange(12))
    np.save(OUT / "features.npy", np.asfortranarray(x))
    np.savez(OUT / "hostile-paths.npz", features=x.astype("f4"), paths=names[[*range(11), 0]])
    # ADM's reference batches: pixels and both pairs of statistics in one file.
    pixels = (np.arange(2 * 4 * 4 * 3) % 256).reshape(2, 4, 4, 3).astype("u1")
    np.savez(OUT / "adm-batch.npz", arr_0=pixels, mu=mu, sigma=sigma, mu_s=mu[:2], sigma_s=sigma[:2, :2])
    expected = {"mu": mu.tolist(), "sigma": sigma.reshape(-1).tolist(), "features": x.reshape(-1).tolist()}
    expected |= {"mu_s": y.mean(0).tolist(), "sigma_s": np.cov(y, rowvar=False).reshape(-1).tolist()}
    (OUT / "statistics.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")

    hostile = {
        "pickled": {"mu": np.array([1, None], dtype=object), "sigma": np.eye(2)},
        "not-square": {"mu": np.zeros(2), "sigma": np.zeros((2, 3))},
        "other-length": {"mu": np.zeros(2), "sigma": np.eye(3)},
        "nan": {"mu": np.zeros(2), "sigma": np.array([[1, 0], [0, np.nan]])},
        "infinite": {"mu": np.array([0, np.inf]), "sigma": np.eye(2)},
        "not-symmetric": {"mu": np.zeros(2), "sigma": np.array([[1, 0.5], [0, 1]])},
        "negative": {"mu": np.zeros(2), "sigma": np.diag([1.0, -1.0])},
        "integers": {"mu": np.zeros(2, dtype=int), "sigma": np.eye(2)},
        "scalar": {"mu": np.float64(1), "sigma": np.eye(1)},
        "no-sigma": {"mu": np.zeros(2)},
        "empty": {"mu": np.zeros(0), "sigma": np.zeros((0, 0))},
    }
    for name, arrays in hostile.items():
        np.savez(OUT / f"hostile-{name}.npz", **arrays)
    # A header that announces 2**40 numbers, and one whose bytes overflow 64 bits.
    for name, shape in [("announces-too-much", (2**20, 2**20)), ("overflows", (2**31, 2**31))]:
        member = io.BytesIO()
        np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(OUT / f"hostile-{name}.npz", "w") as archive:
            archive.writestr(zipfile.ZipInfo("mu.npy"), member.getvalue())
            archive.writestr(zipfile.ZipInfo("sigma.npy"), member.getvalue())


def write(name, **content):
    text = json.dumps({"source": "written by reference/spectral.py", **content}, separators=(",", ":"))
    text = text.replace('},{"name"', '},\n{"name"').replace('"cases":[', '"cases":[\n')
    (OUT / name).write_text(text + "\n")


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    write("frechet.json", cases=list(frechet_cases()))
    write("vendi.json", cases=list(vendi_cases()))
    logits, *cases = inception_cases()
    write("inception.json", logits=logits, cases=cases)
    write("sliced.json", cases=list(sliced_cases()))
    write("mifid.json", cases=list(mifid_cases()))
    write("random_state.json", cases=list(random_state_cases()))
    npz_files()
