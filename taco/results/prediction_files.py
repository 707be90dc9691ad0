"""Files of anyone's predictions: found by sample id, and read by what their numbers mean, or refused.

All have the side [size, size] at which the suite compares maps and truth (``evaluation.size``):

=====  ======================================  =======================================================
kind   binary tasks (s4, ms3, ade_sp)          semantic tasks (avss, ade_sp_semantic)
=====  ======================================  =======================================================
.png   grey, 8 or 16 bits: 0 … full = 0 … 1;   grey: a class id per pixel; a palette of grey levels or of
       1 bit, or one colour on black: a mask   PASCAL VOC's colours, each of which stands for its id
.npy   float map in 0 … 1, bool or 0/1 mask    whole numbers: a class id per pixel
.json  a mask in COCO's run-length encoding,   a list of {"category_id": id, "segmentation": mask},
       {"size": [H, W], "counts": …}           which must not overlap; the rest is 0
=====  ======================================  =======================================================

A palette is one more way to write colours down: the same picture has the same score. Class ids are those of
`taco.data.datasets.read_mask`: 0 is background; AVSS counts it among its labels.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from taco import metrics
from taco.data import pictures
from taco.data.datasets import avss
from taco.data.predictions import mask_of_runs, whole
from taco.data.problems import MediaError, reason

SUFFIXES = (".png", ".npy", ".json")
# Left by file managers and archives.
STRAY_NAMES = ("__MACOSX", "Thumbs.db", "desktop.ini")
# Bicubic interpolation (a = -0.75) of values in 0 … 1 stays within these.
LOWEST_SCORE, HIGHEST_SCORE = -0.5, 1.5
LISTED = 5
FULL_8, FULL_16 = 255, 65535


class PredictionError(ValueError):
    """Predictions that cannot be scored: says which files, what was expected, and what to do."""


@contextmanager
def _as_prediction_error() -> Iterator[None]:
    """What the reader of pictures says, as a `PredictionError`."""
    try:
        yield
    except MediaError as error:
        raise PredictionError(str(error)) from error


def find(folder: str | Path, sample_ids: list[str]) -> dict[str, Path]:
    """Files of the samples, one each.

    Parameters
    ----------
    folder : path
        Searched with its subfolders; what is hidden is passed over, folders with all they hold. A file's name without its
        ending is its sample id.
    sample_ids : list of str
        All that must be there, and no other.

    Raises
    ------
    PredictionError
        Listing missing, unknown and repeated ids, and files of another kind.
    """
    folder, found, problems = Path(folder), {}, []
    if not folder.is_dir():
        raise PredictionError(f"{folder}: expected a folder of predictions, found none")
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not _is_stray(path.relative_to(folder))
    ]
    odd = [str(path.relative_to(folder)) for path in files if path.suffix.lower() not in SUFFIXES]
    repeated = []
    for path in files:
        if path.suffix.lower() in SUFFIXES:
            repeated += [path.stem] if path.stem in found else []
            found[path.stem] = path
    wanted = set(sample_ids)
    for names, text in (
        ([name for name in sample_ids if name not in found], "of the samples have no file"),
        ([name for name in found if name not in wanted], "files have an unknown sample id"),
        (repeated, "sample ids have several files"),
        (odd, f"files are neither of {', '.join(SUFFIXES)}"),
    ):
        if names:
            more = " …" if len(names) > LISTED else ""
            problems.append(f"{len(names)} {text}: {', '.join(map(repr, names[:LISTED]))}{more}")
    if problems:
        lines = "\n  ".join(problems)
        raise PredictionError(
            f"{folder}: expected one file for each of the {len(sample_ids)} samples, named <sample_id>.png, .npy or "
            f".json\n  {lines}\nThe sample ids are the column sample_id of the dataset's manifest."
        )
    return found


def _is_stray(place: Path) -> bool:
    return any(part.startswith(".") or part in STRAY_NAMES for part in place.parts)


@_as_prediction_error()
def read_map(
    path: Path, size: int, stretch: bool = False, tops: Mapping[int, int] | None = None
) -> np.ndarray:
    """One sample's soft map or mask.

    Parameters
    ----------
    path : Path
    size : int
    stretch : bool
        Stretch the map to 0 … 1 over the image, as TACO's own maps are (`taco.metrics.min_max`).
    tops : mapping, optional
        `grey_tops` of the whole folder, so that a faint map among others is told from numbers of another range. By
        default the file must tell by itself.

    Returns
    -------
    float32 [size, size]; 0 … 1, or a little beyond where a map was resized bicubically

    Raises
    ------
    PredictionError
        for another shape, values that are not finite or out of range, numbers whose range cannot be told, or a file that
        cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        record = _json(path)
        record = record.get("segmentation", record) if isinstance(record, Mapping) else record
        scores = _runs(path, record, size).astype(np.float32)
    elif suffix == ".npy":
        scores = _array_scores(path, _array(path, size))
    else:
        values, full = _grey(path, size)
        top = (tops or {}).get(full, int(values.max()))
        if not stretch:
            _require_range(path, top, full)
        scores = (values / np.float32(full)).astype(np.float32)
    if not np.isfinite(scores).all():
        raise PredictionError(f"{path}: expected finite values, found NaN or infinity")
    if stretch:
        return metrics.min_max(scores)
    if scores.min() < LOWEST_SCORE or scores.max() > HIGHEST_SCORE:
        raise PredictionError(
            f"{path}: expected a map in 0 … 1, found [{scores.min():.4g}, {scores.max():.4g}]: "
            "rescale the maps, or let --stretch stretch each one over its image"
        )
    return scores


