"""From samples to cached features: image tokens, audio tokens, CLAP embeddings, mask proposals.

Images pass the CLIP trunk once; tokens and proposals come from the same pass, unless a dataset takes its
tokens from another preparation of the image. Files are decoded ahead, by `taco.data.reading`.

A shard is whole or absent: a killed one starts again. At 15 images a second the largest of the paper's shards
(AVSS, 469 frames) is half a minute of work, so to resume within one would not pay; where it takes longer, as on a
CPU, ``datasets.*.shards`` makes them smaller.
"""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from taco import entries
from taco.cache.hdf5 import CacheWriter
from taco.data import media, reading
from taco.models import backends, clap, clip, fcclip, fcclip_detectron2
from taco.progress import progress
from taco.runtime import digest, file_digest

log = logging.getLogger("taco")

Columns = Mapping[str, np.ndarray]  # by dataset of a cache, [B, ...] over the samples of a batch
TensorColumns = Mapping[str, Tensor]  # the same on the device

LEAST_SOUNDS = 16  # of one call of CLAP on a GPU, which takes 14 ms whatever their number (H200, measured)
MOST_IMAGES = 8  # of one pass of the trunk: 16 gain 0 to 5 % more (H200, measured)
IMAGES_ON_CPU = 4
PROPOSING = "fcclip"  # preparation of the image for proposals
MODES = (PROPOSING, "openclip")


@dataclass(frozen=True)
class Models:
    """The three frozen models."""

    clip: clip.FrozenCLIP
    clap: clap.FrozenCLAP
    fcclip: fcclip.FCCLIP | fcclip_detectron2.OfficialFCCLIP


def load_models(specs: Mapping[str, Mapping[str, Any]], device: torch.device) -> Models:
    """Load the models that the configuration's ``models`` describes."""
    tower, head = load_proposer(specs, device)
    return Models(tower, clap.load(specs["clap"], device), head)


def load_proposer(
    specs: Mapping[str, Mapping[str, Any]], device: torch.device
) -> tuple[clip.FrozenCLIP, fcclip.FCCLIP | fcclip_detectron2.OfficialFCCLIP]:
    """Load CLIP and FC-CLIP alone, all that proposals need."""
    backend = fcclip_backend(specs["fcclip"]["backend"])
    tower = clip.load(specs["clip"], device)
    return tower, backend.load(specs["fcclip"], tower, device)


def fcclip_backend(name: str) -> ModuleType:
    """The module that loads FC-CLIP by the name of a backend; raises before any work where that is not installed."""
    if name == "detectron2":
        backends.require()
        return fcclip_detectron2
    return fcclip


