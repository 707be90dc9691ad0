"""Files of pooled scores (ADE SP): sorted float32 scores by class, read a class at a time.

One Parquet row group for each (class, method, variant, word bank, seed), as `taco.metrics.ScorePool.to_row` gives it.
Sorted numbers lie close together, so their packed differences take one to two bytes a pixel.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from taco import metrics, runtime
from taco.data import sealed
from taco.results.score_files import DAMAGE, AggregateError

SCHEMA_VERSION, KIND = "2", "pools"
MOST_PIXELS = 2**27
"""Pixels (four bytes each) that a job keeps before it writes them."""
INDEX = (*metrics.POOL_IDENTITY, "n_samples")
SCORES = ("positives", "negatives")
CHECKSUM = "checksum"
"""Column with a row's checksum of its scores; one of the whole index is among the file's metadata."""
KEPT = (*INDEX, CHECKSUM)
_TYPES = {"seed": pa.int32(), "n_samples": pa.int32(), **dict.fromkeys(SCORES, pa.list_(pa.int32()))}
_INDEX_SCHEMA, _SCHEMA = (
    pa.schema(
        [pa.field(name, _TYPES.get(name, pa.string()), nullable=False) for name in names],
        {"taco_scores": SCHEMA_VERSION, "kind": KIND},
    )
    for names in (KEPT, (*KEPT, *SCORES))
)


@contextmanager
def writer(path: str | Path) -> Iterator[Any]:
    """Write rows of pools as they come, whole or not at all.

    A cell and class may come several times, so that whoever pools can write and forget when memory is short.

    Yields
    ------
    callable
        Takes an iterable of rows: `POOL_IDENTITY` and what `ScorePool.to_row` gives.
    """
    with (
        runtime.atomic_write(Path(path)) as partial,
        pq.ParquetWriter(
            partial,
            _SCHEMA,
            compression="zstd",
            use_dictionary=False,
            write_page_checksum=True,
            column_encoding={f"{name}.list.element": "DELTA_BINARY_PACKED" for name in SCORES},
        ) as file,
    ):
        index = []

        def keep(rows: Iterable[Mapping[str, Any]]) -> None:
            for row in rows:
                values = {name: row[name] for name in (*INDEX, *SCORES)}
                values[CHECKSUM] = _checksum(pa.array([values[name]], _TYPES[name]) for name in SCORES)
                arrays = [pa.array([values[field.name]], field.type) for field in _SCHEMA]
                file.write_table(pa.table(arrays, schema=_SCHEMA))
                index.append({name: values[name] for name in KEPT})

        yield keep
        whole = pa.Table.from_pylist(index, _INDEX_SCHEMA)
        file.add_key_value_metadata({"index": _checksum(whole.columns)})


def _checksum(columns: Iterable[Any]) -> str:
    return "-".join(map(sealed.checksum, columns))


def _require(found: str, expected: str) -> None:
    if found != expected:
        raise sealed.DamagedError("values that do not match their checksum")


def load(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Index of files of pools: `KEPT`, and where each one's scores lie (``file``, ``group``). No score is read.

    Raises
    ------
    AggregateError
        A file that is none, damaged, or of another schema.
    """
    frames = []
    for path in map(str, paths):
        with _opened(path) as file:
            table = file.read(list(KEPT)).select(KEPT)
            _require(_checksum(table.columns), (file.metadata.metadata or {}).get(b"index", b"").decode())
        frame = table.to_pandas()
        frames.append(frame.assign(file=path, group=range(len(frame))))
    frames = [frame for frame in frames if len(frame)] or frames[:1]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*KEPT, "file", "group"])


def pool(rows: Iterable[Mapping[str, Any]]) -> metrics.ScorePool:
    """One pool of the rows of a class: of `load`'s index, whose scores are read now, or with the scores themselves."""
    whole = metrics.ScorePool()
    for row in rows:
        whole.merge(metrics.ScorePool.from_row(_read(row) if "file" in row else row))
    return whole


def _read(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the index with its scores."""
    with _opened(row["file"]) as file:
        table = file.read_row_group(row["group"], list(SCORES)).select(SCORES)
        _require(_checksum(table.columns), row[CHECKSUM])
    scores = {name: table[name].combine_chunks().values.to_numpy(zero_copy_only=False) for name in SCORES}
    return {"n_samples": row["n_samples"], **scores}


@contextmanager
def _opened(path: str) -> Iterator[pq.ParquetFile]:
    """A file whose footer was read once, and whose pages are checked."""
    try:
        footer = _footer(path, Path(path).stat().st_mtime_ns)
        with pq.ParquetFile(path, metadata=footer, page_checksum_verification=True) as file:
            yield file
    except DAMAGE as error:
        raise AggregateError(
            f"{path}: expected a Parquet file of pooled scores, found: {error}; score it again"
        ) from error


@lru_cache(maxsize=64)
def _footer(path: str, modified_ns: int) -> pq.FileMetaData:
    footer = pq.read_metadata(path)
    meta = footer.metadata or {}
    version, kind = (meta.get(key, b"none").decode() for key in (b"taco_scores", b"kind"))
    if (version, kind) != (SCHEMA_VERSION, KIND):
        raise AggregateError(
            f"{path}: expected scores of schema {SCHEMA_VERSION} and kind {KIND}, found schema {version} and kind {kind}; "
            "score it again with this version"
        )
    return footer
