"""A changed key or module re-runs exactly the stages that depend on it: the workflow's own plan, key by key, in one process."""

import ast
import copy
import functools
import importlib.util
import re
import shutil
from collections import defaultdict
from pathlib import Path

import plans
import pytest
import yaml
from snakemake_interface_common.exceptions import WorkflowError
from workflow import OVERLAY, make_project, snakemake

from taco import modules, suites
from taco.modules import code_digest

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = yaml.safe_load(suites.SCHEMA.read_text(encoding="utf-8"))
SCRIPTS = sorted((ROOT / "workflow_scripts").glob("*.py"))
MODULES = sorted((ROOT / "taco").rglob("*.py"))
DATASETS = {"s4", "ms3", "avss", "ade"}
TASKS = {"s4": "s4", "ms3": "ms3", "avss": "avss", "ade_sp": "ade", "ade_sp_semantic": "ade"}
TARGETS = {"all", "stage", "verify_paper", "train_miniature_models"}
ON_VALIDATION = {"sensitivity", "calibrate", "calibrate_world", "hearing"}

# Half of the data generated and half on disk, one dataset with a schedule, the split of all targets.
BASE = yaml.safe_load("""
split: val
banks: {phrases: {source: pairs, generated: false}}
datasets:
  ms3: {root: data/avsbench, generated: false, frame_classes: null}
  avss: {root: data/avss, generated: false, expected: {samples: 40}, solver: {schedule: fast}}
solver: {learning_rate: 0.2}
evaluation: {metrics: {mine: {entry: metric.py, tasks: [s4, ms3]}}}
schedules: {fast: {steps: 250, learning_rate: 0.2}}
hearing: {variants: [proposed]}
""")

# ---------------------------------------------------------------- what depends on what

GENERATED = {"s4": "s4", "ade_sp": "ade"}  # binary tasks whose sounds are generated
BY_TASK = {"sensitivity_scores": TASKS, "hearing_scores": GENERATED, "calibrate_world_scores": GENERATED}

# What runs again behind a stage: on the same dataset, or whole (those of `BY_TASK`: on its tasks).
FLOW = {
    "world": {"manifest/s4", "manifest/ade", "text", "hearing_scores", "calibrate_world_scores"},
    "text": {"factorize", "contribute", "score", *BY_TASK, "steps", "figures", "gallery", "checks", "provenance"},
    "manifest": {"features", "factorize", "contribute", "score", *BY_TASK, "steps", "figures", "gallery", "checks"},
    "features": {"gather", "factorize", "contribute", "score", *BY_TASK, "steps", "costs", "checks"},
    "gather": {"factorize"},
    "factorize": {"score", "costs", "figures", "checks"},
    "contribute": {"score", "costs"},
    "score": {"tables", "costs", "figures", "gallery", "checks", "calibrate"},
    "tables": {"provenance"},
    "steps": {"figures"},
    "sensitivity_scores": {"sensitivity"},
    "hearing_scores": {"hearing"},
    "calibrate_world_scores": {"calibrate_world"},
}  # fmt: skip
OF_A_DATASET = {"manifest", "features", "gather", "factorize", "contribute", "score"}
STAGING = {"stage_by_hand/avsbench", "stage_by_hand/avss"}
# Where PyTorch computes: another device, another rounding.
ON_DEVICE = {"text", "features", "factorize", "contribute", "score", *BY_TASK, "steps", "checks"}
SOLVED = {"factorize", "sensitivity_scores", "hearing_scores", "steps"}


def spread(stage):
    """A stage's jobs by name: one for each dataset or task, where it says none."""
    name, _, where = stage.partition("/")
    if where:
        return {stage}
    if name in OF_A_DATASET:
        return {f"{name}/{dataset}" for dataset in DATASETS}
    return {f"{name}/{task}" for task in BY_TASK[name]} if name in BY_TASK else {name}


def behind(stage):
    """Jobs that run again because one does."""
    name, _, where = stage.partition("/")
    for follower in FLOW.get(name, ()):
        if follower in OF_A_DATASET and where:
            yield f"{follower}/{where}"
        elif follower in BY_TASK and where:
            yield from (
                f"{follower}/{task}" for task, dataset in BY_TASK[follower].items() if dataset == where
            )
        elif follower != "steps" or where in ("", "ade"):
            yield from spread(follower)


