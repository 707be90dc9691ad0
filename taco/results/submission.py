"""Score anyone's masks or maps with the metrics of the tables: one file per sample, named by its sample id.

Files, all of the side [size, size] at which the suite compares maps and truth (``evaluation.size``):

=====  ======================================  =======================================================
kind   binary tasks (s4, ms3, ade_sp)          semantic tasks (avss, ade_sp_semantic)
=====  ======================================  =======================================================
.png   grey, 8 or 16 bits: 0 … full = 0 … 1;   grey or palette: a class id per pixel
       1 bit: a mask
.npy   float map in 0 … 1, bool or 0/1 mask    whole numbers: a class id per pixel
.json  a mask in COCO's run-length encoding,   a list of {"category_id": id, "segmentation": mask},
       {"size": [H, W], "counts": …}           which must not overlap; the rest is 0
=====  ======================================  =======================================================

Class ids are those of `taco.data.datasets.read_mask`: 0 is background; AVSS counts it among its labels.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as coco
from tqdm import tqdm

from taco import metrics, runtime
from taco.data import datasets
from taco.metrics.tasks import TASKS
from taco.results import aggregate, tables

SUFFIXES = (".png", ".npy", ".json")
VARIANT = "submitted"
# Bicubic interpolation (a = -0.75) of values in 0 … 1 stays within these.
LOWEST_SCORE, HIGHEST_SCORE = -0.5, 1.5
LISTED = 5


class PredictionError(ValueError):
    """Predictions that cannot be scored: says which files, what was expected, and what to do."""


def find(folder: str | Path, sample_ids: list[str]) -> dict[str, Path]:
    """Files of the samples, one each.

    Parameters
    ----------
    folder : path
        Searched with its subfolders; hidden files are passed over. A file's name without its ending is its sample id.
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
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
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


def read_map(path: Path, size: int, stretch: bool = False) -> np.ndarray:
    """One sample's soft map or mask.

    Parameters
    ----------
    path : Path
    size : int
    stretch : bool
        Stretch the map to 0 … 1 over the image, as TACO's own maps are (`taco.metrics.min_max`).

    Returns
    -------
    float32 [size, size]; 0 … 1, or a little beyond where a map was resized bicubically

    Raises
    ------
    PredictionError
        for another shape, values that are not finite or out of range, or an unreadable file.
    """
    values = _load(path)
    if isinstance(values, np.ndarray):
        scores = _scores(path, values)
    else:
        record = values.get("segmentation", values) if isinstance(values, Mapping) else values
        scores = _decode(path, record).astype(np.float32)
    _check_shape(path, scores, size)
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


def _scores(path: Path, values: np.ndarray) -> np.ndarray:
    """Values of an array or picture as float32, whole numbers by the range of their type."""
    if values.dtype == bool or values.dtype.kind == "f":
        return values.astype(np.float32)
    picture = path.suffix.lower() == ".png"
    full = np.iinfo(values.dtype).max if picture else 1
    if values.dtype.kind not in "ui" or values.min() < 0 or (not picture and values.max() > 1):
        raise PredictionError(
            f"{path}: expected floats, bool or 0 and 1, found {values.dtype} in {values.min()} … {values.max()}: "
            "divide by the greatest possible value"
        )
    if picture and values.max() == 1:
        raise PredictionError(
            f"{path}: expected grey values 0 … {full}, found 0 and 1 only: write a mask as 0 and {full}, or with 1 bit"
        )
    return (values / np.float32(full)).astype(np.float32)


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
    """
    values = _load(path)
    ids = values if isinstance(values, np.ndarray) else _paint(path, values, size)
    if ids.dtype.kind not in "uib":
        raise PredictionError(f"{path}: expected whole numbers (a class id per pixel), found {ids.dtype}")
    _check_shape(path, ids, size)
    if ids.min() < 0 or ids.max() >= names:
        raise PredictionError(f"{path}: expected class ids 0 … {names - 1}, found {ids.min()} … {ids.max()}")
    return ids.astype(np.int64)


def _paint(path: Path, records: Any, size: int) -> np.ndarray:
    if not isinstance(records, list) or any(
        not isinstance(r, Mapping) or {"category_id", "segmentation"} - set(r) for r in records
    ):
        raise PredictionError(
            f'{path}: expected a list of {{"category_id": …, "segmentation": {{"size": …, "counts": …}}}}'
        )
    ids = np.zeros((size, size), dtype=np.int64)
    for record in records:
        mask = _decode(path, record["segmentation"])
        _check_shape(path, mask, size)
        if (ids[mask] != 0).any():
            raise PredictionError(f"{path}: the masks of two categories overlap; a pixel has one class")
        ids[mask] = int(record["category_id"])
    return ids


def _load(path: Path) -> Any:
    """An array (.npy, .png) or the content of a .json file."""
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix.lower() == ".json":
            return json.loads(path.read_text(encoding="utf-8"))
        with Image.open(path) as image:
            if image.mode not in ("1", "L", "P", "I", "I;16"):
                raise PredictionError(f"{path}: expected one grey channel, found mode {image.mode}")
            values = np.asarray(image)
    except (OSError, ValueError, EOFError, UnidentifiedImageError) as error:
        if isinstance(error, PredictionError):
            raise
        raise PredictionError(f"{path}: expected a readable {path.suffix} file, found: {error}") from error
    # 16-bit grey is read as int32 by some versions of Pillow.
    return values.astype(np.uint16) if values.dtype == np.int32 else values


def _decode(path: Path, record: Any) -> np.ndarray:
    """A mask in COCO's run-length encoding, bool [H, W]."""
    try:
        height, width = (int(side) for side in record["size"])
        counts = record["counts"]
        plain = {"size": [height, width], "counts": counts}
        packed = coco.frPyObjects(plain, height, width) if isinstance(counts, list) else plain
        total = int(sum(counts)) if isinstance(counts, list) else height * width
        mask = coco.decode(packed).astype(bool)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise PredictionError(
            f'{path}: expected {{"size": [H, W], "counts": …}}, found: {type(error).__name__}: {error}'
        ) from error
    if total != height * width:
        raise PredictionError(f"{path}: expected counts of {height * width} pixels, found {total}")
    return mask


