"""Anyone's predictions: the very numbers of the tables, whatever the file format, and clear refusals."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco
from trees import WRITERS
from typer.testing import CliRunner

from taco import metrics
from taco.cli import app
from taco.data import datasets, manifest
from taco.data.problems import ManifestError
from taco.metrics.tasks import TASKS
from taco.results import submission, tables

SIZE = 24
READER = {"s4": "s4", "ms3": "ms3", "ade_sp": "ade", "avss": "avss", "ade_sp_semantic": "ade"}


def load(tmp_path, task):
    options = WRITERS[READER[task]](tmp_path / "data")
    if READER[task] == "avss":
        options["subset"] = "v2"
    return manifest.build(options), options


def truths(frame, options, task):
    kind = "semantic" if TASKS[task].kind == "semantic" else "binary"
    return {
        row["sample_id"]: datasets.read_mask(row, options, SIZE, kind) for row in frame.to_dict("records")
    }


def maps_of(frame):
    rng = np.random.default_rng(0)
    return {name: rng.random((SIZE, SIZE)).astype(np.float32) for name in frame["sample_id"]}


def rle(mask):
    packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in packed["size"]], "counts": packed["counts"].decode()}


def plain_rle(mask):
    """Uncompressed counts: column-major runs of 0 and 1 by turns, zeros first."""
    flat = mask.ravel(order="F").astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    return {"size": list(mask.shape), "counts": np.diff([0, *edges, flat.size]).tolist()}


FORMATS = {
    "bool.npy": lambda path, mask: np.save(path, mask),
    "integer.npy": lambda path, mask: np.save(path, mask.astype(np.uint8)),
    "grey.png": lambda path, mask: Image.fromarray(mask.astype(np.uint8) * 255).save(path),
    "deep.png": lambda path, mask: Image.fromarray(mask.astype(np.uint16) * 65535).save(path),
    "bit.png": lambda path, mask: Image.fromarray(mask).save(path),
    "rle.json": lambda path, mask: path.write_text(json.dumps(rle(mask))),
    "plain.json": lambda path, mask: path.write_text(json.dumps({"segmentation": plain_rle(mask)})),
}


def put(folder, answers, writer, suffix):
    folder.mkdir(parents=True, exist_ok=True)
    for name, answer in answers.items():
        writer(folder / f"{name}.{suffix}", answer)
    return folder


def scored(frame, options, folder, task, **names):
    settings = {"task": task, "method": "mine", "size": SIZE} | names
    return submission.score(frame, options, folder, **settings)


# ---------------------------------------------------------------------------------- the very numbers


@pytest.mark.parametrize("task", ["s4", "ms3", "ade_sp"])
def test_maps_score_as_rows_of_the_tables_do(tmp_path, task):
    frame, options = load(tmp_path, task)
    maps, truth = maps_of(frame), truths(frame, options, task)
    summary = scored(frame, options, put(tmp_path / "mine", maps, np.save, "npy"), task)
    counts = [metrics.binary_row(maps[name], truth[name]) for name in frame["sample_id"]]
    stacked = {key: np.stack([row[key] for row in counts]) for key in counts[0]}
    found = summary.set_index("metric")["mean"]
    iou, _ = metrics.best_mask_iou([[stacked[key] for key in ("pixels", "positives", "tp", "fp")]])
    f, _ = metrics.best_f([[stacked[key] for key in ("positives", "f_tp", "f_pp")]])
    assert (found["mask-IoU"], found["F"]) == pytest.approx((iou, f))
    assert (summary["n_seeds"] == 1).all() and (summary["n_samples"] == len(frame)).all()
    if task == "ade_sp":  # every sample is a class of its own in this tree
        pools = []
        for name in frame["sample_id"]:
            pools.append(metrics.ScorePool())
            pools[-1].update(maps[name], truth[name])
        assert found["mIoU"] == pytest.approx(np.mean([pool.best_iou() for pool in pools]))
        assert found["mAP"] == pytest.approx(np.mean([pool.average_precision() for pool in pools]))


@pytest.mark.parametrize("name", FORMATS)
def test_a_mask_scores_alike_in_every_format(tmp_path, name):
    frame, options = load(tmp_path, "s4")
    masks = {sample: values > 0.6 for sample, values in maps_of(frame).items()}
    expected = scored(frame, options, put(tmp_path / "npy", masks, np.save, "npy"), "s4")
    folder = put(tmp_path / "other", masks, FORMATS[name], name.rsplit(".", 1)[1])
    pd.testing.assert_frame_equal(scored(frame, options, folder, "s4"), expected)
    assert 0 < expected["mean"].max() < 1


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_truth_scores_full_marks(tmp_path, task):
    frame, options = load(tmp_path, task)
    folder = put(tmp_path / "mine", truths(frame, options, task), np.save, "npy")
    summary = scored(frame, options, folder, task)
    wanted = ["mIoU", "mAP"] if task == "ade_sp" else summary["metric"].unique()
    np.testing.assert_allclose(summary.set_index("metric").loc[wanted, "mean"], 1, atol=1e-6)


@pytest.mark.parametrize("task", ["avss", "ade_sp_semantic"])
def test_class_ids_score_alike_in_every_format(tmp_path, task):
    frame, options = load(tmp_path, task)
    rng = np.random.default_rng(0)
    ids = {name: rng.integers(0, 3, (SIZE, SIZE)) for name in frame["sample_id"]}
    expected = scored(frame, options, put(tmp_path / "npy", ids, np.save, "npy"), task)

    def picture(path, values):
        Image.fromarray(values.astype(np.uint8)).save(path)

    def runs(path, values):
        masks = [{"category_id": int(c), "segmentation": rle(values == c)} for c in np.unique(values) if c]
        path.write_text(json.dumps(masks))

    for suffix, writer in (("png", picture), ("json", runs)):
        folder = put(tmp_path / suffix, ids, writer, suffix)
        pd.testing.assert_frame_equal(scored(frame, options, folder, task), expected)


def test_stretching_makes_the_scale_of_a_map_immaterial(tmp_path):
    frame, options = load(tmp_path, "s4")
    maps = maps_of(frame)
    stretched = {name: metrics.min_max(values) for name, values in maps.items()}
    wild = {name: 40 * values - 7 for name, values in maps.items()}
    folder = put(tmp_path / "wild", wild, np.save, "npy")
    expected = scored(frame, options, put(tmp_path / "npy", stretched, np.save, "npy"), "s4")["mean"]
    np.testing.assert_allclose(
        scored(frame, options, folder, "s4", stretch=True)["mean"], expected, atol=2e-3
    )
    with pytest.raises(submission.PredictionError, match=r"expected a map in 0 … 1, found \[-6.*--stretch"):
        scored(frame, options, folder, "s4")


def test_truth_without_any_foreground_is_an_error_with_a_name(tmp_path):
    frame, options = load(tmp_path, "s4")
    folder = put(tmp_path / "mine", maps_of(frame), np.save, "npy")
    for path in frame["mask"]:
        Image.new("1", (24, 24)).save(path)
    with pytest.raises(
        ManifestError, match="expected truth with foreground in one sample at least; found none"
    ):
        scored(frame, options, folder, "s4")


def test_a_faint_map_is_read_by_the_range_of_its_folder(tmp_path):
    frame, options = load(tmp_path, "s4")
    maps = {name: np.rint(values * 255).astype(np.uint8) for name, values in maps_of(frame).items()}
    first = next(iter(maps))
    maps[first] = (maps[first] > 128).astype(np.uint8)  # alone it would be 0 and 1 in 8 bits

    def grey(path, values):
        Image.fromarray(values).save(path)

    folder = put(tmp_path / "png", maps, grey, "png")
    expected = put(tmp_path / "npy", {name: values / 255 for name, values in maps.items()}, np.save, "npy")
    found, wanted = (scored(frame, options, place, "s4")["mean"] for place in (folder, expected))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    with pytest.raises(submission.PredictionError, match=rf"{first}.png: .*found 0 and 1 only"):
        submission.read_map(folder / f"{first}.png", SIZE)


# ------------------------------------------------------------------------------------- command line


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A configuration whose S4 is a small tree, and predictions for it."""
    frame, options = load(tmp_path, "s4")
    s4 = {"root": options["root"], "generated": False}
    overlay = {"suite": "toy", "datasets": {"s4": s4}, "evaluation": {"size": SIZE}}
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(overlay))
    put(tmp_path / "mine", maps_of(frame), np.save, "npy")
    monkeypatch.chdir(tmp_path)
    return frame, options