def closure(stages):
    """All jobs that run again when these stages do; `provenance` holds the whole configuration."""
    pending, found = [job for stage in stages for job in spread(stage)], {"provenance"}
    while pending:
        job = pending.pop()
        if job not in found:
            found.add(job)
            pending += behind(job)
    return found


# ---------------------------------------------------------------- every key, another value, the stages that see it


def solver(of_all, datasets, place="solver", **others):
    """Mutations of the solver's settings where they count for some datasets; K, β_p and steps are the sensitivity's own."""
    changed = {
        "n_components": 4, "beta_image": 2.0, "beta_audio": 2.0, "beta_penalty": 77.0, "beta_temporal": 3.0,
        "temporal_weight": "paper", "schedule": "fast", "steps": 77, "learning_rate": 0.1, "halve_at": [10],
        "reduction": "mean", "descriptor": "factor", "penalty_side": "both", "norm": "squared", "init": "random_tokens",
        "trace_every": 7, "batch_size": "auto", "fast": False,
    }  # fmt: skip
    for key, value in (changed | others).items():
        where = datasets - (
            {"avss"} if of_all and key in ("schedule", "steps", "learning_rate", "halve_at") else set()
        )
        where -= {"s4"} if of_all and key == "beta_temporal" else set()
        stages = {f"factorize/{dataset}" for dataset in where}
        if key != "trace_every" and "variants" not in place:
            stages |= {
                f"{name}/{task}"
                for name in BY_TASK.keys() & SOLVED
                for task, dataset in BY_TASK[name].items()
                if dataset in where
            }
            stages |= {"steps"} if "ade" in where else set()
        yield f"{place}.{key}", value, stages


