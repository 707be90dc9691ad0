"""The gallery in headless Chromium: no error, pictures that show something, a player with a sound, sorting that sorts."""

import shutil

import browser
import pytest
from check_gallery import PAGE, PICTURES, SORTING, problems, unsorted
from PIL import Image

pytestmark = pytest.mark.skipif(browser.find() is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def folder(made):
    return made[0]


def test_the_index_shows_plays_sorts_and_filters(folder):
    result, errors = browser.check(folder / "index.html", PICTURES + SORTING)
    assert errors == []
    assert result.get("failed") is None, result
    assert result["dull"] == []
    assert result["pictures"] == 4 * 16
    assert result["lengths"] == pytest.approx([0.5] * 16)
    assert result["filtered"] == "8 of 16 samples"
    assert unsorted(result["orders"]) == []


def test_a_sample_page_shows_and_plays(folder):
    result, errors = browser.check(folder / "s4/0001.html", PICTURES + PAGE)
    assert errors == []
    assert result == {"pictures": 6, "dull": [], "lengths": [pytest.approx(0.5)]}


def test_what_is_wrong_is_named(folder, tmp_path):
    broken = tmp_path / "gallery"
    shutil.copytree(folder, broken)
    assert problems(broken) == []
    lost, plain = sorted(broken.glob("s4/*-truth.png"))[:2]
    lost.unlink()
    Image.new("RGB", (8, 8), "grey").save(plain)
    next(broken.glob("avss/*-sound.wav")).write_bytes(b"")
    found = "\n".join(problems(broken))
    assert lost.name in found and plain.name in found and "a player without a sound" in found


def test_a_column_out_of_order_is_named():
    up = {"column": 3, "numeric": True, "marked": "ascending", "values": ["1.0", "2.5", ""]}
    down = {**up, "marked": "descending", "values": ["2.5", "1.0", ""]}
    assert unsorted([up, down]) == []
    assert unsorted([{**up, "values": ["2.5", "1.0", ""]}, {**down, "values": ["1.0", "2.5", ""]}])
