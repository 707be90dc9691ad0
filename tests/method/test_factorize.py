"""Runs of a shard: they share tokens and starts, know what they depend on, and equal runs solved alone bit for bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from taco.cache.hdf5 import CacheWriter, open_cache
from taco.conmf import CoNMF, Settings
from taco.data import manifest
from taco.method import factorize, stimuli, text

N, T, C_IMAGE, C_AUDIO, D = 12, 6, 8, 5, 4
SOLVER = {"n_components": 3, "steps": 4, "beta_penalty": 10.0, "trace_every": 2}
CPU = torch.device("cpu")
RUN = factorize.Run("general", "proposed", "own", SOLVER)


class Encoder:
    """Embeds a text as numbers drawn from its letters."""

    def __init__(self, width):
        self.width = width

    def encode_text(self, texts):
        rows = [np.random.default_rng([*t.encode()]).standard_normal(self.width) for t in texts]
        return torch.tensor(np.array(rows), dtype=torch.float32)


def write_features(path, samples, seed=0):
    rng = np.random.default_rng(seed)
    with CacheWriter(path, "features", samples, {"dataset": "s4"}) as writer:
        for index in range(len(samples)):
            writer.put("image_tokens", index, rng.random((N, C_IMAGE)).astype(np.float16))
            writer.put("audio_tokens", index, rng.random((T, C_AUDIO)).astype(np.float16))


def write_text(path, banks):
    rng = np.random.default_rng(1)
    constants = {
        "linear1": rng.standard_normal((D, C_AUDIO)),
        "linear2": rng.standard_normal((D, D)),
        "norm_weight": np.ones(D),
        "norm_bias": np.zeros(D),
        "norm_eps": 1e-5,
        "clap_logit_scale": 10.0,
        "silence_tokens": np.full((1, T, C_AUDIO), 0.25),
        "noise_tokens": rng.random((stimuli.N_NOISES, T, C_AUDIO)),
    }
    prompts = {"image": "{label}", "audio": "{label}"}
    text.write(path, banks, prompts, Encoder(C_IMAGE), Encoder(D), constants, {})


@pytest.fixture
def world(tmp_path):
    """Two shards of two clips each, with features and text on disk."""
    rows = [
        {
            "sample_id": f"c{clip}/{frame}",
            "clip_id": f"c{clip}",
            "frame": frame,
            "image": "",
            "audio": "",
            "start": 0.0,
            "duration": 1.0,
            "mask": "",
            "classes": [],
            "class_id": -1,
            "split": "test",
        }
        for clip in range(4)
        for frame in range(2)
    ]
    frame = manifest.from_rows(rows)
    for number in (0, 1):
        part = manifest.shard(frame, number, 2)["sample_id"].tolist()
        write_features(tmp_path / f"{number}.h5", part, seed=number)
    write_text(
        tmp_path / "text.h5", {"s4/general": ["bell", "drum", "harp"], "s4/specific": ["bell", "drum"]}
    )
    return tmp_path, frame


def shard_of(world, number=0, **changes):
    folder, frame = world
    shard = factorize.Shard(
        name="s4",
        frame=manifest.shard(frame, number, 2),
        whole=frame,
        features={"own": [folder / f"{number}.h5"], "shuffled": [folder / "0.h5", folder / "1.h5"]},
        text=text.Text(folder / "text.h5"),
        seed=0,
        expect={"dataset": "s4"},
    )
    return replace(shard, **changes)


def equal(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in factorize.STORED_AS)


@pytest.mark.parametrize("sound", ["own", "shuffled", "silence", "noise"])
def test_a_run_equals_the_solver_alone(world, sound):
    shard = shard_of(world)
    found, seconds = factorize.solve(shard, replace(RUN, sound=sound), (0, 1), CPU)
    solver = CoNMF(Settings(**SOLVER), factorize.anchors_of(shard.text, "s4", "general"))
    alone = solver.fit(shard.image(), shard.audio(sound), shard.keys, (0, 1))
    assert equal(found, alone) and seconds > 0


def test_runs_share_the_start_and_it_is_computed_once(world, monkeypatch):
    shard, made = shard_of(world), []
    start = CoNMF.initial_factors
    monkeypatch.setattr(
        CoNMF, "initial_factors", lambda self, x, keys, side: made.append(side) or start(self, x, keys, side)
    )
    runs = [
        RUN,
        replace(RUN, bank="specific"),
        replace(RUN, solver={**SOLVER, "reduction": "mean"}),
        replace(RUN, sound="silence"),
    ]
    for run in runs:
        factorize.solve(shard, run, (0,), CPU)
    assert sorted(made) == ["audio", "audio", "image"]  # silence has an audio start of its own
    factorize.solve(shard, replace(RUN, solver={**SOLVER, "n_components": 2}), (0,), CPU)
    assert len(made) == 5


def test_shuffled_sounds_come_from_another_clip_of_any_shard(world):
    shard = shard_of(world)
    partners = shard.partners("shuffled")
    assert not set(zip(shard.frame["clip_id"], (p.split("/")[0] for p in partners), strict=True)) & {
        (f"c{n}", f"c{n}") for n in range(4)
    }
    both = [shard_of(world, number) for number in (0, 1)]
    tokens = {
        sample: own for shard in both for sample, own in zip(shard.samples, shard.audio("own"), strict=True)
    }
    for partner, heard in zip(partners, shard_of(world).audio("shuffled"), strict=True):
        assert torch.equal(heard, tokens[partner])


@pytest.mark.parametrize(
    "change",
    [
        {"run": replace(RUN, bank="specific")},
        {"run": replace(RUN, variant="other")},
        {"run": replace(RUN, sound="silence")},
        {"run": replace(RUN, solver={**SOLVER, "steps": 5})},
        {"seeds": (0,)},
        {"code": "edited"},
        {"shard": {"seed": 1}},
    ],
    ids=str,
)
def test_the_basis_follows_what_a_run_depends_on(world, change):
    before = shard_of(world).basis(RUN, (0, 1), "code")
    assert shard_of(world).basis(RUN, (0, 1), "code") == before
    shard = shard_of(world, **change.get("shard", {}))
    assert (
        shard.basis(change.get("run", RUN), change.get("seeds", (0, 1)), change.get("code", "code")) != before
    )


def test_the_basis_follows_tokens_and_words_and_nothing_else_in_their_files(world):
    folder, frame = world
    before = shard_of(world).basis(RUN, (0,), "")
    exchanged = replace(RUN, sound="shuffled")
    shuffled = shard_of(world).basis(exchanged, (0,), "")
    write_text(folder / "text.h5", {"s4/general": ["bell", "drum", "harp"], "s4/specific": ["gong"]})
    write_features(folder / "0.h5", manifest.shard(frame, 0, 2)["sample_id"].tolist(), seed=0)
    assert shard_of(world).basis(RUN, (0,), "") == before
    write_features(folder / "1.h5", manifest.shard(frame, 1, 2)["sample_id"].tolist(), seed=7)
    assert (
        shard_of(world).basis(RUN, (0,), "") == before
    )  # another shard's sounds matter where they are heard
    assert shard_of(world).basis(exchanged, (0,), "") != shuffled
    write_text(folder / "text.h5", {"s4/general": ["bell", "drum", "lute"], "s4/specific": ["gong"]})
    assert shard_of(world).basis(RUN, (0,), "") != before


def test_the_basis_does_not_follow_how_a_path_is_spelled(world):
    """A rule names files by text, a list of them by path, `taco verify` by another folder's."""
    folder, exchanged = world[0], replace(RUN, sound="shuffled")
    found = set()
    for own, others in (
        (f"{folder}/0.h5", Path),
        (folder / "0.h5", str),
        (folder / "../" / folder.name / "0.h5", str),
    ):
        features = {"own": [own], "shuffled": [others(folder / f"{number}.h5") for number in (0, 1)]}
        found.add(replace(shard_of(world), features=features).basis(exchanged, (0,), ""))
    assert len(found) == 1


def test_a_file_is_right_when_it_is_whole_and_of_its_basis(world, tmp_path):
    shard, path = shard_of(world), tmp_path / "factors.h5"
    assert not factorize.is_right(path, "a")
    result, _ = factorize.solve(shard, RUN, (0, 1), CPU)
    factorize.write(path, shard.samples, result, {"basis": "a", "seeds": [0, 1]})
    assert factorize.is_right(path, "a") and not factorize.is_right(path, "b")
    with open_cache(path, "factors") as cache:
        for name, dtype in factorize.STORED_AS.items():
            assert cache[name].dtype == dtype
            np.testing.assert_array_equal(cache[name][1], getattr(result, name)[:, 1].numpy().astype(dtype))
        assert cache.attributes["objective_steps"] == list(result.objective_steps)
    path.write_bytes(path.read_bytes()[:-50])
    assert not factorize.is_right(path, "a")
