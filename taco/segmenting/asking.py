"""From what people name on the command line to answers in a folder: a pair, a video, or many of them."""

import csv
import json
import logging
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taco import modules, runtime, suites
from taco.data import video
from taco.data.photos import PHOTO_ENDINGS
from taco.data.problems import require_file
from taco.data.recordings import SOUND_ENDINGS
from taco.data.video import VIDEO_ENDINGS
from taco.progress import progress
from taco.segmenting import clips, engine
from taco.segmenting.answer import RESULT, is_answered
from taco.segmenting.engine import Segmenter
from taco.segmenting.words import SegmentError

log = logging.getLogger("taco")

SUMMARY = "summary.csv"
COLUMNS = ("name", "image", "sound", "status", "visible", "confidence", "word", "heard", "error")


@dataclass(frozen=True)
class Question:
    """An image and a sound, or a video (then ``sound`` is None), and the folder of its answer.

    Attributes
    ----------
    image : Path
    sound : Path or None
    name : str or None
        Folder below the output; None where there is but one question.
    """

    image: Path
    sound: Path | None
    name: str | None = None


def questions(inputs: Sequence[Path]) -> list[Question]:
    """What is asked by one path (a video, a folder, a CSV file) or two (an image and a sound).

    Raises
    ------
    SegmentError
        Saying which of these the inputs are not.
    """
    if len(inputs) == 2:
        return [Question(*inputs)]
    if len(inputs) != 1:
        raise SegmentError(
            f"expected an image and a sound, a video, a folder or a CSV file; found {len(inputs)} inputs. Many pairs go "
            "into a folder or a CSV file."
        )
    (path,) = inputs
    if path.is_dir():
        return _of_folder(path)
    if path.suffix.lower() == ".csv":
        return _of_table(path)
    if path.suffix.lower() in PHOTO_ENDINGS:
        raise SegmentError(f"{path}: expected a sound beside the image. Name it behind: IMAGE SOUND.")
    if path.suffix.lower() in SOUND_ENDINGS:
        raise SegmentError(f"{path}: expected an image before the sound. Name both: IMAGE SOUND.")
    return [Question(path, None)]


def _of_folder(folder: Path) -> list[Question]:
    """Files below a folder: videos, and images with a sound of the same name."""
    found: dict[Path, dict[str, list[Path]]] = {}
    for path in sorted(folder.rglob("*")):
        kinds = {"image": PHOTO_ENDINGS, "sound": SOUND_ENDINGS, "video": VIDEO_ENDINGS}
        for kind, endings in kinds.items():
            if path.suffix.lower() in endings and path.is_file():
                found.setdefault(path.with_suffix(""), {}).setdefault(kind, []).append(path)
    asked = []
    for stem, kinds in found.items():
        name = stem.relative_to(folder).as_posix()
        twice = [paths for paths in kinds.values() if len(paths) > 1]
        if twice or ("image" in kinds) != ("sound" in kinds):
            paths = [str(path) for some in kinds.values() for path in some]
            raise SegmentError(
                f"{stem}: expected one image and one sound of this name, found {', '.join(paths)}. Mend the folder, or "
                "list the pairs in a CSV file."
            )
        if "image" in kinds:
            asked.append(Question(kinds["image"][0], kinds["sound"][0], name))
        asked += [
            Question(path, None, path.relative_to(folder).as_posix() if "image" in kinds else name)
            for path in kinds.get("video", ())
        ]
    if not asked:
        raise SegmentError(
            f"{folder}: expected images with sounds of the same names, or videos; found none. "
            "Put photo.jpg beside photo.wav."
        )
    return asked


