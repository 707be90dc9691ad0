"""Scores against the signal-to-noise ratio of the sounds, and how well CLAP hears them: tables. No torch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from taco.metrics.tasks import TASKS
from taco.results import aggregate
from taco.results.pages import Grid, Page
from taco.results.resampling import paired_bootstrap
from taco.results.score_files import AggregateError
from taco.results.tables import label, suite_title

NAMED = ("A-FC-CLIP", "list")
CLAP, TOP_1 = "CLAP", "top-1"
BY_IMAGE = "mask-IoU"
DRAWS = 2000
RANGE = ["low_db", "high_db"]


def top_1(rows: pd.DataFrame) -> pd.DataFrame:
    """Whether the class that CLAP names is among those that sound.

    Parameters
    ----------
    rows : DataFrame
        Score rows of one task; every method heard the same.

    Returns
    -------
    DataFrame indexed by sample_id (ascending)
        clip_id, score (0 or 1); samples in which nothing sounds are left out.
    """
    found = rows[rows["class_name"] != ""].drop_duplicates("sample_id").sort_values("sample_id")
    right = [
        float(label in names.split(", "))
        for label, names in zip(found["clap_label"], found["class_name"], strict=True)
    ]
    return pd.DataFrame({"clip_id": found["clip_id"].to_numpy(), "score": right}, found["sample_id"])


def scores(rows: pd.DataFrame, pooled: pd.DataFrame) -> pd.DataFrame:
    """What one task's methods reach at one signal-to-noise ratio.

    Parameters
    ----------
    rows, pooled : DataFrame
        Score rows of a binary task and its rows of pools (`taco.metrics`); empty where it has none.

    Returns
    -------
    DataFrame
        task, method, variant, metric, mean, low, high, n_clips, n_samples, n_seeds; in percent. mask-IoU, and CLAP's
        top-1, are means over images with a 95 % bootstrap interval by clip; ADE SP's mIoU pools images, and has none.
    """
    task = rows["task"].iloc[0]
    records = [{"method": CLAP, "variant": "", "metric": TOP_1, **_interval(top_1(rows)), "n_seeds": 1}]
    for (method, variant), found in rows.groupby(["method", "variant"], sort=False):
        identity = {"method": method, "variant": variant, "n_seeds": found["seed"].nunique()}
        records.append({**identity, "metric": BY_IMAGE, **_interval(aggregate.image_scores(found))})
    counts = {"n_clips": rows["clip_id"].nunique(), "n_samples": rows["sample_id"].nunique()}
    means = aggregate.summarise(rows, pooled)
    for row in means[means["metric"] == "mIoU"].to_dict("records"):
        identity = {key: row[key] for key in ("method", "variant", "metric", "n_seeds")}
        records.append({**identity, **counts, "mean": 100 * row["mean"]})
    return pd.DataFrame(records).assign(task=task)


def _interval(found: pd.DataFrame) -> dict[str, float]:
    """Mean of scores by image in percent, and its interval."""
    low, high = paired_bootstrap(found["score"], found["clip_id"], draws=DRAWS)
    return {
        "mean": 100 * found["score"].mean(),
        "low": 100 * low,
        "high": 100 * high,
        "n_clips": found["clip_id"].nunique(),
        "n_samples": len(found),
    }


# ------------------------------------------------------------------------- the world's own range


def calibration(found: pd.DataFrame, target: float) -> pd.DataFrame:
    """A-FC-CLIP and CLAP in each range of signal-to-noise ratios, and which range is chosen.

    Parameters
    ----------
    found : DataFrame
        `scores` of the tasks, with the ends of each range, ``low_db`` and ``high_db``.
    target : float
        mask-IoU of A-FC-CLIP on S4, in percent.

    Returns
    -------
    DataFrame
        The rows of A-FC-CLIP and CLAP, ascending by range, and ``chosen``: the range nearest to the target; of two
        equally near ones the one with less noise.

    Raises
    ------
    AggregateError
        Where S4 was not scored.
    """
    method = found["method"].eq(NAMED[0]) & found["variant"].eq(NAMED[1])
    frame = found[method | found["method"].eq(CLAP)].sort_values(RANGE, kind="stable", ignore_index=True)
    s4 = frame[(frame["task"] == "s4") & (frame["method"] == NAMED[0])]
    if s4.empty:
        raise AggregateError(
            f"expected {NAMED[0]} on S4, by which the range is chosen, found {sorted(set(frame['task']))}: leave the task s4 in"
        )
    distance = (s4["mean"] - target).abs()
    choice = s4[np.isclose(distance, distance.min())].iloc[-1]
    return frame.assign(chosen=(frame[RANGE] == choice[RANGE]).all(axis=1))


def calibration_page(frame: pd.DataFrame, target: float, suite: str, split: str) -> Page:
    """The table of `calibration`: a line for each range, the chosen one in bold."""
    columns = list(dict.fromkeys(zip(frame["task"], frame["method"], frame["metric"], strict=True)))
    lines = []
    for (low, high), part in frame.groupby(RANGE):
        cells = {
            tuple(row[key] for key in ("task", "method", "metric")): row for row in part.to_dict("records")
        }
        line = [f"{low:g} to {high:g}", *(_cell(cells[column]) for column in columns)]
        lines.append([f"**{text}**" for text in line] if part["chosen"].all() else line)
    head = [("", "SNR (dB)")]
    head += [(TASKS[task].title, f"{method} {metric}") for task, method, metric in columns]
    read = (
        f"Percent. {NAMED[0]} with {NAMED[1]} prompts, at the best threshold of the set; top-1: the class that CLAP names "
        "sounds. In brackets: 95 % bootstrap interval by clip."
    )
    notes = [
        read,
        f"In bold: the range nearest to {target:g}, the paper's mask-IoU on S4. {_sizes(frame, split)}",
    ]
    return Page(
        "calibrate_world", "How loud the noise is", suite_title(suite), [Grid(head, lines, left=1)], notes
    )


# ----------------------------------------------------------------------- scores against hearing


def order(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Methods and variants of a sweep in the order in which they are shown: TACO and its variants, the others, CLAP."""
    places = {"TACO": 0, "U only": 1, CLAP: 9}
    keys = dict.fromkeys(zip(frame["method"], frame["variant"], strict=True))
    return sorted(keys, key=lambda key: (places.get(key[0], 2), key[1] != "proposed"))


