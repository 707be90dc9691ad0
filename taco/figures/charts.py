"""Figures that show numbers: ablations, thresholds, confidence, classes, objective, steps. No torch.

Every function takes frames of scores (`taco.results.aggregate`) and returns a figure of the full text width;
values are fractions in the frames and percent in the figures. n stands on each panel.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from taco import metrics
from taco.figures.drawing import WIDTH, footer, style
from taco.figures.examples import NAMED, TACO, U_ONLY, ExampleError
from taco.metrics.tasks import TASKS
from taco.results import aggregate
from taco.results.resampling import paired_bootstrap
from taco.results.tables import CONTRIBUTED, NO_BANK, label


class Look(NamedTuple):
    """How a method is drawn in every figure: colour, marker and line differ, so that print needs no colour."""

    colour: str
    marker: str
    line: str | tuple


LOOKS = {
    TACO: Look("#0072B2", "o", "-"),
    U_ONLY: Look("#E69F00", "s", "--"),
    NAMED: Look("#009E73", "^", "-."),
    "A⁺-FC-CLIP": Look("#CC79A7", "v", ":"),
}
USUAL = {TACO: "proposed", U_ONLY: "proposed", NAMED: "list"}
OTHERS = (
    Look("#56B4E9", "P", (0, (1, 1))),
    Look("#D55E00", "X", (0, (5, 1, 1, 1))),
    Look("#F0E442", "*", (0, (3, 3))),
)
"""Of contributed methods, in turn."""
ABLATIONS = (
    (NAMED, "list"),
    ("A⁺-FC-CLIP", "list"),
    (U_ONLY, "proposed"),
    (TACO, "no-min"),
    (TACO, "w/o component"),
    (TACO, "w/o penalty"),
    (TACO, "shuffled audio"),
    (TACO, "proposed"),
)
BINS = 5


def contributed(rows: pd.DataFrame) -> list[str]:
    """Names of the contributed methods in score rows."""
    return sorted(set(rows.loc[rows["variant"] == CONTRIBUTED, "method"]))


def looks(rows: pd.DataFrame) -> list[tuple[str, str, Look]]:
    """Methods that charts compare, with their variant and look; contributed ones last."""
    own = [(method, variant, LOOKS[method]) for method, variant in USUAL.items()]
    return own + [(name, CONTRIBUTED, look) for name, look in zip(contributed(rows), cycle(OTHERS))]


def _bank(method: str, variant: str, task: str) -> str:
    if variant == CONTRIBUTED:
        return NO_BANK
    return "specific" if method.startswith("A") else TASKS[task].word_bank


def cell(rows: pd.DataFrame, task: str, method: str, variant: str) -> pd.DataFrame:
    """Rows of one method and variant on a task, with the task's default bank (A-FC-CLIP: the specific one)."""
    return rows[
        (rows["task"] == task)
        & (rows["method"] == method)
        & (rows["variant"] == variant)
        & (rows["word_bank"] == _bank(method, variant, task))
    ]


def _finish(figure: Figure, title: str, note: str, suite: str) -> Figure:
    figure.suptitle(title, x=0.01, ha="left", fontsize=9, weight="bold")
    figure.supxlabel(footer(suite, note), x=0.01, ha="left", fontsize=6.5, color="0.25")
    return figure


def _legend_above(figure: Figure, ax: Axes) -> None:
    """One legend for all panels, on the title's line: it can cover no point."""
    handles, names = ax.get_legend_handles_labels()
    figure.legend(handles, names, loc="upper right", ncols=len(names), columnspacing=1.2, borderpad=0)


def _panels(count: int, height: float, **options: object) -> tuple[Figure, list[Axes]]:
    style()
    figure, axes = plt.subplots(
        1, count, figsize=(WIDTH, height), layout="constrained", squeeze=False, **options
    )
    return figure, list(axes[0])


def _counted(rows: pd.DataFrame, task: str) -> str:
    """A task's title with its number of images."""
    return f"{TASKS[task].title} (n = {rows.loc[rows['task'] == task, 'sample_id'].nunique()})"


