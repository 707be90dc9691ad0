"""The uniform table of a dataset's samples: built by a reader, checked, written, limited, cut into shards.

A manifest has one row per sample (a frame with its second of sound, or a still with its sound):

==========  =========  ================================================================================
column      type       meaning
==========  =========  ================================================================================
sample_id   str        unique within the dataset
clip_id     str        samples of one clip are neighbours and are never parted by `shard` or `limit`
frame       int        0-based, ascending within a clip
image       str        path
audio       str        path; several frames share the one file of their clip
start       float      seconds into the audio file
duration    float      seconds; NaN is the rest of the file
mask        str        path of the truth, "" where a training frame has none
classes     list[str]  names of the classes that sound in the sample, empty where unknown
class_id    int        the prompted class of ADE SP, else -1
split       str        train, val or test
==========  =========  ================================================================================
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from taco.data import datasets
from taco.data.problems import ManifestError, Problem, reason
from taco.runtime import atomic_write, is_text

LONGEST_NAME = 200
"""Bytes of a sample's id: file systems take 255, of which endings and private names need some."""
SCHEMA_VERSION = 1
ROWS_OF_A_GROUP = 1 << 14
"""Rows that are read together: a job of a large dataset reads those of its shard."""
FILES = ("image", "audio", "mask")
"""Columns that name a file."""
COLUMNS: dict[str, str] = {
    "sample_id": "object",
    "clip_id": "object",
    "frame": "int64",
    "image": "object",
    "audio": "object",
    "start": "float64",
    "duration": "float64",
    "mask": "object",
    "classes": "object",
    "class_id": "int64",
    "split": "object",
}


def build(dataset: Mapping, require_files: bool = True) -> pd.DataFrame:
    """Read a dataset's own metadata into a manifest.

    Parameters
    ----------
    dataset : Mapping
        `name`, `reader` (s4, ms3, avss, ade), `root`, `split`, the reader's own options, and optionally
        `expected: {samples, clips, classes}`, counts that must come out.
    require_files : bool
        False builds from the metadata alone (dry checks). True asks that the dataset's folders exist, and where the
        metadata is at fault, the files are checked too, so that one error lists everything. Sound metadata
        leaves the files to `check`.

    Returns
    -------
    pandas.DataFrame
        See the module's table; rows in the order of the metadata, clips contiguous, frames ascending.

    Raises
    ------
    ManifestError
        Unusable metadata, a path that leaves the root, an unknown class, duplicate ids, an empty split, an
        unexpected count.
    """
    rows, problems = datasets.read_rows(dataset, require_files)
    frame = from_rows(rows)
    if len(frame) or not problems:  # where the reader could read nothing, it has said why
        problems = problems + structure_problems(frame, dataset)
    problems = problems + _count_problems(frame, dataset)
    if problems:
        if require_files:
            problems += datasets.file_problems(frame, dataset)[0]
        raise ManifestError(_title(dataset), problems)
    return frame


def check(frame: pd.DataFrame, dataset: Mapping, workers: int | None = None) -> dict:
    """Decode every file of a manifest once and raise one error that lists all problems.

    Legal, and only logged: digital silence, empty truth (no foreground; the prompted class absent from its mask).

    Parameters
    ----------
    frame : pandas.DataFrame
        A manifest, whole or limited.
    dataset : Mapping
        What it was built from.
    workers : int, optional
        Threads; the result does not depend on it. Default: the CPUs of this process, at most 8.

    Returns
    -------
    dict
        What the mask files are, for `write`: ``masks`` and ``empty`` (counts), ``kinds`` (masks by kind), ``pixels`` (those
        that another rule would read otherwise, by rule).

    Raises
    ------
    ManifestError
        Missing, empty, truncated or non-image files; missing, unreadable, NaN or zero-length sounds; sounds that end
        before a sample's piece; masks of another size than their image or with unexpected values; duplicate ids;
        unknown classes; an empty split.
    """
    problems = structure_problems(frame, dataset)
    found, masks = datasets.file_problems(frame, dataset, workers)
    problems += found
    if problems:
        raise ManifestError(_title(dataset), problems)
    return masks