def mutations():
    """(key, another value, stages that depend on it); keys of the schema, with names for its stars."""
    read = {"text", "features", "doctor_again"}
    yield from [
        ("suite", "other", None),
        ("device", "cpu", ON_DEVICE),
        ("threads", 1, set()),
        ("memory.rows", 7, set()),
        (
            "seed",
            1,
            {
                "text",
                "factorize",
                "contribute",
                "score",
                "sensitivity_scores",
                "steps",
                "tables",
                "figures",
                "gallery",
                "train_miniature_models",
            },
        ),
        ("seeds", [0, 1], {"factorize", "contribute", *BY_TASK}),
        ("split", "test", {"manifest", "tables", "doctor_again"}),
        ("limit", 3, {"manifest", "doctor_again"}),
        ("only_staged", True, set()),
        ("staging.catalogue", "sources.yaml", STAGING | {"doctor_again"}),
        ("staging.data_root", "elsewhere", STAGING | {"doctor_again"}),
        ("staging.accepted_terms", ["avss"], STAGING | {"doctor_again"}),
        ("world.seed", 1, {"world"}),
        ("world.image_size", 96, {"world"}),
        ("world.sample_rate", 22050, {"world"}),
        ("world.frame_seconds", 0.5, {"world"}),
        ("world.snr_db", [-4, 2], {"world"}),
    ]
    for name in ("s4", "ms3", "avss", "ade"):
        for split in ("train", "val", "test"):
            counted = split == "val" and name in ("s4", "ade")
            yield f"world.clips.{name}.{split}", 5, {"world"} | ({"doctor_again"} if counted else set())
    yield from [
        ("models.clip.architecture", "clip.json", read),
        ("models.clip.weights", "clip.safetensors", read),
        ("models.clip.tokenizer", "tokenizer", read),
        ("models.clip.image_size", 96, read | {"train_miniature_models"}),
        ("models.clip.precision", "bfloat16", {"text", "features"}),
        ("models.clap.architecture", "clap.json", read),
        ("models.clap.weights", "clap.safetensors", read),
        ("models.clap.tokenizer", "tokenizer", read),
        ("models.clap.sample_rate", 16100, {"text", "features", "train_miniature_models"}),
        ("models.clap.window", 0.9, {"text", "features", "train_miniature_models"}),
        ("models.clip.loader", "encoder.py", {"text", "features"}),
        ("models.clap.loader", "encoder.py", {"text", "features"}),
        ("models.fcclip.architecture", "fcclip.json", read),
        ("models.fcclip.weights", "fcclip.safetensors", read),
        ("models.fcclip.backend", "detectron2", read),
        ("models.fcclip.precision", "tf32", {"text", "features"}),
        ("prompts.image", "{label}", {"text"}),
        ("prompts.audio", "{label}", {"text"}),
        ("banks.general.source", "results/{suite}/world/other.csv", {"text"}),
        ("banks.general.generated", False, {"text", "doctor_again"}),
        ("banks.specific.source", "pairs", {"text"}),
        ("banks.specific.generated", True, {"text"}),
        ("banks.phrases.source", "classes", {"text"}),
        ("banks.phrases.generated", True, {"text"}),
        ("features.batch_size", 3, {"features"}),
        ("features.audio_crop", "random", {"features", "figures", "gallery"}),
        ("features.stereo", "join", {"features", "figures", "gallery"}),
        ("features.proposals", "none", {"features", "doctor_again"}),
        ("datasets.ms3.reader", "s4", {"manifest/ms3", "text", "doctor_again", "stage_by_hand/avsbench"}),
        ("datasets.ms3.root", "data/elsewhere", {"manifest/ms3", "text", "doctor_again"}),
        ("datasets.ms3.generated", True, {"manifest/ms3", "hearing_scores/ms3", "calibrate_world_scores/ms3",
                                          "doctor_again"}),
        ("datasets.s4.shards", 2, {f"{stage}/s4" for stage in ("features", "factorize", "contribute", "score")}),
        ("datasets.avss.image_tokens", "fcclip", {"features/avss"}),
        ("datasets.ms3.drop_labels.general", ["bell"], {"text"}),
        ("datasets.ms3.drop_labels.specific", ["bell"], {"text"}),
        ("datasets.ms3.classes", ["bell", "gong"], {"manifest/ms3", "text"}),
        ("datasets.s4.frame_seconds", 2.0, {"manifest/s4"}),
        ("datasets.ms3.frame_classes", "frames.csv", {"manifest/ms3"}),
        ("datasets.ade.class_labels", {"1": "bell"}, {"manifest/ade", "text"}),
        ("datasets.avss.subset", "v1s", {"manifest/avss", "doctor_again", "stage_by_hand/avss"}),
        ("datasets.avss.unknown_colours", "background", {"manifest/avss"}),
        ("datasets.ade.mask_resize", "paper", {"score/ade", "sensitivity_scores/ade_sp", "sensitivity_scores/ade_sp_semantic",
                                               "hearing_scores/ade_sp", "calibrate_world_scores/ade_sp",
                                               "steps", "checks"}),
        ("datasets.avss.expected.samples", 41, {"manifest/avss", "doctor_again"}),
        ("datasets.avss.expected.clips", 4, {"manifest/avss"}),
        ("datasets.avss.expected.classes", 4, {"manifest/avss"}),
        ("schedules.fast.steps", 200, {"factorize/avss", "sensitivity_scores/avss"}),
        ("schedules.fast.learning_rate", 1.0, {"factorize/avss", "sensitivity_scores/avss"}),
        ("schedules.fast.halve_at", [9], {"factorize/avss", "sensitivity_scores/avss"}),
    ]  # fmt: skip
    yield from solver(True, DATASETS)
    yield from solver(False, {"ade"}, "datasets.ade.solver")
    yield from solver(False, {"ade"}, "variants.no-min.solver", reduction="min")
    three = {f"contribute/{dataset}" for dataset in ("s4", "ms3", "ade")}
    yield from [
        ("variants.no-min.label", "mean", {"score/ade", "costs"}),
        ("variants.no-min.sound", "silence", {"factorize/ade"}),
        ("variants.classes-by-proposal.classes", "factor", {"score/avss", "score/ade"}),
        ("methods.saliency.entry", "other.py", three),
        ("methods.saliency.label", "salient", {"score/s4", "score/ms3", "score/ade", "costs"}),
        ("methods.saliency.tasks", ["s4"], {"contribute/ms3", "contribute/ade"}),
        ("methods.saliency.environment", "../envs/other.yaml", three),
        ("methods.saliency.gpu", True, three),
        ("methods.saliency.seeded", True, three),
        ("methods.saliency.features", True, three),
        ("methods.saliency.options.sigma", 3, three),
        ("tasks.ade_sp_semantic.dataset", "s4", {"factorize/s4", "factorize/ade", "contribute/s4", "contribute/ade",
                                                 "sensitivity_scores/ade_sp_semantic"}),
        ("tasks.s4.banks", ["general"], {"factorize/s4"}),
        ("tasks.s4.default_bank", "specific", {"factorize/s4", "sensitivity_scores/s4", "hearing_scores/s4",
                                              "calibrate_world_scores/s4"}),
        ("tasks.avss.variants", [], {"factorize/avss"}),
        ("decoding.alpha", 0.5, {"score", *BY_TASK, "steps"}),
        ("decoding.beta", 0.5, {"score", *BY_TASK, "steps"}),
        ("decoding.prompt_sets", ["list"], {"score"}),
        ("segment.fps", 2.0, set()),
        ("segment.beta_temporal", 2.0, set()),
        *((f"segment.mask_threshold.{method}", 0.25, set()) for method in ("TACO", "U only")),
        *((f"segment.confidence_threshold.{method}", 0.25, {"tables"}) for method in ("TACO", "U only")),
        ("evaluation.size", 62, {"contribute", "score", *BY_TASK, "steps", "checks"}),
        ("evaluation.controls", [], {"score"}),
        ("evaluation.keep_predictions", "masks", {"score"}),
        ("evaluation.metrics.mine.entry", "encoder.py", {"score/s4", "score/ms3"}),
        ("evaluation.metrics.mine.tasks", ["s4"], {"score/ms3"}),
        ("tables.which", ["table1"], {"tables"}),
        ("tables.reported", "reported.yaml", {"tables", "checks", "doctor_again"}),
        ("tables.thresholds", "thresholds.csv", {"tables", "doctor_again"}),
        ("tables.empty_truth", "skip", {"tables"}),
        ("tables.f_aggregation", "image", {"tables"}),
        ("tables.bootstrap_samples", 100, {"tables"}),
        ("figures.which", ["overview", "figure6"], {"figures"}),
        ("figures.rows", 2, {"figures"}),
        ("figures.words", "specific", {"figures", "gallery"}),
        ("figures.step_samples", 7, {"steps"}),
        *((f"sensitivity.{key}", [3], {"sensitivity_scores"}) for key in ("n_components", "beta_penalty", "steps")),
        ("calibrate_world.target", 60.0, {"calibrate_world"}),
        ("calibrate_world.snr_db", [[-9, 1]], {"calibrate_world_scores"}),
        ("hearing.snr_db", [-9], {"hearing_scores"}),
        ("hearing.variants", ["no-min"], {"hearing_scores"}),
        ("hearing.clips.s4", 1, {"hearing_scores/s4"}),
        ("hearing.clips.ms3", 1, set()),
        ("hearing.clips.ade_sp", 1, {"hearing_scores/ade_sp"}),
        ("gallery.samples", 3, {"gallery"}),
    ]  # fmt: skip


