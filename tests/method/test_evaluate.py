"""Maps and rows of every method on a hand-made sample: two proposals, two classes."""

import numpy as np
import pytest
import torch
from scoring import CONSTANTS, SIZE, answers, classes, make_run, make_sample, make_scorer, truth

from taco.entries import EntryError
from taco.method import controls, evaluate
from taco.method.text import Labels
from taco.metrics import min_max
from taco.models import fcclip


def test_every_method_answers_once_per_run_and_seed():
    sample = make_sample(runs=[make_run(), make_run("shuffled audio"), make_run(bank="specific")])
    found = set(answers(make_scorer(), sample))
    runs = [("proposed", "general"), ("shuffled audio", "general"), ("proposed", "specific")]
    expected = {(method, *run, seed) for method in ("TACO", "U only") for run in runs for seed in (0, 1)}
    expected |= {("A-FC-CLIP", prompt_set, "specific", -1) for prompt_set in ("list", "single")}
    expected.add(("A⁺-FC-CLIP", "list", "specific", -1))
    expected |= {(method, "control", "none", -1) for method in ("whole image", "random mask", "oracle mask")}
    assert found == expected


def test_the_chosen_factor_gives_the_channel_of_decode():
    scorer, sample = make_scorer(), make_sample()
    run = sample.runs[0]
    maps = fcclip.decode(sample.proposals, run.image_factors, **scorer.decoding)
    for seed, answer in enumerate(answers(scorer, sample)["TACO", "proposed", "general", s] for s in (0, 1)):
        expected = min_max(maps[seed, run.k_star[seed]].numpy())
        np.testing.assert_allclose(answer.scores, expected, atol=1e-5)


def test_a_variant_of_another_k_is_decoded_on_its_own():
    wide, narrow = make_run(), make_run("K = 1")
    narrow = narrow._replace(
        image_factors=narrow.image_factors[:, :1],
        image_activations=narrow.image_activations[..., :1],
        k_star=torch.tensor([0, 0]),
    )
    together = answers(make_scorer(), make_sample(runs=[wide, narrow, make_run(bank="specific")]))
    for run in (wide, narrow):
        for key, answer in answers(make_scorer(), make_sample(runs=[run])).items():
            np.testing.assert_array_equal(answer.scores, together[key].scores)


def test_a_metric_of_ones_own_is_a_column(tmp_path):
    """NaN is an image without a value; anything but a number is an error by name."""
    entry = tmp_path / "mine.py"
    entry.write_text("def score(scores, truth):\n    return float(scores[truth].mean())\n")
    metrics = {"inside": {"entry": str(entry), "tasks": ["s4"]}}
    sample = make_sample()
    for answer, row in make_scorer(metrics=metrics).scored(sample, {}, "bell"):
        assert row["own: inside"] == pytest.approx(answer.scores[truth()].mean())
    ms3 = make_scorer("ms3", metrics=metrics)
    assert all("own: inside" not in row for _, row in ms3.scored(sample, {}, "bell"))
    entry.write_text("def score(scores, truth):\n    return 'much'\n")
    with pytest.raises(
        EntryError, match=r"evaluation.metrics.inside: expected a finite number.*found 'much'"
    ):
        next(make_scorer(metrics=metrics).scored(sample, {}, "bell"))


def test_taco_finds_the_region_of_its_factor():
    found = answers(make_scorer(), make_sample())
    np.testing.assert_array_equal(found["TACO", "proposed", "general", 0].scores > 0.5, truth())
    other = found["TACO", "proposed", "general", 1].scores > 0.5
    assert other[:14, 18:].all() and not other[18:].any()


def test_activations_alone_are_the_grid_of_the_chosen_factor():
    found = answers(make_scorer(), make_sample())
    scores = found["U only", "proposed", "general", 0].scores
    assert scores.shape == (SIZE, SIZE)
    assert scores[:, :12].min() > 0.5 and scores[:, 20:].max() < 0.5
    assert found["U only", "proposed", "general", 0].label == "bell"
    assert found["U only", "proposed", "general", 1].label == "drum"


@pytest.mark.parametrize("heard", [0, 1])
def test_the_heard_class_is_segmented(heard):
    found = answers(make_scorer(), make_sample(heard=heard))
    answer = found["A-FC-CLIP", "list", "specific", -1]
    assert answer.label == ("bell", "drum")[heard]
    assert answer.scores[4, 4] == pytest.approx(1 - heard, abs=0.02)
    assert answer.scores[4, 28] == pytest.approx(heard, abs=0.02)


