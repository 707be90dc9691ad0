"""Names are data: samples, files, folders, classes, words and labels of any signs go through the whole workflow as they are."""

import contextlib
import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import trees
import yaml
from PIL import Image
from typer.testing import CliRunner
from workflow import OVERLAY, RESULTS, make_project, snakemake

from taco.cli import app
from taco.data import manifest

pytestmark = pytest.mark.slow
SAMPLES = [
    "-rf",
    "$(touch pwned) `touch pwned`",
    'it\'s a "name"; touch pwned|&',
    "名 é\u202e\u0301",
    "<script>alert(1)<!-- &amp;",
    "{0} {wildcards} %s %(x)s *?[a-z]",
]
CLASSES = [
    "a|b\nc",
    "$(touch pwned)",
    "<b>'quoted' \"twice\"</b>",
    "../../up",
    "--config=x",
    "$\\frac{ é_^%#~ 名 {x}",
]
WORDS = ["=1+1", "NA", "\ttab, comma", "`touch pwned`", "</script><script>", *CLASSES]
LABEL = "<i>|$x$\n'odd' \\"
METHOD = "=cmd|' /C $(touch pwned)'!A0 <b>"
ROOT_NAME = "data/-my 'own' $(touch pwned) | data; 名"
READER = """
import json
from pathlib import Path

import numpy as np
from PIL import Image

from taco.data.datasets.common import Inspection, resize_nearest


def table(dataset):
    return json.loads(Path(dataset["root"], "pairs.json").read_text())


def read_rows(dataset, require_files):
    root = Path(dataset["root"])
    same = {"frame": 0, "start": 0.0, "duration": float("nan"), "class_id": -1, "split": dataset["split"]}
    return [
        {
            **same, "sample_id": name, "clip_id": name, "classes": [label],
            **{kind: str(root / kind / (name + end)) for kind, end in (("image", ".png"), ("audio", ".wav"), ("mask", ".png"))},
        }
        for name, label in table(dataset)
    ], []


def class_names(dataset):
    return list(dict.fromkeys(label for _, label in table(dataset)))


def read_mask(sample, dataset, size, truth):
    mask = resize_nearest(np.asarray(Image.open(sample["mask"]).convert("L")) > 127, size)
    return mask * (1 + class_names(dataset).index(sample["classes"][0])) if truth == "semantic" else mask


def inspect_mask(sample, dataset, image_size):
    return Inspection([], False)
"""


def write_data(root):
    """Pairs of a picture and a tone, with a mask, each of a class of its own."""
    for index, name in enumerate(SAMPLES):
        trees.picture(root / "image" / f"{name}.png", (40, 40 + index))
        trees.tone(root / "audio" / f"{name}.wav", 1.0, frequency=300.0 + 90 * index)
        mask = Image.fromarray(trees.square((40, 40 + index), index).astype(np.uint8) * 255)
        trees.save(root / "mask" / f"{name}.png", mask)
    (root / "pairs.json").write_text(json.dumps(list(zip(SAMPLES, CLASSES, strict=True))))


def overlay():
    settings = yaml.safe_load(OVERLAY)
    dataset = {"root": ROOT_NAME, "reader": "my 'own' $reader; 名.py", "generated": False, "shards": 2}
    dataset |= {"image_tokens": "fcclip", "drop_labels": {}, "solver": {}}
    one = {"dataset": "pairs", "banks": ["general", "specific"], "variants": ["odd"]}
    return {
        **{key: settings[key] for key in ("threads", "world", "solver")},
        "datasets": {"pairs": dataset},
        "prompts": {"image": "A $photo | of 'a' {label}\n", "audio": '-- "{label}" {label}'},
        "banks": {"general": {"source": "-my 'words' $(touch pwned).csv", "generated": False}},
        "variants": {"odd": {"label": LABEL, "sound": "shuffled", "solver": {}}},
        "methods": {
            "saliency": {"label": METHOD, "tasks": ["s4"]},
            "dense-clip": {"tasks": ["s4"]},
        },
        "tasks": {"s4": one, "ade_sp": one, "ade_sp_semantic": one, "ms3": None, "avss": None},
        "tables": {"which": [], "bootstrap_samples": 100},
        "evaluation": {"keep_predictions": "masks"},
    }


