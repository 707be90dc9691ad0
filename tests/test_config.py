"""The configuration: complete, described, strict; the environments: in step with pyproject.toml."""

import copy
import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml

from taco import suites
from taco.metrics.tasks import TASKS
from taco.suites import consistency

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = ROOT / "config/schemas/config.schema.yaml"


def load(name):
    return yaml.safe_load((ROOT / "config" / name).read_text(encoding="utf-8"))


@pytest.fixture
def config():
    return load("config.yaml")


def changed(config, path, value):
    """A copy with one key set; a path's last key may be new."""
    config = copy.deepcopy(config)
    *parents, last = path.split(".")
    place = config
    for key in parents:
        place = place[key]
    place[last] = value
    return config


def problems(config):
    with pytest.raises(suites.ConfigError) as error:
        suites.check(config, SCHEMA)
    return str(error.value)


# ---------------------------------------------------------------- the shipped files


def described(schema, key):
    """The schema's entry of a dotted key, in which ``*`` stands for any name."""
    node = schema
    for name in key.split("."):
        parts = [node, *node.get("allOf", [])]
        parts = [schema["$defs"][p["$ref"].rsplit("/", 1)[1]] if "$ref" in p else p for p in parts]
        known = {k: v for part in parts for k, v in part.get("properties", {}).items()}
        others = [part["additionalProperties"] for part in parts if part.get("additionalProperties")]
        node = known.get(name) or next(iter(others), None)
        assert isinstance(node, dict), f"{key}: no key {name!r}"
    return node


