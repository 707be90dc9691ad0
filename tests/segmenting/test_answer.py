"""What is written is what was answered, and a folder tells whether it is."""

import json

import numpy as np
import pytest
from answered import make_answer
from PIL import Image

from taco.segmenting import answer as answers


def test_what_is_saved_is_what_was_answered(tmp_path):
    answer = make_answer()
    assert answer.save(tmp_path / "new/out") == tmp_path / "new/out/result.json"
    folder = tmp_path / "new/out"
    assert sorted(path.name for path in folder.iterdir()) == [
        "map.npy",
        "mask.png",
        "overlay.png",
        "result.json",
    ]
    mask = Image.open(folder / "mask.png")
    assert mask.size == (30, 20) and mask.mode == "L"
    np.testing.assert_array_equal(np.array(mask) == 255, answer.mask)
    soft = np.load(folder / "map.npy")
    assert soft.dtype == np.float32
    np.testing.assert_array_equal(soft, answer.map)
    record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert record["words"][0] == {"word": "guitar", "image": 0.41, "sound": 0.8}
    assert record["cross_entropy"] == [5.5, 5.25] and record["factor"] == 1
    assert record["margin"] == pytest.approx(0.25)
    assert record["suite"] == "miniature" and record["image_size"] == [30, 20]


def test_a_single_factor_has_no_margin():
    answer = make_answer()
    assert make_answer(factors=answer.factors[:1], chosen=0).margin == 0


@pytest.mark.parametrize("spoil", ["mask.png", "map.npy", "overlay.png", "result.json"])
def test_an_answer_is_right_while_every_file_is(tmp_path, spoil):
    make_answer().save(tmp_path, "question")
    assert answers.is_answered(tmp_path, "question")
    assert not answers.is_answered(tmp_path, "another")
    (tmp_path / spoil).write_bytes(b"{}")
    assert not answers.is_answered(tmp_path, "question")
    (tmp_path / spoil).unlink()
    assert not answers.is_answered(tmp_path, "question")
    assert not answers.is_answered(tmp_path / "nowhere", "question")
