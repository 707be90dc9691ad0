"""Run jobs of the workflow in this process: Snakemake plans them, their scripts' `main` is called with what it says."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, config: dict, targets: set[str], threads: int = 1) -> list[str]:
    """Make targets in a folder, from what lies there; the names of the rules that were run, in order.

    The working folder is changed by Snakemake while it plans; the caller stands in ``folder``.
    """
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        made = api.workflow(
            resource_settings=ResourceSettings(cores=threads),
            config_settings=ConfigSettings(config=config),
            snakefile=ROOT / "Snakefile",
            workdir=folder,
        )
        made.dag(DAGSettings(targets=targets))
        workflow = made._workflow
        workflow._prepare_dag(forceall=False, ignore_incomplete=True, lock_warn_only=True, nolock=True)
        workflow._build_dag()
        done = []
        for level in workflow.dag.toposorted():
            for job in sorted(level, key=lambda job: str(job.output)):
                if job.rule.script and not all(Path(file).exists() for file in job.output):
                    call(job, workflow.config, threads)
                    done.append(job.rule.name)
        return done


def call(job, config, threads):
    """Call the `main` of a job's script."""
    for file in job.output:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    script = ROOT / "workflow_scripts" / Path(job.rule.script).name
    scripts = str(script.parent)
    if scripts not in sys.path:
        sys.path.append(scripts)  # they import `job`
    spec = importlib.util.spec_from_file_location(f"script_{script.stem}", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    given = {name: getattr(job, name) for name in ("input", "output", "params", "wildcards")}
    module.main(SimpleNamespace(**given, threads=threads, log=[], rule=job.rule.name, config=config))
