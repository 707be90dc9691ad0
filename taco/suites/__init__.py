"""What a suite consists of. Takes configuration files; gives them merged and checked, and what they say of datasets, banks,
variants, tasks and runs. `schema` checks single keys, `names` that each points to something, `consistency` what must fit together.

The only place that knows how the configuration hangs together. There is no code path by suite: where two
suites differ, a key differs.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from taco import entries
from taco.runtime import read_yaml, require_bounded
from taco.suites import consistency, names, schema

Config = Mapping[str, Any]

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = ROOT / "config/config.yaml"
SCHEMA = ROOT / "config/schemas/config.schema.yaml"

READERS = ("s4", "ms3", "avss", "ade")
CLASS_KEYS = ("name", "reader", "root", "classes", "class_labels")
"""What of a dataset decides its class names."""
COMPUTED_KEYS = ("shards", "image_tokens", "drop_labels", "mask_resize")
"""What of a dataset decides what is computed, and nothing about its files."""

SCORE_KEYS = (
    *("seed", "models", "decoding", "device"),
    *("evaluation.size", "evaluation.controls", "evaluation.keep_predictions"),
)
"""What of the configuration decoding and scoring are told, beside their dataset's tasks, runs, metrics and methods."""


class ConfigError(ValueError):
    """The configuration breaks its schema, or its parts do not fit together; lists every problem."""


def read(overlays: Iterable[str | Path] = ()) -> dict[str, Any]:
    """Read and check the configuration as the workflow does.

    Parameters
    ----------
    overlays : iterable of path
        Laid over config/config.yaml, in order.

    Raises
    ------
    ConfigError
        Listing every problem.
    """
    config: dict[str, Any] = {}
    for path in [DEFAULTS, *overlays]:
        try:
            above = read_yaml(path)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: expected a configuration file, found {error}") from None
        if not isinstance(above, Mapping):
            raise ConfigError(f"{path}: expected keys and values, found {type(above).__name__}")
        config = overlay(config, above)
    return prepare(config)


def prepare(config: dict[str, Any]) -> dict[str, Any]:
    """Make a merged configuration ready for use: `arranged`, `settle`, `check`, `locate`. Changed in place, and returned."""
    try:
        require_bounded(config)
    except ValueError as error:
        raise ConfigError(f"The configuration has {error}") from None
    ordered = arranged(config, yaml.safe_load(DEFAULTS.read_text(encoding="utf-8")))
    config.clear()
    config.update(ordered)
    check(settle(config))
    return locate(config)


def arranged(config: Config, like: Any) -> dict[str, Any]:
    """A configuration with its keys in the order of another one, those that are not in it behind them by name.

    Snakemake puts the keys of overlays first. Their order would decide which task of a dataset is its first, and a stage
    would run again because a key was written, with the same value, in another place.
    """
    like = like if isinstance(like, Mapping) else {}
    keys = [key for key in like if key in config]
    keys += sorted((key for key in config if key not in like), key=str)
    parts = ((key, config[key]) for key in keys)
    return {key: arranged(part, like.get(key)) if isinstance(part, Mapping) else part for key, part in parts}


def check(config: Config, path: str | Path = SCHEMA) -> None:
    """Check a configuration against its schema, then its parts against each other.

    Parameters
    ----------
    config : mapping
        As Snakemake merged it.
    path : str or Path
        Of the schema.

    Raises
    ------
    ConfigError
        One line per problem, with the key's path (``solver.steps: ...``).
    """
    problems = schema.problems(config, path) or list(names.problems(config))
    _refuse(problems or consistency.problems(config, _solved(config)))


def read_files(config: Config) -> list[str]:
    """Single files that a configuration names and jobs read: of models, banks and tables."""
    named = [model.get(key) for model in config["models"].values() for key in ("weights", "architecture")]
    named += [bank(config, name)["source"] for name in config["banks"]]
    return [path for path in (*named, config["tables"]["reported"], config["tables"]["thresholds"]) if path]


def check_shown(config: Config) -> None:
    """Check that the runs of a checked configuration fill its tables and figures, which the whole workflow makes.

    Raises
    ------
    ConfigError
        One line per row or figure that would lack something.
    """
    _refuse(consistency.unfilled(config, _solved(config)))


def _solved(config: Config) -> dict[str, list[dict[str, Any]]]:
    return {name: solved_runs(config, name) for name in used_datasets(config)}


def _refuse(problems: list[str]) -> None:
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ConfigError(
            f"The configuration has {len(problems)} problem(s):\n{lines}\nSee config/README.md."
        )


