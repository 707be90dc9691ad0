"""Training of the miniature models: an interrupted run ends as an uninterrupted one; the parts fit together."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from taco.miniature import dense, gates, training
from taco.models import clip, fcclip

TINY = training.TrainingSettings(
    clip_scenes=6,
    clip_steps=7,
    clip_batch=4,
    clap_sounds=8,
    clap_steps=7,
    clap_batch=4,
    fcclip_scenes=4,
    fcclip_steps=7,
    fcclip_batch=2,
    unrelated_texts=2,
    checkpoint_every=2,
)


class Killed(Exception):
    """Stands for a kill: nothing of the program runs after it."""


def fit(checkpoint, killed_at=None):
    torch.manual_seed(0)
    model = nn.Linear(3, 1)

    def loss_of(rng, progress):
        if killed_at is not None and progress >= killed_at:
            raise Killed
        x = torch.from_numpy(rng.standard_normal((8, 3))).float()
        return (nn.functional.dropout(model(x), 0.5) - x.sum(1, keepdim=True)).square().mean()

    training.run("linear", model, loss_of, steps=20, learning_rate=0.1, checkpoint=checkpoint, settings=TINY)
    return model.state_dict()


def test_a_killed_training_resumes_and_ends_with_the_same_weights(tmp_path):
    whole = fit(tmp_path / "whole.pt")
    with pytest.raises(Killed):
        fit(tmp_path / "killed.pt", killed_at=0.5)
    resumed = fit(tmp_path / "killed.pt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_finished_training_is_not_repeated(tmp_path):
    whole = fit(tmp_path / "whole.pt")
    again = fit(tmp_path / "whole.pt", killed_at=0.0)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_the_parts_train_are_measured_and_described(tmp_path):
    torch.set_num_threads(1)
    for train in (training.train_clip, training.train_clap, training.train_fcclip):
        train(tmp_path, TINY)
    for part in ("clip", "clap", "fcclip"):
        assert all(value.isfinite().all() for value in load_file(tmp_path / f"{part}.safetensors").values())
    models = gates.specs(tmp_path, TINY)
    tower = clip.load(models["clip"])
    measured = gates.clip_gates(tower, per_class=1)
    measured += gates.fcclip_gates(fcclip.load(models["fcclip"], tower), count=2)
    card = gates.model_card(tmp_path, measured, dense.localisation(tower, 0, count=2))
    assert "clip_steps: 7" in card and measured[0].name in card
    with pytest.raises(RuntimeError, match="not good enough to ship"):
        gates.require([replace(measured[0], value=0.0)])


def test_training_data_depend_on_stream_and_index_alone():
    first, second = (training.training_scene(3, 124, stream=1) for _ in range(2))
    assert first == second
    assert first != training.training_scene(3, 124, stream=3)
    wave, names = training.training_sound(5, 16000, 1.0, 2, easy=True)
    assert len(names) == 1 and wave.shape == (16000,)
