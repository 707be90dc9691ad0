"""``taco bench caches``: size and speed of the caches for full-size samples, by storage and compression.

Content is synthetic but shaped like the real thing; what was measured and chosen is in :data:`CACHE_NOTES`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from taco.bench import measure
from taco.cache.hdf5 import Cache, CacheWriter, open_cache
from taco.cache.storage import COMPRESSION, COMPRESSIONS, STORAGES
from taco.models import fcclip

CACHE_NOTES = """\
Full-size samples, 2 cores shared with others: processor time, not the clock's. Checksum and decoding included. Six samples each:
- float16 masks, raw 18.4 MB: zstd behind shuffle 11.0 MB, 99 ms to write, 50 to read; gzip 10.9, 443, 63; blosc2-zstd 10.9, 175, 52;
  blosc-zstd behind bitshuffle (used before) 11.5, 120, 51; zstd alone 14.4, 217, 56; none 18.4, 42, 22; (eight) lzf 12.7, 224, 104;
  bitshuffle-lz4 12.6, 66, 38. Tokens and embeddings are smallest with shuffle and zstd too. Level 1 of zstd saves a tenth of the
  time on float16 and costs a quarter of the size on uint8. Chosen: "zstd, shuffle".
- uint8, raw 9.2 MB: 4.6 MB, 136 ms, 43 ms; 1,000 samples: 4.65 MB, 146 ms, 53 ms. AVSS (7,500 frames) whole, embeddings and tokens
  (1.32 and 0.58 MB) included: 97 GB as float16, 49 GB as uint8.
- Even steps between -8 and 8 (the first uint8) take 1.85 MB and change 0.3 % of arg-max pixels of these samples, but the trained
  proposals of the miniature suite leave half of the pixels to no mask at all: there 28 % (avss) and 40 % (s4) of the arg-max pixels
  change, and a stretched map by 0.3 at its worst pixel (means over 20 samples), because edges are clipped before they are
  upsampled. Even steps between +-16: 7 and 24 %, 0.035 and 0.06; +-32: 0.5 and 0.6 %, 0.018 and 0.020. Logarithmic steps to +-32,
  knee 2: 0.6 and 0.7 %, 0.012 and 0.012, IoU of maps cut at half 0.999. Chosen: the last.
- Reading, 43 to 50 ms on one core, is ahead of the decoding of one image with nine runs at 4 ms each and their scores, when a thread
  does it meanwhile (`taco.data.reading.ahead`): HDF5, zstd and SHA-256 release the interpreter's lock.
"""


@dataclass(frozen=True)
class Sizes:
    """Shapes of a sample: Q masks of side ``side``, N image tokens and T audio tokens of width C, D of CLAP."""

    queries: int = 250
    side: int = 192
    n: int = 576
    t: int = 64
    width: int = 768
    d: int = 1024


@dataclass
class Row:
    """One storage and compression, a sample on average; ``cpu`` times are of all threads, decompression's too."""

    storage: str
    compression: str
    samples: int
    masks_mb: float
    embeddings_mb: float
    tokens_mb: float
    write_ms: float
    write_cpu_ms: float
    read_ms: float
    read_cpu_ms: float
    avss_gb: float


AVSS_FRAMES = 7500
DATASETS = {
    "proposals": {"masks": "masks_mb", "class_embeddings": "embeddings_mb", "pooled": "embeddings_mb"},
    "features": {"image_tokens": "tokens_mb", "audio_tokens": "tokens_mb", "clap_embedding": "embeddings_mb"},
}


