"""The shipped methods answer as they say: the one by the heard class, the other without listening."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from taco.method import contributed

FOLDER = Path(__file__).parent


def sample(kind="binary"):
    """Left half looks like class 0, right half like class 1; class 1 is heard."""
    tokens = np.zeros((4, 4, 3), dtype=np.float32)
    tokens[:, :2, 0], tokens[:, 2:, 1] = 1, 1
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    image[10:16, 24:30] = 255
    return contributed.Sample(
        key="toy/0",
        task="s4" if kind == "binary" else "avss",
        kind=kind,
        image=image,
        sound=np.zeros(100, dtype=np.float32),
        rate=100,
        classes=("bell", "drum"),
        first_id=1,
        seed=0,
        features=contributed.Features(
            image_tokens=tokens,
            audio_tokens=np.zeros((2, 3), dtype=np.float32),
            sound_embedding=np.array([0, 2, 0], dtype=np.float32),
            class_image=np.eye(3, dtype=np.float32)[:2],
            class_sound=np.eye(3, dtype=np.float32)[:2],
        ),
    )


def answer(name, given):
    method = contributed.load(name, str(FOLDER / f"{name}.py"), {}, "cpu")
    return contributed.finish(name, given, method.predict(given, method.state), 40)


def test_dense_clip_marks_what_looks_like_the_class_that_is_heard():
    found = answer("dense_clip", sample())
    assert found[:, 28:].min() > 0.9 and found[:, :12].max() < 0.1


def test_dense_clip_names_the_class_where_it_is_the_closest():
    found = answer("dense_clip", sample("semantic"))
    assert (found[:, 20:] == 2).all() and (found[:, :20] == 0).all()


def test_saliency_finds_what_stands_out_and_never_listens():
    found = answer("saliency", sample())
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert 6 <= row < 20 and 20 <= column < 34
    louder = replace(sample(), sound=np.ones(100, dtype=np.float32), features=None)
    np.testing.assert_array_equal(answer("saliency", louder), found)
