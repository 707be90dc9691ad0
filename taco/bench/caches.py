"""``taco bench caches``: size and speed of the caches for full-size samples, by storage and number of threads.

Content is synthetic but shaped like the real thing; what was measured and chosen is in :data:`CACHE_NOTES`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import torch
import zstandard
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from taco.bench import measure
from taco.cache import chunks
from taco.cache.hdf5 import CacheWriter, open_cache
from taco.cache.storage import STORAGES
from taco.data.reading import ahead
from taco.models import fcclip

CACHE_NOTES = """\
Full-size samples on 2 cores shared with a score of others: processor time, not the clock's. Raw masks are 18.4 MB, embeddings 1.54, tokens
0.99. Six samples each, in one run:
- HDF5's own filters (shuffle, zstd 3) on one thread with SHA-256, as before: 162 ms to write, 99 to read, 12.9 MB.
- taco.cache, float16 (zstd 1, XXH3, outside HDF5): 95 and 57 ms, 12.9 MB; of 11,520 frames 149 GB.
- uint8 (zstd 3): 202 and 78 ms, 6.5 MB; 75 GB. Even steps between -8 and 8 take less but change 28 to 40 % of the arg-max pixels of the
  miniature suite's trained proposals; logarithmic steps to +-32, knee 2: 0.6 %, a stretched map by 0.012 at its worst pixel.
- none (tokens alone): 8 and 5 ms, 0.55 MB; 6.3 GB. It is the only way below 60 GB, hence the paper suite's.
- Pieces, float16, of a quiet core: zstd 1 35 ms for 11.04 MB, zstd 3 42 for 10.97, back 14; shuffle 6, back 8 to 10; encoding as bytes 24,
  decoding 13 by pairs (30 by single bytes); of bytes zstd 1 37 ms for 5.84 MB, zstd 2 53 for 4.89, zstd 3 98 for 4.60.
- Checksums of 18.4 MB: XXH3 (128 bits) 1.8 ms, BLAKE3 3.9, CRC32C 3.8, SHA-256 13.0. A look for numbers that are not finite: numpy.isfinite
  16.8, by bits 5.4, least and greatest (torch) 2.8.
- On a 16-core machine, before this code was written, the same design on 8 threads: float16 12.4 ms to write and 7.6 to read, uint8 16.8
  and 7.8; zstd's own threads within a frame, blosc and bitshuffle gained nothing over it. This code on 8 threads has not been timed.
