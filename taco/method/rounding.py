"""How little final maps change where the frozen models compute in less than float32."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from taco.method import evaluate, features
from taco.models import clip, fcclip

LEAST_IOU = 0.99  # that a precision has to keep, on average, to be a suite's default


class Overlap(NamedTuple):
    """IoU of maps with those of float32, over images and prompts."""

    mean: float
    least: float
    count: int


@contextmanager
def computing_in(tower: clip.FrozenCLIP, head: fcclip.FCCLIP, trunk: str, decoder: str) -> Iterator[None]:
    """Within this, trunk and head compute in other precisions than they were loaded with."""
    before = tower.precision, head.precision
    tower.precision, head.precision = trunk, decoder
    try:
        yield
    finally:
        tower.precision, head.precision = before


@torch.no_grad()
def final_maps(
    images: Tensor,
    tower: clip.FrozenCLIP,
    head: fcclip.FCCLIP,
    prompts: Tensor,
    ensemble: Mapping[str, Any],
) -> Tensor:
    """Maps of images in 0..1, stretched as those of a binary task.

    Parameters
    ----------
    images : float32 [B, 3, S, S]
        As `taco.data.media.resize` gives them.
    tower, head
        Loaded models, head of the backend transformers.
    prompts : float32 [1, K, D]
        The same for every image.
    ensemble : mapping
        See `taco.models.fcclip.decode`.

    Returns
    -------
    float32 [B, K, H, W]
    """
    proposed = features.checked(features.segment(tower.pyramid(tower.frame(images)), tower, head))
    maps = []
    for index, geometry in enumerate(proposed.geometry):
        tensors = (proposed.masks, proposed.class_embeddings, proposed.pooled)
        one = fcclip.Proposals(*(tensor[index : index + 1].float() for tensor in tensors), [geometry])
        maps.append(evaluate.stretch(fcclip.decode(one, prompts, **ensemble)[0]))
    return torch.stack(maps)


def overlap(maps: Tensor, plain: Tensor) -> Overlap:
    """IoU of maps [B, K, H, W] cut at half with others; two empty ones agree."""
    a, b = maps.flatten(2) >= 0.5, plain.flatten(2) >= 0.5
    union = (a | b).sum(-1)
    iou = torch.where(union > 0, (a & b).sum(-1) / union.clamp(min=1), 1.0)
    return Overlap(float(iou.mean()), float(iou.min()), iou.numel())


def against_float32(
    images: Tensor,
    tower: clip.FrozenCLIP,
    head: fcclip.FCCLIP,
    prompts: Tensor,
    ensemble: Mapping[str, Any],
) -> Overlap:
    """Overlap of the maps of the precisions with which models were loaded with those of float32; see `final_maps`."""
    given = (images, tower, head, prompts, ensemble)
    found = final_maps(*given)
    with computing_in(tower, head, "float32", "float32"):
        return overlap(found, final_maps(*given))
