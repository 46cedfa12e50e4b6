"""Tensors that are computed from their name, so that no fixture has to store weights.

Python and Rust both generate them; fixtures/network/README.md states the rule and holds locked values.
Integers only until the last step, and that step is exact or correctly rounded, so both sides get the same bits.
"""

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def fnv1a64(text: str) -> int:
    """64-bit FNV-1a hash of the UTF-8 bytes of `text` (Fowler, Noll, Vo; offset basis and prime of the 64-bit form)."""
    value = 0xCBF29CE484222325
    for byte in text.encode("utf-8"):
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    return value


def uniform(name: str, count: int) -> np.ndarray:
    """`count` f32 values u in [-1, 1), the stream of `name`; u is a multiple of 2^-23, so exact in f32.

    Source of the mixing step: splitmix64 (Steele, Lea, Flood 2014; Vigna's constants).
    """
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) * GOLDEN + np.uint64(fnv1a64(name))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    top = (z >> np.uint64(40)).astype(np.float32)  # 24 bits: exact
    return top / np.float32(2**23) - np.float32(1)


def tensor(name: str, shape, centre: float, scale: float) -> np.ndarray:
    """f32 array of `shape`, row-major: centre + scale·u, the product and the sum each rounded to f32."""
    u = uniform(name, int(np.prod(shape)))
    return (np.float32(centre) + np.float32(scale) * u).reshape(shape)


if __name__ == "__main__":
    u = uniform("locked", 3)
    v = tensor("locked", (3,), 0.3, 0.2)
    print("hash", hex(fnv1a64("locked")))
    for i in range(3):
        print(i, "u =", float(u[i]), "value(.3, .2) =", repr(v[i]), hex(v[i].view(np.uint32)))
