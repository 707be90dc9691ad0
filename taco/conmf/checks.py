"""Checks at the solver's door: one clear error each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .settings import Anchors, CoNMFError, Initial, Settings


def check_anchors(anchors: Anchors) -> None:
    """Refuse anchors and projections that do not fit together."""
    p = anchors.projection
    for name, tensor in (
        ("anchors.image", anchors.image),
        ("anchors.audio", anchors.audio),
        ("projection.linear1", p.linear1),
        ("projection.linear2", p.linear2),
    ):
        if tensor.dim() != 2 or not torch.isfinite(tensor).all():
            raise CoNMFError(f"{name}: expected a finite matrix, found shape {tuple(tensor.shape)}")
    if len(anchors.image) != len(anchors.audio) or not len(anchors.image):
        raise CoNMFError(
            f"anchors: expected one image and one audio row per label, found {len(anchors.image)} and "
            f"{len(anchors.audio)}; embed both from the same word bank"
        )
    d = anchors.audio.shape[1]
    found = (p.linear1.shape[0], *p.linear2.shape, *p.norm_weight.shape, *p.norm_bias.shape)
    if found != (d,) * 5:
        raise CoNMFError(f"projection: expected the audio anchors' width {d} throughout, found {found}")
    for name, rows in (("anchors.image", anchors.image), ("anchors.audio", anchors.audio)):
        zero = (rows == 0).all(1).nonzero().flatten().tolist()
        if zero:
            raise CoNMFError(
                f"{name}: rows {_few(zero)} are all zero and have no direction; drop these labels"
            )
    if not 0 < float(anchors.scale) < float("inf"):
        raise CoNMFError(
            f"anchors.scale: expected CLAP's logit scale, a positive number, found {anchors.scale!r}"
        )


def check_tokens(
    image_tokens, audio_tokens, anchors: Anchors, settings: Settings
) -> tuple[list[Tensor], list[Tensor], torch.dtype]:
    """Tokens of both modalities as lists of matrices, checked, and the type to compute in."""
    image, of_image = check_modality(image_tokens, "image", anchors, settings)
    audio, of_audio = check_modality(audio_tokens, "audio", anchors, settings)
    if len(image) != len(audio):
        raise CoNMFError(f"tokens: expected as many images as sounds, found {len(image)} and {len(audio)}")
    return image, audio, torch.promote_types(of_image, of_audio)


def check_modality(
    tokens, modality: str, anchors: Anchors, settings: Settings
) -> tuple[list[Tensor], torch.dtype]:
    """Tokens of one modality as a list of matrices, checked, and the type to compute in."""
    width = {"image": anchors.image.shape[1], "audio": anchors.projection.linear1.shape[1]}[modality]
    matrices = [torch.as_tensor(x) for x in tokens]
    if not matrices:
        raise CoNMFError(f"{modality} tokens: expected at least one sample, found none")
    bad = [i for i, x in enumerate(matrices) if x.dim() != 2 or x.shape[1] != width]
    if bad:
        raise CoNMFError(
            f"{modality} tokens: expected matrices with {width} columns (the width of the "
            f"{'anchors' if modality == 'image' else 'projection'}), found {tuple(matrices[bad[0]].shape)} "
            f"in samples {_few(bad)}"
        )
    _check_values(modality, matrices, settings)
    double = any(x.dtype == torch.float64 for x in matrices)
    return matrices, torch.float64 if double else torch.float32


def _check_values(modality: str, matrices: list[Tensor], settings: Settings) -> None:
    # Least and largest value, NaN where there is one: a single pass, in half precision too.
    ranges = [x.aminmax() if x.numel() else (torch.zeros(()), torch.ones(())) for x in matrices]
    inf, k = float("inf"), settings.n_components
    problems = (
        ("are not finite", lambda x, low, high: not -inf < low <= high < inf, "recompute these features"),
        (
            "have negative tokens",
            lambda x, low, high: bool(low < 0),
            "clamp the tokens at 0, as the method does",
        ),
        (
            f"have fewer tokens than n_components={k}",
            lambda x, low, high: len(x) < k,
            "take fewer components",
        ),
        (
            "are all zero",
            lambda x, low, high: modality == "image" and bool(high == 0),
            "check the image encoder",
        ),
    )
    for what, test, remedy in problems:
        bad = [i for i, (x, (low, high)) in enumerate(zip(matrices, ranges)) if test(x, low, high)]
        if bad:
            raise CoNMFError(f"{modality} tokens: samples {_few(bad)} {what}; {remedy}")


def check_names(
    keys: list[str],
    seeds: tuple[int, ...],
    clips: Sequence[object] | None,
    n_samples: int,
    settings: Settings,
) -> None:
    """Refuse keys, seeds and clips that do not name the samples."""
    if len(keys) != n_samples or len(set(keys)) != n_samples:
        raise CoNMFError(
            f"keys: expected {n_samples} different names, one per sample, found {len(keys)} with {len(set(keys))} "
            "different; equal keys would share their random numbers"
        )
    if not seeds or len(set(seeds)) != len(seeds):
        raise CoNMFError(f"seeds: expected at least one, all different, found {seeds}")
    if settings.beta_temporal > 0 and clips is None:
        raise CoNMFError("clips: expected the clip of each sample for the temporal term, found none")
    if clips is not None:
        if len(clips) != n_samples:
            raise CoNMFError(f"clips: expected one per sample ({n_samples}), found {len(clips)}")
        runs = [clip for i, clip in enumerate(clips) if i == 0 or clip != clips[i - 1]]
        if settings.beta_temporal > 0 and len(set(runs)) != len(runs):
            raise CoNMFError(
                "clips: expected the frames of a clip to be consecutive; sort the samples by clip"
            )


def check_initial(
    initial: Initial | None, image: list[Tensor], audio: list[Tensor], n_seeds: int, settings: Settings
) -> None:
    """Refuse a start that is missing, unexpected or of the wrong shape."""
    if (initial is not None) != (settings.init == "given"):
        raise CoNMFError(
            f"initial: init={settings.init!r} expects {'a' if settings.init == 'given' else 'no'} given start, found "
            f"{'one' if initial is not None else 'none'}"
        )
    if initial is None:
        return
    for modality, tokens in (("image", image), ("audio", audio)):
        v, w = getattr(initial, f"{modality}_factors"), getattr(initial, f"{modality}_weights")
        expected = (len(tokens), settings.n_components, tokens[0].shape[1])
        if tuple(v.shape) != expected:
            raise CoNMFError(f"initial.{modality}_factors: expected {list(expected)}, found {list(v.shape)}")
        if not torch.isfinite(v).all() or (v < 0).any():
            raise CoNMFError(f"initial.{modality}_factors: expected finite non-negative numbers")
        expected = (n_seeds, len(tokens), max(map(len, tokens)), settings.n_components)
        if w is not None and tuple(w.shape) != expected:
            raise CoNMFError(f"initial.{modality}_weights: expected {list(expected)}, found {list(w.shape)}")


def _few(indices: list[int]) -> str:
    """Up to five indices as text."""
    return ", ".join(map(str, indices[:5])) + (f" and {len(indices) - 5} more" if len(indices) > 5 else "")