def _tasks(rows: pd.DataFrame, semantic: bool = False) -> list[str]:
    present = set(rows["task"])
    return [name for name, task in TASKS.items() if name in present and (task.kind == "semantic") == semantic]


# ----------------------------------------------------------------------------------------- ablations


def ablations(values: pd.DataFrame, suite: str, task: str = "ade_sp") -> Figure:
    """Mean, population std and single seeds of each ablation.

    Parameters
    ----------
    values : DataFrame
        From `taco.results.aggregate.per_seed`.
    suite, task : str
    """
    names = {}
    for method, variant in (*((name, CONTRIBUTED) for name in contributed(values)), *ABLATIONS):
        found = cell(values, task, method, variant)
        if len(found):
            names[label(method, variant)] = found
    shown = list(next(iter(names.values()))["metric"].unique())
    shown = [metric for metric in ("mIoU", "mAP", "mask-IoU") if metric in shown]
    figure, axes = _panels(len(shown), 2.9, sharey=True)
    for ax, metric in zip(axes, shown):
        for position, found in enumerate(names.values()):
            numbers = 100 * found.loc[found["metric"] == metric, "value"].to_numpy()
            own = position == len(names) - 1
            colour = LOOKS[TACO].colour if own else "0.35"
            ax.errorbar(
                numbers.mean(),
                position,
                xerr=numbers.std(),
                fmt="D",
                markersize=4.5,
                color=colour,
                capsize=2.5,
            )
            if len(numbers) > 1:
                below = np.full(len(numbers), position - 0.32)
                ax.plot(numbers, below, "o", markersize=3, mfc="none", mec=colour, mew=0.7)
        ax.set(xlabel=f"{TASKS[task].title} {metric} (%)")
        ax.set_yticks(range(len(names)), list(names))
        ax.grid(axis="x", linewidth=0.4)
        sns.despine(ax=ax)
    samples, seeds = int(values["n_samples"][values["task"] == task].iloc[0]), values["seed"].max() + 1
    note = (
        f"Diamond: mean; bar: population standard deviation; circles below: single seeds (n = {seeds}; A-FC-CLIP is "
        f"deterministic). {samples} images."
    )
    return _finish(figure, f"Ablations on {TASKS[task].title}", note, suite)


# ---------------------------------------------------------------------------------------- thresholds


def thresholds(rows: pd.DataFrame, suite: str) -> Figure:
    """mask-IoU of the whole set against the threshold of the mask: mean and std over seeds."""
    tasks = _tasks(rows)
    figure, axes = _panels(len(tasks), 2.6, sharey=True)
    for ax, task in zip(axes, tasks):
        for method, variant, look in looks(rows):
            found = cell(rows, task, method, variant)
            if found.empty:
                continue
            curves = 100 * np.stack([_curve(group) for _, group in found.groupby("seed")])
            mean, std = curves.mean(axis=0), curves.std(axis=0)
            ax.plot(
                metrics.THRESHOLDS, mean, linestyle=look.line, color=look.colour, label=method, linewidth=1.2
            )
            ax.fill_between(metrics.THRESHOLDS, mean - std, mean + std, color=look.colour, alpha=0.2, lw=0)
            best = int(mean.argmax())
            ax.plot(metrics.THRESHOLDS[best], mean[best], look.marker, color=look.colour, markersize=5)
        ax.set(xlabel="threshold", title=_counted(rows, task), xlim=(0, 1))
        ax.grid(linewidth=0.4)
        sns.despine(ax=ax)
    axes[0].set(ylabel="mask-IoU (%)", ylim=(0, None))
    _legend_above(figure, axes[0])
    note = "Line: mean over seeds; band: population standard deviation; marker: best threshold, which tables report."
    return _finish(figure, "mask-IoU against the threshold", note, suite)


