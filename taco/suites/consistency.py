"""What a configuration's schema cannot see: parts that are each right and do not fit together. Checked before any work.

Takes a configuration whose names all point somewhere; gives one line for each problem, with the keys and what to write.
"""

import json
import string
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from taco.suites import sizes

Config = Mapping[str, Any]
Solved = Mapping[str, Sequence[Mapping[str, Any]]]

# Tasks without which a table or figure cannot be made; one that is not named here takes the tasks that there are.
TABLE_TASKS = {
    "table1": {"s4", "ms3", "ade_sp", "avss", "ade_sp_semantic"},
    "table2": {"s4", "ms3"},
    "table3": {"ade_sp"},
    "table4": {"s4", "ms3", "ade_sp"},
    "table5": {"avss", "ade_sp_semantic"},
}
FIGURE_TASKS = {
    "overview": {"s4", "ms3", "ade_sp"},
    "figure4": {"s4", "ade_sp"},
    "figure5": {"ms3"},
    "figure6": {"ade_sp"},
    "figure7": {"avss"},
    "figure8": {"ade_sp"},
    "figure9": {"ms3"},
    "figure10": {"ms3"},
    "ablations": {"ade_sp"},
    "words": {"ms3"},
}
# Figures that take the tasks that there are, and need one of these.
FIGURE_CHOICES = {
    "confidence": {"s4", "ms3", "ade_sp"},
    "thresholds": {"s4", "ms3", "ade_sp"},
    "classes": {"s4", "ade_sp"},
}
# Runs that a table shows of each of its tasks: variants by their label, with a word bank or the task's own (None).
DEFAULT_BANKS = {
    "s4": "general",
    "ms3": "general",
    "ade_sp": "general",
    "avss": "specific",
    "ade_sp_semantic": "specific",
}
TABLE_RUNS: dict[str, set[tuple[str | None, str]]] = {
    "table1": set(),
    "table2": {(None, "proposed"), (None, "shuffled audio")},
    "table3": {
        (None, label) for label in ("proposed", "no-min", "w/o component", "w/o penalty", "shuffled audio")
    },
    "table4": {("general", "proposed"), ("specific", "proposed")},
    "table5": {(None, "proposed"), (None, "shuffled audio")},
}
TABLES_OF_NAMED = {"table1", "table2", "table3", "table5"}
"""Those with a row of A-FC-CLIP."""
SEMANTIC = {"avss", "ade_sp_semantic"}
"""Tasks that name classes."""
CONTROLS = ("whole image", "random mask", "oracle mask")
"""Rows of every table."""
DIVERGES_SQUARED = 0.25


def problems(config: Config, solved: Solved) -> list[str]:
    """What contradicts itself.

    Parameters
    ----------
    config : mapping
        One that its schema accepts.
    solved : mapping
        Dataset, of those that some task uses, to its runs: ``bank``, ``variant``, ``sound``, ``solver`` (settings).
    """
    checks = (
        _templates(config),
        _precision(config),
        _sounds(config),
        _clips(config, solved),
        _solving(config, solved),
        _naming(config),
    )
    return list(dict.fromkeys(chain(*checks, _components(config, solved))))


def unfilled(config: Config, solved: Solved) -> list[str]:
    """What tables and figures show and no run would give; arguments as of `problems`."""
    return list(dict.fromkeys(chain(_tables(config), _figures(config, solved))))


def shown_tables(which: Sequence[str], tasks: Mapping[str, Any]) -> list[str]:
    """The tables without those that show a task which is null."""
    lost = {name for name, task in tasks.items() if task is None}
    return [name for name in which if not lost & TABLE_TASKS.get(str(name), set())]


def shown_figures(which: Sequence[str], tasks: Mapping[str, Any]) -> list[str]:
    """The figures without those that show a task which is null, or nothing but such."""
    lost = {name for name, task in tasks.items() if task is None}
    return [
        name
        for name in which
        if not lost & FIGURE_TASKS.get(str(name), set())
        and not (str(name) in FIGURE_CHOICES and FIGURE_CHOICES[name] <= lost)
    ]


def _templates(config: Config) -> Iterator[str]:
    """Prompts that would lose their label, or stop at a field of another name."""
    for kind, template in config["prompts"].items():
        try:
            parts = [part[1:] for part in string.Formatter().parse(template) if part[1] is not None]
        except ValueError as error:
            parts = [(f"{error}", "", None)]
        if any(part != ("label", "", None) for part in parts) or not parts:
            yield (
                f"prompts.{kind}: expected {{label}} and no other braces (write {{{{ and }}}} for braces of the text), "
                f"found {template!r}"
            )


def _precision(config: Config) -> Iterator[str]:
    """A precision that a backend does not have."""
    spec = config["models"]["fcclip"]
    if spec["backend"] == "detectron2" and spec["precision"] != "float32":
        yield (
            f"models.fcclip.precision: expected float32 with the backend detectron2, found {spec['precision']}; "
            "the backend transformers knows the others"
        )


def _sounds(config: Config) -> Iterator[str]:
    """A window that CLAP does not hear as a whole; a piece of sound of no sample."""
    clap, world = config["models"]["clap"], config["world"]
    if (found := _described(sizes.windows, clap)) is not None:
        shortest, longest = found
        if not shortest <= round(clap["window"] * clap["sample_rate"]) / clap["sample_rate"] <= longest:
            yield (
                f"models.clap.window: expected {shortest:.3g} to {longest:.3g} s, which {clap['architecture']} hears whole "
                f"at {clap['sample_rate']} Hz, found {clap['window']}"
            )
    if world["frame_seconds"] * world["sample_rate"] < 2:
        yield (
            f"world.frame_seconds: expected at least two samples of sound a frame, found {world['frame_seconds']} s at "
            f"{world['sample_rate']} Hz"
        )


