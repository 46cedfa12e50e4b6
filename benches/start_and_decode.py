"""What surrounds the engine: start-up, decoding against Pillow, scaling over threads.

    cargo build --release -p anomaly-score-cli && cargo build --release -p anomaly-score --example decode_speed
    python benches/start_and_decode.py target/release/anomaly-score IMAGES OUTPUT.json [--rounds 7]

IMAGES: a folder of photos. Reports medians:
- seconds of `--version`, and of measuring one small image with the embedded backbone, start to end;
- images/s on one core from a JPEG of 512 px to 224×224×3 (bicubic, antialiased), taking turns with Pillow doing the same;
- seconds of measuring 64 images with one thread and with two, and of one image with one thread and with two.
Raw timings and the machine's facts go to OUTPUT.json.
"""

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from against_pytorch import machine


def seconds(command):
    started = time.perf_counter()
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def pillow_seconds(files):
    """One core: decode, resize by bicubic with antialiasing, f32 in [0, 1]."""
    import numpy as np
    from PIL import Image

    started = time.perf_counter()
    for file in files:
        image = Image.open(io.BytesIO(file)).convert("RGB")
        scale = 224 / min(image.size)
        image = image.resize([max(224, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
        left, top = ((side - 224) // 2 for side in image.size)
        np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255
    return time.perf_counter() - started


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("binary", type=Path)
    arguments.add_argument("source", type=Path, metavar="IMAGES")
    arguments.add_argument("output", type=Path, metavar="OUTPUT.json")
    arguments.add_argument("--rounds", type=int, default=7)
    given = arguments.parse_args()
    from PIL import Image

    raw = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        photos = sorted(p for p in given.source.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))[:64]
        if len(photos) < 64:
            sys.exit(f"{given.source}: {len(photos)} images, expected at least 64")
        for name in ("many", "one", "jpeg"):
            (folder / name).mkdir()
        for n, photo in enumerate(photos):
            shutil.copy(photo, folder / "many" / f"{n:02}-{photo.name}")
            square = Image.open(photo).convert("RGB").resize((512, 512), Image.Resampling.BICUBIC)
            square.save(folder / "jpeg" / f"{n:02}.jpg", quality=90)
        shutil.copy(folder / "jpeg" / "00.jpg", folder / "one" / "00.jpg")
        files = [p.read_bytes() for p in sorted((folder / "jpeg").iterdir())]
        table = folder / "table.parquet"

        def measure(images, threads):
            table.unlink(missing_ok=True)
            command = [given.binary, "measure", folder / images, "-o", table, "--no-cache", "--threads", threads]
            return seconds(command)

        decode = [given.binary.parent / "examples" / "decode_speed", folder / "jpeg", "efficientnet-lite0", "1"]
        for _ in range(given.rounds):
            ours = float(subprocess.run(decode, check=True, capture_output=True, text=True).stdout)
            for name, taken in [
                ("version", seconds([given.binary, "--version"])),
                ("decode", ours),
                ("decode, Pillow", pillow_seconds(files)),
                ("one image, 1 thread", measure("one", 1)),
                ("one image, 2 threads", measure("one", 2)),
                ("64 images, 1 thread", measure("many", 1)),
                ("64 images, 2 threads", measure("many", 2)),
            ]:
                raw.setdefault(name, []).append(taken)
    median = {name: statistics.median(times) for name, times in raw.items()}
    rates = {
        "decode_images_per_second": 64 / median["decode"],
        "decode_over_pillow": median["decode, Pillow"] / median["decode"],
        "two_threads_64_images": median["64 images, 1 thread"] / median["64 images, 2 threads"],
        "two_threads_one_image": median["one image, 1 thread"] / median["one image, 2 threads"],
    }
    for name, value in (median | rates).items():
        print(f"{name}: {value:.4f}")
    result = {"script": "benches/start_and_decode.py", "machine": machine(), "load_average": os.getloadavg()[0]}
    given.output.write_text(json.dumps(result | {"seconds": raw, "median": median, "rates": rates}, indent=1) + "\n")


if __name__ == "__main__":
    main()
