"""Decode every file of a manifest once and collect what is wrong, before anything is computed."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from taco.data.datasets.common import CLASS_NUMBERS, Inspection
from taco.data.media import decode_sound
from taco.data.pictures import alpha, open_image, rgb
from taco.data.problems import ManifestError, MediaError, Problem

MOST_WORKERS = 8
log = logging.getLogger(__name__)


def file_problems(
    frame: pd.DataFrame, dataset: Mapping, inspect: Callable, workers: int | None = None
) -> tuple[list[Problem], dict]:
    """Problems of all images, sounds and masks, in the order of the manifest, and what kind of masks they are.

    `inspect` is the reader's `inspect_mask`. Threads are enough: the decoders of Pillow and libsndfile release the
    interpreter lock. The number of workers changes nothing.

    Returns
    -------
    list of Problem
    dict
        ``masks`` and ``empty``, counts of mask files; ``kinds``, how many there are of each kind; ``pixels``, how many
        another rule would read otherwise (see `taco.data.datasets.common.Inspection`).
    """
    workers = workers or min(MOST_WORKERS, len(os.sched_getaffinity(0)))
    images = list(dict.fromkeys(frame["image"]))
    starts = frame["start"].where(np.isfinite(frame["start"]), 0.0)  # unusable times are reported elsewhere
    sounds = list(starts.groupby(frame["audio"], sort=False).max().items())
    masked = frame[frame["mask"] != ""].drop_duplicates(["image", "mask", "class_id"]).to_dict("records")
    name = str(dataset.get("name"))
    with ThreadPoolExecutor(workers) as pool:
        looked = list(pool.map(_image_size, images))
        sizes = {path: size for path, (size, _) in zip(images, looked, strict=True)}
        wrong_sounds = pool.map(_sound_problems, sounds)
        masks = pool.map(
            lambda sample: _mask_problems(sample, dataset, sizes[sample["image"]], inspect),
            masked,
        )
        problems = [size for size in sizes.values() if isinstance(size, Problem)]
        problems += [problem for found in wrong_sounds for problem in found]
        inspected = list(masks)
        problems += [problem for found in inspected for problem in found.problems]
    problems += _absent_truth(frame, dataset) + _useless_truth(inspected, str(dataset["root"]))
    see_through = sum(transparent for _, transparent in looked)
    if see_through:
        log.warning("%s: %d images have transparent pixels, whose stored colours are read", name, see_through)
    record = _record(inspected)
    _report(name, record)
    _report_classes(name, masked, inspected)
    return list(dict.fromkeys(problems)), record


def _record(inspected: list[Inspection]) -> dict:
    pixels = Counter()
    for found in inspected:
        pixels.update(found.pixels)
    empty, kinds = sum(found.empty for found in inspected), Counter(found.kind for found in inspected)
    return {"masks": len(inspected), "empty": empty, "kinds": dict(kinds), "pixels": dict(pixels)}


def _useless_truth(inspected: list[Inspection], root: str) -> list[Problem]:
    """What is legal for one mask and not for all: no foreground, class numbers where colours are read."""
    problems = []
    empty = sum(found.empty for found in inspected)
    if inspected and empty == len(inspected):
        remedy = "Place the truth of this dataset; with `limit`, take more clips."
        expected = "truth with foreground in one sample at least"
        problems.append(Problem(root, expected, f"none in all {empty} masks", remedy))
    numbers = sum(found.kind == CLASS_NUMBERS for found in inspected)
    if 2 * numbers > len(inspected):
        expected, remedy = "masks in the colours of the classes", "Place the coloured masks (labels_rgb)."
        problems.append(
            Problem(root, expected, f"{numbers} of {len(inspected)} with {CLASS_NUMBERS}", remedy)
        )
    return problems


def _report_classes(name: str, masked: list[dict], inspected: list[Inspection]) -> None:
    """Name the prompted classes of which no sample has truth: their scores are 0 whatever is predicted."""
    counts = Counter(", ".join(sample["classes"]) for sample in masked if sample["class_id"] >= 0)
    for sample, found in zip(masked, inspected, strict=True):
        if sample["class_id"] >= 0 and not found.empty:
            counts.pop(", ".join(sample["classes"]), None)
    for label, count in counts.items():
        log.warning("%s: none of the %d samples of %r has truth: the class scores 0", name, count, label)


def _report(name: str, record: Mapping) -> None:
    """Log what the masks are, as a warning where that may decide a number."""
    if record["empty"]:
        log.warning("%s: %d of %d masks have empty truth (legal)", name, record["empty"], record["masks"])
    for kind, count in record["kinds"].items():
        if kind:
            log.info("%s: %d masks: %s", name, count, kind)
    for rule, count in record["pixels"].items():
        log.log(logging.WARNING if count else logging.INFO, "%s: %d pixels %s", name, count, rule)


def _image_size(path: str) -> tuple[tuple[int, int] | Problem, bool]:
    """Height and width of an image, or why it cannot be used; whether some of it is transparent."""
    try:
        image = open_image(path)
        return rgb(image, path).shape[:2], alpha(image) is not None
    except MediaError as error:
        return error.problem, False


def _sound_problems(sound: tuple[str, float]) -> list[Problem]:
    """Decode a sound; it must reach into the last piece that is cut from it."""
    path, last_start = sound
    try:
        wave, rate = decode_sound(path)
    except MediaError as error:
        return [error.problem]
    if round(last_start * rate) < len(wave):
        return []
    found = f"a file of {len(wave) / rate:.3f} s"
    remedy = "The sound is too short for the clip's frames: fetch it again or leave the clip out."
    return [Problem(path, f"sound at {last_start:g} s for the last frame", found, remedy)]


def _mask_problems(sample: Mapping, dataset: Mapping, size: tuple | Problem, inspect: Callable) -> Inspection:
    try:
        return inspect(sample, dataset, None if isinstance(size, Problem) else size)
    except MediaError as error:
        return Inspection([error.problem], False)
    except ManifestError as error:
        return Inspection(error.problems, False)


def _absent_truth(frame: pd.DataFrame, dataset: Mapping) -> list[Problem]:
    """Only a training split may have frames without a mask."""
    absent = frame[(frame["mask"] == "") & (frame["split"] != "train")]
    remedy = "Build the manifest again."
    return [
        Problem(str(dataset["root"]), f"a mask for sample {name!r}", "none", remedy)
        for name in absent["sample_id"]
    ]
