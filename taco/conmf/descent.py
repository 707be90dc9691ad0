"""The descent of one batch: schedule, trace, checkpoints, early stop, CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .penalty import Penalty
from .settings import FIELDS, Anchors, CoNMFError, Result, Settings
from .step import Links, Modality, Step

if TYPE_CHECKING:
    from .fast import Fast  # needs Triton

# Steps between two looks at residuals (while a graph runs) and at the objective (for an early stop).
LOOK_EVERY = 25
# A graph is left when a residual's ratio is within this factor of the guard.
LOOK_MARGIN = 4.0
# Steps from the host before a capture.
WARM_UP = 3


@dataclass
class Batch:
    """A batch at its start.

    Attributes
    ----------
    image, audio : (X [S, N, C], counts [S], W [S, R, K, N], V [S, R, K, C])
        Rows of X behind a sample's count are 0 and its W there is -inf.
    lengths : list of int
        Samples of each unit, in order; they sum to S.
    """

    image: tuple[Tensor, Tensor, Tensor, Tensor]
    audio: tuple[Tensor, Tensor, Tensor, Tensor]
    lengths: list[int]


def make_step(batch: Batch, settings: Settings, anchors: Anchors) -> Step:
    """Buffers and constants for a batch."""
    squared = settings.norm == "squared"
    x, counts, w, v = batch.audio
    audio = Modality(x, w, v, settings.beta_audio, squared)
    counts = counts.to(x)
    projected = (x @ anchors.projection.linear1.t()).div_(counts[:, None, None])
    penalty = Penalty(settings, anchors, projected, counts, w.shape[1])
    x, _, w, v = batch.image
    image = Modality(x, w, v, settings.beta_image, squared)
    return Step(settings, penalty, image, audio, _links(batch.lengths, x, settings))


def descend(
    batch: Batch,
    settings: Settings,
    anchors: Anchors,
    capture: Callable[[Callable[[], None]], Callable] | None = None,
    accelerate: Callable[[Step], Fast | None] | None = None,
) -> tuple[Result, int]:
    """Solve a batch from its start: all steps, with what the settings ask to keep on the way.

    Parameters
    ----------
    batch : Batch
    settings : Settings
    anchors : Anchors
        As prepared by the solver: directions, computing type, device.
    capture : callable, optional
        Turns a function of no arguments into one that repeats its device work (:func:`cuda_graph`). ``None`` runs
        every step from the host.
    accelerate : callable, optional
        Makes fast steps of a plain one, or ``None`` where there are none for it (:func:`.fast.make`).

    Returns
    -------
    Result, and in how many (unit, seed) pairs the objective ended above its start.
    """
    step = make_step(batch, settings, anchors)
    runner = Runner(step, settings, capture, None if accelerate is None else accelerate(step))
    plateau = None if settings.tolerance is None else Plateau(settings, batch.lengths, step)
    trace: list[Tensor] = []
    checkpoints: dict[int, Result] = {}
    final = first = None
    for i in _events(settings):
        kept = i + 1 == settings.steps or i + 1 in settings.checkpoints
        traced = settings.trace_every and i % settings.trace_every == 0
        if plateau is None and not kept:
            value = runner.trace(i)
            first = value if first is None else first
            trace += [value] * bool(traced)
            continue
        runner.run_to(i)
        value = runner.measure()
        first = value if first is None else first
        stopped = None if plateau is None else plateau.stopped.clone()
        if traced:
            trace.append(
                value if stopped is None else torch.where(stopped, trace[-1] if trace else value, value)
            )
        stopping = plateau.look(i, value) if plateau is not None and i % LOOK_EVERY == 0 else None
        if not kept and (stopping is None or not bool(stopping.any())):
            runner.move()
            continue
        snapshot = _measured(step, i + 1)
        runner.move()
        _finish(snapshot, step)
        final = snapshot if final is None or stopped is None else _merge(final, snapshot, stopped)
        if i + 1 in settings.checkpoints:
            checkpoints[i + 1] = final
        if plateau is not None and bool(plateau.stopped.all()):
            break
    risen = _sum_units(value, batch.lengths) > _sum_units(first, batch.lengths)
    return _result(final, trace, checkpoints, settings), int(risen.sum())


class Runner:
    """Makes steps one after the other: from the host, as a captured graph, or many at a time by fast steps.

    Neither a graph nor fast steps look at their own residuals, so they are left for good, in favour of guarded steps from
    the host, when a residual comes near the guard. The first steps are always made from the host, and warm up what the
    capture needs (library handles, workspaces, compiled kernels). A captured step asks nothing of the host, keeps no shape
    that hangs on values, and finds its state and its step size at addresses that never change.
    """

    def __init__(self, step: Step, settings: Settings, capture=None, fast: Fast | None = None) -> None:
        self.step, self.settings, self.capture, self.fast = step, settings, capture, fast
        self.rate = torch.tensor(settings.first_rate, dtype=step.image.x.dtype, device=step.image.x.device)
        self.done, self.replay, self.warm = 0, None, 0
        self.is_fast, self.look = False, 0  # who has the newest state; when residuals are looked at next

    def run_to(self, target: int) -> None:
        """Make steps until ``target`` of them are done."""
        self._run_fast(target)
        while self.done < target:
            self._choose()
            self._set_rate()
            if self.replay is not None:
                self.replay()
                self.done += 1
            else:
                self.step.forward(self.step.steers)
                self.move()

    def trace(self, i: int) -> Tensor:
        """Objective [S, R] at step ``i``, which is made too."""
        fast = self.fast
        self._run_fast(i + 1)
        if self.done > i:
            return fast.objective()
        self.run_to(i)
        value = self.measure()
        self.move()
        return value

    def measure(self) -> Tensor:
        """Forward pass with descriptors from the host; returns the objective [S, R]."""
        self._to_plain()
        self.step.forward(True)
        return self.step.objective()

    def move(self) -> None:
        """Finish the step of which the forward pass was the last thing done."""
        self._set_rate()
        self.step.update(self.rate)
        self.done += 1
        self.warm += 1

    def _choose(self) -> None:
        """Capture a step when all is warm; leave the graph when a residual has come near the guard."""
        if self.capture is None or self.warm < WARM_UP or (self.replay and self.done % LOOK_EVERY):
            return
        if self.step.cancelled(LOOK_MARGIN):
            self.replay = self.capture = None
        elif self.replay is None:
            self.replay = self.capture(self._unguarded)

    def _unguarded(self) -> None:
        self.step.forward(self.step.steers, guarded=False)
        self.step.update(self.rate)

    def _run_fast(self, target: int) -> None:
        """Make steps by kernels, until ``target`` or until a residual comes near the guard; the first step is plain."""
        if self.fast is None or not 0 < self.done < target:
            return
        near = self._to_fast()
        while self.done < target and not near:
            ahead = min([target, *(step for step in self.settings.halve_at if step > self.done)])
            self.done += self.fast.advance(ahead - self.done, self.settings.rate(self.done))
            if self.done + self.fast.at_once > self.look:
                near, self.look = self.fast.cancelled(self.step.guard * LOOK_MARGIN), self.done + LOOK_EVERY
        if near:
            self._to_plain()
            self.fast = self.capture = None

    def _to_fast(self) -> bool:
        """Let the fast steps have the state; whether a residual is near the guard already."""
        if self.is_fast:
            return False
        self.fast.load()
        self.is_fast, self.look = True, self.done + LOOK_EVERY
        return self.step.cancelled(LOOK_MARGIN)

    def _to_plain(self) -> None:
        """Let the plain step have the state."""
        if self.is_fast:
            self.fast.store()
            self.rate.fill_(self.settings.rate(self.done))
            self.is_fast = False

    def _set_rate(self) -> None:
        if self.done in self.settings.halve_at:
            self.rate.fill_(self.settings.rate(self.done))


def cuda_graph(work: Callable[[], None]) -> Callable[[], None]:
    """Capture the device work of ``work`` once; the returned function repeats it without the host.

    The current stream, on which the warm-up ran, is captured too (it must not be the default one), and other threads may
    use the device meanwhile.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
        work()
    return graph.replay


