"""How a cache's arrays lie on disk: compression filters, and numbers in fewer bits.

Which filter is used is a choice by measurement (`taco bench caches`), kept here as data.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import hdf5plugin
import numpy as np

# Arguments of h5py's create_dataset, by name; all are lossless.
COMPRESSIONS: dict[str, Mapping[str, Any]] = {
    "none": {},
    "gzip, shuffle": {"compression": "gzip", "compression_opts": 4, "shuffle": True},
    "lzf, shuffle": {"compression": "lzf", "shuffle": True},
    "zstd": hdf5plugin.Zstd(clevel=3),
    "zstd, shuffle": {**hdf5plugin.Zstd(clevel=3), "shuffle": True},
    "bitshuffle, lz4": hdf5plugin.Bitshuffle(cname="lz4"),
    "bitshuffle, zstd": hdf5plugin.Bitshuffle(cname="zstd", clevel=3),
    "blosc, zstd, bitshuffle": hdf5plugin.Blosc(cname="zstd", clevel=3, shuffle=hdf5plugin.Blosc.BITSHUFFLE),
    "blosc2, zstd, shuffle": hdf5plugin.Blosc2(cname="zstd", clevel=3, filters=hdf5plugin.Blosc2.SHUFFLE),
    "blosc2, zstd, bitshuffle": hdf5plugin.Blosc2(
        cname="zstd", clevel=3, filters=hdf5plugin.Blosc2.BITSHUFFLE
    ),
}
COMPRESSION = "blosc, zstd, bitshuffle"


@dataclass(frozen=True)
class Quantised:
    """Numbers as 256 even steps from -bound to bound; what lies beyond is clipped, signs are kept.

    Attributes
    ----------
    bound : float
    """

    bound: float

    def encode(self, array: np.ndarray) -> np.ndarray:
        """Round to the nearest step: uint8, of the same shape."""
        values = np.clip(np.asarray(array, dtype=np.float32), -self.bound, self.bound)
        return np.rint((values + self.bound) * (255 / (2 * self.bound))).astype(np.uint8)

    def decode(self, array: np.ndarray) -> np.ndarray:
        """Values of the steps: float16, of the same shape; off by at most bound / 255 within the bound."""
        steps = (np.arange(256) * (2 * self.bound / 255) - self.bound).astype(np.float16)
        return steps[array]


# Of mask logits, by the configuration's `features.proposals`. Beyond ±8 a sigmoid is within 0.0004 of 0 or 1.
STORAGES: dict[str, Quantised | None] = {"float16": None, "uint8": Quantised(8.0)}
