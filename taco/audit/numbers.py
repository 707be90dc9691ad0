"""What a number of a table is made of: files, settings, digests, seeds, and the samples that pull it up and down.

The value is computed by the functions that make the tables (`taco.results`), from the same score files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from taco import metrics, suites
from taco.audit import origins
from taco.metrics.tasks import TASKS
from taco.results import aggregate, extended, pools, score_files, tables, whole
from taco.results.score_files import CELL

EXTENDED = "extended"
SHOWN = 5
"""Samples at each end that are shown."""


class NumberError(ValueError):
    """No such cell: says what there is."""


@dataclass(frozen=True)
class Wanted:
    """Which cell is asked for; None leaves it to the table's usual one."""

    table: str
    method: str
    task: str
    metric: str | None = None
    variant: str | None = None
    word_bank: str | None = None
    rule: str | None = None


def explain(config: Mapping[str, Any], wanted: Wanted) -> dict[str, Any]:
    """Explain one cell of one table.

    Parameters
    ----------
    config : mapping
        The suite's, by whose paths results are found below the working folder.
    wanted : Wanted

    Returns
    -------
    dict
        ``cell`` (its identity, table and metric, also ``other_metrics`` of the row), ``value`` (``mean``, ``std``, ``n_seeds``,
        ``n_samples``, percent), ``seeds`` (each one's value, percent, and threshold), ``origin`` (`taco.audit.origins.of_cell`),
        ``samples`` and, where pixels are pooled by class, ``classes``: the `SHOWN` best and worst with what leaving their
        clip (or class) out does to the value, in points.

    Raises
    ------
    NumberError
        No such table, task, method, metric, variant or bank; lists those that exist.
    """
    task = _task(config, wanted.task)
    dataset = config["tasks"][task]["dataset"]
    paths = score_paths(config, task, "rows.parquet")
    pooled = pools.load(score_paths(config, task, "pools.parquet"))
    scored = whole.Tables.of(config, score_files.load_rows(paths, config["memory"]["rows"]), pooled).rows
    cell, others = _choose(scored[list(CELL)].drop_duplicates(), wanted, task, config)
    rows = scored[(scored[list(CELL)] == pd.Series({name: cell[name] for name in CELL})).all(axis=1)]
    number = Number(config, cell, rows, pooled)
    values = number.per_seed(rows)
    return {
        "cell": {**cell, "other_metrics": others},
        "value": number.over_seeds(values),
        "seeds": [
            {"seed": int(row["seed"]), "value": 100 * row["value"], "threshold": _number(row["threshold"])}
            for row in values.to_dict("records")
        ],
        "origin": origins.of_cell(config, dataset, cell, paths),
        "samples": number.samples(),
        "classes": number.classes(),
    }


def score_paths(config: Mapping[str, Any], task: str, ending: str) -> list[str]:
    """A task's score files, which must be there.

    Raises
    ------
    NumberError
    """
    paths = [path for path in suites.score_files(config, ending) if Path(path).name == f"{task}.{ending}"]
    if gone := [path for path in paths if not Path(path).is_file()]:
        raise NumberError(
            f"{gone[0]}: expected the scores of {task}, found {len(paths) - len(gone)} of {len(paths)} files. "
            "Run the workflow with this configuration first, in this folder."
        )
    return paths


# ------------------------------------------------------------------------------------- which cell


def _task(config: Mapping[str, Any], wanted: str) -> str:
    """The task of a key or title, whatever its case."""
    names = {name.lower(): name for task in config["tasks"] for name in (task,)}
    names |= {TASKS[task].title.lower(): task for task in config["tasks"]}
    if wanted.lower() not in names:
        known = ", ".join(f"{task} ({TASKS[task].title})" for task in config["tasks"])
        raise NumberError(f"expected a task of the suite, found {wanted!r}; there are {known}")
    return names[wanted.lower()]


