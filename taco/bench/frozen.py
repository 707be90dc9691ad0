"""Ways to run the frozen models on a GPU, beside the plain one: float32, launched from the host, results to pageable memory.

Part of ``taco bench pipeline``. Where there are real weights they are used: then these rows say what a precision does to maps.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from taco.bench import measure
from taco.method import features, rounding
from taco.models import fcclip
from taco.models.precision import TF32, products

TRUNK = ("float32", TF32, "float16")
PRECISIONS = (
    ("float32", "float32"),
    (TF32, "float32"),
    (TF32, TF32),
    ("float16", "float32"),
    ("float16", TF32),
)
BATCHES = (4, features.MOST_IMAGES, 16)
SOUNDS = (4, 8, features.LEAST_SOUNDS)
PROMPTS = 8
REPEATS = 3


@dataclass
class Way:
    """One way to run a part of the models, an image.

    ``ratio`` is the plain way's time over this one's. ``error`` is relative to the plain way's result; ``iou`` is the mean
    IoU of final maps, stretched and cut at half, with those of the plain way, and ``least_iou`` the smallest.
    """

    part: str
    way: str
    batch: int
    ms: float
    ratio: float
    error: float | None = None
    iou: float | None = None
    least_iou: float | None = None


@torch.no_grad()
def ways(models: features.Models, images: Tensor, waves: Tensor, say: measure.Say) -> list[Way]:
    """Time trunk, proposals and CLAP in several ways.

    Parameters
    ----------
    models : taco.method.features.Models
        On CUDA, FC-CLIP of the backend transformers. Their precisions come back as they were.
    images : float32 [B, 3, S, S]
        As `taco.data.media.resize` gives them, repeated as often as a batch needs.
    waves : float32 [B, window]
    say : callable
        Prints a line of progress.
    """
    tower, head = models.clip, models.fcclip
    with rounding.computing_in(tower, head, "float32", "float32"):
        pixels = tower.frame(images)
        found = [
            *_trunk(tower, pixels),
            *_proposals(models, pixels),
            *_maps(models, images),
            *_clap(models, waves),
        ]
    for way in found:
        say(f"{way.part}, {way.way}, batch {way.batch}: {way.ms:.4g} ms")
    return found


def _ms(work: Callable[[], Any], images: int, device: torch.device) -> float:
    """Milliseconds an image, once warm."""
    work()
    return 1e3 * min(measure.seconds(work, str(device)) for _ in range(REPEATS)) / images


def _times(batch: Tensor, count: int) -> Tensor:
    """A batch of ``count``, repeated or cut."""
    return batch.repeat(-(-count // len(batch)), *[1] * (batch.ndim - 1))[:count]


def _error(found: Tensor, plain: Tensor) -> float:
    return float((found.double() - plain.double()).norm() / plain.double().norm())


def _trunk(tower: Any, pixels: Tensor) -> list[Way]:
    found: list[Way] = []
    plain = tower.pyramid(pixels[:1])["dense"]
    for batch in BATCHES:
        given = _times(pixels, batch)
        for precision in TRUNK:
            tower.precision = precision
            ms = _ms(lambda given=given: tower.pyramid(given), batch, tower.device)
            error = _error(tower.pyramid(pixels[:1])["dense"], plain)
            base = found[0].ms if found else ms
            found.append(Way("CLIP trunk", precision, batch, ms, base / ms, error))
    tower.precision = "float32"
    return found


def plain_proposals(models: features.Models, pyramid: Mapping[str, Tensor]) -> np.ndarray:
    """Masks as they were made before: launched from the host, copied to pageable memory, checked there."""
    head = models.fcclip
    rows = [
        head._propose_one({k: v[i : i + 1] for k, v in pyramid.items()})[0]
        for i in range(len(pyramid["dense"]))
    ]
    masks = torch.cat(rows).half().cpu().numpy()
    if not np.isfinite(masks).all():
        raise FloatingPointError("masks")
    return masks


def _proposals(models: features.Models, pixels: Tensor) -> list[Way]:
    head, pyramid = models.fcclip, models.clip.pyramid(pixels[:2])
    count = len(pyramid["dense"])
    kept = plain_proposals(models, pyramid)
    plain = _ms(lambda: plain_proposals(models, pyramid), count, head.clip.device)
    found = [Way("proposals", "float32, from the host, pageable", 1, plain, 1.0)]
    for precision in fcclip.PRECISIONS:
        head.precision = precision

        def work() -> features.Columns:
            return features.Leaving(features.propose(pyramid, models)).columns()

        error = _error(torch.from_numpy(work()["masks"]).float(), torch.from_numpy(kept).float())
        ms = _ms(work, count, head.clip.device)
        found.append(Way("proposals", f"{precision}, graph, pinned", 1, ms, plain / ms, error))
    head.precision = "float32"
    return [*found, *_batched(head, pyramid)]


def _batched(head: fcclip.FCCLIP, pyramid: Mapping[str, Tensor]) -> list[Way]:
    """The head over a batch, as the pipeline never runs it, and each of its convolutions: one of them is slow there."""
    found: list[Way] = []
    for batch in (1, 4):
        given = {name: _times(value, batch) for name, value in pyramid.items()}
        ms = _ms(lambda given=given: head._propose_one(given), batch, head.clip.device)
        base = found[0].ms if found else ms
        found.append(Way("head", "float32, from the host", batch, ms, base / ms))
    return [*found, *convolutions(head, pyramid)]


def convolutions(head: fcclip.FCCLIP, pyramid: Mapping[str, Tensor], batch: int = 4) -> list[Way]:
    """Each convolution of the head, alone and in a batch: they alone heed cuDNN's choice of a deterministic algorithm."""
    found = []

    def hooked(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, given: tuple[Tensor, ...], _: Tensor) -> None:
            one, many = given[0], _times(given[0], batch)
            alone = _ms(lambda: _convolve(module, one), 1, one.device)
            ms = _ms(lambda: _convolve(module, many), batch, many.device)
            found.append(Way(name, "float32, convolution", batch, ms, alone / ms))

        return hook

    modules = {n: m for n, m in head.head.named_modules() if isinstance(m, torch.nn.Conv2d)}
    hooks = [module.register_forward_hook(hooked(name)) for name, module in modules.items()]
    try:
        head._propose_one({name: value[:1] for name, value in pyramid.items()})
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _convolve(module: torch.nn.Conv2d, given: Tensor) -> Tensor:
    """The convolution without its module's hooks."""
    return F.conv2d(given, module.weight, module.bias, module.stride, module.padding)


