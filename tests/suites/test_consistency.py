"""Parts of a configuration that are each right and do not fit together: named before any work."""

import copy
from functools import cache
from pathlib import Path

import pytest
import yaml

from taco import suites
from taco.metrics.tasks import TASKS
from taco.suites import consistency

ROOT = Path(__file__).resolve().parents[2]


@cache
def load(name):
    return yaml.safe_load((ROOT / "config" / name).read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def config(overlay=None, suite=None):
    """The miniature suite (or another one) with an overlay."""
    base = suites.overlay(load("config.yaml"), load(suite) if suite else {})
    return suites.settle(copy.deepcopy(suites.overlay(base, overlay or {})))


def problems(overlay, suite=None, check=suites.check):
    with pytest.raises(suites.ConfigError) as error:
        check(config(overlay, suite))
    return str(error.value)


def test_the_shipped_suites_fit_together():
    for suite in (None, "paper.yaml"):
        suites.check(config(suite=suite))
        suites.check_shown(config(suite=suite))
    for suite in ("verify.yaml", "calibrate.yaml", "calibrate_world.yaml"):  # for targets of their own
        suites.check(config(suite=suite))


# Prompts


@pytest.mark.parametrize("kind", ["image", "audio"])
@pytest.mark.parametrize(
    "template",
    [
        *(
            "{label} {0}",
            "{label} {}",
            "{label} {name}",
            "{label!r}",
            "{label:>9}",
            "{label.x}",
            "{label[0]}",
        ),
        *("{{label}}", "A {label", "A {label} }", "{label} {"),
    ],
)
def test_a_prompt_has_the_label_and_no_other_field(kind, template):
    assert f"prompts.{kind}: " in problems({"prompts": {kind: template}})


@pytest.mark.parametrize("template", ["{label}", "a {label}, the {label}", "{{a}} {label}"])
def test_braces_of_the_text_are_doubled(template):
    suites.check(config({"prompts": {"image": template}}))


# Sounds


@pytest.mark.parametrize(
    ("suite", "window"), [(None, 60), (None, 1.1), (None, 0.01), ("paper.yaml", 8), ("paper.yaml", 0.001)]
)
def test_a_window_that_the_model_does_not_hear_whole_is_refused(suite, window):
    found = problems({"models": {"clap": {"window": window}}}, suite)
    assert "models.clap.window: expected" in found and f"found {window}" in found


@pytest.mark.parametrize(
    ("suite", "window"), [(None, 1.02), (None, 0.5), ("paper.yaml", 7.43), ("paper.yaml", 1)]
)
def test_other_windows_are_left_alone(suite, window):
    suites.check(config({"models": {"clap": {"window": window}}}, suite))


def test_a_rate_makes_the_window_too_long():
    assert "at 32000 Hz" in problems({"models": {"clap": {"sample_rate": 32000}}})


def test_a_frame_has_sound():
    assert "world.frame_seconds" in problems({"world": {"frame_seconds": 1e-5}})


# Clips


def test_shuffled_sounds_need_two_clips():
    found = problems({"limit": 1})
    assert "limit: expected at least 2 clips of s4, as shuffled-audio" in found and "raise it" in found
    assert "ade" in found
    assert "world.clips.s4.test: expected at least 2" in problems({"world": {"clips": {"s4": {"test": 1}}}})
    assert "limit: expected at least 2 clips of s4" in problems({"limit": 1}, "paper.yaml")


def test_one_clip_is_enough_without_them():
    tasks = {name: {"variants": []} for name in config()["tasks"]}
    suites.check(config({"limit": 1, "tasks": tasks, "tables": {"which": ["table1", "table4"]}}))


# Solver


@pytest.mark.parametrize("suite", [None, "paper.yaml"])
@pytest.mark.parametrize(
    ("overlay", "key"),
    [
        ({"solver": {"n_components": 65}}, "solver.n_components"),
        ({"datasets": {"s4": {"solver": {"n_components": 65}}}}, "solver.n_components"),
        ({"variants": {"no-min": {"solver": {"n_components": 65}}}}, "solver.n_components"),
    ],
)
def test_there_are_no_more_components_than_tokens(overlay, key, suite):
    found = problems(overlay, suite)
    assert f"{key}: expected at most the 64 tokens of" in found and "sound, found 65" in found


def test_as_many_components_as_tokens_are_tried():
    suites.check(config({"solver": {"n_components": 64}}))
    small = {"models": {"clip": {"image_size": 32}}}
    found = problems({**small, "sensitivity": {"n_components": [17]}})
    assert "sensitivity.n_components: expected at most the 16 tokens of s4's image, found 17" in found


@pytest.mark.parametrize(
    "where", [{"solver": {}}, {"datasets": {"s4": {"solver": {}}}}, {"variants": {"no-min": {"solver": {}}}}]
)
def test_settings_of_variants_and_datasets_are_checked_too(where):
    def filled(part, settings):
        return {key: filled(value, settings) if key != "solver" else settings for key, value in part.items()}

    assert "solver.halve_at: steps must ascend, found [9, 3]" in problems(filled(where, {"halve_at": [9, 3]}))
    assert "the squared norm needs one of its own" in problems(filled(where, {"norm": "squared"}))
    suites.check(config(filled(where, {"norm": "squared", "learning_rate": 1e-4})))


def test_a_variant_that_no_task_runs_decides_nothing():
    unused = {"label": "big", "sound": "own", "solver": {"n_components": 200}}
    suites.check(config({"variants": {"big": unused}}))


# Names


def test_proposals_are_named_where_classes_are_and_by_the_own_sound():
    found = problems({"tasks": {"s4": {"variants": ["shuffled-audio", "classes-by-proposal"]}}})
    assert (
        "tasks.s4.variants: expected variants that name no classes" in found and "take classes-by-" in found
    )
    found = problems({"variants": {"classes-by-proposal": {"sound": "noise"}}})
    assert "variants.classes-by-proposal.sound: expected own" in found and "found noise" in found
    assert "classes: 'factors' is not one of" in problems(
        {"variants": {"classes-by-proposal": {"classes": "factors"}}}
    )
    assert {name for name, task in TASKS.items() if task.kind == "semantic"} == consistency.SEMANTIC


# Tables and figures


@pytest.mark.parametrize(
    ("overlay", "words"),
    [
        ({"tasks": {"s4": {"variants": []}}}, "tasks.s4: table2 shows shuffled audio with the general bank"),
        ({"tasks": {"ade_sp": {"variants": ["shuffled-audio"]}}}, "tasks.ade_sp: table3 shows no-min"),
        ({"tasks": {"s4": {"banks": ["general"]}}}, "tasks.s4: table4 shows proposed with the specific bank"),
        (
            {"tasks": {"ade_sp": {"default_bank": "specific"}}},
            "tasks.ade_sp: table3 shows no-min with the general bank",
        ),
        ({"variants": {"no-min": {"label": "mean"}}}, "tasks.ade_sp: table3 shows no-min"),
        (
            {"evaluation": {"controls": ["random mask"]}},
            "evaluation.controls: table1 shows whole image, oracle mask",
        ),
        ({"decoding": {"prompt_sets": ["single"]}}, "decoding.prompt_sets: table1 shows A-FC-CLIP"),
        (
            {"solver": {"trace_every": 0}},
            "solver.trace_every: the figure objective shows the trace of ade, avss, ms3, s4",
        ),
    ],
)
def test_what_nothing_would_fill_is_named_at_once(overlay, words):
    found = problems(overlay, check=suites.check_shown)
    assert words in found and "take" in found
    suites.check(config(overlay))


def test_without_the_table_or_figure_the_same_is_legal():
    for overlay in (
        {"tasks": {"s4": {"variants": []}}, "tables": {"which": ["table1", "table3", "table4", "table5"]}},
        {"evaluation": {"controls": []}, "tables": {"which": []}},
        {"solver": {"trace_every": 0}, "figures": {"which": ["figure8"]}},
    ):
        suites.check_shown(config(overlay))


@pytest.mark.parametrize("task", ["s4", "ms3", "ade_sp", "avss", "ade_sp_semantic"])
def test_each_task_alone_shows_what_it_has(task):
    one = config({"tasks": {name: None for name in config()["tasks"] if name != task}})
    suites.check(one)
    suites.check_shown(one)
    assert ("confidence" in one["figures"]["which"]) == (task in ("s4", "ms3", "ade_sp"))
    assert ("classes" in one["figures"]["which"]) == (task in ("s4", "ade_sp"))
    assert "objective" in one["figures"]["which"]


def test_a_missing_description_is_the_doctors_affair():
    suites.check(config({"models": {"clap": {"architecture": "nowhere.json", "window": 60}}}))


def test_each_problem_comes_once():
    found = consistency.problems(
        config({"solver": {"n_components": 65}}),
        {name: suites.solved_runs(config({"solver": {"n_components": 65}}), name) for name in ("s4",)},
    )
    assert len(found) == len(set(found)) == 1


def test_the_official_decoder_computes_in_float32():
    overlay = {"models": {"fcclip": {"backend": "detectron2"}}}
    assert "models.fcclip.precision: expected float32" in problems(overlay, "paper.yaml")
    overlay["models"]["fcclip"]["precision"] = "float32"
    suites.check(config(overlay, "paper.yaml"))
