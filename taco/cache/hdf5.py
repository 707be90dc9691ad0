"""HDF5 caches between stages: one array per sample and name, checked when opened, whole or absent.

Layout: each dataset has the shape [S, ...] over the file's S samples, with one sample per chunk,
compressed as `taco.cache.chunks` says. The file's attributes say what it is (``schema``, ``kind``), what made it
(digests, preprocessing, given by the caller), which samples it holds and which datasets lie in fewer bits than they
are read in. ``xxh3_128/<name>`` holds the checksum of each sample as it is stored; a digest over attributes,
sample ids and those is checked when the file is opened, a sample's own when it is read, so that a file is read
once. A name may have a path (``general/clip``).

Compression, checksums and their inverses run outside HDF5: a writer has threads for them, and any number of threads
may read one open cache.

The file is written under a private temporary name, flushed and renamed, so a killed job leaves nothing
that could be taken for a result.
"""

import hashlib
import json
import operator
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, SupportsIndex

import h5py
import numpy as np

from taco.cache import chunks
from taco.cache.disk import DiskFile
from taco.cache.storage import STORAGES, Logarithmic
from taco.runtime import digest, discard, partial_path, publish

SCHEMA = 3
BYTES_AHEAD = 32_000_000  # of arrays that wait to be compressed and written, for each thread and two more
KINDS = ("features", "proposals", "text", "factors", "examples", "predictions")
REMEDY = "Delete it and run again."
DAMAGE = (OSError, ValueError, KeyError, RuntimeError, TypeError)  # what HDF5 says of a damaged file


class CacheError(RuntimeError):
    """A cache file is missing, damaged, of another schema or kind, or made from something else."""


class _Packed(NamedTuple):
    """A sample on its way into the file."""

    name: str
    index: int
    nbytes: int
    made: Future[tuple[bytes, bytes]]


def _pack(array: np.ndarray, storage: Logarithmic | None) -> tuple[bytes, bytes]:
    """Bytes and checksum of a sample as it is stored."""
    if storage:
        array = storage.encode(array)
    return chunks.pack(array), chunks.checksum(array)