MUTATIONS = {key: (value, stages) for key, value, stages in mutations()}
# Datasets and variants override the solver's settings in one way, whatever the setting: one of each is enough in haste.
OVERRIDES = {key for key in MUTATIONS if ".solver." in key and not key.endswith("n_components")}


def keys_of(node, path=()):
    """Every key of the schema that holds a value, as a path in which ``*`` stands for any name."""
    parts = [node]
    for part in parts:
        parts += [SCHEMA["$defs"][part["$ref"].rsplit("/", 1)[1]]] if "$ref" in part else []
        parts += part.get("allOf", [])
    below = {name: item for part in parts for name, item in part.get("properties", {}).items()}
    others = [part["additionalProperties"] for part in parts if part.get("additionalProperties")]
    if not below and (not others or "propertyNames" in node and others[0] == {"type": "string"}):
        yield path
    for name, item in [
        *below.items(),
        *(("*", item) for item in others if below or item != {"type": "string"}),
    ]:
        yield from keys_of(item, (*path, name))


def test_every_key_of_the_schema_has_a_mutation():
    keys = {".".join(path) for path in keys_of(SCHEMA)}
    assert len(keys) > 150

    def pattern(path):
        names = []
        for name in path.split("."):
            names.append(name if ".".join([*names, name]) in keys or starts([*names, name], keys) else "*")
        return ".".join(names)

    def starts(names, keys):
        return any(key.startswith(".".join(names) + ".") for key in keys)

    assert {pattern(path) for path in MUTATIONS} == keys


