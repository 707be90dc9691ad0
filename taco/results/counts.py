"""Counts of score rows, by threshold or class: columns of lists that stay in their files until a portion of rows needs them.

They are most of a score row (2.2 kB of a binary one). A frame of `taco.results.score_files.load_rows` holds where they lie,
and whatever makes a number of them takes the frame in `portions`, in order, so that sums come out as of the whole.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api.extensions import ExtensionArray, ExtensionDtype

from taco import metrics

AT_ONCE = 10_000
"""Rows whose counts are in memory at once, where nothing else is said (``memory.rows``)."""
BYTES_OF_A_ROW = 4 * (2 * len(metrics.THRESHOLDS) + 2 * len(metrics.F_THRESHOLDS))
EMPTIED = "emptied"
"""Column that says of which rows the map was emptied after it was counted (`taco.results.gating`)."""
ABSENT = -1


class Group(NamedTuple):
    """A row group of a score file: its rows, and the checksum of each of its columns of counts."""

    path: str
    number: int
    rows: int
    checksums: Mapping[str, str]


class Store:
    """Row groups of score files; those read last are kept, as many as `at_once` rows take.

    Parameters
    ----------
    read : callable
        (Group, column) → Array of lists, checked.
    at_once : int
        Rows of a portion.
    groups : sequence of Group
    """

    def __init__(
        self,
        read: Callable[[Group, str], pa.ListArray],
        at_once: int = AT_ONCE,
        groups: Sequence[Group] = (),
    ):
        self._read, self.at_once, self.groups = read, at_once, list(groups)
        self._starts = np.cumsum([0, *(group.rows for group in self.groups)])
        self._kept: OrderedDict[tuple[int, str], tuple[np.ndarray, np.ndarray]] = OrderedDict()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def joined(self, other: "Store") -> "Store":
        """A store of the groups of both, the other's behind."""
        return Store(self._read, min(self.at_once, other.at_once), [*self.groups, *other.groups])

    def table(self, name: str, places: np.ndarray) -> np.ndarray:
        """Lists of one length as an array [S, L]."""
        found = None
        for where, (values, offsets), local in self._parts(name, places):
            values = values.reshape(len(offsets) - 1, -1)
            if found is None:
                found = np.empty((len(places), values.shape[1]), values.dtype)
            found[where] = values[local]
        return np.empty((0, 0), np.int32) if found is None else found

    def lists(self, name: str, places: np.ndarray) -> list[np.ndarray]:
        """Lists of any lengths [S]; None where a row has none."""
        found: list[Any] = [None] * len(places)
        for where, (values, offsets), local in self._parts(name, places):
            for place, row in zip(np.flatnonzero(where), local, strict=True):
                found[place] = values[offsets[row] : offsets[row + 1]]
        return found

    def _parts(self, name: str, places: np.ndarray) -> Iterator[tuple]:
        """Which of the places lie in each group, its lists, and the places within it."""
        of = np.where(places < 0, ABSENT, np.searchsorted(self._starts, places, "right") - 1)
        for group in np.unique(of[of >= 0]):
            where = of == group
            yield where, self._group(int(group), name), places[where] - self._starts[group]

    def _group(self, number: int, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Values and offsets of a group's lists."""
        found = self._kept.pop((number, name), None)
        if found is None:
            lists = self._read(self.groups[number], name)
            found = lists.flatten().to_numpy(), lists.offsets.to_numpy() - lists.offsets[0].as_py()
            room = self.at_once * BYTES_OF_A_ROW
            while self._kept and found[0].nbytes + sum(kept.nbytes for kept, _ in self._kept.values()) > room:
                self._kept.popitem(last=False)
        self._kept[number, name] = found
        return found


class CountsDtype(ExtensionDtype):
    """Type of a column of `Counts`."""

    name, type, na_value = "counts", np.ndarray, None

    @classmethod
    def construct_array_type(cls) -> type["Counts"]:
        return Counts


class Counts(ExtensionArray):
    """A column of lists that lie in a `Store`: it holds their places, and gives an array for each row."""

    dtype = CountsDtype()

    def __init__(self, store: Store | None, name: str, places: np.ndarray):
        self.store, self.name, self.places = store, name, places

    @classmethod
    def _from_sequence(cls, scalars: Sequence[Any], *, dtype: Any = None, copy: bool = False) -> "Counts":
        """Rows without lists, which pandas puts where a frame lacks the column."""
        if not pd.isna(np.asarray(scalars, dtype=object)).all():
            raise TypeError("counts come from files alone")
        return cls(None, "", np.full(len(scalars), ABSENT))

    @classmethod
    def _concat_same_type(cls, parts: Sequence["Counts"]) -> "Counts":
        told = [part for part in parts if part.store is not None] or list(parts[:1])
        store, starts = told[0].store, {id(told[0].store): 0, id(None): 0}
        for part in told[1:]:
            if id(part.store) not in starts:
                starts[id(part.store)] = len(store)
                store = store.joined(part.store)
        places = [np.where(part.places < 0, ABSENT, part.places + starts[id(part.store)]) for part in parts]
        return cls(store, told[0].name, np.concatenate(places))

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, item: Any) -> Any:
        item = pd.api.indexers.check_array_indexer(self, item)
        if isinstance(item, (int, np.integer)):
            return self.store.lists(self.name, self.places[[item]])[0]
        return Counts(self.store, self.name, self.places[item])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        found = np.empty(len(self), dtype=object)
        found[:] = self.store.lists(self.name, self.places)
        return found

    def __eq__(self, other: object) -> Any:
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    @property
    def nbytes(self) -> int:
        """Bytes of the places."""
        return self.places.nbytes

    def isna(self) -> np.ndarray:
        """Rows without a list, bool [S]."""
        return self.places < 0

    def copy(self) -> "Counts":
        """The same places once more."""
        return Counts(self.store, self.name, self.places.copy())

    def take(self, indices: Any, *, allow_fill: bool = False, fill_value: Any = None) -> "Counts":
        """Some of the rows; with ``allow_fill``, -1 stands for a row without a list."""
        taken = pd.api.extensions.take(self.places, indices, allow_fill=allow_fill, fill_value=ABSENT)
        return Counts(self.store, self.name, taken)