class CacheWriter:
    """Write a cache file, whole or not at all.

    Parameters
    ----------
    path : str or Path
        The file to make; its folder is made if need be.
    kind : {"features", "proposals", "text", "factors", "examples"}
    sample_ids : sequence of str
        Unique; their order is the order of the first axis.
    attributes : mapping
        JSON-like values that describe what made the file. ``open_cache`` can ask for them.
    storage : mapping of str to str, optional
        Datasets that lie on disk in other numbers than they are put and read in, with a key of
        `taco.cache.storage.STORAGES`. Recorded in the attribute ``storage``.
    threads : int
        That compress while the caller goes on. They change no byte of the file.

    Examples
    --------
    >>> with CacheWriter(path, "features", ["a", "b"], {"dataset": "s4"}) as writer:  # doctest: +SKIP
    ...     writer.put("image_tokens", 0, tokens)
    """

    def __init__(
        self,
        path: str | Path,
        kind: str,
        sample_ids: Sequence[str],
        attributes: Mapping[str, Any],
        *,
        storage: Mapping[str, str] | None = None,
        threads: int = 1,
    ):
        if kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}, not {kind!r}")
        if not sample_ids or len(set(sample_ids)) != len(sample_ids):
            raise ValueError(f"{path}: sample ids must be present and unique, found {len(sample_ids)}")
        self.path = Path(path)
        self.sample_ids = list(sample_ids)
        self.attributes = {**attributes, "schema": SCHEMA, "kind": kind, "storage": dict(storage or {})}
        self._storage = {name: STORAGES[key] for name, key in (storage or {}).items()}
        self._threads = threads
        self._checksums: dict[str, list[bytes | None]] = {}
        self._pending: deque[_Packed] = deque()
        self._bytes_pending = 0

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._partial = partial_path(self.path)
            self._disk = DiskFile(self._partial)
            self._file = h5py.File(self._disk, "w")
        except OSError as error:
            raise CacheError(
                f"{self.path}: expected a folder that can be written to, found: {error}. "
                "Change its permissions or free some space."
            ) from error
        self._pool = ThreadPoolExecutor(self._threads)
        return self

    def put(self, name: str, index: int, array: Any) -> None:
        """Store one sample's array.

        Parameters
        ----------
        name : str
            Dataset; made when first put, with this array's shape and dtype.
        index : int
            Position of the sample in ``sample_ids``.
        array : array_like
            Numbers, booleans, or strings (stored as UTF-8 bytes). All samples of a name share shape and dtype.
            It is compressed later and must not change until the file is closed.
        """
        array = np.asarray(array)
        if array.dtype.kind in "UO":
            array = np.char.encode(array.astype(str), "utf-8")
        array = np.ascontiguousarray(array).reshape(array.shape)
        storage = self._storage.get(name)
        dtype = np.dtype(np.uint8) if storage else array.dtype
        if name not in self._checksums:
            self._create(name, array, dtype)
        dataset = self._file[name]
        if dataset.shape[1:] != array.shape or dataset.dtype != dtype:
            raise ValueError(
                f"{self.path}: {name}[{index}] must be {dataset.dtype}{list(dataset.shape[1:])}, "
                f"as its first sample was, not {array.dtype}{list(array.shape)}"
            )
        if dataset.chunks:
            self._pending.append(_Packed(name, index, array.nbytes, self._pool.submit(_pack, array, storage)))
            self._bytes_pending += array.nbytes
            self._write(BYTES_AHEAD * (self._threads + 2))
        else:
            dataset[index] = array
            self._checksums[name][index] = chunks.checksum(array)
        self._require_room()

    def _create(self, name: str, array: np.ndarray, dtype: np.dtype) -> None:
        shape = (len(self.sample_ids), *array.shape)
        packed = {"chunks": (1, *array.shape), **chunks.filters(dtype)} if chunks.packable(array) else {}
        self._file.create_dataset(name, shape=shape, dtype=dtype, **packed)
        self._checksums[name] = [None] * len(self.sample_ids)

    def _write(self, most: int) -> None:
        """Write samples in the order in which they came, until at most so many bytes wait."""
        while self._pending and self._bytes_pending > most:
            name, index, nbytes, made = self._pending.popleft()
            data, self._checksums[name][index] = made.result()
            dataset = self._file[name]
            dataset.id.write_direct_chunk((index,) + (0,) * (dataset.ndim - 1), data)
            self._bytes_pending -= nbytes
            self._require_room()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._write(-1)
                self._finish()
                self._file.close()
                self._require_room()
                publish(self._partial, self.path)
        finally:
            self._pool.shutdown(cancel_futures=True)
            self._file.close()
            self._disk.close()
            discard(self._partial)

    def _require_room(self) -> None:
        """Raise `CacheError` where the disk has refused something."""
        if error := self._disk.error:
            raise CacheError(
                f"{self.path}: expected a disk that takes the whole file, found: {error.strerror}. Free some space, or "
                "make its folder a link to a larger disk, and run again; nothing of the file was kept."
            ) from error

    def _finish(self) -> None:
        """Write checksums and attributes."""
        tables = {}
        for name, checksums in self._checksums.items():
            missing = [self.sample_ids[i] for i, value in enumerate(checksums) if value is None]
            if missing:
                raise CacheError(f"{self.path}: {name} was never written for {_some(missing)}")
            table = np.frombuffer(b"".join(checksums), dtype=np.uint8)
            tables[name] = table.reshape(-1, chunks.CHECKSUM_BYTES)
            self._file.create_dataset(f"{chunks.CHECKSUM}/{name}", data=tables[name])
        self._file.attrs["attributes"] = json.dumps(self.attributes, sort_keys=True)
        # A dataset, as attributes are limited to 64 kB.
        self._file.create_dataset("sample_ids", data=[i.encode() for i in self.sample_ids])
        self._file.attrs["datasets"] = json.dumps(sorted(self._checksums))
        self._file.attrs["sha256"] = _header_digest(self.attributes, self.sample_ids, tables)


