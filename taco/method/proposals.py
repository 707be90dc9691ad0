"""Mask proposals of samples, whichever way a suite keeps them: read from a cache, or made again from the image.

A file of proposals without masks (``features.proposals: none``) says how they were to be made. Made again on the same
device, in the batches of the file and rounded as a cache rounds them, they equal kept ones bit for bit: whoever reads
proposals need not know which of the two it was.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from taco.cache.hdf5 import Cache, open_cache
from taco.data import media, reading
from taco.models import fcclip
from taco.runtime import describe

if TYPE_CHECKING:
    from taco.models import clip

log = logging.getLogger("taco")

TENSORS = ("masks", "class_embeddings", "pooled")


class Reader(Protocol):
    """Proposals of a file's samples."""

    def of(self, samples: Iterable[str]) -> Iterator[fcclip.Proposals]:
        """Yield the proposals of each sample in turn, a batch of one on the reader's device, and work ahead.

        Samples in the file's order cost least: a batch that is made again is made once for all its samples.
        """


class Proposer:
    """The models that make proposals; loaded when first asked for, so that one serves many files.

    Parameters
    ----------
    specs : mapping
        The configuration's ``models``.
    device : torch.device
        Also that of proposals read from a cache.
    """

    def __init__(self, specs: Mapping[str, Mapping[str, Any]], device: torch.device):
        self.specs = {name: specs[name] for name in ("clip", "fcclip")}
        self.device = device
        self.image_size = self.specs["clip"]["image_size"]

    @cached_property
    def models(self) -> tuple["clip.FrozenCLIP", Any]:
        """CLIP, and FC-CLIP on top of it."""
        # It imports the models' libraries, which reading a cache can do without.
        from taco.method import features

        warn_on_cpu(self.device)
        return features.load_proposer(self.specs, self.device)

    @cached_property
    def digests(self) -> dict[str, str]:
        """Digests of the models, as caches record them."""
        from taco.method import features

        return features.model_digests(self.specs)

    def __call__(self, images: Tensor) -> fcclip.Proposals:
        """Propose on a batch of images [B, 3, S, S] as `taco.data.media.resize` gives them; masks are float16."""
        from taco.method import features

        tower, head = self.models
        with torch.no_grad():
            return features.checked(features.segment(tower.pyramid(tower.frame(images)), tower, head))


def warn_on_cpu(device: torch.device) -> None:
    """Warn where proposals that are not kept are made again on a CPU."""
    if device.type == "cpu":
        log.warning(
            "proposals are not kept, and made again on a CPU: some 20 s an image of full size in every job that needs "
            "them. `features.proposals: float16` or `uint8` keeps them"
        )


@contextmanager
def reader(
    path: str | Path,
    frame: pd.DataFrame,
    proposer: Proposer,
    expect: Mapping[str, Any] | None = None,
    *,
    threads: int = 1,
) -> Iterator[Reader]:
    """Open a file of proposals.

    Parameters
    ----------
    path : str or Path
        As the stage ``features`` writes it, with masks or without.
    frame : DataFrame
        Manifest rows of its samples, which name their images.
    proposer : Proposer
        Makes proposals where the file holds none; loads nothing otherwise.
    expect : mapping, optional
        See `taco.cache.hdf5.open_cache`.
    threads : int
        That read and decompress ahead of the caller.

    Yields
    ------
    Reader

    Raises
    ------
    taco.cache.hdf5.CacheError
        Also when the file was made by other models than the proposer's.
    """
    with open_cache(path, "proposals", expect) as cache:
        if "masks" in cache:
            yield Kept(cache, proposer.device, threads)
        else:
            # Only now: the digest of a model reads its weight file.
            cache.check(proposer.digests)
            yield Remade(cache, frame, proposer, threads)


class Kept:
    """Proposals that lie in a cache. See `Reader`."""

    def __init__(self, cache: Cache, device: torch.device, threads: int = 1):
        self._cache = cache
        self._device = device
        self._threads = min(threads, reading.MOST_WORKERS)

    def of(self, samples: Iterable[str]) -> Iterator[fcclip.Proposals]:
        """See `Reader.of`."""
        return reading.ahead(self._read, samples, self._threads + 1, threads=self._threads)

    def _read(self, sample: str) -> fcclip.Proposals:
        cache = self._cache
        index = cache.position(sample)
        tensors = (torch.from_numpy(cache[name][index])[None].to(self._device).float() for name in TENSORS)
        return fcclip.Proposals(*tensors, [tuple(cache["geometry"][index].tolist())])


class Remade:
    """Proposals made again from the images, in the batches in which the file's samples met the models. See `Reader`."""

    def __init__(self, cache: Cache, frame: pd.DataFrame, proposer: Proposer, threads: int = 1):
        self._cache = cache
        self._images = dict(zip(frame["sample_id"], frame["image"], strict=True))
        self._batch_size = cache.attributes["preprocessing"]["batch_size"]
        self._proposer = proposer
        self._threads = min(threads, reading.MOST_WORKERS)
        made_on, here = cache.attributes.get("device"), describe(proposer.device)
        if made_on != here:
            log.warning(
                "tokens were made on %s, proposals are made again on %s: equal but for rounding",
                made_on,
                here,
            )

    def of(self, samples: Iterable[str]) -> Iterator[fcclip.Proposals]:
        """See `Reader.of`."""
        places = map(self._cache.position, samples)
        wanted = [(start, list(group)) for start, group in groupby(places, self._start)]
        batches = {start: self._cache.sample_ids[start : start + self._batch_size] for start, _ in wanted}
        images = reading.ahead(
            self._image,
            [sample for start, _ in wanted for sample in batches[start]],
            self._batch_size + self._threads,
            threads=self._threads,
        )
        for start, group in wanted:
            batch = np.stack(list(islice(images, len(batches[start]))))
            proposals = self._proposer(torch.from_numpy(batch))
            for place in group:
                yield _one(proposals, place - start)

    def _start(self, place: int) -> int:
        """Where the batch of a place begins."""
        return place - place % self._batch_size

    def _image(self, sample: str) -> np.ndarray:
        """A sample's image [3, S, S], as `taco.method.features` gives it to the models."""
        return media.resize(media.read_image(self._images[sample]), self._proposer.image_size, "fcclip")


def _one(proposals: fcclip.Proposals, index: int) -> fcclip.Proposals:
    """One image of a batch, in float32."""
    tensors = (getattr(proposals, name)[index : index + 1].float() for name in TENSORS)
    return fcclip.Proposals(*tensors, [proposals.geometry[index]])