def _clips(config: Config, solved: Solved) -> Iterator[str]:
    """Too few clips to exchange sounds between them."""
    for name, runs in solved.items():
        variants = sorted({run["variant"] for run in runs if run["sound"] == "shuffled"})
        generated = config["datasets"][name]["generated"]
        key = f"world.clips.{name}.{config['split']}"
        clips = config["world"]["clips"][name][config["split"]] if generated else None
        if config["limit"] is not None and (clips is None or config["limit"] < clips):
            key, clips = "limit", config["limit"]
        if variants and clips == 1:
            yield (
                f"{key}: expected at least 2 clips of {name}, as {', '.join(variants)} gives each clip another one's sound, "
                f"found 1: raise it, or take {', '.join(variants)} out of the variants of its tasks"
            )


def _solving(config: Config, solved: Solved) -> Iterator[str]:
    """Settings of the solver that do not go with each other."""
    for settings in (run["solver"] for runs in solved.values() for run in runs):
        if list(settings["halve_at"]) != sorted(set(settings["halve_at"])):
            yield f"solver.halve_at: steps must ascend, found {settings['halve_at']}"
        if settings["norm"] == "squared" and settings["learning_rate"] >= DIVERGES_SQUARED:
            yield (
                f"solver.learning_rate: the squared norm needs one of its own, as {DIVERGES_SQUARED} diverges, found "
                f"{settings['learning_rate']}: try 1.0e-4"
            )


def _naming(config: Config) -> Iterator[str]:
    """Variants that name proposals where nothing is named, or by a sound that CLAP was not asked about."""
    several = {
        name for name, variant in config["variants"].items() if variant.get("classes", "factor") != "factor"
    }
    for task, options in config["tasks"].items():
        for name in sorted(several.intersection(options["variants"])):
            if task not in SEMANTIC:
                yield (
                    f"tasks.{task}.variants: expected variants that name no classes, as {task} names none, found {name}: "
                    f"take {name} out (it belongs to {', '.join(sorted(SEMANTIC))})"
                )
            elif config["variants"][name]["sound"] != "own":
                yield (
                    f"variants.{name}.sound: expected own, as classes: proposals names by the image's own sound, found "
                    f"{config['variants'][name]['sound']}"
                )


def _components(config: Config, solved: Solved) -> Iterator[str]:
    """More components than there are tokens to start them from."""
    models = config["models"]
    audio = _described(sizes.audio_tokens, models["clap"])
    tried = [("sensitivity.n_components", count) for count in config["sensitivity"]["n_components"]]
    for name, runs in solved.items():
        image = _described(sizes.image_tokens, models["clip"], config["datasets"][name]["image_tokens"])
        wanted = [("solver.n_components", run["solver"]["n_components"]) for run in runs] + tried
        for kind, tokens in (("image", image), ("sound", audio)):
            for key, count in wanted:
                if tokens is not None and count > tokens:
                    yield f"{key}: expected at most the {tokens} tokens of {name}'s {kind}, found {count}"


def _tables(config: Config) -> Iterator[str]:
    """Tables with rows that nothing would fill."""
    labels = {name: variant["label"] for name, variant in config["variants"].items()}
    controls = [name for name in CONTROLS if name not in config["evaluation"]["controls"]]
    for table in config["tables"]["which"]:
        if controls:
            yield f"evaluation.controls: {table} shows {', '.join(controls)}: add it, or take {table} out of tables.which"
        if table in TABLES_OF_NAMED and "list" not in config["decoding"]["prompt_sets"]:
            yield f"decoding.prompt_sets: {table} shows A-FC-CLIP with list: add it, or take {table} out of tables.which"
        for task in sorted(TABLE_TASKS[table] & set(config["tasks"])):
            options = config["tasks"][task]
            runs = {(bank, "proposed") for bank in options["banks"]}
            runs |= {(options["default_bank"], labels[name]) for name in options["variants"]}
            for bank, label in sorted(TABLE_RUNS[table], key=str):
                if ((bank or DEFAULT_BANKS[task]), "proposed" if label == "proposed" else label) not in runs:
                    yield (
                        f"tasks.{task}: {table} shows {label} with the {bank or DEFAULT_BANKS[task]} bank: add it to its "
                        f"variants or banks, or take {table} out of tables.which"
                    )
        if absent := sorted(TABLE_TASKS[table] - set(config["tasks"])):
            yield f"tables.which: {table} shows {', '.join(absent)}, which tasks does not have: take {table} out"


def _figures(config: Config, solved: Solved) -> Iterator[str]:
    """Figures of what is not computed."""
    tasks = set(config["tasks"])
    for figure in config["figures"]["which"]:
        absent = sorted(FIGURE_TASKS.get(figure, set()) - tasks)
        choices = FIGURE_CHOICES.get(figure)
        if absent or (choices and not choices & tasks):
            needed = ", ".join(absent) or " or ".join(sorted(choices or ()))
            yield f"figures.which: {figure} shows {needed}, which tasks does not have: take {figure} out"
    untraced = sorted(
        name
        for name, runs in solved.items()
        if any(run["variant"] == "proposed" and not run["solver"]["trace_every"] for run in runs)
    )
    if "objective" in config["figures"]["which"] and untraced:
        yield (
            f"solver.trace_every: the figure objective shows the trace of {', '.join(untraced)}, which 0 does not keep: "
            "set it to 1 or more, or take objective out of figures.which"
        )


def _described(count: Any, *arguments: Any) -> Any:
    """What a model's description says; None where it is missing or damaged, which the doctor and the model itself tell."""
    try:
        return count(*arguments)
    except (OSError, json.JSONDecodeError, KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
