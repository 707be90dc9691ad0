"""Files of score rows: written by the scoring, whole or not at all, and read with every mistake named.

Rows and their columns are described in `taco.metrics`. A Parquet row group holds rows of one cell and seed, with a checksum of
each of its columns of lists, so that counts can be read a portion at a time (`taco.results.counts`).
"""

import json
from collections.abc import Mapping
from contextlib import contextmanager
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from taco import metrics, runtime
from taco.cache.hdf5 import fingerprint
from taco.data import sealed
from taco.data.predictions import COLUMN
from taco.results.counts import ABSENT, AT_ONCE, Counts, Group, Store

SCHEMA_VERSION = "2"
ROWS_OF_A_GROUP = 4096
CELL = ("task", "dataset", "method", "variant", "word_bank")
"""What one number of a table belongs to (and its metric)."""


class AggregateError(ValueError):
    """Score rows that cannot be aggregated: says which, what was expected and what to do."""


DAMAGE = (OSError, pa.ArrowException, sealed.DamagedError, UnicodeDecodeError, KeyError)
"""What reading a damaged file of scores may give."""
_TYPES = {
    "seed": pa.int32(),
    "pixels": pa.int32(),
    "n_labels": pa.int32(),
    "first_id": pa.int32(),
    "class_ids": pa.list_(pa.int16()),
    "positives": pa.int32(),
    **{
        name: pa.list_(pa.int32())
        for name in ("tp", "fp", "f_tp", "f_pp", "intersection", "predicted", "truth")
    },
    **{name: pa.string() for name in metrics.IDENTITY if name != "seed"},
}
_COLUMNS = {
    "binary": metrics.IDENTITY + metrics.BINARY_COLUMNS,
    "semantic": metrics.IDENTITY + metrics.SEMANTIC_COLUMNS,
}
LISTS = {
    kind: tuple(name for name in columns if pa.types.is_list(_TYPES[name]))
    for kind, columns in _COLUMNS.items()
}
"""Columns of counts of each kind of rows."""


def write_rows(rows, path, kind, cost=None, made=None):
    """Write score rows as Parquet, whole or not at all.

    Parameters
    ----------
    rows : list of dict
        identity and counts; further scalar columns (k_star, confidence …) are kept as they are
    path : path
    kind : {"binary", "semantic"}
    cost : mapping, optional
        what making the rows took, kept beside them (`taco.results.costs`)
    made : mapping, optional
        what made the rows (`made_from`), kept beside them

    Raises
    ------
    AggregateError
        When a row lacks a column of its kind.
    """
    path = Path(path)
    columns = _COLUMNS[kind]
    extra = [name for name in (rows[0] if rows else {}) if name not in columns]
    for number, row in enumerate(rows):
        if set(row) != {*columns, *extra}:
            odd = sorted(set(row) ^ {*columns, *extra})
            raise AggregateError(
                f"{path}: row {number} differs in columns {odd} from the {kind} schema or row 0"
            )
    cell = itemgetter(*CELL, "seed")
    rows = sorted(rows, key=cell)
    fields = [pa.field(name, _TYPES[name], nullable=False) for name in columns]
    table = pa.table(
        [pa.array([row[f.name] for row in rows], f.type) for f in fields], schema=pa.schema(fields)
    )
    for name in extra:
        table = table.append_column(name, pa.array([row[name] for row in rows]))
    sizes = [len(list(group)) for _, group in groupby(rows, key=cell)]
    groups = list(_groups(table, sizes))
    metadata = {"taco_scores": SCHEMA_VERSION, "kind": kind}
    told = {
        "cost": cost,
        "made": made,
        "groups": [{name: sealed.checksum(group[name]) for name in LISTS[kind]} for group in groups],
    }
    metadata |= {name: json.dumps(value) for name, value in told.items() if value is not None}
    table = sealed.seal(table, metadata)
    with (
        runtime.atomic_write(path) as partial,
        pq.ParquetWriter(partial, table.schema, compression="zstd", write_page_checksum=True) as file,
    ):
        for group in groups:
            file.write_table(group.cast(table.schema))


def _groups(table, sizes):
    """Row groups of a table whose rows are sorted by cell and seed; sizes: rows of each of these."""
    start = 0
    for size in sizes:
        for first in range(start, start + size, ROWS_OF_A_GROUP):
            yield table.slice(first, min(ROWS_OF_A_GROUP, start + size - first))
        start += size


def made_from(code, settings, samples, caches):
    """What score rows were made from, so that rows made from anything else can be told.

    Parameters
    ----------
    code : str
        digest of the stage's code
    settings : JSON-like
        all that the stage is told by the configuration
    samples : DataFrame
        the shard's rows of the manifest
    caches : mapping name → (path, kind)
        the files that were read

    Returns
    -------
    dict: code, settings and samples (digests), caches (name → fingerprint), packages (versions)
    """
    frame = samples.drop(columns="classes").astype(str)
    return {
        "code": code,
        "settings": runtime.digest(settings),
        "samples": runtime.digest([frame.to_dict("list"), [list(names) for names in samples["classes"]]]),
        "caches": {name: fingerprint(*cache) for name, cache in caches.items()},
        "packages": runtime.versions(runtime.REPORTED_PACKAGES),
    }


def about(path):
    """What a file of rows says of itself.

    Returns
    -------
    dict: rows (their number), cost, and made (`made_from`); these two are None where the file does not tell

    Raises
    ------
    AggregateError
        for a file that cannot be read.
    """
    try:
        footer = pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise AggregateError(
            f"{path}: expected a Parquet file of scores, found: {error}; score it again"
        ) from error
    told = footer.metadata or {}
    return {"rows": footer.num_rows} | {
        name: json.loads(told.get(name.encode(), b"null")) for name in ("cost", "made")
    }


