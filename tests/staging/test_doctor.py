"""The doctor: one table for a suite, with every state, the exact step, and an exit code."""

import copy
import hashlib
import io
import json
import re
from pathlib import Path

import pytest
import trees
import yaml
from rich.console import Console

from taco.staging import bring, doctor

ROOT = Path(__file__).resolve().parents[2]
WEIGHT = b"weights " * 100


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A suite with one dataset, one weight file and one word bank, none of them there yet."""
    monkeypatch.chdir(tmp_path)
    Path("config").mkdir()
    entries = {
        "ade": {
            "title": "ADE",
            "lock": "datasets",
            "place": "data/ade",
            "archive": "ade.zip",
            "holds": ["prompted_segmentation.csv", "frames", "annotations"],
            "from": [{"url": "http://127.0.0.1:9/ade.zip"}],
            "readers": ["ade"],
            "licence": "research",
            "gigabytes": 5,
        },
        "avsbench": {
            "title": "AVSBench",
            "lock": "datasets",
            "place": "data/avsbench",
            "inbox": "data/archives/avsbench",
            "holds": ["Single-source/s4_meta_data.csv"],
            "readers": ["s4"],
            "licence": "on request",
            "agreement": True,
            "terms": "Research only.",
            "request": "Fill in the form.",
        },
        "clip": {
            "title": "CLIP",
            "lock": "weights",
            "place": "data/clip.bin",
            "from": [{"hub": "org/clip", "revision": "a" * 40}],
            "licence": "MIT",
        },
        "vggsound": {
            "title": "VGGSound",
            "lock": "datasets",
            "place": "data/ade/audio",
            "from": [{"hub": "org/shards", "repo_type": "dataset"}],
            "licence": "CC BY 4.0",
        },
    }
    Path("config/sources.yaml").write_text(yaml.safe_dump(entries))
    known = {
        "clip": {"files": {"clip.bin": {"sha256": hashlib.sha256(WEIGHT).hexdigest(), "bytes": len(WEIGHT)}}}
    }
    Path("config/weights.lock.yaml").write_text(yaml.safe_dump(known))
    dataset = {"generated": False, "reader": "ade", "root": "data/ade", "shards": 1}
    return {
        "suite": "small",
        "split": "test",
        "world": {
            "frame_seconds": 1.0,
            "clips": {"ade": {"test": 1}, "s4": {"test": 1}, "made": {"test": 1}},
        },
        "staging": {"catalogue": "config/sources.yaml", "data_root": None, "accepted_terms": []},
        "limit": None,
        "datasets": {
            "ade": dataset,
            "s4": dataset | {"reader": "s4", "root": "data/avsbench"},
            "made": dataset | {"generated": True, "root": "results/made"},
            "unused": dataset | {"root": "data/unused"},
        },
        "tasks": {"one": {"dataset": "ade"}, "two": {"dataset": "s4"}, "three": {"dataset": "made"}},
        "models": {"clip": {"weights": "data/clip.bin", "tokenizer": None, "architecture": "a_name"}},
        "banks": {"general": {"source": "data/labels.csv"}, "specific": {"source": "classes"}},
        "tables": {"reported": None, "thresholds": None},
    }


def states(config, **options) -> dict[str, str]:
    return {finding.need: finding.status for finding in doctor.examine(config, **options)}


def of(config, need: str) -> doctor.Finding:
    return {finding.need: finding for finding in doctor.examine(config)}[need]


def printed(findings) -> str:
    console = Console(width=400, record=True, file=io.StringIO())
    doctor.show(findings, "small", console)
    return console.export_text()


def place_everything(config) -> None:
    trees.ade(Path("data/ade"))
    trees.s4(Path("data/avsbench"))
    Path("data/clip.bin").write_bytes(WEIGHT)
    Path("data/labels.csv").write_text("display_name\nMusic\n")
    config["staging"]["accepted_terms"] = ["avsbench"]


def test_an_empty_disk_lacks_everything_and_says_what_to_do(config):
    findings = doctor.examine(config)
    assert states(config) == {
        "datasets.ade": "missing",
        "datasets.s4": "missing",
        "models.clip.weights": "missing",
        "banks.general": "missing",
    }
    assert doctor.exit_code(findings) == 1
    text = printed(findings)
    for words in (
        "data/archives/avsbench/",
        "Fill in the form.",
        "Research only.",
        "5.0 GB",
        "snakemake stage",
    ):
        assert words in text
    assert "4 of 4 need attention" in text


def test_a_complete_disk_is_ready(config):
    place_everything(config)
    findings = doctor.examine(config)
    assert {finding.status for finding in findings} == {"present"}
    assert doctor.exit_code(findings) == 0
    assert "The suite can run" in printed(findings)


def test_terms_not_accepted_are_unlicensed(config):
    place_everything(config)
    config["staging"]["accepted_terms"] = []
    finding = of(config, "datasets.s4")
    assert finding.status == "unlicensed"
    assert "Research only." in finding.step and "avsbench" in finding.step


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (WEIGHT[:-1], "expected 800 bytes"),
        (WEIGHT[:-1] + b"!", "expected sha256"),
        (b"<html><title>Log in</title></html>", "web page"),
    ],
)
def test_a_wrong_file_is_corrupt(config, body, words):
    place_everything(config)
    Path("data/clip.bin").write_bytes(body)
    finding = of(config, "models.clip.weights")
    assert finding.status == "corrupt"
    assert words in finding.remark
    assert "Delete data/clip.bin" in finding.step
    assert words in printed([finding])


def test_a_quick_check_compares_sizes_alone(config):
    place_everything(config)
    Path("data/clip.bin").write_bytes(WEIGHT[:-1] + b"!")
    assert states(config, quick=True)["models.clip.weights"] == "present"


def test_a_folder_without_its_entries_is_corrupt(config):
    place_everything(config)
    Path("data/ade/annotations").rename("data/ade/elsewhere")
    finding = of(config, "datasets.ade")
    assert finding.status == "corrupt"
    assert "missing: annotations" in finding.remark


def test_a_dangling_link_is_missing(config):
    place_everything(config)
    Path("data/clip.bin").unlink()
    Path("data/clip.bin").symlink_to("/nowhere/clip.bin")
    finding = of(config, "models.clip.weights")
    assert (finding.status, finding.remark) == ("missing", "the link to /nowhere/clip.bin points nowhere")


def test_a_link_is_told(config, tmp_path):
    place_everything(config)
    Path("data/clip.bin").rename("elsewhere.bin")
    Path("data/clip.bin").symlink_to(tmp_path / "elsewhere.bin")
    finding = of(config, "models.clip.weights")
    assert finding.status == "present"
    assert str(tmp_path / "elsewhere.bin") in finding.remark


def test_missing_sounds_are_named(config):
    place_everything(config)
    sounds = sorted(Path("data/ade/audio").iterdir())
    sounds[0].unlink()
    finding = of(config, "datasets.ade (sounds)")
    assert finding.status == "missing"
    assert sounds[0].name in finding.remark
    assert "VGGSound" in finding.step
    Path("data/ade/missing_sounds.txt").write_text(sounds[0].name)
    assert "No shard has them" in of(config, "datasets.ade (sounds)").step


def test_data_elsewhere_are_used_there_and_not_staged(config):
    place_everything(config)
    Path("data/avsbench").rename("shelf")
    config["datasets"]["s4"]["root"] = "shelf"
    assert of(config, "datasets.s4").status == "present"
    assert doctor.required_sources(config) == ["ade", "clip", "vggsound"]


def test_a_path_that_no_source_brings(config):
    finding = of(config, "banks.general")
    assert finding.step == "Place it at data/labels.csv, or correct the configuration."
    Path("data").mkdir()
    Path("data/labels.csv").touch()
    assert of(config, "banks.general").status == "corrupt"


def test_a_path_that_two_keys_name_comes_once(config):
    config["datasets"]["s4"]["root"] = "data/ade"
    assert "datasets.ade, datasets.s4" in states(config)


def test_the_fingerprint_changes_with_the_disk_and_only_then(config):
    before = doctor.fingerprint(config)
    assert doctor.fingerprint(copy.deepcopy(config)) == before
    place_everything(config)
    assert doctor.fingerprint(config) != before


def test_the_state_is_that_of_the_files_and_of_the_settings(config):
    config["models"]["fcclip"] = {**config["models"]["clip"], "backend": "transformers"}
    before = doctor.state(config)
    assert json.loads(json.dumps(before)) == before
    accepted = copy.deepcopy(config)
    accepted["staging"]["accepted_terms"] = ["avsbench"]
    assert doctor.state(accepted) != before
    other = copy.deepcopy(config)
    other["models"]["fcclip"]["backend"] = "detectron2"
    assert doctor.state(other) != before
    place_everything(config)
    assert doctor.state(config)["files"] != before["files"]


def test_versions_and_weights_are_told(monkeypatch):
    monkeypatch.chdir(ROOT)
    shipped = suite()
    finding = of(shipped, "models.clip.weights")
    assert finding.remark == f"sha256 {hashlib.sha256(Path(finding.place).read_bytes()).hexdigest()[:16]}"
    told = printed([finding])
    assert re.search(r"Installed: Python \d\S+, torch \d\S+, .*taco-bench \d\S+\.", told)
    assert finding.remark in told


def test_markup_in_a_name_is_no_markup(config):
    finding = doctor.Finding("x", "missing", "data/[red]odd", remark="[bold]", step="[/]")
    assert "data/[red]odd" in printed([finding])


def suite(*overlays: str) -> dict:
    """The project's configuration, merged as Snakemake merges it."""
    from snakemake.utils import update_config

    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    for name in overlays:
        update_config(config, yaml.safe_load((ROOT / "config" / name).read_text()))
    return config


def test_the_suites_need_what_they_should(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert doctor.required_sources(suite()) == []
    assert doctor.required_sources(suite("paper.yaml")) == [
        *("avsbench", "avss", "ade", "openclip", "clap", "gpt2", "fcclip", "audioset-labels", "vggsound")
    ]


def test_settings_of_an_absent_section_are_the_defaults():
    assert bring.Settings.of({}) == bring.Settings()
    assert bring.Settings.of({"data_root": "~/x"}).data_root == Path("~/x").expanduser()