def _curve(rows: pd.DataFrame) -> np.ndarray:
    """Mean mask-IoU over images at each threshold [19]."""
    return metrics.mean_curve(metrics.mask_iou(*part) for part in aggregate.threshold_counts(rows))


# ---------------------------------------------------------------------------------------- confidence


def confidence(rows: pd.DataFrame, suite: str, seed: int = 0) -> Figure:
    """IoU of images against CLAP's confidence in its most likely class: means of equal parts of the images.

    The interval of a mean is a 95 % bootstrap by clip.
    """
    tasks = _tasks(rows)
    figure, axes = _panels(len(tasks), 2.6, sharey=True)
    for ax, task in zip(axes, tasks):
        for shift, (method, variant, look) in enumerate(looks(rows)):
            found = cell(rows, task, method, variant)
            if found.empty:
                continue
            centres = _binned(ax, found, look, method, 0.08 * (shift - 1), seed)
        ax.set(
            xlabel="CLAP's confidence, mean of each part",
            title=_counted(rows, task),
            xlim=(-0.4, len(centres) - 0.6),
        )
        ax.set_xticks(range(len(centres)), [f"{centre:.2f}" for centre in centres])
        ax.grid(linewidth=0.4)
        sns.despine(ax=ax)
    axes[0].set(ylabel="mask-IoU (%)", ylim=(0, 100))
    _legend_above(figure, axes[0])
    note = (
        f"Confidence: probability of CLAP's most likely class of the dataset's own list; the images in {BINS} equal "
        "parts by it; means over seeds and images, 95 % bootstrap intervals by clip."
    )
    return _finish(figure, "IoU against CLAP's confidence", note, suite)


def _binned(ax: Axes, rows: pd.DataFrame, look: Look, name: str, shift: float, seed: int) -> list[float]:
    """Draw one method's mean for each part of the images; return each part's mean confidence."""
    scores = aggregate.image_scores(rows)
    scores["confidence"] = rows.drop_duplicates("sample_id").set_index("sample_id")["clap_confidence"]
    parts = pd.qcut(scores["confidence"].rank(method="first"), min(BINS, len(scores)), labels=False)
    points, centres = [], []
    for place, part in scores.groupby(parts):
        low, high = paired_bootstrap(part["score"], part["clip_id"], draws=1000, seed=seed)
        points.append((place + shift, part["score"].mean(), low, high))
        centres.append(float(part["confidence"].mean()))
    x, mean, low, high = np.array(points).T
    ax.errorbar(
        x,
        100 * mean,
        yerr=100 * np.abs([mean - low, high - mean]),
        marker=look.marker,
        linestyle=look.line,
        color=look.colour,
        markersize=4,
        linewidth=1,
        capsize=2,
        label=name,
    )
    return centres


# ------------------------------------------------------------------------------------------- classes


def classes(rows: pd.DataFrame, suite: str) -> Figure:
    """mask-IoU by class on the tasks where each image has one class: mean over images and seeds."""
    tasks = [task for task in _tasks(rows) if not _class_of(rows, task).empty]
    if not tasks:
        raise ExampleError(
            "no task has images of one class each, so there is nothing to draw by class: drop `classes` from "
            "`figures.which`"
        )
    counts = {task: _class_of(rows, task)["class_name"].nunique() for task in tasks}
    figure, axes = _panels(len(tasks), 1.3 + 0.15 * max(counts.values()))
    for ax, task in zip(axes, tasks):
        named = _class_of(rows, task).set_index("sample_id")["class_name"]
        order = None
        for method, variant in USUAL.items():
            found = cell(rows, task, method, variant)
            if found.empty:
                continue
            scores = aggregate.image_scores(found)["score"]
            means = 100 * scores.groupby(named).mean()
            order = means.sort_values().index if order is None else order
            look = LOOKS[method]
            ax.plot(
                means[order],
                range(len(order)),
                look.marker,
                color=look.colour,
                markersize=4.5,
                label=method,
                mfc=look.colour if method == TACO else "none",
            )
        sizes = named.value_counts()
        ax.set_yticks(range(len(order)), [f"{name} ({sizes[name]})" for name in order])
        ax.set(xlabel="mask-IoU (%)", title=f"{TASKS[task].title} (n = {len(named)})", xlim=(0, 100))
        ax.grid(linewidth=0.4)
        sns.despine(ax=ax)
    _legend_above(figure, axes[0])
    note = "Mean over a class's images (their number in brackets) and seeds, at the whole set's best threshold; sorted by TACO."
    return _finish(figure, "mask-IoU by class", note, suite)


