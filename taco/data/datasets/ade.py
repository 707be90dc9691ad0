"""ADE20K Sound Prompted (`ade`): stills, one prompted class and one sound per row.

Serves two tasks: binary (the prompted class of each row) and semantic (the same mask with the class's index).

Options of the dataset: `mask_resize` (`paper`: class ids squashed bilinearly with aligned corners, then compared with the
prompted id, which erodes borders; `nearest`), `class_labels` (mapping id → name, where the CSV has no column of class names), `classes` (fixes the
order of the names).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from taco.data.datasets import common
from taco.data.media import open_image
from taco.data.problems import ManifestError, Problem

CSV = "prompted_segmentation.csv"
COLUMNS = {name: (name,) for name in ("image_location", "vggsound_file", "ade_class_id")}
NAME_COLUMNS = ("ade_class_name", "class_name", "ade_class", "class", "label")
# Cells that stand for "no sound" in a table written by pandas or by hand.
NO_SOUND = ("", "nan", "NaN", "None", "null")
log = logging.getLogger(__name__)


def read_rows(dataset: Mapping, require_files: bool) -> tuple[list[dict], list[Problem]]:
    """See `taco.data.datasets.read_rows`. Sample ids are `<image>__<sound>`, both without suffix; every row is its own clip.

    Where an image and a sound come together for several classes, the class id is added to the ids of these rows.
    """
    root = Path(dataset["root"])
    table, problems = _metadata(dataset, report=True)
    table, empty = common.in_split(table, dataset, root / CSV)
    problems = problems + empty
    if require_files:
        absent = common.missing_folders(dataset, [root / name for name in ("frames", "annotations", "audio")])
        if absent:
            raise ManifestError(str(dataset.get("name", "ade")), problems + absent)
    rows = []
    pairs = table.groupby(["image_location", "vggsound_file"])["ade_class_id"].transform("nunique")
    for record in table.assign(classes_of_pair=pairs).to_dict("records"):
        try:
            rows.append(_row(record, root))
        except ValueError as error:
            problems.append(common.unsafe_path(root / CSV, error))
    return rows, problems


def _row(record: Mapping, root: Path) -> dict:
    """One row of the manifest; the sound is the whole file."""
    location, sound = record["image_location"], record["vggsound_file"].split("/")[-1]
    image = common.inside(root / "frames", location)
    stem = PurePosixPath(location).with_suffix("").as_posix()
    sample_id = f"{stem.replace('/', '_')}__{PurePosixPath(sound).stem}"
    if record["classes_of_pair"] > 1:
        sample_id += f"__{int(record['ade_class_id'])}"
    return {
        "sample_id": sample_id,
        "clip_id": sample_id,
        "frame": 0,
        "image": image,
        "audio": common.inside(root / "audio", sound),
        "start": 0.0,
        "duration": float("nan"),
        "mask": common.inside(root / "annotations", f"{stem}_seg.png"),
        "classes": [record["class_name"]],
        "class_id": int(record["ade_class_id"]),
        "split": record["split"],
    }


def _metadata(dataset: Mapping, report: bool = False) -> tuple[pd.DataFrame, list[Problem]]:
    """The usable rows of all splits with the columns class_name and split, and what is wrong with the table."""
    source = Path(dataset["root"], CSV)
    table = common.read_table(source, dataset, COLUMNS)
    table, problems = _usable(table, source, report)
    if "split" not in table:
        table = table.assign(split="test")
    named, missing = _with_names(table, dataset, source)
    return named, problems + missing


def _usable(table: pd.DataFrame, source: Path, report: bool) -> tuple[pd.DataFrame, list[Problem]]:
    """Drop (and on `report` log) rows without a sound or with class 0; report ids that are no whole numbers."""
    silent = table["vggsound_file"].isin(NO_SOUND)
    ids = pd.to_numeric(table["ade_class_id"], errors="coerce")
    wrong = ~silent & (ids.isna() | (ids != ids.round()) | (ids < 0))
    unnamed = ~silent & ~wrong & (ids == 0)
    for mask, reason in ((silent, "without a sound file"), (unnamed, "with class 0")):
        if report and mask.any():
            log.warning("%s: %d of %d rows are left out: %s", source, int(mask.sum()), len(table), reason)
    problems = [
        Problem(
            str(source),
            "a class id (whole number >= 0)",
            f"{value!r} in {count} rows",
            "Correct or remove these rows.",
        )
        for value, count in table.loc[wrong, "ade_class_id"].value_counts(sort=False).items()
    ]
    kept = ~silent & ~wrong & ~unnamed
    return table[kept].assign(ade_class_id=ids[kept].astype(int)), problems


def _with_names(table: pd.DataFrame, dataset: Mapping, source: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """Add class_name from the CSV's own column or from the configuration's `class_labels`; an id has one name."""
    labels = {int(key): str(name) for key, name in (dataset.get("class_labels") or {}).items()}
    column = next((name for name in NAME_COLUMNS if name in table), None)
    if column is not None:
        names = table[column]
    else:
        names = table["ade_class_id"].map(labels).fillna("")
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
        problems.append(
            Problem(
                str(source),
                f"one name for class {number}",
                ", ".join(map(repr, found)),
                remedy,
            )
        )
    return table, problems


def class_names(dataset: Mapping) -> list[str]:
    """Class names in the order of their first usable row, over all splits of the CSV."""
    names = common.configured_classes(dataset)
    return common.first_seen(_metadata(dataset)[0]["class_name"]) if names is None else names


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


def class_ids(file: str) -> np.ndarray:
    """ADE20K's class ids, int64 [H, W]: the red channel's tens times 256 plus the green channel."""
    rgb = np.asarray(open_image(file).convert("RGB")).astype(np.int64)
    return rgb[..., 0] // 10 * 256 + rgb[..., 1]
