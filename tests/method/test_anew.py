"""Samples heard and scored outside the stages."""

import numpy as np
import pandas as pd
import soundfile
import torch
from scoring import make_run, make_sample, make_scorer

from taco.data import media, reading
from taco.method import anew

RATE = 8000


class Ear:
    """A CLAP whose token and embedding are the sound's mean, and the opposite."""

    device = torch.device("cpu")

    @staticmethod
    def tokens_and_embedding(waves):
        mean = waves.mean(dim=1)
        return torch.stack([mean, -mean], dim=-1)[:, None], mean[:, None]


def part_of(samples=2):
    frame = pd.DataFrame(
        {
            "sample_id": [f"a{i}" for i in range(samples)],
            "clip_id": "a",
            "image": "absent.png",
            "audio": "absent.wav",
            "start": 0.0,
            "duration": 1.0,
            "classes": [["bell"]] * samples,
        }
    )
    image = [torch.full((4, 2), float(i)) for i in range(samples)]
    return anew.Part("toy", frame, image, image, [make_sample(runs=[])] * samples)


def test_a_part_is_heard_anew_without_a_look_at_its_images(tmp_path):
    part, levels = part_of(), (0.25, -0.5)
    paths = [str(tmp_path / f"{level}.wav") for level in levels]
    for path, level in zip(paths, levels, strict=True):
        soundfile.write(path, np.full(RATE, level), RATE, subtype="FLOAT")
    how = reading.Preparation(32, ("fcclip",), media.Hearing(RATE, RATE, "centre", 0))
    found = anew.heard(part, Ear, how, paths, 1)
    assert torch.stack(found.audio).tolist() == [[[0.25, 0.0]], [[0.0, 0.5]]]
    assert [sample.clap_embedding.tolist() for sample in found.samples] == [[0.25], [-0.5]]
    assert found.image is part.image and part.samples[0].clap_embedding.shape == (4,)


def test_without_runs_only_what_needs_no_factors_is_scored():
    scorer = make_scorer(prompt_sets=["list"], controls=[])
    rows = list(anew.rows(part_of(), {}, [0], scorer, {}))
    assert {row["method"] for row in rows} == {"A-FC-CLIP", "A⁺-FC-CLIP"}
    assert [row["sample_id"] for row in rows] == ["a0", "a0", "a1", "a1"]
    assert {(row["task"], row["dataset"], row["clip_id"], row["class_name"]) for row in rows} == {
        ("s4", "toy", "a", "bell")
    }


def test_every_run_is_scored_with_its_seeds():
    class Result:
        image_activations, image_factors, k_star = (x[:, None] for x in make_run()[3:6])

    scorer = make_scorer(prompt_sets=[], controls=[])
    found = anew.rows(part_of(1), {("no-min", "general"): Result}, [3, 4], scorer, {})
    assert {(row["method"], row["variant"], row["seed"]) for row in found} == {
        (method, "no-min", seed) for method in ("TACO", "U only") for seed in (3, 4)
    }