def _maps(models: features.Models, images: Tensor) -> list[Way]:
    """What precisions of trunk and head do to final maps of the same random prompts for every image."""
    tower, head = models.clip, models.fcclip
    g = torch.Generator().manual_seed(0)
    constants = head.constants()
    width = tower.model.text_projection.shape[-1]
    words = torch.randn(1, PROMPTS, width, generator=g).to(tower.device)
    ensemble = {
        "void": constants["void_embedding"],
        "clip_scale": tower.logit_scale,
        "fcclip_scale": float(constants["fcclip_logit_scale"]),
        "alpha": 0.0,
        "beta": 1.0,
    }
    found: list[Way] = []
    plain = base = None
    for trunk, decoder in PRECISIONS:
        with rounding.computing_in(tower, head, trunk, decoder):
            maps = rounding.final_maps(images, tower, head, words, ensemble)
            ms = _ms(
                lambda: features.segment(tower.pyramid(tower.frame(images)), tower, head),
                len(images),
                tower.device,
            )
        if plain is None:
            plain, base = maps, ms
        agreed = rounding.overlap(maps, plain)
        way = f"trunk {trunk}, head {decoder}"
        error = _error(maps, plain)
        found.append(
            Way("trunk and proposals", way, len(images), ms, base / ms, error, agreed.mean, agreed.least)
        )
    return found


def _clap(models: features.Models, waves: Tensor) -> list[Way]:
    found: list[Way] = []
    for batch in SOUNDS:
        given = _times(waves, batch).to(models.clap.device)
        for precision in ("float32", TF32):
            with products(precision, models.clap.device):
                ms = _ms(lambda given=given: models.clap.tokens_and_embedding(given), batch, given.device)
            found.append(Way("CLAP", precision, batch, ms, found[0].ms / ms if found else 1.0))
    return found
