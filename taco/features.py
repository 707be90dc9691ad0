"""From samples to cached features: image tokens, audio tokens, CLAP embeddings, mask proposals.

Images pass the CLIP trunk once; tokens and proposals come from the same pass, unless a dataset takes its
tokens from another preparation of the image.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from taco import clap, clip, controls, fcclip, media
from taco.cache import CacheWriter
from taco.runtime import digest, file_digest

log = logging.getLogger("taco")


@dataclass(frozen=True)
class Models:
    """The three frozen models."""

    clip: clip.FrozenCLIP
    clap: clap.FrozenCLAP
    fcclip: fcclip.FCCLIP


def load_models(specs: Mapping[str, Mapping[str, Any]], device: torch.device) -> Models:
    """Load the models that the configuration's ``models`` describes."""
    tower = clip.load(specs["clip"], device)
    return Models(tower, clap.load(specs["clap"], device), fcclip.load(specs["fcclip"], tower, device))


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
    """

    image_tokens: str
    audio_crop: str
    batch_size: int
    seed: int

    def attributes(self) -> dict[str, Any]:
        """Preprocessing as the caches record it."""
        return {"preprocessing": dict(vars(self))}


def extract(
    frame: pd.DataFrame,
    name: str,
    models: Models,
    how: Extraction,
    features: CacheWriter,
    proposals: CacheWriter,
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
        ``geometry`` [4] (padded height, width, image height, width).
    """
    for start in tqdm(range(0, len(frame), how.batch_size), desc=f"{name}: features", unit="batch"):
        rows = frame.iloc[start : start + how.batch_size]
        _put(features, start, _image_features(rows, models, how, proposals, start))
        _put(features, start, _audio_features(rows, name, models.clap, how))
    log.info("%s: features of %d samples", name, len(frame))


def _put(writer: CacheWriter, start: int, columns: Mapping[str, Sequence[np.ndarray]]) -> None:
    for name, values in columns.items():
        for offset, value in enumerate(values):
            writer.put(name, start + offset, value)


def _image_features(
    rows: pd.DataFrame, models: Models, how: Extraction, proposals: CacheWriter, start: int
) -> dict[str, Any]:
    images = [media.read_image(path) for path in rows["image"]]
    pixels, sizes = models.clip.prepare(images)
    pyramid = models.clip.pyramid(pixels)
    proposed = models.fcclip.propose(pyramid, sizes)
    columns = {
        "masks": _half(proposed.masks),
        "class_embeddings": proposed.class_embeddings.float().cpu().numpy(),
        "pooled": proposed.pooled.float().cpu().numpy(),
        "geometry": np.asarray(proposed.geometry, dtype=np.int32),
    }
    _put(proposals, start, columns)
    dense = pyramid["dense"]
    if how.image_tokens != "fcclip":
        dense = models.clip.pyramid(models.clip.prepare(images, mode=how.image_tokens)[0])["dense"]
    grid = np.asarray(dense.shape[-2:], dtype=np.int32)
    return {"image_tokens": _half(models.clip.tokens(dense).clamp(min=0)), "grid": [grid] * len(images)}


def _audio_features(rows: pd.DataFrame, name: str, model: clap.FrozenCLAP, how: Extraction) -> dict[str, Any]:
    waves = np.stack(list(_waves(rows, name, model, how)))
    tokens, embedding = model.tokens_and_embedding(torch.from_numpy(waves).to(model.device))
    return {"audio_tokens": _half(tokens.clamp(min=0)), "clap_embedding": embedding.float().cpu().numpy()}


def _waves(rows: pd.DataFrame, name: str, model: clap.FrozenCLAP, how: Extraction) -> Iterator[np.ndarray]:
    for row in rows.itertuples():
        wave = media.read_sound(row.audio, row.start, row.duration, model.sample_rate)
        rng = controls.generator(how.seed, "audio crop", f"{name}/{row.sample_id}")
        yield media.fit_window(wave, model.window, how.audio_crop, rng).astype(np.float32)


def _half(tensor: torch.Tensor) -> np.ndarray:
    """Convert to float16 on the CPU; a value beyond its range would become infinite, so it raises."""
    array = tensor.half().cpu().numpy()
    if not np.isfinite(array).all():
        raise FloatingPointError("features: expected finite values within ±65504 (float16), found others")
    return array
