"""Writes the seeds of the fuzz targets, from the project's fixtures: python3 fuzz/seeds.py [FOLDER=fuzz/corpus]

Needs nothing but the standard library. A target whose input is a part of a file gets that part.
"""

import io
import json
import math
import pickletools
import struct
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "fixtures" / "weights"


def pickle_end(data: bytes, start: int) -> int:
    """Where the pickle that begins at `start` ends."""
    stream = io.BytesIO(data)
    stream.seek(start)
    for _ in pickletools.genops(stream):
        pass
    return stream.tell()


def legacy_object(data: bytes) -> bytes:
    """The file without its first three pickles: magic number, version, description of the machine."""
    at = 0
    for _ in range(3):
        at = pickle_end(data, at)
    return data[at:]


def zipped_pickle(path: Path) -> bytes:
    """Lengths of the storages 0 and 1, then data.pkl."""
    with zipfile.ZipFile(path) as archive:
        sizes = {name.rpartition("/")[2]: archive.getinfo(name).file_size for name in archive.namelist()}
        pickle = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        return bytes(min(sizes.get(key, 0), 96) for key in "01") + archive.read(pickle)


def safetensors_parts(data: bytes) -> bytes:
    """Length of the data, then the header."""
    (length,) = struct.unpack("<Q", data[:8])
    return bytes([min(len(data) - 8 - length, 255)]) + data[8 : 8 + length]


def safetensors_headers() -> list[bytes]:
    """Headers that differ where it matters: dtype, rank, emptiness, metadata, offsets."""
    headers = [
        {},
        {"__metadata__": {"format": "pt"}},
        {"scalar": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}},
        {"empty": {"dtype": "F16", "shape": [0, 3], "data_offsets": [0, 0]}},
        {"huge": {"dtype": "F64", "shape": [2**31, 2**31, 2**31], "data_offsets": [0, 8]}},
        {"a": {"dtype": "BF16", "shape": [2, 1], "data_offsets": [0, 4]},
         "b": {"dtype": "I64", "shape": [1], "data_offsets": [4, 12]}},
    ]
    return [bytes([12]) + json.dumps(header).encode() for header in headers]


def varint(n: int) -> bytes:
    n %= 2**64
    out = bytearray()
    while n >= 0x80:
        out.append(n % 0x80 | 0x80)
        n //= 0x80
    return bytes([*out, n])