def model_digests(specs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Digest of each model's description, weight file and, where it has one, loader."""
    return {
        f"{name}_digest": digest(
            [
                dict(spec),
                file_digest(spec["weights"]),
                *entries.digests(filter(None, [spec.get("loader")])).values(),
            ]
        )
        for name, spec in specs.items()
    }


@dataclass(frozen=True)
class Extraction:
    """How features are made.

    Attributes
    ----------
    image_tokens : {"fcclip", "openclip"}
        Image preparation of the tokens; proposals always use ``fcclip``.
    audio_crop : {"centre", "random"}
    batch_size : int
    seed : int
        Of the random crops.
    stereo : {"mean", "join"}
        What is heard of a sound of several channels.
    """

    image_tokens: str
    audio_crop: str
    batch_size: int
    seed: int
    stereo: str = "mean"

    def attributes(self) -> dict[str, Any]:
        """Preprocessing as the caches record it."""
        return {"preprocessing": dict(vars(self))}

    def preparation(self, models: Models, *, proposing: bool = True) -> reading.Preparation:
        """What is made of a sample's files before the models see it; without proposals, what the tokens need."""
        modes = tuple(
            mode for mode in MODES if mode == self.image_tokens or (proposing and mode == PROPOSING)
        )
        hearing = media.Hearing(
            models.clap.sample_rate, models.clap.window, self.audio_crop, self.seed, self.stereo
        )
        return reading.Preparation(models.clip.image_size, modes, hearing)


def extract(
    frame: pd.DataFrame,
    name: str,
    models: Models,
    how: Extraction,
    features: CacheWriter,
    proposals: CacheWriter | None,
    *,
    threads: int = 1,
) -> None:
    """Compute and store the features of a manifest's samples.

    Parameters
    ----------
    frame : DataFrame
        Manifest rows, in the order of the writers' sample ids.
    name : str
        Dataset; part of the key from which a random crop is drawn.
    models : Models
    how : Extraction
    features, proposals : CacheWriter
        Per sample: ``image_tokens`` [N, C_I] and ``audio_tokens`` [T, C_A] float16, clamped at >= 0;
        ``clap_embedding`` [D] float32; ``grid`` [2], rows and columns of the image tokens. Proposals:
        ``masks`` [Q, h, w] float16 logits, ``class_embeddings`` and ``pooled`` [Q, C_I] float32,
        ``geometry`` [4] (padded height, width, image height, width). None: nothing is proposed, see
        `taco.method.proposals`.
    threads : int
        Of the job; all but one read files ahead. Changes no result.
    """
    preparation = how.preparation(models, proposing=proposals is not None)
    workers = reading.workers_for(threads, preparation, how.batch_size)
    pin = models.clip.device.type == "cuda"
    batches = reading.batches(frame, name, preparation, how.batch_size, workers=workers, pin=pin)
    log.info("%s: %d samples, %d processes read ahead", name, len(frame), workers)
    least = LEAST_SOUNDS if models.clip.device.type == "cuda" else 1
    with progress(len(frame), f"{name}: features") as bar, Storing() as storing:
        start = 0
        for group in grouped(batches, least):
            first = start
            for batch in group:
                pyramid, dense = look(batch, models, how)
                if proposals is not None:
                    storing.put(proposals, propose(pyramid, models), start)
                storing.put(features, image_tokens(dense, models), start)
                start += len(batch["wave"])
            device = models.clap.device
            waves = torch.cat([batch["wave"].to(device, non_blocking=True) for batch in group])
            storing.put(features, sounds(waves, models), first)
            bar.update(start - first)
    log.info("%s: features of %d samples", name, len(frame))


def grouped(batches: Iterable[Mapping[str, Tensor]], least: int) -> Iterator[list[Mapping[str, Tensor]]]:
    """Lists of consecutive batches that hold at least so many samples together; the last one holds the rest."""
    group: list[Mapping[str, Tensor]] = []
    for batch in batches:
        group.append(batch)
        if sum(len(one["wave"]) for one in group) >= least:
            yield group
            group = []
    if group:
        yield group


class Leaving:
    """A batch's tensors on their way from the device to the host, in page-locked memory where that is a GPU.

    Making one waits for nothing: the models go on. Half-precision numbers are checked on the device too, as a look at
    each of them costs the host as long as the models take.
    """

    def __init__(self, columns: TensorColumns):
        self._columns = {name: tensor.to("cpu", non_blocking=True) for name, tensor in columns.items()}
        self._limits = {
            name: torch.stack(tensor.aminmax()).to("cpu", non_blocking=True)
            for name, tensor in columns.items()
            if tensor.dtype == torch.float16
        }
        self._arrived = None
        if any(tensor.is_cuda for tensor in columns.values()):
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def columns(self) -> Columns:
        """The arrays, once they are there; raises where a number became infinite as it was rounded."""
        if self._arrived is not None:
            self._arrived.synchronize()
        for name, limits in self._limits.items():
            check_finite(name, limits)
        return {name: tensor.numpy() for name, tensor in self._columns.items()}


def check_finite(name: str, limits: Tensor) -> None:
    """Raise unless the least and greatest of some numbers, which one that is no number would be, are finite."""
    if not limits.isfinite().all():
        raise FloatingPointError(f"{name}: expected finite values within ±65504 (float16), found others")


def checked(proposed: fcclip.Proposals) -> fcclip.Proposals:
    """Proposals of `segment` that do not leave the device, once their masks are known to be finite."""
    check_finite("masks", torch.stack(proposed.masks.aminmax()))
    return proposed


class Storing:
    """Puts batches into caches behind the models, in a thread: at most two of them wait."""

    MOST = 2

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def put(self, writer: CacheWriter, columns: TensorColumns, start: int) -> None:
        """Store a batch's tensors, the first sample at position ``start``; raises what an earlier one raised."""
        while len(self._pending) >= self.MOST:
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(store, writer, Leaving(columns), start))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            while kind is None and self._pending:
                self._pending.popleft().result()
        finally:
            self._thread.shutdown(cancel_futures=True)


