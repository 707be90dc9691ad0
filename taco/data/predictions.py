"""Predictions kept beside their scores, compactly: masks in COCO's run-length encoding, or maps as 8-bit pictures.

``evaluation.keep_predictions`` adds the column `COLUMN` to the score rows. Its bytes are files as `taco.results.submission`
reads them (.json for masks, .png for maps), so that `export` gives a folder that ``taco score`` takes.
"""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from pycocotools import mask as coco

COLUMN = "prediction"
KINDS = {"masks": ".json", "maps": ".png"}
THRESHOLD = 0.5
"""A soft map's mask holds the pixels above this share of its range; scores themselves use many thresholds."""


class NoPredictionsError(ValueError):
    """Score rows hold no such predictions: says which were asked for and which there are."""


def encode(scores: np.ndarray, keep: str) -> bytes:
    """One prediction as the bytes of a file.

    Parameters
    ----------
    scores : float [H, W] or int [H, W]
        A soft map (or mask) in 0 … 1, or class ids 0 … 255.
    keep : {"masks", "maps"}

    Returns
    -------
    bytes
        masks: JSON; a map becomes ``scores > THRESHOLD``, class ids one mask each, 0 left out. maps: PNG; a map is
        rounded to 1/255 and cut to 0 … 1, class ids are kept as they are.

    Examples
    --------
    >>> encode(np.array([[0.2, 0.9]]), "masks")
    b'{"size": [1, 2], "counts": "11"}'
    """
    scores = np.asarray(scores)
    semantic = scores.dtype.kind in "iu"
    if keep == "masks":
        record = (
            [
                {"category_id": int(c), "segmentation": _run_lengths(scores == c)}
                for c in np.unique(scores)
                if c
            ]
            if semantic
            else _run_lengths(scores > THRESHOLD)
        )
        return json.dumps(record).encode()
    if keep != "maps":
        raise ValueError(f"keep must be one of {', '.join(KINDS)}, not {keep!r}")
    if semantic and scores.max() > 255:
        raise ValueError(f"class ids must fit into 8 bits, found {scores.max()}; keep masks")
    values = scores if semantic else np.rint(np.clip(scores, 0, 1) * 255)
    stream = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _run_lengths(mask: np.ndarray) -> dict:
    packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in packed["size"]], "counts": packed["counts"].decode("ascii")}


def mask_of_runs(record: Any, shape: tuple[int, int]) -> np.ndarray:
    """A mask from COCO's run-length encoding, ``{"size": [H, W], "counts": …}``.

    pycocotools trusts its input: runs that end early leave the pixels beyond to whatever the memory held, and runs that end
    late are written beyond the mask. Here their sum is known before a pixel is written.

    Parameters
    ----------
    record : Any
        Whatever a JSON file held.
    shape : (int, int)
        The height and width that the mask must have.

    Returns
    -------
    bool [H, W]

    Raises
    ------
    ValueError
        for what is no such record, another size, negative runs, or runs of another number of pixels.

    Examples
    --------
    >>> mask_of_runs({"size": [2, 2], "counts": [1, 2, 1]}, (2, 2)).astype(int).tolist()
    [[0, 1], [1, 0]]
    """
    if not isinstance(record, dict) or not {"size", "counts"} <= set(record):
        raise ValueError('expected {"size": [H, W], "counts": …}')
    size, counts = record["size"], record["counts"]
    if not isinstance(size, list) or [whole(side) for side in size] != list(shape):
        raise ValueError(f"expected the size {list(shape)}, found {size}")
    runs = _runs_of_text(counts) if isinstance(counts, str) else [whole(count) for count in _listed(counts)]
    pixels = shape[0] * shape[1]
    if min(runs, default=0) < 0 or sum(runs) != pixels:
        found = f"a run of {min(runs)}" if min(runs, default=0) < 0 else f"{sum(runs)}: was the text cut?"
        raise ValueError(f"expected counts of {pixels} pixels, found {found}")
    columns = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(shape[::-1])
    return np.ascontiguousarray(columns.T)


def _listed(counts: Any) -> list:
    if not isinstance(counts, list):
        raise ValueError(f"expected counts as a list or a text, found {counts!r:.50}")  # noqa: TRY004
    return counts


def _runs_of_text(text: str) -> list[int]:
    """Runs of COCO's compressed text.

    A character from "0" on has 6 bits: 5 of a signed number, the lowest first, and whether more follow. From the fourth run
    on, numbers are differences to the run before the last.
    """
    runs, number, shift = [], 0, 0
    for character in text:
        code = ord(character) - ord("0")
        if not 0 <= code < 64 or shift > 60:
            raise ValueError(f"expected compressed counts, found {character!r} after {len(runs)} runs")
        number |= (code & 31) << shift
        shift += 5
        if not code & 32:
            number -= (code & 16) << shift - 4
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number, shift = 0, 0
    if shift:
        raise ValueError("expected compressed counts, found a text that ends within a number")
    return runs


def whole(value: Any) -> int:
    """A whole number of a JSON file, as 2 or 2.0; ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        raise ValueError(f"expected a whole number, found {value!r}")
    return int(value)


def export(paths, folder: str | Path, *, method: str, variant: str, word_bank: str, seed: int) -> int:
    """Write one method's predictions as a file for each sample.

    Parameters
    ----------
    paths : iterable of path
        Score files of one task, scored with ``evaluation.keep_predictions``.
    folder : path
        Made if need be.
    method, variant, word_bank, seed
        The run, as its score rows name it; seed -1 for a deterministic method.

    Returns
    -------
    int, the number of files

    Raises
    ------
    NoPredictionsError
        where predictions were not kept, or no row is of this run.
    """
    folder, written = Path(folder), 0
    wanted = {"method": method, "variant": variant, "word_bank": word_bank, "seed": seed}
    for path in map(Path, paths):
        if not path.is_file():
            raise NoPredictionsError(f"{path}: expected a score file, found none; run the workflow first")
        if COLUMN not in pq.read_schema(path).names:
            raise NoPredictionsError(
                f"{path}: expected predictions, found scores alone; score again with evaluation.keep_predictions"
            )
        filters = [(name, "==", value) for name, value in wanted.items()]
        rows = pq.read_table(path, columns=["sample_id", COLUMN], filters=filters).to_pylist()
        folder.mkdir(parents=True, exist_ok=True)
        for row in rows:
            suffix = KINDS["maps" if row[COLUMN].startswith(b"\x89PNG") else "masks"]
            (folder / f"{row['sample_id']}{suffix}").write_bytes(row[COLUMN])
        written += len(rows)
    if not written:
        raise NoPredictionsError(
            f"no predictions of {wanted}: see the columns of the score files for what there is"
        )
    return written
