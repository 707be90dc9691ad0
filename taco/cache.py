"""HDF5 caches between stages: one array per sample and name, checked when opened, whole or absent.

Layout: each dataset has the shape [S, ...] over the file's S samples, with one sample per chunk,
compressed by hdf5plugin. The file's attributes say what it is (``schema``, ``kind``), what made it
(digests, preprocessing, given by the caller) and which samples it holds. Each dataset carries the
attribute ``sha256``: the digest of its samples' digests, in order. A name may have a path
(``general/clip``).

The file is written under a private temporary name, flushed and renamed, so a killed job leaves nothing
that could be taken for a result.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import hdf5plugin
import numpy as np

from taco.runtime import partial_path, publish

SCHEMA = 1
KINDS = ("features", "proposals", "text", "factors", "examples")
COMPRESSION = hdf5plugin.Blosc(cname="zstd", clevel=3, shuffle=hdf5plugin.Blosc.BITSHUFFLE)


class CacheError(RuntimeError):
    """A cache file is missing, damaged, of another schema or kind, or made from something else."""


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

    Examples
    --------
    >>> with CacheWriter(path, "features", ["a", "b"], {"dataset": "s4"}) as writer:  # doctest: +SKIP
    ...     writer.put("image_tokens", 0, tokens)
    """

    def __init__(self, path: str | Path, kind: str, sample_ids: Sequence[str], attributes: Mapping[str, Any]):
        if kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}, not {kind!r}")
        if not sample_ids or len(set(sample_ids)) != len(sample_ids):
            raise ValueError(f"{path}: sample ids must be present and unique, found {len(sample_ids)}")
        self.path = Path(path)
        self.sample_ids = list(sample_ids)
        self.attributes = {**attributes, "schema": SCHEMA, "kind": kind}
        self._digests: dict[str, list[bytes | None]] = {}

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._partial = partial_path(self.path)
            self._file = h5py.File(self._partial, "w", locking=False)
        except OSError as error:
            raise CacheError(
                f"{self.path}: expected a folder that can be written to, found: {error}. "
                "Change its permissions or free some space."
            ) from error
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
        """
        array = np.asarray(array)
        if array.dtype.kind in "UO":
            array = np.char.encode(array.astype(str), "utf-8")
        if name not in self._digests:
            self._create(name, array)
        dataset = self._file[name]
        if dataset.shape[1:] != array.shape or dataset.dtype != array.dtype:
            raise ValueError(
                f"{self.path}: {name}[{index}] must be {dataset.dtype}{list(dataset.shape[1:])}, "
                f"as its first sample was, not {array.dtype}{list(array.shape)}"
            )
        array = np.ascontiguousarray(array)
        dataset[index] = array
        self._digests[name][index] = hashlib.sha256(array.tobytes()).digest()

    def _create(self, name: str, array: np.ndarray) -> None:
        shape = (len(self.sample_ids), *array.shape)
        # HDF5 filters want at least one byte per chunk; scalars and empty arrays are too small to compress.
        options = {"chunks": (1, *array.shape), **COMPRESSION} if array.ndim and array.size else {}
        self._file.create_dataset(name, shape=shape, dtype=array.dtype, **options)
        self._digests[name] = [None] * len(self.sample_ids)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
                self._file.close()
                publish(self._partial, self.path)
        finally:
            self._file.close()
            self._partial.unlink(missing_ok=True)

    def _finish(self) -> None:
        """Write checksums and attributes."""
        for name, digests in self._digests.items():
            missing = [self.sample_ids[i] for i, digest in enumerate(digests) if digest is None]
            if missing:
                raise CacheError(f"{self.path}: {name} was never written for {_some(missing)}")
            self._file[name].attrs["sha256"] = hashlib.sha256(b"".join(digests)).hexdigest()
        self._file.attrs["attributes"] = json.dumps(self.attributes, sort_keys=True)
        # A dataset, as attributes are limited to 64 kB.
        self._file.create_dataset("sample_ids", data=[i.encode() for i in self.sample_ids])
        self._file.attrs["datasets"] = json.dumps(sorted(self._digests))
        self._file.attrs["sha256"] = _table_digest(self.attributes, self.sample_ids)


class CachedArray:
    """One dataset of an open cache: ``array[i]`` reads the sample at position ``i`` as a numpy array."""

    def __init__(self, dataset: h5py.Dataset):
        self._dataset = dataset

    @property
    def shape(self) -> tuple[int, ...]:
        """[S, ...] over the file's samples."""
        return self._dataset.shape

    @property
    def dtype(self) -> np.dtype:
        return self._dataset.dtype

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: Any) -> Any:
        return self._dataset[index]


