"""Writes fixtures/image/preflight*: what SciPy and Pillow make of the facts that pre-flight takes of an image.

    python reference/preflight.py

- preflight.json   for each picture (a key of preflight.npz): hash, traces of JPEG, values of the pixels
- preflight.npz    the pictures, H×W×3 uint8, and of each its 32 × 32 area means of luma and the 16 × 16 thumbnail
- preflight/*      tiny files whose headers say something of their making; preflight_files.json says what

Needs numpy, scipy, pillow. Seeded: a second run writes the same values.
"""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin
from scipy.fft import dctn
from scipy.stats import skew

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "image"
SCRIPT = "reference/preflight.py"


def photo(height, width, seed):
    """Noise whose spectrum falls as that of photos does, 1/f, in three correlated channels."""
    rng = np.random.default_rng(seed)
    fy, fx = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    fall = 1 / np.maximum(np.hypot(fy, fx), 1 / max(height, width))

    def field():
        values = np.fft.ifft2(np.fft.fft2(rng.normal(size=(height, width))) * fall).real
        return values / values.std()

    shared = field()
    channels = [128 + 45 * (0.9 * shared + 0.45 * field()) + offset for offset in (10, 0, -12)]
    return np.rint(np.clip(np.stack(channels, -1), 0, 255)).astype(np.uint8)


def through_jpeg(picture, quality):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def luma(picture):
    return picture.astype(np.float64) @ [0.299, 0.587, 0.114]


def overlaps(n, areas):
    """Share of each of n pixels that lies in each of `areas` equal stretches, rows summing to 1."""
    edges = np.arange(areas + 1) * n / areas
    pixels = np.arange(n)
    weights = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.maximum(weights, 0) * areas / n


def area_means(picture, areas):
    grey = luma(picture)
    return overlaps(grey.shape[0], areas) @ grey @ overlaps(grey.shape[1], areas).T


def perceptual_hash(picture):
    coefficients = dctn(area_means(picture, 32), norm="ortho")
    order = sorted(((u, v) for u in range(11) for v in range(11) if u + v), key=lambda p: (p[0] + p[1], p[0]))
    return sum(int(coefficients[u, v] > 1e-7) << k for k, (u, v) in enumerate(order[:64]))


