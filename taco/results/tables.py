"""The paper's tables from aggregated numbers, as long frames for CSV; `taco.results.printing` makes pages of them. Percent.

A table is data: a `TableSpec` says which columns (task, metric) and rows (method, variant, word bank) it
has. Numbers of others come from config/reported.yaml (`load_reported`), on the suite that names it; without
it those columns stay empty and literature rows are left out. A measured row that is missing is an error,
never an empty cell.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from taco.metrics.tasks import TASKS
from taco.results.ours import OURS
from taco.runtime import read_yaml

COLUMNS = (
    "table",
    "dataset",
    "method",
    "variant",
    "word_bank",
    "metric",
    "mean",
    "std",
    "n_seeds",
    "n_samples",
    "reported_mean",
    "reported_std",
    "reported_deviation",
    "release_mean",
    "release_std",
    "release_deviation",
    "source",
)
TOLERANCE = 1.0
"""Least tolerance in points: the authors' release allows max(2 · std, 1.0)."""
ANY = "any"
DEFAULT = "default"
NO_BANK = "none"
SUITES = {
    "miniature": "miniature suite: a generated world with small models; not the paper's result",
    "paper": "paper suite: the paper's datasets, models and settings",
}
_QUIET_VARIANTS = ("proposed", "list", "control", "literature", "submitted")


class TableError(ValueError):
    """A table cannot be built: says which numbers are missing or malformed, and what to do."""


@dataclass(frozen=True)
class Row:
    """One measured row. word_bank: a bank, `DEFAULT` (the task's), or `ANY` (the single one scored)."""

    method: str
    variant: str = "proposed"
    word_bank: str = DEFAULT
    bound: bool = False


@dataclass(frozen=True)
class TableSpec:
    """name: file name and the CSV's `table`; columns: (task, metric) pairs; rows: in printed order.

    contributed: whether contributed methods, and variants of our own, are added where they were scored.
    """

    name: str
    title: str
    columns: tuple
    rows: tuple
    contributed: bool = False


CONTRIBUTED = "contributed"
"""The variant of methods of others (`taco.method.contributed`)."""
_CONTROLS = tuple(
    Row(method, "control", ANY, bound=True) for method in ("whole image", "random mask", "oracle mask")
)
_AFC = Row("A-FC-CLIP", "list", "specific")
_TACO = Row("TACO")
_SHUFFLED = Row("TACO", "shuffled audio", bound=True)
_SHUFFLED_U = Row("U only", "shuffled audio", bound=True)
SPECS = {
    spec.name: spec
    for spec in (
        TableSpec(
            "table1",
            "Table 1. Effect of clamping the text embeddings of A-FC-CLIP",
            (
                ("ade_sp", "mIoU"),
                ("s4", "mask-IoU"),
                ("ms3", "mask-IoU"),
                ("avss", "mIoU"),
                ("ade_sp_semantic", "mIoU"),
            ),
            (_AFC, Row("A⁺-FC-CLIP", "list", "specific"), *_CONTROLS),
        ),
        TableSpec(
            "table2",
            "Table 2. Sound-prompted segmentation on S4 and MS3",
            (("s4", "mask-IoU"), ("s4", "F"), ("ms3", "mask-IoU"), ("ms3", "F")),
            (_AFC, _TACO, Row("U only", bound=True), _SHUFFLED, _SHUFFLED_U, *_CONTROLS),
            contributed=True,
        ),
        TableSpec(
            "table3",
            "Table 3. Sound-prompted segmentation on ADE SP, with ablations",
            (("ade_sp", "mIoU"), ("ade_sp", "mAP")),
            (
                Row("U only"),
                _AFC,
                Row("TACO", "no-min"),
                Row("TACO", "w/o component"),
                Row("TACO", "w/o penalty"),
                _TACO,
                _SHUFFLED,
                _SHUFFLED_U,
                *_CONTROLS,
            ),
            contributed=True,
        ),
        TableSpec(
            "table4",
            "Table 4. Word banks in sound-prompted segmentation",
            (("s4", "mask-IoU"), ("ms3", "mask-IoU"), ("ade_sp", "mIoU")),
            (
                Row("U only", word_bank="general"),
                Row("U only", word_bank="specific"),
                Row("TACO", word_bank="specific"),
                Row("TACO", word_bank="general"),
                *_CONTROLS,
            ),
        ),
        TableSpec(
            "table5",
            "Table 5. Sound-prompted semantic segmentation on AVSS and ADE SP Semantic",
            (
                ("avss", "mIoU"),
                ("avss", "F"),
                *(("ade_sp_semantic", m) for m in ("mIoU", "F", "mIoU (corrected)", "F (corrected)")),
            ),
            (_AFC, _TACO, _SHUFFLED, *_CONTROLS),
            contributed=True,
        ),
    )
}