"""

PAPER_FRAMES = 11_520  # S4 3,700, MS3 320, AVSS 7,500
MOST_THREADS = 8
PLAIN = "HDF5 filters, SHA-256"  # as before
DISTINCT = 4  # samples drawn; more are these again


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
    """One way to keep proposals, a sample on average; ``cpu`` times are of all threads.

    ``write_ratio`` and ``read_ratio`` are the plain way's times over this one's, by the clock, in the same run.
    """

    way: str
    storage: str
    threads: int
    samples: int
    masks_mb: float
    embeddings_mb: float
    tokens_mb: float
    write_ms: float
    write_cpu_ms: float
    read_ms: float
    read_cpu_ms: float
    suite_gb: float
    write_ratio: float | None = None
    read_ratio: float | None = None


COLUMNS = {
    "masks": "masks_mb",
    "class_embeddings": "embeddings_mb",
    "pooled": "embeddings_mb",
    "image_tokens": "tokens_mb",
    "audio_tokens": "tokens_mb",
    "clap_embedding": "tokens_mb",
}
TOKENS = ("image_tokens", "audio_tokens", "clap_embedding")


def caches(
    *,
    samples: int = 16,
    threads: Sequence[int] | None = None,
    sizes: Sizes | None = None,
    folder: Path | None = None,
    say: measure.Say = print,
) -> dict:
    """Write and read caches of synthetic full-size samples, through `taco.cache.hdf5` and through plain HDF5.

    Files are read right after they are written, so the page cache serves them: the rates are the processor's, checksums
    included, and no disk's.

    Parameters
    ----------
    samples : int
    threads : sequence of int, optional
        1, 2, 4, 8, as many as there are cores.
    sizes : Sizes, optional
        The paper's by default.
    folder : path, optional
        Where the files lie while they are needed.
    say : callable
        Prints a line of progress.

    Returns
    -------
    dict
        ``cores``, ``raw_mb``, ``rows``, ``pieces``, ``maps``.
    """
    sizes = sizes or Sizes()
    cores = len(os.sched_getaffinity(0))
    threads = threads or [count for count in (1, 2, 4, MOST_THREADS) if count <= cores]
    drawn = [sample(index, sizes) for index in range(min(samples, DISTINCT))]
    given = [drawn[index % len(drawn)] for index in range(samples)]
    rows = [_row(PLAIN, "float16", 1, given, folder, None, say)]
    for storage in (*STORAGES, "none"):
        for count in threads:
            rows.append(_row("taco.cache", storage, count, given, folder, rows[0], say))
    return {
        "cores": cores,
        "raw_mb": {name: array.nbytes / 1e6 for name, array in given[0].items()},
        "rows": [asdict(row) for row in rows],
        "pieces": pieces(given[0]["masks"]),
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


def _row(
    way: str,
    storage: str,
    threads: int,
    given: Sequence[Mapping[str, np.ndarray]],
    folder: Path | None,
    plain: Row | None,
    say: measure.Say,
) -> Row:
    """Write samples, read them back, and compare the times with those of the plain way."""
    names = TOKENS if storage == "none" else tuple(COLUMNS)
    count = len(given)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        path = Path(scratch, "cache.h5")
        write, read = (_plain_write, _plain_read) if way == PLAIN else (_write, _read)
        writing, reading = _Clock(), _Clock()
        writing.time(lambda: write(path, given, names, storage, threads))
        stored = reading.time(lambda: read(path, count, names, threads))
    sizes = dict.fromkeys(("masks_mb", "embeddings_mb", "tokens_mb"), 0.0)
    for name, size in stored.items():
        sizes[COLUMNS[name]] += size / count / 1e6
    row = Row(
        way,
        storage,
        threads,
        count,
        **sizes,
        **writing.of("write", count),
        **reading.of("read", count),
        suite_gb=sum(sizes.values()) * PAPER_FRAMES / 1e3,
    )
    if plain is not None:
        row.write_ratio, row.read_ratio = plain.write_ms / row.write_ms, plain.read_ms / row.read_ms
    say(f"{way}, {storage}, {threads} threads: {row.write_ms:.4g} ms to write, {row.read_ms:.4g} to read")
    return row


def _write(
    path: Path,
    given: Sequence[Mapping[str, np.ndarray]],
    names: Sequence[str],
    storage: str,
    threads: int,
) -> None:
    ids = [str(index) for index in range(len(given))]
    kept = {"masks": storage} if "masks" in names else {}
    with CacheWriter(path, "proposals", ids, {}, storage=kept, threads=threads) as writer:
        for index, arrays in enumerate(given):
            for name in names:
                writer.put(name, index, arrays[name])


def _read(path: Path, count: int, names: Sequence[str], threads: int) -> dict[str, int]:
    """Read all samples as the scores do; bytes on disk of each name."""
    with open_cache(path, "proposals") as cache:

        def one(index: int) -> list[np.ndarray]:
            return [cache[name][index] for name in names]

        for _ in ahead(one, range(count), threads + 1, threads=threads):
            pass
        return {name: cache[name].stored_bytes for name in names}


def _plain_write(
    path: Path, given: Sequence[Mapping[str, np.ndarray]], names: Sequence[str], storage: str, threads: int
) -> None:
    """As caches were written before: HDF5's own filters on one thread, SHA-256 of a copy, a check for finite numbers."""
    with h5py.File(path, "w", locking=False) as file:
        for index, arrays in enumerate(given):
            for name in names:
                array = arrays[name]
                if not index:
                    shape = (len(given), *array.shape)
                    how = {"chunks": (1, *array.shape), **hdf5plugin.Zstd(clevel=3), "shuffle": True}
                    file.create_dataset(name, shape=shape, dtype=array.dtype, **how)
                if not np.isfinite(array).all():
                    raise FloatingPointError(name)
                file[name][index] = array
                hashlib.sha256(array.tobytes()).digest()


