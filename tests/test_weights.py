"""Weight files: exact match to a model, tolerated constants, digests, and errors that say what to do."""

import hashlib

import pytest
import torch
import yaml
from safetensors.torch import save_file

from taco import weights
from taco.weights import WeightsError, load_weights, read_state


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
    monkeypatch.setattr(weights, "LOCK", tmp_path / "none.yaml")


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
        (lambda s: s.update({"a.bias": torch.zeros(4)}), r"1 of another shape \(a\.bias\)"),
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
