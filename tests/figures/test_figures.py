"""Figures: what is shown of a sample, what stands on each figure, and that drawing needs no torch."""

import dataclasses
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from figure_data import CLASSES, WORDS, disc, make_source
from PIL import Image

from taco import metrics
from taco.figures import charts, drawing, examples, exhibits
from taco.results import aggregate

ROOT = Path(__file__).resolve().parents[2]
SUITE_LINE = "miniature suite: a generated world"


@pytest.fixture(scope="module")
def evidence(sources):
    rows = pd.concat([rows for _, rows in sources.values()], ignore_index=True)
    pooled = pd.DataFrame(pool_rows_of(sources["ade_sp"][1], sources["ade_sp"][0]))
    steps = pd.DataFrame(
        {
            "task": "ade_sp",
            "metric": "mAP",
            "steps": [10, 50, 100],
            "value": [0.2, 0.4, 0.5],
            "baseline": 0.3,
            "solve_seconds": [0.01, 0.02, 0.03],
            "other_seconds": 0.1,
            "n_samples": 4,
            "device": "cpu, 1 threads",
        }
    )
    trace = np.linspace(10, 4, 5) * np.ones((3, 8, 1))
    return exhibits.Evidence(
        suite="miniature",
        sources={task: source for task, (source, _) in sources.items()},
        rows=rows,
        pools=pooled,
        traces={"S4": ([0, 10, 20, 30, 40], trace)},
        steps=steps,
        n_rows=3,
        seed=0,
    )


def pool_rows_of(rows, source):
    """Rows of pools that belong to the made-up ADE SP rows."""
    pools = {}
    for row in rows.to_dict("records"):
        truth = source.truth(row["sample_id"])
        key = tuple(row[name] for name in metrics.POOL_IDENTITY)
        pools.setdefault(key, metrics.ScorePool()).update(truth * 0.5, truth)
    return [{**dict(zip(metrics.POOL_IDENTITY, key, strict=True)), **p.to_row()} for key, p in pools.items()]


# ------------------------------------------------------------------------------------ examples


def test_sound_grid_of_both_models():
    assert examples.sound_grid(ROOT / "config/models/miniature_clap.json") == (4, 16)
    assert examples.sound_grid(ROOT / "config/models/clap_2023.json") == (2, 32)


def test_closest_words_descend_and_break_ties_by_the_bank():
    assert examples.closest(np.array([0.1, 0.7, 0.7]), ["a", "b", "c"], 2) == [("b", 0.7), ("c", 0.7)]


def test_image_scores_take_the_threshold_of_the_whole_set(sources):
    source = sources["s4"][0]
    scores, threshold = examples.image_scores(source.cell("TACO"))
    assert 0 < threshold < 0.9
    # Odd samples have a second disc that the map leaves out.
    one, two = disc(10, 10, 6).sum(), disc(24, 24, 5).sum()
    assert scores.to_numpy() == pytest.approx([1, one / (one + two)] * 4, abs=1e-6)


def test_a_shuffled_example_shows_its_own_image_and_another_clips_sound(sources):
    source = sources["s4"][0]
    own, other = source.shown("c0/0"), source.shown("c0/0", "shuffled")
    assert np.array_equal(own.image, other.image)
    assert not np.array_equal(own.wave, other.wave)
    assert "another clip's sound" in drawing.describe(other)
    assert len(own.wave) == 4000  # the window, at the model's rate: 0.4 s repeated to 0.5 s


# -------------------------------------------------------------------------------------------- figures


def test_the_configuration_names_every_figure_and_each_has_a_caption():
    configured = yaml.safe_load((ROOT / "config/config.yaml").read_text())["figures"]["which"]
    assert configured == list(exhibits.FIGURES)
    for name in configured:
        caption = (ROOT / f"report/figures/{name}.rst").read_text()
        assert "Suite:" in caption


