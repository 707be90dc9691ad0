"""The page of one pair: whole in one file, every factor with its pictures and words, the chosen one first."""

import re

import browser
import numpy as np
import pytest
from answered import make_answer
from check_gallery import PAGE, PICTURES

from taco.figures import explanation
from taco.segmenting import explaining


@pytest.fixture(scope="module")
def text():
    return explaining.page(make_answer(), "a & b.jpg", "c.wav")


def test_the_page_needs_nothing_beside_it(text):
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert sources and all(source.startswith("data:") for source in sources)
    assert "http:" not in text.replace("http://www.w3.org", "") and "<script" not in text


def test_all_factors_stand_in_the_order_of_agreement(text):
    assert re.findall(r"<h3>Factor (\d)", text) == ["2", "1"]
    assert text.count("<article") == 2 and text.count('<article class="chosen"') == 1
    assert "5.250" in text and "0.250 below" in " ".join(text.split())
    assert len(re.findall(r'alt="activation of factor \d over', text)) == 4


def test_names_and_words_are_text_not_markup(text):
    assert "a &amp; b.jpg" in text and "&lt;harp&gt;" in text and "<harp>" not in text
    assert ">0.41<" in text and ">0.80<" in text


def test_an_empty_mask_is_said():
    text = explaining.page(make_answer(visible=False), "a.jpg", "b.wav")
    assert "Nothing that is heard is visible" in text


def test_without_a_threshold_that_is_said():
    answer = make_answer()
    text = explaining.page(
        make_answer(about={**answer.about, "confidence_threshold": None}), "a.jpg", "b.wav"
    )
    assert "has no threshold" in " ".join(text.split())


@pytest.mark.parametrize("size", [(20, 30), (1, 1), (2000, 900), (3, 600)])
def test_pictures_have_a_size_to_look_at(size):
    image = np.zeros((*size, 3), dtype=np.uint8)
    picture = explanation.over_image(image, np.full((4, 4), 0.5))
    assert max(picture.size) == explanation.LARGEST_SIDE and min(picture.size) >= 1


def test_a_moment_that_is_taken_is_bright_and_one_that_is_not_is_dark():
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 16000)
    activation = np.zeros((2, 8))
    activation[:, 4:] = 1
    pixels = np.asarray(explanation.over_sound(wave, 16000, activation)).astype(float)
    below = pixels[explanation.STRIP :]
    half = below.shape[1] // 2
    assert below[:, half + 30 :].mean() > 2 * below[:, : half - 30].mean()
    assert (pixels[5, :50] == 255).all() and not (pixels[5, -50:] == 255).all()


@pytest.mark.skipif(browser.find() is None, reason="no Chromium is installed")
def test_the_page_in_a_browser(tmp_path):
    explaining.write(make_answer(), tmp_path / "page.html", "a.jpg", "b.wav")
    result, errors = browser.check(tmp_path / "page.html", PICTURES + PAGE)
    assert errors == []
    assert result == {"pictures": 8, "dull": [], "lengths": [pytest.approx(1)]}
