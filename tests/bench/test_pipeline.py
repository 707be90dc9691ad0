"""Pipeline benchmark: every stage has a time. Nothing here asserts one."""

import copy
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
def report(config):
    """A run on two images, with random weights in place of a file that is not there."""
    config = copy.deepcopy(config)
    config["models"]["fcclip"]["weights"] = "not/there.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(pipeline, "WORDS", 40)
        return pipeline.pipeline(config, device=torch.device("cpu"), samples=2, threads=2)


def test_every_stage_is_timed(report):
    stages = {stage["stage"] for stage in report["stages"]}
    assert {"CLIP trunk", "proposals", "tokens, CLAP", "read, one process", "text of a bank"} <= stages
    assert {"cache write, float16", "cache read, float16", "co-NMF, 1000 steps, 3 seeds"} <= stages
    assert {"decode s4, run", "score s4, run", "decode avss, run"} <= stages
    assert report["models"] == "random weights" and report["samples"] == 2


def test_tables_show_every_stage_and_cost(report):
    stages, costs, memory = pipeline.tables({"machine": {"device": "here"}, **report})
    assert stages.title == "miniature: random weights, here"
    assert (stages.row_count, costs.row_count) == (len(report["stages"]), len(report["costs"]))
    assert memory.startswith("Peak memory")


def test_a_share_is_a_share(report):
    costs = report["costs"]
    assert (
        0 < costs["conmf_share"] < costs["conmf_share_at_1000_steps"] < 1
    )  # the miniature suite takes 300 steps
