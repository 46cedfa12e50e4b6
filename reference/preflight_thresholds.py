"""How often the thresholds of docs/preflight.md are wrong, on folders of real photos.

    python reference/preflight_thresholds.py FOLDER…

Prints, of each folder (files directly in it, read by Pillow, as RGB):
- pairs: hash distances and thumbnail correlations of all pairs of different images, also after mirroring one
- copies: the same of each image and a changed copy of it
- traces: jpeg_traces of the images reduced by 2 (so without any grid) and after JPEG of several qualities; of images that are
  lossless, of them as they are
- colours: how often random halves of the folder pass for far apart, exchanged or inverted

Needs numpy, scipy, pillow. Seeded.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance
from scipy.stats import skew

from preflight import area_means, jpeg_traces, luma, perceptual_hash

DRAWS = 1000
MIRROR = sum(
    1 << k
    for k, (_, v) in enumerate(
        sorted(((u, v) for u in range(11) for v in range(11) if u + v), key=lambda p: (p[0] + p[1], p[0]))[:64]
    )
    if v % 2
)


def through_jpeg(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def noisy(image):
    noise = np.random.default_rng(0).normal(0, 8, (image.height, image.width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def margin(share):
    return lambda i: i.crop([round(side * s) for s in (share, 1 - share) for side in i.size])


CHANGES = {
    "JPEG 75": lambda i: through_jpeg(i, 75),
    "JPEG 30": lambda i: through_jpeg(i, 30),
    "half size": lambda i: i.resize((i.width // 2, i.height // 2), Image.LANCZOS),
    "1.5 times": lambda i: i.resize((i.width * 3 // 2, i.height * 3 // 2), Image.BICUBIC),
    "squashed": lambda i: i.resize((256, 256), Image.BICUBIC),
    "noise of 8": noisy,
    "brightness 1.2": lambda i: ImageEnhance.Brightness(i).enhance(1.2),
    "contrast 0.8": lambda i: ImageEnhance.Contrast(i).enhance(0.8),
    "2 % cropped": margin(0.02),
    "5 % cropped": margin(0.05),
}


def look(image):
    picture = np.asarray(image)
    thumbnail = np.rint(area_means(picture, 16))
    centred = thumbnail - thumbnail.mean()
    return perceptual_hash(picture), centred / max(np.sqrt((centred**2).sum()), 1e-9)


def bits(a, b):
    return (a ^ b).bit_count()


def is_copy(a, b):
    return bits(a[0], b[0]) <= 7 and (a[1] * b[1]).sum() >= 0.95


def pairs(images):
    looks = [look(image) for image in images]
    hashes = np.array([h for h, _ in looks], np.uint64)
    thumbnails = np.array([t.ravel() for _, t in looks])
    turned = np.array([t[:, ::-1].ravel() for _, t in looks])
    upper = np.triu_indices(len(images), 1)
    distance = np.bitwise_count(hashes[:, None] ^ hashes)[upper]
    mirrored = np.bitwise_count(hashes[:, None] ^ hashes ^ np.uint64(MIRROR))[upper]
    straight, flipped = (thumbnails @ thumbnails.T)[upper], (thumbnails @ turned.T)[upper]
    for name, d, c in (("straight", distance, straight), ("mirrored", mirrored, flipped)):
        found = (d <= 7) & (c >= 0.95)
        others = ~found
        print(
            f"  pairs {name}: {len(d)}, hash mean {d.mean():.1f} deviation {d.std():.1f}; copies {found.sum()}; of the others "
            f"lowest distance {d[others].min()}, highest correlation {c[others].max():.3f}, either alone would take "
            f"{(d[others] <= 7).sum()} and {(c[others] >= 0.95).sum()}"
        )


def copies(images):
    looks = [look(image) for image in images[:100]]
    for name, change in CHANGES.items():
        changed = [look(change(image)) for image in images[:100]]
        distances = [bits(a[0], b[0]) for a, b in zip(looks, changed)]
        correlations = [(a[1] * b[1]).sum() for a, b in zip(looks, changed)]
        found = np.mean([is_copy(a, b) for a, b in zip(looks, changed)])
        print(
            f"  copies, {name}: found {100 * found:.0f} %, distance median {np.median(distances):.0f} at most {max(distances)}, "
            f"correlation at least {min(correlations):.3f}"
        )


def traces(images, lossless):
    def say(name, of):
        values = [jpeg_traces(np.asarray(image)) for image in of]
        values = np.array([v for v in values if v is not None])
        if len(values):
            low, middle, high = np.percentile(values, [5, 50, 95])
            print(
                f"  traces, {name}: 5 % {low:.3f}, median {middle:.3f}, 95 % {high:.3f}, above .25: {100 * np.mean(values > 0.25):.1f} %"
            )

    base = images if lossless else [i.resize((i.width // 2, i.height // 2), Image.LANCZOS) for i in images]
    say("lossless" if lossless else "reduced by 2", base)
    if not lossless:
        say("as they are", images)
    for quality in (50, 75, 85, 90, 95, 98):
        say(f"JPEG {quality}", [through_jpeg(image, quality) for image in base])
    say("JPEG 75, cropped by 3 and 5", [through_jpeg(i, 75).crop((3, 5, i.width, i.height)) for i in base])


def colours(image):
    values = np.asarray(image).reshape(-1, 3).astype(float)
    grey = luma(np.asarray(image)).ravel()
    return np.r_[values.mean(0), values.std(0), grey.mean(), skew(grey) if grey.std() > 1e-3 else 0, grey.std()]


def mahalanobis(a, b):
    covariance = (np.cov(a.T) + np.cov(b.T)) / 2
    covariance += 0.001 * np.diag(np.diag(covariance))
    difference = b.mean(0) - a.mean(0)
    return np.sqrt(difference @ np.linalg.solve(covariance, difference))


def red_over_blue(c):
    return np.c_[c[:, 0] - c[:, 2], c[:, 3] - c[:, 5]]


def whole(c):
    return np.c_[c[:, 0] - c[:, 2], c[:, 1] - (c[:, 0] + c[:, 2]) / 2, c[:, 6], c[:, 7], c[:, 3] - c[:, 5], c[:, 8]]


def exchanged(c):
    return c[:, [2, 1, 0, 5, 4, 3, 6, 7, 8]]


def inverted(c):
    return np.c_[255 - c[:, :3], c[:, 3:6], 255 - c[:, 6], -c[:, 7], c[:, 8]]


def explained(a, b, features, exchange, sure):
    before, after = mahalanobis(features(a), features(b)), mahalanobis(features(a), features(exchange(b)))
    return before >= 0.5 and before * np.sqrt(len(a) * len(b) / (len(a) + len(b))) >= sure and after <= before / 2


def halves(images):
    all_colours = np.array([colours(image) for image in images])
    rng = np.random.default_rng(0)
    for n in (20, 30, 50, 100, 300):
        if 2 * n > len(images):
            break
        far = turned = negative = found_turned = found_negative = 0
        largest = 0.0
        for _ in range(DRAWS):
            drawn = rng.permutation(len(images))[: 2 * n]
            a, b = all_colours[drawn[:n]], all_colours[drawn[n:]]
            difference = np.abs(b[:, :6].mean(0) - a[:, :6].mean(0))
            spread = np.sqrt((a[:, :6].var(0, ddof=1) + b[:, :6].var(0, ddof=1)) / 2)
            z = difference / (spread * np.sqrt(2 / n))
            largest = max(largest, z.max())
            far += ((difference >= 0.8 * spread) & (z >= 4.5)).any()
            turned += explained(a, b, red_over_blue, exchanged, 4.0)
            negative += explained(a, b, whole, inverted, 4.5)
            found_turned += explained(a, exchanged(b), red_over_blue, exchanged, 4.0)
            found_negative += explained(a, inverted(b), whole, inverted, 4.5)
        print(
            f"  colours, halves of {n}: of {DRAWS} far apart {far}, exchanged {turned}, inverted {negative}; largest |z| {largest:.1f}; "
            f"of as many with one half exchanged found {found_turned}, inverted {found_negative}"
        )


if __name__ == "__main__":
    for folder in map(Path, sys.argv[1:]):
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg"))
        images = [Image.open(path).convert("RGB") for path in paths]
        print(f"{folder.name}: {len(images)} images")
        pairs(images)
        copies(images)
        traces(images, paths[0].suffix.lower() == ".png")
        halves(images)
