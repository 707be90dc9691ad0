"""A segmented video, written frame by frame as its answers come."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from taco.data import video
from taco.runtime import atomic_write
from taco.segmenting.answer import MAP, MASK, OVERLAY, Segmentation, write_arrays, write_record

FRAMES, FILM = "frames", "overlay.mp4"
OF_FRAME = ("time", "visible", "confidence", "words", "heard", "factor", "cross_entropy", "margin", "seed")


def save(
    answers: Iterable[Segmentation], source: str | Path, folder: str | Path, fps: float, request: str = ""
) -> dict[str, Any]:
    """Write ``overlay.mp4`` with the sound, ``frames/NNNN-{mask.png,overlay.png,map.npy}`` and, last, ``result.json``.

    Parameters
    ----------
    answers : iterable of Segmentation
        In the order of time; each is written before the next one is asked for.
    source : str or Path
        The video.
    folder : str or Path
    fps : float
        Frames a second.
    request : str
        See `Segmentation.save`.

    Returns
    -------
    dict
        What ``result.json`` holds.
    """
    folder = Path(folder)
    (folder / FRAMES).mkdir(parents=True, exist_ok=True)
    records, names, about = [], [FILM], {}
    with atomic_write(folder / FILM) as path, video.Writer(path, fps, source) as film:
        for number, answer in enumerate(answers):
            prefix = f"{number:04d}-"
            write_arrays(answer, folder / FRAMES, prefix)
            names += [f"{FRAMES}/{prefix}{name}" for name in (MASK, OVERLAY, MAP)]
            film.add(answer.overlay)
            records.append({name: value for name, value in answer.record().items() if name in OF_FRAME})
            about = answer.about
    record = {"fps": fps, **summary(records), **about, "request": request, "frames": records}
    write_record(folder, record, tuple(names))
    return record


def summary(frames: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Whether anything heard is visible in any frame, and how many frames there are."""
    seen = sum(frame["visible"] for frame in frames)
    return {"visible": seen > 0, "visible_frames": seen, "count": len(frames)}
