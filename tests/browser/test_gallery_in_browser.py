"""The gallery in headless Chromium: no error, pictures that show something, a player with a sound, sorting that sorts."""

from contextlib import ExitStack

import browser
import pandas as pd
import pytest
from figure_data import make_source

from taco import gallery

pytestmark = pytest.mark.skipif(browser.find() is None, reason="no Chromium is installed")

PICTURES = """
const pictures = [...document.images];
const dull = [];
for (const picture of pictures) {
  picture.loading = "eager";
  if (!picture.complete) await new Promise((done) => { picture.onload = picture.onerror = done; });
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const first = data.slice(0, 3).join();
  let varies = false;
  for (let i = 4; i < data.length && !varies; i += 4) varies = data.slice(i, i + 3).join() !== first;
  if (!(picture.naturalWidth > 0 && varies)) dull.push(picture.src);
}
const players = [...document.querySelectorAll("audio")];
const lengths = [];
for (const player of players) {
  // The media pipeline does not run in virtual time: the file is read and its header looked at.
  const request = new XMLHttpRequest();
  request.open("GET", player.currentSrc || player.src);
  request.responseType = "arraybuffer";
  await new Promise((done) => { request.onloadend = done; request.send(); });
  const header = new DataView(request.response);
  const playable = player.canPlayType("audio/wav") !== "" && player.controls && header.getUint32(0) === 0x52494646;
  lengths.push(playable ? header.getUint32(40, true) / header.getUint32(28, true) : 0);
}
"""
SORTING = """
const values = (column, shown) => [...document.querySelectorAll("#samples tbody tr")]
  .filter((row) => !row.hidden).map((row) => row.cells[column].dataset.value);
const orders = [];
[...document.querySelectorAll("#samples thead th")].forEach((heading, column) => {
  const button = heading.querySelector("button");
  if (!button) return;
  const numeric = heading.classList.contains("number");
  for (const direction of ["ascending", "descending"]) {
    button.click();
    orders.push({column, numeric, direction, marked: heading.getAttribute("aria-sort"), values: values(column)});
  }
});
const task = document.querySelector("#task");
task.value = "avss";
task.dispatchEvent(new Event("change"));
const filtered = document.querySelector("#count").textContent;
return {pictures: pictures.length, dull, players: players.length, lengths, orders, filtered};
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("gallery")
    with ExitStack() as stack:
        pairs = {task: make_source(stack, place / task, task) for task in ("s4", "avss")}
        rows = pd.concat([rows for _, rows in pairs.values()], ignore_index=True)
        sources = {task: source for task, (source, _) in pairs.items()}
        gallery.write(place / "out", sources, rows, "miniature", None, 0)
    return place / "out"


def test_the_index_shows_plays_sorts_and_filters(folder):
    result, errors = browser.check(folder / "index.html", PICTURES + SORTING)
    assert errors == []
    assert result.get("failed") is None, result
    assert result["dull"] == []
    assert result["pictures"] == 4 * 16
    assert result["lengths"] == pytest.approx([0.5] * 16)
    assert result["filtered"] == "8 of 16 samples"
    for up, down in zip(result["orders"][::2], result["orders"][1::2], strict=True):
        assert (up["marked"], down["marked"]) == ("ascending", "descending")
        known = [value for value in up["values"] if value != ""]
        empty = [""] * (len(up["values"]) - len(known))
        assert up["values"] == known + empty
        assert down["values"] == known[::-1] + empty
        numbers = (
            [float(value) for value in known] if up["numeric"] else [known.index(value) for value in known]
        )
        assert numbers == sorted(numbers)


def test_a_sample_page_shows_and_plays(folder):
    result, errors = browser.check(
        folder / "s4/0001.html", PICTURES + "return {pictures: pictures.length, dull, lengths};"
    )
    assert errors == []
    assert result == {"pictures": 5, "dull": [], "lengths": [pytest.approx(0.5)]}