def structure_problems(frame: pd.DataFrame, dataset: Mapping) -> list[Problem]:
    """What is wrong with the table itself: ids, order, times, classes, split. No file is opened."""
    source = str(dataset["root"])
    if frame.empty:
        remedy = "Choose a split that the metadata has, or complete the metadata."
        return [
            Problem(
                source,
                f"samples in the split {dataset['split']!r}",
                "an empty split",
                remedy,
            )
        ]
    problems = []
    for name in frame.loc[~frame["sample_id"].map(is_file_name), "sample_id"]:
        remedy = "Rename it: predictions are files of these names."
        problems.append(Problem(source, "sample ids that can be names of files", repr(name), remedy))
    counts = frame["sample_id"].value_counts(sort=False)
    for name, count in counts[counts > 1].items():
        remedy = "Remove the repeated rows from the metadata."
        problems.append(Problem(source, f"one sample {name!r}", f"{count} rows with this id", remedy))
    if not problems:  # the order of repeated ids says nothing
        problems += _order_problems(frame, source)
    known = set(datasets.class_names(dataset))
    names = [*known, *(name for column in ("clip_id", *FILES) for name in frame[column].unique())]
    for name in sorted(name for name in names if not is_text(name)):
        remedy = "Rename it: no table can hold halves of signs."
        problems.append(Problem(source, "names of whole signs (UTF-8)", repr(name), remedy))
    for name, count in frame["classes"].explode().dropna().value_counts(sort=False).items():
        if name not in known:
            remedy = f"Correct the metadata, or add the class to the dataset's {len(known)} classes."
            problems.append(
                Problem(
                    source,
                    "known class names",
                    f"unknown class {name!r} in {count} samples",
                    remedy,
                )
            )
    for split in sorted(set(frame["split"]) - {dataset["split"]}):
        problems.append(
            Problem(
                source,
                f"the split {dataset['split']!r}",
                f"samples of {split!r}",
                "Build the manifest again.",
            )
        )
    return problems


def is_file_name(name: str) -> bool:
    """Whether a sample's id can be the name of a file: no folder, no control character, neither hidden nor too long."""
    safe = isinstance(name, str) and not any(
        sign in "/\\" or unicodedata.category(sign) in ("Cc", "Cs") for sign in name
    )
    return safe and bool(name.strip()) and not name.startswith(".") and len(name.encode()) <= LONGEST_NAME


def _order_problems(frame: pd.DataFrame, source: str) -> list[Problem]:
    """Clips must be contiguous, their frames ascending, their times usable."""
    problems = []
    remedy = "Build the manifest again; rows must not be sorted or mixed."
    clip = frame["clip_id"].to_numpy()
    starts = np.flatnonzero(np.r_[True, clip[1:] != clip[:-1]])
    parted = pd.Series(clip[starts]).value_counts(sort=False)
    for name in parted[parted > 1].index:
        problems.append(
            Problem(
                source,
                "neighbouring rows for a clip",
                f"clip {name!r} in several places",
                remedy,
            )
        )
    descending = (clip[1:] == clip[:-1]) & (np.diff(frame["frame"].to_numpy()) <= 0)
    for name in dict.fromkeys(clip[1:][descending]):
        problems.append(
            Problem(
                source,
                "ascending frames in a clip",
                f"clip {name!r} out of order",
                remedy,
            )
        )
    usable = (frame["start"] >= 0) & np.isfinite(frame["start"])
    usable &= frame["duration"].isna() | ((frame["duration"] > 0) & np.isfinite(frame["duration"]))
    for row in frame[~usable].itertuples():
        found = f"start {row.start}, duration {row.duration} in sample {row.sample_id!r}"
        problems.append(Problem(source, "start >= 0 s and duration > 0 s or NaN", found, remedy))
    return problems


def _count_problems(frame: pd.DataFrame, dataset: Mapping) -> list[Problem]:
    """Compare the counts that the configuration promises (`expected`) with those found."""
    found = {
        "samples": len(frame),
        "clips": frame["clip_id"].nunique(),
        "classes": frame["classes"].explode().nunique(),
    }
    expected = dict(dataset.get("expected") or {})
    unknown = sorted(set(expected) - set(found))
    if unknown:
        raise ValueError(
            f"dataset {dataset.get('name')!r}: expected has unknown keys {unknown}; known: {sorted(found)}"
        )
    remedy = "Complete the dataset, or correct `expected` in the configuration."
    return [
        Problem(
            str(dataset["root"]),
            f"{number} {key} in the split {dataset['split']!r}",
            str(found[key]),
            remedy,
        )
        for key, number in expected.items()
        if found[key] != number
    ]


def class_counts(frame: pd.DataFrame) -> pd.Series:
    """Number of samples per sounding class, most frequent first, ties by name (a sample counts for each of its)."""
    counts = (
        frame["classes"].explode().dropna().value_counts(sort=False).rename("samples").rename_axis("class")
    )
    order = sorted(counts.index, key=lambda name: (-counts[name], name))
    return counts.loc[order].astype("int64")


def limit(frame: pd.DataFrame, n_clips: int | None) -> pd.DataFrame:
    """The first `n_clips` clips (all for None)."""
    if n_clips is None:
        return frame
    if n_clips < 1:
        raise ValueError(f"limit must be at least 1 clip or None, found {n_clips}")
    keep = pd.unique(frame["clip_id"])[:n_clips]
    return frame[frame["clip_id"].isin(keep)].reset_index(drop=True)


def shard(frame: pd.DataFrame, index: int, count: int) -> pd.DataFrame:
    """Part `index` (0-based) of `count` parts of neighbouring whole clips, equal in clips up to one.

    The parts are disjoint and in order make up the manifest. With more parts than clips some are empty.
    """
    if not 0 <= index < count:
        raise ValueError(f"need 0 <= index < count, found index {index}, count {count}")
    clips = np.array_split(pd.unique(frame["clip_id"]), count)[index]
    return frame[frame["clip_id"].isin(clips)].reset_index(drop=True)


