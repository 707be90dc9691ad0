"""``taco bench``: which benchmarks run, and where their reports go."""

import json

import pytest
from typer.testing import CliRunner

from taco.bench import caches, conmf, pipeline
from taco.cli import app


def call(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"NO_COLOR": "1"})
    return done.exit_code, done.output


@pytest.fixture
def ran(monkeypatch):
    """Benchmarks that do nothing but say that they ran."""
    names = []
    for module in (conmf, pipeline, caches):
        name = module.__name__.rpartition(".")[2]

        def work(*_, name=name, say, **options):
            names.append(name)
            return {"of": name}

        monkeypatch.setattr(module, name, work)
        monkeypatch.setattr(module, "tables", lambda report: [f"{report['of']} laid out"])
    return names


def test_one_is_the_solver_unless_named_and_writes_a_file(ran, tmp_path):
    code, output = call("bench", "--output", tmp_path / "one.json")
    assert (code, ran) == (0, ["conmf"])
    assert "conmf laid out" in output
    assert json.loads((tmp_path / "one.json").read_text())["of"] == "conmf"


def test_all_run_one_after_the_other_and_write_a_file_each(ran, tmp_path):
    code, _ = call("bench", "all", "--output", tmp_path / "many")
    assert (code, ran) == (0, ["conmf", "pipeline", "caches"])
    found = {path.name: json.loads(path.read_text())["of"] for path in (tmp_path / "many").iterdir()}
    assert found == {f"{name}.json": name for name in ran}


def test_an_unknown_one_is_named_before_any_runs(ran):
    code, output = call("bench", "conmf", "speed")
    assert (code, ran) == (2, [])
    assert "found speed" in output
