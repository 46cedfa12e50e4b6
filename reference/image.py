"""Writes fixtures/image/: tiny image files of every type and oddity, and what Pillow, torchvision and NumPy make of them.

    python reference/image.py

- decode/*          the files
- decode.json       for each: its expected picture (a key of decode.npz), lossy or not, and what decoding has to do
- decode.npz        the expected pictures, H×W×3, uint8 or uint16. Of lossless files: the array the file was made from,
                    alpha laid over white in float64; of lossy ones: Pillow's decoding, orientation applied
- resize.json/.npz  pictures and network inputs: torchvision's resize (Pillow bicubic, mode F) and centre crop, [0, 1]
- sample.json       draws without replacement by another implementation of ChaCha8 and the shuffle

Needs numpy, pillow, torchvision. Seeded: a second run writes the same values.
"""

import hashlib
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "image"
SCRIPT = "reference/image.py"


def photo(height, width, seed, full=255):
    """A smooth picture with some edges and noise: what JPEG is made for, yet no two pixels alike."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(float)
    channels = []
    for _ in range(3):
        a, b, c, d = rng.uniform(0.05, 0.35, 4)
        wave = np.sin(a * x + b * y) + np.cos(c * x - d * y)
        channels.append(wave / 4 + 0.5)
    picture = np.stack(channels, -1)
    picture[height // 3 : height // 2, width // 4 : width // 2] = rng.uniform(0.1, 0.9, 3)
    picture += rng.normal(0, 0.005, picture.shape)
    return np.rint(np.clip(picture, 0, 1) * full).astype(np.uint8 if full == 255 else np.uint16)


def over_white(colour, alpha, full):
    """Straight alpha over white, rounded to nearest."""
    colour, alpha = colour.astype(float), alpha.astype(float)[..., None]
    out = np.rint((colour * alpha + full * (full - alpha)) / full)
    return out.astype(np.uint8 if full == 255 else np.uint16)


def grey3(grey):
    return np.repeat(grey[..., None], 3, -1)


def png_bytes(array, colour_type, extra=b""):
    """A PNG of big-endian samples; Pillow cannot write 16-bit colour."""
    height, width = array.shape[:2]
    depth = array.dtype.itemsize * 8
    raw = array.astype(array.dtype.newbyteorder(">")).reshape(height, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in raw)

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    )


def tiff_bytes(array, tags):
    """An uncompressed big-endian TIFF with these further (tag, value) pairs; Pillow cannot write 16-bit colour."""
    height, width, samples = array.shape
    data = array.astype(array.dtype.newbyteorder(">")).tobytes()
    entries = {256: width, 257: height, 259: 1, 277: samples, 278: height, 284: 1, **tags}
    bits_at = 8 + len(data)
    directory_at = bits_at + 2 * samples
    directory_at += directory_at % 2
    fields = [(t, 3, 1, struct.pack(">HH", v, 0)) for t, v in entries.items()]
    bits = [array.dtype.itemsize * 8] * samples
    fields.append((258, 3, samples, struct.pack(">I", bits_at)))
    fields.append((273, 4, 1, struct.pack(">I", 8)))
    fields.append((279, 4, 1, struct.pack(">I", len(data))))
    body = b"MM\0*" + struct.pack(">I", directory_at) + data + struct.pack(f">{samples}H", *bits)
    body = body.ljust(directory_at, b"\0") + struct.pack(">H", len(fields))
    for tag, kind, count, value in sorted(fields):
        body += struct.pack(">HHI", tag, kind, count) + value
    return body + struct.pack(">I", 0)


class Cases:
    """Collects files with their expectation."""

    def __init__(self):
        self.cases, self.arrays = [], {}

    def key_of(self, array):
        for key, known in self.arrays.items():
            if known.dtype == array.dtype and known.shape == array.shape and (known == array).all():
                return key
        key = f"p{len(self.arrays):02}"
        self.arrays[key] = array
        return key

    def add(self, name, content, expected=None, **traits):
        """`content`: bytes. `expected`: the picture of a lossless file; None: as Pillow decodes it."""
        (OUT / "decode").mkdir(parents=True, exist_ok=True)
        (OUT / "decode" / name).write_bytes(content)
        lossy = expected is None
        if lossy:
            image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
            expected = np.asarray(image.convert("RGB"))
        self.cases.append({"file": name, "expected": self.key_of(expected), "lossy": lossy, "traits": sorted(traits)})

    def save(self, name, image, expected=None, traits=(), **options):
        buffer = io.BytesIO()
        kind = {"jpg": "JPEG", "tif": "TIFF", "ppm": "PPM"}.get(name.rsplit(".")[-1], name.rsplit(".")[-1].upper())
        image.save(buffer, kind, **options)
        self.add(name, buffer.getvalue(), expected, **{t: True for t in traits})
        return buffer.getvalue()


def decode_cases():
    cases = Cases()
    rgb = photo(19, 23, 1)
    image = Image.fromarray(rgb)
    grey = rgb[..., 1].copy()
    alpha = photo(19, 23, 2)[..., 0]
    alpha[:7] = 0
    alpha[-4:] = 255
    # Colours under zero alpha that must not shine through.
    rgba = np.dstack([rgb, alpha])
    rgba[:7, :, :3] = [255, 0, 255]
    on_white = over_white(rgba[..., :3], alpha, 255)
    deep = photo(19, 23, 3, 65535)
    deep_alpha = photo(19, 23, 4, 65535)[..., 0]
    bits = grey > 128
    palette = image.quantize(31)
    palette_rgb = np.asarray(palette.convert("RGB"))

    # PNG
    cases.save("rgb8.png", image, rgb)
    cases.save("grey8.png", Image.fromarray(grey), grey3(grey), ["grey"])
    cases.save("grey1.png", Image.fromarray(bits), grey3(bits.astype(np.uint8) * 255), ["grey"])
    cases.save("palette.png", palette, palette_rgb)
    index = np.asarray(palette)
    clear = over_white(palette_rgb, np.where(index == 3, 0, 255), 255)
    cases.save("palette_transparent.png", palette, clear, ["alpha_composited"], transparency=3)
    clear = over_white(grey3(grey), np.where(grey == grey[0, 0], 0, 255), 255)
    cases.save(
        "grey8_transparent.png", Image.fromarray(grey), clear, ["grey", "alpha_composited"], transparency=int(grey[0, 0])
    )
    la = np.dstack([grey, alpha])
    cases.save("la8.png", Image.fromarray(la, "LA"), over_white(grey3(grey), alpha, 255), ["grey", "alpha_composited"])
    cases.save("rgba8.png", Image.fromarray(rgba), on_white, ["alpha_composited"])
    opaque = np.dstack([rgb, np.full_like(alpha, 255)])
    cases.save("rgba8_opaque.png", Image.fromarray(opaque), rgb)
    cases.add("grey16.png", png_bytes(deep[..., 0], 0), grey3(deep[..., 0]), grey=1, sixteen_bit=1)
    cases.add("rgb16.png", png_bytes(deep, 2), deep, sixteen_bit=1)
    expected = over_white(grey3(deep[..., 0]), deep_alpha, 65535)
    la16 = np.dstack([deep[..., 0], deep_alpha])
    cases.add("la16.png", png_bytes(la16, 4), expected, grey=1, sixteen_bit=1, alpha_composited=1)
    expected = over_white(deep, deep_alpha, 65535)
    cases.add("rgba16.png", png_bytes(np.dstack([deep, deep_alpha]), 6), expected, sixteen_bit=1, alpha_composited=1)
    other = Image.fromarray(photo(19, 23, 5))
    cases.save("animated.png", image, rgb, ["animated"], save_all=True, append_images=[other])

    # JPEG
    for name, subsampling in [("444", 0), ("422", 1), ("420", 2)]:
        cases.save(f"rgb_{name}.jpg", image, quality=85, subsampling=subsampling)
    cases.save("progressive.jpg", image, quality=85, progressive=True)
    cases.save("progressive_444.jpg", image, quality=90, subsampling=0, progressive=True)
    cases.save("restart.jpg", image, quality=85, restart_marker_blocks=2)
    plain = cases.save("grey.jpg", Image.fromarray(grey), traits=["grey"], quality=85)
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
    cases.add("grey_adobe.jpg", plain[:2] + adobe + plain[2:], grey=1)
    cases.save("adobe_rgb.jpg", image, quality=90, keep_rgb=True)
    # The same with component ids that name no colours: only Adobe's marker says that it is RGB.
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, keep_rgb=True)
    content = bytearray(buffer.getvalue())
    for letter, number in zip(b"RGB", (1, 2, 3)):
        frame = content.index(b"\xff\xc0")
        at = content.index(bytes([letter, 0x11]), frame)
        content[at] = number
        scan = content.index(b"\xff\xda")
        content[content.index(bytes([letter]), scan)] = number
    cases.add("adobe_rgb_numbered.jpg", bytes(content))
    cmyk = Image.fromarray(np.dstack([255 - rgb, photo(19, 23, 6)[..., 2] // 2]), "CMYK")
    content = cases.save("cmyk.jpg", cmyk, traits=["cmyk"], quality=90)
    at = content.index(b"Adobe")
    ycck = content[: at + 11] + b"\2" + content[at + 12 :]
    cases.add("ycck.jpg", ycck, cmyk=1)
    cases.add("cmyk_bare.jpg", content[: at - 4] + content[at + 12 :], cmyk=1)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        traits = ["reoriented"] * (orientation > 1)
        cases.save(f"orientation{orientation}.jpg", image, traits=traits, quality=85, exif=exif)
    exif = Image.Exif()
    exif[274] = 6
    turned = np.ascontiguousarray(np.rot90(rgb, -1))
    cases.save("orientation6.png", image, turned, ["reoriented"], exif=exif)
    cases.save("orientation6.webp", image, turned, ["reoriented"], lossless=True, exif=exif)
    cases.add("orientation6.tif", tiff_bytes(rgb, {262: 2, 274: 6}), turned, reoriented=1)
    deep_turned = np.ascontiguousarray(np.rot90(deep, -1))
    cases.add("orientation6_16.tif", tiff_bytes(deep, {262: 2, 274: 6}), deep_turned, reoriented=1, sixteen_bit=1)

    # WebP. `exact` keeps the colours under alpha 0, which lossless files otherwise lose.
    cases.save("lossless.webp", image, rgb, lossless=True)
    cases.save("lossless_alpha.webp", Image.fromarray(rgba), on_white, ["alpha_composited"], lossless=True, exact=True)
    cases.save("lossy.webp", image, quality=80)
    cases.save(
        "animated.webp", image, rgb, ["animated"], lossless=True, save_all=True, append_images=[other], duration=50
    )

    # GIF
    cases.save("palette.gif", palette, palette_rgb)
    clear = over_white(palette_rgb, np.where(index == 3, 0, 255), 255)
    cases.save("transparent.gif", palette, clear, ["alpha_composited"], transparency=3, optimize=False)
    frames = [other.quantize(31)]
    cases.save("animated.gif", palette, palette_rgb, ["animated"], save_all=True, append_images=frames, duration=50)

    # BMP
    cases.save("rgb.bmp", image, rgb)
    cases.save("palette.bmp", palette, palette_rgb)
    cases.save("grey1.bmp", Image.fromarray(bits), grey3(bits.astype(np.uint8) * 255))

    # TIFF
    for compression in ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"]:
        cases.save(f"rgb_{compression.removeprefix('tiff_')}.tif", image, rgb, compression=compression)
    cases.save("grey8.tif", Image.fromarray(grey), grey3(grey), ["grey"])
    cases.save("grey1.tif", Image.fromarray(bits), grey3(bits.astype(np.uint8) * 255), ["grey"])
    cases.save("palette.tif", palette, palette_rgb)
    cases.save("grey16.tif", Image.fromarray(deep[..., 0]), grey3(deep[..., 0]), ["grey", "sixteen_bit"])
    cases.add("rgb16.tif", tiff_bytes(deep, {262: 2}), deep, sixteen_bit=1)
    cases.save("rgba8.tif", Image.fromarray(rgba), on_white, ["alpha_composited"])
    cases.add("rgbx8.tif", tiff_bytes(rgba, {262: 2, 338: 0}), rgba[..., :3].copy())
    # Colours stored multiplied by alpha: white is added, not mixed. At full or no alpha that is exact.
    hard = np.where(alpha > 128, 255, 0).astype(np.uint8)
    multiplied = np.dstack([rgb * (hard[..., None] // 255), hard])
    cases.add(
        "premultiplied.tif", tiff_bytes(multiplied, {262: 2, 338: 1}), over_white(rgb, hard, 255), alpha_composited=1
    )
    cases.save("cmyk.tif", cmyk, traits=["cmyk"])

    # QOI
    cases.save("rgb.qoi", image, rgb)
    cases.save("rgba.qoi", Image.fromarray(rgba), on_white, ["alpha_composited"])

    # PNM
    height, width = grey.shape
    cases.save("rgb.ppm", image, rgb)
    cases.add("grey.ppm", f"P5\n# a comment\n{width} {height}\n255\n".encode() + grey.tobytes(), grey3(grey), grey=1)
    text = f"P3 {width} {height} 255\n" + " ".join(map(str, rgb.ravel())) + "\n"
    cases.add("rgb_ascii.ppm", text.encode(), rgb)
    big_endian = deep.astype(">u2").tobytes()
    cases.add("rgb16.ppm", f"P6\n{width} {height}\n65535\n".encode() + big_endian, deep, sixteen_bit=1)
    packed = np.packbits(~bits, axis=1).tobytes()
    cases.add("bits.ppm", f"P4\n{width} {height}\n".encode() + packed, grey3(bits.astype(np.uint8) * 255), grey=1)
    five = rgb >> 3
    expected = np.rint(five * (255 / 31)).astype(np.uint8)
    cases.add("five_bits.ppm", f"P6\n{width} {height}\n31\n".encode() + five.tobytes(), expected)

    # Sound files that no decoder here takes.
    real = Image.fromarray(rgb[..., 0].astype(np.float32) / 255)
    buffer = io.BytesIO()
    real.save(buffer, "TIFF")
    refused = {
        "float": buffer.getvalue(),
        "fill_order": tiff_bytes(rgb, {262: 2, 266: 2}),
        # Only the tags say so: what they describe is refused before it is looked at.
        "planar_tiles": tiff_bytes(rgb, {262: 2, 284: 2, 322: 16, 323: 16}),
    }
    for name, content in refused.items():
        (OUT / "decode" / f"refused_{name}.tif").write_bytes(content)

    np.savez_compressed(OUT / "decode.npz", **cases.arrays)
    return cases.cases


def network_input(pixels, px, fit, full):
    """torchvision on Pillow's mode F, a channel at a time."""
    channels = []
    for c in range(3):
        image = Image.fromarray(pixels[..., c].astype(np.float32))
        size = px if fit == "crop" else [px, px]
        image = F.resize(image, size, InterpolationMode.BICUBIC)
        if fit == "crop":
            image = F.center_crop(image, px)
        channels.append(np.asarray(image))
    return (np.clip(np.stack(channels, -1), 0, full) / np.float32(full)).astype(np.float32)


