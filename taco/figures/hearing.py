"""Scores against the signal-to-noise ratio of the sounds, and beside them how often CLAP hears the class."""

from collections.abc import Sequence

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from taco.figures.charts import LOOKS, Look
from taco.figures.drawing import WIDTH, footer, style
from taco.metrics.tasks import TASKS
from taco.results import hearing
from taco.results.hearing import BY_IMAGE, CLAP, order
from taco.results.tables import label

VARIANTS = {
    "no-min": Look("#56B4E9", "v", (0, (4, 1.5))),
    "w/o component": Look("#CC79A7", "D", (0, (1, 1))),
    "w/o penalty": Look("#D55E00", "X", (0, (5, 1, 1, 1))),
}
HEARD = Look("0.45", "", "-")


def look_of(method: str, variant: str) -> Look | None:
    """How a method is drawn; None leaves it out: of the other methods U only's and A⁺-FC-CLIP's variants are in the table."""
    if method == CLAP:
        return HEARD
    if method == "TACO" and variant != "proposed":
        return VARIANTS.get(variant)
    return (
        LOOKS[method]
        if method in ("TACO", "U only", "A-FC-CLIP") and variant in ("proposed", "list")
        else None
    )


def figure(frame: pd.DataFrame, world: Sequence[float], suite: str, split: str) -> Figure:
    """A panel for each task: mask-IoU against the signal-to-noise ratio, CLAP's top-1 on the right axis.

    Parameters
    ----------
    frame : DataFrame
        `taco.results.hearing.scores` at several ratios.
    world : (low, high)
        Range in dB from which the suite's own sounds draw, shaded.
    suite, split : str
    """
    style()
    tasks = [task for task in TASKS if task in set(frame["task"])]
    drawing, axes = plt.subplots(
        1, len(tasks), figsize=(WIDTH, 3.5), sharey=True, squeeze=False, layout="constrained"
    )
    ratios = sorted(set(frame["low_db"]))
    for place, (ax, task) in enumerate(zip(axes[0], tasks, strict=True)):
        part = frame[frame["task"] == task]
        _heard(ax, part[part["method"] == CLAP], world, last=place == len(tasks) - 1)
        for method, variant in order(part[part["metric"] == BY_IMAGE])[::-1]:
            if (look := look_of(method, variant)) is not None:
                line = part[(part["method"] == method) & (part["variant"] == variant)]
                _line(
                    ax, line[line["metric"] == BY_IMAGE].sort_values("low_db"), look, label(method, variant)
                )
        for ratio in hearing.crossings(part, task):
            _crossing(ax, ratio)
        counts = part[part["metric"] == BY_IMAGE].iloc[0]
        ax.set(
            title=f"{TASKS[task].title} ({counts['n_clips']} clips, {counts['n_samples']} images)",
            xlabel="signal-to-noise ratio (dB)",
            ylim=(0, 100),
            xticks=ratios,
        )
        ax.set_xticks(ratios, [f"{ratio:g}".replace("-", "−") for ratio in ratios])
        ax.grid(axis="y", linewidth=0.4)
        sns.despine(ax=ax)
    axes[0][0].set(ylabel="mask-IoU (%)")
    handles, names = axes[0][0].get_legend_handles_labels()
    drawing.suptitle("Scores against hearing\n", x=0.01, ha="left", fontsize=9, weight="bold")
    drawing.legend(
        handles[::-1],
        names[::-1],
        loc="upper left",
        bbox_to_anchor=(0, 0.955),
        ncols=len(names),
        columnspacing=1,
    )
    seeds = frame["n_seeds"].max()
    text = (
        "At each point all sounds have one signal-to-noise ratio. Means over images at the best threshold of the set, TACO's and U "
        f"only's over {seeds} seeds, with each task's default word bank. Bands and bars: 95 % bootstrap intervals by clip. "
        "Shaded: the ratios of the suite's own sounds. Dotted: TACO and A-FC-CLIP cross. Top-1: the class that CLAP names "
        f"sounds. Split: {split}."
    )
    drawing.supxlabel(footer(suite, text), x=0.01, ha="left", fontsize=6.5, color="0.25")
    return drawing


def _line(ax: Axes, line: pd.DataFrame, look: Look, name: str) -> None:
    """One method's means and intervals: a band for the methods that are compared, bars for TACO's variants."""
    variant = name.startswith("TACO,")
    width, size = (0.9, 3) if variant else (1.5, 4)
    x, mean = line["low_db"], line["mean"]
    ax.plot(
        x, mean, color=look.colour, marker=look.marker, linestyle=look.line, linewidth=width,
        markersize=size, markeredgewidth=0, label=name,
    )  # fmt: skip
    if variant:
        ax.vlines(x, line["low"], line["high"], color=look.colour, linewidth=0.6, alpha=0.6)
    else:
        ax.fill_between(x, line["low"], line["high"], color=look.colour, alpha=0.15, lw=0)


def _heard(ax: Axes, line: pd.DataFrame, world: Sequence[float], *, last: bool) -> None:
    """Behind the scores CLAP's top-1, on an axis of its own at the right, and the suite's own range."""
    line = line.sort_values("low_db")
    right = ax.twinx()
    ax.set_zorder(right.get_zorder() + 1)
    ax.patch.set_visible(False)
    right.axvspan(*world, color="0.94", lw=0)
    right.plot(line["low_db"], line["mean"], color=HEARD.colour, linewidth=2.5, alpha=0.45)
    right.fill_between(line["low_db"], line["low"], line["high"], color=HEARD.colour, alpha=0.12, lw=0)
    ax.plot([], [], color=HEARD.colour, linewidth=2.5, alpha=0.45, label="CLAP top-1 (right axis)")
    right.set(ylim=(0, 100))
    right.tick_params(axis="y", colors="0.45", labelright=last, length=3 if last else 0)
    right.spines[["top", "left", "bottom"]].set_visible(False)
    right.spines["right"].set_visible(last)
    right.spines["right"].set_color("0.45")
    if last:
        right.set_ylabel("CLAP top-1 (%)", color="0.45")


def _crossing(ax: Axes, ratio: float) -> None:
    ax.axvline(ratio, color="0.25", linewidth=0.7, linestyle=":")
    ax.annotate(
        f"{ratio:.1f} dB".replace("-", "−"), (ratio, 0.985), xycoords=("data", "axes fraction"), xytext=(2, 0),
        textcoords="offset points", fontsize=6.5, color="0.25", va="top",
    )  # fmt: skip
