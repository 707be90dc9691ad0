"""The shipped examples are what the world's code writes, and small."""

from pathlib import Path

import numpy as np
from PIL import Image

from taco.data import video
from taco.miniature import pairs

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_shipped_pair_and_clip_are_those_that_are_written(tmp_path):
    image, sound, clip = pairs.write(tmp_path)
    assert {path.name for path in EXAMPLES.iterdir()} >= {path.name for path in (image, sound, clip)}
    np.testing.assert_array_equal(np.array(Image.open(image)), np.array(Image.open(EXAMPLES / image.name)))
    assert sound.read_bytes() == (EXAMPLES / sound.name).read_bytes()
    written, shipped = (list(video.frames(folder / clip.name, 1)) for folder in (tmp_path, EXAMPLES))
    assert len(written) == len(shipped) == 5
    for one, other in zip(written, shipped, strict=True):
        assert np.abs(one.image.astype(int) - other.image).mean() < 3


def test_they_are_small():
    assert sum(path.stat().st_size for path in EXAMPLES.iterdir()) < 220_000