def crossings(frame: pd.DataFrame, task: str, metric: str = BY_IMAGE) -> list[float]:
    """Signal-to-noise ratios in dB, ascending, at which the lines of TACO and A-FC-CLIP between the points cross.

    Parameters
    ----------
    frame : DataFrame
        `scores` at several signal-to-noise ratios, with ``low_db`` and ``high_db``.
    task, metric : str
    """
    found = frame[(frame["task"] == task) & (frame["metric"] == metric)]
    lines = [
        found[(found["method"] == method) & (found["variant"] == variant)].set_index("low_db")["mean"]
        for method, variant in (("TACO", "proposed"), NAMED)
    ]
    lead = (lines[0] - lines[1]).dropna().sort_index()
    x, y = lead.index.to_numpy(dtype=float), lead.to_numpy()
    turns = np.flatnonzero(y[:-1] * y[1:] < 0)
    return [float(x[i] + (x[i + 1] - x[i]) * y[i] / (y[i] - y[i + 1])) for i in turns]


def page(frame: pd.DataFrame, suite: str, split: str) -> Page:
    """The scores of a sweep: a grid for each task and metric, a line for each method, a column for each ratio."""
    ratios = sorted(set(frame["low_db"]))
    grids = []
    for task in (name for name in TASKS if name in set(frame["task"])):
        part = frame[frame["task"] == task]
        for metric in dict.fromkeys(part.loc[part["method"] != CLAP, "metric"]):
            shown = part[part["metric"].isin([metric, TOP_1])]
            lines = []
            for method, variant in order(shown):
                line = shown[(shown["method"] == method) & (shown["variant"] == variant)].set_index("low_db")
                name = f"{CLAP} {TOP_1}" if method == CLAP else label(method, variant)
                lines.append([name, *(_cell(line.loc[ratio]) for ratio in ratios)])
            head = [("", "Method"), *(("SNR in dB", f"{ratio:g}") for ratio in ratios)]
            places = " and ".join(f"{ratio:.1f} dB" for ratio in crossings(part, task, metric))
            met = f"cross at {places}" if places else "do not cross"
            title = f"{TASKS[task].title}, {metric}; the lines of TACO and {NAMED[0]} {met}"
            grids.append(Grid(head, lines, left=1, caption=title))
    return Page("hearing", "Scores against hearing", suite_title(suite), grids, [note(frame, split)])


def note(frame: pd.DataFrame, split: str) -> str:
    """How the numbers were made."""
    seeds = frame["n_seeds"].max()
    return (
        f"Percent. Each sound of the generated world at one signal-to-noise ratio; TACO's mean over {seeds} seeds, each task's "
        "default word bank. mask-IoU: mean over images, at the best threshold of the set; "
        "mIoU pools the images of a class. top-1: the class that CLAP names sounds. "
        f"In brackets: 95 % bootstrap interval by clip. {_sizes(frame, split)}"
    )


def _cell(row: Mapping[str, Any]) -> str:
    if pd.isna(row["low"]):
        return f"{row['mean']:.1f}"
    return f"{row['mean']:.1f} [{row['low']:.1f}, {row['high']:.1f}]"


def _sizes(frame: pd.DataFrame, split: str) -> str:
    """Which split, and how much of it."""
    counts = frame[frame["metric"] == BY_IMAGE].drop_duplicates("task").to_dict("records")
    sizes = ", ".join(
        f"{TASKS[row['task']].title} {row['n_clips']} ({row['n_samples']} images)" for row in counts
    )
    return f"Split: {split}; clips: {sizes}."
