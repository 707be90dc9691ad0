"""AVSBench-semantic (`avss`): clips of 5 (v1s, v1m) or 10 (v2) frames with semantic truth in palette colours.

Options of the dataset: `subset` (v1s, v1m, v2, or a list of them; default v2, which the authors evaluate), `unknown_colours`
(`error`; or `background`, counted, as in AVSBench's own loader and the authors' release), `classes` (instead of the keys of label2idx.json).
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from taco.data import pictures
from taco.data.datasets import common, tables
from taco.data.problems import ManifestError, Problem

FRAMES = {"v1s": 5, "v1m": 5, "v2": 10}
# Names in the published metadata that are no class: a misspelt one, and two that say nothing in sight sounds.
ALIASES: dict[str, str | None] = {
    "h orse": "horse",
    "background": None,
    "off-the-screen": None,
}
COLUMNS = {name: (name,) for name in ("uid", "a_obj", "split", "label")}
STRANGE = "of a colour outside the palette, read as background"
log = logging.getLogger(__name__)


def read_rows(dataset: Mapping, require_files: bool) -> tuple[list[dict], list[Problem]]:
    """See `taco.data.datasets.read_rows`. Sample ids are `<uid>_<i>` with i from 0, as in the file names."""
    root = Path(dataset["root"])
    source, subsets = root / "metadata.csv", _subsets(dataset)
    table = tables.read_table(source, dataset, COLUMNS)
    problems = _label_problems(table, source)
    wanted = table["label"].isin(subsets)
    log.info("%s: %d of %d rows are left out: of other subsets", source, (~wanted).sum(), len(table))
    table, faults = tables.in_split(table[wanted], dataset, source)
    problems += faults + tables.blank_cells(table, ["uid", "a_obj"], source)
    table, repeated = tables.without_repeats(table[table["uid"] != ""], "uid", "clip", source)
    problems += repeated
    if require_files:
        absent = common.missing_folders(
            dataset, [root / label for label in subsets if label in set(table["label"])]
        )
        if absent:
            raise ManifestError(str(dataset.get("name", "avss")), problems + absent)
    rows, aliased = [], Counter()
    for clip in table.to_dict("records"):
        names = _sounding(clip["a_obj"], aliased)
        try:
            rows += [_row(clip, number, dataset, names) for number in range(FRAMES[clip["label"]])]
        except ValueError as error:
            problems.append(common.unsafe_path(source, clip[tables.LINE], error))
    for name, count in aliased.items():
        meaning = f"read as {ALIASES[name]!r}" if ALIASES[name] else "names no class, left out"
        log.warning("%s: %r in a_obj of %d clips: %s", source, name, count, meaning)
    return rows, problems


def _row(clip: Mapping, number: int, dataset: Mapping, names: list[str]) -> dict:
    """One frame's row; `number` counts from 0."""
    uid, label, root = clip["uid"], clip["label"], Path(dataset["root"])
    seconds = common.frame_seconds(dataset)
    if "/" in uid:
        raise ValueError(f"{uid!r} is no clip name")
    mask = common.inside(root, label, uid, "labels_rgb", f"{number}.png")
    # The single-source subset marks only the first frame of a training clip.
    if label == "v1s" and clip["split"] == "train" and number > 0 and not Path(mask).exists():
        mask = ""
    return {
        "sample_id": f"{uid}_{number}",
        "clip_id": uid,
        "frame": number,
        "image": common.inside(root, label, uid, "frames", f"{number}.jpg"),
        "audio": common.inside(root, label, uid, "audio.wav"),
        "start": number * seconds,
        "duration": seconds,
        "mask": mask,
        "classes": names,
        "class_id": -1,
        "split": clip["split"],
    }


def _sounding(objects: str, aliased: Counter) -> list[str]:
    """Class names of an `a_obj` cell (joined by "_"), known noise normalised and counted."""
    names = [name.strip() for name in objects.split("_")]
    aliased.update(set(names) & set(ALIASES))
    return common.first_seen(name for name in (ALIASES.get(name, name) for name in names) if name)


def _subsets(dataset: Mapping) -> list[str]:
    value = dataset.get("subset", "v2")
    subsets = [value] if isinstance(value, str) else list(value)
    unknown = sorted(set(subsets) - set(FRAMES))
    if unknown or not subsets:
        name = dataset.get("name")
        raise ValueError(
            f"dataset {name!r}: subset must be one or more of {', '.join(FRAMES)}; found {value!r}"
        )
    return subsets


def _label_problems(table, source: Path) -> list[Problem]:
    """Rows of a subset that nobody has heard of."""
    strange = table[~table["label"].isin(list(FRAMES))]
    expected = f"the subsets {', '.join(FRAMES)} in the column label"
    return [
        Problem(
            str(source), expected, f"{name!r} in {tables.lines_text(lines)}", "Correct or remove these rows."
        )
        for name, lines in strange.groupby("label", sort=False)[tables.LINE]
    ]


