"""Weight files: exact match to a model, tolerated constants, digests, and errors that say what to do."""

import hashlib
import math
import socket
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from taco.method import features
from taco.models import clap, clip, keys, official, weights
from taco.models.weights import WeightsError, load_weights, read_state


@pytest.fixture
def expected():
    generator = torch.Generator().manual_seed(0)
    return {
        "a.weight": torch.randn(3, 2, generator=generator),
        "a.bias": torch.randn(3, generator=generator),
    }


@pytest.fixture(autouse=True)
def no_lock(monkeypatch, tmp_path):
    """Tests do not depend on the project's own lock file."""
    (tmp_path / "no.lock.yaml").touch()
    monkeypatch.setattr(weights, "LOCK", tmp_path / "no.lock.yaml")


def same(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"model": s, "iteration": 3}, lambda s: {"state_dict": s}]
)
def test_checkpoint_levels_are_removed(tmp_path, expected, wrap):
    path = tmp_path / "weights.pth"
    torch.save(wrap(expected), path)
    assert same(load_weights(path, expected), expected)


def test_prefix_of_data_parallel_training_is_removed(tmp_path, expected):
    path = tmp_path / "weights.pth"
    torch.save({f"module.{key}": value for key, value in expected.items()}, path)
    assert same(load_weights(path, expected), expected)


def test_safetensors(tmp_path, expected):
    path = tmp_path / "weights.safetensors"
    save_file(expected, path)
    assert same(load_weights(path, expected), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("a.bias"), r"1 missing \(a\.bias\)"),
        (lambda s: s.update(b=torch.zeros(1)), r"1 unknown \(b\)"),
        (lambda s: s.update({"a.bias": torch.zeros(4)}), r"1 of another shape \(a\.bias \[4\] for \[3\]\)"),
    ],
)
def test_every_difference_from_the_model_is_refused(tmp_path, expected, change, message):
    state = dict(expected)
    change(state)
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    with pytest.raises(WeightsError, match=f"weights.safetensors.*{message}"):
        load_weights(path, expected)


def test_constants_may_be_absent_on_either_side_and_nothing_else(tmp_path, expected):
    constants = ["h.*.attn.bias"]
    path = tmp_path / "weights.safetensors"
    save_file({**expected, "h.0.attn.bias": torch.ones(2)}, path)
    assert same(load_weights(path, expected, constants), expected)
    with pytest.raises(WeightsError, match="unknown"):
        load_weights(path, expected)

    save_file(expected, path)
    with_constant = {**expected, "h.1.attn.bias": torch.ones(2)}
    assert same(load_weights(path, with_constant, constants), with_constant)
    with pytest.raises(WeightsError, match="missing"):
        load_weights(path, {**expected, "h.1.attn.c_attn.bias": torch.ones(2)}, constants)


def test_missing_file_names_what_brings_it(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.pth: .*stage --configfile .*train_miniature_models"):
        read_state(tmp_path / "none.pth")


def test_missing_folder_names_what_brings_it(tmp_path):
    assert weights.check_folder(tmp_path, "a tokenizer") == tmp_path
    with pytest.raises(WeightsError, match=r"none: expected a folder with a tokenizer.*stage --configfile"):
        weights.check_folder(tmp_path / "none", "a tokenizer")


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
def test_a_page_in_place_of_weights_is_named(tmp_path, name):
    (tmp_path / name).write_text("<html>quota exceeded</html>")
    with pytest.raises(WeightsError, match=f"{name}: not a readable weight file"):
        read_state(tmp_path / name)


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"a": torch.zeros(2), "epoch": 3}])
def test_other_contents_are_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match="expected a table of tensors"):
        read_state(path)


class Harmful:
    """Would run a command when unpickled."""

    def __reduce__(self):
        import os

        return os.mkdir, ("harmed",)


def test_files_are_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Harmful()}, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="not a readable weight file"):
        read_state(tmp_path / "weights.pth")
    assert not (tmp_path / "harmed").exists()


def test_without_its_lock_file_nothing_is_verified_in_silence(tmp_path, expected, monkeypatch):
    save_file(expected, tmp_path / "weights.safetensors")
    monkeypatch.setattr(weights, "LOCK", tmp_path / "gone.lock.yaml")
    with pytest.raises(WeightsError, match="gone.lock.yaml: expected the lock file .* Restore it from git"):
        load_weights(tmp_path / "weights.safetensors", expected)


def test_the_projects_lock_file_is_found_from_any_folder(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert weights.LOCK.is_file() and keys.FOLDER.is_dir()


def test_digests_are_verified_where_they_are_listed(tmp_path, expected, monkeypatch):
    path, lock = tmp_path / "weights.safetensors", tmp_path / "weights.lock.yaml"
    save_file(expected, path)
    monkeypatch.setattr(weights, "LOCK", lock)

    def write(digest, name=path.name):
        lock.write_text(
            yaml.safe_dump({"source": {"files": {name: {"sha256": digest, "bytes": None}}}, "other": {}})
        )

    write(hashlib.sha256(path.read_bytes()).hexdigest())
    assert same(read_state(path), expected)
    write(64 * "0")
    with pytest.raises(WeightsError, match="expected the sha256 0000"):
        read_state(path)
    write(64 * "0", "another.pth")
    assert same(read_state(path), expected)
    lock.write_text("")
    assert same(read_state(path), expected)


def test_the_projects_lock_is_read(tmp_path):
    """A file with the name of a locked one, and other bytes."""
    path = tmp_path / "CLAP_weights_2023.pth"
    path.write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"expected the sha256 \w{64} of config/weights\.lock\.yaml"):
        weights.check_digest(path, "config/weights.lock.yaml")


