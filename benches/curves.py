"""Draws what benches/memory.py noted: images a second and resident memory over the images measured so far.

    python benches/curves.py MEMORY.csv OUT.svg [LABEL …]

A rate is that between one note and the next (about a hundredth of the run); a run that slows down or grows shows as a slope.
"""

import argparse
import csv
from pathlib import Path


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("notes", type=Path, metavar="MEMORY.csv")
    arguments.add_argument("output", type=Path, metavar="OUT.svg")
    arguments.add_argument("labels", nargs="*", metavar="LABEL")
    given = arguments.parse_args()
    import matplotlib

    matplotlib.use("svg")
    # the same file from the same numbers
    matplotlib.rcParams["svg.hashsalt"] = "anomaly-score"
    from matplotlib import pyplot

    runs = {}
    with given.notes.open(newline="") as file:
        for row in csv.DictReader(file):
            runs.setdefault(row["label"], []).append([float(row[k]) for k in ("rows", "seconds", "rss_mb")])
    if unknown := set(given.labels) - set(runs):
        arguments.error(f"{given.notes} holds no run {', '.join(sorted(unknown))}; it holds {', '.join(runs)}")
    figure, (rate, memory) = pyplot.subplots(2, 1, sharex=True, figsize=(8, 6), layout="constrained")
    for label in given.labels or runs:
        # the last line is the run's peak, not a note
        notes = runs[label][:-1]
        pairs = [(b[0], (b[0] - a[0]) / (b[1] - a[1])) for a, b in zip(notes, notes[1:]) if b[1] > a[1]]
        rate.plot(*zip(*pairs), label=label)
        memory.plot([n[0] for n in notes], [n[2] for n in notes], label=label)
    rate.set_ylabel("images/s")
    memory.set_ylabel("resident memory, MB")
    memory.set_xlabel("images measured")
    for axes in (rate, memory):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    rate.legend()
    figure.savefig(given.output, metadata={"Date": None})


if __name__ == "__main__":
    main()
