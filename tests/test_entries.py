"""Files of one's own: loaded by path or module, anew after an edit, refused by the key that names them."""

import pytest

from taco import entries


def test_a_file_is_loaded_once_and_again_after_an_edit(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def load(spec, device):\n    return spec, device\n")
    assert entries.load_module(str(path), "key") is entries.load_module(str(path), "key")
    loader = entries.own_loader({"loader": str(path), "weights": "w"}, "models.clip.loader")
    assert loader("cpu") == ({"weights": "w"}, "cpu")
    assert entries.own_loader({"loader": None, "weights": "w"}, "models.clip.loader") is None
    before = entries.digests([f"{path}:load", "a.module"])
    path.write_text("def load(spec, device):\n    return 1\n")
    assert entries.load_function(str(path), "key", "load")(None, None) == 1
    assert set(before) == {f"{path}:load"} and entries.digests([f"{path}:load"]) != before


def test_a_file_that_fails_is_not_taken_for_loaded(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("raise ValueError('mine')\n")
    for _ in range(2):
        with pytest.raises(ValueError, match="mine"):
            entries.load_module(str(path), "key")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("nowhere.py", "models.clip.loader: expected a file nowhere.py, found none"),
        (
            "no.such.module",
            "models.clip.loader: expected a file ending in .py or a module, found 'no.such.module'",
        ),
        (
            "taco.runtime:nothing",
            "models.clip.loader: expected a function 'nothing' in taco.runtime, found none",
        ),
    ],
)
def test_what_is_not_there_is_named_by_its_key(entry, words):
    with pytest.raises(entries.EntryError, match=words):
        entries.load_function(entry, "models.clip.loader", "load")
