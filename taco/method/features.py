"""From samples to cached features: image tokens, audio tokens, CLAP embeddings, mask proposals.

Images pass the CLIP trunk once; tokens and proposals come from the same pass, unless a dataset takes its
tokens from another preparation of the image. Files are decoded ahead, by `taco.data.reading`.

A shard is whole or absent: a killed one starts again. At 15 images a second the largest of the paper's shards
(AVSS, 469 frames) is half a minute of work, so to resume within one would not pay; where it takes longer, as on a
CPU, ``datasets.*.shards`` makes them smaller.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from taco.cache.hdf5 import CacheWriter
from taco.data import reading
from taco.models import backends, clap, clip, fcclip, fcclip_detectron2
from taco.progress import progress
from taco.runtime import digest, file_digest

log = logging.getLogger("taco")

Columns = Mapping[str, Sequence[np.ndarray]]  # by dataset of a cache, one array per sample of the batch


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
    """Digest of each model's description and weight file."""
    return {
        f"{name}_digest": digest([dict(spec), file_digest(spec["weights"])]) for name, spec in specs.items()
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

    def preparation(self, models: Models) -> reading.Preparation:
        """What is made of a sample's files before the models see it."""
        modes = ("fcclip",) if self.image_tokens == "fcclip" else ("fcclip", self.image_tokens)
        size, sound = models.clip.image_size, (models.clap.sample_rate, models.clap.window)
        return reading.Preparation(size, modes, *sound, self.audio_crop, self.seed, self.stereo)


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
    preparation = how.preparation(models)
    workers = reading.workers_for(threads, preparation, how.batch_size)
    pin = models.clip.device.type == "cuda"
    batches = reading.batches(frame, name, preparation, how.batch_size, workers=workers, pin=pin)
    log.info("%s: %d samples, %d processes read ahead", name, len(frame), workers)
    # Compressing a batch takes as long as a GPU takes for the next one: one thread stores while the models work.
    with progress(len(frame), f"{name}: features") as bar, ThreadPoolExecutor(1) as writer:
        stored: Future | None = None
        start = 0
        for batch in batches:
            pyramid, dense = look(batch, models, how)
            made = [(features, tokens(dense, batch["wave"], models))]
            if proposals is not None:
                made.append((proposals, propose(pyramid, models)))
            if stored is not None:
                stored.result()
            stored = writer.submit(store, made, start)
            start += len(batch["wave"])
            bar.update(len(batch["wave"]))
        if stored is not None:
            stored.result()
    log.info("%s: features of %d samples", name, len(frame))


def store(made: Iterable[tuple[CacheWriter, Columns]], start: int) -> None:
    """Put a batch's arrays into caches, the first of them at position ``start``."""
    for writer, columns in made:
        for name, values in columns.items():
            for offset, value in enumerate(values):
                writer.put(name, start + offset, value)


def look(batch: Mapping[str, Tensor], models: Models, how: Extraction) -> tuple[dict[str, Tensor], Tensor]:
    """Run the CLIP trunk over a batch's images: the pyramid for proposals, and the dense features for tokens."""
    pyramid = models.clip.pyramid(models.clip.frame(batch["fcclip"]))
    if how.image_tokens == "fcclip":
        return pyramid, pyramid["dense"]
    other = models.clip.frame(batch[how.image_tokens], how.image_tokens)
    return pyramid, models.clip.pyramid(other)["dense"]


def propose(pyramid: Mapping[str, Tensor], models: Models) -> Columns:
    """Mask proposals of a batch's pyramid, as the cache holds them."""
    proposed = segment(pyramid, models.clip, models.fcclip)
    return {
        "masks": proposed.masks.cpu().numpy(),
        "class_embeddings": proposed.class_embeddings.float().cpu().numpy(),
        "pooled": proposed.pooled.float().cpu().numpy(),
        "geometry": np.asarray(proposed.geometry, dtype=np.int32),
    }


def segment(
    pyramid: Mapping[str, Tensor],
    tower: clip.FrozenCLIP,
    head: fcclip.FCCLIP | fcclip_detectron2.OfficialFCCLIP,
) -> fcclip.Proposals:
    """Mask proposals of a batch's pyramid on the models' device; masks are rounded to float16."""
    proposed = head.propose(pyramid, [(tower.image_size,) * 2] * len(pyramid["dense"]))
    return replace(proposed, masks=half(proposed.masks))


def tokens(dense: Tensor, waves: Tensor, models: Models) -> Columns:
    """Tokens of both modalities and the sound's embedding, as the cache holds them."""
    grid = np.asarray(dense.shape[-2:], dtype=np.int32)
    heard, embedding = models.clap.tokens_and_embedding(waves.to(models.clap.device, non_blocking=True))
    return {
        "image_tokens": half(models.clip.tokens(dense).clamp(min=0)).cpu().numpy(),
        "grid": [grid] * len(dense),
        "audio_tokens": half(heard.clamp(min=0)).cpu().numpy(),
        "clap_embedding": embedding.float().cpu().numpy(),
    }


def half(tensor: Tensor) -> Tensor:
    """Round to float16 on the tensor's device; a value beyond its range would become infinite, so it raises."""
    rounded = tensor.half()
    # By its bits: an exponent of all ones is infinity or none. Several times as fast as torch.isfinite on a CPU.
    if bool((rounded.view(torch.int16) & 0x7C00 == 0x7C00).any()):
        raise FloatingPointError("features: expected finite values within ±65504 (float16), found others")
    return rounded