@_as_prediction_error()
def grey_tops(paths: Iterable[Path], size: int) -> dict[int, int]:
    """The greatest value among a folder's pictures of 8 and of 16 bits, as far as it takes to tell their range."""
    tops: dict[int, int] = {}
    for path in paths:
        full = FULL_16 if pictures.png_bits(path) == 16 else FULL_8
        if path.suffix.lower() == ".png" and not _tells_range(tops.get(full, 0), full):
            values, full = _grey(path, size)
            tops[full] = max(tops.get(full, 0), int(values.max()))
    return tops


def _tells_range(top: int, full: int) -> bool:
    return top > 1 if full == FULL_8 else top >= pictures.LEAST_DEEP


def _require_range(path: Path, top: int, full: int) -> None:
    """Refuse numbers that use the least part of their range: 0 and 1 in 8 bits, 8-bit values in 16."""
    if full > 1 and top and not _tells_range(top, full):
        few = "0 and 1 only: write a mask as 0 and 255, or with 1 bit"
        found = few if top == 1 else f"0 … {top}, which are of fewer bits: write the maps with 8 bits"
        raise PredictionError(f"{path}: expected grey values 0 … {full}, found {found}")


def _array_scores(path: Path, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind in "bf":
        with np.errstate(over="ignore"):
            return values.astype(np.float32)
    if values.min() < 0 or values.max() > 1:
        raise PredictionError(
            f"{path}: expected floats, bool or 0 and 1, found {values.dtype} in {values.min()} … {values.max()}: "
            "divide by the greatest possible value"
        )
    return values.astype(np.float32)


def _grey(path: Path, size: int) -> tuple[np.ndarray, int]:
    """Levels of a picture [size, size], and the level that stands for 1; a mask in a colour of its own has levels 0 and 1."""
    image = _picture(path, size)
    mask, count = pictures.foreground(image, path)  # refuses what transparency contradicts
    if image.mode in pictures.DEEP_GREY:
        return pictures.deep_levels(image, path), FULL_16
    colours = pictures.mask_colours(image, path)
    if image.mode == "1":
        return (colours[..., 0] > 0).astype(np.int32), 1
    if (colours == colours[..., :1]).all():
        return colours[..., 0].astype(np.int32), FULL_8
    if count > 1:
        raise PredictionError(f"{path}: expected grey levels, or one colour on black, found {count} colours")
    return mask.astype(np.int32), 1


@_as_prediction_error()
def read_ids(path: Path, size: int, names: int) -> np.ndarray:
    """One sample's class ids.

    Parameters
    ----------
    path : Path
    size : int
    names : int
        Ids run from 0 to ``names - 1``.

    Returns
    -------
    int64 [size, size]

    Raises
    ------
    PredictionError
        as `read_map`, and for ids that are none.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _paint(path, _json(path), size, names)
    ids = _array(path, size) if suffix == ".npy" else _picture_ids(path, size, names)
    if ids.dtype.kind not in "uib":
        raise PredictionError(f"{path}: expected whole numbers (a class id per pixel), found {ids.dtype}")
    if ids.min() < 0 or ids.max() >= names:
        raise PredictionError(f"{path}: expected class ids 0 … {names - 1}, found {ids.min()} … {ids.max()}")
    return ids.astype(np.int64)


def _picture_ids(path: Path, size: int, names: int) -> np.ndarray:
    image = _picture(path, size)
    _, count = pictures.foreground(image, path)  # refuses what transparency contradicts
    if image.mode == "1" or image.mode in pictures.DEEP_GREY:
        return np.asarray(image).astype(np.int32)
    if image.mode == "L":
        scale = FULL_8 // (2 ** image.info["bits"] - 1)  # Pillow's, for grey of 2 and 4 bits
        return np.asarray(image) // np.uint8(scale)
    if image.mode == "P":
        return _palette_ids(path, np.asarray(image), pictures.rgb(image, path), names)
    raise PredictionError(
        f"{path}: expected grey values or a palette (class ids), found {image.mode} of {count} colours"
    )


def _palette_ids(path: Path, indices: np.ndarray, colours: np.ndarray, names: int) -> np.ndarray:
    """Ids of a palette's colours, where they say which is meant: PASCAL VOC's, or grey levels."""
    used, first, inverse = np.unique(indices, return_index=True, return_inverse=True)
    found, voc = colours.reshape(-1, 3)[first], avss.palette(256)
    grey = (found == found[:, :1]).all()
    if (found == voc[used]).all():
        return indices
    if grey:
        return found[inverse.reshape(indices.shape), 0]
    places = [np.flatnonzero((voc[:names] == colour).all(axis=1)) for colour in found]
    if all(len(place) for place in places):
        return np.array([place[0] for place in places])[inverse.reshape(indices.shape)]
    raise PredictionError(
        f"{path}: expected a palette of grey levels or of PASCAL VOC's colours (each stands for its class id), found "
        "others, so that an index may be any class: write the ids as 8-bit grey"
    )


def _paint(path: Path, records: Any, size: int, names: int) -> np.ndarray:
    if not isinstance(records, list) or any(
        not isinstance(r, Mapping) or {"category_id", "segmentation"} - set(r) for r in records
    ):
        raise PredictionError(
            f'{path}: expected a list of {{"category_id": …, "segmentation": {{"size": …, "counts": …}}}}'
        )
    ids = np.zeros((size, size), dtype=np.int64)
    for record in records:
        number = _category(path, record["category_id"], names)
        mask = _runs(path, record["segmentation"], size)
        if (ids[mask] != 0).any():
            raise PredictionError(f"{path}: the masks of two categories overlap; a pixel has one class")
        ids[mask] = number
    return ids


def _category(path: Path, value: Any, names: int) -> int:
    try:
        number = whole(value)
    except ValueError as error:
        raise PredictionError(f"{path}: category_id: {error}") from error
    if not 0 <= number < names:
        raise PredictionError(f"{path}: expected class ids 0 … {names - 1}, found {number}")
    return number


# ------------------------------------------------------------------------------------ whole files


def _picture(path: Path, size: int) -> Image.Image:
    image = pictures.open_image(path)
    if "bits" not in image.info:
        raise PredictionError(f"{path}: expected a readable .png file, found an image of another format")
    _check_shape(path, (image.height, image.width), size)
    return image


def _array(path: Path, size: int) -> np.ndarray:
    """The array [size, size] of a .npy file: bool, whole numbers or floats."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)  # so that a header alone takes no memory
    except Exception as error:  # numpy raises ValueError, OSError, EOFError, SyntaxError, …
        raise PredictionError(f"{path}: expected a readable .npy file, found: {reason(error)}") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        raise PredictionError(
            f"{path}: expected an array of numbers, found {getattr(values, 'dtype', 'an archive')}"
        )
    _check_shape(path, values.shape, size)
    return np.array(values)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise PredictionError(f"{path}: expected a readable .json file, found: {reason(error)}") from error


def _runs(path: Path, record: Any, size: int) -> np.ndarray:
    try:
        return mask_of_runs(record, (size, size))
    except ValueError as error:
        raise PredictionError(f"{path}: {error}") from error


def _check_shape(path: Path, shape: tuple[int, ...], size: int) -> None:
    if shape != (size, size):
        raise PredictionError(
            f"{path}: expected shape [{size}, {size}] (evaluation.size; images are squashed to a square), found "
            f"{list(shape)}: resize the predictions"
        )
