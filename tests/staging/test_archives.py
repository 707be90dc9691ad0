"""Archives of strangers: unpacked whole, or refused with nothing left behind."""

import errno
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


# Archives as they are given out


def write_zip(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as handle:
        for name, body in files.items():
            handle.writestr(name, body)
    return path


def write_tar(path, files):
    with tarfile.open(path, "w:gz") as handle:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            handle.addfile(info, io.BytesIO(body))
    return path


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_what_systems_leave_is_passed_over_and_not_counted(tmp_path, write):
    files = {"set/list.csv": b"a,b", "set/frames/1.jpg": b"jpeg"}
    junk = [
        "__MACOSX/set/._list.csv",
        "set/.DS_Store",
        "set/frames/Thumbs.db",
        "set/._frames",
        "desktop.ini",
        "Icon\r",
    ]
    path = write(tmp_path / "set.archive", files | dict.fromkeys(junk, b"junk"))
    assert archives.unpack([path], tmp_path / "out", ["list.csv", "frames"]) == archives.Contents(2, 7)
    assert tree(tmp_path / "out") == ["frames/1.jpg", "list.csv"]
    (tmp_path / "out/.DS_Store").write_bytes(b"the Finder was here")
    assert archives.counted(tmp_path / "out") == archives.Contents(2, 7)


def test_what_lies_beside_the_folder_is_left_out_and_not_counted(tmp_path):
    path = write_zip(
        tmp_path / "set.zip", {"readme.txt": b"hello", "deep/set/list.csv": b"a,b", "deep/x": b"x"}
    )
    assert archives.unpack([path], tmp_path / "out", ["list.csv"]) == archives.Contents(1, 3)
    assert tree(tmp_path / "out") == ["list.csv"]


def test_the_same_file_in_two_parts_is_no_contradiction(tmp_path):
    same = {"label2idx.json": b"{}", "readme.txt": b"about"}
    first = write_zip(tmp_path / "1.zip", {"S4/a.csv": b"a"} | same)
    second = write_tar(tmp_path / "2.tar.gz", {"MS3/b.csv": b"b"} | same)
    assert archives.unpack([first, second], tmp_path / "out", ["S4", "MS3"]).files == 4


def test_another_readme_in_the_second_part_is_none_either(tmp_path):
    parts = [
        write_zip(tmp_path / f"{n}.zip", {f"{n}/a.csv": b"a", "README.md": n.encode()}) for n in ("S4", "MS3")
    ]
    archives.unpack(parts, tmp_path / "out", ["S4", "MS3"])
    assert (tmp_path / "out/README.md").read_text() == "S4"


@pytest.mark.parametrize("other", [b"b", b"aa", b""])
def test_another_file_of_one_name_in_the_second_part_is_refused(tmp_path, other):
    first = write_zip(tmp_path / "1.zip", {"set/metadata.csv": b"a"})
    second = write_zip(tmp_path / "2.zip", {"set/metadata.csv": other})
    with pytest.raises(archives.ArchiveError, match=r"2.zip: .*found another 'set/metadata.csv'"):
        archives.unpack([first, second], tmp_path / "out")
    assert tree(tmp_path) == ["1.zip", "2.zip"]


@pytest.mark.parametrize(
    ("method", "name"), [(9, "Deflate64"), (93, "Zstandard"), (98, "PPMd"), (77, "method 77")]
)
def test_a_zip_that_python_does_not_read_is_not_called_damaged(tmp_path, method, name):
    path = write_zip(tmp_path / "set.zip", {"set/list.csv": b"x"})
    packed = path.read_bytes().replace(b"\x14\0\0\0\x08\0", b"\x14\0\0\0" + bytes([method, 0]))
    path.write_bytes(packed)
    with pytest.raises(archives.ArchiveError) as error:
        archives.unpack([path], tmp_path / "out", ["list.csv"])
    words = str(error.value)
    assert name in words and "7z x set.zip" in words and f"{tmp_path}/out/ then holds list.csv" in words
    assert "Fetch it again" not in words
    assert tree(tmp_path) == ["set.zip"]


def test_back_slashes_of_windows_part_folders(tmp_path):
    path = write_zip(
        tmp_path / "set.zip", {"set\\list.csv": b"x", "set\\frames\\1.jpg": b"y", "set\\empty\\": b""}
    )
    assert archives.unpack([path], tmp_path / "out", ["list.csv", "frames"]) == archives.Contents(2, 2)
    assert tree(tmp_path / "out") == ["frames/1.jpg", "list.csv"]


def test_another_archive_under_the_name_of_a_zip_is_told_apart(tmp_path):
    (tmp_path / "set.zip").write_bytes(b"Rar!\x1a\x07\x01\x00" + b"\0" * 100)
    with pytest.raises(
        archives.ArchiveError, match=r"a rar archive: unpack it with `unrar x set.zip`.*out/ then holds"
    ):
        archives.unpack([tmp_path / "set.zip"], tmp_path / "out", ["list.csv"])


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path):
    inner = zipped({"inner.txt": b"x"})
    path = write_tar(tmp_path / "a.tar.gz", {"a": b"a", "z.zip": inner})
    with tarfile.open(tmp_path / "a.tar", "w") as handle:
        for name in ("a.tar.gz",):
            handle.add(tmp_path / name, "z.zip")
    assert archives.unpack([path], tmp_path / "out").files == 2
    assert archives.unpack([tmp_path / "a.tar"], tmp_path / "out2").files == 1


def test_an_archive_of_archives_says_so(tmp_path):
    path = write_zip(tmp_path / "all.zip", {"S4.zip": b"x", "MS3.tar.gz": b"y"})
    with pytest.raises(
        archives.ArchiveError, match=r"found further archives: MS3.tar.gz, S4.zip\. Take them out"
    ):
        archives.unpack([path], tmp_path / "out", ["Single-source"])


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EFBIG"])
def test_a_quota_is_a_full_disk_too(tmp_path, monkeypatch, name):
    def full(*_):
        raise OSError(getattr(errno, name), "no more")

    monkeypatch.setattr(archives, "copy_member", full)
    with pytest.raises(archives.DiskFullError, match="no more"):
        archives.unpack([write_zip(tmp_path / "a.zip", {"a": b"x"})], tmp_path / "out")