def _class_of(rows: pd.DataFrame, task: str) -> pd.DataFrame:
    """Sample and class of the images of a task with exactly one class; empty where some have several."""
    found = rows.loc[rows["task"] == task, ["sample_id", "class_name"]].drop_duplicates("sample_id")
    single = (found["class_name"] != "") & ~found["class_name"].str.contains(", ")
    return found if single.all() else found.iloc[:0]


# ----------------------------------------------------------------------------------------- objective


def objective(traces: Mapping[str, tuple[Sequence[int], np.ndarray]], suite: str) -> Figure:
    """Objective against steps, relative to its first value: median, and the band of the middle 80 %.

    Parameters
    ----------
    traces : mapping
        Dataset's title to (steps [L], objective [R, S, L]).
    suite : str
    """
    figure, axes = _panels(len(traces), 2.4, sharey=True)
    for ax, (name, (steps, values)) in zip(axes, traces.items()):
        relative = 100 * values.reshape(-1, len(steps)) / values.reshape(-1, len(steps))[:, :1]
        low, middle, high = np.percentile(relative, [10, 50, 90], axis=0)
        ax.plot(steps, middle, color=LOOKS[TACO].colour, linewidth=1.2)
        ax.fill_between(steps, low, high, color=LOOKS[TACO].colour, alpha=0.25, lw=0)
        ax.set(xlabel="step", title=f"{name} (n = {len(relative)})")
        ax.grid(linewidth=0.4)
        sns.despine(ax=ax)
    axes[0].set(ylabel="objective, % of the start")
    note = (
        "Proposed method, default word bank. n: samples times seeds. Line: median; band: from the 10th to the 90th "
        "percentile."
    )
    return _finish(figure, "Objective during the decomposition", note, suite)


# --------------------------------------------------------------------------------------------- steps


def steps(frame: pd.DataFrame, suite: str) -> Figure:
    """Score and added computing time against the number of gradient steps.

    Parameters
    ----------
    frame : DataFrame
        Columns task, metric, steps, value (fraction), baseline (fraction: A-FC-CLIP), solve_seconds,
        other_seconds (for each sample: the decomposition up to that step, and all the rest of an inference),
        n_samples, device.
    suite : str
    """
    style()
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.6), layout="constrained")
    first = frame.iloc[0]
    title = TASKS[first["task"]].title
    left.plot(frame["steps"], 100 * frame["value"], "o-", color=LOOKS[TACO].colour, markersize=4, label=TACO)
    left.axhline(100 * first["baseline"], color=LOOKS[NAMED].colour, linestyle=LOOKS[NAMED].line, label=NAMED)
    left.set(xlabel="steps", ylabel=f"{title} {first['metric']} (%)")
    left.legend()
    added = 100 * frame["solve_seconds"] / frame["other_seconds"]
    right.plot(frame["steps"], added, "s-", color="#D55E00", markersize=4)
    right.set(xlabel="steps", ylabel="added computing time (%)", ylim=(0, None))
    for ax in (left, right):
        ax.grid(linewidth=0.4)
        sns.despine(ax=ax)
    note = (
        f"First {first['n_samples']} samples, one seed, one run with checkpoints. Time: decomposition (start "
        "included) relative to reading, "
        f"features, proposals and decoding ({1000 * first['other_seconds']:.0f} ms a sample), measured on "
        f"{first['device']}."
    )
    return _finish(figure, "Figure 6. Score and added time against the number of steps", note, suite)
