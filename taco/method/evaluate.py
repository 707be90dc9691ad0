"""From factors and proposals to score rows: maps of every method for one sample, and their counts.

Methods (rows are those of `taco.metrics`):

* TACO: proposals classified by the K image factors, channel k* (Sec. 3.4);
* U only: the activations of factor k* as a map, no segmenter;
* A-FC-CLIP: proposals classified by class names, channel of CLAP's most likely one; A⁺-FC-CLIP: the same with
  the names' text embeddings clamped at 0, as TACO's factors are (Table 1);
* on semantic tasks, TACO and A-FC-CLIP with a name for each proposal (`taco.method.naming`), which is not of the paper;
* controls: whole image, random mask, oracle mask.

A binary task scores a soft map in 0..1; a semantic one a map of class ids.
"""

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from taco import entries
from taco.data.predictions import COLUMN, encode
from taco.method import controls, naming
from taco.method.text import Labels
from taco.metrics import OWN, ScorePool, binary_row, semantic_row
from taco.metrics.tasks import TASKS
from taco.models import fcclip

DETERMINISTIC = -1
NO_BANK = "none"


@dataclass(frozen=True)
class Scoring:
    """How a task is scored.

    Attributes
    ----------
    task : str
        A key of `taco.metrics.tasks.TASKS`.
    dataset : str
    size : int
        Side in pixels at which maps and truth are compared.
    seed : int
        Of the random control.
    prompt_sets : sequence of {"list", "single"}
        Prompts of A-FC-CLIP.
    controls : sequence of {"whole image", "random mask", "oracle mask"}
    alpha, beta : float
        See `taco.models.fcclip.classify`.
    keep_predictions : {"masks", "maps"}, optional
        Keep every prediction in its row, see `taco.data.predictions`.
    metrics : mapping
        Metrics of one's own by name: ``entry`` (see `taco.entries`; its function ``score(scores, truth) -> float`` is given
        what `taco.metrics` is given) and ``tasks``.
    """

    task: str
    dataset: str
    size: int
    seed: int
    prompt_sets: Sequence[str]
    controls: Sequence[str]
    alpha: float
    beta: float
    keep_predictions: str | None = None
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """``binary``, ``pooled`` (binary, and by class) or ``semantic``."""
        return TASKS[self.task].kind


class Run(NamedTuple):
    """One variant of the method with one word bank: its factors for one sample, R seeds; what is named, by `naming`."""

    variant: str
    bank: str
    seeds: Sequence[int]
    image_activations: Tensor  # [R, N, K]
    image_factors: Tensor  # [R, K, C]
    k_star: Tensor  # int64 [R]
    classes: str = naming.FACTOR


class Prediction(NamedTuple):
    """One method's answer for one sample: a soft map or class ids [size, size], and the class it names.

    ``span`` is the least and greatest value of TACO's or U's map before it was stretched; NaN elsewhere.
    """

    method: str
    variant: str
    bank: str
    seed: int
    scores: np.ndarray
    k_star: int
    label: str
    span: tuple[float, float] = (math.nan, math.nan)


class Sample(NamedTuple):
    """All that is needed to score one sample."""

    key: str  # "<dataset>/<sample_id>"
    proposals: fcclip.Proposals
    clap_embedding: Tensor  # [D]
    grid: tuple[int, int]  # rows and columns of the image tokens
    truth: np.ndarray  # bool or int64 [size, size]
    runs: Sequence[Run]
    masks: Tensor | None = None  # float32 [Q, H, W], where they are at hand: tasks of one image share them
    contributed: Sequence[Prediction] = ()  # answers of methods of others


