"""Gallery: every link leads somewhere, every page names its suite, pictures and sounds can be read."""

import re

import numpy as np
import pytest
import soundfile
from PIL import Image

from taco.figures import gallery


def links(page):
    return re.findall(r'(?:src|href)="([^"#]+)"', page.read_text(encoding="utf-8"))


def test_there_is_a_page_for_every_sample(made):
    folder, count, sources, _ = made
    assert count == len(list(folder.glob("*/*.html"))) == sum(len(s.manifest) for s in sources.values())
    assert (folder / "index.html").read_text().count("<tr data-task=") == count


def test_every_link_leads_to_a_file_and_none_leaves_the_folder(made):
    folder = made[0]
    pages = [folder / "index.html", *folder.glob("*/*.html")]
    for page in pages:
        for link in links(page):
            if link.startswith("data:"):
                continue
            target = (page.parent / link).resolve()
            assert target.is_file(), f"{page}: {link}"
            assert target.is_relative_to(folder.resolve())


def test_every_page_names_the_suite(made):
    for page in made[0].rglob("*.html"):
        assert "miniature suite: a generated world" in page.read_text(encoding="utf-8")


def test_pictures_vary_and_sounds_last_as_long_as_the_window(made):
    folder = made[0]
    for picture in [*folder.rglob("*.png"), *folder.rglob("*.jpg")]:
        with Image.open(picture) as image:
            assert np.asarray(image).std() > 0, picture
    sounds = list(folder.rglob("*.wav"))
    assert sounds
    assert {soundfile.info(str(sound)).duration for sound in sounds} == {0.5}


def test_scores_on_the_page_are_those_of_the_rows(made):
    folder, _, sources, rows = made
    expected = 100 * sources["s4"].table.loc["c0/1", "taco"]
    page = (folder / "s4/0001.html").read_text(encoding="utf-8")
    assert f'<td class="number">{expected:.1f}</td>' in page
    assert len(gallery.all_scores(rows[rows["task"] == "s4"]).columns) == 5


def test_a_semantic_page_names_the_class_that_taco_found(made):
    page = (made[0] / "avss/0000.html").read_text(encoding="utf-8")
    assert "<figcaption>TACO: bird</figcaption>" in page  # id 2 of bell, bird, drum


def test_a_method_that_was_not_scored_leaves_its_cell_empty(made):
    index = (made[0] / "index.html").read_text(encoding="utf-8")
    assert 'data-value=""' in index  # U alone has no semantic answer


@pytest.mark.parametrize(("task", "named"), [("s4", ", map above 0."), ("avss", ": drum: ")])
def test_a_contributed_method_stands_beside_taco(made, task, named):
    folder, _, sources, _ = made
    page, index = (
        (folder / name).read_text(encoding="utf-8") for name in (f"{task}/0000.html", "index.html")
    )
    assert f"mine &lt;b&gt; (contributed){named}" in page and "mine &lt;b&gt; (contributed)</button>" in index
    score = 100 * sources[task].table["contributed: mine <b>"].iloc[0]
    assert f": {score:.1f}</figcaption>" in page and f'data-value="{score:.1f}"' in index
    shown = sources[task].shown(sources[task].manifest.index[0])
    prediction, threshold = shown.others["mine <b>"]
    with Image.open(folder / task / "0000-contributed-0.png") as picture:
        np.testing.assert_array_equal(picture, gallery.answered(shown, prediction, threshold))
    assert not np.array_equal(prediction, shown.prediction)


def test_a_subset_is_drawn_by_seed_and_keeps_the_order(made):
    source = made[2]["s4"]
    chosen = gallery.subset(source, 3, 0)
    assert len(chosen) == 3
    assert chosen == [sample for sample in source.manifest.index if sample in chosen]
    assert chosen == gallery.subset(source, 3, 0)
    assert gallery.subset(source, 99, 0) == gallery.subset(source, None, 0)


def test_names_are_escaped(made, tmp_path):
    _, _, sources, rows = made
    source = sources["s4"]
    before = source.manifest.at["c0/0", "classes"]
    source.manifest.at["c0/0", "classes"] = ["<b>bell</b>"]
    try:
        gallery.write(tmp_path / "g", {"s4": source}, rows, "miniature", None, 0)
    finally:
        source.manifest.at["c0/0", "classes"] = before
    text = (tmp_path / "g/index.html").read_text(encoding="utf-8")
    assert "<b>bell" not in text
    assert "&lt;b&gt;bell" in text
