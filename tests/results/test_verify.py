"""The first checks with real weights: each says ok for what holds, deviates for what does not, and why."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from score_rows import rows_of_s4

from taco import suites
from taco.models import weights
from taco.results import verify
from taco.results.verify import DEVIATES, OK, UNCHECKED, UNCLEAR

RNG = np.random.default_rng(0)


def verdicts(checks):
    return [check.verdict for check in checks]


def tokens(seed=0, zeros=0.5):
    values = np.random.default_rng(seed).random((20, 6), dtype=np.float32) + 0.1
    values[np.random.default_rng(seed + 1).random(values.shape) < zeros] = 0
    values[:, 0] = 1
    return values.astype(np.float16)


# ---------------------------------------------------------------- tokens and masks


def test_sound_tokens_are_ok():
    samples = [verify.token_statistics(tokens(seed)) for seed in range(3)]
    assert verdicts(verify.token_checks("x", samples)) == [OK] * 4
    assert samples[0]["mean"] == pytest.approx(tokens(0).astype(np.float32).mean(0))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda t: t.__setitem__((0, 1), -1), 0),
        (lambda t: t.__setitem__((0, 1), np.nan), 0),
        (lambda t: t.__setitem__(slice(None), 1), 1),  # nothing was clamped
        (lambda t: t.__setitem__(3, 0), 2),
    ],
)
def test_a_broken_token_is_named(change, line):
    samples = []
    for seed in range(3):
        values = tokens(seed)
        change(values)
        samples.append(verify.token_statistics(values))
    assert verdicts(verify.token_checks("x", samples))[line] == DEVIATES


def test_tokens_that_do_not_depend_on_the_sample_are_named():
    checks = verify.token_checks("x", [verify.token_statistics(tokens(0))] * 3)
    assert verdicts(checks) == [OK, OK, OK, DEVIATES]
    assert len(verify.token_checks("x", [verify.token_statistics(tokens(0))])) == 3


def test_decided_masks_are_ok_and_those_of_an_untrained_decoder_are_not():
    trained = np.full((4, 8, 8), -9.0, dtype=np.float16)
    trained[0, :, :6] = trained[1, :2] = 9
    found = verify.mask_statistics(trained)
    assert found == {"finite": 1, "decided": 1, "marking": 0.5, "covered": pytest.approx(52 / 64)}
    assert verdicts(verify.mask_checks("x", [found])) == [OK] * 3
    untrained = verify.mask_statistics(RNG.normal(0, 0.5, (4, 8, 8)))
    assert verdicts(verify.mask_checks("x", [untrained]))[1] == DEVIATES
    empty = verify.mask_statistics(np.full((4, 8, 8), -9.0))
    assert verdicts(verify.mask_checks("x", [empty])) == [OK, OK, DEVIATES]


# ---------------------------------------------------------------- abilities


def test_text_encoders_that_agree_are_ok_and_unrelated_ones_are_not():
    meaning = RNG.normal(size=(30, 5))
    clip = meaning @ RNG.normal(size=(5, 40))
    clap = meaning @ RNG.normal(size=(5, 60)) + 0.1 * RNG.normal(size=(30, 60))
    assert verdicts(verify.anchor_checks("x", clip, clap)) == [OK, OK]
    assert verdicts(verify.anchor_checks("x", clip, RNG.normal(size=(30, 60)))) == [OK, DEVIATES]
    clap[3] = clap[4]  # as where a tokenizer cuts both
    assert verdicts(verify.anchor_checks("x", clip, clap))[0] == DEVIATES


def test_zero_shot_is_judged_against_chance_with_the_uncertainty_of_few_trials():
    def judged(hits, n, chance=0.1):
        return verify.zero_shot_check("x", "y", [True] * hits + [False] * (n - hits), [chance] * n)

    assert judged(15, 20).verdict == OK
    assert "15 of 20 (95 % interval 53 to 89 %)" in judged(15, 20).finding
    assert judged(1, 20).verdict == DEVIATES
    assert judged(3, 20).verdict == UNCLEAR  # above chance, as guessing often is
    assert judged(1, 1).verdict == UNCLEAR and judged(0, 1).verdict == UNCLEAR
    assert judged(0, 0).verdict == UNCHECKED


def test_what_the_mask_files_are_stands_in_the_table():
    masks = {
        "masks": 5,
        "empty": 0,
        "kinds": {"mode 1": 4, "mode L": 1},
        "pixels": {"read so": 0, "read thus": 3},
    }
    files, so, thus = verify.mask_file_checks("s4", masks)
    assert files.finding == "4 × mode 1; 1 × mode L"
    assert (so.finding, so.verdict, thus.finding, thus.verdict) == ("0", verify.OK, "3", verify.DEVIATES)
    assert not list(verify.mask_file_checks("ade", None))


def test_heard_classes_take_one_image_of_each_clip_and_any_of_its_classes():
    rows = pd.DataFrame(
        [
            ("a_0", "a", "bell", "bell"),
            ("a_1", "a", "bell", "drum"),
            ("b_0", "b", "drum, male speech, man", "male speech, man"),
            ("c_0", "c", "drum, bell", "bird"),
            ("d_0", "d", "", "bird"),
        ],
        columns=["sample_id", "clip_id", "class_name", "clap_label"],
    )
    hits, chances = verify.heard_classes(rows, 10)
    assert hits == [True, True, False] and chances == [0.1, 0.3, 0.2]


def test_the_class_under_a_mask_is_that_of_its_tokens_alone():
    anchors = np.eye(4, dtype=np.float32)
    grid_tokens = np.zeros((3, 5, 4), dtype=np.float32)
    grid_tokens[...] = anchors[0]
    grid_tokens[1, 2:4] = anchors[3]
    mask = np.zeros((31, 50), dtype=bool)
    mask[11:20, 20:40] = True
    assert verify.class_inside(grid_tokens.reshape(15, 4), (3, 5), mask, anchors) == 3
    assert verify.class_inside(grid_tokens.reshape(15, 4), (3, 5), ~mask, anchors) == 0


def test_regions_are_compared_with_the_whole_image():
    frame = pd.DataFrame({"clip_id": list("abcdefgh"), "iou": 0.7, "whole": RNG.uniform(0.1, 0.3, 8)})
    assert verdicts(verify.region_checks("x", frame)) == [OK]
    swapped = frame.rename(columns={"iou": "whole", "whole": "iou"})
    assert verdicts(verify.region_checks("x", swapped)) == [DEVIATES]
    mixed = frame.assign(iou=[0.9, 0.0] * 4, whole=0.45)
    assert verdicts(verify.region_checks("x", mixed)) == [UNCLEAR]
    assert verdicts(verify.region_checks("x", frame[:0])) == [UNCHECKED]


# ---------------------------------------------------------------- factors and scores


def factors():
    return {
        "image_activations": RNG.random((2, 3, 10, 4)),
        "audio_activations": RNG.random((2, 3, 5, 4)),
        "image_factors": RNG.random((2, 3, 4, 6)),
        "audio_factors": RNG.random((2, 3, 4, 6)),
        "cross_entropy": RNG.random((2, 3, 4)),
        "objective": np.linspace(9, 5, 4) + RNG.random((2, 3, 1)),
    }


def test_factors_within_bounds_and_falling_are_ok():
    assert verdicts(verify.factor_checks("x", factors())) == [OK, OK]
    negative = factors()
    negative["image_factors"][0, 0, 0, 0] = -1
    assert verdicts(verify.factor_checks("x", negative)) == [DEVIATES, OK]
    rising = factors()
    rising["objective"][1, 2] = [1, 2, 3, 4]
    assert verdicts(verify.factor_checks("x", rising)) == [OK, DEVIATES]
    assert "83 %" in verify.factor_checks("x", rising)[1].finding


def test_what_must_be_better_is_compared_by_clip():
    found = list(verify.comparison_checks(rows_of_s4(0.9)))
    assert verdicts(found) == [OK, OK, OK]
    assert "oracle mask, control against whole image" in found[0].check and "12 clips" in found[0].finding


# ---------------------------------------------------------------- the table, and what it is made on


def test_the_page_counts_verdicts_and_puts_deviations_first():
    checks = [
        verify.Check("a", "b", "c", "d", OK),
        verify.Check("e", "f", "g", "h", UNCHECKED),
        verify.Check("i", "j", "k", "l", DEVIATES),
    ]
    frame = verify.table(checks, "miniature-verify")
    assert set(frame["suite"]) == {"miniature-verify"}
    text = verify.page(frame, "miniature-verify", ["Left out: x."]).markdown()
    assert "3 checks: 1 deviates, 1 ok, 1 not checked." in text and "Left out: x." in text
    assert text.index("| i ") < text.index("| a ") < text.index("| e ")
    assert "miniature-verify" in text


def test_weight_files_are_told_by_lock_and_list(tmp_path, monkeypatch):
    path = tmp_path / "CLAP_weights_2023.pth"
    torch.save({"a": torch.zeros(2)}, path)
    holds, finding = weights.examine_digest(path)
    assert holds is False and finding.endswith("…")
    monkeypatch.setattr(weights, "LOCK", tmp_path / "none.yaml")
    with pytest.raises(weights.WeightsError, match="digests"):
        weights.examine_digest(path)
    with pytest.raises(weights.WeightsError):
        weights.examine_list(path)
    assert weights.examine_list(tmp_path / "own.pth")[0] is None


def test_only_staged_leaves_out_what_is_not_on_disk(tmp_path):
    config = {}
    for name in ("config", "paper", "verify"):
        config = suites.overlay(config, yaml.safe_load(Path(f"config/{name}.yaml").read_text()))
    for name, options in config["datasets"].items():
        options["root"] = str(tmp_path / name)
    with pytest.raises(suites.ConfigError, match="only_staged: expected at least one dataset on disk"):
        suites.settle(config)
    (tmp_path / "ade").mkdir()
    suites.check(suites.settle(config), "config/schemas/config.schema.yaml")
    assert suites.used_datasets(config) == ["ade"] and config["suite"] == "paper-verify"
    assert [line.split()[2].strip(",") for line in suites.left_out(config)] == ["s4", "ms3", "avss"]
    runs = suites.task_runs(config, "ade_sp")
    assert runs == [("general", "proposed"), ("general", "shuffled-audio")]
