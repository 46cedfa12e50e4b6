"""Times precision, recall, density and coverage at N = 10,000, D = 2048, k = 5 against numpy, alternating, on 2 threads.

    cargo build --release -p anomaly-score --example prdc_speed
    OPENBLAS_NUM_THREADS=2 RAYON_NUM_THREADS=2 python reference/prdc_speed.py target/release/examples/prdc_speed

numpy: whole matrices of |x|^2 + |y|^2 - 2 x.y in f32, the fastest way it has, and np.partition. Peak memory is the
largest resident size (VmHWM) less that with both sets loaded. CPU seconds are those of the whole process, reading
included. Medians of three; prints JSON.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

N, D, K, RUNS = 10_000, 2048, 5, 3


def distances(x, y):
    found = x @ y.T
    found *= -2
    found += (x * x).sum(axis=1)[:, None]
    found += (y * y).sum(axis=1)[None, :]
    return np.maximum(found, 0, out=found)


def radii(x):
    found = distances(x, x)
    np.fill_diagonal(found, 0)
    found.partition(K, axis=1)
    return found[:, K].copy()


def prdc(reference, generated):
    real, fake, between = radii(reference), radii(generated), distances(reference, generated)
    inside = between < real[:, None]
    return {
        "precision": float(inside.any(axis=0).mean()),
        "recall": float((between < fake[None, :]).any(axis=1).mean()),
        "density": float(inside.sum(axis=0).mean() / K),
        "coverage": float((between.min(axis=1) < real).mean()),
    }


def peak_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def numpy_run(path):
    values = np.fromfile(path, dtype=np.float32).reshape(2, -1, D)
    before = peak_bytes()
    start = time.perf_counter()
    found = prdc(values[0], values[1])
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_bytes": peak_bytes(), "peak_before": before} | found))


def main(program):
    rng = np.random.default_rng(0)
    # Of correlated coordinates and unequal spread, as pooled features are.
    mix = rng.standard_normal((256, D), dtype=np.float32) / 16
    values = rng.standard_normal((2 * N, 256), dtype=np.float32) @ mix
    values += 0.3 * rng.standard_normal((2 * N, D), dtype=np.float32)
    values[N:] *= 0.97
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "features.f32")
        np.abs(values, out=values).tofile(path)
        del values
        commands = {"anomaly-score": [program, path, str(D)], "numpy": [sys.executable, __file__, "--numpy", path]}
        runs = {name: [] for name in commands}
        for _ in range(RUNS):
            for name, command in commands.items():
                before = children_seconds()
                made = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                made["cpu_seconds"] = children_seconds() - before
                made["added_bytes"] = made["peak_bytes"] - made["peak_before"]
                runs[name].append(made)
    for name, found in runs.items():
        keys = ("seconds", "cpu_seconds", "added_bytes")
        print(json.dumps({"name": name, "runs": found} | {k: statistics.median(r[k] for r in found) for k in keys}))


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    numpy_run(sys.argv[2]) if sys.argv[1] == "--numpy" else main(sys.argv[1])
