"""Readers: the real on-disk layouts of the four datasets → manifests and truth masks.

A reader is a module with four functions, one of `READERS` or a file of one's own that the configuration names:

* ``read_rows(dataset, require_files)`` → rows of the manifest and the problems of the metadata,
* ``class_names(dataset)`` → the dataset's own classes (its specific word bank),
* ``read_mask(sample, dataset, size, truth)`` → the truth at the resolution of the scores,
* ``inspect_mask(sample, dataset, image_size)`` → what is wrong with a mask file, and what is to be known of it (`Inspection`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from taco import entries
from taco.data.datasets import ade, avsbench, avss, checks
from taco.data.problems import Problem

READERS = {"s4": avsbench, "ms3": avsbench, "avss": avss, "ade": ade}
FUNCTIONS = ("read_rows", "class_names", "read_mask", "inspect_mask")

__all__ = [
    "READERS",
    "class_file",
    "class_names",
    "file_problems",
    "read_mask",
    "read_rows",
    "reader_of",
]


def reader_of(dataset: Mapping):
    """The module that reads `dataset`; raises `taco.entries.EntryError` for a file of one's own that cannot be used."""
    name = dataset["reader"]
    if name in READERS:
        return READERS[name]
    key = f"datasets.{dataset.get('name')}.reader"
    if not name.endswith(".py") and "." not in name:
        known = ", ".join(READERS)
        raise entries.EntryError(
            f"{key}: expected one of {known}, a file ending in .py or a module, found {name!r}"
        )
    for function in FUNCTIONS:
        entries.load_function(name, key, function)
    return entries.load_module(name, key)


def read_rows(dataset: Mapping, require_files: bool = True) -> tuple[list[dict], list[Problem]]:
    """Rows of the manifest (see `taco.data.manifest`) in the order of the metadata, and what is wrong with the metadata."""
    return reader_of(dataset).read_rows(dataset, require_files)


def file_problems(
    frame: pd.DataFrame, dataset: Mapping, workers: int | None = None
) -> tuple[list[Problem], dict]:
    """Decode every file of a manifest once; what is wrong with them, and what the masks are (`taco.data.manifest.check`)."""
    return checks.file_problems(frame, dataset, reader_of(dataset).inspect_mask, workers)


def class_names(dataset: Mapping) -> list[str]:
    """The dataset's own classes in a fixed order, words parted by spaces; AVSS has "background" at index 0."""
    return list(reader_of(dataset).class_names(dataset))


def class_file(dataset: Mapping) -> Path | None:
    """The file from which `class_names` takes them; None where the configuration lists them, or a reader of one's own knows."""
    reader = READERS.get(dataset["reader"])
    return reader.class_file(dataset) if reader and not dataset.get("classes") else None


def read_mask(sample: Mapping, dataset: Mapping, size: int, truth: str | None = None) -> np.ndarray:
    """Truth of a sample at the resolution of the scores; the image is squashed to a square, as the scores are.

    Parameters
    ----------
    sample : Mapping
        A row of the manifest (a dict or a pandas Series).
    dataset : Mapping
        What the manifest was built from.
    size : int
        Side of the square in pixels (224 in the paper).
    truth : {"binary", "semantic"}, optional
        S4 and MS3 have binary truth, AVSS semantic; ADE has both, binary by default.

    Returns
    -------
    numpy.ndarray
        Binary: bool [size, size]. Semantic: int64 [size, size], 0 = background. For AVSS a value is the index into
        `class_names`; for ADE it is that index + 1, as its list has no background.
    """
    return reader_of(dataset).read_mask(sample, dataset, size, truth)