def from_rows(rows: Iterable[Mapping]) -> pd.DataFrame:
    """Table of the manifest's columns and types from one mapping per sample."""
    frame = pd.DataFrame(list(rows), columns=list(COLUMNS)).astype(COLUMNS)
    frame["classes"] = pd.Series([list(names) for names in frame["classes"]], index=frame.index, dtype=object)
    return frame


def write(frame: pd.DataFrame, path: str | Path, masks: Mapping | None = None) -> None:
    """Write a manifest as Parquet, whole or not at all.

    Parameters
    ----------
    frame : pandas.DataFrame
    path : str or Path
    masks : Mapping, optional
        What `check` has found of the mask files; `read_masks` gives it back.

    Raises
    ------
    taco.runtime.OutputError
        The folder cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from taco.data import sealed

    path = Path(path)
    table = pa.Table.from_pandas(frame[list(COLUMNS)], schema=_schema(), preserve_index=False)
    kept = {"taco_manifest": str(SCHEMA_VERSION), "masks": json.dumps(masks)}
    with atomic_write(path) as partial:
        pq.write_table(
            sealed.seal(table, kept), partial, row_group_size=ROWS_OF_A_GROUP, write_page_checksum=True
        )


def read(path: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a manifest that `write` wrote.

    Parameters
    ----------
    path : str or Path
    columns : sequence of str, optional
        The columns to read; all by default.

    Raises
    ------
    ManifestError
        The file is missing, damaged, or of another schema.
    """
    from taco.data import sealed

    with _opened(path) as file:
        return _frame(sealed.check(file.read(list(columns or COLUMNS)), file.schema_arrow.metadata))


def count(path: str | Path) -> int:
    """Number of samples, by the file's footer: no row is read."""
    with _opened(path) as file:
        return file.metadata.num_rows


def read_shard(path: str | Path, index: int, count: int) -> pd.DataFrame:
    """`shard` of a manifest, of which only the rows of that part are read (and where its clips begin and end).

    Raises
    ------
    ManifestError
        As `read`; and where a clip stands in several places.
    """
    if not 0 <= index < count:
        raise ValueError(f"need 0 <= index < count, found index {index}, count {count}")
    with _opened(path) as file:
        clips = file.read(["clip_id"])["clip_id"].combine_chunks().dictionary_encode()
        number = clips.indices.to_numpy()  # of each row's clip, in order of appearance
        if (np.diff(number) < 0).any():
            raise ManifestError(Path(path).stem, [_problem(path, "a clip in several places")])
        part = np.array_split(np.arange(len(clips.dictionary)), count)[index]
        if not len(part):
            return _frame(file.schema_arrow.empty_table())
        first, end = np.searchsorted(number, [part[0], part[-1] + 1])
        ends = np.cumsum([file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)])
        groups = range(np.searchsorted(ends, first, "right"), np.searchsorted(ends, end) + 1)
        before = ends[groups[0] - 1] if groups[0] else 0
        return _frame(file.read_row_groups(list(groups)).slice(first - before, end - first))


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """A manifest's file, whose schema is the right one and whose pages are checked."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open(path, "rb") as stream, pq.ParquetFile(stream, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            version = (schema.metadata or {}).get(b"taco_manifest", b"none").decode(errors="replace")
            if version != str(SCHEMA_VERSION) or not schema.equals(_schema()):
                columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
                found = f"schema {version} with columns {columns}"
                raise ManifestError(Path(path).stem, [_problem(path, found)])
            yield file
    except ManifestError:
        raise
    except (OSError, ValueError, TypeError, OverflowError, pa.ArrowException) as error:
        raise ManifestError(Path(path).stem, [_problem(path, reason(error))]) from error


def _problem(path: str | Path, found: str) -> Problem:
    remedy = "Delete the file and run the workflow again."
    return Problem(str(path), f"a manifest of schema {SCHEMA_VERSION}", found, remedy)


def _frame(table: Any) -> pd.DataFrame:
    """A table of some of the manifest's columns in its types."""
    frame = table.to_pandas().astype({name: COLUMNS[name] for name in table.column_names})
    if "classes" in frame:
        frame["classes"] = pd.Series(table["classes"].to_pylist(), index=frame.index, dtype=object)
    return frame


def read_masks(path: str | Path) -> dict | None:
    """What is recorded of the mask files in a manifest that `write` wrote (see `check`); None where nothing is.

    Raises
    ------
    ManifestError
        The file is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return json.loads((pq.read_schema(path).metadata or {}).get(b"masks", b"null"))
    except (OSError, ValueError, RecursionError, pa.ArrowException) as error:
        raise ManifestError(Path(path).stem, [_problem(path, reason(error))]) from error


def _schema():
    import pyarrow as pa

    types = {"object": pa.string(), "int64": pa.int64(), "float64": pa.float64()}
    fields = [pa.field(name, types[kind]) for name, kind in COLUMNS.items()]
    fields[list(COLUMNS).index("classes")] = pa.field("classes", pa.list_(pa.string()))
    return pa.schema(fields)


def _title(dataset: Mapping) -> str:
    return str(dataset.get("name", dataset["reader"]))
