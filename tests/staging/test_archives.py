"""Archives of strangers: unpacked whole, or refused with nothing left behind."""

import io
import os
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import loopback
import pytest
from loopback import zipped

from taco.staging import archives

place = pytest.fixture(loopback.place)


def test_an_archive_without_what_it_should_hold(place):
    Path("a.zip").write_bytes(zipped({"readme.txt": b"moved", "deep/er/file": b"x"}))
    with pytest.raises(archives.ArchiveError, match="expected metadata.csv inside, found"):
        archives.unpack([Path("a.zip")], Path("out"), ["metadata.csv"])
    assert os.listdir() == ["a.zip"]


def tar_with(**fields) -> bytes:
    """A tar of one good file and one hostile member."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as handle:
        good = tarfile.TarInfo("good.txt")
        good.size = 2
        handle.addfile(good, io.BytesIO(b"ok"))
        bad = tarfile.TarInfo(fields.pop("name", "bad"))
        body = fields.pop("body", b"")
        bad.size = len(body)
        for key, value in fields.items():
            setattr(bad, key, value)
        handle.addfile(bad, io.BytesIO(body))
    return stream.getvalue()


def zip_link() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as handle:
        info = zipfile.ZipInfo("link")
        info.create_system = 3
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        handle.writestr(info, "/etc/passwd")
    return stream.getvalue()


def zip_lying() -> bytes:
    """A zip whose directory says that a member has 1 byte, while its data has a million."""
    body = bytearray(zipped({"a": b"\0" * 1_000_000}))
    at = body.rindex(b"PK\x01\x02")
    body[at + 24 : at + 28] = (1).to_bytes(4, "little")
    return bytes(body)


HOSTILE = {
    "zip climbs out": (zipped({"../out.txt": b"x"}), "outside the archive's folder"),
    "zip climbs out below": (zipped({"a/../../out.txt": b"x"}), "outside the archive's folder"),
    "zip absolute": (zipped({"/tmp/out.txt": b"x"}), "outside the archive's folder"),
    "zip backslash": (zipped({"..\\out.txt": b"x"}), "outside the archive's folder"),
    "zip drive": (zipped({"C:/out.txt": b"x"}), "outside the archive's folder"),
    "zip link": (zip_link(), "a link or device"),
    "zip lies about its size": (zip_lying(), "unpacked, found|complete zip"),
    "zip cut": (zipped({"a": os.urandom(5000)})[:-400], "expected a complete zip or tar"),
    "zip control characters": (zipped({"a\nb.txt": b"x"}), "control characters"),
    "tar control characters": (tar_with(name="a\x1b[31m", body=b"x"), "control characters"),
    "tar name too long": (tar_with(name="x" * 300, body=b"x"), "a name that cannot be written"),
    "tar climbs out": (tar_with(name="../out.txt", body=b"x"), "outside the archive's folder"),
    "tar absolute": (tar_with(name="/tmp/out.txt", body=b"x"), "outside the archive's folder"),
    "tar symbolic link": (tar_with(type=tarfile.SYMTYPE, linkname="/etc"), "a link or device"),
    "tar hard link": (tar_with(type=tarfile.LNKTYPE, linkname="good.txt"), "a link or device"),
    "tar device": (tar_with(type=tarfile.CHRTYPE), "a link or device"),
    "tar fifo": (tar_with(type=tarfile.FIFOTYPE), "a link or device"),
    "tar name twice": (tar_with(name="good.txt", body=b"xx"), "a name that comes twice"),
    "tar through a file": (tar_with(name="good.txt/below", body=b"xx"), "through another member"),
    "tar cut": (tar_with(name="b", body=b"x" * 5000)[:4000], "expected a complete zip or tar"),
    "no archive": (b"neither", "expected a complete zip or tar"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_leave_nothing(tmp_path, kind):
    body, words = HOSTILE[kind]
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "a.bin").write_bytes(body)
    with pytest.raises(archives.ArchiveError, match=words):
        archives.unpack([inner / "a.bin"], inner / "out")
    assert os.listdir(inner) == ["a.bin"]
    assert os.listdir(tmp_path) == ["inner"]


def test_an_archive_larger_than_allowed_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped({"a": b"\0" * 100_000}))
    with pytest.raises(archives.ArchiveError, match="at most 50,000 bytes unpacked, found 100,000"):
        archives.unpack([tmp_path / "a.zip"], tmp_path / "out", most_bytes=50_000)
    assert os.listdir(tmp_path) == ["a.zip"]


def test_unpacking_asks_for_room_first(tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(zipped({"a": b"\0" * 100_000}))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=99_000))
    with pytest.raises(archives.DiskFullError, match=r"unpacking a.zip"):
        archives.unpack([tmp_path / "a.zip"], tmp_path / "out")
    assert os.listdir(tmp_path) == ["a.zip"]


def test_a_disk_that_becomes_full_while_unpacking_says_so(tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(zipped({"a": b"x"}))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "copy_member", full)
    with pytest.raises(archives.DiskFullError, match="became full while 'a' was unpacked"):
        archives.unpack([tmp_path / "a.zip"], tmp_path / "out")
    assert os.listdir(tmp_path) == ["a.zip"]


def test_an_interrupted_unpacking_starts_anew(tmp_path):
    (tmp_path / ".out.unpacking").mkdir()
    (tmp_path / ".out.unpacking" / "left").write_text("half")
    (tmp_path / "a.zip").write_bytes(zipped({"a": b"x"}))
    assert archives.unpack([tmp_path / "a.zip"], tmp_path / "out") == archives.Contents(1, 1)
    assert os.listdir(tmp_path / "out") == ["a"]