class CachedArray:
    """One dataset of an open cache: ``array[i]`` reads the sample at position ``i`` as a numpy array, checked."""

    def __init__(self, dataset: h5py.Dataset, storage: Logarithmic | None, checksums: np.ndarray | None):
        self._dataset = dataset
        self._storage = storage
        self._checksums = checksums

    @property
    def shape(self) -> tuple[int, ...]:
        """[S, ...] over the file's samples."""
        return self._dataset.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of what is read."""
        return np.dtype(np.float16) if self._storage else self._dataset.dtype

    @property
    def stored_bytes(self) -> int:
        """Size on disk of all samples."""
        return self._dataset.id.get_storage_size()

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: SupportsIndex) -> Any:
        index = range(len(self))[operator.index(index)]
        place = f"{self._dataset.file.filename}: sample {index} of {self._dataset.name[1:]}"
        try:
            array = self._stored(index)
        except DAMAGE as error:
            raise CacheError(f"{place}: expected readable data, found: {error}. {REMEDY}") from error
        if self._checksums is not None:
            expected, found = self._checksums[index].tobytes(), chunks.checksum(array)
            if found != expected:
                raise CacheError(
                    f"{place}: expected {chunks.CHECKSUM} {expected.hex()[:12]}, found {found.hex()[:12]}. {REMEDY}"
                )
        return self._storage.decode(array) if self._storage else array

    def _stored(self, index: int) -> np.ndarray:
        """A sample as it lies on disk."""
        dataset = self._dataset
        if not dataset.chunks:
            return np.asarray(dataset[index])
        skipped, data = dataset.id.read_direct_chunk((index,) + (0,) * (dataset.ndim - 1))
        if skipped:
            raise ValueError(f"a chunk without filters {skipped:b}")
        return chunks.unpack(data, dataset.dtype, dataset.shape[1:])


class Cache:
    """An open cache. Made by `open_cache`; use it in a ``with`` block or close it.

    Attributes
    ----------
    sample_ids : list of str
    attributes : dict
    """

    def __init__(
        self,
        file: h5py.File,
        attributes: dict[str, Any],
        sample_ids: list[str],
        checksums: dict[str, np.ndarray],
        verify: bool,
    ):
        self._file = file
        self.attributes = attributes
        self.sample_ids = sample_ids
        self._checksums = checksums
        self._verify = verify
        self._positions = {sample: i for i, sample in enumerate(sample_ids)}

    def __getitem__(self, name: str) -> CachedArray:
        if name not in self._checksums:
            raise CacheError(f"{self._file.filename}: no dataset {name!r}; it holds {', '.join(self)}")
        count = len(self.sample_ids)
        try:
            dataset = self._file[name]
        except DAMAGE as error:
            raise CacheError(
                f"{self._file.filename}: expected a readable {name}, found: {error}. {REMEDY}"
            ) from error
        if not isinstance(dataset, h5py.Dataset) or dataset.shape[:1] != (count,):
            found = f"shape {dataset.shape}" if isinstance(dataset, h5py.Dataset) else "a folder"
            raise CacheError(
                f"{self._file.filename}: expected {name} of {count} samples, found {found}. {REMEDY}"
            )
        storage = STORAGES[self.attributes["storage"].get(name, "float16")]
        return CachedArray(dataset, storage, self._checksums[name] if self._verify else None)

    def __contains__(self, name: str) -> bool:
        return name in self._checksums

    def __iter__(self) -> Iterator[str]:
        return iter(self._checksums)

    def position(self, sample_id: str) -> int:
        """Position of a sample on the first axis."""
        if sample_id not in self._positions:
            raise CacheError(
                f"{self._file.filename}: expected sample {sample_id!r}, found {len(self.sample_ids)} others. "
                "It was made from another manifest: delete it and run again."
            )
        return self._positions[sample_id]

    def fingerprint(self, *names: str) -> str:
        """Digest of the sample ids and of all values of some datasets, from the checksums: no value is read."""
        tables = {name: self._checksums[name] for name in names}
        return _header_digest({}, self.sample_ids, tables)

    def check(self, expect: Mapping[str, Any]) -> None:
        """Raise `CacheError` unless the file was written with these attributes."""
        for name, wanted in expect.items():
            found = self.attributes.get(name)
            if found != json.loads(json.dumps(wanted)):
                raise CacheError(
                    f"{self._file.filename}: expected {name} {_short(wanted)}, found {_short(found)}. {REMEDY}"
                )

    def strings(self, name: str, index: int = 0) -> list[str]:
        """Read a sample's row of strings."""
        return [value.decode("utf-8") for value in self[name][index].tolist()]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_cache(
    path: str | Path, kind: str, expect: Mapping[str, Any] | None = None, *, verify: bool = True
) -> Cache:
    """Open a cache file for reading, after checking what it is and what made it.

    Parameters
    ----------
    path : str or Path
    kind : str
        The kind it must be.
    expect : mapping, optional
        Attributes that it must have been written with (model digests, preprocessing, code digest).
    verify : bool
        Compare each sample's checksum when it is read.

    Raises
    ------
    CacheError
        Naming file, expectation, finding and remedy. Reading a damaged sample raises it too.
    """
    path = Path(path)
    if not path.is_file():
        raise CacheError(f"{path}: expected a {kind} cache, found no such file. Run the stage that makes it.")
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise CacheError(f"{path}: expected an HDF5 file, found: {error}. {REMEDY}") from error
    try:
        cache = Cache(file, *_read_header(file, path), verify)
        cache.check({"kind": kind, **(expect or {})})
    except BaseException:
        file.close()
        raise
    return cache