def resize_cases():
    pictures = {
        "wide": photo(27, 40, 11),
        "tall": photo(61, 25, 12),
        "square": photo(16, 16, 13),
        "tiny": photo(5, 7, 14),
        "strip": photo(3, 100, 15),
        "deep": photo(19, 26, 16, 65535),
    }
    # Single bright pixels: the kernel overshoots below 0 and above 1, and has to be clipped.
    pictures["spikes"] = np.zeros((26, 33, 3), np.uint8)
    pictures["spikes"][::5, ::4] = 255
    wanted = [
        ("wide", 12, "crop"), ("wide", 13, "crop"), ("wide", 12, "squash"), ("wide", 27, "crop"),
        ("wide", 27, "squash"), ("tall", 12, "crop"), ("tall", 11, "squash"), ("square", 29, "crop"),
        ("square", 16, "crop"), ("square", 5, "crop"), ("tiny", 15, "crop"), ("tiny", 15, "squash"),
        ("strip", 8, "crop"), ("strip", 8, "squash"), ("deep", 11, "crop"), ("deep", 19, "crop"),
        ("spikes", 14, "crop"), ("spikes", 30, "squash"),
    ]
    arrays, cases = dict(pictures), []
    for name, px, fit in wanted:
        pixels = pictures[name]
        full = 65535 if pixels.dtype == np.uint16 else 255
        key = f"{name}_{px}_{fit}"
        arrays[key] = network_input(pixels, px, fit, full)
        cases.append({"picture": name, "px": px, "fit": fit, "expected": key})
    np.savez_compressed(OUT / "resize.npz", **arrays)
    return cases


