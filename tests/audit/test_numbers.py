"""A number is explained by what the tables themselves compute: its value, its files, and the samples that pull it."""

import json

import numpy as np
import pytest
from score_rows import binary_rows, pool_rows
from typer.testing import CliRunner

from taco import suites
from taco.audit import numbers
from taco.cache import receipts
from taco.cache.hdf5 import CacheWriter
from taco.cli import app
from taco.results import aggregate, pools, score_files, tables, whole

CONTROLS = ("whole image", "random mask", "oracle mask")


def write_scores(folder, task, rows, pooled=()):
    path = folder / f"scores/{'ade' if task == 'ade_sp' else task}/0/{task}.rows.parquet"
    made = {
        "code": "c" * 64,
        "settings": "s" * 64,
        "samples": "m" * 64,
        "caches": {},
        "packages": {"numpy": "2"},
    }
    score_files.write_rows(rows, path, "binary", {"device": "cpu"}, made)
    with pools.writer(path.with_name(f"{task}.pools.parquet")) as keep:
        keep(pooled)


def rows_of(task):
    rows = binary_rows(task) + binary_rows(task, skill=0.2, variant="shuffled audio")
    rows += binary_rows(task, skill=0.4, method="U only")
    for method in CONTROLS:
        rows += binary_rows(task, seeds=(-1,), method=method, variant="control", bank="none")
    return rows + binary_rows(task, seeds=(-1,), method="A-FC-CLIP", variant="list", bank="specific")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The results of S4 and ADE SP, with little more in the caches than what made them."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        found = suites.read()
        folder = root / "results/miniature"
        write_scores(folder, "s4", rows_of("s4"))
        write_scores(folder, "ade_sp", rows_of("ade_sp"), pool_rows())
        for name in ("s4", "ade"):
            files = {("general", "proposed"): folder / f"factors/{name}/general/proposed/0.h5"}
            for kind, path in [
                ("text", folder / "text.h5"),
                ("features", folder / f"features/{name}/0.h5"),
                ("proposals", folder / f"proposals/{name}/0.h5"),
                ("factors", files["general", "proposed"]),
            ]:
                with CacheWriter(path, kind, ["a"], {"code": kind, "device": "cpu"}) as writer:
                    writer.put("value", 0, 1.0)
            receipts.write(folder / f"factors/{name}/0.json", files, "")
        yield found


def of(table, method="TACO", task="s4", **options):
    return numbers.Wanted(table, method, task, **options)


@pytest.mark.parametrize(
    ("task", "metric"), [("s4", "mask-IoU"), ("s4", "F"), ("ade_sp", "mIoU"), ("ade_sp", "mAP")]
)
def test_the_value_is_the_tables(config, task, metric):
    table = "table2" if task == "s4" else "table3"
    found = numbers.explain(config, of(table, task=task, metric=metric))
    rows = score_files.load_rows(numbers.score_paths(config, task, "rows.parquet"))
    pooled = pools.load(numbers.score_paths(config, task, "pools.parquet"))
    mine = rows[(rows["method"] == "TACO") & (rows["variant"] == "proposed")]
    summary = aggregate.summarise(mine, pooled).set_index("metric").loc[metric]
    assert found["value"]["mean"] == 100 * summary["mean"] and found["value"]["std"] == 100 * summary["std"]
    assert [seed["seed"] for seed in found["seeds"]] == [0, 1, 2]
    assert np.mean([seed["value"] for seed in found["seeds"]]) == pytest.approx(found["value"]["mean"])


def test_every_cell_of_the_extended_table_has_its_value(config):
    rows = score_files.load_rows(numbers.score_paths(config, "s4", "rows.parquet"))
    pooled = pools.load(numbers.score_paths(config, "s4", "pools.parquet"))
    table = whole.extended.table(whole.extended.per_seed(rows, "test"), "miniature")
    assert len(pooled) == 0
    cell = table[(table["method"] == "TACO") & (table["variant"] == "proposed")].set_index("metric")
    for metric in cell.index:
        found = numbers.explain(config, of("extended", metric=metric))
        assert found["value"]["mean"] == pytest.approx(cell.loc[metric, "mean"], abs=0)


def test_leaving_a_clip_out_is_scoring_without_it(config):
    found = numbers.explain(config, of("table2"))
    rows = score_files.load_rows(numbers.score_paths(config, "s4", "rows.parquet"))
    mine = rows[(rows["method"] == "TACO") & (rows["variant"] == "proposed")]
    scores = [one["score"] for one in found["samples"]]
    assert scores == sorted(scores, reverse=True) and len(scores) == 8
    assert np.mean(scores) == pytest.approx(found["value"]["mean"])
    for one in found["samples"]:
        rest = aggregate.summarise(mine[mine["clip_id"] != one["clip_id"]]).set_index("metric")["mean"]
        assert one["effect"] == pytest.approx(100 * rest["mask-IoU"] - found["value"]["mean"])


def test_of_pooled_pixels_classes_are_shown_and_no_effect_of_samples(config):
    found = numbers.explain(config, of("table3", task="ADE SP"))
    assert {one["class"] for one in found["classes"]} == {"class0", "class1"}
    assert np.mean([one["score"] for one in found["classes"]]) == pytest.approx(found["value"]["mean"])
    assert {one["effect"] for one in found["samples"]} == {None}


def test_files_behind_a_number_are_named_with_what_made_them(config):
    origin = numbers.explain(config, of("table2"))["origin"]
    assert [file["made"]["code"] for file in origin["scores"]] == ["c" * 64]
    assert {told["code"] for told in origin["caches"].values()} == {
        "text",
        "features",
        "proposals",
        "factors",
    }
    control = numbers.explain(config, of("table2", "oracle mask"))["origin"]
    assert control["caches"] == {}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (of("table9"), "table1, table2"),
        (of("table2", "TOCA"), "A-FC-CLIP, TACO"),
        (of("table2", task="s5"), r"s4 \(S4\), ms3"),
        (of("table3"), "it is in table1, table2, table4, extended"),
        (of("table2", metric="mAP"), "there are mask-IoU, F"),
        (of("table2", variant="no-min"), "there are proposed, shuffled audio"),
        (of("table2", task="ms3"), "Run the workflow"),
    ],
)
def test_what_does_not_exist_is_answered_with_what_does(config, wanted, message):
    with pytest.raises(numbers.NumberError, match=message):
        numbers.explain(config, wanted)


def test_the_command_prints_a_row_as_it_is_printed_in_the_table(config):
    done = CliRunner().invoke(app, ["explain-number", "table2", "TACO, shuffled audio", "S4"])
    assert done.exit_code == 0, done.output
    rows = score_files.load_rows(numbers.score_paths(config, "s4", "rows.parquet"))
    mine = rows[(rows["method"] == "TACO") & (rows["variant"] == "shuffled audio")]
    cell = aggregate.summarise(mine).set_index("metric").loc["mask-IoU"]
    assert tables.number(100 * cell["mean"], 100 * cell["std"]) in done.output
    done = CliRunner().invoke(app, ["explain-number", "table2", "TACO", "S4", "--json"])
    assert json.loads(done.output)["cell"]["metric"] == "mask-IoU"
    assert CliRunner().invoke(app, ["explain-number", "table2", "nobody", "S4"]).exit_code == 1
