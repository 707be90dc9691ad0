"""From a template to an answer that can be scored, by the commands that people type."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from taco import suites
from taco.cli import app

ROOT = Path(__file__).resolve().parents[2]


def taco(*words):
    return CliRunner().invoke(app, ["method", *words])


@pytest.fixture
def template(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = taco("new", "my-method")
    assert done.exit_code == 0, done.output
    return tmp_path / "methods"


def test_a_template_passes_its_own_test(template):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(template / "test_my_method.py"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_template_comes_with_a_configuration_that_the_check_runs(template):
    config = suites.read([template / "my_method.yaml"])
    assert {"dense-clip", "saliency", "my-method"} <= set(config["methods"])
    done = taco("check", "my-method", "--configfile", str(template / "my_method.yaml"))
    assert done.exit_code == 0, done.output
    assert "binary: 4 samples" in done.output and "semantic: 4 samples" in done.output


def test_nothing_is_overwritten(template):
    (template / "my_method.py").write_text("mine")
    done = taco("new", "my-method")
    assert done.exit_code == 1 and "methods/my_method.py" in done.output
    assert (template / "my_method.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["My Method", "../x", "", "a_b"])
def test_a_name_that_is_no_name_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    done = taco("new", "--", name)
    assert done.exit_code == 1 and "expected a name" in done.output and not list(tmp_path.iterdir())


def test_the_check_says_what_is_wrong(template):
    wrong = "import numpy as np\ndef predict(sample, state):\n    return np.full((4, 4), np.nan)\n"
    (template / "my_method.py").write_text(wrong)
    done = taco("check", "my-method", "--configfile", str(template / "my_method.yaml"))
    assert done.exit_code == 1 and "values that are not finite" in done.output


def test_an_unknown_method_is_named_with_those_there_are():
    done = taco("check", "nothing")
    assert done.exit_code == 1 and "dense-clip, saliency" in done.output


def test_a_method_that_asks_for_features_is_checked_on_them():
    done = taco("check", "dense-clip")
    assert done.exit_code == 0, done.output
    assert "binary: 4 samples" in done.output and "semantic: 4 samples" in done.output
