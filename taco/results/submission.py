"""Score anyone's masks or maps with the metrics of the tables: one file per sample (`taco.results.prediction_files`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from taco import metrics, runtime
from taco.data import datasets
from taco.data.problems import ManifestError, Problem
from taco.metrics.tasks import TASKS
from taco.results import aggregate, tables
from taco.results.prediction_files import PredictionError, find, grey_tops, read_ids, read_map

VARIANT = "submitted"


def score(
    frame: pd.DataFrame,
    dataset: Mapping[str, Any],
    folder: str | Path,
    *,
    task: str,
    method: str,
    size: int,
    stretch: bool = False,
    conventions: aggregate.Conventions = aggregate.PAPER,
) -> pd.DataFrame:
    """Score a folder of predictions as one deterministic method.

    Parameters
    ----------
    frame : DataFrame
        The dataset's manifest.
    dataset : mapping
        What the manifest was built from.
    folder : path
    task : str
        A key of `taco.metrics.tasks.TASKS`.
    method : str
        Its name in the tables.
    size : int
        Side in pixels at which maps and truth are compared.
    stretch : bool
        See `read_map`.
    conventions : taco.results.aggregate.Conventions
        Those of the tables beside which the rows stand.

    Returns
    -------
    DataFrame of `taco.results.aggregate.summarise`: every metric of the task, fractions
    """
    files = find(folder, frame["sample_id"].tolist())
    semantic = TASKS[task].kind == "semantic"
    names = datasets.class_names(dataset) if semantic else []
    tops = {} if semantic or stretch else grey_tops(files.values(), size)
    # Background is a class of AVSS (id 0); elsewhere ids count from 1 and 0 is none.
    first_id = 0 if names[:1] == ["background"] else 1
    name = dataset["name"]
    cell = {"method": method, "variant": VARIANT, "word_bank": tables.NO_BANK, "seed": -1}
    rows, pools, shown = [], {}, False
    for record in tqdm(frame.to_dict("records"), desc=f"{task}: scores"):
        path, class_name = files[record["sample_id"]], ", ".join(record["classes"])
        truth = datasets.read_mask(record, dataset, size, "semantic" if semantic else "binary")
        shown = shown or truth.any()
        identity = {"task": task, "dataset": name, "class_name": class_name, **cell}
        if semantic:
            ids = read_ids(path, size, first_id + len(names))
            counts = metrics.semantic_row(ids, truth, len(names), first_id)
        else:
            scores = read_map(path, size, stretch, tops)
            counts = metrics.binary_row(scores, truth)
            if TASKS[task].kind == "pooled":
                pools.setdefault(class_name, (identity, metrics.ScorePool()))[1].update(scores, truth)
        rows.append({**identity, **{key: record[key] for key in ("sample_id", "clip_id")}, **counts})
    if not shown:
        expected, remedy = "truth with foreground in one sample at least", "Place the truth of this dataset."
        raise ManifestError(str(name), [Problem(str(dataset["root"]), expected, "none", remedy)])
    pooled = pd.DataFrame([{**identity, **pool.to_row()} for identity, pool in pools.values()])
    return aggregate.summarise(pd.DataFrame(rows), pooled, conventions)


def table(summary: pd.DataFrame, suite: str) -> tuple[pd.DataFrame, tables.TableSpec]:
    """The scores of `score` as a long table with the columns of the other tables, and its form."""
    task, method = summary["task"].iloc[0], summary["method"].iloc[0]
    wanted = ("mIoU", "mAP") if TASKS[task].kind == "pooled" else tuple(summary["metric"])
    columns = tuple((task, metric) for metric in wanted)
    row = tables.Row(method, VARIANT, tables.NO_BANK)
    title = f"{method} on {TASKS[task].title}"
    spec = tables.TableSpec("submission", title, columns, (row,))
    return tables.build(summary, spec, None, suite), spec


def own_rows(folder: str | Path, spec: tables.TableSpec) -> pd.DataFrame:
    """Rows of the suite's own tables for the same task and metrics; empty where there are none yet."""
    title = TASKS[spec.columns[0][0]].title
    wanted = {metric for _, metric in spec.columns}
    frames = [pd.read_csv(path, keep_default_na=True) for path in sorted(Path(folder).glob("table[1-5].csv"))]
    if not frames:
        return pd.DataFrame(columns=list(tables.COLUMNS))
    frame = pd.concat(frames, ignore_index=True)
    frame = frame[(frame["dataset"] == title) & frame["metric"].isin(wanted) & frame["mean"].notna()]
    frame["word_bank"] = frame["word_bank"].fillna(tables.NO_BANK)
    return frame.drop_duplicates(["method", "variant", "word_bank", "metric"])


def write(frame: pd.DataFrame, path: str | Path) -> None:
    """Add a submission's rows to a CSV; earlier rows of the same method and dataset are replaced."""
    path = Path(path)
    if path.exists():
        before = pd.read_csv(path, keep_default_na=False, na_values=[""])
        if list(before.columns) != list(frame.columns):
            raise PredictionError(
                f"{path}: expected a table of submissions, found other columns; name another file"
            )
        same = (before["method"] == frame["method"].iloc[0]) & (before["dataset"] == frame["dataset"].iloc[0])
        frame = pd.concat([before[~same], frame], ignore_index=True) if (~same).any() else frame
    path.parent.mkdir(parents=True, exist_ok=True)
    with runtime.atomic_write(path) as partial:
        frame.to_csv(partial, index=False, lineterminator="\n")