def _check_shape(path: Path, values: np.ndarray, size: int) -> None:
    if values.shape != (size, size):
        raise PredictionError(
            f"{path}: expected shape [{size}, {size}] (evaluation.size; images are squashed to a square), found "
            f"{list(values.shape)}: resize the predictions"
        )


def score(
    frame: pd.DataFrame,
    dataset: Mapping[str, Any],
    folder: str | Path,
    *,
    task: str,
    method: str,
    size: int,
    stretch: bool = False,
    conventions: aggregate.Conventions = aggregate.PAPER,
) -> pd.DataFrame:
    """Score a folder of predictions as one deterministic method.

    Parameters
    ----------
    frame : DataFrame
        The dataset's manifest.
    dataset : mapping
        What the manifest was built from.
    folder : path
    task : str
        A key of `taco.metrics.tasks.TASKS`.
    method : str
        Its name in the tables.
    size : int
        Side in pixels at which maps and truth are compared.
    stretch : bool
        See `read_map`.
    conventions : taco.results.aggregate.Conventions
        Those of the tables beside which the rows stand.

    Returns
    -------
    DataFrame of `taco.results.aggregate.summarise`: every metric of the task, fractions
    """
    files = find(folder, frame["sample_id"].tolist())
    semantic = TASKS[task].kind == "semantic"
    names = datasets.class_names(dataset) if semantic else []
    # Background is a class of AVSS (id 0); elsewhere ids count from 1 and 0 is none.
    first_id = 0 if names[:1] == ["background"] else 1
    name = dataset["name"]
    cell = {"method": method, "variant": VARIANT, "word_bank": tables.NO_BANK, "seed": -1}
    rows, pools = [], {}
    for record in tqdm(frame.to_dict("records"), desc=f"{task}: scores"):
        path, class_name = files[record["sample_id"]], ", ".join(record["classes"])
        truth = datasets.read_mask(record, dataset, size, "semantic" if semantic else "binary")
        identity = {"task": task, "dataset": name, "class_name": class_name, **cell}
        if semantic:
            ids = read_ids(path, size, first_id + len(names))
            counts = metrics.semantic_row(ids, truth, len(names), first_id)
        else:
            scores = read_map(path, size, stretch)
            counts = metrics.binary_row(scores, truth)
            if TASKS[task].kind == "pooled":
                pools.setdefault(class_name, (identity, metrics.ScorePool()))[1].update(scores, truth)
        rows.append({**identity, **{key: record[key] for key in ("sample_id", "clip_id")}, **counts})
    pooled = pd.DataFrame([{**identity, **pool.to_row()} for identity, pool in pools.values()])
    return aggregate.summarise(pd.DataFrame(rows), pooled, conventions)


def table(summary: pd.DataFrame, suite: str) -> tuple[pd.DataFrame, tables.TableSpec]:
    """The scores of `score` as a long table with the columns of the other tables, and its form."""
    task, method = summary["task"].iloc[0], summary["method"].iloc[0]
    wanted = ("mIoU", "mAP") if TASKS[task].kind == "pooled" else tuple(summary["metric"])
    columns = tuple((task, metric) for metric in wanted)
    row = tables.Row(method, VARIANT, tables.NO_BANK)
    title = f"{method} on {TASKS[task].title}"
    spec = tables.TableSpec("submission", title, columns, (row,))
    return tables.build(summary, spec, None, suite), spec


def own_rows(folder: str | Path, spec: tables.TableSpec) -> pd.DataFrame:
    """Rows of the suite's own tables for the same task and metrics; empty where there are none yet."""
    title = TASKS[spec.columns[0][0]].title
    wanted = {metric for _, metric in spec.columns}
    frames = [pd.read_csv(path, keep_default_na=True) for path in sorted(Path(folder).glob("table[1-5].csv"))]
    if not frames:
        return pd.DataFrame(columns=list(tables.COLUMNS))
    frame = pd.concat(frames, ignore_index=True)
    frame = frame[(frame["dataset"] == title) & frame["metric"].isin(wanted) & frame["mean"].notna()]
    frame["word_bank"] = frame["word_bank"].fillna(tables.NO_BANK)
    return frame.drop_duplicates(["method", "variant", "word_bank", "metric"])


def write(frame: pd.DataFrame, path: str | Path) -> None:
    """Add a submission's rows to a CSV; earlier rows of the same method and dataset are replaced."""
    path = Path(path)
    if path.exists():
        before = pd.read_csv(path, keep_default_na=False, na_values=[""])
        if list(before.columns) != list(frame.columns):
            raise PredictionError(
                f"{path}: expected a table of submissions, found other columns; name another file"
            )
        same = (before["method"] == frame["method"].iloc[0]) & (before["dataset"] == frame["dataset"].iloc[0])
        frame = pd.concat([before[~same], frame], ignore_index=True) if (~same).any() else frame
    path.parent.mkdir(parents=True, exist_ok=True)
    with runtime.atomic_write(path) as partial:
        frame.to_csv(partial, index=False, lineterminator="\n")
