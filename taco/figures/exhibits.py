"""Which figures there are, and the written rule by which each chooses its examples. No torch.

`FIGURES` maps a figure's name (its file's) to a function that draws it from an `Evidence`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from taco.figures import charts, drawing
from taco.figures.choosing import FAILURES, draw, failures, nearest_quantile, other_objects, parts
from taco.figures.examples import ExampleError, Source
from taco.metrics.tasks import TASKS
from taco.results import aggregate

UPPER_QUARTILE = 0.75


@dataclass(frozen=True)
class Evidence:
    """All that figures are drawn from.

    Attributes
    ----------
    suite : str
    sources : dict task → Source
    rows, pools : DataFrame
        Score rows, and the index of ADE SP's pools (`taco.results.score_files`, `taco.results.pools`).
    traces : dict of dataset's title to (steps, objective [R, S, L])
    steps : DataFrame or None
        See `taco.figures.charts.steps`; None where Figure 6 is not drawn.
    n_rows : int
        Samples in a figure of drawn samples.
    seed : int
    """

    suite: str
    sources: Mapping[str, Source]
    rows: pd.DataFrame
    pools: pd.DataFrame
    traces: Mapping[str, tuple[Sequence[int], np.ndarray]]
    steps: pd.DataFrame | None
    n_rows: int
    seed: int

    @cached_property
    def values(self) -> pd.DataFrame:
        """Every metric for each seed."""
        return aggregate.per_seed(self.rows, self.pools)

    def source(self, task: str) -> Source:
        """Examples of a task."""
        if task not in self.sources:
            raise ExampleError(
                f"a figure needs examples of {TASKS[task].title}; this configuration has {', '.join(self.sources)}: "
                "score that task, or drop the figure from `figures.which`"
            )
        return self.sources[task]


def _several_sources(source: Source) -> pd.DataFrame:
    """Images whose truth has at least two separate parts (the real MS3 names no classes of a frame)."""
    several = [len(parts(source.truth(sample))) >= 2 for sample in source.table.index]
    return source.table[several]


def _silent_objects(source: Source) -> pd.Series:
    """Number of annotated classes beside the prompted one, for each image (ADE SP); the masks of another reader hold none."""
    frame = source.manifest.loc[source.table.index]
    return (
        frame["mask"]
        .where(frame["class_id"] >= 0)
        .map(other_objects, na_action="ignore")
        .fillna(0)
        .astype(int)
    )


def _bank_note(source: Source) -> str:
    return f"First seed ({source.first_seed}), {source.bank} bank."


def overview(evidence: Evidence) -> Figure:
    """One source, several sources, silent objects, another clip's sound: one image of each, by rule."""
    s4, ms3, ade = (evidence.source(task) for task in ("s4", "ms3", "ade_sp"))
    one = nearest_quantile(s4.table["taco"], UPPER_QUARTILE)
    other = nearest_quantile(s4.table["shuffled"], 0.5) if "shuffled" in s4.table else None
    several = _several_sources(ms3)
    others = _silent_objects(ade)
    crowded = ade.table[others > 0]
    rows = [
        ("One source", s4.shown(one)),
        ("Several sources", ms3.shown(nearest_quantile(several["taco"], UPPER_QUARTILE))),
        ("Silent objects beside it", ade.shown(nearest_quantile(crowded["taco"], UPPER_QUARTILE))),
        ("Another clip's sound", s4.shown(other, "shuffled")),
    ]
    note = (
        f"Chosen by rule: the image at the upper quartile of IoU among {len(s4.table)} of S4, {len(several)} of MS3 "
        f"with a truth in several parts, and {len(crowded)} of ADE SP with silent annotated objects; last row: the S4 image at the median "
        f"IoU with exchanged sounds. {_bank_note(s4)} Masks at the set's best threshold. Min-max stretching "
        "gives every map a maximum of 1, even where nothing in the image sounds."
    )
    return drawing.grid(rows, drawing.BINARY, "What TACO sees and hears", note, evidence.suite)


def figure4(evidence: Evidence) -> Figure:
    """A small source, a sound that is not in the image, several possible sources."""
    s4, ade = evidence.source("s4"), evidence.source("ade_sp")
    good = s4.table[s4.table["taco"] >= s4.table["taco"].median()].sort_index()
    area = pd.Series([int(s4.truth(sample).sum()) for sample in good.index], good.index)
    other = draw(s4.table, 1, evidence.seed, "figure 4")[0]
    fine = ade.table["taco"] >= ade.table["taco"].quantile(UPPER_QUARTILE)
    crowd = _silent_objects(ade)[fine].sort_index()
    rows = [
        ("Small source", s4.shown(str(area.idxmin()))),
        ("Negative sound", s4.shown(other, "shuffled")),
        ("Several objects", ade.shown(str(crowd.idxmax()) if crowd.max() > 0 else None)),
    ]
    note = (
        f"Chosen by rule: least area of truth among the {len(good)} S4 images with at least the median IoU; an S4 image "
        f"drawn by seed from {len(s4.table)}, with another clip's sound; most annotated objects among the {len(crowd)} "
        f"ADE SP images in the upper quarter of IoU. {_bank_note(s4)}"
    )
    return drawing.grid(rows, drawing.BINARY, "Figure 4. Examples of S4 and ADE SP", note, evidence.suite)