def _choose(
    scored: pd.DataFrame, wanted: Wanted, task: str, config: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The cell that is meant, and the row's other metrics."""
    found = _cells(scored, wanted.table, task, config)
    if found.empty:
        shown = [
            name for name, spec in tables.SPECS.items() if task in {column[0] for column in spec.columns}
        ]
        raise NumberError(
            f"{wanted.table} has no column of {TASKS[task].title}; it is in {', '.join([*shown, EXTENDED])}"
        )
    labels = [tables.label(*pair) for pair in zip(found["method"], found["variant"], strict=True)]
    named = [wanted.method.lower() in (a.lower(), b.lower()) for a, b in zip(found["method"], labels)]
    exact = [wanted.method.lower() == label.lower() and "," in label for label in labels]
    picked = found[exact if any(exact) else named]
    if picked.empty:
        known = ", ".join(dict.fromkeys(labels))
        raise NumberError(f"{wanted.table}, {TASKS[task].title}: no row {wanted.method!r}; there are {known}")
    usual = {"variant": "proposed", "word_bank": TASKS[task].word_bank, "rule": None, "metric": None}
    others: list[str] = []
    for name in ("variant", "word_bank", "metric", "rule"):
        there = list(dict.fromkeys(picked[name]))
        choice = getattr(wanted, name) or (usual[name] if usual[name] in there else None)
        if choice is None and (len(there) == 1 or name in ("metric", "rule")):
            choice = there[0]
        if choice not in there:
            asked = f"no {choice!r}" if choice else "several, choose one"
            raise NumberError(
                f"{wanted.table}, {TASKS[task].title}, {wanted.method}: {name.replace('_', ' ')}: {asked}; "
                f"there are {', '.join(there)}"
            )
        if name == "metric":
            others = [metric for metric in there if metric != choice]
        picked = picked[picked[name] == choice]
    return {"table": wanted.table, **picked.iloc[0].to_dict()}, others


def _cells(scored: pd.DataFrame, table: str, task: str, config: Mapping[str, Any]) -> pd.DataFrame:
    """Identity, metric and rule ("" but for the extended table) of every cell of a table on a task."""
    if table == EXTENDED:
        semantic = TASKS[task].kind == "semantic"
        measures = extended.MEASURES[:3] if semantic else extended.MEASURES
        rules = [extended.NO_THRESHOLD] if semantic else [f"best on {config['split']}"]
        if config["tables"]["thresholds"] and not semantic:
            given = extended.read_thresholds(config["tables"]["thresholds"], config["split"])
            rules.append(f"best on {given['split'].iloc[0]}")
        cells = scored[list(CELL)].merge(pd.DataFrame({"metric": measures}), "cross")
        return cells.merge(pd.DataFrame({"rule": rules}), "cross")
    if table not in tables.SPECS:
        raise NumberError(f"no table {table!r}; there are {', '.join([*tables.SPECS, EXTENDED])}")
    spec = tables.SPECS[table]
    columns = pd.DataFrame(
        [column for column in spec.columns if column[0] == task], columns=["task", "metric"]
    )
    scored = scored[list(CELL)].merge(columns, on="task")
    cells = [found for _, name, _, found in tables.cells(scored, spec) if name == task and found is not None]
    return pd.DataFrame(cells, columns=[*CELL, "metric"]).assign(rule="")


# ----------------------------------------------------------------------------------- its value


def _number(value: Any) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if pd.isna(value) else float(value)


@dataclass(frozen=True)
class Number:
    """One cell with its rows; values of samples and of the cell without some of them."""

    config: Mapping[str, Any]
    cell: Mapping[str, Any]
    rows: pd.DataFrame
    pooled: pd.DataFrame

    @property
    def conventions(self) -> aggregate.Conventions:
        """What the tables do where people differ."""
        return aggregate.Conventions.of(self.config["tables"])

    @property
    def is_pooled(self) -> bool:
        """Whether the number comes from pixels pooled by class, which no longer tell their samples."""
        pooled = TASKS[self.cell["task"]].kind == "pooled" and self.cell["metric"] in ("mIoU", "mAP")
        return pooled and self.cell["table"] != EXTENDED

    def per_seed(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Seed, value (fraction) and threshold, from some of the cell's rows, as the tables make them."""
        if self.cell["table"] == EXTENDED:
            given = self.config["tables"]["thresholds"]
            given = extended.read_thresholds(given, self.config["split"]) if given else None
            values = extended.per_seed(rows, self.config["split"], given)
            values = values[values["rule"] == self.cell["rule"]]
        else:
            values = aggregate.per_seed(rows, self.pooled, self.conventions)
        return values[values["metric"] == self.cell["metric"]]

    def over_seeds(self, values: pd.DataFrame) -> dict[str, Any]:
        """Mean and spread over seeds in percent."""
        of = extended if self.cell["table"] == EXTENDED else aggregate
        found = of.over_seeds(values).iloc[0]
        return {
            "mean": 100 * float(found["mean"]),
            "std": _number(100 * found["std"]),
            "n_seeds": int(found["n_seeds"]),
            "n_samples": int(found["n_samples"]),
        }

    def samples(self) -> list[dict[str, Any]]:
        """The best and the worst samples, best first: ``score`` in percent, ``effect`` of leaving their clip out in points."""
        scores = self.sample_scores().sort_values("score", ascending=False, kind="stable")
        ends = pd.concat([scores.head(SHOWN), scores.tail(SHOWN)])
        ends = ends[~ends.index.duplicated()]
        whole = self.per_seed(self.rows)["value"].mean()
        effects = {clip: self._effect(clip, whole) for clip in dict.fromkeys(ends["clip_id"])}
        return [
            {
                "sample_id": sample,
                "clip_id": row.clip_id,
                "score": 100 * row.score,
                "effect": effects[row.clip_id],
            }
            for sample, row in zip(ends.index, ends.itertuples())
        ]

    def _effect(self, clip: str, whole: float) -> float | None:
        if self.is_pooled:
            return None
        rest = self.rows[self.rows["clip_id"] != clip]
        try:
            return 100 * float(self.per_seed(rest)["value"].mean() - whole)
        except (ValueError, IndexError):  # nothing is left to score
            return None

    def sample_scores(self) -> pd.DataFrame:
        """Score of each sample, mean over seeds: at the cell's threshold where it has one, else its mean IoU.

        Returns
        -------
        DataFrame indexed by sample_id: clip_id, score (fraction). Samples that the metric leaves out are missing.
        """
        metric = self.cell["metric"]
        if TASKS[self.cell["task"]].kind == "semantic" or metric in ("mIoU", "mAP"):
            return aggregate.image_scores(self.rows)
        thresholds = self.per_seed(self.rows).set_index("seed")["threshold"]
        parts = [self._at(group, thresholds[seed]) for seed, group in self.rows.groupby("seed", sort=True)]
        mean = pd.concat([part["score"] for part in parts], axis=1).mean(axis=1, skipna=False)
        return parts[0].assign(score=mean).dropna(subset="score")

    def _at(self, group: pd.DataFrame, threshold: float) -> pd.DataFrame:
        """Scores of one seed's samples at a threshold; NaN: each one's own best."""
        empty = (group["positives"] == 0).to_numpy()
        if self.cell["metric"] in ("F", extended.F_BY_IMAGE):
            levels = metrics.F_THRESHOLDS
            curves = (metrics.f_curves(*part) for part in aggregate.f_counts(group))
        else:
            levels = metrics.THRESHOLDS
            curves = (metrics.mask_iou(*part) for part in aggregate.threshold_counts(group))
            empty &= self.conventions.empty_truth == "skip" and self.cell["table"] != EXTENDED
        level = None if np.isnan(threshold) else np.abs(levels - threshold).argmin()
        with np.errstate(invalid="ignore"):  # 0 / 0 of an image without truth, which has no F
            best = np.concatenate([c.max(axis=1) if level is None else c[:, level] for c in curves])
        best[empty] = np.nan
        return pd.DataFrame({"clip_id": group["clip_id"].to_numpy(), "score": best}, group["sample_id"])

    def classes(self) -> list[dict[str, Any]]:
        """Where pixels are pooled by class: the best and the worst classes, and the effect of leaving each out."""
        if not self.is_pooled:
            return []
        held = self.pooled
        for name in CELL:
            held = held[held[name] == self.cell[name]]
        column = ("iou", "ap")[self.cell["metric"] == "mAP"]
        values = [
            aggregate.class_values(part).set_index("class_name")[column] for _, part in held.groupby("seed")
        ]
        mean = pd.concat(values, axis=1).mean(axis=1).sort_values(ascending=False, kind="stable")
        ends = pd.concat([mean.head(SHOWN), mean.tail(SHOWN)])
        return [
            {
                "class": name,
                "score": 100 * value,
                "effect": 100 * (mean.drop(name).mean() - mean.mean()) if len(mean) > 1 else None,
            }
            for name, value in ends[~ends.index.duplicated()].items()
        ]