# --------------------------------------------------------------------------------- numbers of others


@dataclass(frozen=True)
class Reported:
    """Numbers of others, percent: key → (mean, std or NaN, source).

    Attributes
    ----------
    paper : dict, key (table, task, method, variant, word_bank, metric)
    literature : dict, key (table, method) → dict (task, metric) → (mean, std, source); in printed order
    release : dict, key (task, method, variant, word_bank, metric)
    notes : dict table → list of str
    """

    paper: dict = field(default_factory=dict)
    literature: dict = field(default_factory=dict)
    release: dict = field(default_factory=dict)
    notes: dict = field(default_factory=dict)


def load_reported(path):
    """Read config/reported.yaml.

    Raises
    ------
    TableError
        for a table, task or value that does not fit its form.
    """
    result = Reported()
    try:
        data = read_yaml(path)
        for table, content in data["paper"].items():
            result.notes[table] = list(content["notes"])
            for row in content["rows"]:
                _add_paper_row(result, table, content, row)
        for row in data["release"]["rows"]:
            for task, metrics in row["values"].items():
                for metric, value in metrics.items():
                    key = (_known(task), row["method"], row["variant"], row["word_bank"], metric)
                    result.release[key] = (*_value(value), data["release"]["source"])
    except (OSError, AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise TableError(
            f"{path}: malformed ({type(error).__name__}: {error}); see its header for the form"
        ) from error
    return result


def _add_paper_row(result, table, content, row):
    columns = [(_known(task), metric) for task, metric in content["columns"]]
    cells = dict(zip(columns, row["values"], strict=True))
    source = content["source"]
    if row.get("literature"):
        source = f"{source}, quoting {row['reference']}"
        result.literature[table, row["method"]] = {
            column: (*_value(value), source) for column, value in cells.items() if value is not None
        }
        return
    for (task, metric), value in cells.items():
        key = (table, task, row["method"], row["variant"], row["word_bank"], metric)
        result.paper[key] = (*_value(value), source)


def _known(task):
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}")
    return task


def _value(value):
    mean, std = value if isinstance(value, list) else (value, np.nan)
    return float(mean), float(std)


# ------------------------------------------------------------------------------------------- tables


def build(aggregates, spec, reported, suite):
    """One table in long form: a row per printed cell.

    Parameters
    ----------
    aggregates : DataFrame
        from `taco.results.aggregate.summarise` (fractions)
    spec : TableSpec
    reported : Reported or None
        numbers of others; None where the suite is not comparable with them
    suite : str

    Returns
    -------
    DataFrame with `COLUMNS`: literature rows first (mean empty), then the spec's, in percent

    Raises
    ------
    TableError
        when a measured number is missing, listing all of them.
    """
    records = [_literature(spec, *item) for item in _literature_cells(spec, reported)]
    missing = []
    for row, task, metric, found in cells(aggregates, spec):
        if found is None:
            bank = "" if row.word_bank == ANY else f", {_bank(row, task)} bank"
            missing.append(f"{task} {metric}: {row.method}, {row.variant}{bank}")
        else:
            records.append(_measured(spec, found, reported, suite))
    if missing:
        lines = "\n  ".join(missing)
        raise TableError(
            f"{spec.name} lacks {len(missing)} numbers:\n  {lines}\nScore these runs, or drop the rows."
        )
    return pd.DataFrame(records, columns=list(COLUMNS)).astype({"n_seeds": "Int64", "n_samples": "Int64"})


def cells(aggregates, spec):
    """Every cell of a table that can be measured, in printed order.

    Parameters
    ----------
    aggregates : DataFrame
        task, method, variant, word_bank, metric, and whatever else a cell is to bring with it
    spec : TableSpec

    Yields
    ------
    row : Row
    task, metric : str
    found : Series or None
        the cell's row of ``aggregates``; None where the spec's own row was not scored
    """
    index = {key: group for key, group in aggregates.groupby(["task", "method", "variant", "metric"])}
    others = (*our_rows(aggregates), *contributed_rows(aggregates)) if spec.contributed else ()
    for row in (*spec.rows, *others):
        for task, metric in spec.columns:
            found = _find(index.get((task, row.method, row.variant, metric)), row, task)
            if found is not None or row not in others:  # such a method may answer some tasks only
                yield row, task, metric, found


def contributed_rows(aggregates):
    """A row for each contributed method, by name."""
    found = aggregates.loc[aggregates["variant"] == CONTRIBUTED, "method"]
    return tuple(Row(method, CONTRIBUTED, NO_BANK) for method in sorted(set(found)))


