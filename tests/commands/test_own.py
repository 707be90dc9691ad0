"""The command line: complete help, exit codes, and no traceback for a mistake."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from answered import Instant
from typer.testing import CliRunner

from taco.cli import app
from taco.commands import own

ROOT = Path(__file__).resolve().parents[2]
IMAGE, SOUND, VIDEO = (str(ROOT / "examples" / name) for name in ("guitar.png", "guitar.wav", "engine.mp4"))


def call(*arguments):
    """Exit code and outputs; colours and lines' breaks of the help are taken away."""
    done = CliRunner().invoke(
        app, [str(argument) for argument in arguments], env={"COLUMNS": "200", "NO_COLOR": "1"}
    )
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, re.sub(r"\x1b\[[0-9;]*m", "", done.output)


@pytest.fixture
def instant(monkeypatch):
    model = Instant()
    monkeypatch.setattr(own, "load", lambda *_: model)
    return model


def test_a_pair_is_segmented_in_a_program_of_its_own(tmp_path):
    """With the shipped models, from another folder."""
    command = [
        sys.executable,
        "-m",
        "taco.cli",
        "segment",
        IMAGE,
        SOUND,
        "-o",
        "out",
        "--json",
        "--device",
        "cpu",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    record = json.loads(done.stdout)
    assert record["visible"] and record["words"][0]["word"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "mask.png",
        "overlay.png",
        "map.npy",
        "result.json",
    }
    assert record.keys() >= {
        "versions",
        "models",
        "seconds",
        "cross_entropy",
        "confidence",
        "confidence_threshold",
    }


def test_an_answer_is_told_in_words(instant, tmp_path):
    code, output = call("segment", IMAGE, SOUND, "-o", tmp_path / "out")
    assert code == 0 and "Seen: guitar 0.41" in output and "Written to" in output
    assert call("segment", IMAGE, SOUND, "-o", tmp_path / "out", "--quiet") == (0, "")


def test_a_video(instant, tmp_path):
    code, output = call("segment", VIDEO, "-o", tmp_path / "out", "--fps", "0.5", "--quiet", "--json")
    assert code == 0 and json.loads(output)["fps"] == 0.5
    assert (tmp_path / "out/overlay.mp4").is_file()


def test_many_of_which_one_fails(instant, tmp_path):
    (tmp_path / "list.csv").write_text(f"name,image,sound\ngood,{IMAGE},{SOUND}\nbad,{SOUND},{SOUND}\n")
    code, output = call("segment", tmp_path / "list.csv", "-o", tmp_path / "out", "--quiet", "--json")
    record = json.loads(output[output.index("{") :])
    assert code == 1 and (record["answered"], record["failed"]) == (1, 1)
    (tmp_path / "list.csv").write_text(f"name,image,sound\ngood,{IMAGE},{SOUND}\n")
    code, output = call("segment", tmp_path / "list.csv", "-o", tmp_path / "out")
    assert code == 0 and "1 kept" in output


def test_a_page_that_explains(instant, tmp_path):
    code, output = call("explain", IMAGE, SOUND, "-o", tmp_path / "page.html")
    assert code == 0 and "Written to" in output
    assert "guitar.png" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(("arguments", "expected"), [
    (["not-there.jpg", SOUND], "not-there.jpg"), ([IMAGE, "not-there.wav"], "not-there.wav"), ([SOUND, IMAGE], "guitar."),
    ([IMAGE], "a sound beside the image"), (["not-there.mp4"], "not-there.mp4"),
])  # fmt: skip
def test_a_mistake_ends_with_one_message_and_1(instant, tmp_path, arguments, expected):
    code, output = call("segment", *arguments, "-o", tmp_path / "out")
    assert code == 1 and expected in output and "Traceback" not in output


@pytest.mark.parametrize("arguments", [
    ["--suite", "mini"], ["--configfile", "not-there.yaml"], ["--words", "one"], ["--device", "tpu"],
])  # fmt: skip
def test_so_does_a_mistake_before_models_are_loaded(tmp_path, arguments):
    code, output = call("segment", IMAGE, SOUND, "-o", tmp_path / "out", *arguments)
    assert code == 1 and "Traceback" not in output and "expected" in output


def test_an_output_that_cannot_be_written(instant, tmp_path):
    (tmp_path / "file").touch()
    code, output = call("segment", IMAGE, SOUND, "-o", tmp_path / "file/out")
    assert code == 1 and "no folder" in output


@pytest.mark.parametrize("arguments", [
    ["segment"], ["segment", IMAGE, SOUND], ["segment", IMAGE, SOUND, "-o", "x", "--fps", "-1"],
    ["segment", IMAGE, SOUND, "-o", "x", "--what"], ["explain", IMAGE, "-o", "x"], ["nothing"],
])  # fmt: skip
def test_wrong_usage_is_2(arguments):
    code, _ = call(*arguments)
    assert code == 2


def test_help_is_complete():
    code, output = call("--help")
    commands = ("segment", "explain", "doctor", "score", "export", "bench")
    assert code == 0 and all(name in output for name in (*commands, "--version", "--install-completion"))
    for command in commands:
        code, output = call(command, "--help")
        assert code == 0 and "Usage" in output
        for option in re.findall(r"│\s+(--[a-z-]+).*", output):
            line = next(line for line in output.splitlines() if option in line)
            assert len(re.sub(r"[\s│─]+", " ", line).split(option)[1].split()) > 2 or option == "--help", (
                f"{command} {option}"
            )


def test_version():
    code, output = call("--version")
    assert code == 0 and re.fullmatch(r"taco-bench \d+\.\d+\.\d+\S*\s*", output)


def test_an_error_of_ours_keeps_its_traceback(instant, monkeypatch, tmp_path):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(instant, "segment", broken)
    done = CliRunner().invoke(app, ["segment", IMAGE, SOUND, "-o", str(tmp_path)])
    assert isinstance(done.exception, ZeroDivisionError)
