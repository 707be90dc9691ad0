"""What keeping features, proposals and factors takes in time and space, and what making proposals again takes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from taco.bench.measure import Stopwatch
from taco.cache.hdf5 import Cache, CacheWriter, open_cache
from taco.cache.storage import STORAGES
from taco.conmf import Result
from taco.method import factorize, features, proposals
from taco.models import fcclip


def time_caches(
    watch: Stopwatch,
    folder: Path,
    made: Mapping[str, Mapping[str, np.ndarray]],
    device: torch.device,
    threads: int,
) -> dict[str, float]:
    """Time writing and reading proposals in every storage; megabytes of a sample by storage, and of its tokens."""
    count = len(made["features"]["grid"])
    ids = [str(index) for index in range(count)]
    sizes = {}

    def write(path: Path, columns: Mapping[str, np.ndarray], storage: Mapping[str, str]) -> None:
        with CacheWriter(path, "proposals", ids, {}, storage=storage, threads=threads) as writer:
            for name, values in columns.items():
                for index, value in enumerate(values):
                    writer.put(name, index, value)

    for storage in STORAGES:
        path, how = folder / f"{storage}.h5", {"masks": storage}
        watch.time(f"cache write, {storage}", lambda p=path, h=how: write(p, made["proposals"], h), count)
        with open_cache(path, "proposals") as cache:
            kept = proposals.Kept(cache, device, threads)
            watch.time(f"cache read, {storage}", lambda kept=kept: sum(1 for _ in kept.of(ids)), count)
            sizes[storage] = _megabytes(cache)
    path = folder / "tokens.h5"
    watch.time("cache write, tokens", lambda: write(path, made["features"], {}), count)
    with open_cache(path, "proposals") as cache:
        sizes["tokens"] = _megabytes(cache)
    return sizes


def _megabytes(cache: Cache) -> float:
    """Of a sample on disk."""
    return sum(cache[name].stored_bytes for name in cache) / len(cache.sample_ids) / 1e6


class _Loaded(proposals.Proposer):
    """A proposer whose models are there already."""

    def __init__(self, models: features.Models):
        self.device, self.image_size = models.clip.device, models.clip.image_size
        self.models = (models.clip, models.fcclip)


def time_again(
    watch: Stopwatch,
    folder: Path,
    frame: pd.DataFrame,
    models: features.Models,
    how: features.Extraction,
    threads: int,
) -> fcclip.Proposals:
    """Time proposals that are not kept, from the image; return those of the first sample."""
    ids = frame["sample_id"].tolist()
    with CacheWriter(folder / "none.h5", "proposals", ids, how.attributes()):
        pass
    with open_cache(folder / "none.h5", "proposals") as cache:
        remade = proposals.Remade(cache, frame, _Loaded(models), threads)
        found = watch.time("proposals again, from the image", lambda: list(remade.of(ids)), len(ids))
    return found[0]


def factors_mb(folder: Path, result: Result) -> float:
    """Megabytes on disk of one sample's factors with one seed."""
    ids = [str(index) for index in range(result.image_factors.shape[1])]
    factorize.write(folder / "factors.h5", ids, result, {})
    with open_cache(folder / "factors.h5", "factors") as cache:
        return _megabytes(cache)
