"""Jobs and Snakemake killed at any moment: the tables are those of an undisturbed run, byte for byte."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import time

import pytest
from workers import jobs, plan
from workflow import RESULTS, table_bytes

pytestmark = pytest.mark.kills
STAGES = ("world", "manifest", "text", "features", "factorize", "score", "tables")
# How often a job is killed while it writes.
WRITES = {"text": 2, "features": 4, "factorize": 4, "score": 3, "tables": 2}


def killed(folder):
    return [script for script, _, event, _ in jobs(folder) if event == "killed"]


def require_same(folder, undisturbed):
    assert table_bytes(folder) == table_bytes(undisturbed[0])
    assert not list((folder / RESULTS).rglob(".*.partial"))


def moments(seconds, draw):
    """A moment of each stage, over its length in processor time."""
    return {stage: [["work", draw.uniform(0, 1) * seconds[stage]]] for stage in STAGES}


def test_a_kill_in_each_stage_changes_no_table(workers, new_project, undisturbed):
    folder, draw = new_project(), random.Random(0)
    plan(folder, moments(undisturbed[1], draw))
    first = subprocess.Popen(
        workers.command("--until", "tables", "--retries", "2"),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        while not list(jobs(folder)) and first.poll() is None:
            time.sleep(0.1)
        # A second run in the same folder is refused, and disturbs nothing.
        code, output = workers.snakemake(folder, "--until", "tables", check=False)
        assert code != 0 and "lock" in output.lower()
        output, _ = first.communicate()
    finally:
        first.kill()
    assert first.returncode == 0, output[-6000:]
    assert set(killed(folder)) == set(STAGES)
    require_same(folder, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_kill_at_any_moment_of_each_stage_changes_no_table(workers, new_project, undisturbed, seed):
    folder = new_project()
    plan(folder, moments(undisturbed[1], random.Random(seed)))
    workers.snakemake(folder, "--until", "tables", "--retries", "2")
    assert set(killed(folder)) == set(STAGES)
    require_same(folder, undisturbed)


@pytest.mark.slow
def test_ten_kills_while_something_is_half_written_change_no_table(workers, new_project, undisturbed):
    folder, draw = new_project(), random.Random(4)
    plan(
        folder,
        {stage: [["write", draw.uniform(0, 0.01)] for _ in range(n)] for stage, n in WRITES.items()},
    )
    workers.snakemake(folder, "--until", "tables", "--retries", "4")
    assert len(killed(folder)) >= 10
    require_same(folder, undisturbed)


MADE = {
    "world": ["world", "manifests", "text.h5"],
    "features": ["features", "proposals"],
    "factorize": ["factors"],
    "score": ["scores"],
    "tables": ["tables"],
}


def remove(results, stage):
    """What a stage and those after it have made."""
    for name in itertools.chain(*list(MADE.values())[list(MADE).index(stage) :]):
        path = results / name
        path.unlink() if path.is_file() else shutil.rmtree(path)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["world", "features", "factorize", "score"])
def test_an_orphan_that_goes_on_writing_beside_its_successor_changes_no_table(
    workers, copy, undisturbed, stage
):
    """Snakemake is killed, its job is not; it is held until the next run has started the same job."""
    remove(copy / RESULTS, stage)
    plan(copy, {stage: [["halt", random.Random(stage).uniform(0, 0.5) * undisturbed[1][stage]]]})

    def run():
        return subprocess.Popen(
            workers.command("--until", "tables"),
            cwd=copy,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def processes(event, run):
        """Of the stage, in order; as soon as there are any, while Snakemake runs."""
        while True:
            done = run.poll() is not None
            if found := [pid for script, pid, what, _ in jobs(copy) if (script, what) == (stage, event)]:
                return found
            assert not done, f"{stage}: no {event}"
            time.sleep(0.05)

    first = run()
    (orphan,) = processes("halted", first)
    first.kill(), first.wait()
    workers.snakemake(copy, "--unlock")
    plan(copy, {})
    second = run()
    (successor,) = processes("start", second)
    os.kill(orphan, signal.SIGCONT)
    assert second.wait() == 0
    while os.path.exists(f"/proc/{orphan}"):
        time.sleep(0.1)
    assert successor != orphan
    require_same(copy, undisturbed)
    plan(copy, {})
    workers.snakemake(copy, "--until", "tables")
    assert not list(jobs(copy))
    require_same(copy, undisturbed)
