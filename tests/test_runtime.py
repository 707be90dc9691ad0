"""Devices, logs, whole files, digests of code, provenance."""

import contextlib
import errno
import json
import logging
import os
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from taco import runtime

ROOT = Path(__file__).resolve().parents[1]


def cuda_is_there():
    import torch

    return torch.cuda.is_available()


def test_cpu_is_taken_when_asked_for(caplog):
    with caplog.at_level(logging.INFO, logger="taco"):
        device = runtime.setup("cpu", 1)
    assert device.type == "cpu"
    assert "device: cpu (asked for cpu), 1 threads" in caplog.text


def test_cuda_never_falls_back(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(runtime.DeviceError, match="expected a CUDA device, found none"):
        runtime.setup("cuda")
    assert runtime.setup("auto").type == "cpu"


def test_cuda_is_taken_where_there_is_one():
    if not cuda_is_there():
        pytest.skip("no CUDA device")
    assert runtime.setup("auto").type == "cuda"
    assert runtime.setup("cuda").type == "cuda"


def test_an_unknown_device_is_refused():
    with pytest.raises(runtime.DeviceError, match="found 'gpu'"):
        runtime.setup("gpu")


def test_threads_are_set():
    import torch

    before = torch.get_num_threads()
    try:
        runtime.setup("cpu", 2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_neither_torch_nor_snakemake_is_imported():
    script = "import sys; import taco.runtime, taco.suites; print(sorted({'torch', 'snakemake', 'pandas'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_the_log_holds_everything_and_closes(tmp_path):
    path = tmp_path / "logs" / "a.log"
    with runtime.log_to(path) as log:
        log.info("a step")
        logging.getLogger("taco.inner").warning("a warning")
    log.info("after")
    text = path.read_text()
    assert "a step" in text and "a warning" in text
    assert "after" not in text


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "new" / "table.csv"
    with runtime.atomic_write(path) as partial:
        partial.write_text("content")
        assert not path.exists()
        assert partial.parent == path.parent
    assert path.read_text() == "content"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_keeps_what_was_there(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="stop"), runtime.atomic_write(path) as partial:
        partial.write_text("half")
        raise RuntimeError("stop")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def refusing(number, folders):
    """An fsync that gives this error for folders, or for files."""

    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode) == folders:
            raise OSError(number, os.strerror(number))

    return fsync


@pytest.mark.parametrize("folders", [True, False])
@pytest.mark.parametrize("name", ["EINVAL", "EBADF", "ENOSYS", "ENOTSUP", "EACCES", "EPERM"])
def test_a_file_system_that_cannot_sync_takes_files_all_the_same(tmp_path, monkeypatch, name, folders):
    monkeypatch.setattr(os, "fsync", refusing(getattr(errno, name), folders))
    with runtime.atomic_write(tmp_path / "a.csv") as partial:
        partial.write_text("x")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EIO"])
def test_a_disk_that_has_lost_what_was_written_is_one_error(tmp_path, monkeypatch, name):
    number = getattr(errno, name)
    (tmp_path / "a.csv").write_text("old")
    monkeypatch.setattr(os, "fsync", refusing(number, folders=False))
    with (
        pytest.raises(runtime.OutputError, match=f"a.csv: expected a file .*{os.strerror(number)}.*Free"),
        runtime.atomic_write(tmp_path / "a.csv") as partial,
    ):
        partial.write_text("x")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EROFS", "EFBIG"])
def test_a_disk_that_becomes_full_in_the_middle_is_one_error(tmp_path, name):
    number = getattr(errno, name)
    with (
        pytest.raises(runtime.OutputError, match=f"a.csv: expected a file .*{os.strerror(number)}"),
        runtime.atomic_write(tmp_path / "a.csv") as partial,
    ):
        partial.write_text("half")
        raise OSError(number, os.strerror(number))
    assert not list(tmp_path.iterdir())


def test_a_missing_input_is_no_error_of_the_output(tmp_path):
    with pytest.raises(FileNotFoundError), runtime.atomic_write(tmp_path / "a.csv"):
        (tmp_path / "input.csv").read_text()


def test_remains_of_dead_processes_go_and_those_of_live_ones_stay(tmp_path):
    path = tmp_path / "table.csv"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    name = runtime.partial_path(path).name
    leftover = tmp_path / name.replace(f"-{os.getpid()}-", f"-{dead.pid}-")
    alive = tmp_path / name
    elsewhere = tmp_path / f".{path.name}.anotherhost-{dead.pid}-00000000.partial"
    for file in (leftover, alive, elsewhere):
        file.write_text("half")
    folder = leftover.with_name(leftover.name.replace(".partial", "0.partial"))
    (folder / "inside").mkdir(parents=True)
    runtime.partial_path(path)
    assert not leftover.exists() and not folder.exists()
    assert alive.exists() and elsewhere.exists()


def test_a_folder_appears_whole_in_place_of_an_older_one(tmp_path):
    path = tmp_path / "new" / "world"
    for text in ("first", "second"):
        with runtime.atomic_folder(path) as partial:
            (partial / text).write_text(text)
            assert not (path / text).exists()
        assert [file.name for file in path.iterdir()] == [text]
    assert list(path.parent.iterdir()) == [path]


def test_an_error_keeps_the_folder_that_was_there(tmp_path):
    path = tmp_path / "world"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(runtime.OutputError, match="world: expected"), runtime.atomic_folder(path) as partial:
        (partial / "half").touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert [file.name for file in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_two_that_write_one_folder_at_once_leave_one_of_theirs_whole(tmp_path):
    path = tmp_path / "world"
    with runtime.atomic_folder(path) as one, runtime.atomic_folder(path) as other:
        for folder, text in ((one, "one"), (other, "other")):
            (folder / "a").write_text(text)
            (folder / "b").write_text(text)
    assert {file.name: file.read_text() for file in path.iterdir()} == {"a": "one", "b": "one"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_another_process_takes_away_meanwhile_is_no_error(tmp_path, monkeypatch):
    path, rename = tmp_path / "world", Path.rename
    path.mkdir()
    (path / "old").touch()

    def slow(self, target):
        if self == path:  # another process is faster
            rename(self, tmp_path / "taken")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", slow)
    with runtime.atomic_folder(path) as partial:
        (partial / "new").touch()
    assert [file.name for file in path.iterdir()] == ["new"]


def test_the_order_of_keys_does_not_change_a_digest():
    assert runtime.digest({"a": 1, "b": [1, 2]}) == runtime.digest({"b": [1, 2], "a": 1})
    assert runtime.digest({"a": 1}) != runtime.digest({"a": 2})
    assert runtime.digest([1, 2]) != runtime.digest([2, 1])


def test_whatever_json_may_hold_has_a_digest():
    values = ["é", "\ud800", "\udfff", "?", {"\ud800": None}, float("nan"), 10**400]
    assert len({runtime.digest(json.loads(json.dumps(value))) for value in values}) == len(values)


# ---------------------------------------------------------------- provenance


def test_provenance_is_json_and_names_what_matters():
    config = {"suite": "miniature", "seed": 0}
    record = json.loads(json.dumps(runtime.provenance(config, "cpu", {"clip_digest": "abc"})))
    assert record["suite"] == "miniature"
    assert record["config"] == config
    assert record["config_digest"] == runtime.digest(config)
    assert record["device"] == "cpu"
    assert record["digests"] == {"clip_digest": "abc"}
    assert record["packages"]["numpy"]


def test_the_commit_says_when_files_differ(tmp_path):
    assert runtime.git_commit(tmp_path) is None
    script = """
        git init -q . && git config user.email a@b && git config user.name c
        echo 1 > file && git add file && git commit -q -m first
    """
    subprocess.run(["bash", "-ec", textwrap.dedent(script)], cwd=tmp_path, check=True)
    clean = runtime.git_commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "file").write_text("2")
    assert runtime.git_commit(tmp_path) == f"{clean}+changes"


def test_results_that_cannot_be_written_are_refused(tmp_path, monkeypatch):
    runtime.check_writable(tmp_path / "results/suite")
    (tmp_path / "results").write_text("in the way")
    with pytest.raises(runtime.OutputError, match="expected a folder.*found something that is no folder"):
        runtime.check_writable(tmp_path / "results/suite")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(runtime.OutputError, match="without permission to write"):
        runtime.check_writable(tmp_path / "other")


CLAIM = """
import sys
from taco import runtime
print(runtime.claim(sys.argv[1].split(",")), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def job(cards, folder):
    """A process that claims one of the pretended cards and holds it until the end of the block; yields it and the index."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIM, ",".join(cards)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.communicate()


def test_jobs_side_by_side_take_a_card_each_and_give_it_back(tmp_path):
    with job("abc", tmp_path) as (_, first), job("abc", tmp_path) as (_, second):
        assert (first, second) == (0, 1)
        with job("ab", tmp_path) as (_, third):  # all that it sees are taken
            assert third in (0, 1)
        with job("ca", tmp_path) as (
            _,
            fourth,
        ):  # another order, as CUDA_VISIBLE_DEVICES may give: the card counts
            assert fourth == 0
    with job("abc", tmp_path) as (_, again):
        assert again == 0


def test_a_killed_job_gives_its_card_back(tmp_path):
    with job("ab", tmp_path) as (process, first):
        process.kill()
        process.wait()
        with job("ab", tmp_path) as (_, second):
            assert (first, second) == (0, 0)


def test_a_folder_that_cannot_hold_locks_costs_no_job(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "nowhere" / "deep"))
    monkeypatch.setattr(
        runtime.FileLock, "acquire", lambda *_, **__: (_ for _ in ()).throw(OSError(37, "No locks"))
    )
    assert runtime.claim(["a", "b"]) in (0, 1)
