"""Configuration, checked once, and what several rules ask of it. Nothing heavy is imported here."""

import sys
from functools import cache
from pathlib import Path

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT))

from taco import runtime, suites

try:
    suites.check(suites.settle(config), ROOT / "config/schemas/config.schema.yaml")
    runtime.check_writable(f"results/{config['suite']}")
except (suites.ConfigError, runtime.OutputError) as error:
    raise WorkflowError(str(error)) from None

BANKS = {name: suites.bank(config, name) for name in config["banks"]}
TABLES = [*config["tables"]["which"], "intervals", "extended", "negatives"]


wildcard_constraints:
    suite=config["suite"],
    dataset="|".join(config["datasets"]),
    task="|".join(config["tasks"]),
    bank="|".join(config["banks"]),
    variant="|".join(config["variants"]),
    shard=r"\d+",


def gpus(wildcards):
    """GPUs of a job that can use one: 1, on which `--resources gpu=1` makes the jobs take turns.

    0 where none could: the configuration says `cpu`, or the job runs on this machine and it has no card. Then as many
    jobs run side by side as there are cores.
    """
    elsewhere = workflow.executor_plugin is not None and not workflow.local_exec
    wanted = config["device"] != "cpu"
    return int(wanted and (elsewhere or config["device"] == "cuda" or runtime.has_cuda_device()))


def device_threads(wildcards):
    """Threads of such a job: all cores while it has the only GPU, else one of the jobs that share them."""
    return config["threads"] or (workflow.cores or 1 if gpus(wildcards) else 1)


@cache
def digest(script):
    """Digest of a stage's code: an edit of a module re-runs exactly the stages that use it."""
    return runtime.code_digest(ROOT / f"workflow_scripts/{script}.py", ROOT)


def settings(*keys):
    """The parts of the configuration that a stage depends on, as a parameter of its rule."""
    return {key: config[key] for key in keys}


def weights(*models):
    """Weight files of the models; one not staged yet is left out, so that dry runs need no data (the job then says so)."""
    files = [config["models"][model]["weights"] for model in models]
    return [file for file in files if Path(file).exists()]


def world(wildcards):
    """The generated world, where the dataset is part of it."""
    generated = config["datasets"][wildcards.dataset]["generated"]
    return f"results/{wildcards.suite}/world" if generated else []


def sounds(wildcards):
    """Feature files that a solve reads: its own shard's, and all where sounds are exchanged between clips."""
    exchanged = suites.needs_other_sounds(config, wildcards.variant)
    shards = suites.shards(config, wildcards.dataset) if exchanged else [wildcards.shard]
    return expand(
        "results/{suite}/features/{dataset}/{shard}.h5",
        shard=shards,
        allow_missing=True,
    )


def factors(wildcards):
    """Factor files that a task scores on a shard, by bank and variant."""
    dataset = config["tasks"][wildcards.task]["dataset"]
    return [
        f"results/{wildcards.suite}/factors/{dataset}/{bank}/{variant}/{wildcards.shard}.h5"
        for bank, variant in suites.task_runs(config, wildcards.task)
    ]


def scores(wildcards, ending):
    """Score files of all tasks and shards with an ending."""
    return [
        f"results/{wildcards.suite}/scores/{task}/{shard}.{ending}"
        for task, options in config["tasks"].items()
        for shard in suites.shards(config, options["dataset"])
    ]


def task_files(wildcards, folder):
    """Files of a task's dataset in a folder, one for each shard."""
    name = config["tasks"][wildcards.task]["dataset"]
    return [f"results/{wildcards.suite}/{folder}/{name}/{shard}.h5" for shard in suites.shards(config, name)]


def dataset_files(wildcards, folder):
    """Files of all used datasets in a folder, one for each shard."""
    return [
        f"results/{wildcards.suite}/{folder}/{name}/{shard}.h5"
        for name in suites.used_datasets(config)
        for shard in suites.shards(config, name)
    ]


def all_factors(wildcards):
    """Factor files of everything that is solved."""
    return [
        f"results/{wildcards.suite}/factors/{name}/{bank}/{variant}/{shard}.h5"
        for name in suites.used_datasets(config)
        for bank, variant in suites.runs(config, name)
        for shard in suites.shards(config, name)
    ]


def validation_scores(wildcards):
    """Scores over settings of all tasks; the split that results are reported on must not choose settings."""
    if config["split"] != "val":
        raise WorkflowError(
            "The target `sensitivity` is for choosing settings, on the validation split; the configuration says split: "
            f"{config['split']}. Run it with --config split=val suite={config['suite']}-val"
        )
    return expand(f"results/{config['suite']}/sensitivity/{{task}}.csv", task=config["tasks"])


def example_factors(wildcards, task, sound):
    """Factor files of a task's proposed method, or of its control with exchanged sounds (none without one)."""
    options = config["tasks"][task]
    exchanged = [name for name in options["variants"] if suites.needs_other_sounds(config, name)]
    return [
        f"results/{wildcards.suite}/factors/{options['dataset']}/{options['default_bank']}/{variant}/{shard}.h5"
        for variant in (["proposed"] if sound == "own" else exchanged[:1])
        for shard in suites.shards(config, options["dataset"])
    ]


def traced_factors(wildcards):
    """Factor files of the proposed method; of a dataset's tasks, the first one's word bank."""
    tasks = {options["dataset"]: task for task, options in reversed(config["tasks"].items())}
    return [file for task in tasks.values() for file in example_factors(wildcards, task, "own")]


def checked_files(name):
    """Caches of a dataset that `verify_paper` looks into: the headline run of its first task."""
    task = config["tasks"][suites.task_of(config, name)]
    folders = {"features": name, "proposals": name, "factors": f"{name}/{task['default_bank']}/proposed"}
    return {
        kind: [f"results/{config['suite']}/{kind}/{folder}/{shard}.h5" for shard in suites.shards(config, name)]
        for kind, folder in folders.items()
    }