def caches(
    *,
    samples: int = 1000,
    others: int = 10,
    compressions: Sequence[str] = tuple(COMPRESSIONS),
    storages: Sequence[str] = tuple(STORAGES),
    sizes: Sizes | None = None,
    folder: Path | None = None,
    say: measure.Say = print,
) -> dict:
    """Write and read caches of synthetic full-size samples; times are of writing and reading through `taco.cache.hdf5`.

    Files are read right after they are written, so the page cache serves them: the rates are the processor's, checksums
    included, and no disk's.

    Parameters
    ----------
    samples : int
        With the compression in use.
    others : int
        With every other one.
    compressions, storages : sequence of str
        Of `taco.cache.storage`.
    sizes : Sizes, optional
        The paper's by default.
    folder : path, optional
        Where the files lie while they are needed.
    say : callable
        Prints a line of progress.

    Returns
    -------
    dict
        ``raw_mb``, ``rows``, ``maps``.
    """
    sizes = sizes or Sizes()
    rows = []
    for storage in storages:
        for compression in compressions:
            count = samples if compression == COMPRESSION else others
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                rows.append(_time(Path(scratch), count, sizes, storage, compression))
            say(f"{storage}, {compression}: {rows[-1].masks_mb:.2f} MB of masks a sample")
    return {
        "raw_mb": {name: array.nbytes / 1e6 for name, array in sample(0, sizes).items()},
        "rows": [asdict(row) for row in rows],
        "maps": [map_effect(index, sizes) for index in range(3)],
    }


def sample(index: int, sizes: Sizes) -> dict[str, np.ndarray]:
    """Draw a sample's arrays, as `taco.method.features` would cache them.

    Mask logits are what a Mask2Former makes, query times pixel features, from smooth features with texture down to
    single pixels; their mean and deviation (-14, 7.4) are those of the miniature suite's trained proposals, whose
    compressed size the same construction meets at their resolution (`tests/bench/test_caches.py`). Tokens are clamped
    sums of a few directions and noise.
    """
    g = torch.Generator().manual_seed(index)
    draw = {
        "masks": _logits(sizes, g).half(),
        "class_embeddings": torch.randn(sizes.queries, sizes.width, generator=g),
        "pooled": torch.randn(sizes.queries, sizes.width, generator=g),
        "image_tokens": _tokens(sizes.n, sizes.width, g).half(),
        "audio_tokens": _tokens(sizes.t, sizes.width, g).half(),
        "clap_embedding": torch.randn(sizes.d, generator=g),
    }
    return {name: tensor.numpy() for name, tensor in draw.items()}


def _logits(sizes: Sizes, g: torch.Generator) -> Tensor:
    """Mask logits [Q, side, side]."""
    fields = torch.zeros(1, 48, sizes.side, sizes.side)
    grid = 3
    while grid <= sizes.side:
        coarse = torch.randn(1, 48, grid, grid, generator=g)
        fields += F.interpolate(coarse, fields.shape[-2:], mode="bilinear", align_corners=False) / grid
        grid *= 2
    queries = torch.randn(sizes.queries, 48, generator=g)
    logits = (queries @ fields[0].flatten(1)).view(-1, sizes.side, sizes.side)
    return logits * (7.4 / logits.std()) - 14


def _tokens(count: int, width: int, g: torch.Generator) -> Tensor:
    """Non-negative tokens [count, width] near six directions."""
    directions = torch.randn(6, width, generator=g)
    owner = torch.randint(0, 6, (count,), generator=g)
    return (directions[owner] + 0.3 * torch.randn(count, width, generator=g)).clamp_(min=0)


def _time(folder: Path, count: int, sizes: Sizes, storage: str, compression: str) -> Row:
    """Write ``count`` samples to a proposals and a features file, and read them back."""
    ids = [str(index) for index in range(count)]
    clock = _Clock()
    how = {"storage": {"masks": storage}, "compression": compression}
    with (
        CacheWriter(folder / "proposals.h5", "proposals", ids, {}, **how) as proposals,
        CacheWriter(folder / "features.h5", "features", ids, {}, compression=compression) as features,
    ):
        writers = {"proposals": proposals, "features": features}
        for index in range(count):
            arrays = sample(index, sizes)
            clock.time(lambda arrays=arrays, index=index: _put(writers, arrays, index))
    reading = _Clock()
    stored = dict.fromkeys(("masks_mb", "embeddings_mb", "tokens_mb"), 0.0)
    for kind, columns in DATASETS.items():
        with open_cache(folder / f"{kind}.h5", kind) as cache:
            for index in range(count):
                reading.time(lambda cache=cache, columns=columns, index=index: _read(cache, columns, index))
            for name, column in columns.items():
                stored[column] += cache[name].stored_bytes / count / 1e6
    return Row(
        storage=storage,
        compression=compression,
        samples=count,
        **stored,
        write_ms=1e3 * clock.wall / count,
        write_cpu_ms=1e3 * clock.cpu / count,
        read_ms=1e3 * reading.wall / count,
        read_cpu_ms=1e3 * reading.cpu / count,
        avss_gb=sum(stored.values()) * AVSS_FRAMES / 1e3,
    )


