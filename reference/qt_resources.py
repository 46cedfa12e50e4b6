"""Read the files packed in a Qt binary resource (.rcc), uncompressed or zlib.

The GCompris photographs reach us only inside such containers, so their
provenance can be checked against the Debian package without Qt installed.
Layout: Qt's `rcc` tool, `RCCResourceLibrary` (header "qres", big-endian
version, tree, data and names offsets; the root is entry 0 of the tree).
"""

import struct
import zlib

COMPRESSED_ZLIB = 1
DIRECTORY = 2


def read_rcc(data):
    """Map of resource path (no leading slash) to file bytes.

    Raises ValueError on anything that is not an .rcc of version 1 to 3, and on
    zstd entries, which the packages used here do not contain.
    """
    if data[:4] != b"qres":
        raise ValueError("not a Qt resource file: magic is %r, expected b'qres'" % data[:4])
    version, tree, payload, names = struct.unpack(">4I", data[4:20])
    if version not in (1, 2, 3):
        raise ValueError("Qt resource version %d, expected 1 to 3" % version)
    # Versions from 2 on append a 64-bit modification time to every entry.
    entry_bytes = 14 if version == 1 else 22

    def name_at(offset):
        start = names + offset
        (units,) = struct.unpack(">H", data[start : start + 2])
        # Two bytes of length, four of hash, then UTF-16.
        return data[start + 6 : start + 6 + 2 * units].decode("utf-16-be")

    files = {}
    pending = [(0, "")]
    while pending:
        index, parent = pending.pop()
        start = tree + index * entry_bytes
        name_offset, flags = struct.unpack(">IH", data[start : start + 6])
        path = "" if index == 0 else (parent + "/" + name_at(name_offset)).lstrip("/")
        if flags & DIRECTORY:
            count, first = struct.unpack(">II", data[start + 6 : start + 14])
            pending.extend((first + i, path) for i in range(count))
            continue
        (offset,) = struct.unpack(">I", data[start + 10 : start + 14])
        (size,) = struct.unpack(">I", data[payload + offset : payload + offset + 4])
        body = data[payload + offset + 4 : payload + offset + 4 + size]
        if flags & COMPRESSED_ZLIB:
            # qCompress puts the uncompressed length before the zlib stream.
            body = zlib.decompress(body[4:])
        elif flags:
            raise ValueError("%s: unsupported compression flags %d" % (path, flags))
        files[path] = body
    return files
