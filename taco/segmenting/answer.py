"""What a segmentation gives back, and how it is written to a folder."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from taco.figures.overlay import overlay
from taco.runtime import atomic_write, file_digest

MASK, OVERLAY, MAP, RESULT = "mask.png", "overlay.png", "map.npy", "result.json"


@dataclass(frozen=True)
class Word:
    """A word of the bank and how close a factor comes to it.

    Attributes
    ----------
    text : str
    image, sound : float
        Cosine of the factor's semantic component with the word, in CLIP's and in CLAP's space.
    """

    text: str
    image: float
    sound: float

    def record(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"word": self.text, "image": self.image, "sound": self.sound}


@dataclass(frozen=True)
class Factor:
    """One of the K factors that image and sound share.

    Attributes
    ----------
    cross_entropy : float
        Between the two components' similarities to all words (Sec. 3); the factor of the least one is chosen.
    image_activation : float32 [rows, columns] in (0, 1)
        U_I over the image's tokens.
    sound_activation : float32 [frequency rows, time columns] in (0, 1)
        U_A over the sound's tokens.
    seen, heard : tuple of Word
        Closest words in CLIP's and in CLAP's space, closest first.
    """

    cross_entropy: float
    image_activation: np.ndarray
    sound_activation: np.ndarray
    seen: tuple[Word, ...]
    heard: tuple[Word, ...]


@dataclass(frozen=True)
class Segmentation:
    """What is heard, where it is seen, and why.

    Attributes
    ----------
    image : uint8 [H, W, 3]
        Upright.
    mask : bool [H, W]
        Where the map exceeds its threshold; empty where ``visible`` is False.
    map : float32 [H, W]
        Soft map of the chosen factor, stretched to 0..1 over the image (bicubic resizing may pass that by a little).
    confidence : float
        Greatest value of the map before it was stretched.
    visible : bool
        Whether ``confidence`` reaches the suite's threshold (always, where it has none).
    chosen : int
        Index of the chosen factor, k*.
    factors : tuple of Factor
        All K of them.
    seed : int
        Of the run that is shown: of several, that of least cross-entropy.
    wave : float32 [T]
        What the model heard, at ``rate``.
    rate : int
    sound : dict
        Which part of the recording that is.
    time : float or None
        Seconds from the beginning, in a video.
    timings : dict of str to float
        Seconds of each stage.
    about : dict
        Suite, settings, versions, digests of the models.
    """

    image: np.ndarray
    mask: np.ndarray
    map: np.ndarray
    confidence: float
    visible: bool
    chosen: int
    factors: tuple[Factor, ...]
    seed: int
    wave: np.ndarray
    rate: int
    sound: Mapping[str, Any]
    about: Mapping[str, Any]
    timings: Mapping[str, float] = field(default_factory=dict)
    time: float | None = None

    @property
    def words(self) -> tuple[Word, ...]:
        """Words closest to what the chosen factor shows of the image."""
        return self.factors[self.chosen].seen

    @property
    def heard(self) -> tuple[Word, ...]:
        """Words closest to what the chosen factor takes of the sound."""
        return self.factors[self.chosen].heard

    @property
    def activations(self) -> tuple[np.ndarray, np.ndarray]:
        """U_I [rows, columns, K] and U_A [frequency rows, time columns, K] of all factors."""
        sides = ("image_activation", "sound_activation")
        return tuple(np.stack([getattr(factor, side) for factor in self.factors], axis=-1) for side in sides)

    @property
    def margin(self) -> float:
        """By how much the second-best factor's cross-entropy exceeds the chosen one's."""
        first, *others = sorted(factor.cross_entropy for factor in self.factors)
        return others[0] - first if others else 0.0

    @property
    def overlay(self) -> np.ndarray:
        """The mask over the image, uint8 [H, W, 3]."""
        return overlay(self.image, self.mask)

    def record(self) -> dict[str, Any]:
        """All but the arrays, ready for JSON."""
        chosen = self.factors[self.chosen]
        return {
            "visible": self.visible,
            "confidence": self.confidence,
            "words": [word.record() for word in chosen.seen],
            "heard": [word.record() for word in chosen.heard],
            "factor": self.chosen,
            "cross_entropy": [factor.cross_entropy for factor in self.factors],
            "margin": self.margin,
            "seed": self.seed,
            "mask_share": float(self.mask.mean()),
            "image_size": list(self.mask.shape[::-1]),
            **({} if self.time is None else {"time": self.time}),
            "sound": dict(self.sound),
            "seconds": {name: round(seconds, 4) for name, seconds in self.timings.items()},
        }

    def save(self, folder: str | Path, request: str = "") -> Path:
        """Write ``mask.png``, ``overlay.png``, ``map.npy`` and, last, ``result.json``.

        Parameters
        ----------
        folder : str or Path
            Made if need be.
        request : str
            Kept in the result, so that a later run can tell whether it answers the same question.

        Returns
        -------
        Path
            Of ``result.json``.
        """
        folder = Path(folder)
        write_arrays(self, folder)
        record = {**self.record(), **self.about, "request": request}
        return write_record(folder, record, (MASK, OVERLAY, MAP))


def write_arrays(answer: Segmentation, folder: Path, prefix: str = "") -> None:
    """Write mask, overlay and map into a folder, each whole or not at all."""
    pictures = {MASK: answer.mask.astype(np.uint8) * 255, OVERLAY: answer.overlay}
    for name, pixels in pictures.items():
        with atomic_write(folder / f"{prefix}{name}") as path:
            Image.fromarray(pixels).save(path, format="PNG")
    with atomic_write(folder / f"{prefix}{MAP}") as path, path.open("wb") as stream:
        np.save(stream, answer.map)


def write_record(folder: Path, record: Mapping[str, Any], names: tuple[str, ...]) -> Path:
    """Write ``result.json`` with the digests of the files beside it."""
    files = {name: file_digest(folder / name) for name in names}
    with atomic_write(folder / RESULT) as path:
        text = json.dumps({**record, "files": files}, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
    return folder / RESULT


def is_answered(folder: Path, request: str) -> bool:
    """Whether a folder holds the answer to a request, with every file as it was written."""
    try:
        record = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        same = record["request"] == request
        return same and all(file_digest(folder / name) == seen for name, seen in record["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
