"""The page that says why: all factors of a pair."""

from pathlib import Path

from taco.figures import explanation
from taco.runtime import atomic_write
from taco.segmenting.answer import Segmentation, Word


def page(answer: Segmentation, image: str, sound: str) -> str:
    """HTML of a segmentation that needs nothing beside it; ``image`` and ``sound`` are the names to print."""
    rows = [
        explanation.Row(
            number=number,
            chosen=number == answer.chosen + 1,
            cross_entropy=factor.cross_entropy,
            image_activation=factor.image_activation,
            sound_activation=factor.sound_activation,
            seen=_plain(factor.seen),
            heard=_plain(factor.heard),
        )
        for number, factor in enumerate(answer.factors, 1)
    ]
    known = {
        "suite": answer.about["suite"],
        "image": image,
        "sound": sound,
        "heard": answer.sound["heard"],
        "method": answer.about["method"],
        "visible": answer.visible,
        "confidence": answer.confidence,
        "threshold": answer.about["confidence_threshold"],
        "margin": answer.margin,
        "words": answer.about["word_bank"]["count"],
        "seconds": sum(answer.timings.values()),
    }
    return explanation.page(rows, answer.image, answer.overlay, answer.map, answer.wave, answer.rate, known)


def write(answer: Segmentation, path: str | Path, image: str, sound: str) -> None:
    """Write the page, whole or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(page(answer, image, sound), encoding="utf-8")


def _plain(words: tuple[Word, ...]) -> list[tuple[str, float, float]]:
    return [(word.text, word.image, word.sound) for word in words]
