"""Kept predictions: what was scored can be had again, and costs the tables nothing."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from scoring import SIZE, classes, make_sample, make_scorer, truth
from typer.testing import CliRunner

from taco.cli import app
from taco.data import predictions
from taco.results import counts, score_files, submission

CELL = {"method": "TACO", "variant": "proposed", "word_bank": "general", "seed": 0}
IDENTITY = {"task": "s4", "dataset": "toy", "sample_id": "a_1", "clip_id": "a", "class_name": "bell"}


def write(tmp_path, task, keep):
    """Score file of one sample, and the answers that were scored."""
    semantic = task == "avss"
    scorer = make_scorer(task, keep_predictions=keep)
    sample = make_sample(semantic=semantic)
    rows = [{**IDENTITY, "task": task, **row} for _, row in scorer.scored(sample, {}, "bell")]
    path = tmp_path / f"{task}-{keep}.parquet"
    score_files.write_rows(rows, path, "semantic" if semantic else "binary")
    label = scorer._listen(sample.clap_embedding)[1]
    answers = {(a.method, a.variant, a.bank, a.seed): a.scores for a in scorer.predictions(sample, label)}
    return path, answers


@pytest.mark.parametrize("keep", ["masks", "maps"])
def test_soft_maps_come_back(tmp_path, keep):
    path, answers = write(tmp_path, "s4", keep)
    for cell, scores in answers.items():
        run = dict(zip(CELL, cell, strict=True))
        assert predictions.export([path], tmp_path / "out", **run) == 1
        (file,) = (tmp_path / "out").iterdir()
        assert file.name == "a_1" + predictions.KINDS[keep]
        found = submission.read_map(file, SIZE)
        wanted = scores > 0.5 if keep == "masks" else np.clip(scores, 0, 1)
        np.testing.assert_allclose(found, wanted, atol=0.5 / 255 + 1e-6)
        file.unlink()


@pytest.mark.parametrize("keep", ["masks", "maps"])
def test_class_ids_come_back(tmp_path, keep):
    path, answers = write(tmp_path, "avss", keep)
    for cell, ids in answers.items():
        predictions.export([path], tmp_path / "out", **dict(zip(CELL, cell, strict=True)))
        (file,) = (tmp_path / "out").iterdir()
        np.testing.assert_array_equal(submission.read_ids(file, SIZE, len(classes().names) + 1), ids)
        file.unlink()


def test_rows_are_read_without_what_is_kept(tmp_path):
    plain, kept = (score_files.load_rows([write(tmp_path, "s4", keep)[0]]) for keep in (None, "masks"))
    assert predictions.COLUMN in pq.read_schema(tmp_path / "s4-masks.parquet").names
    assert plain.columns.tolist() == kept.columns.tolist()
    lists = list(score_files.LISTS["binary"])
    assert plain.drop(columns=lists).equals(kept.drop(columns=lists))
    for name in lists:
        np.testing.assert_array_equal(counts.table(plain, name), counts.table(kept, name))


def test_a_mask_is_small(tmp_path):
    assert len(predictions.encode(truth().astype(np.float32), "masks")) < 60


def test_what_was_not_kept_is_refused_by_name(tmp_path):
    path, _ = write(tmp_path, "s4", None)
    with pytest.raises(predictions.NoPredictionsError, match=r"s4-None\.parquet.*keep_predictions"):
        predictions.export([path], tmp_path / "out", **CELL)
    path, _ = write(tmp_path, "s4", "masks")
    with pytest.raises(predictions.NoPredictionsError, match="no predictions of .*'seed': 7"):
        predictions.export([path], tmp_path / "out", **CELL | {"seed": 7})


def test_the_command_writes_what_taco_score_reads(tmp_path, monkeypatch):
    path, answers = write(tmp_path, "s4", "masks")
    place = tmp_path / "results/miniature/scores/s4/0/s4.rows.parquet"
    place.parent.mkdir(parents=True)
    path.rename(place)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["export", "--task", "s4", "--output", "out"])
    assert done.exit_code == 0 and "1 predictions in out" in done.output, done.output
    expected = answers["TACO", "proposed", "general", 0] > 0.5
    np.testing.assert_array_equal(submission.read_map(tmp_path / "out/a_1.json", SIZE), expected)
    for arguments in (["--task", "ms3"], ["--task", "s5"], ["--task", "s4", "--seed", "9"]):
        done = CliRunner().invoke(app, ["export", "--output", "out", *arguments])
        assert done.exit_code == 1 and "Error: " in done.output and "Traceback" not in done.output


def test_ids_beyond_eight_bits_need_masks():
    with pytest.raises(ValueError, match="8 bits"):
        predictions.encode(np.full((2, 2), 300), "maps")
    assert b'"category_id": 300' in predictions.encode(np.full((2, 2), 300), "masks")
