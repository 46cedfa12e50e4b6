"""Reads measurement tables with pyarrow alone: a check by hand of what `anomaly_score::table` writes.

    python reference/table.py show TABLE.parquet      what a table holds, and whether it is in order
    python reference/table.py made TABLE.parquet      the same, and every value of the made-up rows of the tests
    python reference/table.py fingerprint             the fingerprint that settings.rs is tested against

The table for `made` is written by

    ANOMALY_SCORE_TEST_TABLE=TABLE.parquet cargo test --release -p anomaly-score for_pyarrow -- --ignored

Needs pyarrow and numpy.
"""

import hashlib
import json
import struct
import sys

TAG = b"anomaly-score measurement settings\0"
RECORDED_ONLY = ("tool_version", "source", "limit")

# `settings()` of crates/anomaly-score/src/table/tests/mod.rs.
TEST_SETTINGS = {
    "format_version": 1,
    "method_version": 8,
    "protocol": {
        "name": "paper",
        "steps": 10,
        "epsilon": 0.01,
        "attack_steps": 10,
        "attack_epsilon": 8 / 255,
        "attack_step_size": 2 / 255,
        "noise": "gaussian",
        "restarts": 1,
    },
    "backbone": {
        "name": "efficientnet-lite0",
        "weights_sha256": "0123456789abcdef" * 4,
        "input_px": 224,
        "feature_dim": 4,
        "layer": None,
    },
    "resampler": "bicubic-antialias",
    "seed": 7,
    "arithmetic": "fused",
    "tool_version": "0.1.0",
    "source": "photos",
    "limit": 50,
}
FLAGS = ["alpha_composited", "sixteen_bit", "greyscale", "exif_rotated", "enlarged", "complexity_undefined"]
NUMBERS = ["complexity", "vulnerability", "anomaly_score_i", "noise_floor", "restart_spread"]


def flat(fields, prefix=""):
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def fingerprint(settings):
    """As the documentation of `Settings::fingerprint` says. Python and Rust write floats below 1e-4 differently."""
    deciding = {k: v for k, v in settings.items() if k not in RECORDED_ONLY}
    text = json.dumps(dict(flat(deciding)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(TAG + text.encode()).hexdigest()


def made_row(i):
    """`row(i)` of crates/anomaly-score/src/table/tests/mod.rs."""
    h = hashlib.sha256(struct.pack("<I", i)).digest()
    present = lambda k: h[k] / 7.0 if h[k] % 5 else None
    numbers = [present(0), h[1] / 7.0, present(2), present(3), None]
    return {
        "path": f"photos/{i:04}.png",
        "content_hash": h.hex(),
        "width": 16 + i,
        "height": 32,
        **dict(zip(NUMBERS, numbers)),
        **{name: h[4 + k] % 2 == 0 for k, name in enumerate(FLAGS)},
    }, h[16:20]


def show(path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    table = file.read()
    table.validate(full=True)
    print(table.schema.to_string(show_schema_metadata=False))
    metadata = {k.decode(): v.decode() for k, v in file.metadata.metadata.items() if k.startswith(b"anomaly_score")}
    for key, value in metadata.items():
        print(f"{key}: {value}")
    settings = json.loads(metadata["anomaly_score.settings"])
    for key, value in {
        "version": settings["tool_version"],
        "protocol": settings["protocol"]["name"],
        "backbone": settings["backbone"]["name"],
        "weights_sha256": settings["backbone"]["weights_sha256"],
        "resampler": settings["resampler"],
        "seed": str(settings["seed"]),
        # Older tables do not say.
        "arithmetic": settings.get("arithmetic"),
    }.items():
        assert metadata.get(f"anomaly_score.{key}") == value, key
    json.loads(metadata["anomaly_score.skipped"])

    d = settings["backbone"]["feature_dim"]
    feature = table.schema.field("feature").type
    assert pa.types.is_fixed_size_list(feature) and feature.list_size == d and feature.value_type == pa.float32()
    names = ["path", "content_hash", "width", "height", *NUMBERS, *FLAGS, "feature"]
    assert table.column_names == names, table.column_names
    assert all(table.column(n).null_count == 0 for n in names if n not in NUMBERS)
    paths = [p.encode() for p in table.column("path").to_pylist()]
    assert paths == sorted(set(paths)), "paths are not unique and in byte order"
    for name in NUMBERS:
        assert all(v is None or v == v for v in table.column(name).to_pylist()), f"NaN in {name}"
    for i in range(file.metadata.num_columns):
        if file.metadata.num_row_groups:
            column = file.metadata.row_group(0).column(i)
            assert column.compression == "UNCOMPRESSED" and not column.has_dictionary_page
    print(f"fingerprint: {fingerprint(settings)}")
    print(f"{table.num_rows} rows in {file.metadata.num_row_groups} row groups: in order")
    return table


def made(path):
    import numpy as np

    table = show(path)
    scalars = table.drop_columns(["feature"]).to_pylist()
    features = np.array(table.column("feature").combine_chunks().flatten()).reshape(table.num_rows, -1)
    for i, found in enumerate(scalars):
        expected, tail = made_row(i)
        assert found == expected, (found, expected)
        bytes_f32 = np.frombuffer(tail, np.uint8).astype(np.float32)
        assert (features[i] == bytes_f32 / np.float32(3) - np.float32(40)).all(), i
    print("every value is the one it was made as")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["fingerprint"]:
            print(fingerprint(TEST_SETTINGS))
        case ["show", path]:
            show(path)
        case ["made", path]:
            made(path)
        case _:
            sys.exit(__doc__)