def figure5(evidence: Evidence) -> Figure:
    """The frames of one clip of MS3 with the words closest to the image factor k*."""
    ms3 = evidence.source("ms3")
    several = _several_sources(ms3)
    means = several.groupby("clip_id")["taco"].mean()
    clip = nearest_quantile(means, UPPER_QUARTILE)
    frames = ms3.manifest[ms3.manifest["clip_id"] == clip].sort_values("frame")
    rows = [(f"Frame {row.frame + 1}", ms3.shown(row.sample_id)) for row in frames.itertuples()]
    rows = rows or [("Several sources", None)]
    note = (
        f"Chosen by rule: the clip at the upper quartile of mean IoU among {len(means)} clips of MS3 with a truth in "
        f"several parts; all of its frames. Words: cosine of the image factor with all {len(ms3.labels.names)} labels of the "
        f"{ms3.words} bank. {_bank_note(ms3)} An empty truth means that nothing sounds in that frame."
    )
    title = "Figure 5. Frames of one clip with several sources"
    return drawing.grid(rows, drawing.FRAMES, title, note, evidence.suite, words=0)


def figure7(evidence: Evidence) -> Figure:
    """Semantic examples of AVSS: drawn among images with several classes in their truth, where there are such."""
    avss = evidence.source("avss")
    counts = pd.Series(
        [len(np.unique(avss.truth(s)[avss.truth(s) > 0])) for s in avss.table.index], avss.table.index
    )
    several = avss.table[counts >= 2]
    chosen = draw(several if len(several) else avss.table, evidence.n_rows, evidence.seed, "figure 7")
    kind = "several classes in their truth" if len(several) else "any truth"
    note = (
        f"n = {len(chosen)}, at most one image of a clip, drawn by seed from {len(several) or len(avss.table)} of AVSS with {kind}. "
        f"One factor names one class, so that all it marks bears one name. {_bank_note(avss)}"
    )
    rows = [("", avss.shown(sample)) for sample in chosen]
    return drawing.grid(rows, drawing.SEMANTIC, "Figure 7. Semantic examples of AVSS", note, evidence.suite)


def _drawn(evidence: Evidence, task: str, number: int) -> Figure:
    source = evidence.source(task)
    chosen = draw(source.table, evidence.n_rows, evidence.seed, f"figure {number}")
    note = (
        f"n = {len(chosen)}, at most one image of a clip, drawn by seed {evidence.seed} from {len(source.table)}. "
        f"{_bank_note(source)} Masks at the set's best threshold ({source.thresholds['taco']:.2f})."
    )
    title = f"Figure {number}. Examples of {TASKS[task].title}, drawn at random"
    rows = [("", source.shown(sample)) for sample in chosen]
    return drawing.grid(rows, drawing.BINARY, title, note, evidence.suite)


def figure8(evidence: Evidence) -> Figure:
    """Examples of ADE SP, drawn by seed."""
    return _drawn(evidence, "ade_sp", 8)


def figure9(evidence: Evidence) -> Figure:
    """Examples of MS3, drawn by seed."""
    return _drawn(evidence, "ms3", 9)


def figure10(evidence: Evidence) -> Figure:
    """One failure of each kind on MS3."""
    ms3 = evidence.source("ms3")
    found = failures(ms3)
    rows = [(kind.capitalize(), ms3.shown(sample) if sample else None) for kind, sample in found.items()]
    rules = "; ".join(f"{kind}: {rule}" for kind, rule in FAILURES.items())
    note = f"Chosen by rule among the images of MS3 with a truth ({len(ms3.table)} images in all): {rules}. {_bank_note(ms3)}"
    return drawing.grid(rows, drawing.BINARY, "Figure 10. Failure cases on MS3", note, evidence.suite)


def words(evidence: Evidence) -> Figure:
    """Factor-to-word similarities of the overview's image with several sources."""
    ms3 = evidence.source("ms3")
    several = _several_sources(ms3)
    sample = nearest_quantile((several if len(several) else ms3.table)["taco"], UPPER_QUARTILE)
    similarity, k_star = ms3.similarity(sample)
    sounding = ", ".join(ms3.manifest.loc[sample, "classes"])
    note = (
        f"n = 1 image, at the upper quartile of IoU ({'a truth in several parts' if len(several) else 'all of MS3'}); each factor's three closest of {similarity.shape[1]} labels "
        f"of the {ms3.words} bank. {_bank_note(ms3)}"
    )
    title = f"Factors and words: MS3, {sounding}"
    return drawing.words_map(similarity, ms3.labels.names, k_star, title, note, evidence.suite)


FIGURES: dict[str, Callable[[Evidence], Figure]] = {
    "overview": overview,
    "figure4": figure4,
    "figure5": figure5,
    "figure6": lambda evidence: charts.steps(evidence.steps, evidence.suite),
    "figure7": figure7,
    "figure8": figure8,
    "figure9": figure9,
    "figure10": figure10,
    "ablations": lambda evidence: charts.ablations(evidence.values, evidence.suite),
    "confidence": lambda evidence: charts.confidence(evidence.rows, evidence.suite, evidence.seed),
    "classes": lambda evidence: charts.classes(evidence.rows, evidence.suite),
    "thresholds": lambda evidence: charts.thresholds(evidence.rows, evidence.suite),
    "objective": lambda evidence: charts.objective(evidence.traces, evidence.suite),
    "words": words,
}
