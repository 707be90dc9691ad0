"""What the readers share: options, metadata tables, safe paths, nearest and bilinear resizing of masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

import numpy as np
import pandas as pd

from taco.data.problems import ManifestError, Problem


class Inspection(NamedTuple):
    """What a reader finds in one mask file.

    Attributes
    ----------
    problems : list of Problem
    empty : bool
        No foreground.
    kind : str
        How the file holds its truth, "" where all files are alike.
    pixels : mapping
        Pixels that another rule would read otherwise, counted by rule; a rule that changes nothing counts 0.
    """

    problems: list[Problem]
    empty: bool
    kind: str = ""
    pixels: Mapping[str, int] = {}


def option(dataset: Mapping, key: str, choices: Sequence[str]) -> str:
    """Value of a reader's option, the first choice by default."""
    value = dataset.get(key, choices[0])
    if value not in choices:
        raise ValueError(
            f"dataset {dataset.get('name')!r}: {key} must be one of {', '.join(choices)}; found {value!r}"
        )
    return value


def frame_seconds(dataset: Mapping) -> float:
    """Seconds between frames; each frame has the piece of sound that begins with it (`frame_seconds`, default 1)."""
    seconds = float(dataset.get("frame_seconds", 1.0))
    if not seconds > 0:
        raise ValueError(f"dataset {dataset.get('name')!r}: frame_seconds must be > 0, found {seconds}")
    return seconds


def truth_kind(dataset: Mapping, wanted: str | None, offered: Sequence[str]) -> str:
    """The kind of truth that is asked for, the first offered by default."""
    if wanted is None:
        return offered[0]
    if wanted not in offered:
        raise ValueError(f"dataset {dataset.get('name')!r} has {' and '.join(offered)} truth, not {wanted!r}")
    return wanted


def read_table(
    path: str | Path,
    dataset: Mapping,
    required: Mapping[str, Sequence[str]],
    header: bool = True,
) -> pd.DataFrame:
    """Read a CSV as text (an id like "NA" or "1e5" stays as it is), cells stripped.

    Parameters
    ----------
    path : str or Path
    dataset : Mapping
        Named in errors.
    required : Mapping
        Column name to use → names it may have in the file (case and outer blanks do not matter); without a header the
        file's columns get these names in order.
    header : bool
        Whether the first line names the columns.
    """
    path = Path(path)
    expected = f"a CSV file with the columns {', '.join(required)}"
    remedy = f"Place the dataset's metadata here (root: {dataset['root']})."
    if not path.is_file() or path.stat().st_size == 0:
        found = "an empty file" if path.is_file() else "no such file"
        raise ManifestError(_name(dataset), [Problem(str(path), expected, found, remedy)])
    status = path.stat()
    try:
        table = _read_text(str(path), header, status.st_mtime_ns, status.st_size)
    except (
        ValueError,
        OSError,
    ) as error:  # pandas' ParserError and UnicodeDecodeError are ValueErrors
        found = " ".join(str(error).split())
        raise ManifestError(_name(dataset), [Problem(str(path), expected, found, remedy)]) from error
    if not header and table.shape[1] == len(required):
        return table.set_axis(list(required), axis=1)
    names = {str(column).strip().lower(): column for column in table.columns}
    found = {
        key: next((names[n.lower()] for n in aliases if n.lower() in names), None)
        for key, aliases in required.items()
    }
    missing = [key for key, column in found.items() if column is None]
    if missing:
        finding = f"{', '.join(map(str, table.columns))} (missing: {', '.join(missing)})"
        raise ManifestError(_name(dataset), [Problem(str(path), expected, finding, remedy)])
    return table.rename(columns={column: key for key, column in found.items()})


@lru_cache(maxsize=16)
def _read_text(path: str, header: bool, modified_ns: int, size: int) -> pd.DataFrame:
    table = pd.read_csv(
        path,
        dtype=str,
        keep_default_na=False,
        header=0 if header else None,
        skipinitialspace=True,
    )
    return table.apply(lambda column: column.str.strip())


def inside(root: str | Path, *parts: str) -> str:
    """Join text from a dataset's metadata to its root; refuse what would leave the root.

    Each part may hold forward slashes. Empty parts, absolute paths, drive letters, backslashes, "..", and control
    characters are refused.

    Raises
    ------
    ValueError
        With the offending part.
    """
    for part in parts:
        pieces = part.split("/")
        unsafe = PurePosixPath(part).is_absolute() or PureWindowsPath(part).drive or "\\" in part
        if unsafe or any(piece in ("", ".", "..") for piece in pieces) or not part.isprintable():
            raise ValueError(f"{part!r} is no path inside the dataset")
    return str(Path(root, *parts))


