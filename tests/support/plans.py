"""The workflow's own plan of a configuration: made in this process, nothing is run."""

import copy
import functools
from pathlib import Path

import yaml
from snakemake.api import SnakemakeApi
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    Quietness,
    ResourceSettings,
)

from taco import modules, suites

ROOT = Path(__file__).resolve().parents[2]


def plan(folder, config, targets):
    """Jobs of a configuration in a folder: output → (name, what makes it run again, inputs)."""
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        made = api.workflow(
            resource_settings=ResourceSettings(cores=2),
            config_settings=ConfigSettings(config=config),
            snakefile=ROOT / "Snakefile",
            workdir=folder,
        )
        made.dag(DAGSettings(targets=set(targets)))
        workflow = made._workflow
        workflow._prepare_dag(forceall=False, ignore_incomplete=True, lock_warn_only=True, nolock=True)
        workflow._build_dag()
        return {str(file): job_of(job, workflow) for job in workflow.dag.jobs for file in job.output}


def once_each(patch):
    """Parse each rule file and each YAML once, and let a script's name stand for its code's digest.

    A table may lack rows, as what keys repeat is asked of one key at a time.
    """
    import snakemake.common.configfile
    import snakemake.workflow

    parse, parsed = snakemake.workflow.parse, {}

    def parse_once(path, workflow, linemap, rulecount=0):
        name = path.get_path_or_uri(secret_free=True)
        if name not in parsed:
            parsed[name] = (*parse(path, workflow, linemap, rulecount=rulecount), dict(linemap))
        linemap.update(parsed[name][2])
        return parsed[name][:2]

    def once(function):
        remembered = functools.cache(function)
        return lambda argument: copy.deepcopy(remembered(argument))

    patch.setattr(snakemake.workflow, "parse", parse_once)
    files = snakemake.common.configfile
    patch.setattr(files, "load_configfile", once(files.load_configfile))
    patch.setattr(yaml, "safe_load", once(yaml.safe_load))
    patch.setattr(suites, "check_shown", lambda config: None)
    patch.setattr(modules, "code_digest", lambda script, root: Path(script).stem)


def name_of(rule, wildcards):
    """A job's name: its rule, or its sweep's, and the dataset, task or source that it is for."""
    where = [wildcards.get(key) for key in ("dataset", "task", "source")]
    sweep = wildcards.get("sweep")
    return "/".join([f"{sweep}_scores" if sweep else rule, *filter(None, where)])


def job_of(job, workflow):
    """A job's name, what Snakemake compares of it, and the inputs whose change runs it again."""
    kept = workflow.persistence
    return (
        name_of(job.rule.name, job.wildcards),
        (kept._params(job), kept._input(job)),
        [str(file) for file in job.input if not file.is_ancient],
    )


def again(before, after):
    """Names of the jobs that run in a folder in which the plan before has been carried out."""
    due = {file for file, job in after.items() if file not in before or job[1] != before[file][1]}
    due |= {file for file, job in after.items() if job in [after[other] for other in due]}
    while more := {
        file for file, (_, _, inputs) in after.items() if file not in due and due.intersection(inputs)
    }:
        due |= more
    return {after[file][0] for file in due}
