"""What a suite will cost: sums of measured rates, laid on workers. Nothing here asserts a time."""

import copy
import json
import re

import pytest
from typer.testing import CliRunner

from taco import suites
from taco.bench import costs, plan, rates
from taco.cli import app
from taco.data import manifest

PAGE = (suites.ROOT / "docs/cluster.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def paper():
    return suites.read([suites.ROOT / "config/paper.yaml"])


@pytest.fixture
def h200(paper):
    return next(one for one in rates.load(paper) if one.kind == "cuda")


def test_the_page_says_what_the_command_prints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["plan", "--configfile", str(suites.ROOT / "config/paper.yaml")])
    assert done.exit_code == 0, done.output
    assert PAGE.split("<!-- plan -->\n")[1].split("<!-- /plan -->")[0] == done.output


def test_more_workers_shorten_what_is_parallel_and_no_more(paper, h200):
    samples = {"s4": 3700, "ms3": 320, "avss": 7500}
    found = {stage.name: stage for stage in plan.stages(paper, h200, samples)}
    for stage in found.values():
        assert stage.hours(1) == pytest.approx(sum(stage.seconds) / 3600)
        for workers in (8, 64):
            least = max(max(stage.seconds), sum(stage.seconds) / workers) / 3600
            assert least * 0.999 <= stage.hours(workers) <= stage.hours(1)
            assert stage.parallel or stage.hours(workers) == stage.hours(1)
    assert len(found["features"].seconds) == 8 + 1 + 16
    assert plan.alone(list(found.values())) == sum(s.hours(1) for s in found.values() if not s.parallel)


def test_a_stage_is_its_samples_by_the_rates_of_the_costs_and_its_jobs_starts(paper, h200):
    found = {stage.name: sum(stage.seconds) for stage in plan.stages(paper, h200, {"s4": 1000})}
    ms = costs.sample_ms(h200, paper, "s4")
    assert found["features"] == pytest.approx(ms["features"] + 8 * h200.start("features"))
    assert found["factorize"] == pytest.approx(ms["conmf"] + 8 * h200.start("factorize"))
    assert ms["conmf"] == pytest.approx(5 * 3 * h200.ms("co-NMF, 1800 steps, 3 seeds"))


def test_what_nobody_has_measured_counts_as_nothing_and_is_said(h200):
    assert h200.ms("CLIP trunk", "cache write, tokens") == h200.stages["CLIP trunk"]
    assert h200.unknown == {"cache write, tokens"}
    half = h200.ms("co-NMF, 900 steps, 3 seeds")
    assert half == h200.stages["co-NMF, 1800 steps, 3 seeds"] / 2 and h200.scaled


def test_every_rate_of_the_repository_says_where_it_is_from(paper):
    for one in rates.load(paper):
        assert one.measured and one.device and all(one.sources.values())
        assert all(value is None or value >= 0 for value in one.stages.values())


def test_ones_own_rates_are_read_from_a_benchmarks_report(tmp_path):
    path = tmp_path / "mine.json"
    stage = {
        "stage": "CLIP trunk",
        "unit": "image",
        "ms": 9.0,
        "cpu_ms": 5.0,
        "per_second": 1,
        "peak_gb": None,
    }
    report = {"machine": {"device": "x86"}, "suite": "paper", "models": "random weights", "threads": 1}
    path.write_text(json.dumps({**report, "stages": [stage]}))
    assert rates.read_report(path).ms("CLIP trunk") == 5.0
    path.write_text(json.dumps({**report, "stages": [stage | {"peak_gb": 3.0}]}))
    assert rates.read_report(path).ms("CLIP trunk") == 9.0 and rates.read_report(path).overlaps
    path.write_text("{}")
    with pytest.raises(rates.RatesError, match="taco bench pipeline --output"):
        rates.read_report(path)


def test_samples_are_counted_by_manifests_where_these_are(paper, tmp_path, monkeypatch):
    from taco.commands.plan import samples_of

    monkeypatch.chdir(tmp_path)
    counts, remarks = samples_of(paper)
    assert counts == {"s4": 3700, "ms3": 320, "avss": 7500} and "not known" in remarks["ade"]
    empty = manifest.from_rows([])
    manifest.write(empty, "results/paper/manifests/ade.parquet")
    assert samples_of(paper)[0]["ade"] == 0


def test_models_that_nobody_has_timed_are_no_error(paper, tmp_path):
    config = copy.deepcopy(paper)
    config["models"]["clip"]["architecture"] = str(tmp_path / "another.json")
    assert rates.load(config) == []


def test_the_sum_is_an_estimate_by_its_own_words():
    section = PAGE.split("<!-- plan -->\n")[1]
    assert section.startswith("**paper: an estimate") and re.search(r"\* Measured: one H200", section)
