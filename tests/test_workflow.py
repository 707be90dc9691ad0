"""The whole workflow on a very small world: it ends in tables, repeats nothing, survives a kill, says what is wrong.

All runs use the shipped miniature models and go through Snakemake in a folder of their own.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import browser
import check_gallery
import check_report
import h5py
import hdf5plugin  # noqa: F401  (registers the compression of the caches)
import numpy as np
import pandas as pd
import pytest
from workflow import RESULTS, STAGES, command, environment, make_project, planned, snakemake, table_bytes

from taco import suites
from taco.audit import matching


def asked_memory(output):
    """(rule, MB) of every job that Snakemake announces."""
    blocks = re.findall(
        r"^(?:local)?rule (\w+):\n(?:    .*\n)*?    resources: .*\bmem_mb=(\d+)", output, re.MULTILINE
    )
    return [(rule, int(memory)) for rule, memory in blocks]


def contents(path):
    """Every array of an HDF5 file by name."""
    arrays = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: arrays.update({name: item[()]} if isinstance(item, h5py.Dataset) else {})
        )
    return arrays


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project whose default target has run to its end."""
    folder = make_project(tmp_path_factory.mktemp("workflow") / "project")
    snakemake(folder)
    return folder


# ---------------------------------------------------------------- a complete run


def test_no_stage_takes_more_than_two_gigabytes(finished):
    found = {
        path: pd.read_csv(path, sep="\t", na_values="-")["max_rss"].max()
        for path in (finished / RESULTS / "benchmarks").rglob("*.tsv")
    }
    assert {"features", "factorize", "score", "tables", "figures", "gallery"} <= {
        name for path in found for name in (path.stem, *path.parts)
    }
    assert {path: megabytes for path, megabytes in found.items() if megabytes > 2048} == {}


def test_the_default_target_ends_in_tables(finished):
    tables = table_bytes(finished)
    assert {"table1.csv", "table2.md", "table3.csv", "table1.tex", "table5.md", "intervals.csv"} <= set(
        tables
    )
    for name, content in tables.items():
        assert b"miniature suite" in content, name
    columns = (
        "table,dataset,method,variant,word_bank,metric,mean,std,n_seeds,n_samples,"
        "reported_mean,reported_std,reported_deviation,release_mean,release_std,release_deviation,source"
    )
    assert tables["table2.csv"].decode().splitlines()[0] == columns


def test_tables_hold_every_method_and_no_number_of_others(finished):
    table = pd.read_csv(finished / RESULTS / "tables/table2.csv")
    assert {"TACO", "U only", "A-FC-CLIP", "whole image", "random mask", "oracle mask"} <= set(
        table["method"]
    )
    assert "shuffled audio" in set(table["variant"])
    assert table["mean"].between(0, 100).all()
    assert table[["reported_mean", "reported_std", "release_mean", "release_std"]].isna().all(axis=None)
    seeds = table.set_index(["method", "variant"])["n_seeds"]
    assert set(seeds["TACO", "proposed"]) == {3}
    assert set(seeds["oracle mask", "control"]) == {1}
    assert set(table.loc[table["dataset"] == "S4", "n_samples"]) == {10}  # two clips of five frames
    ablations = set(pd.read_csv(finished / RESULTS / "tables/table3.csv")["variant"])
    assert {"no-min", "w/o component", "w/o penalty"} <= ablations


def test_the_oracle_bounds_every_binary_score(finished):
    table = pd.read_csv(finished / RESULTS / "tables/table2.csv")
    table = table[(table["dataset"] == "S4") & (table["metric"] == "mask-IoU")].set_index(
        ["method", "variant"]
    )
    oracle = table.loc[("oracle mask", "control"), "mean"]
    others = table[~table.index.isin([("oracle mask", "control")])]
    assert (others["mean"] <= oracle + 1e-9).all()


def test_factors_are_what_the_solver_promises(finished):
    factors = contents(finished / RESULTS / "factors/s4/general/proposed/0.h5")
    seeds, components = 3, 8
    assert factors["image_activations"].shape[:2] == (10, seeds)
    assert factors["image_activations"].shape[-1] == components
    assert (factors["image_activations"] >= 0).all() and (factors["image_activations"] <= 1).all()
    assert (factors["image_factors"] >= 0).all()
    np.testing.assert_array_equal(factors["k_star"], factors["cross_entropy"].argmin(-1))


def test_exchanged_sounds_change_the_sound_alone(finished):
    own = contents(finished / RESULTS / "factors/ade/general/proposed/0.h5")
    other = contents(finished / RESULTS / "factors/ade/general/shuffled-audio/0.h5")
    assert not np.array_equal(own["audio_factors"], other["audio_factors"])
    assert list(own["sample_ids"]) == list(other["sample_ids"])


