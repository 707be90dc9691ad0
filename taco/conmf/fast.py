"""Steps of the default options on a GPU: X in half precision, products as split halves, few kernels, ten steps a graph.

The plain :class:`.step.Step` stays the one that measures; :class:`Fast` takes its state, makes many steps and gives the
state back. A step reads X twice, and nothing waits for the host. Audio's penalty reaches U alone, through
Q = X_A linear1ᵀ / T: with ∂CE/∂e of the chosen row, X_A (∂CE/∂P_A)ᵀ = Q (∂CE/∂e)ᵀ, so that no product with linear1 is left.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
import triton
from torch import Tensor
from torch.nn.functional import pad

from . import kernels, kernels_update
from .halves import TILE, Constants, Side, lift_of, product, split
from .settings import Settings
from .step import Step

# Divides the steps between two halvings of the paper's schedule; a graph of one step makes the rest.
STEPS_A_GRAPH = 10
OPTIONS = {"reduction": "min", "descriptor": "component", "penalty_side": "image", "norm": "frobenius"}
MOST_COLUMNS, MOST_FACTORS = 64, 32  # R K and K: more do not fit the registers

# Kernels and products of a step in order: the stream, and what on another stream must be done first (of the step before,
# where it stands further down). Image and audio meet when the logits of both are there.
ORDER = (
    ("project image", "image", ()),
    ("unit image", "image", ()),
    ("logits image", "image", ()),
    ("project audio", "beside", ("weights audio",)),
    ("embed", "audio", ()),
    ("linear2", "audio", ()),
    ("unit audio", "audio", ()),
    ("logits audio", "audio", ()),
    ("cross entropy", "audio", ("logits image",)),
    ("choose", "audio", ()),
    ("back image", "image", ("choose",)),
    ("temporal image", "image", ("choose",)),
    ("factors image", "image", ("gram image",)),
    ("weights image", "image", ()),
    ("temporal audio", "beside", ("choose",)),
    ("factors audio", "beside", ()),
    ("gram audio", "beside", ()),
    ("gram image", "beside", ("factors image",)),
    ("back audio", "audio", ()),
    ("back norm", "audio", ()),
    ("back linear2", "audio", ()),
    ("back gelu", "audio", ()),
    ("weights audio", "audio", ("factors audio",)),
)


def available(device: torch.device) -> bool:
    """Whether the kernels run there: CUDA with tensor cores and asynchronous copies (compute capability 8)."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def make(settings: Settings, constants: Constants, capture: Callable | None, step: Step) -> Fast | None:
    """Fast steps of ``step``; ``None`` where its options or shapes are not the kernels', or half precision rounds its tokens."""
    _, r, k, _, c = step.image.shape
    widths = (c, step.audio.shape[4], step.penalty.embedded.shape[1])
    suits = (
        all(getattr(settings, name) == value for name, value in OPTIONS.items())
        and step.image.x.dtype == torch.float32
        and k <= MOST_FACTORS
        and r * k <= MOST_COLUMNS
        and all(width % TILE == 0 for width in widths)
        and all(bool((side.x.half() == side.x).all()) for side in (step.image, step.audio))
    )
    return Fast(step, settings, constants, capture) if suits else None


def launch(kernel, grid: tuple[int, ...], *arguments, warps: int = 4, stages: int = 3, **constants) -> None:
    """Launch a kernel; a seam for the tests, which compile and disassemble what is launched."""
    kernel[grid](*arguments, **constants, num_warps=warps, num_stages=stages)


