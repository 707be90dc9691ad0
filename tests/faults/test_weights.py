"""Weight files that are cut off, damaged, another model's, or hold code: one error before work, and nothing is run."""

import io
import pickle
import random
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from taco import suites
from taco.models import clap, clip, fcclip, sums, weights
from taco.models.weights import WeightsError
from taco.staging import doctor

SHIPPED = suites.ROOT / "weights/miniature"
LOADERS = {
    "clip": clip.load,
    "clap": clap.load,
    "fcclip": lambda one, device: fcclip.load(
        one, clip.load(suites.read()["models"]["clip"], device), device
    ),
}


@pytest.fixture
def folder(tmp_path):
    """The shipped weights, where they may be damaged."""
    return shutil.copytree(SHIPPED, tmp_path / "weights")


def spec(model, path):
    config = suites.read()["models"][model]
    return {**config, "weights": str(path)}


def require_refused(path, read=weights.read_state):
    """One error that names the file, what was expected, and what to do."""
    with pytest.raises(WeightsError) as error:
        read(path)
    message = str(error.value)
    assert str(path) in message and ("expected" in message or "not a readable" in message)
    assert message.rstrip().endswith(".")


def flip(path, draw):
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def test_the_shipped_weights_are_those_of_their_list():
    names = sorted(path.name for path in SHIPPED.glob("*.safetensors"))
    assert len(names) == 3
    for name in names:
        weights.check_digest(SHIPPED / name)
        assert sums.beside(SHIPPED / name)


@pytest.mark.parametrize("model", LOADERS)
def test_shipped_weights_with_another_bit_are_refused(folder, model):
    path, draw = folder / f"{model}.safetensors", random.Random(model)
    whole = path.read_bytes()
    for _ in range(3):
        flip(path, draw)
        require_refused(path)
        path.write_bytes(whole)
    for keep in (0, 7, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:keep])
        require_refused(path)


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize(("model", "other"), [("clip", "clap"), ("clap", "fcclip"), ("fcclip", "clip")])
def test_another_models_weights_are_refused(folder, model, other, listed):
    path = folder / f"{model}.safetensors"
    shutil.copyfile(folder / f"{other}.safetensors", path)
    if not listed:
        (folder / sums.NAME).unlink()
    require_refused(path, lambda path: LOADERS[model](spec(model, path), torch.device("cpu")))


@pytest.mark.parametrize("form", ["flipped", "cut off"])
@pytest.mark.parametrize("model", LOADERS)
def test_damage_is_found_before_any_work(folder, model, form, monkeypatch):
    path, config = folder / f"{model}.safetensors", suites.read()
    if form == "flipped":
        flip(path, random.Random(0))
    else:
        path.write_bytes(path.read_bytes()[:-100])
    config["models"][model]["weights"] = str(path)
    found = {finding.place: finding for finding in doctor.examine(config)}
    assert found[str(path)].status == doctor.CORRUPT
    assert "expected the sha256" in found[str(path)].remark and found[str(path)].step
    assert doctor.exit_code(found.values())


class Harmful:
    """Would make a folder when unpickled."""

    def __reduce__(self):
        return Path.mkdir, (Path("harmed"),)


def zipped(state):
    """A checkpoint whose pickle is replaced by one with code."""
    stream, harmed = io.BytesIO(), io.BytesIO()
    torch.save(state, stream)
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(harmed, "w") as new:
        for name in old.namelist():
            code = pickle.dumps({"state_dict": Harmful()}, protocol=2)
            new.writestr(name, code if name.endswith("data.pkl") else old.read(name))
    return harmed.getvalue()


@pytest.mark.parametrize("name", ["w.pth", "w.bin", "w.pt", "w.safetensors", "w"])
@pytest.mark.parametrize("form", ["checkpoint", "plain pickle", "old checkpoint", "beside tensors"])
def test_no_code_of_a_weight_file_is_run(tmp_path, monkeypatch, form, name):
    monkeypatch.chdir(tmp_path)
    path, state = tmp_path / name, load_file(SHIPPED / "fcclip.safetensors")
    if form == "checkpoint":
        path.write_bytes(zipped(state))
    elif form == "plain pickle":
        path.write_bytes(pickle.dumps(Harmful()))
    else:
        torch.save(
            {**state, "epoch": Harmful()}, path, _use_new_zipfile_serialization=form == "beside tensors"
        )
    require_refused(path)
    assert not Path("harmed").exists()


@pytest.mark.parametrize(
    "name", ["CLAP_weights_2023.pth", "fcclip_cocopan.pth", "open_clip_pytorch_model.bin"]
)
def test_a_file_named_like_an_official_one_is_refused_whatever_it_holds(tmp_path, name):
    path = tmp_path / name
    for write in (
        lambda: torch.save({"model": {"a": torch.ones(2)}}, path),
        lambda: path.write_bytes(zipped({"a": torch.ones(2)})),
        lambda: save_file({"a": torch.ones(2)}, path),
        lambda: path.write_bytes(b""),
    ):
        write()
        with pytest.raises(WeightsError, match=f"{name}: expected the sha256"):
            weights.read_state(path)
