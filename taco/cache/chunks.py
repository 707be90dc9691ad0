"""One sample's array as the bytes of an HDF5 chunk, made and read outside HDF5.

HDF5 runs its filters one after another under a lock. The same bytes made beside it (shuffle, then one Zstandard frame,
what `filters` declares) can be made by many threads; h5py with hdf5plugin reads them like any others.
"""

from collections.abc import Mapping
from typing import Any

import hdf5plugin
import numpy as np
import xxhash
import zstandard

# Level 3 makes single bytes a fifth smaller than level 1 for three times the time, wider numbers no smaller
# (`taco bench caches`).
LEVEL, LEVEL_OF_BYTES = 1, 3
CHECKSUM = "xxh3_128"
CHECKSUM_BYTES = 16


def level_of(dtype: np.dtype) -> int:
    """Level of compression for numbers of a type."""
    return LEVEL_OF_BYTES if dtype.itemsize == 1 else LEVEL


def filters(dtype: np.dtype) -> Mapping[str, Any]:
    """Arguments of h5py's ``create_dataset`` that declare what `pack` does."""
    return {**hdf5plugin.Zstd(clevel=level_of(dtype)), "shuffle": True}


def packable(array: np.ndarray) -> bool:
    """Whether an array is stored this way: numbers with at least one axis and value."""
    return bool(array.ndim and array.size) and array.dtype.kind in "biuf"


def pack(array: np.ndarray) -> bytes:
    """Shuffle and compress a contiguous array."""
    return zstandard.ZstdCompressor(level=level_of(array.dtype)).compress(shuffle(array))


def unpack(data: bytes, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Array of `pack`; raises `ValueError` where the bytes are none."""
    expected = int(np.prod(shape)) * dtype.itemsize
    try:
        found = zstandard.frame_content_size(data)
        if found != expected:
            raise ValueError(f"{found} bytes in place of {expected}")
        return unshuffle(zstandard.ZstdDecompressor().decompress(data), dtype, shape)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


def shuffle(array: np.ndarray) -> np.ndarray:
    """First bytes of all numbers, then all second bytes, and so on: uint8, flat."""
    width = array.dtype.itemsize
    values = array.reshape(-1).view(f"<u{width}")
    if width == 1:
        return values
    rows = np.empty((width, values.size), np.uint8)
    for byte, row in enumerate(rows):
        np.right_shift(values, 8 * byte, out=row, casting="unsafe")
    return rows.reshape(-1)


def unshuffle(data: bytes, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Inverse of `shuffle`."""
    if dtype.itemsize == 1:
        return np.frombuffer(data, dtype).reshape(shape).copy()
    rows = np.frombuffer(data, np.uint8).reshape(dtype.itemsize, -1)
    values = np.empty((rows.shape[1], dtype.itemsize), np.uint8)
    for byte, row in enumerate(rows):
        values[:, byte] = row
    return values.view(dtype).reshape(shape)


def checksum(array: np.ndarray) -> bytes:
    """XXH3 (128 bits) of a contiguous array's bytes: against damage, not against forgery; 10 GB a second."""
    return xxhash.xxh3_128(array.reshape(-1).view(np.uint8).data).digest()
