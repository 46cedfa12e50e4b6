"""Memory of a long run: resident size over time while the program measures many images.

    python benches/memory.py PROGRAM OUT.csv --label LABEL --images N --px SIDE [-- OPTIONS OF measure…]

Makes N seeded pictures of SIDE × SIDE pixels, runs `PROGRAM measure` on them and notes, about once a percent of the run, the
rows measured (from the journal's length) and the resident size (VmRSS; Linux). OUT.csv: label, rows, seconds, rss_mb; rows
are added to what it holds, under LABEL. Printed: the peak (VmHWM) and the medians of the run's second and last
tenth, which are alike when memory does not grow with the number of images.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


def make(folder: Path, count: int, px: int):
    """Smooth colour fields with grain: every picture differs, and PNG neither packs nor swells them oddly."""
    random = np.random.default_rng(0)
    for n in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (4, 4, 3), np.uint8)).resize((px, px), Image.Resampling.BICUBIC)
        grain = random.normal(0, 8, (px, px, 3))
        Image.fromarray((np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8)).save(folder / f"{n:06}.png")


def status(pid: int, key: str):
    """Megabytes of a line of /proc/PID/status; None once the process is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) / 1024
    except FileNotFoundError:
        pass
    return None


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("program", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--images", type=int, required=True)
    arguments.add_argument("--px", type=int, required=True)
    arguments.add_argument("--label", required=True)
    arguments.add_argument("--interval", type=float, default=0.25, help="seconds between looks")
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given, options = arguments.parse_args(sys.argv[1:cut]), sys.argv[cut + 1 :]
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        images = work / "images"
        images.mkdir()
        make(images, given.images, given.px)
        table = work / "t.parquet"
        command = [given.program, "measure", images, "-o", table, "--no-cache", *options]
        started = time.monotonic()
        process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
        journal, seen, peak = Path(f"{table}.partial"), [], 0
        while process.poll() is None:
            rss, high = status(process.pid, "VmRSS"), status(process.pid, "VmHWM")
            length = journal.stat().st_size if journal.exists() else 0
            if rss is not None:
                seen.append((length, time.monotonic() - started, rss))
                peak = max(peak, high or 0)
            time.sleep(given.interval)
        if process.returncode:
            sys.exit(f"the program ended with status {process.returncode}")
        print(process.stdout.read().strip())
    longest = max(length for length, _, _ in seen)
    rows = [(round(given.images * length / longest), seconds, rss) for length, seconds, rss in seen]
    kept, last = [], -1
    for row in rows:
        if row[0] > last:
            kept.append(row)
            last = row[0] + given.images // 100
    new = not given.out.exists()
    with given.out.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(["label", "rows", "seconds", "rss_mb"])
        writer.writerows([given.label, r, f"{s:.1f}", f"{m:.1f}"] for r, s, m in [*kept, (given.images, rows[-1][1], peak)])

    def tenth(k):
        inside = [m for r, _, m in rows if k * given.images / 10 <= r < (k + 1) * given.images / 10]
        return statistics.median(inside) if inside else float("nan")

    print(f"{given.label}: {given.images} images, peak {peak:.0f} MB, second tenth {tenth(1):.0f} MB, last tenth {tenth(9):.0f} MB")


if __name__ == "__main__":
    main()
