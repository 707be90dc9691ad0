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
        return pipeline.pipeline(
            config, device=torch.device("cpu"), samples=2, threads=2, frames={"s4": 3, "ade": 2}
        )


def test_every_stage_is_timed(report):
    stages = {stage["stage"] for stage in report["stages"]}
    assert {"CLIP trunk", "proposals", "tokens, CLAP", "read, one process", "text of a bank"} <= stages
    for storage in ("float16", "uint8"):
        assert {f"cache write, {storage}", f"cache read, {storage}"} <= stages
    assert {"cache write, tokens", "proposals again, from the image", "co-NMF, 1000 steps, 3 seeds"} <= stages
    assert {"decode s4, run", "score s4, run", "decode avss, run"} <= stages
    assert report["models"] == "random weights" and report["samples"] == 2


def test_tables_show_every_stage_and_cost(report):
    stages, costs, totals, memory = pipeline.tables({"machine": {"device": "here"}, **report})
    assert stages.title == "miniature: random weights, here"
    assert (stages.row_count, costs.row_count) == (len(report["stages"]), len(report["costs"]))
    assert totals.row_count == len(report["totals"]) == 3
    assert memory.startswith("Peak memory")


def test_sizes_are_those_of_the_files(report):
    sizes = report["megabytes"]
    assert sizes["uint8"] < sizes["float16"] and min(sizes.values()) > 0


def test_a_share_is_a_share(report):
    costs = report["costs"]
    assert (
        0 < costs["conmf_share"] < costs["conmf_share_at_1000_steps"] < 1
    )  # the miniature suite takes 300 steps