# ---------------------------------------------------------------- the plan


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Jobs of a configuration that changes the base: output → (name, what makes it run again, inputs)."""
    folder = tmp_path_factory.mktemp("reruns")
    for name in ("data/avsbench", "data/avss", "data/elsewhere"):
        (folder / name).mkdir(parents=True)
    (folder / "data/avss/label2idx.json").write_text("{}")
    for name in ("clip", "clap", "fcclip"):
        shutil.copy(ROOT / f"config/models/miniature_{name}.json", folder / f"{name}.json")
        (folder / f"{name}.safetensors").touch()
    for name in ("reported.yaml", "sources.yaml"):
        shutil.copy(ROOT / "config" / name, folder)
    shutil.copy(ROOT / "methods/saliency.py", folder / "other.py")
    for name in ("tokenizer", "words.csv", "metric.py", "encoder.py"):
        (folder / name).touch()
    (folder / "thresholds.csv").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plans.once_each(patch)

        def jobs(overlay, targets=TARGETS | ON_VALIDATION, on=BASE):
            return plans.plan(folder, suites.overlay(copy.deepcopy(on), overlay), targets)

        yield jobs


@pytest.fixture(scope="module")
def base(plan):
    return plan({})


def overlay_of(path, value):
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def test_the_base_plans_every_stage(base):
    names = {job[0] for job in base.values()}
    assert {
        job
        for stage in [*FLOW, *ON_DEVICE, "train_miniature_models", "doctor_again"]
        for job in spread(stage)
    } <= names
    assert names >= STAGING


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=[pytest.mark.slow] * (path in OVERRIDES)) for path in MUTATIONS]
)
def test_a_key_repeats_exactly_what_depends_on_it(path, plan, base):
    value, stages = MUTATIONS[path]
    if path == "split":
        before, after = plan({}, TARGETS), plan({path: value}, TARGETS)
    else:
        before, after = base, plan(overlay_of(path, value))
    names = {job[0] for job in after.values()}
    expected = names if stages is None else closure(stages) & names
    found = plans.again(before, after)
    assert found - expected == set(), "needless"
    assert expected - found == set(), "stale"


def test_the_order_of_keys_repeats_nothing(plan, base):
    turned = {
        key: dict(reversed(part.items())) if isinstance(part, dict) else part
        for key, part in reversed(yaml.safe_load(suites.DEFAULTS.read_text(encoding="utf-8")).items())
    }
    assert plans.again(base, plan(suites.overlay(turned, BASE))) == set()


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("clip.json", {"text", "features"}),
        ("data/avss/label2idx.json", {"text"}),
        ("words.csv", {"text"}),
        ("reported.yaml", {"tables", "checks"}),
    ],
)
def test_files_that_keys_name_are_inputs(file, stages, plan):
    files = {
        "models": {"clip": {"architecture": "clip.json"}},
        "banks": {"general": {"source": "words.csv", "generated": False}},
        "tables": {"reported": "reported.yaml"},
    }
    assert {job[0].partition("/")[0] for job in plan(files).values() if file in job[1][1]} >= stages


@pytest.mark.parametrize(
    "change",
    [
        {"banks": {"general": {"source": "{x}.csv", "generated": False}}},
        {"models": {"clip": {"weights": "{x}.csv"}}},
        {"tables": {"reported": "{x}.csv"}},
    ],
)
def test_a_file_that_snakemake_would_take_for_a_pattern_is_refused(change, plan):
    Path("{x}.csv").touch()
    with pytest.raises(WorkflowError, match=r"^\{x\}\.csv: expected a path without braces"):
        plan(change)


# ---------------------------------------------------------------- the same by Snakemake's own dry runs

# Of every stage from the world to the gallery, of one dataset, one variant, one method; and of none.
CONFIRMED = [
    "seed", "world.snr_db", "prompts.audio", "features.audio_crop", "datasets.s4.shards", "datasets.ade.solver.beta_penalty",
    "variants.no-min.solver.n_components", "methods.saliency.options.sigma", "decoding.alpha", "tables.f_aggregation", "figures.rows",
    "gallery.samples", "segment.fps",
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small suite whose default target has run to its end."""
    folder = make_project(tmp_path_factory.mktemp("finished") / "project")
    snakemake(folder)
    return folder


