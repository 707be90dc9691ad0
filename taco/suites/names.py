"""Names in a configuration that point nowhere, that are given twice, or that belong to another reader.

Takes a configuration that its schema accepts; gives one line for each problem.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

Config = Mapping[str, Any]

TASKS = ("s4", "ms3", "ade_sp", "avss", "ade_sp_semantic")
OWN_METHODS = {"TACO", "U only", "A-FC-CLIP", "A⁺-FC-CLIP", "whole image", "random mask", "oracle mask"}
# Keys of a dataset that one reader needs and the others do not know, and those that some readers allow.
NEEDED = {"subset": "avss", "unknown_colours": "avss", "mask_resize": "ade"}
ALLOWED = {"frame_classes": ("s4", "ms3"), "class_labels": ("ade",)}


def problems(config: Config) -> Iterator[str]:
    """What points nowhere, is there twice, or belongs elsewhere."""
    return chain(_tasks(config), _own_files(config), _labels(config), _datasets(config), _runs(config))


def _tasks(config: Config) -> Iterator[str]:
    for name, task in config["tasks"].items():
        yield from _unknown(f"tasks.{name}.dataset", "dataset", [task["dataset"]], config["datasets"])
        if task["default_bank"] not in task["banks"]:
            yield f"tasks.{name}.default_bank: {task['default_bank']!r} is not among its banks"
        yield from _unknown(f"tasks.{name}.variants", "variant", task["variants"], config["variants"])


def _own_files(config: Config) -> Iterator[str]:
    """Contributed methods and metrics of one's own."""
    for name, method in config["methods"].items():
        yield from _unknown(f"methods.{name}.tasks", "task", method["tasks"], TASKS)
    for name, metric in config["evaluation"]["metrics"].items():
        yield from _unknown(f"evaluation.metrics.{name}.tasks", "task", metric["tasks"], TASKS)


def _labels(config: Config) -> Iterator[str]:
    """By which rows of tables are told apart."""
    titles = [method["label"] for method in config["methods"].values()]
    if len(set(titles)) != len(titles) or set(titles) & OWN_METHODS:
        yield f"methods: every label must be unique and none of {', '.join(sorted(OWN_METHODS))}"
    labels = [variant["label"] for variant in config["variants"].values()]
    if len(set(labels)) != len(labels):
        yield "variants: every label must be unique"


def _datasets(config: Config) -> Iterator[str]:
    for name, options in config["datasets"].items():
        for key, reader in NEEDED.items():
            if (key in options) != (options["reader"] == reader):
                verb = "belongs to" if key in options else "is needed by"
                yield f"datasets.{name}.{key}: {verb} the reader {reader}; the reader here is {options['reader']}"
        for key, readers in ALLOWED.items():
            if options.get(key) and options["reader"] not in readers:
                yield (
                    f"datasets.{name}.{key}: belongs to the reader {' or '.join(readers)}; the reader here is "
                    f"{options['reader']}"
                )
        if options["generated"] and name not in config["world"]["clips"]:
            yield f"datasets.{name}.generated: world.clips has no {name}"


def _runs(config: Config) -> Iterator[str]:
    """What the solver, figures and experiments take: schedules, banks, ratios, variants."""
    yield from _unknown("solver.schedule", "schedule", sorted(_schedules(config)), config["schedules"])
    yield from _unknown("figures.words", "bank", [config["figures"]["words"]], config["banks"])
    ratios = {
        f"calibrate_world.snr_db.{i}": pair for i, pair in enumerate(config["calibrate_world"]["snr_db"])
    }
    for path, (low, high) in {"world.snr_db": config["world"]["snr_db"], **ratios}.items():
        if low > high:
            yield f"{path}: the lowest comes first, found {[low, high]}"
    own = [name for name, variant in config["variants"].items() if variant["sound"] == "own"]
    for variant in config["hearing"]["variants"]:
        if variant not in own:
            yield f"hearing.variants: no variant {variant!r} that hears its own sound; known: {', '.join(own)}"


def _unknown(path: str, kind: str, found, known) -> Iterator[str]:
    for name in found:
        if name not in known:
            yield f"{path}: no {kind} {name!r}; known: {', '.join(known)}"


def _schedules(config: Config) -> set[str]:
    """Schedules that settings of the solver name: the suite's, a dataset's, a variant's."""
    parts = [part["solver"] for kind in ("datasets", "variants") for part in config[kind].values()]
    return {part["schedule"] for part in (config["solver"], *parts) if part.get("schedule") is not None}