def settle(config: dict[str, Any]) -> dict[str, Any]:
    """Leave out the tasks that an overlay sets to null, with the tables and figures that need them.

    Call it on the merged configuration, before `check`. Mappings merge key by key, so this is how an overlay takes a
    task away: ``tasks: {avss: null}``. A dataset that no other task uses is then neither asked for nor read. With
    ``only_staged`` the tasks go whose dataset is not on disk.

    Parameters
    ----------
    config : dict
        Changed in place, where a task is null.

    Returns
    -------
    dict
        The same one.

    Raises
    ------
    ConfigError
        When ``only_staged`` leaves no task.
    """
    tasks = config.get("tasks")
    if isinstance(tasks, Mapping) and config.get("only_staged") is True:
        tasks = {name: task if _staged(config, task) else None for name, task in tasks.items()}
        if not any(tasks.values()):
            used = {task["dataset"] for task in config["tasks"].values() if task}
            roots = ", ".join(sorted({config["datasets"][name]["root"] for name in used}))
            raise ConfigError(
                f"only_staged: expected at least one dataset on disk, found none of {roots}. Stage one."
            )
    if not isinstance(tasks, Mapping) or None not in tasks.values():
        return config
    config["tasks"] = {name: task for name, task in tasks.items() if task is not None}
    for name, shown in (("tables", consistency.shown_tables), ("figures", consistency.shown_figures)):
        section = config.get(name)
        if isinstance(section, Mapping) and isinstance(section.get("which"), list):
            config[name] = {**section, "which": shown(section["which"], tasks)}
    return config


def _staged(config: Config, task: Config) -> bool:
    """Whether a task's dataset is on disk, or made by the workflow; what is malformed is left to `check`."""
    if not isinstance(task, Mapping):
        return task is not None
    try:
        options = config["datasets"].get(task.get("dataset"))
        return not options or options["generated"] or Path(located(filled(config, options["root"]))).exists()
    except (AttributeError, KeyError, TypeError, ValueError, OSError, RuntimeError):
        return True


def locate(config: dict[str, Any]) -> dict[str, Any]:
    """Find the files that a configuration names, from whatever folder the program runs in.

    A relative path counts from there; where nothing is there but in the project's folder (its own weights,
    descriptions of models, staged data), that is meant. Results always belong where the program runs.

    Parameters
    ----------
    config : dict
        One that `check` accepts; changed in place.

    Returns
    -------
    dict
        The same one.
    """
    places = [
        (model, key)
        for model in config["models"].values()
        for key in ("architecture", "weights", "tokenizer")
    ]
    places += [(options, "root") for options in config["datasets"].values() if not options["generated"]]
    places += [(options, "source") for options in config["banks"].values() if not options.get("generated")]
    places += [(config["tables"], key) for key in ("reported", "thresholds")]
    places += [(config["staging"], key) for key in ("catalogue", "data_root")]
    for section, key in places:
        if section.get(key) is not None:
            section[key] = located(filled(config, section[key]))
    owners = [(method, "entry") for method in config["methods"].values()]
    owners += [(metric, "entry") for metric in config["evaluation"]["metrics"].values()]
    owners += [(model, "loader") for model in config["models"].values() if model.get("loader")]
    owners += [
        (options, "reader") for options in config["datasets"].values() if options["reader"].endswith(".py")
    ]
    for section, key in owners:
        path, colon, function = section[key].partition(":")
        section[key] = located(path) + colon + function
    return config


def located(path: str) -> str:
    """A path as it is, or below the project's folder where it is there alone; ``~`` is the user's folder."""
    here = Path(path).expanduser()
    return str(ROOT / path) if not here.exists() and (ROOT / path).exists() else str(here)


def filled(config: Config, path: str) -> str:
    """A path with the suite's name for ``{suite}``."""
    return path.replace("{suite}", config["suite"])


def left_out(config: Config) -> list[str]:
    """One line for each dataset of the configuration that no task uses."""
    used = used_datasets(config)
    return [
        f"Left out: {name}, which no task uses or which is not at {dataset(config, name)['root']}."
        for name in config["datasets"]
        if name not in used
    ]


def overlay(below: Config, above: Config) -> dict[str, Any]:
    """Lay one configuration over another as Snakemake does: mappings key by key, everything else replaced."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = overlay(merged[key], value) if both else value
    return merged


def dataset(config: Config, name: str) -> dict[str, Any]:
    """Return a dataset's options with its name, split and resolved root: what readers take.

    A generated dataset's frames are as far apart as the world says; a reader of one's own comes with the digest of its file.
    Solver settings are left out, so that a change of
    them does not count as one of the data: see `solver_settings`.
    """
    options = {key: value for key, value in config["datasets"][name].items() if key != "solver"}
    generated = {"frame_seconds": config["world"]["frame_seconds"]} if options["generated"] else {}
    told = {"root": filled(config, options["root"]), "shards": len(shards(config, name))}
    own = {"code": code} if (code := entries.digests([options["reader"]])) else {}
    return {**generated, **options, **told, **own, "name": name, "split": config["split"]}


def data_of(config: Config, name: str) -> dict[str, Any]:
    """Return of a dataset's options (`dataset`) those by which its files are listed and checked."""
    return {key: value for key, value in dataset(config, name).items() if key not in COMPUTED_KEYS}


