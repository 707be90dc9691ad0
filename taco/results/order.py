"""Who is ahead of whom: each paired comparison beside the paper's own two numbers."""

import numpy as np
import pandas as pd

from taco.metrics.tasks import TASKS
from taco.results.pages import Grid
from taco.results.tables import Reported, label

SAME, OTHER, OPEN = "as in the paper", "the other way round", "undecided"
COLUMNS = (
    *("dataset", "a", "b", "paper_a", "paper_b", "paper_difference", "difference", "low", "high"),
    *("n_clips", "verdict"),
)
TABLES_FIRST = {"mIoU": 0, "mask-IoU": 0, "mAP": 1, "F": 1}


def order(intervals: pd.DataFrame, reported: Reported) -> pd.DataFrame:
    """Compare the order of methods with the paper's.

    Parameters
    ----------
    intervals : DataFrame
        From `taco.results.tables.intervals`: percent, a 95 % interval by clip for each pair of methods.
    reported : Reported

    Returns
    -------
    DataFrame
        `COLUMNS`, a row for each comparison whose two sides the paper prints on that task: its numbers (the table's main
        metric; of two tables the first), our difference of scores by image, and whether our sign is the paper's
        (`SAME`), its opposite (`OTHER`), or not to be told from 0 on these clips (`OPEN`).
    """
    tasks = {task.title: name for name, task in TASKS.items()}
    printed: dict[tuple, float] = {}
    for (_, task, method, variant, bank, metric), (mean, *_) in reported.paper.items():
        if TABLES_FIRST.get(metric) == 0 and not np.isnan(mean):
            printed.setdefault((task, method, variant, bank), mean)
    records = []
    for row in intervals.to_dict("records"):
        task = tasks[row["dataset"]]
        sides = [
            (task, *(row[f"{key}_{side}"] for key in ("method", "variant", "word_bank"))) for side in "ab"
        ]
        if not all(side in printed for side in sides):
            continue
        paper_a, paper_b = (printed[side] for side in sides)
        apart = row["low"] > 0 or row["high"] < 0
        same = np.sign(row["difference"]) == np.sign(paper_a - paper_b)
        names = [label(method, variant) for _, method, variant, _ in sides]
        verdict = (SAME if same else OTHER) if apart else OPEN
        known = (row["difference"], row["low"], row["high"], row["n_clips"], verdict)
        records.append((row["dataset"], *names, paper_a, paper_b, paper_a - paper_b, *known))
    return pd.DataFrame(records, columns=COLUMNS)


def grid(frame: pd.DataFrame) -> Grid:
    """The comparisons as a grid; those of the paper's sign first, so that the others stand together."""
    heads = ("Dataset", "Ahead in the paper", "Behind", "Paper", "Here (95 % interval)", "Clips", "Verdict")
    lines = []
    for verdict in (SAME, OPEN, OTHER):
        for row in frame[frame["verdict"] == verdict].to_dict("records"):
            sign = 1 if row["paper_difference"] >= 0 else -1
            a, b = (row["a"], row["b"])[::sign]
            low, high = sorted((sign * row["low"], sign * row["high"]))
            here = f"{sign * row['difference']:+.1f} ({low:+.1f} to {high:+.1f})"
            paper = f"{abs(row['paper_difference']):+.1f}"
            lines.append([row["dataset"], a, b, paper, here, str(row["n_clips"]), verdict])
    return Grid([("", head) for head in heads], lines, left=3)