def tree(folder):
    """Every file of a project but its results and Snakemake's own."""
    skipped = {".snakemake", "results", "__pycache__"}
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {str(path) for path in found if not skipped.intersection(path.parts)}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A finished run, in a folder of such a name; nothing has been written beside its results."""
    above = tmp_path_factory.mktemp("names")
    folder = make_project(above / "it's my $(touch pwned) project")
    (folder / "my 'own' $reader; 名.py").write_text(READER)
    pd.DataFrame({"display_name": WORDS}).to_csv(folder / "-my 'words' $(touch pwned).csv", index=False)
    write_data(folder / ROOT_NAME)
    (folder / "small.yaml").write_text(yaml.safe_dump(overlay()))
    before = tree(above)
    snakemake(folder)
    snakemake(folder, "--report", "results/report.html")
    assert tree(above) == before
    return folder


# ---------------------------------------------------------------- what becomes of them


def test_manifest_and_rows_hold_the_very_names(project):
    frame = manifest.read(project / RESULTS / "manifests/pairs.parquet")
    assert frame["sample_id"].tolist() == SAMPLES
    assert frame["classes"].explode().tolist() == CLASSES
    for path in sorted((project / RESULTS).glob("scores/pairs/*/*.rows.parquet")):
        rows = pd.read_parquet(path)
        index = slice(0, 3) if path.parent.name == "0" else slice(3, 6)
        assert rows["sample_id"].unique().tolist() == SAMPLES[index]
        assert rows["class_name"].unique().tolist() == CLASSES[index]
        assert set(rows["label"]) <= {*CLASSES, *WORDS, ""}
        assert LABEL in set(rows["variant"])


class Page(HTMLParser):
    """Tags, links and text of a page, as a browser takes them."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.links, self.text = set(), [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.links += [value for name, value in attributes if name in ("href", "src")]

    def handle_data(self, data):
        self.text += data


def test_the_gallery_shows_names_and_takes_none_for_a_tag_or_a_place(project):
    folder = (project / RESULTS / "gallery").resolve()
    for task in ("s4", "ade_sp", "ade_sp_semantic"):
        for name, label, path in zip(SAMPLES, CLASSES, sorted((folder / task).glob("*.html")), strict=True):
            page = Page(path)
            assert name in page.text and label in page.text
            assert not page.tags & {"b", "i", "script"}
            for link in set(page.links) - {"data:,"}:  # the icon: none
                target = (path.parent / unquote(link)).resolve()
                assert target.is_file() and target.is_relative_to(folder), link
    index = Page(folder / "index.html")
    assert all(name in index.text for name in SAMPLES) and not index.tags & {"b", "i"}


def test_a_table_stays_a_table(project):
    tables = project / RESULTS / "tables"
    extended = pd.read_csv(tables / "extended.csv", keep_default_na=False)
    assert LABEL in set(extended["variant"]) and METHOD in set(extended["method"])
    for path in tables.glob("*.md"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"<[a-z/!?]", text, re.IGNORECASE)
        for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, path
    for path in tables.glob("*.tex"):
        assert path.read_text(encoding="utf-8").isascii()


def taco(project, *arguments):
    with contextlib.chdir(project):
        done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.output


def test_commands_take_the_names(project):
    before, config = tree(project), ("--configfile", "small.yaml")
    assert taco(project, "verify", *config)
    explained = taco(project, "explain-number", "extended", "TACO", "S4", "--variant", LABEL, *config)
    assert "pwned" in explained and SAMPLES[0] in explained
    answers = "results/my 'answers' $(touch pwned)"
    taco(project, "export", "--task", "s4", "--output", answers, *config)
    assert {path.stem for path in (project / answers).iterdir()} == set(SAMPLES)
    mine = ("--predictions", answers, "--dataset", "pairs", "--method", METHOD)
    taco(project, "score", *mine, *config)
    assert METHOD in set(pd.read_csv(project / RESULTS / "submissions.csv", keep_default_na=False)["method"])
    asked = [
        project / ROOT_NAME / kind / (SAMPLES[0] + end)
        for kind, end in (("image", ".png"), ("audio", ".wav"))
    ]
    taco(project, "segment", *asked, "--output", "results/-own $(touch pwned)")
    assert tree(project) == before


NO_FILES = ["a\nb", "../up", "..", "a/b", ".hidden", "\x1b[2J", "x" * 300, " "]


def test_what_cannot_be_a_file_is_refused_before_anything_is_computed(project):
    table = project / ROOT_NAME / "pairs.json"
    text = table.read_text()
    table.write_text(
        json.dumps([*zip(SAMPLES, CLASSES, strict=True), *((name, CLASSES[0]) for name in NO_FILES)])
    )
    try:
        features = str(RESULTS / "features/pairs/0.h5")
        code, output = snakemake(project, features, "--forcerun", "manifest", check=False)
    finally:
        table.write_text(text)
    assert code != 0 and "names of files" in output and "Traceback" not in output
    assert all(repr(name) in output for name in NO_FILES)
    assert not any(repr(name) in output for name in SAMPLES)
