"""What a solver run is told (settings, anchors, a given start) and what it returns."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

REDUCTIONS = ("min", "mean")
DESCRIPTORS = ("component", "factor")
PENALTY_SIDES = ("image", "audio", "both")
NORMS = ("frobenius", "squared")
TEMPORAL_WEIGHTS = ("release", "paper")
INITS = ("kmeans", "random_tokens", "given")
PROJECTION = ("linear1", "linear2", "norm_weight", "norm_bias", "norm_eps")
DEFAULT_RATE = 0.25


class CoNMFError(ValueError):
    """An input, a setting or a result that the solver refuses; the message says what and how to mend it."""


@dataclass(frozen=True)
class Settings:
    """Settings of soft co-factorization (paper, Section 3; Eqs. 5 to 7).

    Parameters
    ----------
    n_components : int
        Number of factors K per modality.
    beta_image, beta_audio : float
        Weights of the two reconstruction norms.
    beta_penalty : float
        Weight of the cross-entropy between descriptors; 0 is the ablation "w/o penalty".
    beta_temporal : float
        Weight β_t of a clip's temporal term (Eq. 7); needs ``clips`` in :meth:`CoNMF.fit`.
    temporal_weight : {"release", "paper"}
        What β_t is a weight against. ``release``: the term counts once for each of the clip's T frames, so T β_t times
        against the clip's sum of all other terms (the authors' release adds the term to every frame's objective).
        ``paper``: it counts once, β_t times, as Eq. 7 reads.
    steps : int
        Gradient steps.
    learning_rate : float or None
        First step size; ``None`` is 0.25 for the Frobenius norm. The squared norm has no default, as 0.25 diverges.
    halve_at : tuple of int
        Steps (counted from 0) from which the step size is halved, once each.
    reduction : {"min", "mean"}
        The penalty of the factor with the least cross-entropy, or the mean over factors ("no-min").
    descriptor : {"component", "factor"}
        Descriptors of the semantic components, or of the rows of V ("w/o component").
    penalty_side : {"image", "audio", "both"}
        ``image``: target from the audio descriptor (paper); ``audio``: roles exchanged; ``both``: their sum.
    norm : {"frobenius", "squared"}
        Reconstruction norm as in the authors' release, or squared as printed in Eq. 6.
    init : {"kmeans", "random_tokens", "given"}
        Start of V: k-means centres, distinct tokens drawn at random, or the ``initial`` of :meth:`CoNMF.fit`.
    init_seed : int
        Seed of V's start, of its own so that all seeds, variants and banks share it.
    trace_every : int
        Stride of the objective trace; 0 keeps none.
    checkpoints : tuple of int
        Step counts (1 to ``steps``) whose results are kept too, as if ``steps`` had been that number.
    batch_size : int or "auto"
        Samples solved together, at most; batches are filled evenly. Whole clips are kept together, so a batch may be larger
        than this by one clip; of 2 or more, no sample is solved alone beside others.
    tolerance : float or None
        Early stop of a unit (sample, or clip with the temporal term) and seed when its best objective has not
        fallen by more than this fraction for ``patience`` steps. ``None`` never stops early.
    patience : int
        See ``tolerance``.
    fast : bool
        On CUDA, make the steps of the default options (``min``, ``component``, ``image``, ``frobenius``) by kernels of
        their own, with products of split halves, where float16 holds the tokens exactly. Everything else, and all with
        ``False``, takes plain steps in float32. Off until the gates of ``taco bench conmf --device cuda`` have passed on a
        card: so far an interpreter and a disassembler have seen the kernels.
    """

    n_components: int = 8
    beta_image: float = 1.0
    beta_audio: float = 1.0
    beta_penalty: float = 125.0
    beta_temporal: float = 0.0
    temporal_weight: str = "release"
    steps: int = 1800
    learning_rate: float | None = None
    halve_at: tuple[int, ...] = (500, 1000, 1500)
    reduction: str = "min"
    descriptor: str = "component"
    penalty_side: str = "image"
    norm: str = "frobenius"
    init: str = "kmeans"
    init_seed: int = 0
    trace_every: int = 0
    checkpoints: tuple[int, ...] = ()
    batch_size: int | str = "auto"
    tolerance: float | None = None
    patience: int = 100
    fast: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "halve_at", tuple(int(step) for step in self.halve_at))
        object.__setattr__(self, "checkpoints", tuple(sorted({int(step) for step in self.checkpoints})))
        for name, allowed in (
            ("reduction", REDUCTIONS),
            ("descriptor", DESCRIPTORS),
            ("penalty_side", PENALTY_SIDES),
            ("norm", NORMS),
            ("temporal_weight", TEMPORAL_WEIGHTS),
            ("init", INITS),
        ):
            if getattr(self, name) not in allowed:
                raise CoNMFError(
                    f"{name}: expected one of {', '.join(allowed)}, found {getattr(self, name)!r}"
                )
        for name in ("n_components", "steps", "patience"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise CoNMFError(f"{name}: expected an integer of at least 1, found {getattr(self, name)!r}")
        for name in ("beta_image", "beta_audio", "beta_penalty", "beta_temporal", "trace_every"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise CoNMFError(
                    f"{name}: expected a finite number of at least 0, found {getattr(self, name)!r}"
                )
        if self.norm == "squared" and self.learning_rate is None:
            raise CoNMFError(
                "learning_rate: the squared norm needs one of its own, as 0.25 diverges; try 1e-4"
            )
        if not 0 < self.first_rate < float("inf"):
            raise CoNMFError(f"learning_rate: expected a positive number, found {self.learning_rate!r}")
        if self.batch_size != "auto" and (not isinstance(self.batch_size, int) or self.batch_size < 1):
            raise CoNMFError(
                f"batch_size: expected 'auto' or an integer of at least 1, found {self.batch_size!r}"
            )
        if self.checkpoints and not 1 <= self.checkpoints[0] <= self.checkpoints[-1] <= self.steps:
            raise CoNMFError(f"checkpoints: expected steps from 1 to {self.steps}, found {self.checkpoints}")
        if self.tolerance is not None and self.tolerance <= 0:
            raise CoNMFError(f"tolerance: expected a positive fraction or null, found {self.tolerance!r}")

    @property
    def first_rate(self) -> float:
        """Step size before any halving."""
        return DEFAULT_RATE if self.learning_rate is None else self.learning_rate

    def rate(self, step: int) -> float:
        """Step size at ``step``, counted from 0."""
        return self.first_rate * 0.5 ** sum(step >= change for change in self.halve_at)


class Projection(NamedTuple):
    """CLAP's audio projection: LayerNorm(e + GELU(e) linear2ᵀ) with e = c linear1ᵀ; no dropout, no biases.

    Attributes
    ----------
    linear1 : Tensor [D, C_A]
    linear2 : Tensor [D, D]
    norm_weight, norm_bias : Tensor [D]
    eps : float
    """

    linear1: Tensor
    linear2: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
    eps: float = 1e-5


@dataclass(frozen=True)
class Anchors:
    """Word bank of J labels in the two spaces.

    Attributes
    ----------
    image : Tensor [J, C_I]
        CLIP text embeddings b_I; any non-zero length, as only directions count.
    audio : Tensor [J, D]
        CLAP text embeddings b_A, likewise.
    scale : float
        τ, CLAP's logit scale (already exponentiated), of the audio descriptor.
    projection : Projection
        From CLAP's token space [C_A] to its shared space [D].
    """

    image: Tensor
    audio: Tensor
    scale: float
    projection: Projection

    @classmethod
    def from_arrays(cls, image: object, audio: object, constants: Mapping[str, object]) -> Anchors:
        """Anchors from arrays: embeddings of the labels, and CLAP's ``clap_logit_scale`` and projection.

        The projection is ``linear1``, ``linear2``, ``norm_weight``, ``norm_bias`` and ``norm_eps``.
        """
        *matrices, eps = (torch.as_tensor(constants[name]) for name in PROJECTION)
        projection = Projection(*matrices, float(eps))
        scale = float(constants["clap_logit_scale"])
        return cls(torch.as_tensor(image), torch.as_tensor(audio), scale, projection)


class Initial(NamedTuple):
    """A given start: V of both modalities, and W (before the sigmoid) where wanted.

    Attributes
    ----------
    image_factors : Tensor [S, K, C_I]
    audio_factors : Tensor [S, K, C_A]
        Non-negative; shared by the seeds.
    image_weights : Tensor [R, S, N, K], optional
    audio_weights : Tensor [R, S, T, K], optional
        Without them W ~ N(0, 1) from each sample's own stream.
    """

    image_factors: Tensor
    audio_factors: Tensor
    image_weights: Tensor | None = None
    audio_weights: Tensor | None = None


@dataclass
class Result:
    """Outcome of :meth:`CoNMF.fit` on the CPU: R seeds, S samples.

    Activations and cross-entropies belong to the last forward pass (before the last update), factors to the state
    after the last update. Samples with fewer tokens than the widest have zero activations behind their last token.

    Attributes
    ----------
    image_activations : Tensor [R, S, N, K], in (0, 1)
    audio_activations : Tensor [R, S, T, K], in (0, 1)
    image_factors : Tensor [R, S, K, C_I], non-negative
    audio_factors : Tensor [R, S, K, C_A], non-negative
    k_star : int64 Tensor [R, S]
        Factor of least cross-entropy (target from the audio descriptor).
    cross_entropy : Tensor [R, S, K]
    reconstruction_image, reconstruction_audio : Tensor [R, S]
        ‖X - UV‖_F, never squared.
    objective : Tensor [R, S, L]
        The minimised value of each sample at steps ``objective_steps`` (before their update). The temporal value
        of a pair of frames is counted at the earlier one, with its weight.
    objective_steps : tuple of int
    n_steps : int64 Tensor [R, S]
        Steps made; fewer than asked after an early stop.
    checkpoints : dict of int to Result
    seeds : tuple of int
    """

    image_activations: Tensor
    audio_activations: Tensor
    image_factors: Tensor
    audio_factors: Tensor
    k_star: Tensor
    cross_entropy: Tensor
    reconstruction_image: Tensor
    reconstruction_audio: Tensor
    objective: Tensor
    objective_steps: tuple[int, ...]
    n_steps: Tensor
    checkpoints: dict[int, Result] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()


FIELDS = (
    "image_activations",
    "audio_activations",
    "image_factors",
    "audio_factors",
    "k_star",
    "cross_entropy",
    "reconstruction_image",
    "reconstruction_audio",
    "n_steps",
)


def stream(*words: object) -> torch.Generator:
    """CPU generator of its own for these words, so that a draw depends on nothing else."""
    digest = hashlib.sha256("\x1f".join(str(word) for word in words).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