class Scorer:
    """Score samples of one task.

    Parameters
    ----------
    how : Scoring
    classes : Labels
        The dataset's own classes.
    constants : mapping
        ``void_embedding``, ``clip_logit_scale``, ``fcclip_logit_scale`` (see `taco.method.text`).
    device : torch.device

    Attributes
    ----------
    seconds : Counter
        Time spent on the maps of each method, and under ``masks`` on the proposals' masks that they share.
    answers : Counter
        Maps made by each method.
    """

    def __init__(
        self, how: Scoring, classes: Labels, constants: Mapping[str, np.ndarray], device: torch.device
    ):
        self.how = how
        self.seconds: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.own = {
            name: entries.load_function(one["entry"], f"evaluation.metrics.{name}.entry", "score")
            for name, one in how.metrics.items()
            if how.task in one["tasks"]
        }
        self.names = classes.names
        self.clip_labels = torch.from_numpy(classes.clip).to(device)
        self.clap_labels = F.normalize(torch.from_numpy(classes.clap).to(device), dim=-1)
        # Background is a class of AVSS (id 0); elsewhere ids count from 1 and 0 is none.
        self.first_id = 0 if classes.names[0] == "background" else 1
        self.clap_scale = float(constants["clap_logit_scale"])
        self.decoding = {
            "void": torch.from_numpy(constants["void_embedding"]).to(device),
            "clip_scale": float(constants["clip_logit_scale"]),
            "fcclip_scale": float(constants["fcclip_logit_scale"]),
            "alpha": how.alpha,
            "beta": how.beta,
        }

    def scored(
        self, sample: Sample, pools: dict[tuple, ScorePool], class_name: str
    ) -> Iterator[tuple[Prediction, dict[str, Any]]]:
        """Yield every answer with its row, without identity of sample and task; add ADE SP's scores to ``pools``."""
        confidence, clap_label = self._listen(sample.clap_embedding)
        for answer in chain(self.predictions(sample, clap_label), sample.contributed):
            cell = (answer.method, answer.variant, answer.bank, answer.seed)
            if self.how.kind == "semantic":
                counts = semantic_row(answer.scores, sample.truth, len(self.names), self.first_id)
            else:
                counts = binary_row(answer.scores, sample.truth)
            if self.how.kind == "pooled":
                pools.setdefault((class_name, *cell), ScorePool()).update(answer.scores, sample.truth)
            row = {
                **dict(zip(("method", "variant", "word_bank", "seed"), cell, strict=True)),
                **counts,
                "k_star": answer.k_star,
                "label": answer.label,
                "floor": answer.span[0],
                "peak": answer.span[1],
                "clap_label": self.names[clap_label],
                "clap_confidence": confidence,
                **{OWN + name: self._own(name, answer, sample) for name in self.own},
                **self._kept(answer),
            }
            yield answer, row

    def _own(self, name: str, answer: Prediction, sample: Sample) -> float:
        value = self.own[name](answer.scores, sample.truth)
        if isinstance(value, bool) or not isinstance(value, Real) or math.isinf(value):
            raise entries.EntryError(
                f"evaluation.metrics.{name}: expected a finite number, or NaN for an image without a value, of "
                f"{answer.method} on {sample.key}; found {value!r}"
            )
        return float(value)

    def _kept(self, answer: Prediction) -> dict[str, bytes]:
        keep = self.how.keep_predictions
        return {COLUMN: encode(answer.scores, keep)} if keep else {}

    def predictions(self, sample: Sample, clap_label: int) -> Iterator[Prediction]:
        """Yield every method's answer for one sample; ``clap_label`` is CLAP's most likely class (index)."""
        masks = shared_masks(sample.proposals, [self]) if sample.masks is None else sample.masks
        if sample.runs:
            yield from self._clocked(self._taco(sample, masks))
            if self.how.kind != "semantic":
                yield from self._clocked(self._activations_alone(sample))
        yield from self._clocked(self._named_by_sound(sample, masks, clap_label))
        yield from self._clocked(self._controls(sample, masks, clap_label))

    def _clocked(self, answers: Iterator[Prediction]) -> Iterator[Prediction]:
        """Pass answers on, and add to ``seconds`` what it took to make them."""
        started = time.perf_counter()
        for answer in answers:
            self.seconds[answer.method] += time.perf_counter() - started
            self.answers[answer.method] += 1
            yield answer
            started = time.perf_counter()

    def _hear(self, embedding: Tensor) -> Tensor:
        """CLAP's probability of each class of the dataset's own list [J]."""
        return (self.clap_scale * self.clap_labels @ F.normalize(embedding, dim=-1)).softmax(-1)

    def _listen(self, embedding: Tensor) -> tuple[float, int]:
        """CLAP's most likely class of the dataset's own list: its probability and index."""
        probability, index = self._hear(embedding).max(-1)
        return float(probability), int(index)

    def _taco(self, sample: Sample, masks: Tensor) -> Iterator[Prediction]:
        # A variant may have another K.
        for _, runs in groupby(sample.runs, key=lambda run: run.image_factors.shape[1]):
            yield from self._taco_of(sample, list(runs), masks)

    def _taco_of(self, sample: Sample, runs: Sequence[Run], masks: Tensor) -> Iterator[Prediction]:
        """TACO's answers for runs of one K, decoded together."""
        prompts = torch.cat([run.image_factors for run in runs])
        k_star = torch.cat([run.k_star for run in runs])
        classes = self._classify(sample, prompts)
        chosen = torch.arange(len(prompts), device=prompts.device)
        shares = classes[chosen, :, k_star]
        named = self._nearest_label(prompts[chosen, k_star])
        spans = None
        if self.how.task == "avss":
            regions = torch.stack([_argmax_region(p, masks, k) for p, k in zip(classes, k_star, strict=True)])
        else:
            maps = torch.einsum("pq,qhw->phw", shares, masks)
            regions, spans = stretch(maps), span_of(maps)
        scores, labels = self._finish(regions, named), [self.names[label] for label in named]
        several = [run.classes == naming.PROPOSALS for run in runs for _ in run.seeds]
        if any(several):
            names = self._proposal_names(sample)
            for place in np.flatnonzero(several):
                scores[place], labels[place] = self._by_proposal(regions[place], shares[place], masks, names)
        yield from self._label_runs("TACO", runs, scores, labels, spans)

    def _proposal_names(self, sample: Sample) -> Tensor:
        """Class of each proposal [Q], an index into the names; see `naming`."""
        seen = self._classify(sample, self.clip_labels[None])[0]
        return naming.names(
            seen, self._hear(sample.clap_embedding), range(1 - self.first_id, len(self.names))
        )

    def _by_proposal(
        self, region: Tensor, shares: Tensor, masks: Tensor, names: Tensor
    ) -> tuple[np.ndarray, str]:
        """Class ids [size, size] of a region with a name for each proposal; the names that are seen, most pixels first."""
        painted = naming.paint(region.round() > 0, shares, masks, names + self.first_id)
        ids = self._resize_ids(painted[None])[0]
        shown = Counter(ids[ids > 0].tolist()).most_common()
        return ids, ", ".join(self.names[found - self.first_id] for found, _ in shown)

    def _activations_alone(self, sample: Sample) -> Iterator[Prediction]:
        maps = [run.image_activations[torch.arange(len(run.seeds)), :, run.k_star] for run in sample.runs]
        maps = torch.cat(maps).unflatten(-1, sample.grid)
        named = self._nearest_label(
            torch.cat([run.image_factors[torch.arange(len(run.seeds)), run.k_star] for run in sample.runs])
        )
        scores, labels = self._finish(stretch(maps), named), [self.names[label] for label in named]
        yield from self._label_runs("U only", sample.runs, scores, labels, span_of(maps))

    def _label_runs(
        self,
        method: str,
        runs: Sequence[Run],
        scores: np.ndarray,
        labels: Sequence[str],
        spans: Sequence[tuple[float, float]] | None,
    ) -> Iterator[Prediction]:
        cells = [(run, seed, int(k)) for run in runs for seed, k in zip(run.seeds, run.k_star, strict=True)]
        spans = spans or [(math.nan, math.nan)] * len(cells)
        for (run, seed, k_star), score, label, span in zip(cells, scores, labels, spans, strict=True):
            yield Prediction(method, run.variant, run.bank, seed, score, k_star, label, span)

    def _named_by_sound(self, sample: Sample, masks: Tensor, clap_label: int) -> Iterator[Prediction]:
        runs = [("A-FC-CLIP", prompt_set, self.clip_labels) for prompt_set in self.how.prompt_sets]
        if "list" in self.how.prompt_sets:
            runs.append(("A⁺-FC-CLIP", "list", self.clip_labels.clamp(min=0)))
        for method, prompt_set, prompts in runs:
            channel = clap_label
            if prompt_set == "single":
                if self.how.kind == "semantic":
                    continue  # the arg-max over one prompt is the whole image, which is a control already
                prompts, channel = prompts[clap_label : clap_label + 1], 0
            classes = self._classify(sample, prompts[None])[0]
            if self.how.kind == "semantic":
                region = _argmax_region(classes, masks, channel)[None]
            else:
                region = stretch(torch.einsum("q,qhw->hw", classes[:, channel], masks)[None])
            scores = self._finish(region, [clap_label])[0]
            label = self.names[clap_label]
            yield Prediction(method, prompt_set, "specific", DETERMINISTIC, scores, -1, label)
            several = {run.variant: run for run in sample.runs if run.classes == naming.PROPOSALS}
            if method == "A-FC-CLIP" and several:
                names = self._proposal_names(sample)
                found = self._by_proposal(region[0], classes[:, channel], masks, names)
                for variant in several:
                    yield Prediction(method, variant, "specific", DETERMINISTIC, found[0], -1, found[1])

    def _controls(self, sample: Sample, masks: Tensor, clap_label: int) -> Iterator[Prediction]:
        """Binary masks; they bypass the stretching of soft maps."""
        shape = sample.truth.shape
        semantic = self.how.kind == "semantic"
        for method in self.how.controls:
            if method == "whole image":
                mask, label = controls.whole_image(shape), clap_label
            elif method == "random mask":
                mask = controls.random_mask(self.how.seed, sample.key, shape)
                label = controls.random_class(self.how.seed, sample.key, len(self.names))
            else:
                wanted = controls.oracle_class(sample.truth) if semantic else 1
                resized = F.interpolate(masks[None], self._square, mode="bilinear", align_corners=False)[0]
                mask = controls.oracle_union(
                    (resized > 0.5).cpu().numpy(), (sample.truth == wanted) & (wanted > 0)
                )
                label = max(wanted - self.first_id, 0) if semantic else clap_label
            scores = mask * np.int64(label + self.first_id) if semantic else mask.astype(np.float32)
            yield Prediction(method, "control", NO_BANK, DETERMINISTIC, scores, -1, self.names[label])

    @property
    def _square(self) -> tuple[int, int]:
        return (self.how.size, self.how.size)

    def _classify(self, sample: Sample, prompts: Tensor) -> Tensor:
        proposals = sample.proposals
        return fcclip.classify(proposals.class_embeddings[0], proposals.pooled[0], prompts, **self.decoding)

    def _nearest_label(self, factors: Tensor) -> list[int]:
        """Index of the class whose CLIP text is closest to each factor [P, C]."""
        similarity = F.normalize(factors, dim=-1) @ F.normalize(self.clip_labels, dim=-1).T
        return similarity.argmax(-1).tolist()

    def _finish(self, regions: Tensor, labels: Sequence[int]) -> np.ndarray:
        """Resize maps [P, h, w] in 0..1 to the size of the scores; semantic: paint each in its class's id."""
        if self.how.kind != "semantic":
            resized = F.interpolate(
                regions[:, None].float(), self._square, mode="bicubic", align_corners=True
            )
            return resized[:, 0].cpu().numpy()
        ids = torch.tensor(labels, device=regions.device)[:, None, None] + self.first_id
        return self._resize_ids(regions.round() * ids)

    def _resize_ids(self, painted: Tensor) -> np.ndarray:
        """Class ids [P, h, w] at the size of the scores, int64."""
        resized = F.interpolate(painted[:, None].float(), self._square, mode="nearest")
        return resized[:, 0].cpu().numpy().astype(np.int64)