class Fast:
    """Many steps of a batch.

    Parameters
    ----------
    step : Step
        The plain step, whose tokens, unknowns and neighbours in time these are.
    settings : Settings
    constants : Constants
    capture : callable or None
        See :func:`.descent.cuda_graph`; without one every step is launched from the host.
    """

    def __init__(
        self, step: Step, settings: Settings, constants: Constants, capture: Callable | None = None
    ) -> None:
        self.settings, self.constants, self.capture, self.links = settings, constants, capture, step.links
        self.image, self.audio = (Side(side) for side in (step.image, step.audio))
        s, r, k, _, _ = step.image.shape
        self.shape, self.d = (s, r, k), constants.linear2.shape[0]
        device, width = step.image.x.device, len(constants.image)

        def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(*shape, dtype=dtype, device=device)

        def terms(*shape: int) -> Tensor:
            return empty(*shape[:-1], 3 * shape[-1], dtype=torch.half)

        q = step.penalty.projected
        q = pad(q, (0, 0, 0, self.audio.tokens - q.shape[1]))
        self.lift = lift_of(q.abs().amax((1, 2)), 256)  # [S], so that a sample does not see its company
        self.q_hi, self.q_lo = split(q * self.lift[:, None, None])
        self.y_scale = constants.linear2_scale / self.lift
        rows, pairs, d = s * r * k, s * r, self.d
        self.e, self.y, self.hidden = empty(rows, d), empty(rows, d), terms(rows, d)
        self.unit_image, self.unit_audio = terms(rows, self.image.c), terms(rows, d)
        self.inverse, self.statistics = empty(rows), empty(rows, 3)
        self.logits_image, self.logits_audio = empty(rows, width), empty(rows, width)
        self.ce, self.k_star = empty(rows), empty(pairs, dtype=torch.int32)
        self.logits_image_back, self.logits_audio_back = terms(pairs, width), terms(pairs, width)
        self.unit_back, self.h, self.h_terms, self.h_scale = (
            empty(pairs, d),
            empty(pairs, d),
            terms(pairs, d),
            empty(pairs),
        )
        self.y_back, self.g_scale = empty(pairs, d), empty(pairs)
        self.g_hi, self.g_lo = (empty(pairs, d, dtype=torch.half) for _ in range(2))
        self.rate = empty(1)
        self.at_once = 1 if capture is None else STEPS_A_GRAPH
        self.work = self._work()
        self.replays: dict[int, Callable[[], None]] = {}
        self.warm = False

    def load(self) -> None:
        """Take the state of the plain step."""
        for name, side in (("image", self.image), ("audio", self.audio)):
            side.load()
            self.work[f"gram {name}"]()

    def store(self) -> None:
        """Give the state back to the plain step."""
        self.image.store()
        self.audio.store()

    def advance(self, most: int, rate: float) -> int:
        """Make up to ``most`` steps of size ``rate``; returns how many."""
        self.rate.fill_(rate)
        if not self.warm or self.capture is None:
            self.run(1)  # compiles the kernels and gives each stream its workspace, before a capture
            self.warm = True
            return 1
        count = self.at_once if most >= self.at_once else 1
        if count not in self.replays:
            self.replays[count] = self.capture(lambda: self.run(count))
        self.replays[count]()
        return count

    def objective(self) -> Tensor:
        """Minimised value [S, R] at the last step, before its update; as :meth:`.step.Step.objective`."""
        s, r, k = self.shape
        value = (
            self.ce.view(-1, k).gather(1, self.k_star.long()[:, None]).squeeze(1) * self.settings.beta_penalty
        )
        for side in (self.image, self.audio):
            value = value + side.plain.beta * side.square.clamp(min=0).sqrt() - side.temporal_value
        return value.view(s, r)

    def cancelled(self, guard: float) -> bool:
        """Whether a residual at the last step is too small for its Gram form; waits for the device."""
        sides = (self.image, self.audio)
        return bool(torch.stack([(x.square <= x.plain.limit * guard).any() for x in sides]).any())

    def run(self, count: int) -> None:
        """Launch ``count`` steps, on three streams where there is a GPU."""
        if not self.rate.is_cuda:
            for work in self.work.values() if count == 1 else [*self.work.values()] * count:
                work()
            return
        main = torch.cuda.current_stream()
        streams = {"audio": main} | dict(zip(("image", "beside"), _streams(main.device)))
        for stream in streams.values():
            stream.wait_stream(main)
        awaited = {name for *_, needs in ORDER for name in needs}
        done: dict[str, torch.cuda.Event] = {}
        for name, where, needs in [order for order in ORDER if order[0] in self.work] * count:
            for event in (done[need] for need in needs if need in done):
                streams[where].wait_event(event)
            with torch.cuda.stream(streams[where]):
                self.work[name]()
            if name in awaited:
                done[name] = streams[where].record_event()
        for stream in streams.values():
            main.wait_stream(stream)

    def _work(self) -> dict[str, Callable[[], None]]:
        """What :data:`ORDER` names, ready to be launched."""
        c, image, audio = self.constants, self.image, self.audio
        work = {
            "project image": lambda: self._project(image),
            "project audio": lambda: self._project(audio),
            "gram image": lambda: self._gram(image),
            "gram audio": lambda: self._gram(audio),
            "embed": self._embed,
            "unit image": self._unit_image,
            "unit audio": self._unit_audio,
            "cross entropy": self._cross_entropy,
            "choose": self._choose,
            "back norm": self._back_norm,
            "back gelu": self._back_gelu,
            "factors image": lambda: self._factors(image, penalty=True),
            "factors audio": lambda: self._factors(audio, penalty=False),
            "weights image": lambda: self._weights(image, penalty=False),
            "weights audio": lambda: self._weights(audio, penalty=True),
            "linear2": lambda: product(self.hidden, c.linear2, self.y),
            "logits image": lambda: product(self.unit_image, c.image, self.logits_image),
            "logits audio": lambda: product(self.unit_audio, c.audio, self.logits_audio),
            "back image": lambda: product(self.logits_image_back, c.image_back, image.gradient),
            "back audio": lambda: product(self.logits_audio_back, c.audio_back, self.unit_back),
            "back linear2": lambda: product(self.h_terms, c.linear2_back, self.y_back),
        }
        if self.settings.beta_temporal > 0:
            work |= {
                "temporal image": lambda: self._temporal(image),
                "temporal audio": lambda: self._temporal(audio),
            }
        return {name: work[name] for name, *_ in ORDER if name in work}

    # Launches, in the order of a step -------------------------------------------------------------------------------

    def _project(self, side: Side) -> None:
        s, _, k = self.shape
        launch(
            kernels.project,
            (s, side.c // side.block + 1),
            *(side.x, side.u_hi, side.u_lo, side.v, side.p, side.along, side.uu, side.tokens),
            **side.sizes(k),
            BC=side.block,
            BN=TILE,
            stages=_stages(side.tokens // TILE),
        )

    def _gram(self, side: Side) -> None:
        s, _, k = self.shape
        launch(kernels.gram_factors, (s,), side.v, side.vv, side.c, **side.sizes(k), BC=TILE)

    def _embed(self) -> None:
        side, block = self.audio, 128 if self.d % 128 == 0 else TILE
        launch(
            kernels.embed,
            (self.shape[0], self.d // block),
            *(self.q_hi, self.q_lo, side.u_hi, side.u_lo, self.lift, self.e, self.hidden, side.tokens),
            D=self.d,
            ROWS=side.rows,
            L=side.columns,
            BD=block,
            BT=TILE,
            stages=_stages(side.tokens // TILE),
        )

    def _unit_image(self) -> None:
        side = self.image
        launch(
            kernels.unit_image,
            (len(self.inverse),),
            *(side.p, self.unit_image, self.inverse),
            C=side.c,
            BLOCK=triton.next_power_of_2(side.c),
        )

    def _unit_audio(self) -> None:
        launch(
            kernels.unit_audio,
            (len(self.e),),
            *(self.e, self.y, self.y_scale, *self._norm(), self.constants.anchors.projection.eps),
            *(self.unit_audio, self.statistics),
            D=self.d,
            ROWS=self.audio.rows,
            BLOCK=triton.next_power_of_2(self.d),
        )

    def _cross_entropy(self) -> None:
        logits = (self.logits_image, self.logits_audio, self._scale())
        launch(kernels.cross_entropy, (len(self.ce),), *logits, self.ce, **self._labels())

    def _choose(self) -> None:
        k = self.shape[2]
        launch(
            kernels.choose,
            (len(self.k_star),),
            *(self.ce, self.logits_image, self.logits_audio, self._scale(), self.k_star),
            *(self.logits_image_back, self.logits_audio_back),
            **self._labels(),
            K=k,
            KP=triton.next_power_of_2(k),
        )

    def _back_norm(self) -> None:
        _, r, k = self.shape
        launch(
            kernels.back_norm,
            (len(self.k_star),),
            *(self.unit_back, self._scale(), self.e, self.y, self.y_scale, self.statistics, self.k_star),
            *(*self._norm(), self.h, self.h_terms, self.h_scale),
            D=self.d,
            R=r,
            K=k,
            BLOCK=triton.next_power_of_2(self.d),
        )

    def _back_gelu(self) -> None:
        launch(
            kernels.back_gelu,
            (len(self.k_star),),
            *(self.h, self.h_scale, self.y_back, self.constants.linear2_scale, self.e, self.k_star),
            *(self.g_hi, self.g_lo, self.g_scale),
            D=self.d,
            K=self.shape[2],
            BLOCK=triton.next_power_of_2(self.d),
        )

    def _temporal(self, side: Side) -> None:
        _, r, k = self.shape
        links = self.links
        launch(
            kernels.temporal,
            (len(self.k_star),),
            *(side.v, self.k_star, links.previous, links.following, links.has_previous, links.has_following),
            *(links.weight, side.temporal, side.temporal_value),
            C=side.c,
            R=r,
            K=k,
            BLOCK=triton.next_power_of_2(side.c),
        )

    def _factors(self, side: Side, penalty: bool) -> None:
        _, r, k = self.shape
        launch(
            kernels_update.move_factors,
            (len(self.k_star), side.c // side.block),
            *(side.p, side.v, side.uu, side.vv, side.along, side.gram, side.plain.norm_x, side.square),
            *(side.m_hi, side.m_lo, side.m_scale, self.inverse, side.gradient, side.temporal, self.k_star),
            *(self.rate, side.plain.beta, self.settings.beta_penalty),
            C=side.c,
            R=r,
            K=k,
            KP=triton.next_power_of_2(k),
            L=side.columns,
            BC=side.block,
            WHOLE=triton.next_power_of_2(side.c),
            PENALTY=penalty,
            TEMPORAL=self.settings.beta_temporal > 0,
        )

    def _weights(self, side: Side, penalty: bool) -> None:
        _, r, k = self.shape
        # Few tokens: so that all multiprocessors have work.
        block = 32 if penalty else TILE
        launch(
            kernels_update.move_weights,
            (self.shape[0], side.tokens // block),
            *(side.x, side.m_hi, side.m_lo, side.m_scale, side.gram, side.w, side.u_hi, side.u_lo),
            *(self.q_hi, self.q_lo, self.lift, self.g_hi, self.g_lo, self.g_scale, self.k_star, self.rate),
            *(self.settings.beta_penalty, side.tokens, side.c, self.d),
            **side.sizes(k),
            D=self.d,
            R=r,
            BN=block,
            BC=TILE,
            BD=TILE,
            PENALTY=penalty,
            stages=3 if penalty else 4,
        )

    def _scale(self) -> float:
        """Of audio's logits, whose rows and anchors have length UNIT."""
        return self.constants.anchors.scale / kernels.UNIT.value**2

    def _norm(self) -> tuple[Tensor, Tensor]:
        projection = self.constants.anchors.projection
        return projection.norm_weight, projection.norm_bias

    def _labels(self) -> dict[str, int]:
        width = self.logits_image.shape[1]
        labels = len(self.constants.anchors.image)
        return {"J": labels, "WIDTH": width, "BLOCK": triton.next_power_of_2(width)}


def _stages(rounds: int) -> int:
    """Tiles that a loop holds: no more than it has rounds, as they take room from other programs."""
    return min(4, rounds)


@lru_cache(maxsize=8)
def _streams(device: torch.device) -> tuple[torch.cuda.Stream, torch.cuda.Stream]:
    """Two streams beside the solver's own; kept, as each has a workspace of cuBLAS."""
    return torch.cuda.Stream(device), torch.cuda.Stream(device)
