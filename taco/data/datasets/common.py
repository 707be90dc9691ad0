"""What the readers share: options, safe paths, nearest and bilinear resizing of masks."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

import numpy as np

from taco.data.problems import MediaError, Problem

CLASS_NUMBERS = "grey values, none of them a class's colour: class numbers, it seems"
"""Kind of a mask in which colours were expected."""


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


def inside(root: str | Path, *parts: str) -> str:
    """Join text from a dataset's metadata to its root; refuse what would leave the root.

    Each part may hold forward slashes. Empty parts, absolute paths, drive letters, backslashes, "..", and control
    characters are refused; a no-break space or a joiner is a character like others.

    Raises
    ------
    ValueError
        With the offending part.
    """
    for part in parts:
        pieces = part.split("/")
        unsafe = PurePosixPath(part).is_absolute() or PureWindowsPath(part).drive or "\\" in part
        if unsafe or any(piece in ("", ".", "..") for piece in pieces):
            raise ValueError(f"{part!r} is no path inside the dataset")
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in part):
            raise ValueError(f"{part!r} is no path inside the dataset: it holds control characters")
    return str(Path(root, *parts))


def unsafe_path(source: str | Path, line: int, error: ValueError) -> Problem:
    """The problem of a row whose path leaves the root."""
    expected = "names and paths inside the dataset's folder"
    return Problem(str(source), expected, f"{error} (line {line})", "Correct or remove this row.")


def missing_folders(dataset: Mapping, folders: Sequence[str | Path]) -> list[Problem]:
    """One problem per folder that is not there: the dataset was never placed."""
    remedy = f"Place the dataset under {dataset['root']} in its published layout."
    return [
        Problem(str(folder), "a folder", "none", remedy) for folder in folders if not Path(folder).is_dir()
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
        found = f"none: sample {sample['sample_id']!r} has no truth (its split marks the first frame of a clip only)"
        raise MediaError(sample["image"], "a mask for this frame", found, "Choose another split.")
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
