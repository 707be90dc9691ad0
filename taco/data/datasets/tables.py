"""Metadata tables: CSV files as authors, spreadsheets and editors leave them, read by one set of rules.

Cells are text (an id like "NA" or "1e5" stays as it is). Nothing is shifted, filled in or dropped in silence: a row that does
not fit the header is an error that names its line, and rows that are left out are counted by reason in the log.
"""

from __future__ import annotations

import csv
import logging
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import pandas as pd

from taco.data.problems import ManifestError, Problem

LINE = "line"
"""Column of a table: the line of the file on which the row ends."""
# A no-break space may belong to a name.
BLANKS = " \t\r\n"
USUAL_SPLITS = ("train", "val", "test")
LISTED_LINES = 5
log = logging.getLogger(__name__)


def read_table(
    path: str | Path,
    dataset: Mapping,
    required: Mapping[str, Sequence[str]],
    header: bool = True,
) -> pd.DataFrame:
    """Read a CSV as text, cells stripped of outer blanks; empty lines are passed over.

    Parameters
    ----------
    path : str or Path
        In UTF-8, with or without a byte order mark.
    dataset : Mapping
        Named in errors.
    required : Mapping
        Column name to use → names it may have in the file, the best first (letter case, blanks, hyphens and underscores do
        not matter); without a header the file's columns get these names in order.
    header : bool
        Whether the first line names the columns.

    Returns
    -------
    pandas.DataFrame
        The required columns, the file's others by their `plain_name`, and `LINE`.

    Raises
    ------
    ManifestError
        The file is missing, empty, no CSV, without a required column, or has rows that do not fit its header.
    """
    path = Path(path)
    expected = f"a CSV file in UTF-8 with the columns {', '.join(required)}"
    remedy = f"Place the dataset's metadata here (root: {dataset['root']})."
    name = str(dataset.get("name", dataset["reader"]))
    if not path.is_file() or path.stat().st_size == 0:
        found = "an empty file" if path.is_file() else "no such file"
        raise ManifestError(name, [Problem(str(path), expected, found, remedy)])
    status = path.stat()
    try:
        rows = _rows(str(path), status.st_mtime_ns, status.st_size)
    except (ValueError, OSError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
        found = " ".join(str(error).split())
        raise ManifestError(
            name, [Problem(str(path), expected, found, "Save it as a CSV in UTF-8.")]
        ) from error
    if header:
        names = [plain_name(cell) for cell in rows[0][1]] if rows else []
        while names and not names[-1]:  # a comma at the end of the header
            names.pop()
        places, missing = _places(names, required)
        rows = rows[1:]
        remedy = "Save it as a CSV with commas." if len(names) == 1 else remedy
    else:
        names = list(required)
        places, missing = {key: place for place, key in enumerate(required)}, ""
    if missing:
        raise ManifestError(name, [Problem(str(path), expected, missing, remedy)])
    problems = _row_problems(rows, len(names), path)
    if problems:
        raise ManifestError(name, problems)
    return _table(rows, names, places)


@lru_cache(maxsize=16)
def _rows(path: str, modified_ns: int, size: int) -> list[tuple[int, list[str]]]:
    """Line and stripped cells of every row that has any."""
    with open(path, newline="", encoding="utf-8-sig") as stream:
        reader = csv.reader(stream, strict=True, skipinitialspace=True)
        try:
            stripped = ((reader.line_num, [cell.strip(BLANKS) for cell in row]) for row in reader)
            return [(line, cells) for line, cells in stripped if any(cells)]
        except csv.Error as error:
            raise csv.Error(f"line {reader.line_num}: {error}") from error


def _places(names: list[str], required: Mapping[str, Sequence[str]]) -> tuple[dict[str, int], str]:
    """Where the required columns stand in the header, and what is wrong with it ("" if nothing)."""
    chosen = {
        key: next((plain_name(n) for n in aliases if plain_name(n) in names), None)
        for key, aliases in required.items()
    }
    absent = [key for key, name in chosen.items() if name is None]
    if absent:
        return {}, f"{', '.join(names)} (missing: {', '.join(absent)})"
    twice = [name for name in chosen.values() if names.count(name) > 1]
    if twice:
        return {}, f"{', '.join(names)} ({', '.join(twice)} more than once)"
    return {key: names.index(name) for key, name in chosen.items()}, ""


def _row_problems(rows: list[tuple[int, list[str]]], width: int, path: Path) -> list[Problem]:
    """Rows of another number of cells than the header (empty ones at the end are no cells), and cells with control characters."""
    short = [line for line, cells in rows if len(cells) < width]
    long = [line for line, cells in rows if any(cells[width:])]
    odd = [line for line, cells in rows if any(map(_has_control, cells))]
    faults = (
        (short, f"{width} cells in each row, as in the header", "fewer"),
        (long, f"{width} cells in each row, as in the header", "more"),
        (odd, "text without control characters", "some"),
    )
    return [
        Problem(str(path), expected, f"{found} in {lines_text(lines)}", "Correct or remove these rows.")
        for lines, expected, found in faults
        if lines
    ]


def _has_control(cell: str) -> bool:
    return not cell.isprintable() and any(unicodedata.category(character) == "Cc" for character in cell)


def _table(rows: list[tuple[int, list[str]]], names: list[str], places: Mapping[str, int]) -> pd.DataFrame:
    columns = {
        name: [cells[place] for _, cells in rows] for place, name in enumerate(names) if name not in places
    }
    columns |= {key: [cells[place] for _, cells in rows] for key, place in places.items()}
    return pd.DataFrame(columns | {LINE: [line for line, _ in rows]}, dtype=object)


def plain(text: str) -> str:
    """A text for comparison: letter case, width, blanks of any kind and invisible characters do not matter."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    visible = "".join(
        character for character in folded if unicodedata.category(character) not in ("Cc", "Cf")
    )
    return " ".join(visible.split())


def plain_name(text: str) -> str:
    """`plain` for column names, words joined by underscores."""
    return "_".join(plain(text).replace("_", " ").replace("-", " ").split())


def lines_text(lines: Iterable[int]) -> str:
    """The lines of a file in words."""
    listed = list(lines)
    numbers = ", ".join(map(str, listed[:LISTED_LINES]))
    more = f" and {len(listed) - LISTED_LINES} more" if len(listed) > LISTED_LINES else ""
    return f"line{'s' if len(listed) > 1 else ''} {numbers}{more}"


def in_split(table: pd.DataFrame, dataset: Mapping, source: str | Path) -> tuple[pd.DataFrame, list[Problem]]:
    """Rows of the wanted split, however it is spelled, under its configured name; what is left out is logged.

    A row without a split, and a split without rows, are problems.
    """
    spelled = table["split"].map(plain)
    part = table[spelled == plain(dataset["split"])]
    problems = []
    if (spelled == "").any():
        lines = lines_text(table.loc[spelled == "", LINE])
        problems.append(
            Problem(str(source), "a split in each row", f"none in {lines}", "Correct or remove these rows.")
        )
    if not len(part):
        counts = table["split"].value_counts(sort=False)
        found = ", ".join(f"{name!r}: {count}" for name, count in counts.items()) or "no row at all"
        expected, remedy = f"rows of the split {dataset['split']!r}", "Choose one of these splits."
        problems.append(Problem(str(source), expected, f"an empty split (rows by split: {found})", remedy))
    for name, count in part["split"].value_counts(sort=False).items():
        if name != dataset["split"]:
            log.warning("%s: %d rows of the split %r are read as %r", source, count, name, dataset["split"])
    for name, count in table.loc[~table.index.isin(part.index), "split"].value_counts(sort=False).items():
        level = logging.INFO if name in USUAL_SPLITS else logging.WARNING
        log.log(level, "%s: %d of %d rows are left out: of the split %r", source, count, len(table), name)
    return part.assign(split=dataset["split"]), problems


def blank_cells(table: pd.DataFrame, columns: Sequence[str], source: str | Path) -> list[Problem]:
    """Cells that must not be empty, by column."""
    return [
        Problem(
            str(source),
            f"{column} in each row",
            f"none in {lines_text(lines)}",
            "Correct or remove these rows.",
        )
        for column in columns
        if len(lines := table.loc[table[column].map(plain) == "", LINE])
    ]


def without_repeats(
    table: pd.DataFrame, key: str, what: str, source: str | Path
) -> tuple[pd.DataFrame, list[Problem]]:
    """The first row of each `key`, and a problem for each that has more."""
    repeated = table[table.duplicated(key, keep=False)]
    problems = [
        Problem(str(source), f"one row for {what} {name!r}", lines_text(lines), "Remove the repeated rows.")
        for name, lines in repeated.groupby(key, sort=False)[LINE]
    ]
    return table.drop_duplicates(key), problems


def spelling_problems(values: pd.Series, what: str, source: str | Path) -> list[Problem]:
    """Names that differ in letter case, blanks or underscores alone."""
    counts = values.value_counts(sort=False)
    spellings: dict[str, list[str]] = {}
    for name in counts.index:
        spellings.setdefault(plain_name(name), []).append(name)
    return [
        Problem(
            str(source),
            f"one spelling of the {what} {names[0]!r}",
            ", ".join(f"{name!r} in {counts[name]} rows" for name in names),
            "Write all of them alike.",
        )
        for names in spellings.values()
        if len(names) > 1
    ]