class Cache:
    """An open, verified cache. Made by `open_cache`; use it in a ``with`` block or close it.

    Attributes
    ----------
    sample_ids : list of str
    attributes : dict
    """

    def __init__(self, file: h5py.File, attributes: dict[str, Any], sample_ids: list[str], names: list[str]):
        self._file = file
        self.attributes = attributes
        self.sample_ids = sample_ids
        self._names = names
        self._positions = {sample: i for i, sample in enumerate(sample_ids)}

    def __getitem__(self, name: str) -> CachedArray:
        if name not in self._names:
            raise CacheError(f"{self._file.filename}: no dataset {name!r}; it holds {', '.join(self._names)}")
        return CachedArray(self._file[name])

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def position(self, sample_id: str) -> int:
        """Position of a sample on the first axis."""
        if sample_id not in self._positions:
            raise CacheError(
                f"{self._file.filename}: expected sample {sample_id!r}, found {len(self.sample_ids)} others. "
                "It was made from another manifest: delete it and run again."
            )
        return self._positions[sample_id]

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
    """Open a cache file for reading, after checking what it is, what made it, and that it is undamaged.

    Parameters
    ----------
    path : str or Path
    kind : str
        The kind it must be.
    expect : mapping, optional
        Attributes that it must have been written with (model digests, preprocessing, code digest).
    verify : bool
        Also read everything and compare the checksums (a second pass over the file).

    Raises
    ------
    CacheError
        Naming file, expectation, finding and remedy.
    """
    path = Path(path)
    if not path.is_file():
        raise CacheError(f"{path}: expected a {kind} cache, found no such file. Run the stage that makes it.")
    remedy = "Delete it and run again."
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise CacheError(f"{path}: expected an HDF5 file, found: {error}. {remedy}") from error
    try:
        attributes, sample_ids, names = _read_header(file, path, remedy)
        for name, wanted in {"schema": SCHEMA, "kind": kind, **(expect or {})}.items():
            found = attributes.get(name)
            if found != json.loads(json.dumps(wanted)):
                raise CacheError(f"{path}: expected {name} {_short(wanted)}, found {_short(found)}. {remedy}")
        if verify:
            _verify(file, path, names, remedy)
    except BaseException:
        file.close()
        raise
    return Cache(file, attributes, sample_ids, names)


def _read_header(file: h5py.File, path: Path, remedy: str) -> tuple[dict[str, Any], list[str], list[str]]:
    """Read attributes, sample ids and dataset names, and check them against their own digest."""
    try:
        attributes = json.loads(file.attrs["attributes"])
        sample_ids = [value.decode("utf-8") for value in file["sample_ids"][:]]
        names = json.loads(file.attrs["datasets"])
        recorded = file.attrs["sha256"]
    except (KeyError, ValueError, OSError) as error:
        raise CacheError(f"{path}: expected this package's cache format, found: {error}. {remedy}") from error
    if recorded != _table_digest(attributes, sample_ids):
        raise CacheError(
            f"{path}: expected attributes and sample ids to match their checksum; they do not. {remedy}"
        )
    return attributes, sample_ids, names


def _verify(file: h5py.File, path: Path, names: Sequence[str], remedy: str) -> None:
    """Compare every dataset's checksum with its content, sample by sample."""
    for name in names:
        try:
            dataset = file[name]
            digests = [hashlib.sha256(np.asarray(dataset[i]).tobytes()).digest() for i in range(len(dataset))]
            expected = dataset.attrs["sha256"]
        except (KeyError, OSError) as error:
            raise CacheError(
                f"{path}: expected a readable dataset {name}, found: {error}. {remedy}"
            ) from error
        found = hashlib.sha256(b"".join(digests)).hexdigest()
        if found != expected:
            raise CacheError(
                f"{path}: expected {name} with sha256 {expected[:12]}, found {found[:12]}. {remedy}"
            )


def _table_digest(attributes: Mapping[str, Any], sample_ids: Sequence[str]) -> str:
    text = json.dumps([attributes, list(sample_ids)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 70 else f"{text[:67]}..."


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