def store(writer: CacheWriter, leaving: Leaving, start: int) -> None:
    """Put a batch's arrays into a cache, the first of them at position ``start``."""
    for name, values in leaving.columns().items():
        for offset, value in enumerate(values):
            writer.put(name, start + offset, value)


def look(
    batch: Mapping[str, Tensor], models: Models, how: Extraction
) -> tuple[dict[str, Tensor] | None, Tensor]:
    """Run the CLIP trunk over a batch's images: the pyramid for proposals, and the dense features for tokens.

    No pyramid where the batch was not prepared for proposals, as tokens take another preparation.
    """
    seen = {
        mode: models.clip.pyramid(models.clip.frame(batch[mode], mode)) for mode in MODES if mode in batch
    }
    return seen.get(PROPOSING), seen[how.image_tokens]["dense"]


def propose(pyramid: Mapping[str, Tensor], models: Models) -> dict[str, Tensor]:
    """Mask proposals of a batch's pyramid, as the cache holds them."""
    proposed = segment(pyramid, models.clip, models.fcclip)
    return {
        "masks": proposed.masks,
        "class_embeddings": proposed.class_embeddings.float(),
        "pooled": proposed.pooled.float(),
        "geometry": torch.tensor(proposed.geometry, dtype=torch.int32),
    }


def segment(
    pyramid: Mapping[str, Tensor],
    tower: clip.FrozenCLIP,
    head: fcclip.FCCLIP | fcclip_detectron2.OfficialFCCLIP,
) -> fcclip.Proposals:
    """Mask proposals of a batch's pyramid on the models' device; masks are rounded to float16, not checked."""
    proposed = head.propose(pyramid, [(tower.image_size,) * 2] * len(pyramid["dense"]))
    return replace(proposed, masks=proposed.masks.half())


def image_tokens(dense: Tensor, models: Models) -> dict[str, Tensor]:
    """Tokens of a batch's images, as the cache holds them."""
    grid = torch.tensor(dense.shape[-2:], dtype=torch.int32)
    return {
        "image_tokens": models.clip.tokens(dense).clamp(min=0).half(),
        "grid": grid.expand(len(dense), 2),
    }


def sounds(waves: Tensor, models: Models) -> dict[str, Tensor]:
    """Tokens and embeddings of a batch's sounds, as the cache holds them."""
    heard, embedding = models.clap.tokens_and_embedding(waves.to(models.clap.device, non_blocking=True))
    return {"audio_tokens": heard.clamp(min=0).half(), "clap_embedding": embedding.float()}


def batch_size(configured: int | str, models: Models) -> int:
    """Images of a forward pass: as configured, or for ``auto`` what the GPU has memory for.

    Parameters
    ----------
    configured : int or "auto"
    models : Models
        On a GPU one image passes the trunk, to see what it needs.

    Returns
    -------
    int
        For ``auto`` a power of two up to `MOST_IMAGES`, so that cards of one kind agree; `IMAGES_ON_CPU` on a CPU.
    """
    if configured != "auto":
        return int(configured)
    device = models.clip.device
    if device.type != "cuda":
        return IMAGES_ON_CPU
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    side = models.clip.image_size
    models.clip.pyramid(models.clip.frame(torch.zeros(1, 3, side, side)))
    needed = torch.cuda.max_memory_allocated(device) - before
    free, _ = torch.cuda.mem_get_info(device)
    return fitting(free, needed)


def fitting(free: int, needed: int) -> int:
    """Greatest power of two of images up to `MOST_IMAGES` that take half of the free bytes; at least 1."""
    count = MOST_IMAGES
    while count > 1 and count * needed > free / 2:
        count //= 2
    return count
