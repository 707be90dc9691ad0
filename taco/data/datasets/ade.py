"""ADE20K Sound Prompted (`ade`): stills, one prompted class and one sound per row.

Serves two tasks: binary (the prompted class of each row) and semantic (the same mask with the class's index).

Options of the dataset: `mask_resize` (`paper`: class ids squashed bilinearly with aligned corners, then compared with the
prompted id, which erodes borders; `nearest`), `class_labels` (mapping id → name, where the CSV has no column of class names), `classes` (fixes the
order of the names).
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from taco.data import pictures
from taco.data.datasets import common, tables
from taco.data.problems import ManifestError, MediaError, Problem

CSV = "prompted_segmentation.csv"
COLUMNS = {name: (name,) for name in ("image_location", "vggsound_file", "ade_class_id")}
NAME_COLUMNS = ("ade_class_name", "class_name", "ade_class", "class", "label")
# Cells that stand for "no sound" in a table written by pandas or by hand.
NO_SOUND = ("", "nan", "none", "null", "na", "n/a")
WHOLE_NUMBER = re.compile(r"([0-9]+)(\.0*)?")
LARGEST_ID = 255 // 10 * 256 + 255
log = logging.getLogger(__name__)


def read_rows(dataset: Mapping, require_files: bool) -> tuple[list[dict], list[Problem]]:
    """See `taco.data.datasets.read_rows`. Sample ids are `<image>__<sound>`, both without suffix; every row is its own clip.

    Where an image and a sound come together for several classes, the class id is added to the ids of these rows; where two
    images or sounds differ in folders or suffixes in a way that their ids do not show, a digest of both.
    """
    root = Path(dataset["root"])
    table, problems = _named_rows(dataset, report=True)
    table, faults = tables.in_split(table, dataset, root / CSV)
    problems += faults
    if require_files:
        absent = common.missing_folders(dataset, [root / name for name in ("frames", "annotations", "audio")])
        if absent:
            raise ManifestError(str(dataset.get("name", "ade")), problems + absent)
    table, repeated = tables.without_repeats(_with_sample_ids(table), "sample_id", "sample", root / CSV)
    problems += repeated
    return [_row(record, root) for record in table.to_dict("records")], problems


def _with_sample_ids(table: pd.DataFrame) -> pd.DataFrame:
    """Add sample_id, the same for two rows only where image, sound and class are."""
    location, sound, number = (table[name] for name in ("image_location", "sound", "ade_class_id"))
    ids = location.map(lambda name: _stem(name).replace("/", "_")) + "__" + sound.map(_stem)
    classes = number.groupby([location, sound]).transform("nunique")
    ids = ids.where(classes < 2, ids + "__" + number.astype(str))
    files = location + "\0" + sound
    digests = files.map(lambda names: hashlib.sha256(names.encode()).hexdigest()[:8])
    return table.assign(
        sample_id=ids.where(files.groupby(ids).transform("nunique") < 2, ids + "__" + digests)
    )


def _stem(path: str) -> str:
    """A path without its suffix."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)


def _row(record: Mapping, root: Path) -> dict:
    """One row of the manifest; the sound is the whole file."""
    location = record["image_location"]
    image = common.inside(root / "frames", location)
    return {
        "sample_id": record["sample_id"],
        "clip_id": record["sample_id"],
        "frame": 0,
        "image": image,
        "audio": common.inside(root / "audio", record["sound"]),
        "start": 0.0,
        "duration": float("nan"),
        "mask": common.inside(root / "annotations", f"{_stem(location)}_seg.png"),
        "classes": [record["class_name"]],
        "class_id": record["ade_class_id"],
        "split": record["split"],
    }


def counted_rows(dataset: Mapping, report: bool = False) -> tuple[pd.DataFrame, list[Problem]]:
    """The rows of the CSV that count, of all splits: those with a sound and with a class that is not 0.

    Parameters
    ----------
    dataset : Mapping
        `root`, and what names it in errors.
    report : bool
        Log how many rows are left out, by reason.

    Returns
    -------
    pandas.DataFrame
        The CSV's columns, `ade_class_id` as numbers, and `sound`, the name of the file in `audio`.
    list of Problem
        Rows with a sound whose class id is no number that an annotation can hold, or whose paths leave the dataset.

    Raises
    ------
    ManifestError
        There is no CSV, or its rows do not fit its header.
    """
    source = Path(dataset["root"], CSV)
    table = tables.read_table(source, dataset, COLUMNS)
    silent = table["vggsound_file"].map(tables.plain).isin(NO_SOUND)
    ids = table["ade_class_id"].map(_class_id)
    wrong, unnamed = ~silent & (ids < 0), ~silent & (ids == 0)
    for mask, reason in ((silent, "without a sound file"), (unnamed, "with class 0")):
        if report and mask.any():
            log.warning("%s: %d of %d rows are left out: %s", source, int(mask.sum()), len(table), reason)
    expected, remedy = f"a class id (whole number of 0 … {LARGEST_ID})", "Correct or remove these rows."
    problems = [
        Problem(str(source), expected, f"{value!r} in {tables.lines_text(lines)}", remedy)
        for value, lines in table[wrong].groupby("ade_class_id", sort=False)[tables.LINE]
    ]
    kept = table[~silent & ~wrong & ~unnamed]
    kept = kept.assign(
        ade_class_id=ids[kept.index].astype("int64"), sound=kept["vggsound_file"].str.rsplit("/", n=1).str[-1]
    )
    unsafe = {}
    for index, location, sound, line in kept[["image_location", "sound", tables.LINE]].itertuples():
        try:
            common.inside("", location, sound)
        except ValueError as error:
            unsafe[index] = common.unsafe_path(source, line, error)
    return kept.drop(index=list(unsafe)), problems + list(unsafe.values())