def dry_run(folder, *configfiles):
    """Names of the jobs, as of `plans.plan`, that a dry run of the default target would run."""
    _, output = snakemake(folder, "--dry-run", "--configfile", *configfiles, overlay=False)
    if "Nothing to be done" in output:
        return set()
    names = set()
    for rule, block in re.findall(r"^(?:local)?rule (\w+):\n((?: .*\n)+)", output, re.MULTILINE):
        found = re.search(r"^ +wildcards: (.*)$", block, re.MULTILINE)
        where = dict(pair.split("=", 1) for pair in found[1].split(", ")) if found else {}
        names.add(plans.name_of(rule, where))
    assert names, output[-3000:]
    return names


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIRMED)
def test_a_dry_run_plans_what_is_planned_here(path, plan, finished):
    base, change = yaml.safe_load(OVERLAY), overlay_of(path, MUTATIONS[path][0])
    (finished / "change.yaml").write_text(yaml.safe_dump(change))
    before, after = (plan(one, {"all"}, base) for one in ({}, change))
    assert before != after
    assert dry_run(finished, "small.yaml", "change.yaml") - {"all"} == plans.again(before, after) - {"all"}


# ---------------------------------------------------------------- every module


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Package and scripts, to be edited."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("taco", "workflow_scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def digests(checkout):
    """Digest of each script's code."""
    return {script.stem: code_digest(checkout / script.relative_to(ROOT), checkout) for script in SCRIPTS}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def reached(script):
    """Modules of the package that a script imports, and those that these import, and so on; packages around them, too."""
    names = {module_name(path): path for path in MODULES}
    pending, found = [script], set()
    while pending:
        path = pending.pop()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                package = ".".join(path.relative_to(ROOT).parts[:-1])
                module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                imported = [module, *(f"{module}.{alias.name}" for alias in node.names)]
            else:
                imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            parts = [name.split(".") for name in imported]
            imported = {".".join(words[: n + 1]) for words in parts for n in range(len(words))}
            new = imported & set(names) - found
            found |= new
            pending += [names[name] for name in new]
    return found


@pytest.mark.parametrize("edited", [MODULES[::9], pytest.param([*MODULES, *SCRIPTS], marks=pytest.mark.slow)])
def test_a_module_repeats_exactly_the_stages_that_reach_it(edited, checkout, monkeypatch):
    monkeypatch.setattr(modules, "module_path", functools.cache(modules.module_path))
    users = defaultdict(set)
    for script in SCRIPTS:
        for name in reached(script):
            users[name].add(script.stem)
    before = digests(checkout)
    for path in edited:
        place = checkout / path.relative_to(ROOT)
        source = place.read_text(encoding="utf-8")
        place.write_text(source + "\nMUTATED = 1\n", encoding="utf-8")
        changed = {name for name, digest in digests(checkout).items() if digest != before[name]}
        place.write_text(source, encoding="utf-8")
        assert changed == ({path.stem} if path in SCRIPTS else users[module_name(path)]), path


def test_comments_and_docstrings_repeat_nothing(checkout):
    before = digests(checkout)
    for path in [*MODULES, *SCRIPTS]:
        place = checkout / path.relative_to(ROOT)
        source = place.read_text(encoding="utf-8")
        tree = ast.parse(source)
        lines = source.splitlines()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(
                node, clean=False
            ):
                text = node.body[0]
                lines[text.lineno - 1] = lines[text.lineno - 1].replace('"""', '"""Otherwise. ', 1)
        place.write_text("\n".join(["# a comment", *lines, "# another", ""]), encoding="utf-8")
        assert place.read_text(encoding="utf-8").count("Otherwise.") or not ast.get_docstring(tree)
    assert digests(checkout) == before
