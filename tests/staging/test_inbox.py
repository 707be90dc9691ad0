"""What lies in the folder for archives that come by mail, and what is said of it."""

import re
from pathlib import Path

import loopback
import pytest
from loopback import catalogue, zipped

from taco.staging import bring, inbox
from taco.staging.sources import read_catalogue

place = pytest.fixture(loopback.place)
ENTRY = {"place": "data/set", "inbox": "data/archives/set", "holds": ["list.csv"], "request": "Ask."}


@pytest.fixture
def put(place):
    """Write files into the inbox; returns the settings."""

    def put(**files):
        Path(ENTRY["inbox"]).mkdir(parents=True, exist_ok=True)
        for name, body in files.items():
            Path(ENTRY["inbox"], name).write_bytes(body)
        return catalogue({"thing": ENTRY})

    return put


def find(settings):
    return inbox.find(read_catalogue(settings.catalogue)["thing"], settings.data_root)


WHOLE = zipped({"set/list.csv": b"x"})


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {"set.zip.001": b"x", "set.zip.002": b"y"},
            r"set.zip.001 is a part of set.zip: join.*set.zip.002 is a part",
        ),
        ({"set.7z": b"x"}, "set.7z is a 7z archive: unpack it with `7z x set.7z`"),
        ({"S4.zip": WHOLE, "MS3.rar": b"x"}, "MS3.rar is a rar archive"),
        (
            {"S4.zip": WHOLE, "MS3.zip.crdownload": b"x"},
            "MS3.zip.crdownload is a transfer that has not ended",
        ),
        ({"set.zip": WHOLE, "set.z01": b"x"}, "set.zip is a part of a zip archive that lies in several"),
    ],
)
def test_what_is_not_read_is_named_with_what_to_do(put, files, words):
    with pytest.raises(bring.ByHandError) as error:
        bring.stage("thing", put(**files))
    assert re.search(words, str(error.value)), error.value
    assert "data/set/ then holds list.csv" in str(error.value)
    assert not Path("data/set").exists()


@pytest.mark.parametrize(
    "beside",
    [
        {"set.zip.001": b"x", "set.zip.002": b"x"},  # joined
        {"set.7z": b"x"},  # packed anew
        {"letter.pdf": b"x", ".DS_Store": b"x", "set.zip.md5": b"x"},
    ],
)
def test_the_whole_is_taken_beside_what_it_was_made_of(put, beside):
    assert bring.stage("thing", put(**{"set.zip": WHOLE}, **beside)).way == "unpacked"
    assert Path("data/set/list.csv").read_bytes() == b"x"


def test_a_folder_is_to_be_moved(put):
    settings = put()
    Path(ENTRY["inbox"], "set").mkdir()
    with pytest.raises(bring.ByHandError, match="set/ is a folder: move what it holds to data/set/"):
        bring.stage("thing", settings)


def test_other_files_are_named_where_nothing_else_is_there(put):
    settings = put(**{"letter.pdf": b"x"})
    with pytest.raises(bring.ByHandError, match=r"there lie letter.pdf, which are no archives"):
        bring.stage("thing", settings)


def test_the_data_root_has_an_inbox_too(put):
    settings = put()
    other = Path("disk/set")
    other.mkdir(parents=True)
    (other / "set.zip").write_bytes(WHOLE)
    settings = bring.Settings(settings.catalogue, Path("disk"))
    assert find(settings).archives == [other / "set.zip"]


def test_placed_archives_only_wait_to_be_staged(put):
    settings = put(**{"set.zip": WHOLE})
    words = inbox.by_hand(read_catalogue(settings.catalogue)["thing"], None)
    assert "set.zip in data/archives/set can be unpacked: run `snakemake stage`" in words
