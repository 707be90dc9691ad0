"""A made-up model that answers at once, and its answers."""

from pathlib import Path

import numpy as np
import yaml

from taco.data import photos, recordings
from taco.segmenting.answer import Factor, Segmentation, Word

ROOT = Path(__file__).resolve().parents[2]


def make_answer(image=None, visible=True, **changes):
    """Two factors, the second chosen; the mask is the left half."""
    image = np.arange(1800).reshape(20, 30, 3).astype(np.uint8) if image is None else image
    rng = np.random.default_rng(0)
    soft = np.linspace(1, 0, image.shape[1], dtype=np.float32)[None].repeat(len(image), axis=0)
    words = (Word("guitar", 0.41, 0.8), Word("<harp>", 0.3, 0.7))
    factors = tuple(
        Factor(
            value,
            rng.random((4, 4)).astype(np.float32),
            rng.random((2, 8)).astype(np.float32),
            words[::step],
            words,
        )
        for value, step in ((5.5, -1), (5.25, 1))
    )
    known = {
        "image": image, "mask": (soft > 0.5) & visible, "map": soft, "confidence": 0.7, "visible": visible, "chosen": 1,
        "factors": factors, "seed": 0, "wave": rng.uniform(-0.5, 0.5, 16000).astype(np.float32), "rate": 16000,
        "sound": {"heard": "all of 1.00 s"}, "timings": {"features": 0.1},
        "about": {
            "suite": "miniature", "method": "TACO", "mask_threshold": 0.5, "confidence_threshold": 0.01,
            "word_bank": {"count": 2, "digest": "w"}, "models": {}, "versions": {},
        },
    }  # fmt: skip
    return Segmentation(**known | changes)


class Instant:
    """Stands in for a `Segmenter`: reads the files, and answers without a look at them."""

    def __init__(self):
        self.config = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
        self.about = make_answer().about
        self.calls = 0

    def settings(self, temporal=False):
        return {"beta_temporal": float(temporal)}

    def segment(self, image, sound, *, seeds=None, segmenter=True):
        self.calls += 1
        recordings.hear(sound, 16000, 16000)
        return make_answer(photos.upright(image))

    def segment_video(self, path, *, fps=None, seeds=None, segmenter=True):
        from taco.data import video

        self.calls += 1
        for frame in video.frames(path, fps):
            yield make_answer(frame.image, visible=frame.number > 0, time=frame.time)
