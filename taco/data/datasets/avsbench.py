"""AVSBench-object: S4 (`s4`, a single source) and MS3 (`ms3`, several sources).

Both have clips of five frames, one per second, and one sound file per clip. Truth is binary.

Options of the dataset: `classes` (list of names; MS3's metadata has none, so MS3 needs it), `frame_classes` (a CSV without
header, `<vid>_<n>, "name, name"`: the classes of single frames, where such a list is at hand).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from taco.data import pictures
from taco.data.datasets import common, tables
from taco.data.problems import ManifestError, Problem

FRAMES = 5
NOT_255 = "foreground here and not 255 in the first channel, or the reverse (the authors' release takes 255)"
LAYOUTS = {
    "s4": {"csv": "Single-source/s4_meta_data.csv", "data": "Single-source/s4_data"},
    "ms3": {"csv": "Multi-sources/ms3_meta_data.csv", "data": "Multi-sources/ms3_data"},
}
COLUMNS = {
    "s4": {"name": ("name",), "category": ("category",), "split": ("split",)},
    # A column of titles may stand beside the ids.
    "ms3": {"name": ("video_id", "vid", "name"), "split": ("split",)},
}
log = logging.getLogger(__name__)


def read_rows(dataset: Mapping, require_files: bool) -> tuple[list[dict], list[Problem]]:
    """See `taco.data.datasets.read_rows`. Sample ids are `<vid>_<n>` with n from 1, as in the file names."""
    root, layout = Path(dataset["root"]), LAYOUTS[dataset["reader"]]
    source, metadata = root / layout["csv"], _metadata(dataset)
    table, problems = tables.in_split(metadata, dataset, source)
    if "category" in metadata:
        problems += tables.spelling_problems(metadata["category"], "category", source)
    problems += tables.blank_cells(table, list(COLUMNS[dataset["reader"]]), source)
    table, repeated = tables.without_repeats(table[table["name"] != ""], "name", "clip", source)
    problems += repeated
    if require_files:
        folders = [root / layout["data"] / name for name in ("visual_frames", "gt_masks", "audio_wav")]
        absent = common.missing_folders(dataset, folders)
        if absent:
            raise ManifestError(str(dataset.get("name", dataset["reader"])), problems + absent)
    labels = _frame_classes(dataset)
    rows = []
    for clip in table.to_dict("records"):
        try:
            rows += [_row(clip, number, dataset, labels) for number in range(1, FRAMES + 1)]
        except ValueError as error:
            problems.append(common.unsafe_path(source, clip[tables.LINE], error))
    unlisted = sum(row["sample_id"] not in labels for row in rows) if labels is not None else 0
    if unlisted:
        log.warning("%s: %d of %d frames are not in it", dataset["frame_classes"], unlisted, len(rows))
    return rows, problems


def _row(clip: Mapping, number: int, dataset: Mapping, labels: Mapping[str, list[str]] | None) -> dict:
    """One frame's row; `number` counts from 1."""
    name, split = clip["name"], clip["split"]
    data = Path(dataset["root"], LAYOUTS[dataset["reader"]]["data"])
    sample_id, seconds = f"{name}_{number}", common.frame_seconds(dataset)
    if "/" in name:
        raise ValueError(f"{name!r} is no clip name")
    if dataset["reader"] == "s4":
        parts = (split, clip["category"])
        image = common.inside(data / "visual_frames", *parts, name, f"{sample_id}.png")
        known = [common.spaced(clip["category"])]
    else:
        parts = (split,)
        image = common.inside(data / "visual_frames", name, f"{name}.mp4_{number}.png")
        known = []
    mask = common.inside(data / "gt_masks", *parts, name, f"{sample_id}.png")
    # S4 marks only the first frame of a training clip.
    if dataset["reader"] == "s4" and split == "train" and number > 1 and not Path(mask).exists():
        mask = ""
    return {
        "sample_id": sample_id,
        "clip_id": name,
        "frame": number - 1,
        "image": image,
        "audio": common.inside(data / "audio_wav", *parts, f"{name}.wav"),
        "start": (number - 1) * seconds,
        "duration": seconds,
        "mask": mask,
        "classes": known if labels is None else labels.get(sample_id, known),
        "class_id": -1,
        "split": split,
    }


def class_file(dataset: Mapping) -> Path:
    """The table of all clips; that of MS3 has no classes."""
    return Path(dataset["root"], LAYOUTS[dataset["reader"]]["csv"])


def class_names(dataset: Mapping) -> list[str]:
    """S4: the categories of its whole CSV in the order of first appearance; MS3: the configuration's `classes`."""
    names = common.configured_classes(dataset)
    if names is not None:
        return names
    if dataset["reader"] == "s4":
        return common.first_seen(common.spaced(name) for name in _metadata(dataset)["category"])
    source = str(class_file(dataset))
    problem = Problem(
        source,
        "class names",
        "a CSV without classes",
        "List them as `classes` of this dataset.",
    )
    raise ManifestError(str(dataset.get("name", "ms3")), [problem])


def read_mask(sample: Mapping, dataset: Mapping, size: int, truth: str | None = None) -> np.ndarray:
    """Foreground (what is not black) as bool [size, size], nearest pixel."""
    common.truth_kind(dataset, truth, ("binary",))
    file = common.mask_path(sample)
    mask, _ = pictures.foreground(pictures.open_image(file), file)
    return common.resize_nearest(mask, size)


def inspect_mask(sample: Mapping, dataset: Mapping, image_size: tuple[int, int] | None) -> common.Inspection:
    """Problems of a mask file (another size than the image; more than black and one colour), its kind, whether it is empty.

    The authors' release counts the pixels of exactly 255 in the first channel; counted is where that differs from `read_mask`.
    """
    file = common.mask_path(sample)
    image = pictures.open_image(file)
    mask, colours = pictures.foreground(image, file)
    problems = common.size_problem(mask, image_size, file)
    if colours > 1:
        expected, found = "black and one colour for the foreground", f"{colours} colours beside black"
        remedy = "The mask must be binary: fetch it again, or undo a smoothing conversion (JPEG, resizing)."
        problems.append(Problem(file, expected, found, remedy))
    red = pictures.first_channel(image, file)
    kind = f"mode {image.mode}, first channel {'/'.join(map(str, np.unique(red)[:3]))}"
    differing = int(np.count_nonzero(mask != (red == 255)))
    return common.Inspection(problems, not mask.any(), kind, {NOT_255: differing})


def _metadata(dataset: Mapping):
    return tables.read_table(class_file(dataset), dataset, COLUMNS[dataset["reader"]])


def _frame_classes(dataset: Mapping) -> dict[str, list[str]] | None:
    """Sample id → class names from the optional `frame_classes` file (relative to the root, or absolute)."""
    if not dataset.get("frame_classes"):
        return None
    path = Path(dataset["root"], dataset["frame_classes"])
    table = tables.read_table(path, dataset, {"sample_id": (), "names": ()}, header=False)
    table, repeated = tables.without_repeats(table, "sample_id", "frame", path)
    if repeated:
        raise ManifestError(str(dataset.get("name", dataset["reader"])), repeated)
    split = (names.split(",") for names in table["names"])
    lists = ([common.spaced(name.strip()) for name in names if name.strip()] for names in split)
    return dict(zip(table["sample_id"], lists, strict=True))