def class_file(dataset: Mapping) -> Path:
    """The metadata's list of classes."""
    return Path(dataset["root"], "label2idx.json")


def class_names(dataset: Mapping) -> list[str]:
    """The keys of label2idx.json in their order ("background" first); its values are ignored, as copies disagree."""
    names = common.configured_classes(dataset)
    if names is None:
        path = class_file(dataset)
        status = path.stat() if path.is_file() else None
        names = list(
            _keys(
                str(path),
                str(dataset.get("name", "avss")),
                status and (status.st_mtime_ns, status.st_size),
            )
        )
    return names


@lru_cache(maxsize=8)
def _keys(path: str, name: str, state: tuple[int, int] | None) -> tuple[str, ...]:
    expected = 'a JSON object whose keys are the class names, "background" first'
    remedy = "Place the dataset's label2idx.json here, or list `classes` in the configuration."
    try:
        pairs = json.loads(Path(path).read_text(encoding="utf-8-sig"), object_pairs_hook=list)
        keys = tuple(str(key) for key, _ in pairs)
    except (OSError, ValueError, TypeError) as error:
        raise ManifestError(name, [Problem(path, expected, str(error), remedy)]) from error
    if keys[:1] != ("background",) or len(set(keys)) != len(keys):
        raise ManifestError(name, [Problem(path, expected, f"the keys {', '.join(keys[:4])} …", remedy)])
    return keys


def palette(n_classes: int) -> np.ndarray:
    """Colours of the classes, uint8 [n, 3]: PASCAL VOC's, which deal the bits of the index out to R, G and B in turn."""
    index = np.arange(n_classes)[:, None]
    channel, place = np.arange(3), np.arange(8)[:, None, None]
    return (((index >> (3 * place + channel)) & 1) << (7 - place)).sum(axis=0).astype(np.uint8)


@lru_cache(maxsize=1)
def _index_bits() -> np.ndarray:
    """The inverse of `palette`, int64 [3, 256]: what a channel's value contributes to the class index."""
    value = np.arange(256)
    channel, place = np.arange(3)[:, None], np.arange(8)[:, None, None]
    return (((value >> (7 - place)) & 1) << (3 * place + channel)).sum(axis=0)


def read_mask(sample: Mapping, dataset: Mapping, size: int, truth: str | None = None) -> np.ndarray:
    """Class indices as int64 [size, size], 0 = background: colour → class at full size, then reduced as predictions are."""
    common.truth_kind(dataset, truth, ("semantic",))
    file = common.mask_path(sample)
    classes, strange = _read_classes(file, len(class_names(dataset)))
    problems = _colour_problems(file, strange, dataset)
    if problems:
        raise ManifestError(str(dataset.get("name", "avss")), problems)
    return common.resize_floor(classes, size)


def inspect_mask(sample: Mapping, dataset: Mapping, image_size: tuple[int, int] | None) -> common.Inspection:
    """Problems of a mask file (another size than the image; colours outside the palette), and whether it is empty.

    Where colours outside the palette are background, their pixels are counted.
    """
    file = common.mask_path(sample)
    classes, strange = _read_classes(file, len(class_names(dataset)))
    problems = common.size_problem(classes, image_size, file) + _colour_problems(file, strange, dataset)
    grey = strange and all(colour[1:3] == colour[3:5] == colour[5:] for colour in strange)
    kind = common.CLASS_NUMBERS if grey and not classes.any() else ""
    return common.Inspection(problems, not classes.any(), kind, {STRANGE: sum(strange.values())})


def _read_classes(file: str, n_classes: int) -> tuple[np.ndarray, Counter]:
    """Class index, int64 [H, W] (0 where the colour is strange), and the strange colours with their pixel counts."""
    rgb = pictures.mask_colours(pictures.open_image(file), file)
    red, green, blue = _index_bits()
    classes = red[rgb[..., 0]] | green[rgb[..., 1]] | blue[rgb[..., 2]]
    strange = classes >= n_classes
    colours = Counter(f"#{bytes(colour).hex()}" for colour in rgb[strange])
    classes[strange] = 0
    return classes, colours


def _colour_problems(file: str, strange: Counter, dataset: Mapping) -> list[Problem]:
    if not strange or common.option(dataset, "unknown_colours", ("error", "background")) == "background":
        return []
    listed = ", ".join(f"{colour} ({count} pixels)" for colour, count in strange.most_common(4))
    found = f"{len(strange)} other colours: {listed}" + (" …" if len(strange) > 4 else "")
    remedy = "Fetch the mask again, or set `unknown_colours: background` to count such pixels as background."
    return [Problem(file, f"colours of the {len(class_names(dataset))} classes", found, remedy)]
