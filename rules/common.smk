"""Configuration, checked once, and what several rules ask of it. Nothing heavy is imported here."""

import math
import os
import shlex
import sys
from functools import cache
from pathlib import Path

# Snakemake writes the interpreter's path into shell commands as it is, with its blanks (snakemake 2645).
if Path(sys.executable).exists():
    sys.executable = shlex.quote(sys.executable)


def plain(path):
    """A path that is an input or output, in which Snakemake would take braces for wildcards; None for none."""
    if path and {"{", "}"} & set(str(path)):
        raise WorkflowError(
            f"{path}: expected a path without braces, which Snakemake takes for wildcards. Rename it, or make a link to it."
        )
    return path


ROOT = plain(Path(workflow.basedir))
sys.path.insert(0, str(ROOT))

from taco import entries, modules, runtime, suites
from taco.cache import receipts

try:
    suites.prepare(config)
    runtime.check_writable(f"results/{config['suite']}")
    if workflow.is_main_process:
        runtime.check_clock(f"results/{config['suite']}", suites.read_files(config))
except (suites.ConfigError, runtime.OutputError, runtime.ClockError) as error:
    raise WorkflowError(str(error)) from None


def filled(wildcards):
    """No file: the plan of the whole workflow stops where runs would leave a table or figure without what it shows.

    While rules are read, Snakemake does not say what is wanted, and other targets may well do without such runs. An
    error of an input function would be printed with a traceback.
    """
    try:
        suites.check_shown(config)
    except suites.ConfigError as error:
        sys.exit(f"WorkflowError:\n{error}")
    return []


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
    """Threads of such a job: on a GPU its share of the cores (`--resources gpu=N` runs N side by side), else one."""
    allowed = workflow.global_resources.get("gpu")
    side_by_side = (allowed.value if allowed else 1) or 1
    return config["threads"] or (max(1, (workflow.cores or 1) // side_by_side) if gpus(wildcards) else 1)


def shard_samples(wildcards, input):
    """Samples of one of the dataset's shards, by the manifest's footer; none yet of a manifest that cannot be read."""
    count = manifest_samples(input.manifest, os.stat(input.manifest).st_mtime_ns)
    return count / len(suites.shards(config, wildcards.dataset))


@cache
def manifest_samples(path, modified_ns):
    """Samples of a manifest; every job asks, with every attempt. Its rows are not read."""
    import pyarrow.parquet as pq

    with open(path, "rb") as file:
        try:
            return pq.read_metadata(file).num_rows
        except ValueError:
            return 0


def memory(start, per_sample=0):
    """MB that a job asks for: so much, and so much for each sample of its shard; as much again with each attempt."""

    def asked(wildcards, input, attempt):
        return attempt * math.ceil(start + (per_sample and per_sample * shard_samples(wildcards, input)))

    return asked


def memory_of_rows(start, per_sample):
    """MB of a job that holds the score rows of all datasets, counts of a portion alone; as much again with each attempt."""

    def asked(wildcards, attempt):
        paths = [Path(f"results/{wildcards.suite}/manifests/{name}.parquet") for name in suites.used_datasets(config)]
        known = [path for path in paths if path.exists()]  # all, once such a job can run
        samples = sum(manifest_samples(str(path), path.stat().st_mtime_ns) for path in known)
        return attempt * math.ceil(start + per_sample * samples + 0.02 * config["memory"]["rows"])

    return asked


def minutes(start, gpu=0, cpu=0):
    """Minutes that a job asks for: so many, and these seconds for each sample of its shard; again with each attempt."""

    def asked(wildcards, input, attempt):
        seconds = gpu if gpus(wildcards) else cpu
        return attempt * math.ceil(start + (seconds and seconds / 60 * shard_samples(wildcards, input)))

    return asked


@cache
def digest(script):
    """Digest of a stage's code: an edit of a module re-runs exactly the stages that use it."""
    return modules.code_digest(ROOT / f"workflow_scripts/{script}.py", ROOT)


def settings(*keys):
    """The parts of the configuration that a stage depends on."""
    return suites.settings(config, *keys)


def staged(*paths):
    """Files that are there, those of a folder one by one; what is not staged yet is left out, so that dry runs need no data
    (the job then says so)."""
    trees = [[path, *path.rglob("*")] for path in map(Path, filter(None, paths))]
    return [str(plain(path)) for tree in trees for path in sorted(tree) if path.is_file()]


def weights(*models):
    """Files of the models: weights, descriptions, tokenizers."""
    specs = [config["models"][model] for model in models]
    return staged(*(spec.get(key) for spec in specs for key in ["weights", "architecture", "tokenizer"]))


def word_files():
    """Files outside the generated world from which word banks and classes come; for a reader of one's own the manifest."""
    found = staged(*(bank["source"] for bank in BANKS.values() if not bank["generated"]))
    for options in [suites.data_of(config, name) for name in suites.used_datasets(config)]:
        if options["generated"] or options.get("classes"):
            continue
        from taco.data import datasets

        known = datasets.class_file(options)
        found += staged(known) if known else [f"results/{config['suite']}/manifests/{options['name']}.parquet"]
    return found


def proposer_weights():
    """Weight files of jobs that make proposals again, where those are not kept."""
    return weights("clip", "fcclip") if config["features"]["proposals"] == "none" else []


def world(wildcards):
    """The generated world, where the dataset is part of it."""
    generated = config["datasets"][wildcards.dataset]["generated"]
    return f"results/{wildcards.suite}/world" if generated else []


def others_features(wildcards):
    """The list of all shards' features, where a variant exchanges sounds between clips, which may lie in other shards."""
    exchanged = any(run["sound"] == "shuffled" for run in suites.solved_runs(config, wildcards.dataset))
    return ["results/{suite}/features/{dataset}.json"] if exchanged else []


def contributed(wildcards):
    """Contributed methods of a dataset that share an environment, without what tables call them."""
    return suites.untitled(suites.environments(config, wildcards.dataset)[wildcards.environment])


def untraced(name, variant="proposed"):
    """A variant's settings of the solver on a dataset, for stages that record no objective."""
    found = suites.solver_settings(config, name, variant)
    return {key: value for key, value in found.items() if key != "trace_every"}


def contributed_inputs(wildcards, pattern):
    """An input of their job that only methods which ask for features need."""
    wanted = any(method["features"] for method in contributed(wildcards).values())
    return expand(pattern, **wildcards) if wanted else []


# Conda files of contributed methods' environments, by name.
environment_files = {"taco": "../envs/taco.yaml"} | {
    suites.environment_of(method): method["environment"]
    for method in config["methods"].values()
    if method["environment"]
}


def task_files(wildcards, folder):
    """Files of a task's dataset in a folder, one for each shard."""
    name = config["tasks"][wildcards.task]["dataset"]
    return [f"results/{wildcards.suite}/{folder}/{name}/{shard}.h5" for shard in suites.shards(config, name)]


def score_rows():
    """Files of score rows, each with what must have made it: those of another run are never taken for them."""
    found = {}
    for path in suites.score_files(config, "rows.parquet"):
        name, _, file = path.split("/")[-3:]
        told = suites.told_to_scores(config, name, file.removesuffix(".rows.parquet"))
        found[path] = {"code": digest("score"), "settings": runtime.digest(told)}
    return found


def every_shard(pattern):
    """A path pattern with each shard of each used dataset."""
    return [
        pattern.format(suite=config["suite"], dataset=name, shard=shard)
        for name in suites.used_datasets(config)
        for shard in suites.shards(config, name)
    ]


def heard_tasks():
    """Binary tasks whose sounds are generated, so that `hearing` can exchange their noise."""
    binary = [task for task in ["s4", "ms3", "ade_sp"] if task in config["tasks"]]
    return [task for task in binary if config["datasets"][config["tasks"][task]["dataset"]]["generated"]]


def require_validation(target):
    """Stop unless the validation split is configured: the split that results are reported on must not choose settings."""
    if config["split"] != "val":
        raise WorkflowError(
            f"The target `{target}` is for choosing settings, on the validation split; the configuration says split: "
            f"{config['split']}. Run it with --config split=val suite={config['suite']}-val"
        )


def validation_scores(wildcards):
    """Scores over settings of all tasks."""
    require_validation("sensitivity")
    return expand(f"results/{config['suite']}/sensitivity/{{task}}.csv", task=config["tasks"])


def world_scores(wildcards):
    """Scores of the generated world's binary tasks at each range of the signal-to-noise ratio."""
    require_validation("calibrate_world")
    return heard_scores("calibrate_world")


def heard_scores(sweep):
    """Scores of a sweep over signal-to-noise ratios, of every task that it can be made of."""
    if not heard_tasks():
        raise WorkflowError(
            f"The target `{sweep}` needs a binary task (s4, ms3, ade_sp) whose dataset is generated; the suite "
            f"{config['suite']} has none. Run it on the miniature suite"
        )
    return [f"results/{config['suite']}/{sweep}/{task}.csv" for task in heard_tasks()]


def heard_runs(wildcards):
    """Solver settings of the variants that a sweep scores, by label."""
    name = config["tasks"][wildcards.task]["dataset"]
    return {
        config["variants"][variant]["label"]: untraced(name, variant)
        for variant in config[wildcards.sweep].get("variants", [])
    }


def calibration_scores(wildcards):
    """Scores of every shard."""
    require_validation("calibrate")
    return every_shard("results/{suite}/scores/{dataset}/{shard}")


def checked_files(name):
    """Caches of a dataset that `verify_paper` looks into: the headline run of its first task."""
    task = config["tasks"][suites.task_of(config, name)]
    headline = suites.runs(config, name).index((task["default_bank"], "proposed"))
    shards = suites.shards(config, name)
    caches = {
        kind: [f"results/{config['suite']}/{kind}/{name}/{n}.h5" for n in shards] for kind in ["features", "proposals"]
    }
    return caches | {"factors": [suites.factor_files(config, name, n)[headline] for n in shards]}