# ---------------------------------------------------------------- lists of the official files' tensors


def test_folded_names_unfold_to_the_same():
    shapes = {f"layers.{i}.{j}.w": (2, 3) for i in range(3) for j in range(2)}
    shapes |= {"layers.5.0.w": (2, 3), "layers.0.0.b": (2,), "scale": (), "a.0": (1,), "a.1": (4,)}
    folded = keys.fold(shapes)
    assert keys.unfold(folded) == shapes and len(folded) == 6
    assert folded["layers.{0-2}.{0-1}.w"] == (2, 3)


def test_differences_name_all_kinds_and_leave_out_what_is_optional():
    expected = {"a": (2,), "b": (3,), "c.0.bias": (1,)}
    assert keys.differences(expected, expected) == ""
    found = {"a": (4,), "d": (1,), "c.1.bias": (1,)}
    message = keys.differences(found, expected, ["c.*.bias"])
    assert message == "1 missing (b); 1 unknown (d); 1 of another shape (a [4] for [2])"


@pytest.fixture
def listed(tmp_path, expected, monkeypatch):
    """A list for files named like an official one, and a path for such a file."""
    monkeypatch.setattr(keys, "FOLDER", tmp_path)
    shapes = {name: tuple(value.shape) for name, value in expected.items()}
    keys.write(keys.list_of("official.pth", tmp_path), shapes, ["extra.*"], "A file.")
    return tmp_path / "official.pth"


def test_a_file_named_like_an_official_one_must_hold_its_tensors(listed, expected):
    torch.save({"model": {**expected, "extra.1": torch.zeros(1)}}, listed)
    assert set(read_state(listed)) == {*expected, "extra.1"}
    torch.save({"a.weight": expected["a.weight"], "a.bias": torch.zeros(9)}, listed)
    with pytest.raises(
        WeightsError, match=r"official\.pth: .*official\.pth\.keys\.yaml lists.*a\.bias \[9\].*stage"
    ):
        read_state(listed)


def test_a_library_whose_names_have_changed_is_told_from_a_wrong_file(listed, expected):
    torch.save(expected, listed)
    with pytest.raises(WeightsError, match="a library's names have changed"):
        load_weights(listed, {"a.weight": expected["a.weight"], "renamed": expected["a.bias"]})


def listed_shapes(name):
    shapes, _ = keys.read(keys.list_of(name))
    return shapes


@pytest.mark.filterwarnings("ignore")
def test_the_lists_are_those_of_the_libraries_models():
    """CLAP's, which cannot be built without drawing its weights, is compared in the slow tests."""
    assert listed_shapes(official.CLIP) == official.clip_shapes()
    assert listed_shapes(official.FCCLIP) == official.fcclip_shapes()
    assert len(listed_shapes(official.FCCLIP)) == 302  # and criterion.empty_weight: 303 outside CLIP


def test_the_list_of_clap_has_the_published_files_size():
    """With the causal masks of GPT-2's twelve layers, which the file holds as floats, to 0.05 % (names, offsets)."""
    entry = yaml.safe_load(Path("config/weights.lock.yaml").read_text())["clap"]["files"][official.CLAP]
    values = sum(math.prod(shape) for shape in listed_shapes(official.CLAP).values()) + 12 * 1024**2
    assert 4 * values == pytest.approx(entry["bytes"], rel=5e-4)


@pytest.mark.slow
def test_the_list_of_clap_is_is_that_of_the_librarys_model():
    assert listed_shapes(official.CLAP) == official.clap_shapes()


def test_the_paper_suite_names_the_listed_files():
    config = yaml.safe_load(Path("config/paper.yaml").read_text())
    assert {Path(model["weights"]).name for model in config["models"].values()} == set(official.TITLES)


# ---------------------------------------------------------------- without a network


def test_no_library_reaches_out_while_models_are_loaded(monkeypatch):
    """The miniature models whole; of the full-size ones what a library could want to fetch: tower, tokenizers."""

    def refuse(*arguments, **named):
        raise AssertionError(f"a connection was tried: {arguments}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(AssertionError, match="was tried"):
        socket.create_connection(("localhost", 9))
    config = yaml.safe_load(Path("config/config.yaml").read_text())
    features.load_models(config["models"], torch.device("cpu"))
    official.clip_shapes()
    clip.load_tokenizer("convnext_large_d_320", None)(["A photo of a bell"])
    with pytest.raises(WeightsError, match="stage"):
        clap.load_tokenizer("gpt2")  # a name on the hub, which is no folder here
