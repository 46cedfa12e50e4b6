"""The CIFAR-10 ladder: does AS order sets of images as people would, and does PyTorch say the same?

    python reference/cifar_ladder.py tool    PROGRAM CIFAR10 WEIGHTS WORK [--networks N,…] [--seeds S,…]
    python reference/cifar_ladder.py pytorch CIFAR10 WEIGHTS WORK [--networks N,…] [--seeds S,…] [--sets NAME,…]
    python reference/cifar_ladder.py report  WORK [--json FILE] [--markdown FILE]

PROGRAM is anomaly-score. CIFAR10 holds a folder a set: `real` (the first 300 by name are the reference, the other 300 a
control of the same source), real_b_train300, real_test_jpeg, sngan, gan_mid, dcgan_poor_a_64px_uniq. WEIGHTS holds
resnet20-*.th and resnet56-*.th. `tool` runs the program, `pytorch` the same protocol through method.py with its own random
directions, batches, resampler (Pillow) and KS (ks2d.py); both keep what they have in WORK and go on from there. `report`
sets the two side by side, image by image and set by set, under protocol `paper`.
"""

import argparse
import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

SETS = ["real_last_300", "real_b_train300", "real_test_jpeg", "sngan", "gan_mid", "dcgan_poor_a_64px_uniq"]
REFERENCE = "real_first_300"
FOUNDATIONS = {"real_first_300": ("real", slice(0, 300)), "real_last_300": ("real", slice(300, 600))}


def files(cifar10: Path, name: str) -> list:
    """The set's images in byte order of their names, as the tool sorts them."""
    folder, part = FOUNDATIONS.get(name, (name, slice(None)))
    return sorted((cifar10 / folder).iterdir(), key=lambda p: os.fsencode(p.name))[part]


def weights_file(folder: Path, network: str) -> Path:
    found = sorted(folder.glob(f"{network}-*.th"))
    if len(found) != 1:
        sys.exit(f"{folder}: expected one file {network}-*.th, found {len(found)}")
    return found[0]


# --- the tool ----------------------------------------------------------------------------------------------------


def run_tool(given):
    for name in [REFERENCE, *SETS]:
        folder = given.work / "sets" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file in files(given.cifar10, name):
            link = folder / file.name
            if not link.is_symlink():
                link.symlink_to(file.resolve())

    def program(*arguments):
        return subprocess.run([given.program, *map(str, arguments)], check=True, stdout=subprocess.PIPE).stdout.decode()

    for network in given.networks:
        weights = weights_file(given.weights, network)
        for seed in given.seeds:
            tables = given.work / "tool" / network / str(seed)
            tables.mkdir(parents=True, exist_ok=True)
            for name in [REFERENCE, *SETS]:
                table = tables / f"{name}.parquet"
                if not table.exists():
                    program("measure", given.work / "sets" / name, "-o", table, "--backbone", f"{network}-cifar",
                            "--weights", weights, "--seed", seed, "--no-cache")  # fmt: skip
                (tables / f"{name}.csv").write_text(program("rank", table, "--csv", "-"))
            for name in SETS:
                report = program("compare", tables / f"{REFERENCE}.parquet", tables / f"{name}.parquet", "--json", "-")
                (tables / f"{name}.json").write_text(report)
            print(f"{network}, seed {seed}: done", flush=True)


def tool_points(folder: Path, name: str) -> dict:
    """Image → (C, V)."""
    rows = csv.DictReader(io.StringIO((folder / f"{name}.csv").read_text()))
    return {r["path"]: (float(r["complexity"]), float(r["vulnerability"])) for r in rows}


# --- PyTorch -----------------------------------------------------------------------------------------------------


def run_pytorch(given):
    import torch
    from PIL import Image

    import ks2d
    from backbones import Case, backbone
    from method import ATTACK_START, measure

    torch.set_num_threads(1)

    def pixels(path):
        image = Image.open(path).convert("RGB")
        if image.size != (32, 32):
            image = image.resize((32, 32), Image.Resampling.BICUBIC)
        return np.asarray(image, np.float32).transpose(2, 0, 1) / 255

    for network in given.networks:
        state = torch.load(weights_file(given.weights, network), map_location="cpu", weights_only=True)["state_dict"]
        net = backbone(Case(network, f"{network}-cifar", 32), state, torch.float32)
        for seed in given.seeds:
            out = given.work / "pytorch" / network / str(seed)
            out.mkdir(parents=True, exist_ok=True)
            points = {}
            for name in [REFERENCE, *given.sets]:
                file = out / f"{name}.json"
                if not file.exists():
                    paths = files(given.cifar10, name)
                    generator = torch.Generator().manual_seed(1_000_003 * seed + [REFERENCE, *SETS].index(name))
                    rows = {}
                    for at in range(0, len(paths), 100):
                        batch = torch.from_numpy(np.stack([pixels(p) for p in paths[at : at + 100]]))
                        noise = torch.randn(batch.shape, generator=generator)
                        start = ATTACK_START * (2 * torch.rand(batch.shape, generator=generator) - 1)
                        found = measure(net, batch, noise, start)
                        values = zip(found.complexity, found.vulnerability)
                        rows.update({p.name: v for p, v in zip(paths[at : at + 100], values)})
                    file.write_text(json.dumps(rows))
                points[name] = np.array(list(json.loads(file.read_text()).values()))
            scores = {name: ks2d.statistic(points[REFERENCE], points[name]) for name in given.sets}
            (out / "scores.json").write_text(json.dumps(scores))
            print(f"{network}, seed {seed}: {scores}", flush=True)


