"""Fréchet distance of Gaussians against scipy.linalg.sqrtm, which the published tools call, alternating in one run.

    cargo build --release -p anomaly-score --example frechet_speed
    python benches/frechet.py target/release/examples/frechet_speed [--dim 2048] [--runs 3] [--json FILE]

Both sides start from the same two statistics files in memory; moments are no part of it. CPU seconds of the Rust side are those
of its whole process, reading included. scipy uses as many threads as its BLAS likes, Rust as many as there are cores.
"""

import argparse
import json
import platform
import resource
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy
from scipy import linalg


def statistics(rng, dim, path):
    """2·D samples with a spectrum falling by four orders of magnitude, as network features have."""
    x = rng.standard_normal((2 * dim, dim)) * np.logspace(0, -2, dim)
    x = x @ linalg.qr(rng.standard_normal((dim, dim)), mode="economic")[0] + rng.standard_normal(dim) * 0.1
    mu, sigma = x.mean(0), np.cov(x, rowvar=False)
    np.savez(path, mu=mu, sigma=sigma)
    return mu, sigma


def by_scipy(one, two):
    gap = one[0] - two[0]
    root = linalg.sqrtm(one[1] @ two[1])
    return gap @ gap + np.trace(one[1]) + np.trace(two[1]) - 2 * np.trace(root).real


def children_cpu():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{name}.npz") for name in ("reference", "generated")]
        sets = [statistics(rng, args.dim, path) for path in paths]
        runs = []
        for _ in range(args.runs):
            cpu, wall = time.process_time(), time.perf_counter()
            theirs = by_scipy(*sets)
            run = {"scipy_cpu_s": time.process_time() - cpu, "scipy_wall_s": time.perf_counter() - wall}
            cpu = children_cpu()
            ours = json.loads(subprocess.run([args.binary, *paths], check=True, capture_output=True).stdout)
            run |= {"rust_cpu_s": children_cpu() - cpu, "rust_wall_s": ours["wall_s"]}
            run |= {"scipy": theirs, "rust": ours["distance"]["value"]}
            runs.append(run)
            print({key: float(f"{value:.9g}") for key, value in run.items()}, flush=True)
    median = {key: float(np.median([run[key] for run in runs])) for key in runs[0]}
    summary = {
        "dim": args.dim,
        "scipy_version": scipy.__version__,
        "machine": platform.machine(),
        "times_faster_cpu": median["scipy_cpu_s"] / median["rust_cpu_s"],
        "times_faster_wall": median["scipy_wall_s"] / median["rust_wall_s"],
        "relative_difference": abs(median["rust"] / median["scipy"] - 1),
        "runs": runs,
    }
    print({key: value for key, value in summary.items() if key != "runs"})
    if args.json:
        args.json.write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