class Plateau:
    """Which (sample, seed) pairs have stopped falling; the frames of a clip stop together."""

    def __init__(self, settings: Settings, lengths: list[int], step: Step) -> None:
        self.tolerance, self.patience = settings.tolerance, settings.patience
        s, r = step.image.shape[:2]
        device = step.image.x.device
        self.lengths = lengths
        self.unit = _unit_of_sample(lengths).to(device)
        self.best = torch.full((len(lengths), r), float("inf"), dtype=step.image.x.dtype, device=device)
        self.best_at = torch.zeros(len(lengths), r, dtype=torch.int64, device=device)
        self.stopped = torch.zeros(s, r, dtype=torch.bool, device=device)

    def look(self, i: int, value: Tensor) -> Tensor:
        """Pairs [S, R] that stop at step ``i``, given the objective [S, R] there."""
        total = _sum_units(value, self.lengths)
        fallen = (total < self.best - self.tolerance * self.best.abs()) | self.best.isinf()
        self.best = torch.where(fallen, total, self.best)
        self.best_at.masked_fill_(fallen, i)
        stopping = (i - self.best_at >= self.patience)[self.unit] & ~self.stopped
        self.stopped |= stopping
        return stopping


def _unit_of_sample(lengths: list[int]) -> Tensor:
    """Index of each sample's unit: [S]."""
    return torch.tensor([unit for unit, length in enumerate(lengths) for _ in range(length)])


