"""Images and sounds, decoded and resized by worker processes ahead of the models, in the manifest's order.

The models find a batch waiting while they work on the one before. What a sample's arrays hold depends on its row
alone, so the number of workers changes nothing but the time.
"""

import logging
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from taco.data import media
from taco.data.media import MediaError

log = logging.getLogger("taco")

Item, Result = TypeVar("Item"), TypeVar("Result")

BATCHES_AHEAD = 2  # of each worker
MOST_WORKERS = 8  # each prepares some 30 images a second: more than the models of any card take
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Preparation:
    """What the models want of an image and a sound.

    Attributes
    ----------
    image_size : int
        Side in pixels.
    modes : sequence of {"fcclip", "openclip"}
        Preparations of the image, see `taco.data.media.resize`; none leaves the image unread.
    hearing : taco.data.media.Hearing
        Of the sound.
    """

    image_size: int
    modes: Sequence[str]
    hearing: media.Hearing

    @property
    def bytes_per_sample(self) -> int:
        """Size of a sample's arrays."""
        pixels = 3 * self.image_size**2
        return sum(pixels * (4 if mode == "fcclip" else 1) for mode in self.modes) + 4 * self.hearing.window


class Samples(Dataset):
    """A manifest's samples as arrays: one per image preparation, by its mode, and ``wave``.

    Parameters
    ----------
    frame : DataFrame
        Manifest rows.
    name : str
        Dataset; part of the key from which a random crop is drawn.
    how : Preparation
    """

    def __init__(self, frame: pd.DataFrame, name: str, how: Preparation):
        columns = ("image", "audio", "start", "duration", "sample_id")
        self.rows = frame[list(columns)].to_dict("records")
        self.name = name
        self.how = how

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, np.ndarray] | MediaError:
        """One sample; a file that cannot be used is returned as its error, which names it.

        (Raised in a worker, it would arrive as another type, with a traceback for its message.)
        """
        try:
            return self._read(self.rows[index])
        except MediaError as error:
            return error

    def _read(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        how = self.how
        pixels = media.read_image(row["image"]) if how.modes else None
        arrays = {mode: media.resize(pixels, how.image_size, mode) for mode in how.modes}
        arrays["wave"] = how.hearing.hear(row, self.name)
        return arrays


def _stack(samples: Sequence[dict[str, np.ndarray] | MediaError]) -> dict[str, Tensor] | MediaError:
    """Stack samples to a batch, or the first one's error."""
    for sample in samples:
        if isinstance(sample, MediaError):
            return sample
    return {key: torch.from_numpy(np.stack([s[key] for s in samples])) for key in samples[0]}


def batches(
    frame: pd.DataFrame, name: str, how: Preparation, batch_size: int, *, workers: int = 0, pin: bool = False
) -> Iterator[dict[str, Tensor]]:
    """Yield a manifest's samples in batches, in order, read ahead by worker processes.

    Parameters
    ----------
    frame, name, how
        See `Samples`.
    batch_size : int
    workers : int
        0 reads in this process when a batch is asked for.
    pin : bool
        Into page-locked memory, from which a GPU copies while it computes.

    Yields
    ------
    dict of Tensor
        ``wave`` float32 [B, window] and an array [B, 3, S, S] for each mode, float32 or uint8.

    Raises
    ------
    MediaError
        For the first file, in the order of the samples, that cannot be used.
    """
    ahead: dict[str, Any] = {"num_workers": workers, "prefetch_factor": BATCHES_AHEAD} if workers else {}
    loader = DataLoader(
        Samples(frame, name, how),
        batch_size,
        collate_fn=_stack,
        pin_memory=pin,
        # Its own: the loader draws its workers' seeds, and the global generator is not ours to advance.
        generator=torch.Generator(),
        **ahead,
    )
    for batch in loader:
        if isinstance(batch, MediaError):
            raise batch
        yield batch


def ahead(
    work: Callable[[Item], Result], items: Iterable[Item], count: int = 2, *, threads: int = 1
) -> Iterator[Result]:
    """Yield ``work(item)`` in order, done in threads that are at most ``count`` items ahead of the caller.

    For reading caches and images while models or a GPU compute: decompression, checksums and decoding leave other
    threads alone. The count bounds the memory. An error of an item is raised where its result would have been.
    """
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def workers_for(threads: int, how: Preparation, batch_size: int) -> int:
    """Number of workers of a job: its threads but the one that drives the models, as many as shared memory feeds.

    Batches come through shared memory, of which containers may have little; a worker that finds none left dies.

    Parameters
    ----------
    threads : int
        Of the job. One thread: no worker, as starting it would cost more than it saves.
    how : Preparation
    batch_size : int
    """
    wanted = min(threads - 1, MOST_WORKERS)
    if wanted <= 0 or not SHARED_MEMORY.is_dir():
        return max(wanted, 0)
    free = shutil.disk_usage(SHARED_MEMORY).free
    fitting = int(free // (how.bytes_per_sample * batch_size * (BATCHES_AHEAD + 1)))
    if fitting < wanted:
        log.warning(
            "%s has %.0f MB free, enough for %d of %d reading processes: give it more (docker --shm-size) to read faster",
            SHARED_MEMORY,
            free / 1e6,
            fitting,
            wanted,
        )
    return min(wanted, fitting)
