"""What files are called and hold: archives, parts of some, others with what to do, and what systems leave behind."""

import zipfile

import pytest

from taco.staging import formats


@pytest.mark.parametrize(
    "name",
    [
        *("__MACOSX/set/._frames", "set/.DS_Store", "a/._b.png", "Thumbs.db", "set/THUMBS.DB", "Desktop.ini"),
        *(
            "$RECYCLE.BIN/x",
            "System Volume Information/x",
            "a/@eaDir/b.jpg",
            ".Trashes/501/x",
            "Icon\r",
            ".directory",
        ),
        *(".ipynb_checkpoints/a.csv", "~$list.csv", "list.csv~", ".Trash-1000/files/a", ".apdisk"),
    ],
)
def test_what_systems_leave_in_folders_is_junk(name):
    assert formats.is_junk(name)


@pytest.mark.parametrize(
    "name", ["frames/a.jpg", "-_x/1.png", "._", "MACOSX/a", "Thumbs.dbx", "v2/_a.wav", "a.DS_Store"]
)
def test_data_are_no_junk(name):
    assert formats.is_junk(name) == (name == "._")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("AVSBench.7z", "a 7z archive: unpack it with `7z x AVSBench.7z`"),
        ("AVSBench.7z.001", "a part of a 7z archive: unpack it with `7z x AVSBench.7z.001`"),
        ("AVSBench.RAR", "a rar archive: unpack it with `unrar x AVSBench.RAR`"),
        ("AVSBench.part2.rar", "a part of a rar archive"),
        ("AVSBench.r00", "a part of a rar archive"),
        ("AVSBench.zip.001", r"a part of AVSBench.zip: join .* \(`cat AVSBench.zip\?\* > ../AVSBench.zip`\)"),
        ("my set.zip.001", r"`cat 'my set.zip'\?\* > ../'my set.zip'`"),
        ("AVSBench.zip.1", "a part of AVSBench.zip"),
        ("AVSBench.zipaa", "a part of AVSBench.zip"),
        ("AVSBench.tar.gz.aa", "a part of AVSBench.tar.gz"),
        ("AVSBench.tar.gz_ab", "a part of AVSBench.tar.gz"),
        ("AVSBench.tgz.part01", "a part of AVSBench.tgz"),
        ("AVSBench.tar.00", "a part of AVSBench.tar"),
        ("AVSBench.z01", "`zip -s 0 AVSBench.zip --out ../AVSBench.zip`"),
        ("AVSBench.tar.zst", "packed by Zstandard: unpack it with `tar --zstd -xf"),
        ("AVSBench.tar.Z", "packed by compress"),
        ("frames.gz", "a packed file that is no tar archive"),
        ("AVSBench.iso", "the image of a disk"),
        ("AVSBench.exe", "unpacks itself"),
        ("AVSBench.zip.crdownload", "a transfer that has not ended"),
        ("AVSBench.zip.part", "a transfer that has not ended"),
        ("AVSBench.zip.baiduyun.p.downloading", "a transfer that has not ended"),
        ("Unconfirmed 1234.crdownload", "a transfer that has not ended"),
    ],
)
def test_what_is_not_read_has_a_way_by_hand(tmp_path, name, words):
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(formats.advice_by_name(tmp_path / name))


@pytest.mark.parametrize(
    "name",
    [
        *(
            "a.zip",
            "a.ZIP",
            "a.tar",
            "a.tar.gz",
            "a.tgz",
            "a.tar.bz2",
            "a.tbz2",
            "a.tar.xz",
            "a.txz",
            "a.b.zip",
        ),
        *("letter.pdf", "a.zip.md5", "a.zip.sha256", "readme.txt", "part1.zip", "AVSBench (1).zip"),
    ],
)
def test_what_is_read_or_no_archive_needs_none(tmp_path, name):
    assert formats.advice_by_name(tmp_path / name) is None


def test_the_last_part_of_a_split_zip_is_known_by_its_neighbours_and_by_its_end(tmp_path):
    last = tmp_path / "set [1].zip"
    with zipfile.ZipFile(last, "w") as handle:
        handle.writestr("a", "x")
    assert formats.advice_by_name(last) is formats.advice_by_content(last) is None
    (tmp_path / "set [1].z01").write_bytes(b"x")
    assert "lies in several files" in formats.advice_by_name(last)
    body = bytearray(last.read_bytes())
    body[-18] = 1  # the number of this disk
    last.write_bytes(body)
    assert "lies in several files" in formats.advice_by_content(last)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"Rar!\x1a\x07\x01\x00", "a rar archive"),
        (b"\x28\xb5\x2f\xfd", "Zstandard"),
        (b"MZ\x90", "unpacks itself"),
        (b"PK\x03\x04", "the beginning of a zip archive"),
        (b"PK\x07\x08PK\x03\x04", "the beginning of a zip archive"),
        (b"", "empty"),
    ],
)
def test_a_name_does_not_hide_what_a_file_is(tmp_path, head, words):
    path = tmp_path / "set.zip"
    path.write_bytes(head + b"\0" * 50 * bool(head))
    assert words in formats.advice_by_content(path)


def test_parts_and_kinds_of_one_archive_have_one_whole():
    names = [
        "S4.zip",
        "S4.zip.001",
        "S4.7z",
        "S4.7z.002",
        "s4.part1.rar",
        "S4.tar.gz",
        "S4.tar.gz.aa",
        "S4.z01",
    ]
    assert {formats.whole_of(name) for name in names} == {"s4"}
    assert formats.whole_of("MS3.zip") != formats.whole_of("S4.zip")


@pytest.mark.parametrize(
    "name", ["README", "set/readme.txt", "Read-me.md", "LICENSE", "LICENCE.txt", "CHANGELOG.md"]
)
def test_notes_are_for_people(name):
    assert formats.is_note(name)


@pytest.mark.parametrize("name", ["metadata.csv", "notices_of.csv", "reader.csv", "licensed.json"])
def test_data_are_no_notes(name):
    assert not formats.is_note(name)