# --------------------------------------------------------------------------------------------- use


def portions(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield rows in order, as many at once as their counts may be in memory; one portion where they are few, or none."""
    size = at_once(rows)
    for start in range(0, max(len(rows), 1), size):
        yield rows.iloc[start : start + size]


def at_once(rows: pd.DataFrame) -> int:
    """Rows whose counts are in memory at once."""
    columns = (column.array for _, column in rows.items())
    return next((one.store.at_once for one in columns if isinstance(one, Counts) and one.store), AT_ONCE)


def table(rows: pd.DataFrame, name: str) -> np.ndarray:
    """Counts of one length of a portion of rows: int [S, L]; those of an emptied map where `EMPTIED` says so.

    Of an empty map only the F threshold 0, which any map reaches, marks pixels.
    """
    column = rows[name]
    kept = isinstance(column.array, Counts)
    found = column.array.store.table(name, column.array.places) if kept else np.stack(column.to_numpy())
    if EMPTIED not in rows or not (gone := rows[EMPTIED].eq(True).to_numpy()).any():
        return found
    whole = {"f_tp": "positives", "f_pp": "pixels"}.get(name)
    first = metrics.F_THRESHOLDS <= 0
    emptied = rows[whole].to_numpy(dtype=found.dtype)[gone, None] * first if whole else 0
    found = found if kept else found.copy()
    found[gone] = emptied
    return found


def lists(rows: pd.DataFrame, name: str) -> list[np.ndarray]:
    """Counts of any lengths of a portion of rows, an array for each."""
    column = rows[name]
    return (
        column.array.store.lists(name, column.array.places)
        if isinstance(column.array, Counts)
        else list(column)
    )
