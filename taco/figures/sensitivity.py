"""Scores against the solver's settings, on the validation split: a panel for each setting."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from taco.figures.drawing import WIDTH, footer, style
from taco.results.sensitivity import AVERAGE, PARAMETERS
from taco.results.sensitivity import note as describe

MARKERS = "osv^Dp"


def figure(frame: pd.DataFrame, suite: str) -> Figure:
    """Scores of all tasks against each setting: a panel for each, the suite's own value marked.

    Parameters
    ----------
    frame : DataFrame
        From `table`.
    suite : str
    """
    style()
    shown = [name for name in PARAMETERS if name in set(frame["parameter"])]
    drawing, axes = plt.subplots(
        1, len(shown), figsize=(WIDTH, 2.9), sharey=True, squeeze=False, layout="constrained"
    )
    names = list(frame["dataset"].unique())
    colours = dict(zip(names, sns.color_palette("colorblind", len(names)), strict=True)) | {AVERAGE: "0.1"}
    for ax, parameter in zip(axes[0], shown, strict=True):
        part = frame[frame["parameter"] == parameter]
        settings = np.sort(part["setting"].unique())
        for marker, name in zip(MARKERS, names, strict=False):
            line = part[part["dataset"] == name].sort_values("setting")
            ax.errorbar(
                np.searchsorted(settings, line["setting"]),
                line["mean"],
                yerr=line["std"],
                color=colours[name],
                marker=marker,
                linestyle="--" if name == AVERAGE else "-",
                markersize=3.5,
                linewidth=1,
                capsize=1.5,
                label=f"{name}, {line['metric'].iloc[0]}" if name != AVERAGE else name,
            )
        for place in np.flatnonzero(np.isin(settings, part.loc[part["own"], "setting"])):
            ax.axvline(place, color="0.6", linewidth=4, alpha=0.35, zorder=0)
        ax.set(xlabel=PARAMETERS[parameter].replace("β_p", r"$\beta_p$"))
        ax.set_xticks(range(len(settings)), [f"{value:g}" for value in settings])
        ax.grid(axis="y", linewidth=0.4)
        sns.despine(ax=ax)
    axes[0][0].set(ylabel="score (%)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    # The title's second line is the legend's.
    drawing.suptitle("Scores against the solver's settings\n", x=0.01, ha="left", fontsize=9, weight="bold")
    drawing.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0, 0.955), ncols=len(names), columnspacing=1
    )
    note = describe(frame) + " Bars: population standard deviation; grey: the suite's own value."
    drawing.supxlabel(footer(suite, note), x=0.01, ha="left", fontsize=6.5, color="0.25")
    return drawing
