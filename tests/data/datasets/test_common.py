"""What the readers share: resizing of truth as the release does it, names that stay inside their folder."""

import numpy as np
import pytest
import trees

from taco.data import manifest
from taco.data.datasets import common

SHAPES = [
    ((7, 12), 5),
    ((12, 7), 30),
    ((9, 9), 9),
    ((1, 4), 3),
    ((6, 5), 1),
    ((720, 1280), 224),
    ((447, 223), 224),
]


@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_resizing_agrees_with_torch(shape, size):
    import torch  # here alone, and slow to import

    values = np.random.default_rng(0).integers(0, 3000, shape)
    tensor = torch.from_numpy(values)[None, None].float()
    for resize, options in (
        (common.resize_bilinear, {"mode": "bilinear", "align_corners": True}),
        (common.resize_floor, {"mode": "nearest"}),
        (common.resize_nearest, {"mode": "nearest-exact"}),
    ):
        expected = torch.nn.functional.interpolate(tensor, (size, size), **options)[0, 0].numpy()
        np.testing.assert_allclose(resize(values, size), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["../out", "/etc/passwd", "a/../../b", "..", "", "a\\b", "C:/x", "a\nb", "./a", "a//b"]
)
def test_names_that_leave_the_folder_are_refused(name):
    with pytest.raises(ValueError, match="no path inside the dataset"):
        common.inside("root", "frames", name)


def test_names_inside_are_kept_as_they_are():
    assert common.inside("root", "sub/-x $(y).png", "née") == "root/sub/-x $(y).png/née"
    for name in ("a\u00a0b", "a\u200db", "\u0939\u0928\u094d\u200d", "\u3042\u3000"):
        assert common.inside("root", name) == f"root/{name}"


@pytest.mark.parametrize("name", ["a\u00a0b", "\u00a0ab\u00a0", "a\u200db", "🧑\u200d🎤"])
def test_clips_with_unusual_names_are_read(tmp_path, name):
    dataset = trees.s4(tmp_path, clips=((name, "cat", "test"),))
    frame = manifest.build(dataset)
    manifest.check(frame, dataset)
    assert frame["clip_id"].unique().tolist() == [name]
