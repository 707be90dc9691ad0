"""Disk that the caches will take: estimated from the configuration, compared with what is free."""

import copy
from pathlib import Path

import pytest

from taco import suites
from taco.cache.hdf5 import CacheWriter
from taco.staging import doctor, space

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def paper():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield suites.read([ROOT / "config/paper.yaml"])


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_a_full_size_sample_is_as_large_as_its_arrays(paper):
    """250 masks of 192 × 192, 2 × 250 embeddings of 768, 576 + 64 tokens of 768, one embedding of 1,024."""
    masks = 250 * 192 * 192
    assert space.sample_bytes(paper) == {
        "float16": 2 * masks,
        "uint8": masks,
        "none": 0,
        "embeddings": 2 * 250 * 768 * 4,
        "tokens": (576 + 64) * 768 * 2 + 1024 * 4,
    }
    assert 7500 * 2 * masks / 1e9 == pytest.approx(138.24)


def test_avss_fits_in_60_gb_as_uint8_alone(paper):
    assert space.estimate(paper, "uint8")["avss"] < 60e9 < space.estimate(paper, "float16")["avss"]


def test_the_paper_suite_fits_in_60_gb_without_proposals_alone(paper):
    """S4, MS3 and AVSS; ADE SP's size is not known to the configuration."""
    whole = {kind: sum(space.estimate(paper, kind).values()) for kind in ("float16", "uint8", "none")}
    assert whole["none"] < 15e9 and 60e9 < whole["uint8"] < whole["float16"]
    assert paper["features"]["proposals"] == "none"


def test_samples_are_counted_as_configured(paper):
    assert space.sample_count(paper, "avss") == 7500
    assert space.sample_count({**paper, "limit": 3}, "avss") == 30
    assert space.sample_count({**paper, "limit": 10**6}, "s4") == 3700
    assert space.sample_count(suites.read(), "s4") == 5 * 40


def test_a_dataset_of_unknown_size_is_left_out(paper):
    config = copy.deepcopy(paper)
    del config["datasets"]["avss"]["expected"]
    assert "avss" not in space.estimate(config)


def test_the_doctor_says_how_much_and_refuses_what_the_disk_cannot_hold(paper, monkeypatch):
    monkeypatch.setattr(space, "present", lambda config: 0)
    monkeypatch.setattr(space, "free", lambda config: 10**13)
    paper = {**paper, "features": {**paper["features"], "proposals": "float16"}}
    (enough,) = doctor.disk(paper)
    assert enough.status == doctor.PRESENT and "float16 masks alone are" in enough.remark
    monkeypatch.setattr(space, "free", lambda config: 80 * 10**9)
    (short,) = doctor.disk(paper)
    assert doctor.exit_code([short]) == 1
    assert "80 GB are free" in short.remark
    assert "features.proposals: uint8" in short.step and "features.proposals: none" in short.step
    # What is there already is not needed again.
    monkeypatch.setattr(space, "present", lambda config: sum(space.estimate(paper).values()))
    assert doctor.disk(paper)[0].status == doctor.PRESENT


def test_the_doctor_says_that_proposals_are_made_again(paper, monkeypatch):
    monkeypatch.setattr(space, "present", lambda config: 0)
    monkeypatch.setattr(space, "free", lambda config: 10**6)
    (short,) = doctor.disk({**paper, "features": {**paper["features"], "proposals": "none"}})
    assert "make them again, which wants a GPU" in short.remark
    assert "features.proposals" not in short.step  # nothing takes less


def test_a_model_without_its_description_leaves_the_size_open(tmp_path, monkeypatch, paper):
    monkeypatch.chdir(tmp_path)
    assert doctor.disk(paper) == []


def test_caches_that_are_there_are_counted(tmp_path, monkeypatch, paper):
    monkeypatch.chdir(tmp_path)
    assert space.present(paper) == 0 and space.free(paper) > 0
    with CacheWriter("results/paper/features/s4/0.h5", "features", ["a"], {}) as writer:
        writer.put("count", 0, 1)
    assert space.present(paper) == Path("results/paper/features/s4/0.h5").stat().st_size