def test_provenance_says_what_made_the_results(finished):
    record = json.loads((finished / RESULTS / "provenance.json").read_text())
    assert record["suite"] == "miniature"
    assert record["device"].startswith(("cpu", "cuda"))
    assert record["config"]["limit"] == 2
    assert {"clip_digest", "factorize"} <= set(record["digests"])


def test_every_job_left_a_log_that_names_its_device(finished):
    logs = finished / RESULTS / "logs"
    assert "device: " in (logs / "factorize/s4/0.log").read_text()
    assert "device: " in (logs / "features/s4/0.log").read_text()
    assert list((finished / RESULTS / "benchmarks").rglob("*.tsv"))


# ---------------------------------------------------------------- pages


needs_browser = pytest.mark.skipif(browser.find() is None, reason="no Chromium is installed")


@needs_browser
def test_the_report_is_in_order_in_a_browser(finished, tmp_path):
    page = tmp_path / "report.html"
    snakemake(finished, "--report", str(page))
    assert check_report.problems(page) == []


@needs_browser
def test_the_gallery_is_in_order_in_a_browser(finished):
    assert check_gallery.problems(finished / RESULTS / "gallery") == []
    assert len(list((finished / RESULTS / "gallery").glob("*/*.html"))) == 10 + 10 + 2 + 2 * 10 + 2


# ---------------------------------------------------------------- what runs again


def verified(folder):
    """Mismatches of a project's results with their inputs, and how many files were looked at."""
    with contextlib.chdir(folder):
        checker = matching.Checker(suites.read(["small.yaml"]))
        return list(checker.mismatches()), checker


def test_results_match_what_they_were_made_from(finished):
    lines, checker = verified(finished)
    assert lines == [] and checker.notes == []
    expected = {path for path in matching.expected_files(checker.config)}
    assert {path for path in expected if not (finished / path).is_file()} == set()