def listed_sounds(root: Path) -> list[str]:
    """File names of the sounds that the rows that count need, in the CSV's order, without repeats.

    Raises
    ------
    ManifestError
        The CSV cannot be read, or has rows that are at fault.
    """
    table, problems = counted_rows({"name": "ade", "reader": "ade", "root": str(root)})
    if problems:
        raise ManifestError("ade", problems)
    return common.first_seen(table["sound"])


def _class_id(cell: str) -> int:
    """The number of a class; -1 for what is none (41.0 is 41)."""
    match = WHOLE_NUMBER.fullmatch(cell)
    number = int(match[1]) if match and len(match[1]) < 9 else -1
    return number if number <= LARGEST_ID else -1


def _named_rows(dataset: Mapping, report: bool = False) -> tuple[pd.DataFrame, list[Problem]]:
    """The rows that count, of all splits, with the columns class_name and split, and what is wrong with the table."""
    table, problems = counted_rows(dataset, report)
    if "split" not in table:
        table = table.assign(split="test")
    named, missing = _with_names(table, dataset, Path(dataset["root"], CSV))
    return named, problems + missing


def _with_names(table: pd.DataFrame, dataset: Mapping, source: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """Add class_name from the CSV's own column or from the configuration's `class_labels`; an id has one name."""
    column = next((name for name in NAME_COLUMNS if name in table), None)
    names = table["ade_class_id"].map(_labels(dataset)).fillna("") if column is None else table[column]
    remedy = (
        "Complete the CSV's column of class names, or give `class_labels` (id: name) in the configuration."
    )
    problems = [
        Problem(str(source), f"a name for class {number}", "none", remedy)
        for number in common.first_seen(table.loc[names == "", "ade_class_id"])
    ]
    table = table.assign(class_name=names)
    spellings = table.groupby("ade_class_id", sort=False)["class_name"].unique()
    for number, found in spellings[spellings.map(len) > 1].items():
        listed = ", ".join(map(repr, found))
        problems.append(Problem(str(source), f"one name for class {number}", listed, remedy))
    return table, problems


def _labels(dataset: Mapping) -> dict[int, str]:
    """The configuration's `class_labels`."""
    labels = {_class_id(str(key)): str(name) for key, name in (dataset.get("class_labels") or {}).items()}
    if -1 in labels:
        keys = ", ".join(repr(key) for key in dataset["class_labels"] if _class_id(str(key)) < 0)
        problem = Problem("class_labels", "class ids as keys (id: name)", keys, "Correct the configuration.")
        raise ManifestError(str(dataset.get("name", "ade")), [problem])
    return labels


def class_file(dataset: Mapping) -> Path:
    """The table of all samples."""
    return Path(dataset["root"], CSV)


def class_names(dataset: Mapping) -> list[str]:
    """Class names in the order of their first usable row, over all splits of the CSV."""
    names = common.configured_classes(dataset)
    if names is not None:
        return names
    path = class_file(dataset)
    status = path.stat() if path.is_file() else None
    labels = tuple(sorted((str(key), str(name)) for key, name in (dataset.get("class_labels") or {}).items()))
    state = status and (status.st_mtime_ns, status.st_size)
    return list(_csv_names(str(dataset["root"]), str(dataset.get("name", "ade")), labels, state))


@lru_cache(maxsize=8)
def _csv_names(
    root: str, name: str, labels: tuple[tuple[str, str], ...], state: tuple[int, int] | None
) -> tuple[str, ...]:
    """The names that the CSV's rows have, remembered until the file changes: each sample's truth asks for them."""
    dataset = {"name": name, "reader": "ade", "root": root, "class_labels": dict(labels)}
    return tuple(common.first_seen(_named_rows(dataset)[0]["class_name"]))


def read_mask(sample: Mapping, dataset: Mapping, size: int, truth: str | None = None) -> np.ndarray:
    """Pixels of the prompted class at [size, size]: bool, or int64 with the class's index in `class_names` + 1."""
    kind = common.truth_kind(dataset, truth, ("binary", "semantic"))
    ids = class_ids(common.mask_path(sample))
    prompted = sample["class_id"]
    if common.option(dataset, "mask_resize", ("paper", "nearest")) == "paper":
        # A blend of two other ids may meet the prompted one: so it is with the authors.
        mask = common.resize_bilinear(ids, size) == prompted
    else:
        mask = common.resize_nearest(ids, size) == prompted
    if kind == "binary":
        return mask
    return mask * np.int64(class_names(dataset).index(sample["classes"][0]) + 1)


def inspect_mask(sample: Mapping, dataset: Mapping, image_size: tuple[int, int] | None) -> common.Inspection:
    """Problems of an annotation (another size than the image), and whether the prompted class is absent from it."""
    file = common.mask_path(sample)
    ids = class_ids(file)
    absent = not (ids == sample["class_id"]).any()
    return common.Inspection(common.size_problem(ids, image_size, file), absent)


def class_ids(file: str | Path) -> np.ndarray:
    """ADE20K's class ids, int64 [H, W]: the red channel's tens times 256 plus the green channel.

    Raises
    ------
    MediaError
        Also for a grey picture that is not black: the edition of 150 classes has numbers of its own.
    """
    rgb = pictures.mask_colours(pictures.open_image(file), file).astype(np.int64)
    if rgb.any() and (rgb == rgb[..., :1]).all():
        expected = "ADE20K's full annotation (in colours: class = R // 10 · 256 + G)"
        found = "grey values, as in the edition of 150 classes"
        raise MediaError(
            file, expected, found, "Place the annotations of ADE20K Sound Prompted's own archive."
        )
    return rgb[..., 0] // 10 * 256 + rgb[..., 1]