def _of_table(path: Path) -> list[Question]:
    """Rows of a CSV file with columns image and sound, or video, and perhaps name; paths count from its folder."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows, columns = list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SegmentError(f"{path}: expected a CSV file, found {error}") from None
    if not ({"image", "sound"} <= set(columns) or "video" in columns):
        raise SegmentError(f"{path}: expected columns image and sound, or video; found {', '.join(columns)}.")
    asked = []
    for number, row in enumerate(rows, 2):
        files = {key: path.parent / row[key] for key in ("image", "sound", "video") if row.get(key)}
        if set(files) not in ({"image", "sound"}, {"video"}):
            raise SegmentError(
                f"{path}, line {number}: expected an image and a sound, or a video; found {row}."
            )
        first = files.get("image") or files["video"]
        asked.append(Question(first, files.get("sound"), row.get("name") or f"{number - 1:04d}-{first.stem}"))
    names = [question.name for question in asked]
    double = sorted({name for name in names if names.count(name) > 1})
    if double or not asked:
        raise SegmentError(
            f"{path}: expected rows with names of their own, found {', '.join(double) or 'no row'}."
        )
    for name in names:
        unsafe = Path(name).is_absolute() or ".." in Path(name).parts or not Path(name).parts
        if unsafe or any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name):
            raise SegmentError(f"{path}: expected names of folders below the output, found {name!r}.")
    return asked


def check(question: Question) -> None:
    """Raise `MediaError` for a file that is not there, or a video without picture or sound; reads next to nothing."""
    if question.sound is None:
        video.check(question.image)
        return
    require_file(question.image, "an image", "Correct the path.")
    require_file(question.sound, "a sound", "Correct the path.")


# ------------------------------------------------------------------------------------ answers


def answer(
    question: Question,
    model: Segmenter,
    folder: Path,
    *,
    seeds: Sequence[int] | None,
    segmenter: bool,
    fps: float | None,
    request: str = "",
) -> dict[str, Any]:
    """Answer one question into a folder; returns what ``result.json`` holds."""
    runtime.check_writable(folder)
    check(question)
    if question.sound is None:
        fps = fps or model.config["segment"]["fps"]
        frames = model.segment_video(question.image, fps=fps, seeds=seeds, segmenter=segmenter)
        return clips.save(frames, question.image, folder, fps, request)
    found = model.segment(question.image, question.sound, seeds=seeds, segmenter=segmenter)
    found.save(folder, request)
    return {**found.record(), **found.about}


def answer_all(
    asked: Sequence[Question], model: Segmenter, output: Path, *, quiet: bool, **options: Any
) -> dict[str, Any]:
    """Answer many questions; what is there and right stays, one that fails does not stop the rest.

    Parameters
    ----------
    asked : sequence of Question
    model : Segmenter
    output : Path
        ``<name>/result.json`` for each, and a table, ``summary.csv``.
    quiet : bool
        No bar.
    **options
        ``seeds``, ``segmenter``, ``fps``, as for `answer`.

    Returns
    -------
    dict
        ``answered``, ``kept``, ``failed`` (counts), ``rows`` (of the table).
    """
    runtime.check_writable(output)
    rows, same = [], identity(model, options)
    with progress(len(asked), "segment", unit="pair", disable=quiet) as bar:
        for question in asked:
            rows.append(_row(question, model, output / question.name, options, same))
            bar.update()
    with (
        runtime.atomic_write(output / SUMMARY) as path,
        path.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    counts = {
        status: sum(row["status"] == status for row in rows) for status in ("answered", "kept", "failed")
    }
    return {**counts, "rows": rows}


def identity(model: Segmenter, options: Mapping[str, Any]) -> str:
    """Digest of all that decides an answer beside the files: code, models, words, settings."""
    code = modules.code_digest(engine.__file__, suites.ROOT)
    settings = [model.settings(temporal=True), model.config["segment"], model.config["decoding"]]
    about = [model.about[key] for key in ("suite", "models", "word_bank", "versions")]
    return runtime.digest([code, settings, about, model.config["seed"], model.config["seeds"], dict(options)])


def _row(
    question: Question, model: Segmenter, folder: Path, options: Mapping[str, Any], same: str
) -> dict[str, Any]:
    """Answer one of many, unless its answer is there; a row of the table."""
    row = {"name": question.name, "image": str(question.image), "sound": str(question.sound or "")}
    try:
        files = [path for path in (question.image, question.sound) if path is not None]
        request = runtime.digest([same, [runtime.file_digest(path) for path in files]])
        if is_answered(folder, request):
            record = json.loads((folder / RESULT).read_text(encoding="utf-8"))
            return {**row, "status": "kept", **_told(record)}
        return {
            **row,
            "status": "answered",
            **_told(answer(question, model, folder, request=request, **options)),
        }
    except Exception as error:
        foreseen = isinstance(error, OSError) or type(error).__module__.startswith("taco.")
        message = f"{type(error).__name__}: {error}"
        log.error("%s: %s", question.name, message, exc_info=not foreseen)
        return {**row, "status": "failed", "error": message}


def _told(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the table says of an answer; of a video, its first frame in which something is visible."""
    told = record
    if "frames" in record:
        told = next((frame for frame in record["frames"] if frame["visible"]), record["frames"][0])
    return {
        "visible": record["visible"],
        "confidence": told["confidence"],
        "word": told["words"][0]["word"],
        "heard": told["heard"][0]["word"],
    }


# ------------------------------------------------------------------------------------ in words


def describe(record: Mapping[str, Any]) -> str:
    """Some lines for people on one answer."""
    if "frames" in record:
        lines = [f"{record['visible_frames']} of {record['count']} frames show what is heard."]
        lines += [f"  {frame['time']:7.2f} s  {_line(frame)}" for frame in record["frames"]]
        return "\n".join(lines)
    took = sum(record["seconds"].values())
    return f"{_line(record)}\nHeard: {record['sound']['heard']}. {took:.2f} s."


def _line(record: Mapping[str, Any]) -> str:
    words = ", ".join(f"{word['word']} {word['image']:.2f}" for word in record["words"][:3])
    heard = ", ".join(f"{word['word']} {word['sound']:.2f}" for word in record["heard"][:3])
    seen = "" if record["visible"] else "Nothing that is heard is visible: the mask is empty. "
    return f"{seen}Seen: {words}. Heard: {heard}. Confidence {record['confidence']:.3g}."


def describe_all(record: Mapping[str, Any]) -> str:
    """A line for people on many answers, and one for each failure."""
    failures = [f"  {row['name']}: {row['error']}" for row in record["rows"] if row["status"] == "failed"]
    counts = ", ".join(f"{record[status]} {status}" for status in ("answered", "kept", "failed"))
    return "\n".join([f"{counts}.", *failures])
