"""What the benchmarks share: a report is printed and written, and times are told apart. Nothing here asserts a time."""

import json

import pytest
import torch

from taco.bench import measure

STEPS = 20


def test_a_report_is_printed_and_written_with_its_machine(tmp_path, capsys):
    def work(*, say):
        say("half way")
        return {"rows": [{"name": "a", "value": 0.5}, {"name": "b", "value": None}]}

    def tables(found):
        yield "before the table"
        yield measure.table("Title", {"name": "name", "value": "value"}, found["rows"])

    path = tmp_path / "report.json"
    found = measure.report(work, tables, device="cpu", output=path)
    assert json.loads(path.read_text()) == found and [file.name for file in tmp_path.iterdir()] == [
        "report.json"
    ]
    assert list(found) == ["machine", "rows"] and found["machine"]["torch"] == torch.__version__
    words = capsys.readouterr().out.split()
    assert [word for word in words if word in ("half", "before", "Title", "0.5", "-")] == [
        "half", "before", "Title", "0.5", "-",
    ]  # fmt: skip


def test_a_benchmark_that_fails_writes_nothing(tmp_path):
    def work(*, say):
        raise RuntimeError("too busy")

    with pytest.raises(RuntimeError, match="too busy"):
        measure.report(work, lambda found: [], device="cpu", output=tmp_path / "report.json")
    assert not list(tmp_path.iterdir())


def test_a_step_is_the_difference_of_two_runs(monkeypatch):
    """A run of n steps that takes 5 + 2 n seconds of the clock and 7 + 3 n of the processor."""
    runs = []
    monkeypatch.setattr(
        measure, "spent", lambda work, device: (work(), measure.Spent(5 + 2 * runs[-1], 7 + 3 * runs[-1]))[1]
    )
    assert measure.difference(runs.append, STEPS, "cpu") == (2.0, 3.0, 5.0)
    assert set(runs) == {STEPS // 10, STEPS // 10 + STEPS}


def test_no_number_is_made_of_a_longer_run_that_took_less(monkeypatch):
    runs = []
    monkeypatch.setattr(
        measure, "spent", lambda work, device: (work(), measure.Spent(100.0 - runs[-1], 1.0))[1]
    )
    with pytest.raises(RuntimeError, match="too busy to time anything"):
        measure.difference(runs.append, STEPS, "cpu")


def test_a_stopwatch_divides_by_what_was_handled():
    said = []
    watch = measure.Stopwatch(torch.device("cpu"), say=said.append)
    assert watch.time("stage", lambda: "result", 4) == "result"
    watch.note("other", "image", -1.0, 0.5)  # a difference of times that came out below 0
    assert watch.stages["other"].ms == 0 and watch.stages["other"].per_second is None
    assert watch.ms("stage", "other") == watch.stages["stage"].cpu_ms + 500
    assert [line.split(":")[0] for line in said] == ["stage", "other"]
