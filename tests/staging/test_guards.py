"""Locks for those that stage at the same time, on file systems that have none too."""

import errno
import fcntl
import logging
import os
import tempfile
import threading

import pytest

from taco.runtime import OutputError
from taco.staging import guards
from taco.staging.guards import guard

flock = fcntl.flock


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(guards, "QUIET_SECONDS", 0.05)


def refused_in(folder, number):
    """A flock that gives this error for files in this folder (None: everywhere)."""

    def refuse(handle, operation):
        path = os.readlink(f"/proc/self/fd/{handle}")
        if folder is None or path.startswith(str(folder)):
            raise OSError(number, os.strerror(number))
        flock(handle, operation)

    return refuse


def test_the_second_one_waits_and_says_so(tmp_path, quick, caplog):
    order, inside = [], threading.Event()

    def first():
        with guard(tmp_path / "data"):
            inside.set()
            while not caplog.records:
                pass
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait()
    with caplog.at_level(logging.WARNING), guard(tmp_path / "data"):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert "data: another run is staging it; waiting" in caplog.text


def test_one_that_has_died_is_waited_for_by_nobody(tmp_path, quick):
    (tmp_path / ".data.guard").write_text("left behind")
    with guard(tmp_path / "data"):
        pass
    with guard(tmp_path / "data"):
        pass


@pytest.mark.parametrize("name", ["ENOLCK", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL", "EPERM"])
@pytest.mark.parametrize("leftover", [True, False])
def test_without_locks_the_temporary_folder_has_one(tmp_path, quick, monkeypatch, caplog, name, leftover):
    disk, temporary = tmp_path / "disk", tmp_path / "tmp"
    disk.mkdir(), temporary.mkdir()
    if leftover:
        (disk / ".data.guard").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(fcntl, "flock", refused_in(disk, getattr(errno, name)))
    with guard(disk / "data"):
        assert len(list(temporary.iterdir())) == 1
    assert "its file system has no locks" in caplog.text and "one machine at a time" in caplog.text


@pytest.mark.parametrize("name", ["ENOLCK", "ENOSYS"])
def test_without_any_locks_one_error_names_place_and_remedy(tmp_path, quick, monkeypatch, name):
    number = getattr(errno, name)
    monkeypatch.setattr(fcntl, "flock", refused_in(None, number))
    words = f"data: expected a folder in which runs can lock.*found: {os.strerror(number)}.*staging.data_root"
    with pytest.raises(OutputError, match=words), guard(tmp_path / "data"):
        pass


def test_a_folder_that_is_none_is_one_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match="expected a folder in which"), guard(tmp_path / "file/data"):
        pass
