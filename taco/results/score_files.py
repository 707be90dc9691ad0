"""Files of score rows: written by the scoring, whole or not at all, and read with every mistake named.

Rows and their columns are described in `taco.metrics`.
"""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from taco import metrics, runtime
from taco.cache.hdf5 import fingerprint
from taco.data import sealed
from taco.data.predictions import COLUMN

SCHEMA_VERSION = "1"
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
    fields = [pa.field(name, _TYPES[name], nullable=False) for name in columns]
    table = pa.table(
        [pa.array([row[f.name] for row in rows], f.type) for f in fields], schema=pa.schema(fields)
    )
    for name in extra:
        table = table.append_column(name, pa.array([row[name] for row in rows]))
    metadata = {"taco_scores": SCHEMA_VERSION, "kind": kind}
    metadata |= {name: json.dumps(value) for name, value in (("cost", cost), ("made", made)) if value}
    with runtime.atomic_write(path) as partial:
        pq.write_table(sealed.seal(table, metadata), partial, compression="zstd", write_page_checksum=True)


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


def load_rows(paths):
    """Read per-sample rows of any tasks and shards.

    Parameters
    ----------
    paths : iterable of path
        files of kind binary or semantic

    Returns
    -------
    DataFrame, sorted by cell, seed and sample; columns of the other kind are missing values

    Raises
    ------
    AggregateError
        No file, a file of another schema or kind, or a row that appears twice.
    """
    frame = _read(paths)
    keys = [*CELL, "seed", "sample_id"]
    twice = frame[frame.duplicated(keys, keep=False)]
    if len(twice):
        raise AggregateError(
            f"{len(twice)} score rows appear more than once, first {twice.iloc[0][keys].tolist()}: "
            "shards overlap or a file was given twice; score the task again"
        )
    return frame.sort_values(keys, kind="stable", ignore_index=True)


def _read(paths):
    frames = [_read_file(Path(path)) for path in paths]
    if not frames:
        raise AggregateError("expected score files, found none: nothing to aggregate")
    frames = [frame for frame in frames if len(frame)] or frames[:1]
    return pd.concat(frames, ignore_index=True)


def _read_file(path):
    """Rows of one file."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            meta = file.schema_arrow.metadata or {}
            version, kind = (meta.get(key, b"none").decode() for key in (b"taco_scores", b"kind"))
            if version != SCHEMA_VERSION or kind not in _COLUMNS:
                raise AggregateError(
                    f"{path}: expected scores of schema {SCHEMA_VERSION} and kind {' or '.join(_COLUMNS)}, "
                    f"found schema {version} and kind {kind}; score it again with this version"
                )
            # Predictions that were kept are large, and no number comes from them.
            table = file.read([name for name in file.schema_arrow.names if name != COLUMN])
            return sealed.check(table, meta).to_pandas()
    except DAMAGE as error:
        raise AggregateError(
            f"{path}: expected a Parquet file of scores, found: {error}; score it again"
        ) from error