# --- side by side ------------------------------------------------------------------------------------------------


def report(given):
    import ks2d
    from scipy import stats

    ladder, agreement = [], []
    for folder in sorted(given.work.glob("tool/*/*")):
        network, seed = folder.parent.name, int(folder.name)
        if not all((folder / f"{name}.json").exists() for name in SETS):
            print(f"{network}, seed {seed}: not finished, left out", file=sys.stderr)
            continue
        for name in SETS:
            found = json.loads((folder / f"{name}.json").read_text())
            score = found["anomaly_score"]
            row = {"network": network, "seed": seed, "set": name, "medians": {}}
            row |= {key: score[key] for key in ("value", "p_value", "null_mean", "null_q95", "n_reference", "n_generated")}
            for key in ("complexity", "vulnerability"):
                row["medians"][key] = [found[s][key]["median"] for s in ("reference", "generated")]
            other = given.work / "pytorch" / network / str(seed) / "scores.json"
            row["pytorch"] = json.loads(other.read_text()).get(name) if other.exists() else None
            ours = [np.array(list(tool_points(folder, n).values())) for n in (REFERENCE, name)]
            row["value_by_ks2d_py"] = ks2d.statistic(*ours)
            ladder.append(row)
        for name in [REFERENCE, *SETS]:
            other = given.work / "pytorch" / network / str(seed) / f"{name}.json"
            if not other.exists():
                continue
            a, b = tool_points(folder, name), json.loads(other.read_text())
            if a.keys() != b.keys():
                sys.exit(f"{name}: the two did not measure the same images")
            a, b = (np.array([side[path] for path in sorted(side)]) for side in (a, b))
            for axis, quantity in enumerate("CV"):
                x, y = a[:, axis], b[:, axis]
                agreement.append(
                    {
                        "network": network,
                        "seed": seed,
                        "set": name,
                        "quantity": quantity,
                        "median": [float(np.median(x)), float(np.median(y))],
                        "rank_correlation": float(stats.spearmanr(x, y).statistic),
                        "median_of_ratio": float(np.median(x / y)),
                        # Paired: the same images, other random directions. A bias would show here first.
                        "wilcoxon_p": float(stats.wilcoxon(x, y).pvalue),
                    }
                )
    result = {"script": "reference/cifar_ladder.py", "ladder": ladder, "agreement": agreement, "pairs": pairs(given.work)}
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    text = markdown(ladder, agreement) + pairs_markdown(result["pairs"])
    if given.markdown:
        given.markdown.write_text(text)
    else:
        print(text)


def pairs(work: Path) -> list:
    """AS(reference, real_b_train300) with the directions of any two runs, the tool's or PyTorch's, and what a run shares
    with another of the same images: rank correlations of C and of V."""
    import itertools

    import ks2d
    from scipy import stats

    def points(side, network, seed, name):
        file = work / side / network / seed / f"{name}.{'csv' if side == 'tool' else 'json'}"
        if not file.exists():
            return None
        found = tool_points(file.parent, name) if side == "tool" else json.loads(file.read_text())
        return np.array([found[path] for path in sorted(found)])

    rows = []
    for network in sorted({f.name for side in ("tool", "pytorch") for f in (work / side).glob("*")}):
        runs = {}
        for side in ("tool", "pytorch"):
            for seed in sorted(f.name for f in (work / side / network).glob("*")):
                both = [points(side, network, seed, name) for name in (REFERENCE, "real_b_train300")]
                if all(b is not None for b in both):
                    runs[side, seed] = both
        for (side_a, a), (side_b, b) in itertools.product(runs, repeat=2):
            row = {"network": network, "reference": f"{side_a} {a}", "generated": f"{side_b} {b}"}
            row["value"] = ks2d.statistic(runs[side_a, a][0], runs[side_b, b][1])
            if (side_a, a) < (side_b, b):
                first, second = runs[side_a, a][0], runs[side_b, b][0]
                for axis, quantity in enumerate("CV"):
                    row[f"rank_correlation_{quantity}"] = float(stats.spearmanr(first[:, axis], second[:, axis]).statistic)
            rows.append(row)
    return rows


