"""PNG files written by hand, of depths and kinds that no library writes."""

import struct
import zlib

import numpy as np

GREY, COLOURS, PALETTE, GREY_ALPHA, COLOURS_ALPHA = 0, 2, 3, 4, 6


def png(values, depth, kind, palette=None, transparency=None):
    """A PNG written by hand: values [H, W] or [H, W, channels] of `depth` bits."""
    values = np.atleast_3d(np.asarray(values)).astype(np.uint16)
    height, width, channels = values.shape
    bits = (values[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    rows = np.packbits(bits.reshape(height, width * channels * depth).astype(np.uint8), axis=1)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head)]
    parts += [chunk(b"PLTE", bytes(palette))] if palette is not None else []
    parts += [chunk(b"tRNS", bytes(transparency))] if transparency is not None else []
    parts += [
        chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))),
        chunk(b"IEND", b""),
    ]
    return b"".join(parts)