def class_options(config: Config, name: str) -> dict[str, Any]:
    """Return of a dataset's options (`dataset`) those by which its class names are found."""
    options = data_of(config, name)
    if options["reader"] not in READERS:  # may ask for anything
        return options
    return {key: options[key] for key in CLASS_KEYS if key in options}


def uses_world(config: Config) -> bool:
    """Whether a word bank or a dataset that some task uses lies in the generated world."""
    parts = [*config["banks"].values(), *(config["datasets"][name] for name in used_datasets(config))]
    return any(part.get("generated", False) for part in parts)


def bank(config: Config, name: str) -> dict[str, Any]:
    """Return a word bank's source, resolved, and whether the workflow generates it."""
    options = config["banks"][name]
    return {"source": filled(config, options["source"]), "generated": options.get("generated", False)}


def used_datasets(config: Config) -> list[str]:
    """Names of the datasets that some task uses, in the order of the configuration."""
    used = {task["dataset"] for task in config["tasks"].values()}
    return [name for name in config["datasets"] if name in used]


def task_of(config: Config, dataset_name: str, task: str | None = None) -> str:
    """Return the task to score on a dataset: the named one, or the first of the dataset.

    Raises
    ------
    ConfigError
        For an unknown dataset, or a task that is not one of it.
    """
    if dataset_name not in config["datasets"]:
        raise ConfigError(f"no dataset {dataset_name!r}; known: {', '.join(config['datasets'])}")
    tasks = [name for name, options in config["tasks"].items() if options["dataset"] == dataset_name]
    if not tasks or task not in (None, *tasks):
        raise ConfigError(
            f"dataset {dataset_name!r} has no task {task!r}; its tasks: {', '.join(tasks) or 'none'}"
        )
    return task or tasks[0]


def task_runs(config: Config, task: str) -> list[tuple[str, str]]:
    """Return the (bank, variant) pairs that a task scores: every bank proposed, other variants on the default bank."""
    options = config["tasks"][task]
    proposed = [(bank, "proposed") for bank in options["banks"]]
    return proposed + [(options["default_bank"], v) for v in options["variants"] if v != "proposed"]


def scored_runs(config: Config, name: str) -> list[tuple[str, str]]:
    """Return the (bank, variant) pairs that are scored on a dataset, over all its tasks, without repeats."""
    tasks = [task for task, options in config["tasks"].items() if options["dataset"] == name]
    return list(dict.fromkeys(pair for task in tasks for pair in task_runs(config, task)))