def test_every_key_of_the_table_of_differences_exists():
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    text = (ROOT / "docs/paper-and-code.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    keys = [key for row in rows for key in re.findall(r"`([^`]+)`", row[-1])]
    assert {len(row) for row in rows[1:] if not row[0].startswith("**")} == {5}
    assert len(keys) > 40 and len(rows) > 45
    for key in keys:
        described(schema, key)
    chosen = {
        "temporal_weight",
        "stereo",
        "audio_crop",
        "mask_resize",
        "unknown_colours",
        "empty_truth",
        "f_aggregation",
    }
    assert chosen <= {key.rsplit(".", 1)[-1] for key in keys}


def test_both_suites_are_valid():
    miniature = load("config.yaml")
    suites.check(miniature, SCHEMA)
    suites.check(suites.overlay(miniature, load("paper.yaml")), SCHEMA)


def test_the_paper_suite_has_the_papers_settings():
    paper = suites.overlay(load("config.yaml"), load("paper.yaml"))
    settings = suites.solver_settings(paper, "ms3", "proposed")
    assert (settings["n_components"], settings["beta_penalty"], settings["steps"]) == (8, 125, 1800)
    assert (settings["learning_rate"], settings["halve_at"]) == (0.25, [500, 1000, 1500])
    assert (settings["norm"], settings["beta_temporal"]) == ("frobenius", 0)
    s4 = suites.solver_settings(paper, "s4", "proposed")
    assert (s4["beta_temporal"], s4["temporal_weight"]) == (1, "release")
    assert paper["seeds"] == [0, 1, 2]
    assert (paper["tables"]["empty_truth"], paper["tables"]["f_aggregation"]) == ("background", "set")
    assert (paper["datasets"]["ade"]["mask_resize"], paper["datasets"]["avss"]["subset"]) == ("paper", "v2")
    assert paper["datasets"]["avss"]["unknown_colours"] == "background"
    assert paper["features"]["audio_crop"] == "centre"
    assert paper["evaluation"]["size"] == 224
    assert paper["datasets"]["ms3"]["drop_labels"] == {"general": ["Music"]}
    assert not any(dataset["generated"] for dataset in paper["datasets"].values())


@pytest.mark.parametrize("overlay", [None, "paper.yaml"])
def test_tasks_are_those_that_aggregation_knows(config, overlay):
    if overlay:
        config = suites.overlay(config, load(overlay))
    assert set(config["tasks"]) == set(TASKS)
    for name, task in config["tasks"].items():
        assert task["default_bank"] == TASKS[name].word_bank


def test_the_published_numbers_are_printed_on_the_paper_suite_alone():
    assert load("config.yaml")["tables"]["reported"] is None
    assert (ROOT / load("paper.yaml")["tables"]["reported"]).is_file()


# ---------------------------------------------------------------- the schema


def resolve(schema, node):
    while "$ref" in node:
        node = {
            **schema["$defs"][node["$ref"].rsplit("/", 1)[1]],
            **{k: v for k, v in node.items() if k != "$ref"},
        }
    for part in node.get("allOf", []):
        node = {
            **node,
            "properties": {**resolve(schema, part).get("properties", {}), **node.get("properties", {})},
        }
    return node


def walk(schema, node, value, path=""):
    """Yield (path, schema node) for every key of a configuration."""
    node = resolve(schema, node)
    for key, item in value.items():
        below = node.get("properties", {}).get(key, node.get("additionalProperties"))
        here = f"{path}.{key}".lstrip(".")
        assert isinstance(below, dict), f"{here} is not in the schema"
        yield here, below
        if isinstance(item, dict):
            yield from walk(schema, below, item, here)


def test_every_key_has_a_description_and_a_type():
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    config = suites.overlay(load("config.yaml"), load("paper.yaml"))
    named_by_user = re.compile(r"^(datasets|variants|methods|tasks|schedules)\.[^.]+$")
    for path, node in walk(schema, schema, config):
        merged = resolve(schema, node)
        assert {"type", "enum", "const", "oneOf", "allOf"} & set(merged), f"{path} has no type"
        assert merged.get("description") or named_by_user.match(path), f"{path} has no description"


def objects(node):
    """Yield every part of the schema that describes a mapping."""
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield node
        for value in node.values():
            yield from objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from objects(value)


def test_no_mapping_takes_unknown_keys():
    for node in objects(yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))):
        strict = node.get("additionalProperties", node.get("unevaluatedProperties", True))
        assert strict is not True, f"takes any key: {str(node)[:100]}"


def test_numbers_have_ranges():
    def numbers(node):
        if isinstance(node, dict):
            kinds = node.get("type", [])
            if {"integer", "number"} & set([kinds] if isinstance(kinds, str) else kinds):
                yield node
            for value in node.values():
                yield from numbers(value)
        elif isinstance(node, list):
            for value in node:
                yield from numbers(value)

    for node in numbers(yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))):
        assert {"minimum", "exclusiveMinimum"} & set(node), f"has no lower end: {node}"
        assert {"maximum", "exclusiveMaximum"} & set(node), f"has no upper end: {node}"


# ---------------------------------------------------------------- mistakes


def leaves(value, path=""):
    """Yield (path, number) for every number of a configuration, those in lists by their place."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}.{index}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def placed(config, path, value):
    """A copy with one leaf set, in a list too."""
    config = copy.deepcopy(config)
    *parents, last = path.split(".")
    place = config
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    place[int(last) if isinstance(place, list) else last] = value
    return config


NUMBERS = sorted(dict(leaves(load("config.yaml"))).items())


@pytest.mark.parametrize(("path", "number"), NUMBERS, ids=[path for path, _ in NUMBERS])
def test_a_number_that_is_none_is_refused_wherever_it_stands(config, path, number):
    for value in (float("nan"), float("inf"), -float("inf")):
        assert f"{path}: expected a finite number, found {value}" in problems(placed(config, path, value))
    assert f"{path}: " in problems(placed(config, path, str(number)))
    assert f"{path}: " in problems(placed(config, path, True))
    if isinstance(number, int) and not path.startswith(
        ("sensitivity.beta_penalty", "world.snr_db", "calibrate_world.snr_db", "hearing.snr_db")
    ):
        found = problems(placed(config, path, float(number)))
        assert f"{path}: {float(number)} is n" in found and f"write {number}" in found
        assert f"{path}: " in problems(placed(config, path, 10**30))


@pytest.mark.parametrize(
    ("path", "value", "wanted"),
    [
        ("decoding.alpha", float("nan"), "decoding.alpha: expected a finite number, found nan"),
        ("limit", 2.0, "limit: 2.0 is not of type 'integer', 'null'; write 2"),
        ("datasets.s4.shards", 2.0, "datasets.s4.shards: 2.0 is not of type 'integer'; write 2"),
        ("solver.learning_rate", "1e-3", "'1e-3' is not of type 'number'; write 0.001, without quotes"),
        (
            "solver.batch_size",
            16.0,
            "solver.batch_size: 16.0 is not valid under any of the given schemas; write 16",
        ),
        (
            "datasets.s4.solver.beta_temporal",
            float("inf"),
            "datasets.s4.solver.beta_temporal: expected a finite",
        ),
        (
            "variants.no-min.solver.beta_penalty",
            float("nan"),
            "variants.no-min.solver.beta_penalty: expected a finite",
        ),
        ("world.snr_db", [float("nan"), 2], "world.snr_db.0: expected a finite number"),
        ("seed", 2**32, "seed: 4294967296 is greater than the maximum"),
        ("suite", float("nan"), "suite: expected a finite number"),
        ("tasks.s4.banks", [float("nan")], "tasks.s4.banks.0: expected a finite number"),
        ("datasets", {1: {}}, "datasets.1: a key is text, found 1: quote it"),
        (
            "methods.saliency.options",
            {"deep": [1, float("nan")]},
            "methods.saliency.options.deep.1: expected a finite",
        ),
        ("tables", None, "tables: None is not of type 'object'"),
        ("figures", {"which": 3}, "figures.which: 3 is not of type 'array'"),
    ],
)
def test_numbers_of_the_wrong_kind_are_told_how_to_be_written(config, path, value, wanted):
    assert wanted in problems(changed(config, path, value))


def test_class_ids_may_be_numbers(config):
    suites.check(changed(config, "datasets.ade.class_labels", {41: "dog"}), SCHEMA)


def test_what_is_malformed_is_a_problem_for_tasks_that_are_null_too(config):
    broken = changed(changed(config, "tasks.avss", None), "figures", None)
    assert "figures: None is not of type 'object'" in problems(suites.settle(broken))


def test_no_figures_and_no_tables_are_a_legal_wish(config):
    for section in ("figures", "tables"):
        suites.check(changed(config, f"{section}.which", []), SCHEMA)


@pytest.mark.parametrize(
    ("path", "value", "wanted"),
    [
        ("sovler", {}, "sovler: unknown key"),
        ("solver.stpes", 100, "solver.stpes: unknown key; known here: batch_size"),
        ("solver.steps", "many", "solver.steps: 'many' is not of type 'integer'"),
        ("solver.steps", 0, "solver.steps: 0 is less than the minimum"),
        ("solver.norm", "l1", "solver.norm: 'l1' is not one of"),
        ("device", "gpu", "device: 'gpu' is not one of"),
        ("seeds", [], "seeds: [] should be non-empty"),
        ("seeds", [0, 0], "seeds: [0, 0] has non-unique elements"),
        ("datasets.s4.raeder", "s4", "datasets.s4.raeder: unknown key"),
        ("datasets.s4.solver.beta", 1, "datasets.s4.solver.beta: unknown key"),
        ("datasets.s4.shards", 0, "datasets.s4.shards: 0 is less than"),
        (
            "variants.proposed.solver.reduction",
            "max",
            "variants.proposed.solver.reduction: 'max' is not one of",
        ),
        ("models.clip.weight", "x", "models.clip.weight: unknown key"),
        ("prompts.image", "A photo", "prompts.image: 'A photo' does not match"),
        ("limit", 0, "limit: 0 is less than the minimum"),
        ("tasks.s4.dataset", "s5", "tasks.s4.dataset: no dataset 's5'"),
        ("tasks.s4.variants", ["no-max"], "tasks.s4.variants: no variant 'no-max'"),
        ("tasks.s4.banks", ["specific"], "tasks.s4.default_bank: 'general' is not among its banks"),
        ("solver.halve_at", [300, 200], "solver.halve_at: steps must ascend"),
        (
            "datasets.avss.frame_classes",
            "x.csv",
            "datasets.avss.frame_classes: belongs to the reader s4 or ms3",
        ),
        ("world.snr_db", [2, -8], "world.snr_db: the lowest comes first"),
        ("datasets.s4.subset", "v2", "datasets.s4.subset: belongs to the reader avss"),
        ("variants.no-min.label", "proposed", "variants: every label must be unique"),
        ("figures.words", "phrases", "figures.words: no bank 'phrases'"),
    ],
)
def test_a_mistake_is_named_with_its_path(config, path, value, wanted):
    assert wanted in problems(changed(config, path, value))


@pytest.mark.parametrize("path", ["solver.steps", "datasets.ms3.root", "models.clap.window", "suite"])
def test_a_missing_key_is_named_with_its_path(config, path):
    *parents, last = path.split(".")
    place = config
    for key in parents:
        place = place[key]
    del place[last]
    assert f"{path}: missing" in problems(config)


@pytest.mark.parametrize("change", [{"label": "a\ud800"}, {"\udfff": 1}])
def test_text_that_no_file_could_hold_is_refused(config, change):
    config["variants"]["no-min"] |= change
    with pytest.raises(suites.ConfigError, match=r"half of a sign .* in the text '.*\\ud"):
        suites.prepare(config)


def test_all_mistakes_are_listed_together(config):
    config = changed(changed(config, "solver.stpes", 1), "device", "gpu")
    assert "2 problem(s)" in problems(config)


# ---------------------------------------------------------------- what a suite consists of


def test_runs_cover_every_bank_and_the_ablations(config):
    assert suites.runs(config, "s4") == [
        ("general", "proposed"),
        ("specific", "proposed"),
        ("general", "shuffled-audio"),
        ("general", "silence"),
        ("general", "noise"),
    ]
    ade = suites.runs(config, "ade")
    assert len(ade) == len(set(ade))
    assert set(ade) == {
        *((bank, "proposed") for bank in ("general", "specific")),
        *(
            ("general", variant)
            for variant in (
                *("no-min", "without-component", "without-penalty"),
                *("shuffled-audio", "silence", "noise"),
            )
        ),
        ("specific", "shuffled-audio"),
    }
    for task, options in config["tasks"].items():
        solved = suites.solved_as(config, options["dataset"])
        assert set(suites.task_runs(config, task)) <= set(solved)
        assert set(solved.values()) == set(suites.runs(config, options["dataset"]))


def test_variants_that_differ_in_decoding_alone_share_factors(config):
    """No second factorisation and no second file: the receipt's job is asked for what it was asked for without them."""
    without = copy.deepcopy(config)
    for options in without["tasks"].values():
        options["variants"] = [name for name in options["variants"] if name != "classes-by-proposal"]
    for name in config["datasets"]:
        assert suites.solved_runs(config, name) == suites.solved_runs(without, name)
        assert suites.factor_files(config, name, 0) == suites.factor_files(without, name, 0)
    scored = suites.scored_tasks(config, "avss")["avss"]["runs"]
    assert (("specific", "classes-by-proposal"), ("specific", "proposed")) in scored
    assert (("specific", "shuffled-audio"), ("specific", "shuffled-audio")) in scored


def test_a_setting_or_a_sound_of_its_own_is_solved_on_its_own(config):
    for change in ({"solver": {"beta_penalty": 7.0}}, {"sound": "silence"}):
        own = suites.overlay(config, {"variants": {"classes-by-proposal": change}})
        assert ("specific", "classes-by-proposal") in suites.runs(own, "avss")
        assert len(suites.factor_files(own, "avss", 0)) == 1 + len(suites.factor_files(config, "avss", 0))


def test_settings_are_overridden_by_dataset_then_variant(config):
    assert suites.solver_settings(config, "s4", "proposed")["beta_temporal"] == 1
    assert suites.solver_settings(config, "ms3", "proposed")["beta_temporal"] == 0
    assert suites.solver_settings(config, "s4", "without-penalty")["beta_penalty"] == 0
    assert suites.solver_settings(config, "s4", "no-min")["reduction"] == "mean"
    both = changed(config, "variants.no-min.solver", {"beta_temporal": 3.0})
    assert suites.solver_settings(both, "s4", "no-min")["beta_temporal"] == 3


def test_a_schedule_replaces_steps_and_their_sizes(config):
    fast = changed(config, "variants.no-min.solver", {"schedule": "fast"})
    suites.check(fast, SCHEMA)
    settings = suites.solver_settings(fast, "s4", "no-min")
    assert {key: settings[key] for key in ("steps", "learning_rate", "halve_at")} == config["schedules"][
        "fast"
    ]
    assert suites.solver_settings(fast, "s4", "proposed")["steps"] == config["solver"]["steps"]
    with pytest.raises(suites.ConfigError, match="solver.schedule: no schedule 'fsat'; known: fast"):
        suites.check(changed(config, "solver.schedule", "fsat"), SCHEMA)


def test_no_dataset_has_more_shards_than_clips(config):
    many = changed(config, "datasets.s4.shards", 16)
    assert suites.shards(many, "s4") == list(range(16))
    for limited in (changed(many, "limit", 5), changed(many, "world.clips.s4.test", 5)):
        assert suites.shards(limited, "s4") == list(range(5))
        assert suites.dataset(limited, "s4")["shards"] == 5


def test_files_are_found_where_the_program_runs_and_then_in_the_project(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config/sources.yaml").write_text("{}")
    paper = suites.prepare(suites.overlay(config, load("paper.yaml")))
    assert paper["staging"]["catalogue"] == "config/sources.yaml"
    assert paper["models"]["clap"]["architecture"] == str(ROOT / "config/models/clap_2023.json")
    assert paper["models"]["clip"]["architecture"] == "convnext_large_d_320"
    assert paper["tables"]["reported"] == str(ROOT / "config/reported.yaml")
    assert paper["datasets"]["s4"]["root"] == "data/avsbench"
    monkeypatch.setattr(suites, "ROOT", tmp_path)
    (tmp_path / "data/avsbench").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "config")
    elsewhere = suites.locate(suites.overlay(config, load("paper.yaml")))
    assert elsewhere["datasets"]["s4"]["root"] == str(tmp_path / "data/avsbench")


def test_in_the_project_paths_stay_as_they_are(config, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert suites.prepare(copy.deepcopy(config)) == config


def test_braces_of_a_folder_are_braces(config):
    odd = changed(config, "datasets.s4.root", "data/{suite}/{0}")
    assert suites.dataset(odd, "s4")["root"] == "data/miniature/{0}"


def test_a_solver_setting_is_no_change_of_the_data(config):
    other = changed(config, "datasets.s4.solver", {"beta_temporal": 3.0})
    assert suites.dataset(other, "s4") == suites.dataset(config, "s4")


def test_an_overlay_leaves_tasks_out_by_null(config):
    wanted = {"tasks": {"avss": None, "ade_sp": None, "ade_sp_semantic": None}}
    some = suites.settle(suites.overlay(config, wanted))
    suites.check(some, SCHEMA)
    assert list(some["tasks"]) == ["s4", "ms3"]
    assert suites.used_datasets(some) == ["s4", "ms3"]
    assert some["tables"]["which"] == ["table2"]
    assert not {"overview", "figure6", "figure7", "ablations"} & set(some["figures"]["which"])
    assert {"figure5", "figure9", "confidence"} <= set(some["figures"]["which"])
    one = suites.settle(suites.overlay(config, {"tasks": dict.fromkeys(set(config["tasks"]) - {"s4"})}))
    suites.check(one, SCHEMA)
    none = suites.settle(suites.overlay(config, {"tasks": dict.fromkeys(config["tasks"])}))
    assert "tasks" in problems(none)


def test_without_null_nothing_is_left_out(config):
    assert suites.settle(copy.deepcopy(config)) == config


def test_tables_and_figures_need_the_tasks_that_they_show(config):
    from taco.results.tables import SPECS

    for name, spec in SPECS.items():
        assert consistency.TABLE_TASKS[name] == {task for task, _ in spec.columns}
        solved = [row for row in spec.rows if row.method in ("TACO", "U only")]
        runs = {(None if row.word_bank == "default" else row.word_bank, row.variant) for row in solved}
        assert consistency.TABLE_RUNS[name] == runs
        named = {row.variant for row in spec.rows if row.method in ("A-FC-CLIP", "A⁺-FC-CLIP")}
        assert named == ({"list"} if name in consistency.TABLES_OF_NAMED else set())
        assert {row.method for row in spec.rows if row.variant == "control"} == set(consistency.CONTROLS)
    assert {name: task.word_bank for name, task in TASKS.items()} == consistency.DEFAULT_BANKS
    figures = {**consistency.FIGURE_TASKS, **consistency.FIGURE_CHOICES}
    assert set(figures) <= set(config["figures"]["which"])
    assert set().union(*figures.values()) <= set(TASKS)


def test_a_dataset_knows_its_folder_and_frames(config):
    dataset = suites.dataset(config, "avss")
    assert dataset["root"] == "results/miniature/world/avss"
    assert (dataset["name"], dataset["split"], dataset["frame_seconds"]) == ("avss", "test", 1.0)
    staged = suites.dataset(suites.overlay(config, load("paper.yaml")), "avss")
    assert staged["root"] == "data/avss"
    assert "frame_seconds" not in staged


def test_the_solver_takes_every_setting(config):
    from taco.conmf import Settings

    for name in config["datasets"]:
        for variant in config["variants"]:
            Settings(init_seed=0, **suites.solver_settings(config, name, variant))


# ---------------------------------------------------------------- environments


def bare(requirement):
    return re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9_.-]+", requirement).group(0)).lower()


def pip_section(name):
    dependencies = yaml.safe_load((ROOT / "envs" / name).read_text(encoding="utf-8"))["dependencies"]
    return next(item["pip"] for item in dependencies if isinstance(item, dict))


def pins():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    constraints = project["tool"]["uv"]["constraint-dependencies"]
    return project, {bare(line): line.split("==")[1].strip() for line in constraints}


def test_the_environment_has_exactly_the_projects_dependencies():
    """msclap, whose cap on numpy pip cannot override, is added by the script after it; what it asks for stands here."""
    project, versions = pins()
    direct = {bare(line) for line in project["project"]["dependencies"]}
    wanted = direct - {"msclap"} | {bare(line) for line in requires("msclap")}
    found = {bare(line): line.split("==")[1] for line in pip_section("taco.yaml")}
    assert found == {name: versions[name] for name in wanted}
    script = (ROOT / "envs/taco.post-deploy.sh").read_text(encoding="utf-8")
    assert f"pip install --no-deps msclap=={versions['msclap']}\n" in script


def test_the_optional_environment_has_the_same_versions():
    lines = pip_section("detectron2.yaml")
    assert set(pip_section("taco.yaml")) < set(lines)
    _, versions = pins()
    for line in lines:
        if "==" in line:
            assert line.split("==")[1] == versions[bare(line)]


def test_overrides_agree_with_the_constraints():
    project, versions = pins()
    (override,) = project["tool"]["uv"]["override-dependencies"]
    name, _, least = override.partition(">=")
    assert tuple(map(int, versions[name].split("."))) >= tuple(map(int, least.split(".")))


def test_direct_dependencies_agree_with_the_constraints():
    project, versions = pins()
    for line in project["project"]["dependencies"]:
        version = line.partition("==")[2]
        if version:
            assert versions[bare(line)].startswith(version.rstrip("*")), line


# ---------------------------------------------------------------- profiles


def test_the_slurm_profile_leaves_threads_to_the_rules_and_second_attempts_to_snakemake():
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text(encoding="utf-8"))
    resources = dict(line.split("=") for line in profile["default-resources"])
    assert resources["tasks_per_gpu"] == "0" and "cpus_per_task" not in resources
    assert profile["retries"] and profile["slurm-no-requeue"] and not profile.get("slurm-requeue")
    assert "slurm-array-jobs" not in profile
    rules = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "rules").glob("*.smk")))
    assert "retries:" not in rules
    assert set(profile["set-threads"]) <= set(re.findall(r"^rule (\w+):", rules, re.MULTILINE))