def fingerprint(path: str | Path, kind: str) -> str:
    """Digest of all that a cache holds: sample ids and values of every dataset, from its checksums; no value is read."""
    with open_cache(path, kind, verify=False) as cache:
        return cache.fingerprint(*cache)


def _read_header(file: h5py.File, path: Path) -> tuple[dict[str, Any], list[str], dict[str, np.ndarray]]:
    """Read attributes, sample ids and each dataset's checksums, and check them against their digest."""
    try:
        attributes = json.loads(file.attrs["attributes"])
        if attributes.get("schema") != SCHEMA:
            # Its layout is another: what else it holds cannot be read.
            raise CacheError(
                f"{path}: expected schema {SCHEMA}, found {_short(attributes.get('schema'))}. {REMEDY}"
            )
        sample_ids = [value.decode("utf-8") for value in file["sample_ids"][:]]
        names = json.loads(file.attrs["datasets"])
        checksums = {name: file[f"{chunks.CHECKSUM}/{name}"][:] for name in names}
        recorded = file.attrs["sha256"]
    except CacheError:
        raise
    except (*DAMAGE, AttributeError) as error:
        raise CacheError(f"{path}: expected this package's cache format, found: {error}. {REMEDY}") from error
    if not isinstance(recorded, str) or recorded != _header_digest(attributes, sample_ids, checksums):
        raise CacheError(
            f"{path}: expected attributes, sample ids and checksums to match their checksum; they do not. {REMEDY}"
        )
    return attributes, sample_ids, checksums


def _header_digest(
    attributes: Mapping[str, Any], sample_ids: Sequence[str], checksums: Mapping[str, np.ndarray]
) -> str:
    tables = {name: hashlib.sha256(table.tobytes()).hexdigest() for name, table in checksums.items()}
    return digest([attributes, list(sample_ids), tables])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 70 else f"{text[:67]}..."


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
