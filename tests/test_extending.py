"""docs/extending.md taken literally: its files are written as they stand there and run together, in one small workflow."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from workflow import ROOT, make_project, snakemake

from taco import suites
from taco.cache.hdf5 import open_cache
from taco.data import manifest
from taco.method import features
from taco.miniature import writer
from taco.models import clip

PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
# A file of the page says its name in its first line.
FILES = dict(re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL))
OVERLAYS = ("pairs.yaml", "variant.yaml", "encoder.yaml", "metric.yaml")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with the files of the page, a dataset of pairs, and a finished run of all of it."""
    folder = make_project(tmp_path_factory.mktemp("extending") / "project")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    world = folder / "world"
    config = suites.read()
    writer.write_world(
        world,
        {
            **config["world"],
            "clips": {name: {"train": 1, "val": 1, "test": 2} for name in config["world"]["clips"]},
        },
    )
    dataset = {**suites.dataset(config, "s4"), "root": str(world / "s4")}
    pairs, names = folder / "my_pairs", []
    pairs.mkdir()
    for row in manifest.build(dataset).groupby("clip_id").head(1).to_dict("records"):
        name = row["clip_id"].replace("/", "_")
        shutil.copy(row["image"], pairs / f"{name}.png")
        shutil.copy(row["audio"], pairs / f"{name}.wav")
        mask = np.asarray(Image.open(row["mask"]).convert("L")) > 0
        Image.fromarray(mask).save(pairs / f"{name}_mask.png")
        names.append((name, row["classes"][0]))
    pd.DataFrame(names, columns=["name", "class"]).to_csv(pairs / "pairs.csv", index=False)
    run(folder, "--until", "tables")
    return folder


def run(folder, *arguments, overlays=OVERLAYS):
    return snakemake(folder, *arguments, "--configfile", "small.yaml", *overlays, overlay=False)[1]


def planned(folder):
    lines = run(folder, "--dry-run", "--until", "tables").splitlines()
    return {line.split()[1].rstrip(":") for line in lines if re.match(r"(local)?rule ", line)} - {"all"}


def test_every_file_is_short_and_touches_nothing_of_the_project():
    assert {Path(name).parent.name for name in FILES} == {"", "readers", "encoders", "metrics"}
    assert set(OVERLAYS) <= set(FILES)
    for name, text in FILES.items():
        assert len(text.splitlines()) < 50 and not (ROOT / name).exists(), name


def test_dataset_variant_and_metric_stand_in_the_extended_table(project):
    table = pd.read_csv(project / "results/pairs/tables/extended.csv", keep_default_na=False)
    own = table[table["metric"] == "precision"]
    assert {"TACO", "A-FC-CLIP", "oracle mask", "saliency"} <= set(own["method"])
    assert (own["n_samples"] == 2).all() and (own["rule"] == "none").all()
    assert own["mean"].astype(float).between(0, 100).all()
    assert float(own.loc[own["method"] == "oracle mask", "mean"].iloc[0]) > 60
    assert {"proposed", "K = 4"} <= set(table.loc[table["method"] == "TACO", "variant"])


def test_the_encoder_has_made_the_tokens(project, monkeypatch):
    monkeypatch.chdir(project)
    spec = suites.read(map(Path, OVERLAYS))["models"]
    dense = torch.rand(1, 128, 8, 8, generator=torch.Generator().manual_seed(0))
    smooth, plain = (
        clip.load(one).tokens(dense).reshape(8, 8, -1)
        for one in (spec["clip"], {**spec["clip"], "loader": None})
    )
    assert smooth.diff(dim=0).abs().mean() < 0.6 * plain.diff(dim=0).abs().mean()
    with open_cache("results/pairs/features/pairs/0.h5", "features") as cache:
        assert cache.attributes["clip_digest"] == features.model_digests(spec)["clip_digest"]


def test_an_edit_of_an_own_file_repeats_what_depends_on_it(project, monkeypatch):
    monkeypatch.chdir(project)
    config = suites.read(map(Path, OVERLAYS))
    before = suites.own_encoders(config), suites.dataset(config, "pairs")
    for name in ("encoders/smooth.py", "readers/pairs.py", "metrics/precision.py"):
        path = Path(name)
        path.write_text(path.read_text() + "\nOTHER = 1\n")
        changed = (
            suites.own_encoders(config) != before[0],
            suites.dataset(config, "pairs") != before[1],
        )
        assert changed == (True, name.startswith(("readers", "metrics")))
    for name in ("encoders/smooth.py", "readers/pairs.py"):
        Path(name).write_text(FILES[name])
    assert planned(project) == {"score", "tables"}


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".yaml")])
def test_an_overlay_fits_the_schema(name, project, monkeypatch):
    monkeypatch.chdir(project)
    assert yaml.safe_load(FILES[name])
    suites.read([Path(name)])