def pairs_markdown(rows) -> str:
    lines = ["| network | reference by | real_b_train300 by | pairs of runs | mean AS | least | largest |", "|---|---|---|--:|--:|--:|--:|"]
    for network in sorted({r["network"] for r in rows}):
        for sides in (("tool", "tool"), ("pytorch", "pytorch"), ("tool", "pytorch"), ("pytorch", "tool")):
            chosen = [r for r in rows if (r["network"], r["reference"].split()[0], r["generated"].split()[0]) == (network, *sides)]
            values = [r["value"] for r in chosen]
            if values:
                lines.append(
                    f"| {network} | {sides[0]} | {sides[1]} | {len(values)} | {np.mean(values):.3f} | {min(values):.3f} | {max(values):.3f} |"
                )
    lines += ["", "| network | same 300 images, two runs | rank correlation of C | of V |", "|---|---|--:|--:|"]
    for network in sorted({r["network"] for r in rows}):
        for sides in (("tool", "tool"), ("pytorch", "pytorch"), ("pytorch", "tool")):
            chosen = [
                r for r in rows
                if r["network"] == network and "rank_correlation_C" in r
                and (r["reference"].split()[0], r["generated"].split()[0]) == sides
            ]  # fmt: skip
            if chosen:
                c, v = (np.mean([r[f"rank_correlation_{q}"] for r in chosen]) for q in "CV")
                lines.append(f"| {network} | {sides[0]}, {sides[1]} ({len(chosen)}) | {c:.2f} | {v:.2f} |")
    return "\n".join(lines) + "\n"


def markdown(ladder, agreement) -> str:
    lines = []
    for network in sorted({r["network"] for r in ladder}):
        rows = [r for r in ladder if r["network"] == network]
        seeds = sorted({r["seed"] for r in rows})
        lines += [f"### {network}", ""]
        lines += ["| set | n | " + " | ".join(f"seed {s}" for s in seeds) + " | mean | p, largest | null mean | PyTorch, mean (seeds) |"]
        lines += ["|---|---|" + "---|" * (len(seeds) + 4)]
        for name in SETS:
            found = {r["seed"]: r for r in rows if r["set"] == name}
            values = [found[s]["value"] for s in seeds]
            other = [found[s]["pytorch"] for s in seeds if found[s]["pytorch"] is not None]
            cells = [name, f"300 + {found[seeds[0]]['n_generated']}"] + [f"{v:.3f}" for v in values]
            cells += [f"**{np.mean(values):.3f}**", f"{max(found[s]['p_value'] for s in seeds):.3f}"]
            cells += [f"{np.mean([found[s]['null_mean'] for s in seeds]):.3f}"]
            cells += [f"{np.mean(other):.3f} ({len(other)})" if other else "–"]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    if agreement:
        lines += ["| network | set | | images × seeds | median, tool | median, PyTorch | median of tool / PyTorch | rank correlation | smallest paired p |"]
        lines += ["|---|---|---|---|---|---|---|---|---|"]
        for key in dict.fromkeys((r["network"], r["set"], r["quantity"]) for r in agreement):
            rows = [r for r in agreement if (r["network"], r["set"], r["quantity"]) == key]

            def mean(get):
                return np.mean([get(r) for r in rows])

            lines.append(
                f"| {key[0]} | {key[1]} | {key[2]} | × {len(rows)} | {mean(lambda r: r['median'][0]):.4g} "
                f"| {mean(lambda r: r['median'][1]):.4g} | {mean(lambda r: r['median_of_ratio']):.4f} "
                f"| {mean(lambda r: r['rank_correlation']):.3f} | {min(r['wilcoxon_p'] for r in rows):.2f} |"
            )
        lines.append("")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, run in (("tool", run_tool), ("pytorch", run_pytorch), ("report", report)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        if name == "tool":
            command.add_argument("program", type=Path)
        if name != "report":
            command.add_argument("cifar10", type=Path)
            command.add_argument("weights", type=Path)
        command.add_argument("work", type=Path)
        if name == "report":
            command.add_argument("--json", type=Path)
            command.add_argument("--markdown", type=Path)
        else:
            split = lambda kind: lambda text: [kind(part) for part in text.split(",")]  # noqa: E731
            command.add_argument("--networks", type=split(str), default=["resnet20", "resnet56"])
            command.add_argument("--seeds", type=split(int), default=list(range(5)))
        if name == "pytorch":
            command.add_argument("--sets", type=split(str), default=SETS)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
