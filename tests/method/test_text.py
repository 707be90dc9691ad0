"""Word banks and the text file that solving and scoring read."""

import numpy as np
import pytest
import torch

from taco.cache.hdf5 import CacheError
from taco.method import text


class Encoder:
    """Embeds a text as the counts of its letters; remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def encode_text(self, texts):
        self.asked += texts
        return torch.tensor([[t.count(letter) for letter in "abelnrg"] for t in texts], dtype=torch.float32)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "text.h5"
    clip, clap = Encoder(), Encoder()
    banks = {
        "s4/classes": ["bell", "gong"],
        "s4/general": ["gong", "engine", "bell"],
        "ms3/general": ["engine"],
    }
    prompts = {"image": "A photo of a {label}", "audio": "This is a sound of {label}"}
    constants = {"linear1": np.arange(6.0).reshape(2, 3), "clap_logit_scale": 14.25}
    text.write(path, banks, prompts, clip, clap, constants, {"clip_digest": "abc"})
    return path, clip, clap


def test_labels_and_embeddings_belong_together(written):
    path = written[0]
    found = text.Text(path, {"clip_digest": "abc"})
    labels = found.labels("s4", "general")
    assert labels.names == ["gong", "engine", "bell"]
    for index, name in enumerate(labels.names):
        np.testing.assert_array_equal(labels.clip[index], Encoder().encode_text([f"A photo of a {name}"])[0])
        np.testing.assert_array_equal(
            labels.clap[index], Encoder().encode_text([f"This is a sound of {name}"])[0]
        )
    assert found.labels("s4", text.CLASSES).names == ["bell", "gong"]


def test_each_label_is_embedded_once(written):
    _, clip, clap = written
    assert sorted(clip.asked) == ["A photo of a bell", "A photo of a engine", "A photo of a gong"]
    assert len(clap.asked) == 3


def test_constants_keep_shape_and_value(written):
    constants = text.Text(written[0]).constants
    np.testing.assert_array_equal(constants["linear1"], np.arange(6.0).reshape(2, 3))
    assert torch.from_numpy(constants["clap_logit_scale"]).item() == 14.25


def test_other_models_are_refused(written):
    with pytest.raises(CacheError, match="expected clip_digest 'other'"):
        text.Text(written[0], {"clip_digest": "other"})


def test_banks_come_from_classes_or_a_file(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text('index,mid,display_name\n0,/m/1,Music\n1,/m/2,"Bell, chime"\n')
    assert text.bank_labels("classes", ["a", "b"]) == ["a", "b"]
    assert text.bank_labels(str(path), []) == ["Music", "Bell, chime"]
    assert text.bank_labels(str(path), [], drop=["Music"]) == ["Bell, chime"]
    assert text.bank_labels("pairs", ["background", "a", "b", "c"]) == [
        *("a", "b", "c", "a and b", "a and c", "b and c")
    ]


def test_bad_banks_are_named(tmp_path):
    path = tmp_path / "labels.csv"
    with pytest.raises(text.BankError, match="no such file"):
        text.bank_labels(str(path), [])
    path.write_text("index,name\n0,Music\n")
    with pytest.raises(text.BankError, match="display_name"):
        text.bank_labels(str(path), [])
    with pytest.raises(text.BankError, match="to drop the labels"):
        text.bank_labels("classes", ["a"], drop=["b"])
    with pytest.raises(text.BankError, match="each once"):
        text.bank_labels("classes", ["a", "a"])
    with pytest.raises(text.BankError, match=r"whole signs, found 'a\\ud800'"):
        text.bank_labels("classes", ["a\ud800"])
    with pytest.raises(text.BankError, match="found 0"):
        text.bank_labels("classes", ["a"], drop=["a"])