def solved_as(config: Config, name: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Return whose factors each of `scored_runs` is decoded from: variants that differ in decoding alone share them."""
    first: dict[str, tuple[str, str]] = {}
    return {
        run: first.setdefault(json.dumps(_problem(config, name, *run), sort_keys=True), run)
        for run in scored_runs(config, name)
    }


def _problem(config: Config, name: str, bank: str, variant: str) -> dict[str, Any]:
    """What co-NMF is given: bank, whose sound, the solver's settings."""
    sound = config["variants"][variant]["sound"]
    return {"bank": bank, "sound": sound, "solver": solver_settings(config, name, variant)}


def runs(config: Config, name: str) -> list[tuple[str, str]]:
    """Return the (bank, variant) pairs to solve on a dataset: those of `scored_runs` with factors of their own."""
    return list(dict.fromkeys(solved_as(config, name).values()))


def solved_runs(config: Config, name: str) -> list[dict[str, Any]]:
    """Return what is solved on a dataset, in the order of `runs`: bank, variant, whose sound, the solver's settings."""
    return [
        {"variant": variant, **_problem(config, name, bank, variant)} for bank, variant in runs(config, name)
    ]


def methods(config: Config, name: str) -> dict[str, dict[str, Any]]:
    """Return the contributed methods that answer tasks of a dataset, with those tasks."""
    found = {}
    for method, options in config["methods"].items():
        tasks = [task for task in options["tasks"] if config["tasks"].get(task, {}).get("dataset") == name]
        if tasks:
            found[method] = {**options, "tasks": tasks}
    return found


def environment_of(options: Config) -> str:
    """Return the name of a contributed method's environment; methods of one environment share a job."""
    return Path(options["environment"]).stem if options["environment"] else "taco"


def environments(config: Config, name: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the contributed methods of a dataset by environment."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for method, options in methods(config, name).items():
        found.setdefault(environment_of(options), {})[method] = options
    return found


def untitled(methods: Mapping[str, Config]) -> dict[str, dict[str, Any]]:
    """Contributed methods without what tables call them."""
    return {name: {key: method[key] for key in method if key != "label"} for name, method in methods.items()}


def shown_variants(config: Config, name: str) -> dict[str, dict[str, Any]]:
    """What scores tell of the variants that are run on a dataset."""
    used = {variant for _, variant in scored_runs(config, name)}
    return {one: {k: v for k, v in config["variants"][one].items() if k != "solver"} for one in sorted(used)}


def settings(config: Config, *keys: str) -> dict[str, Any]:
    """The parts of the configuration that a stage depends on (whole sections, or ``a.b.c``), with digests of the files of one's own
    that they name."""
    own = own_encoders(config) if "models" in keys else {}
    found: dict[str, Any] = {"own_code": own} if own else {}
    for key in keys:
        *sections, last = key.split(".")
        source, place = config, found
        for name in sections:
            source, place = source[name], place.setdefault(name, {})
        place[last] = source[last]
    return found


def own_encoders(config: Config) -> dict[str, str]:
    """Return digests of the user's files that the models name as encoders, by entry."""
    return entries.digests(model.get("loader") or "" for model in config["models"].values())


def own_metrics(config: Config, name: str) -> dict[str, dict[str, Any]]:
    """Return the user's metrics of tasks of a dataset, with those tasks and the digest of their files."""
    found = {}
    for metric, options in config["evaluation"]["metrics"].items():
        tasks = [task for task in options["tasks"] if config["tasks"].get(task, {}).get("dataset") == name]
        if tasks:
            code = entries.digests([options["entry"]])
            found[metric] = {"entry": options["entry"], "tasks": tasks, "code": code}
    return found


def prediction_receipts(config: Config, name: str, shard: int) -> list[str]:
    """Return the receipts of a shard's contributed predictions, one for each environment."""
    folder = f"results/{config['suite']}/predictions/{name}"
    return [f"{folder}/{shard}.{environment}.json" for environment in environments(config, name)]


def scored_tasks(config: Config, name: str) -> dict[str, dict[str, Any]]:
    """Return the tasks of a dataset: each one's runs (bank, variant), each with the one of its factors, and default bank."""
    solved = solved_as(config, name)
    return {
        task: {
            "runs": [(run, solved[run]) for run in task_runs(config, task)],
            "default_bank": options["default_bank"],
        }
        for task, options in config["tasks"].items()
        if options["dataset"] == name
    }


def told_to_scores(config: Config, name: str, task: str) -> list[Any]:
    """Return all that scoring a task of a dataset is told by the configuration, as its rule says it."""
    return [
        scored_tasks(config, name)[task],
        {method: options["label"] for method, options in methods(config, name).items()},
        dataset(config, name),
        shown_variants(config, name),
        own_metrics(config, name),
        settings(config, *SCORE_KEYS),
    ]


def score_files(config: Config, ending: str) -> list[str]:
    """Return the files of all tasks and shards with an ending, in the folders of their scores."""
    return [
        f"results/{config['suite']}/scores/{options['dataset']}/{shard}/{task}.{ending}"
        for task, options in config["tasks"].items()
        for shard in shards(config, options["dataset"])
    ]


def receipt(config: Config, name: str, shard: int) -> str:
    """Return the receipt of a shard's factor files (`taco.cache.receipts`)."""
    return f"results/{config['suite']}/factors/{name}/{shard}.json"


def factor_files(config: Config, name: str, shard: int) -> list[str]:
    """Return a shard's factor files, in the order of `runs`."""
    folder = f"results/{config['suite']}/factors/{name}"
    return [f"{folder}/{bank}/{variant}/{shard}.h5" for bank, variant in runs(config, name)]


def shards(config: Config, name: str) -> list[int]:
    """Return the numbers of a dataset's shards: not more than there can be clips."""
    options = config["datasets"][name]
    most = [options["shards"], config["limit"] or options["shards"]]
    if options["generated"]:
        most.append(config["world"]["clips"][name][config["split"]])
    return list(range(min(most)))


def solver_settings(config: Config, name: str, variant: str) -> dict[str, Any]:
    """Return the solver's settings on a dataset: the suite's, then the dataset's, then the variant's, then its schedule's."""
    return scheduled(
        config,
        {
            **config["solver"],
            **config["datasets"][name]["solver"],
            **config["variants"][variant]["solver"],
        },
    )


def scheduled(config: Config, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Solver settings with steps and step sizes of the schedule that they name, if any."""
    settings = dict(settings)
    schedule = settings.pop("schedule")
    return {**settings, **(config["schedules"][schedule] if schedule else {})}


def needs_other_sounds(config: Config, variant: str) -> bool:
    """Whether a variant pairs images with the sounds of other clips, which may lie in other shards."""
    return config["variants"][variant]["sound"] == "shuffled"