def field(number: int, value: int | float | str | bytes) -> bytes:
    """One protobuf field."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def onnx_tensor(name: str, shape: list[int], dtype: str = "f") -> bytes:
    """A tensor of 1 2 3 …, f: float32, q: int64."""
    numbers = range(1, 1 + math.prod(shape))
    raw = struct.pack(f"<{len(numbers)}{dtype}", *numbers)
    dims = b"".join(field(1, d) for d in shape)
    return dims + field(2, {"f": 1, "q": 7}[dtype]) + field(8, name) + field(9, raw)


def onnx_node(op: str, inputs: str, output: str, **attributes: int | float | str | list[int]) -> bytes:
    node = b"".join(field(1, i) for i in inputs.split()) + field(2, output) + field(3, f"/{output}") + field(4, op)
    for name, value in attributes.items():
        match value:
            case int():
                held = field(3, value) + field(20, 2)
            case float():
                held = field(2, value) + field(20, 1)
            case str():
                held = field(4, value) + field(20, 3)
            case _:
                held = b"".join(field(8, v) for v in value) + field(20, 7)
        node += field(5, field(1, name) + held)
    return node


def onnx_model(nodes: list[bytes], tensors: list[bytes], px: int = 8, opset: int = 18) -> bytes:
    dims = b"".join(field(1, field(1, d)) for d in (1, 3, px, px))
    input_ = field(1, "x") + field(2, field(1, field(1, 1) + field(2, dims)))
    graph = b"".join(field(1, n) for n in nodes) + b"".join(field(5, t) for t in tensors)
    graph += field(11, input_) + field(12, field(1, "y"))
    return field(1, 8) + field(8, field(1, "") + field(2, opset)) + field(7, graph)


def onnx_models() -> dict[str, bytes]:
    """One small model for each kind of operator."""
    n, t = onnx_node, onnx_tensor
    return {
        "conv": onnx_model(
            [n("Conv", "x w b", "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], group=1),
             n("BatchNormalization", "c b b b b", "n", epsilon=1e-5), n("Relu", "n", "r"),
             n("GlobalAveragePool", "r", "p"), n("Flatten", "p", "f", axis=1),
             n("Gemm", "f g", "y", alpha=1.0, transB=1)],
            [t("w", [4, 3, 3, 3]), t("b", [4]), t("g", [5, 4])]),
        "tokens": onnx_model(
            [n("Conv", "x w", "c", kernel_shape=[4, 4], strides=[4, 4]), n("Reshape", "c s", "r"),
             n("Transpose", "r", "t", perm=[0, 2, 1]), n("LayerNormalization", "t b b", "l", axis=-1, epsilon=1e-6),
             n("MatMul", "l m", "q"), n("Transpose", "q", "k", perm=[0, 2, 1]), n("MatMul", "q k", "a"),
             n("Softmax", "a", "p", axis=-1), n("MatMul", "p q", "o"), n("Add", "o t", "e"), n("Gelu", "e", "u"),
             n("ReduceMean", "u", "y", axes=[1], keepdims=0)],
            [t("w", [4, 3, 4, 4]), t("s", [3], "q"), t("b", [4]), t("m", [4, 4])]),
        "pool": onnx_model(
            [n("MaxPool", "x", "m", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
             n("AveragePool", "x", "a", kernel_shape=[2, 2], strides=[2, 2], count_include_pad=1),
             n("Concat", "m a", "y", axis=1)], []),
        "resize": onnx_model(
            [n("Resize", "x e s", "y", mode="linear", coordinate_transformation_mode="half_pixel")],
            [t("e", [0]), t("s", [4])]),
        "shape": onnx_model(
            [n("Shape", "x", "h"), n("Gather", "h i", "g", axis=0), n("Unsqueeze", "g z", "u"),
             n("Slice", "x z i i", "l"), n("Split", "l", "p", axis=1, num_outputs=3), n("Squeeze", "p z", "q"),
             n("Expand", "q u", "e"), n("Tile", "e i", "y")],
            [t("i", [1], "q"), t("z", [1], "q")]),
        "arithmetic": onnx_model(
            [n("Pow", "x t", "p"), n("Sqrt", "p", "s"), n("Div", "x s", "d"), n("Erf", "d", "e"), n("Mul", "e x", "m"),
             n("Clip", "m lo hi", "c"), n("HardSwish", "c", "h"), n("Where", "w h x", "y")],
            [t("t", [1]), t("lo", []), t("hi", []), t("w", [1, 1, 8, 8], "q")]),
        "blocks": onnx_model(
            [n("SpaceToDepth", "x", "s", blocksize=2), n("DepthToSpace", "s", "d", blocksize=2, mode="CRD"),
             n("Pad", "d p", "a", mode="reflect"), n("InstanceNormalization", "a b b", "y", epsilon=1e-5)],
            [t("p", [8], "q"), t("b", [3])], opset=13),
    }


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "fuzz" / "corpus"
    seeds: dict[str, dict[str, bytes]] = {"weights": {}, "pickle": {}, "torch_zip": {}, "safetensors": {}}
    seeds["onnx"] = onnx_models()
    # Decoded from whatever bytes there are.
    seeds["onnx_graph"] = {"counting": bytes(range(256))}
    for path in sorted(WEIGHTS.iterdir()):
        data = path.read_bytes()
        if path.suffix == ".json":
            continue
        seeds["weights"][path.name] = data
        if path.name == "no_checksums.pth":
            continue  # zipfile refuses it, and its pickle is that of zip.pth
        if data.startswith(b"PK"):
            seeds["torch_zip"][path.name] = zipped_pickle(path)
        elif path.suffix == ".safetensors":
            seeds["safetensors"][path.name] = safetensors_parts(data)
        else:
            seeds["pickle"][path.name] = legacy_object(data)
    for i, header in enumerate(safetensors_headers()):
        seeds["safetensors"][f"header{i}"] = header
    for name, files in seeds.items():
        folder = target / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, data in files.items():
            (folder / file).write_bytes(data)
        print(f"{name}: {len(files)} seeds")


if __name__ == "__main__":
    main()