def invoke(*arguments):
    return CliRunner().invoke(app, ["score", "--configfile", "my.yaml", *arguments])


def test_the_command_prints_a_table_and_keeps_a_row(project):
    expected = scored(*project, "mine", "s4").set_index("metric")["mean"]
    for _ in range(2):  # the second time replaces the row
        done = invoke("--predictions", "mine", "--dataset", "s4")
        assert done.exit_code == 0, done.output
    assert "toy suite: not the paper's result" in done.output
    assert f"{100 * expected['mask-IoU']:.2f}" in done.output
    assert invoke("--predictions", "mine", "--dataset", "s4", "--method", "another").exit_code == 0
    frame = pd.read_csv("results/toy/submissions.csv")
    assert list(frame.columns) == list(tables.COLUMNS)
    assert frame["method"].tolist() == ["mine", "mine", "another", "another"]
    assert frame.loc[0, "mean"] == pytest.approx(100 * expected[frame.loc[0, "metric"]])


def test_the_suites_own_rows_stand_below(project, tmp_path):
    frame, _ = submission.table(scored(*project, "mine", "s4"), "toy")
    (tmp_path / "results/toy/tables").mkdir(parents=True)
    own = frame.assign(method="TACO", variant="proposed", word_bank="general", mean=12.34)
    other = own.assign(dataset="MS3", mean=56.78)
    pd.concat([own, other]).to_csv("results/toy/tables/table2.csv", index=False)
    own[:1].to_csv("results/toy/tables/table4.csv", index=False)  # the same cell again
    output = invoke("--predictions", "mine", "--dataset", "s4").output
    assert output.count("12.34") == 2 and "56.78" not in output
    assert "This suite's own rows:" in output


@pytest.mark.parametrize(
    ("arguments", "finding"),
    [
        (("--predictions", "mine", "--dataset", "s5"), "ConfigError: no dataset 's5'; known: s4"),
        (("--predictions", "mine", "--dataset", "s4", "--task", "avss"), "has no task 'avss'; its tasks: s4"),
        (("--predictions", "none", "--dataset", "s4"), "PredictionError: none: expected a folder"),
        (("--predictions", "mine", "--dataset", "ms3"), "ManifestError"),
    ],
)
def test_mistakes_end_with_a_message_and_no_file(project, tmp_path, arguments, finding):
    done = invoke(*arguments)
    assert done.exit_code == 1
    assert finding in done.output
    assert "Traceback" not in done.output and not (tmp_path / "results").exists()