def unsafe_path(source: str | Path, error: ValueError) -> Problem:
    """The problem of a row whose path leaves the root."""
    return Problem(
        str(source),
        "names and paths inside the dataset's folder",
        str(error),
        "Correct or remove this row.",
    )


def missing_folders(dataset: Mapping, folders: Sequence[str | Path]) -> list[Problem]:
    """One problem per folder that is not there: the dataset was never placed."""
    remedy = f"Place the dataset under {dataset['root']} in its published layout."
    return [
        Problem(str(folder), "a folder", "none", remedy) for folder in folders if not Path(folder).is_dir()
    ]


def in_split(table: pd.DataFrame, dataset: Mapping, source: str | Path) -> tuple[pd.DataFrame, list[Problem]]:
    """Rows of the wanted split; a split without rows is a problem that names the splits there are."""
    part = table[table["split"] == dataset["split"]]
    if len(part):
        return part, []
    counts = table["split"].value_counts(sort=False)
    found = ", ".join(f"{name!r}: {count}" for name, count in counts.items()) or "no row at all"
    expected = f"rows of the split {dataset['split']!r}"
    return part, [
        Problem(
            str(source),
            expected,
            f"an empty split (rows by split: {found})",
            "Choose one of these splits.",
        )
    ]


def configured_classes(dataset: Mapping) -> list[str] | None:
    """The class names that the configuration fixes (`classes`), None where it leaves them to the metadata."""
    names = dataset.get("classes")
    if not names:
        return None
    if len(set(names)) != len(names):
        raise ValueError(f"dataset {dataset.get('name')!r}: classes has repeated names")
    return list(names)


def first_seen(values) -> list[str]:
    """Unique values in the order of their first appearance."""
    return list(dict.fromkeys(values))


def spaced(name: str) -> str:
    """A category's name as words: underscores become spaces."""
    return name.replace("_", " ")


def resize_nearest(mask: np.ndarray, size: int) -> np.ndarray:
    """Squash [H, W] to [size, size]: each pixel takes the source pixel that its centre falls into."""
    rows, columns = (((np.arange(size) + 0.5) * length / size).astype(int) for length in mask.shape)
    return mask[rows[:, None], columns]


def resize_floor(mask: np.ndarray, size: int) -> np.ndarray:
    """Squash [H, W] to [size, size] as torch's ``nearest`` does: pixel i takes the source pixel floor(i · H / size).

    Half an output pixel beside `resize_nearest`. The product is torch's, in float32: of whole numbers it may be one less.
    """
    rows, columns = (
        np.minimum((np.arange(size, dtype=np.float32) * np.float32(length / size)).astype(int), length - 1)
        for length in mask.shape
    )
    return mask[rows[:, None], columns]


def resize_bilinear(values: np.ndarray, size: int) -> np.ndarray:
    """Squash [H, W] to float32 [size, size] by the four nearest pixels as torch does with aligned corners, bit for bit."""
    (top, bottom, down), (left, right, across) = (_neighbours(length, size) for length in values.shape)
    values = values.astype(np.float32)
    upper = values[top[:, None], left] * (1 - across) + values[top[:, None], right] * across
    lower = values[bottom[:, None], left] * (1 - across) + values[bottom[:, None], right] * across
    return upper * (1 - down[:, None]) + lower * down[:, None]


def _neighbours(length: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `size` outputs the two source indices and the weight of the second, float32."""
    step = np.float32(length - 1) / np.float32(max(size - 1, 1))
    position = np.arange(size, dtype=np.float32) * step
    first = np.minimum(position.astype(int), length - 1)
    return first, np.minimum(first + 1, length - 1), position - first.astype(np.float32)


def mask_path(sample: Mapping) -> str:
    """Path of a sample's mask; a training frame without truth has none."""
    if not sample["mask"]:
        raise ValueError(
            f"sample {sample['sample_id']!r} has no truth (its split marks the first frame of a clip only)"
        )
    return sample["mask"]


def size_problem(mask: np.ndarray, image_size: tuple[int, int] | None, file: str) -> list[Problem]:
    """A mask must have its image's height and width (None: the image itself is unusable)."""
    if image_size is None or mask.shape[:2] == tuple(image_size):
        return []
    expected = f"the size of its image, {image_size[1]}×{image_size[0]}"
    found = f"{mask.shape[1]}×{mask.shape[0]}"
    return [
        Problem(
            file,
            expected,
            found,
            "Fetch the mask again; do not resize one without the other.",
        )
    ]


def _name(dataset: Mapping) -> str:
    return str(dataset.get("name", dataset["reader"]))
