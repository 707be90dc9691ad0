"""What figures and gallery show of each sample, kept while it is scored (`taco.figures.examples` reads it).

A cache of kind ``examples`` for each task and shard holds of a sample

======================  ============================================================================
``prediction``          TACO, first seed, default bank: soft map as uint8 (255 = 1), or class ids int16
``truth``               bool, or class ids int16, at the resolution of the scores
``image_activation``    float16 [rows, columns]: U_I of factor k*
``audio_activation``    float16 [T]: U_A of factor k*
``image_factors``       float32 [K, C_I]: V_I
``cross_entropy``       float32 [K]; ``k_star`` int32
======================  ============================================================================

and all but the truth again under ``shuffled/``: the same image with another clip's sound. ``contributed/0`` … are the
predictions of contributed methods, first seed, in the order of the attribute ``contributed``, their labels.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from taco.cache.hdf5 import CacheWriter
from taco.method.contributed import DETERMINISTIC, VARIANT
from taco.method.evaluate import Prediction, Sample
from taco.method.stored import StoredRun


class ExampleWriter:
    """Keep the examples of a task's shard.

    Parameters
    ----------
    path : str or Path
    samples : sequence of str
        Sample ids, in the order in which they are scored.
    runs : mapping
        Prefix of the kept arrays ("" or ``shuffled/``) to the run that they show.
    others : sequence of str
        Labels of the contributed methods that answer.
    attributes : mapping
        ``task``, ``dataset``, ``bank``, digests.
    """

    def __init__(
        self,
        path: str | Path,
        samples: Sequence[str],
        runs: Mapping[str, StoredRun],
        others: Sequence[str],
        attributes: Mapping[str, Any],
    ):
        seeds = {run.cache.attributes["seeds"][0] for run in runs.values()}
        self._seed = seeds.pop()
        self._runs = {(run.label, run.bank): (prefix, run) for prefix, run in runs.items()}
        self._others = list(others)
        told = {**attributes, "seed": self._seed, "contributed": self._others}
        self._writer = CacheWriter(path, "examples", samples, told)

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.__exit__(*error)

    def truth(self, index: int, truth: np.ndarray) -> None:
        """Keep a sample's truth."""
        self._writer.put("truth", index, truth if truth.dtype == bool else truth.astype(np.int16))

    def answer(self, index: int, answer: Prediction, sample: Sample) -> None:
        """Keep an answer, where it is one that is shown."""
        if answer.variant == VARIANT and answer.seed in (self._seed, DETERMINISTIC):
            number = self._others.index(answer.method)
            self._writer.put(f"contributed/{number}", index, _compact(answer.scores))
        shown = answer.method == "TACO" and answer.seed == self._seed
        prefix, run = self._runs.get((answer.variant, answer.bank), ("", None)) if shown else ("", None)
        if run is None:
            return
        place = run.cache.position(sample.key.split("/", 1)[1])
        stored = {
            name: run.cache[name][place][0]
            for name in ("image_activations", "audio_activations", "image_factors", "cross_entropy")
        }
        arrays = {
            "prediction": _compact(answer.scores),
            "image_activation": stored["image_activations"][:, answer.k_star].reshape(sample.grid),
            "audio_activation": stored["audio_activations"][:, answer.k_star],
            "image_factors": stored["image_factors"],
            "k_star": np.int32(answer.k_star),
            "cross_entropy": stored["cross_entropy"],
        }
        for name, value in arrays.items():
            self._writer.put(f"{prefix}{name}", index, value)


def _compact(scores: np.ndarray) -> np.ndarray:
    """A soft map in 0..1 as uint8 (bicubic overshoot cut off); class ids as int16."""
    if scores.dtype.kind == "f":
        return np.rint(255 * scores.clip(0, 1)).astype(np.uint8)
    return scores.astype(np.int16)
