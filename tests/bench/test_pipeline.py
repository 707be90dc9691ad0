"""Pipeline benchmark: every stage has a time, and costs are sums of them. Nothing here asserts a time."""

import copy
import json
from pathlib import Path

import pytest
import torch

from taco import suites
from taco.bench import pipeline

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def config():
    return suites.read()


@pytest.fixture(scope="module")
def report(config, tmp_path_factory):
    """A run on two images, with random weights in place of a file that is not there."""
    config = copy.deepcopy(config)
    config["models"]["fcclip"]["weights"] = "not/there.safetensors"
    output = tmp_path_factory.mktemp("bench") / "report.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(pipeline, "WORDS", 40)
        found = pipeline.pipeline(config, device=torch.device("cpu"), samples=2, threads=2, output=output)
    assert json.loads(output.read_text()) == found
    return found


def test_every_stage_is_timed(report):
    stages = {stage["stage"] for stage in report["stages"]}
    assert {"CLIP trunk", "proposals", "tokens, CLAP", "read, one process", "text of a bank"} <= stages
    assert {"cache write, float16", "cache read, float16", "co-NMF, 1000 steps, 3 seeds"} <= stages
    assert {"decode s4, run", "score s4, run", "decode avss, run"} <= stages
    assert report["models"] == "random weights" and report["samples"] == 2


def test_a_share_is_a_share(report):
    costs = report["costs"]
    assert (
        0 < costs["conmf_share"] < costs["conmf_share_at_1000_steps"] < 1
    )  # the miniature suite takes 300 steps


def test_costs_are_sums_of_stages(config):
    watch = pipeline.Stopwatch(torch.device("cpu"))
    parts = {"read, one process": 1, "CLIP trunk": 2, "proposals": 3, "tokens, CLAP": 4, "text of a bank": 5}
    parts |= {
        f"co-NMF, {steps} steps, {seeds} seeds": 10 * seeds for steps in (300, 1000) for seeds in (1, 3)
    }
    parts |= {"decode s4, image": 6, "decode s4, run": 7, "score s4, run": 8}
    for name, milliseconds in parts.items():
        watch.note(name, "image", 99.0, milliseconds / 1e3)
    costs = pipeline.costs(watch, config)
    assert costs["features_ms"] == pytest.approx(9)
    assert costs["one_seed_inference_ms"] == pytest.approx(1 + 9 + 13 + 10)
    assert costs["conmf_share"] == pytest.approx(10 / 33)
    assert costs["one_more_seed_ms"] == pytest.approx(30 + 15)
    assert costs["one_more_variant_of_3_seeds_ms"] == pytest.approx(3 * 45)