def load_rows(paths, at_once=AT_ONCE):
    """Read per-sample rows of any tasks and shards; their counts stay in the files (`taco.results.counts`).

    Parameters
    ----------
    paths : iterable of path, or mapping path → dict
        files of kind binary or semantic, and what must have made each of them: ``code`` and ``settings`` of `made_from`
    at_once : int
        rows whose counts are in memory at once

    Returns
    -------
    DataFrame, sorted by cell, seed and sample; columns of the other kind are missing values

    Raises
    ------
    AggregateError
        No file, a file of another schema or kind, one that something else made, or a row that appears twice. So does whatever reads counts that
        are not those that were written.
    """
    for path, made in paths.items() if isinstance(paths, Mapping) else ():
        _require_made(path, made)
    frame = _read(list(map(str, paths)), at_once)
    keys = [*CELL, "seed", "sample_id"]
    frame.sort_values(keys, kind="stable", ignore_index=True, inplace=True)
    values = [frame[name].to_numpy() for name in keys]
    twice = np.logical_and.reduce([column[1:] == column[:-1] for column in values])
    if twice.any():
        first = frame.loc[twice.argmax(), keys].tolist()
        raise AggregateError(
            f"{twice.sum()} score rows appear more than once, first {first}: "
            "shards overlap or a file was given twice; score the task again"
        )
    return frame


def _require_made(path, made):
    found = about(path)["made"] or {}
    if odd := [name for name, value in made.items() if found.get(name) != value]:
        raise AggregateError(
            f"{path}: expected scores of this configuration, found some that were made with other {' and '.join(odd)}: they are "
            f"another run's. Delete {Path(path).parent} and run again."
        )


def cells(rows, keys=(*CELL, "seed"), sort=True, where=None):
    """Rows in groups of equal keys, as ``groupby`` gives them, without a copy of all: one group is in memory at a time.

    Parameters
    ----------
    rows : DataFrame
    keys : sequence of str
    sort : bool
        by keys, or as they come first
    where : Series of bool, optional
        the rows that are grouped

    Yields
    ------
    tuple of the keys' values, DataFrame
    """
    where = np.arange(len(rows)) if where is None else np.flatnonzero(where)
    number = rows[list(keys)].iloc[where].groupby(list(keys), sort=sort).ngroup().to_numpy()
    order, ends = np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))
    for places in np.split(where[order], ends[:-1]) if len(where) else ():
        group = rows.iloc[places]
        yield tuple(group[name].iloc[0] for name in keys), group


def check(path):
    """Read all of a file of rows, a row group at a time, and forget it.

    Raises
    ------
    AggregateError
        as `load_rows`, and where counts are not those that were written
    """
    _, kind, groups = _read_file(str(path))
    for group in groups:
        for name in LISTS[kind]:
            _read_lists(group, name)


def _read(paths, at_once):
    found = [_read_file(path) for path in paths]
    if not found:
        raise AggregateError("expected score files, found none: nothing to aggregate")
    found = [file for file in found if len(file[0])] or found[:1]
    store = Store(_read_lists, at_once, [group for *_, groups in found for group in groups])
    places, start = {}, 0
    for part, kind, _ in found:
        for name in LISTS[kind]:
            where = places.setdefault(
                name, np.full(len(store), ABSENT, np.int32 if len(store) < 2**31 else np.int64)
            )
            where[start : start + len(part)] = np.arange(start, start + len(part))
        start += len(part)
    frame = pd.concat([part for part, *_ in found], ignore_index=True)
    for name, where in places.items():
        frame[name] = Counts(store, name, where)
    return frame


def _read_file(path):
    """Rows of one file without their counts; its kind; its groups."""
    with _opened(path) as (file, meta, kind):
        # Predictions that were kept are large, and no number comes from them.
        names = [name for name in file.schema_arrow.names if name not in (COLUMN, *LISTS[kind])]
        frame = sealed.check(file.read(names), meta).to_pandas()
        sums = json.loads(meta[b"groups"])
        sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        return frame, kind, [Group(path, *told) for told in zip(range(len(sizes)), sizes, sums, strict=True)]


def _read_lists(group, name):
    """A column of counts of a row group, as it was when the file was opened first."""
    with _opened(group.path) as (file, *_):
        lists = file.read_row_group(group.number, [name])[name].combine_chunks()
        if sealed.checksum(lists) != group.checksums[name]:
            raise sealed.DamagedError(f"values of {name} that do not match their checksum")
        return lists


@contextmanager
def _opened(path):
    """A file of rows, its metadata and its kind."""
    try:
        footer, meta, kind = _footer(path, Path(path).stat().st_mtime_ns)
        with pq.ParquetFile(path, metadata=footer, page_checksum_verification=True) as file:
            yield file, meta, kind
    except DAMAGE as error:
        raise AggregateError(
            f"{path}: expected a Parquet file of scores, found: {error}; score it again"
        ) from error


@lru_cache(maxsize=64)
def _footer(path, modified_ns):
    """What a file of rows says of itself: footer, metadata, kind."""
    footer = pq.read_metadata(path)
    meta = footer.schema.to_arrow_schema().metadata or {}
    version, kind = (meta.get(key, b"none").decode() for key in (b"taco_scores", b"kind"))
    if version != SCHEMA_VERSION or kind not in _COLUMNS:
        raise AggregateError(
            f"{path}: expected scores of schema {SCHEMA_VERSION} and kind {' or '.join(_COLUMNS)}, "
            f"found schema {version} and kind {kind}; score it again with this version"
        )
    return footer, meta, kind