def our_rows(aggregates):
    """A row for each method with each variant of our own."""
    found = aggregates.loc[aggregates["variant"].isin(OURS), ["method", "variant", "word_bank"]]
    rows = sorted({(OURS.index(row.variant), row.method, row.word_bank) for row in found.itertuples()})
    return tuple(Row(method, OURS[place], bank) for place, method, bank in rows)


def _bank(row, task):
    return TASKS[task].word_bank if row.word_bank == DEFAULT else row.word_bank


def _find(group, row, task):
    """The aggregate of one cell, or None; a control may have been scored under any one bank."""
    if group is None:
        return None
    if row.word_bank != ANY:
        group = group[group["word_bank"] == _bank(row, task)]
    if len(group) > 1:
        banks = sorted(group["word_bank"])
        raise TableError(f"{task}: {row.method} was scored under several word banks {banks}; keep one")
    return group.iloc[0] if len(group) else None


def _literature_cells(spec, reported):
    for (table, method), cells in (reported.literature if reported else {}).items():
        if table == spec.name:
            for (task, metric), value in cells.items():
                yield method, task, metric, value


def _literature(spec, method, task, metric, value):
    return {
        "table": spec.name,
        "dataset": TASKS[task].title,
        "method": method,
        "variant": "literature",
        "word_bank": NO_BANK,
        "metric": metric,
        "reported_mean": value[0],
        "reported_std": value[1],
        "source": value[2],
    }


def _measured(spec, cell, reported, suite):
    key = (cell["task"], cell["method"], cell["variant"], cell["word_bank"], cell["metric"])
    nothing = (np.nan, np.nan, "")
    paper = reported.paper.get((spec.name, *key), nothing) if reported else nothing
    release = reported.release.get(key, nothing) if reported else nothing
    sources = [f"measured: {suite} suite"]
    sources += [f"{name}: {x[2]}" for name, x in (("reported", paper), ("release", release)) if x[2]]
    return {
        "table": spec.name,
        "dataset": TASKS[cell["task"]].title,
        **{name: cell[name] for name in ("method", "variant", "word_bank", "metric")},
        "mean": 100 * cell["mean"],
        "std": 100 * cell["std"],
        "n_seeds": cell["n_seeds"],
        "n_samples": cell["n_samples"],
        "reported_mean": paper[0],
        "reported_std": paper[1],
        "reported_deviation": deviation(100 * cell["mean"], paper[0], paper[1]),
        "release_mean": release[0],
        "release_std": release[1],
        "release_deviation": deviation(100 * cell["mean"], release[0], release[1]),
        "source": "; ".join(sources),
    }


def deviation(measured, expected, std=np.nan):
    """How far a number lies from another's, in units of that one's tolerance max(2 · std, 1.0) point.

    Parameters
    ----------
    measured, expected, std : float
        Percent; std is the expected number's, NaN where none is given.

    Returns
    -------
    float, signed: within ±1 the two agree. NaN where nothing is expected.

    Examples
    --------
    >>> round(deviation(45.0, 43.15, 0.91), 3), deviation(64.5, 64.04, 0.25) < 1, deviation(1.0, 3.0)
    (1.016, True, -2.0)
    """
    return float((measured - expected) / np.fmax(2 * std, TOLERANCE))


def intervals(frame, suite):
    """`taco.results.comparisons.intervals` for CSV: percent points, the dataset's name, and the suite.

    Returns
    -------
    DataFrame: table, dataset, then the columns of `taco.results.comparisons.intervals` (task replaced by dataset),
    excludes_zero, source
    """
    frame = frame.copy()
    frame.insert(0, "table", "intervals")
    frame.insert(1, "dataset", [TASKS[task].title for task in frame.pop("task")])
    for name in ("mean_a", "mean_b", "difference", "low", "high"):
        frame[name] *= 100
    frame["excludes_zero"] = (frame["low"] > 0) | (frame["high"] < 0)
    frame["source"] = f"measured: {suite} suite"
    return frame


# -------------------------------------------------------------------------------------- in words


def suite_title(suite):
    """The line that every output carries, so that none is taken for the paper's result."""
    return SUITES.get(suite, f"{suite} suite: not the paper's result")


def label(method, variant):
    """A row's printed name: the variant is left out where it is the usual one, and marked where it is not of the paper."""
    mark = " (ours)" if variant in OURS else ""
    return method if variant in _QUIET_VARIANTS else f"{method}, {variant}{mark}"


def number(mean, std=np.nan):
    """Two decimals, "mean ± std"; empty for NaN, no ± without a std."""
    if pd.isna(mean):
        return ""
    return f"{mean:.2f}" if pd.isna(std) else f"{mean:.2f} ± {std:.2f}"