def shared_masks(proposals: fcclip.Proposals, scorers: Sequence[Scorer]) -> Tensor:
    """Soft masks [Q, H, W] of one image for several tasks; each is charged with the time, as it would need it alone."""
    started = time.perf_counter()
    masks = fcclip.soft_masks(proposals)
    for scorer in scorers:
        scorer.seconds["masks"] += time.perf_counter() - started
    return masks


def _argmax_region(classes: Tensor, masks: Tensor, channel: Any) -> Tensor:
    """Pixels [H, W], 1.0 where ``channel`` is the greatest of classes [Q, K] over soft masks [Q, H, W]."""
    maps = torch.einsum("qk,qhw->khw", classes, masks)
    return (maps.argmax(0) == channel).float()


def stretch(maps: Tensor) -> Tensor:
    """Stretch each map [P, H, W] to 0..1; a constant one becomes zeros (as `taco.metrics.min_max`)."""
    flat = maps.float().flatten(1)
    low, high = flat.amin(1)[:, None, None], flat.amax(1)[:, None, None]
    span = high - low
    return torch.where(span > 0, (maps - low) / span.clamp(min=torch.finfo(torch.float32).tiny), 0.0)


def span_of(maps: Tensor) -> list[tuple[float, float]]:
    """Least and greatest value of each map [P, H, W], before it is stretched."""
    flat = maps.float().flatten(1)
    return list(zip(flat.amin(1).tolist(), flat.amax(1).tolist(), strict=True))


def pool_rows(pools: Mapping[tuple, ScorePool], task: str, dataset: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of ADE SP's pools, sorted as they are asked for; see `taco.metrics`."""
    names = ("class_name", "method", "variant", "word_bank", "seed")
    identity = {"task": task, "dataset": dataset}
    for cell, pool in pools.items():
        yield {**identity, **dict(zip(names, cell, strict=True)), **pool.to_row()}
