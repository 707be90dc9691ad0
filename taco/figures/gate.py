"""What an empty mask below each threshold costs where something sounds, and leaves marked where nothing does."""

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from taco.figures.drawing import WIDTH, footer, style
from taco.results import gating
from taco.results.negatives import KINDS

LINES = dict(zip(KINDS, ("-", "--", ":", "-."), strict=True))
ALLOWED = 5.0
"""Share of pixels of negatives, percent, that is to be marked at most."""


def figure(curves: pd.DataFrame, suite: str) -> Figure:
    """A panel for each method: pixels still marked on negatives against mask-IoU lost on positives.

    Parameters
    ----------
    curves : DataFrame
        From `taco.results.calibration.table`.
    suite : str
    """
    style()
    methods = list(curves["method"].unique())
    drawing, axes = plt.subplots(1, len(methods), figsize=(WIDTH, 2.9), squeeze=False, layout="constrained")
    for ax, method in zip(axes[0], methods, strict=True):
        _panel(ax, curves[curves["method"] == method].dropna(axis=1))
        ax.set(title=method, xlabel="mask-IoU lost on positives (points)", ylim=(0, None))
    axes[0][0].set(ylabel="marked on negatives (% of pixels)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside upper center", ncols=len(labels), columnspacing=1)
    note = (
        "Validation split; each point of a line is one threshold on the greatest value of the map before it is stretched, "
        "below which the mask is empty. Left end: no gate. Dot: the threshold that is chosen, the greatest that costs at most "
        f"{100 * gating.MOST_COST:g} point (grey band). Horizontal line: {ALLOWED:g} % of pixels."
    )
    drawing.supxlabel(footer(suite, note), x=0.01, ha="left", fontsize=6.5, color="0.25")
    return drawing


def _panel(ax: Axes, curve: pd.DataFrame) -> None:
    chosen = gating.choose(curve)
    kinds = [kind for kind in KINDS if kind in curve]
    for kind, colour in zip(kinds, sns.color_palette("colorblind"), strict=False):
        ax.plot(100 * curve["cost"], 100 * curve[kind], LINES[kind], color=colour, linewidth=1.2, label=kind)
        ax.plot(100 * chosen["cost"], 100 * chosen[kind], "o", color=colour, markersize=3.5)
    ax.plot(100 * curve["cost"], 100 * curve["marked"], color="0.1", linewidth=1.8, label="mean of kinds")
    ax.plot(100 * chosen["cost"], 100 * chosen["marked"], "o", color="0.1", markersize=4)
    ax.axvspan(0, 100 * gating.MOST_COST, color="0.6", alpha=0.25, zorder=0, linewidth=0)
    ax.axhline(ALLOWED, color="0.5", linewidth=0.6)
    ax.grid(linewidth=0.4)
    sns.despine(ax=ax)