@pytest.mark.parametrize("name", list(exhibits.FIGURES))
def test_every_figure_names_its_suite_and_is_not_blank(name, evidence, tmp_path):
    figure = exhibits.FIGURES[name](evidence)
    words = drawing.texts(figure)
    assert SUITE_LINE in words
    assert any(character.isdigit() for character in words)
    drawing.save(figure, [tmp_path / "a.png", tmp_path / "a.pdf"])
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.std() > 10
    assert pixels.shape[1] == pytest.approx(drawing.WIDTH * drawing.DPI, abs=2)
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_a_figure_is_written_alike_twice(evidence, tmp_path):
    for name in ("a", "b"):
        drawing.save(
            exhibits.FIGURES["words"](evidence), [tmp_path / f"{name}.png", tmp_path / f"{name}.pdf"]
        )
    for ending in ("png", "pdf"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_a_row_without_a_sample_says_so(evidence):
    figure = drawing.grid([("Nothing", None)], drawing.BINARY, "t", "note", "miniature")
    assert "no sample fits this rule" in drawing.texts(figure)


@pytest.mark.parametrize("name", ["overview", "figure4"])
def test_masks_of_ones_own_reader_are_not_taken_for_ade20ks(name, evidence, tmp_path):
    with ExitStack() as stack:
        source, _ = make_source(stack, tmp_path, "ade_sp")
        for path in source.manifest["mask"]:
            Image.new("L", (8, 8), 200).save(path)
        source.manifest["class_id"] = -1
        own = dataclasses.replace(evidence, sources={**evidence.sources, "ade_sp": source})
        assert "no sample fits this rule" in drawing.texts(exhibits.FIGURES[name](own))


def test_a_run_of_few_samples_still_has_every_figure(evidence, tmp_path):
    with ExitStack() as stack:
        sources, rows = {}, []
        for task in evidence.sources:
            # One clip: no truth in several parts, no other clip to take a sound from.
            made, scored = make_source(stack, tmp_path / task, task, clips=1, frames=1)
            made.rows = made.rows[made.rows["variant"] != "shuffled audio"]
            sources[task] = made
            rows.append(scored)
        few = dataclasses.replace(evidence, sources=sources, rows=pd.concat(rows, ignore_index=True))
        for name in (
            "overview",
            "figure4",
            "figure5",
            "figure7",
            "figure9",
            "figure10",
            "confidence",
            "words",
        ):
            figure = exhibits.FIGURES[name](few)
            assert SUITE_LINE in drawing.texts(figure)
            drawing.save(figure, [])
        assert "no sample fits this rule" in drawing.texts(exhibits.overview(few))


def test_ablations_show_mean_and_single_seeds(evidence):
    values = evidence.values[evidence.values["task"] == "ade_sp"].copy()
    values.loc[values["method"] == "TACO", "value"] = [0.1, 0.2, 0.6] * (
        (values["method"] == "TACO").sum() // 3
    )
    figure = charts.ablations(values, "miniature")
    drawn = np.concatenate([line.get_xdata() for line in figure.axes[0].lines])
    assert {10, 20, 30, 60} <= {round(float(x)) for x in drawn}  # the mean is 30


def test_the_marked_threshold_is_the_tables(evidence):
    figure = charts.thresholds(evidence.rows, "miniature")
    found = aggregate.per_seed(charts.cell(evidence.rows, "s4", "TACO", "proposed"))
    best = found.loc[found["metric"] == "mask-IoU", "value"].iloc[0]
    marked = [
        line for line in figure.axes[0].lines if line.get_marker() == "o" and len(line.get_xdata()) == 1
    ]
    assert marked[0].get_ydata()[0] == pytest.approx(100 * best)


def test_classes_leave_out_tasks_with_several_classes_in_an_image(evidence):
    figure = charts.classes(evidence.rows, "miniature")
    assert [axes.get_title() for axes in figure.axes] == ["S4 (n = 8)", "ADE SP (n = 8)"]
    assert {text.get_text() for text in figure.axes[0].get_yticklabels()} == {
        "bell (4)",
        "bird (2)",
        "drum (2)",
    }
    several = evidence.rows[evidence.rows["task"] == "ms3"]
    with pytest.raises(examples.ExampleError, match="figures.which"):
        charts.classes(several, "miniature")


def test_a_missing_task_is_an_error_with_a_remedy(evidence):
    alone = dataclasses.replace(evidence, sources={"s4": evidence.sources["s4"]})
    with pytest.raises(examples.ExampleError, match="figures.which"):
        exhibits.figure9(alone)


def test_cut_out_keeps_colours_inside_only():
    image = np.zeros((2, 2, 3), dtype=np.uint8)
    image[..., 0] = 200
    cut = drawing.cut_out(image, np.array([[True, False], [False, False]]))
    assert cut[0, 0].tolist() == [200, 0, 0]
    assert len(set(cut[0, 1].tolist())) == 1
    assert cut[0, 1, 0] > 150


def test_drawing_needs_no_torch():
    code = "import sys, taco.figures.exhibits, taco.figures.gallery; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_made_up_words_are_shown(evidence):
    similarity, _ = evidence.sources["ms3"].similarity("c1/0")
    assert similarity.shape == (4, len(WORDS))
    assert set(evidence.sources["ms3"].class_names.values()) == set(CLASSES)