def _put(writers: Mapping[str, CacheWriter], arrays: Mapping[str, np.ndarray], index: int) -> None:
    for kind, columns in DATASETS.items():
        for name in columns:
            writers[kind].put(name, index, arrays[name])


def _read(cache: Cache, names: Mapping[str, str], index: int) -> list[np.ndarray]:
    return [cache[name][index] for name in names]


class _Clock:
    """Wall and processor seconds of the calls that it times."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def time(self, work) -> None:
        wall, cpu = measure.spent(work, "cpu")
        self.wall, self.cpu = self.wall + wall, self.cpu + cpu


def map_effect(index: int, sizes: Sizes, prompts: int = 8) -> dict[str, float]:
    """Compare the final maps of one sample's proposals, stored as uint8, with those of float16.

    Returns
    -------
    dict
        ``changed``: share of pixels whose arg-max over the prompts differs; ``largest``: largest difference of a
        map's value once it is stretched to 0..1; ``mean``: mean of that difference.
    """
    g = torch.Generator().manual_seed(index)
    arrays = {name: torch.from_numpy(array)[None] for name, array in sample(index, sizes).items()}
    words = F.normalize(torch.randn(1, prompts, sizes.width, generator=g), dim=-1)
    # Each proposal resembles one of the prompts, more or less.
    owner = torch.randint(0, prompts, (sizes.queries,), generator=g)
    near = words[0, owner] + 0.1 * torch.randn(sizes.queries, sizes.width, generator=g)
    padded = 4 * sizes.side
    geometry = [(padded, padded, padded - 4, padded - 4)]
    ensemble = {"void": torch.randn(sizes.width, generator=g), "clip_scale": 100.0, "fcclip_scale": 100.0}
    maps = []
    for key in ("float16", "uint8"):
        storage, masks = STORAGES[key], arrays["masks"].numpy()
        masks = storage.decode(storage.encode(masks)) if storage else masks
        proposals = fcclip.Proposals(torch.from_numpy(masks).float(), near[None], near[None], geometry)
        found = fcclip.decode(proposals, words, **ensemble)[0]
        maps.append(found)
    low, high = (f(maps[0], dim=(-2, -1), keepdim=True) for f in (torch.amin, torch.amax))
    difference = ((maps[1] - maps[0]) / (high - low)).abs()
    return {
        "changed": float((maps[0].argmax(0) != maps[1].argmax(0)).float().mean()),
        "largest": float(difference.max()),
        "mean": float(difference.mean()),
    }


def tables(report: Mapping) -> Iterator[Table]:
    """Lay out a report of `caches` for printing."""
    columns = {
        "storage": "storage",
        "compression": "compression",
        "samples": "samples",
        "masks MB": "masks_mb",
        "embeddings MB": "embeddings_mb",
        "tokens MB": "tokens_mb",
        "write ms": "write_ms",
        "(cpu)": "write_cpu_ms",
        "read ms": "read_ms",
        "(cpu) ": "read_cpu_ms",
        "AVSS GB": "avss_gb",
    }
    yield measure.table("Caches, a sample", columns, report["rows"])
    maps = {"arg-max changed": "changed", "largest difference": "largest", "mean difference": "mean"}
    yield measure.table("Maps of uint8 against float16", maps, report["maps"])