@pytest.mark.parametrize("task", ["s4", "avss"])
def test_clamped_names_are_clamped_and_nothing_else(task):
    """A⁺-FC-CLIP is A-FC-CLIP on texts without negative parts; it differs where a text has some."""
    signed = classes()
    signed.clip[:] -= 0.6 * np.roll(signed.clip, 1, axis=1)  # "bell" points away from "drum"
    clamped = Labels(signed.names, signed.clip.clip(0), signed.clap)
    sample, key = make_sample(semantic=task == "avss"), ("list", "specific", -1)
    how, device = make_scorer(task).how, torch.device("cpu")
    soft = CONSTANTS | {"clip_logit_scale": np.float32(2), "fcclip_logit_scale": np.float32(2)}
    found = answers(evaluate.Scorer(how, signed, soft, device), sample)
    plain = answers(evaluate.Scorer(how, clamped, soft, device), sample)
    assert (signed.clip < 0).any()
    np.testing.assert_array_equal(found["A⁺-FC-CLIP", *key].scores, plain["A-FC-CLIP", *key].scores)
    np.testing.assert_array_equal(plain["A⁺-FC-CLIP", *key].scores, plain["A-FC-CLIP", *key].scores)
    assert found["A⁺-FC-CLIP", *key].label == "bell"
    if task == "s4":
        assert not np.array_equal(found["A⁺-FC-CLIP", *key].scores, found["A-FC-CLIP", *key].scores)


def test_clamping_needs_the_list_of_names():
    found = answers(make_scorer(prompt_sets=["single"]), make_sample())
    assert not [key for key in found if key[0] == "A⁺-FC-CLIP"]


def test_controls_are_binary_and_the_oracle_is_the_truth():
    found = answers(make_scorer(), make_sample())
    for method in ("whole image", "random mask", "oracle mask"):
        assert set(np.unique(found[method, "control", "none", -1].scores)) <= {0.0, 1.0}
    np.testing.assert_array_equal(
        found["oracle mask", "control", "none", -1].scores, truth().astype(np.float32)
    )
    expected = controls.random_mask(0, "toy/a", (SIZE, SIZE))
    np.testing.assert_array_equal(
        found["random mask", "control", "none", -1].scores, expected.astype(np.float32)
    )


@pytest.mark.parametrize("task", ["avss", "ade_sp_semantic"])
def test_semantic_maps_hold_the_id_of_the_named_class(task):
    scorer, sample = make_scorer(task), make_sample(semantic=True)
    found = answers(scorer, sample)
    assert ("U only", "proposed", "general", 0) not in found
    assert ("A-FC-CLIP", "single", "specific", -1) not in found
    first = found["TACO", "proposed", "general", 0].scores
    assert set(np.unique(first)) <= {0, 1} and first[5, 5] == 1
    second = found["TACO", "proposed", "general", 1].scores
    assert set(np.unique(second)) <= {0, 2} and second[5, 28] == 2
    np.testing.assert_array_equal(found["oracle mask", "control", "none", -1].scores, sample.truth)
    assert (found["whole image", "control", "none", -1].scores == 1).all()


def test_ids_count_from_zero_where_background_is_a_class():
    how = make_scorer("avss").how
    scorer = evaluate.Scorer(how, classes(("background", "drum")), CONSTANTS, torch.device("cpu"))
    found = answers(scorer, make_sample(semantic=True))
    assert set(np.unique(found["TACO", "proposed", "general", 1].scores)) == {0, 1}
    np.testing.assert_array_equal(found["oracle mask", "control", "none", -1].scores, truth(semantic=True))


def test_empty_truth_has_an_empty_oracle():
    sample = make_sample()._replace(truth=np.zeros((SIZE, SIZE), dtype=bool))
    assert not answers(make_scorer(), sample)["oracle mask", "control", "none", -1].scores.any()


def test_rows_count_and_pools_fill_only_where_they_are_used():
    for task, pooled in (("s4", False), ("ade_sp", True)):
        pools = {}
        rows = [row for _, row in make_scorer(task).scored(make_sample(), pools, "bell")]
        assert all(row["pixels"] == SIZE**2 for row in rows)
        assert {row["clap_label"] for row in rows} == {"bell"}
        assert bool(pools) is pooled
        if pooled:
            assert ("bell", "TACO", "proposed", "general", 0) in pools
            written = list(evaluate.pool_rows(pools, task, "toy"))
            assert len(written) == len(rows)
            assert len(written[0]["positives"]) == SIZE * SIZE // 2


def test_stretching_agrees_with_the_metrics_definition():
    maps = torch.rand(3, 7, 5, generator=torch.Generator().manual_seed(0)) * 4 - 1
    maps[1] = 2.5
    stretched = evaluate.stretch(maps).numpy()
    for found, original in zip(stretched, maps.numpy(), strict=True):
        np.testing.assert_allclose(found, min_max(original), atol=1e-6)


def test_a_sample_is_scored_alike_alone_and_with_other_runs():
    scorer = make_scorer()
    alone = answers(scorer, make_sample())["TACO", "proposed", "general", 0].scores
    together = answers(scorer, make_sample(runs=[make_run("no-min", k_star=(1, 0)), make_run()]))
    np.testing.assert_allclose(together["TACO", "proposed", "general", 0].scores, alone, atol=1e-6)
