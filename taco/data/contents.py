"""What was in a dataset's files when they were checked, so that a file that was edited since can be named.

Nobody looks into a dataset to plan a run: that would be millions of files on a slow disk. `taco verify` does.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import xxhash

from taco.data.manifest import FILES
from taco.data.problems import ManifestError, Problem, reason
from taco.runtime import atomic_write

MOST_WORKERS = 8
_AT_ONCE = 1 << 20


def of_manifest(frame: pd.DataFrame, workers: int | None = None) -> pd.DataFrame:
    """Size and digest of every file that a manifest names.

    Parameters
    ----------
    frame : DataFrame
        A manifest.
    workers : int, optional
        Threads. Default: the CPUs of this process, at most 8.

    Returns
    -------
    DataFrame: path (ascending), bytes, digest (XXH3, 128 bits, hex)
    """
    paths = sorted(set().union(*(frame[name] for name in FILES)) - {""})
    workers = workers or min(MOST_WORKERS, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(_content, paths))
    return pd.DataFrame(
        [(path, *content) for path, content in zip(paths, found, strict=True)],
        columns=["path", "bytes", "digest"],
    ).astype({"path": "object", "bytes": "int64", "digest": "object"})


def _content(path: str) -> tuple[int, str]:
    digest, size = xxhash.xxh3_128(), 0
    with open(path, "rb") as file:
        while block := file.read(_AT_ONCE):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def write(found: pd.DataFrame, path: str | Path) -> None:
    """Write what `of_manifest` has found as Parquet, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from taco.data import sealed

    table = pa.Table.from_pandas(found, preserve_index=False)
    with atomic_write(path) as partial:
        pq.write_table(sealed.seal(table, {"taco_contents": "1"}), partial, write_page_checksum=True)


def read(path: str | Path) -> pd.DataFrame:
    """Read what `write` wrote.

    Raises
    ------
    ManifestError
        The file is missing, damaged, or another one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from taco.data import sealed

    try:
        table = pq.read_table(path, page_checksum_verification=True)
        if (table.schema.metadata or {}).get(b"taco_contents") != b"1":
            raise ManifestError(Path(path).stem, [_problem(path, "another Parquet file")])
        return sealed.check(table, table.schema.metadata).to_pandas()
    except ManifestError:
        raise
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise ManifestError(Path(path).stem, [_problem(path, reason(error))]) from error


def _problem(path: str | Path, found: str) -> Problem:
    remedy = "Delete the file and run the workflow again."
    return Problem(str(path), "digests of a dataset's files", found, remedy)


def edited(found: pd.DataFrame) -> Iterator[str]:
    """One line for each file that is not what it was."""
    for path, size, digest in found.itertuples(index=False):
        try:
            now = _content(path)
        except OSError as error:
            yield f"{path}: expected the file that was checked, found {error.strerror}"
            continue
        if now != (size, digest):
            what = "another content of the same size" if now[0] == size else f"{now[0]} bytes"
            yield f"{path}: expected the {size} bytes that were checked, found {what}: it was edited since"