def chacha8_words(key):
    """The ChaCha8 keystream as 64-bit words (RFC 8439's block function, 8 rounds, 64-bit counter, zero nonce)."""

    def rotl(v, n):
        return ((v << n) | (v >> (32 - n))) & 0xFFFFFFFF

    def quarter(s, a, b, c, d):
        for x, y, z, n in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)]:
            s[x] = (s[x] + s[y]) & 0xFFFFFFFF
            s[z] = rotl(s[z] ^ s[x], n)

    counter = 0
    while True:
        start = list(struct.unpack("<4I", b"expand 32-byte k")) + list(struct.unpack("<8I", key))
        start += [counter & 0xFFFFFFFF, counter >> 32, 0, 0]
        state = start.copy()
        for _ in range(4):
            for a, b, c, d in [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)]:
                quarter(state, a, b, c, d)
            for a, b, c, d in [(0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]:
                quarter(state, a, b, c, d)
        words = [(a + b) & 0xFFFFFFFF for a, b in zip(state, start)]
        for low, high in zip(words[::2], words[1::2]):
            yield low | high << 32
        counter += 1


def sample(count, limit, seed):
    words = chacha8_words(hashlib.sha256(b"anomaly-score sample 1\0" + struct.pack("<Q", seed)).digest())
    indices = list(range(count))
    for i in range(limit):
        bound = count - i
        while True:
            product = next(words) * bound
            if product % 2**64 >= (2**64 - bound) % bound:
                break
        j = i + (product >> 64)
        indices[i], indices[j] = indices[j], indices[i]
    return sorted(indices[:limit])


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for old in (OUT / "decode").glob("*"):
        old.unlink()
    import PIL
    import torchvision

    made_by = {"script": SCRIPT, "pillow": PIL.__version__, "torchvision": torchvision.__version__}
    draws = [(1000, 20, 0), (1000, 20, 1), (7, 3, 2**64 - 1), (50, 49, 12345)]
    written = {
        "decode": decode_cases(),
        "resize": resize_cases(),
        "sample": [{"count": n, "limit": k, "seed": str(s), "indices": sample(n, k, s)} for n, k, s in draws],
    }
    for name, cases in written.items():
        lines = ",\n".join("  " + json.dumps(case) for case in cases)
        text = f'{{"made_by": {json.dumps(made_by)},\n "cases": [\n{lines}\n]}}\n'
        (OUT / f"{name}.json").write_text(text)


if __name__ == "__main__":
    main()