def small_share(grey, offset):
    """Share of coefficients below 1 in size over at most 256 blocks of 8 × 8, the constant one left out."""
    grey = grey[offset:, offset:]
    rows, columns = grey.shape[0] // 8, grey.shape[1] // 8
    blocks = grey[: 8 * rows, : 8 * columns].reshape(rows, 8, columns, 8).swapaxes(1, 2).reshape(-1, 8, 8)
    wanted = min(len(blocks), 256)
    blocks = blocks[np.arange(wanted) * len(blocks) // wanted]
    return (np.abs(dctn(blocks, axes=(1, 2), norm="ortho")).reshape(wanted, 64)[:, 1:] < 1).mean()


def jpeg_traces(picture):
    if min(picture.shape[:2]) < 16:
        return None
    grey = luma(picture)
    aligned, shifted = small_share(grey, 0), small_share(grey, 4)
    return (aligned - shifted) / (1.05 - shifted)


def pictures():
    plain = photo(72, 104, 1)
    large = photo(200, 168, 2)
    flat = np.full((24, 40, 3), (200, 30, 90), np.uint8)
    grey = np.repeat(photo(33, 20, 3)[..., :1], 3, -1)
    return {
        "plain": plain,
        "quality_75": through_jpeg(plain, 75),
        "quality_95": through_jpeg(plain, 95),
        "cropped_75": np.ascontiguousarray(through_jpeg(plain, 75)[3:, 5:]),
        "large": large,
        "small": photo(32, 32, 4),
        "narrow": photo(90, 12, 5),
        "tiny": photo(3, 5, 6),
        "flat": flat,
        "grey": grey,
    }


def write_facts():
    arrays, cases = {}, []
    for name, picture in pictures().items():
        arrays[name] = picture
        arrays[f"{name}_area"] = area_means(picture, 32).astype(np.float32)
        arrays[f"{name}_thumbnail"] = area_means(picture, 16).astype(np.float32)
        values = picture.reshape(-1, 3).astype(np.float64)
        grey = luma(picture)
        is_flat = grey.std() < 1e-6
        cases.append(
            {
                "picture": name,
                "hash": f"{perceptual_hash(picture):016x}",
                "jpeg_traces": jpeg_traces(picture),
                "mean": values.mean(0).tolist(),
                "std_dev": values.std(0).tolist(),
                "luma": float(grey.mean()),
                "luma_std_dev": float(grey.std()),
                "skewness": None if is_flat else float(skew(grey.ravel())),
                "lowest": float(values.min()),
                "highest": float(values.max()),
                "black": float((values == 0).mean()),
                "white": float((values == 255).mean()),
                "chroma": float(np.abs(np.diff(values, axis=1)).mean()),
            }
        )
    np.savez_compressed(OUT / "preflight.npz", **arrays)
    text = json.dumps({"script": SCRIPT, "cases": cases}, indent=1)
    (OUT / "preflight.json").write_text(text + "\n")


def write_files():
    folder = OUT / "preflight"
    folder.mkdir(exist_ok=True)
    image = Image.fromarray(photo(8, 8, 7))
    cases = []

    def save(name, expected, **options):
        image.save(folder / name, **options)
        known = {"lossy": None, "jpeg_quality": None, "camera": None, "generator": None}
        cases.append({"file": name, **known, **expected})

    for quality in (1, 7, 25, 49, 50, 75, 90, 92, 95, 100):
        save(f"q{quality}.jpg", {"lossy": True, "jpeg_quality": quality}, quality=quality)
    save("progressive.jpg", {"lossy": True, "jpeg_quality": 60}, quality=60, progressive=True)

    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Canon", "Canon EOS 5D"
    save("camera.jpg", {"lossy": True, "jpeg_quality": 80, "camera": "Canon EOS 5D"}, quality=80, exif=exif)
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "FUJI", "X-T3"
    save("camera.png", {"lossy": False, "camera": "FUJI X-T3"}, exif=exif)
    save("camera.webp", {"lossy": True, "camera": "FUJI X-T3"}, exif=exif)
    save("camera.tif", {"lossy": False, "camera": "FUJI X-T3"}, exif=exif)
    exif = Image.Exif()
    exif[0x0131] = "Midjourney v6"
    save("software.jpg", {"lossy": True, "jpeg_quality": 80, "generator": "Midjourney"}, quality=80, exif=exif)

    def text(key, value):
        info = PngImagePlugin.PngInfo()
        info.add_text(key, value)
        return info

    save("parameters.png", {"lossy": False, "generator": "Stable Diffusion web UI"},
         pnginfo=text("parameters", "a cat\nSteps: 20, Sampler: Euler"))
    save("workflow.png", {"lossy": False, "generator": "ComfyUI"}, pnginfo=text("workflow", "{}"))
    save("comment.png", {"lossy": False}, pnginfo=text("Comment", "parameters of the camera: none"))
    xmp = b'<x:xmpmeta><Iptc4xmpExt:DigitalSourceType>http://cv.iptc.org/newscodes/digitalsourcetype/' \
          b'trainedAlgorithmicMedia</Iptc4xmpExt:DigitalSourceType></x:xmpmeta>'
    save("iptc.jpg", {"lossy": True, "jpeg_quality": 80, "generator": "a generative model (IPTC digital source type)"},
         quality=80, xmp=xmp)
    save("plain.png", {"lossy": False})
    save("lossless.webp", {"lossy": False}, lossless=True)
    save("plain.bmp", {"lossy": False})
    save("plain.gif", {"lossy": True})
    text = json.dumps({"script": SCRIPT, "cases": cases}, indent=1)
    (OUT / "preflight_files.json").write_text(text + "\n")


if __name__ == "__main__":
    write_facts()
    write_files()