def test_what_was_changed_afterwards_is_named_and_nothing_else(finished, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(finished, folder, symlinks=True)
    results = folder / RESULTS
    shutil.copy(results / "features/s4/0.h5", results / "features/s4/7.h5")
    table = results / "tables/table2.md"
    table.write_text(table.read_text(encoding="utf-8").replace("TACO", "OCAT", 1), encoding="utf-8")
    factors = results / "factors/ms3/general/proposed/0.h5"
    data = bytearray(factors.read_bytes())
    with h5py.File(factors) as file:
        data[file["image_factors"].id.get_chunk_info(0).byte_offset + 30] ^= 1
    factors.write_bytes(data)
    lines, _ = verified(folder)
    named = {"features/s4/7.h5", "tables/table2.md", "factors/ms3/general/proposed/0.h5"}
    assert {str(Path(re.split(": ", line)[0]).relative_to(RESULTS)) for line in lines} == named, lines
    overlay = folder / "small.yaml"
    overlay.write_text(overlay.read_text() + "decoding: {beta: 0.5}\n")
    lines, _ = verified(folder)
    stale = [line for line in lines if "other settings" in line]
    assert {Path(re.split(": ", line)[0]).name for line in stale} == {
        f"{task}.rows.parquet" for task in ("s4", "ms3", "avss", "ade_sp", "ade_sp_semantic")
    }


def test_a_second_run_does_nothing(finished):
    before = {path: path.stat().st_mtime_ns for path in (finished / RESULTS).rglob("*") if path.is_file()}
    _, output = snakemake(finished)
    assert "Nothing to be done" in output
    assert {
        path: path.stat().st_mtime_ns for path in (finished / RESULTS).rglob("*") if path.is_file()
    } == before


@contextlib.contextmanager
def edited(path, old, new):
    text = path.read_text()
    assert old in text, f"{path} no longer holds {old!r}"
    path.write_text(text.replace(old, new, 1))
    try:
        yield
    finally:
        path.write_text(text)


def test_a_job_asks_for_memory_by_the_samples_of_its_shard(finished):
    _, output = snakemake(finished, "--dry-run", "--forcerun", "score")
    manifests = [finished / RESULTS / f"manifests/{name}.parquet" for name in ("s4", "ms3", "avss", "ade")]
    expected = [6000 + 12 * len(pd.read_parquet(path)) for path in manifests]
    assert sorted(memory for rule, memory in asked_memory(output) if rule == "score") == sorted(expected)


def test_touching_code_repeats_nothing(finished):
    for name in ("workflow_scripts/factorize.py", "taco/cache/hdf5.py", "rules/factorize.smk"):
        (finished / name).touch()
    assert planned(finished) == set()


def test_a_comment_repeats_nothing(finished):
    path = finished / "taco/results/aggregate.py"
    with edited(path, '"""', '# a comment\n"""'):
        assert planned(finished) == set()


def test_an_edit_repeats_exactly_the_stages_that_use_it(finished):
    with edited(finished / "taco/results/tables.py", "class TableError", "UNUSED = 1\n\n\nclass TableError"):
        assert planned(finished) & STAGES == {"tables"}
    with edited(finished / "taco/conmf/settings.py", "DEFAULT_RATE", "UNUSED = 1\nDEFAULT_RATE"):
        assert planned(finished) & STAGES == {"factorize", "score", "tables"}


def test_a_solver_setting_repeats_solving_and_what_follows(finished):
    with edited(finished / "small.yaml", "solver: {steps", "solver: {beta_penalty: 77.0, steps"):
        again = planned(finished)
    assert again & STAGES == {"factorize", "score", "tables"}


def factor_times(folder):
    """When each factor file was written, by its path below ``factors/``."""
    place = folder / RESULTS / "factors"
    return {str(path.relative_to(place)): path.stat().st_mtime_ns for path in place.rglob("*.h5")}


def test_a_new_variant_is_solved_alone_and_a_lost_file_is_made_again(finished, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(finished, folder, symlinks=True)
    lost, receipt = folder / RESULTS / "factors/ms3/general/proposed/0.h5", str(RESULTS / "factors/{}/0.json")
    receipts, before = [receipt.format(name) for name in ("s4", "ms3")], factor_times(folder)
    with edited(folder / "small.yaml", "variants: [shuffled-audio]", "variants: [shuffled-audio, no-min]"):
        lost.unlink()
        snakemake(folder, *receipts)
        after = factor_times(folder)
        assert {name for name in after if after[name] != before.get(name)} == {
            "s4/general/no-min/0.h5",
            "ms3/general/proposed/0.h5",
        }
        assert planned(folder, *receipts) == set()
    for name, values in contents(finished / lost.relative_to(folder)).items():
        np.testing.assert_array_equal(contents(lost)[name], values)


def test_a_damaged_file_is_made_again_and_the_others_are_kept(finished, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(finished, folder, symlinks=True)
    receipt, before = folder / RESULTS / "factors/ade/0.json", factor_times(folder)
    (folder / RESULTS / "factors/ade/general/no-min/0.h5").write_bytes(b"cut off")
    receipt.unlink()
    snakemake(folder, str(receipt.relative_to(folder)))
    after = factor_times(folder)
    assert {name for name in after if after[name] != before[name]} == {"ade/general/no-min/0.h5"}


def test_a_resolution_repeats_scoring_and_what_follows(finished):
    with edited(finished / "small.yaml", "limit: 2", "limit: 2\nevaluation: {size: 62}"):
        again = planned(finished)
    assert again & STAGES == {"score", "tables"}


# ---------------------------------------------------------------- kill and resume


def copy_until_features(source, target, datasets):
    """A project in which everything before the solver has been done, and for other datasets all before the tables."""
    shutil.copytree(source, target, symlinks=True)
    for name in ("tables", *(f"{kind}/{dataset}" for kind in ("factors", "scores") for dataset in datasets)):
        shutil.rmtree(target / RESULTS / name)
    (target / RESULTS / "provenance.json").unlink()
    return target


def kill_midway(folder, datasets):
    """Start a run and SIGKILL it, with all its jobs, while the second factorization is under way."""
    folders = [folder / RESULTS / "factors" / dataset for dataset in datasets]

    def files(pattern):
        return [path for place in folders if place.exists() for path in place.rglob(pattern)]

    with open(folder / "killed.log", "w") as log:
        process = subprocess.Popen(
            command("--until", "tables"),
            cwd=folder,
            stdout=log,
            stderr=log,
            env=environment(),
            start_new_session=True,
        )
        deadline = time.monotonic() + 240
        while process.poll() is None and time.monotonic() < deadline:
            done = files("0.h5")
            if len(done) >= 2 or done and files(".0.h5.*.partial"):
                break
            time.sleep(0.01)
        running = process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert running, (folder / "killed.log").read_text()[-3000:]
    return len(files("0.h5"))


def test_a_killed_run_resumes_and_ends_with_the_same_numbers(finished, tmp_path):
    datasets = ("s4", "avss")
    folder = copy_until_features(finished, tmp_path / "project", datasets)
    completed = kill_midway(folder, datasets)
    total = sum(len(list((finished / RESULTS / "factors" / name).rglob("0.h5"))) for name in datasets)
    assert 0 < completed < total
    snakemake(folder, "--unlock")
    snakemake(folder, "--until", "tables")
    assert table_bytes(folder) == table_bytes(finished)
    for path in sorted((finished / RESULTS / "factors").rglob("0.h5")):
        again = contents(folder / path.relative_to(finished))
        for name, values in contents(path).items():
            np.testing.assert_array_equal(again[name], values, err_msg=f"{path} {name}")
    assert not list((folder / RESULTS).rglob("*.partial"))


# ---------------------------------------------------------------- mistakes


def test_a_misspelt_key_stops_at_once_with_its_path(tmp_path):
    folder = make_project(tmp_path / "project")
    code, output = snakemake(folder, "--dry-run", "--config", 'solver={"stpes": 5}', check=False)
    assert code != 0
    assert "solver.stpes: unknown key" in output
    assert "Traceback" not in output


def test_a_table_that_nothing_would_fill_stops_the_whole_workflow_and_no_other_target(tmp_path):
    folder = make_project(tmp_path / "project")
    unfilled = ["--dry-run", "--config", 'tasks={"ade_sp": {"variants": []}}']
    code, output = snakemake(folder, *unfilled, check=False)
    assert code != 0
    assert "tasks.ade_sp: table3 shows no-min" in output and "Traceback" not in output
    assert "rule factorize" in snakemake(folder, str(RESULTS / "factors/ade/0.json"), *unfilled)[1]


def test_bad_files_are_listed_together_before_features_are_computed(finished, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(finished, folder, symlinks=True)
    for name in ("manifests", "features", "proposals", "factors", "scores", "tables"):
        shutil.rmtree(folder / RESULTS / name)
    (folder / RESULTS / "text.h5").unlink()
    frames = sorted((folder / RESULTS / "world/ade/frames").glob("adetest*"))
    frames[0].write_bytes(b"no image")
    sounds = sorted((folder / RESULTS / "world/ade/audio").glob("adetest*"))
    sounds[1].write_bytes(b"")
    code, output = snakemake(folder, str(RESULTS / "features/ade/0.h5"), "--retries", "1", check=False)
    assert code != 0
    assert [memory for rule, memory in asked_memory(output) if rule == "manifest"] == [2000, 4000]
    assert frames[0].name in output and sounds[1].name in output
    assert "ManifestError" in output and "Traceback" not in output
    assert not (folder / RESULTS / "features").exists()


def test_a_results_folder_that_cannot_be_written_is_a_clear_error(tmp_path):
    folder = make_project(tmp_path / "project")
    (folder / "results").write_text("in the way")
    code, output = snakemake(folder, check=False)
    assert code != 0
    assert "results: expected a folder" in output and "Traceback" not in output


def test_the_paper_suite_can_be_planned_without_its_data(tmp_path):
    folder = make_project(tmp_path / "project")
    _, output = snakemake(
        folder, "--dry-run", "--quiet", "rules", "--configfile", "config/paper.yaml", overlay=False
    )
    counts = dict(
        line.split() for line in output.splitlines() if line.startswith(("features", "factorize", "score"))
    )
    assert int(counts["features"]) == 8 + 1 + 16 + 2
    assert counts["factorize"] == counts["score"] == counts["features"]


@pytest.mark.parametrize(
    ("target", "options", "rules"),
    [
        ("verify_paper", ["config/verify.yaml"], {"checks", "features", "factorize", "score"}),
        ("train_miniature_models", [], {"train_miniature_models"}),
        ("stage", ["config/paper.yaml"], {"stage_url", "stage_hub", "stage_drive", "stage_by_hand"}),
    ],
)
def test_optional_targets_can_be_planned(target, options, rules, tmp_path):
    folder = make_project(tmp_path / "project")
    files = ["--configfile", *options] if options else []
    _, output = snakemake(folder, target, "--dry-run", "--quiet", "rules", *files, overlay=False)
    assert rules <= {line.split()[0] for line in output.splitlines() if line.strip()}, output


def test_the_paper_suite_says_what_is_missing(tmp_path):
    folder = make_project(tmp_path / "project")
    target = "results/paper/manifests/s4.parquet"
    code, output = snakemake(folder, target, "--configfile", "config/paper.yaml", overlay=False, check=False)
    assert code != 0
    assert "NotReadyError" in output and "Traceback" not in output
    for words in (
        "data/avsbench",
        "data/archives/avss/",
        "data/weights/fcclip_cocopan.pth",
        "accepted_terms",
    ):
        assert words in output