def _sum_units(value: Tensor, lengths: list[int]) -> Tensor:
    """Sums [units, R] of an objective [S, R] over the samples of each unit."""
    return torch.stack([part.sum(0) for part in value.split(lengths)])


def _events(settings: Settings) -> list[int]:
    """Steps (from 0) at which something is measured."""
    events = {0} | {step - 1 for step in (*settings.checkpoints, settings.steps)}
    if settings.trace_every:
        events.update(range(0, settings.steps, settings.trace_every))
    if settings.tolerance is not None:
        events.update(range(0, settings.steps, LOOK_EVERY))
    return sorted(events)


def _measured(step: Step, n_steps: int) -> Result:
    """What belongs to the last forward pass; V is to follow the update."""
    s, r, k, _, _ = step.image.shape
    return Result(
        image_activations=_by_seed(step.image.u.transpose(1, 2), r),
        audio_activations=_by_seed(step.audio.u.transpose(1, 2), r),
        image_factors=torch.empty(0),
        audio_factors=torch.empty(0),
        k_star=_by_seed(step.k_star, r),
        cross_entropy=_by_seed(step.penalty.cross_entropy.view(s * r, k), r),
        reconstruction_image=_by_seed(step.image.square.clamp(min=0).sqrt(), r),
        reconstruction_audio=_by_seed(step.audio.square.clamp(min=0).sqrt(), r),
        objective=torch.empty(0),
        objective_steps=(),
        n_steps=torch.full((r, s), n_steps),
    )


def _finish(result: Result, step: Step) -> None:
    """Add V, after the update."""
    r = step.image.shape[1]
    result.image_factors, result.audio_factors = _by_seed(step.image.v, r), _by_seed(step.audio.v, r)


def _by_seed(t: Tensor, n_seeds: int) -> Tensor:
    """A copy [R, S, ...] on the CPU of a tensor [S*R, ...] on the device."""
    return t.unflatten(0, (-1, n_seeds)).transpose(0, 1).cpu().clone()


def _merge(old: Result, new: Result, keep: Tensor) -> Result:
    """``new``, but ``old`` for the pairs of ``keep`` [S, R]."""
    keep = keep.t().cpu()

    def choose(name: str) -> Tensor:
        a, b = getattr(old, name), getattr(new, name)
        return torch.where(keep.view(*keep.shape, *[1] * (a.dim() - 2)), a, b)

    return replace(new, **{name: choose(name) for name in FIELDS})


def _result(final: Result, trace: list[Tensor], checkpoints: dict[int, Result], settings: Settings) -> Result:
    """The result with its trace and checkpoints; after an early stop both go on at the last value."""
    steps = tuple(range(0, settings.steps, settings.trace_every)) if settings.trace_every else ()
    trace += [trace[-1]] * (len(steps) - len(trace)) if trace else []
    r, s = final.k_star.shape
    objective = (
        torch.stack(trace, 2).transpose(0, 1).cpu().clone()
        if trace
        else final.image_factors.new_empty(r, s, 0)
    )
    kept = {
        step: replace(
            checkpoints.get(step, final),
            objective=objective[..., : sum(at < step for at in steps)],
            objective_steps=tuple(at for at in steps if at < step),
        )
        for step in settings.checkpoints
    }
    for result in (final, *kept.values()):
        for name in ("image_activations", "image_factors", "audio_factors"):
            if not torch.isfinite(getattr(result, name)).all():
                raise CoNMFError(
                    f"co-NMF diverged: {name} is not finite after {settings.steps} steps of size "
                    f"{settings.first_rate:g}; take a smaller learning_rate"
                )
    return replace(final, objective=objective, objective_steps=steps, checkpoints=kept)


def _links(lengths: list[int], like: Tensor, settings: Settings) -> Links:
    """Neighbours in time within each unit, and the weight of its temporal term."""
    unit = _unit_of_sample(lengths)
    index = torch.arange(len(unit))
    previous, following = (index - 1).clamp(min=0), (index + 1).clamp(max=len(unit) - 1)
    has = [
        ((unit[other] == unit) & (other != index)).to(like)[:, None, None] for other in (previous, following)
    ]
    times = torch.tensor(lengths)[unit] if settings.temporal_weight == "release" else torch.ones(len(unit))
    weight = (settings.beta_temporal * times).to(like)[:, None, None]
    return Links(previous.to(like.device), following.to(like.device), *has, weight)