def _plain_read(path: Path, count: int, names: Sequence[str], threads: int) -> dict[str, int]:
    with h5py.File(path, "r", locking=False) as file:
        for index in range(count):
            for name in names:
                hashlib.sha256(file[name][index].tobytes()).digest()
        return {name: file[name].id.get_storage_size() for name in names}


class _Clock:
    """Wall and processor seconds of the calls that it times."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def time(self, work: Callable[[], Any]) -> Any:
        result: list[Any] = []
        wall, cpu = measure.spent(lambda: result.append(work()), "cpu")
        self.wall, self.cpu = self.wall + wall, self.cpu + cpu
        return result[0]

    def of(self, what: str, count: int) -> dict[str, float]:
        """Milliseconds a unit, as columns of a row."""
        return {f"{what}_ms": 1e3 * self.wall / count, f"{what}_cpu_ms": 1e3 * self.cpu / count}


def pieces(masks: np.ndarray) -> list[dict[str, Any]]:
    """Processor time of each piece of the work on one sample's masks, on one thread, and the bytes that it makes."""
    found = []

    def note(piece: str, work: Callable[[], Any]) -> Any:
        clocks = [_Clock() for _ in range(3)]
        result = [clock.time(work) for clock in clocks][-1]
        size = result.nbytes / 1e6 if isinstance(result, np.ndarray) else None
        size = len(result) / 1e6 if isinstance(result, bytes) and len(result) > 64 else size
        found.append({"piece": piece, "cpu_ms": 1e3 * min(clock.cpu for clock in clocks), "mb": size})
        return result

    logarithmic = STORAGES["uint8"]
    logits = torch.from_numpy(masks)
    note("SHA-256", lambda: hashlib.sha256(masks.data).digest())
    note("XXH3", lambda: chunks.checksum(masks))
    note("finite, numpy.isfinite", lambda: bool(np.isfinite(masks).all()))
    note("finite, least and greatest", lambda: logits.aminmax())
    encoded = note("encode uint8", lambda: logarithmic.encode(masks))
    note("decode uint8", lambda: logarithmic.decode(encoded))
    for name, array in (("float16", masks), ("uint8", encoded)):
        rows = note(f"shuffle {name}", lambda array=array: chunks.shuffle(array))
        flat = rows.tobytes()
        note(f"unshuffle {name}", lambda f=flat, a=array: chunks.unshuffle(f, a.dtype, a.shape))
        for level in (1, 2, 3):
            compress = zstandard.ZstdCompressor(level=level).compress
            packed = note(f"zstd {level} of {name}", lambda r=rows, c=compress: c(r))
            note(f"unzstd {level} of {name}", lambda p=packed: zstandard.ZstdDecompressor().decompress(p))
    return found


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


def tables(report: Mapping) -> Iterator[Table | str]:
    """Lay out a report of `caches` for printing."""
    columns = {
        "way": "way",
        "masks": "storage",
        "T": "threads",
        "mask MB": "masks_mb",
        "emb. MB": "embeddings_mb",
        "token MB": "tokens_mb",
        "write": "write_ms",
        "cpu": "write_cpu_ms",
        "x": "write_ratio",
        "read": "read_ms",
        "cpu ": "read_cpu_ms",
        "x ": "read_ratio",
        "suite GB": "suite_gb",
    }
    title = f"Caches: ms and MB a sample, T threads, x: plain over this; GB of {PAPER_FRAMES:,} frames (S4, MS3, AVSS)"
    yield measure.table(title, columns, report["rows"])
    yield ("masks none: proposals are made again from the image; `taco bench pipeline` times that.")
    pieces = {"piece": "piece", "cpu ms": "cpu_ms", "MB": "mb"}
    yield measure.table("Pieces, one thread, masks of a sample", pieces, report["pieces"])
    maps = {"arg-max changed": "changed", "largest difference": "largest", "mean difference": "mean"}
    yield measure.table("Maps of uint8 against float16", maps, report["maps"])
