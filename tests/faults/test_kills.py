"""Jobs and Snakemake killed at any moment: the tables are those of an undisturbed run, byte for byte."""

import os
import random
import shutil
import signal
import subprocess
import time

import pytest
from workers import jobs, plan
from workflow import RESULTS, table_bytes

STAGES = ("world", "manifest", "text", "features", "factorize", "score", "tables")
# How often a job is killed while it writes.
WRITES = {"text": 1, "features": 3, "factorize": 3, "score": 2, "tables": 1}


def killed(folder):
    return [script for script, _, event, _ in jobs(folder) if event == "killed"]


def require_same(folder, undisturbed):
    assert table_bytes(folder) == table_bytes(undisturbed[0])
    assert not list((folder / RESULTS).rglob(".*.partial"))


def moments(seconds, draw):
    """A moment of each stage, over its whole length."""
    return {stage: [["after", draw.uniform(0, 0.95) * seconds[stage]]] for stage in STAGES}


@pytest.mark.slow
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
    assert len(killed(folder)) >= len(STAGES) - 1  # one may have ended before its moment
    require_same(folder, undisturbed)


@pytest.mark.slow
def test_ten_kills_while_something_is_half_written_change_no_table(workers, new_project, undisturbed):
    folder, draw = new_project(), random.Random(4)
    plan(
        folder,
        {stage: [["write", draw.uniform(0, 0.01)] for _ in range(n)] for stage, n in WRITES.items()},
    )
    workers.snakemake(folder, "--until", "tables", "--retries", "4")
    assert len(killed(folder)) >= 8
    require_same(folder, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["world", "features", "factorize", "score"])
def test_an_orphan_that_goes_on_writing_beside_its_successor_changes_no_table(
    workers, copy, undisturbed, stage
):
    """Snakemake is killed, its job is not; it is held until the next run has started the same job."""
    gone = {"world": "world", "features": "features", "factorize": "factors", "score": "scores"}[stage]
    shutil.rmtree(copy / RESULTS / gone)
    plan(copy, {})

    def started():
        return [pid for script, pid, event, _ in jobs(copy) if (script, event) == (stage, "start")]

    def run():
        return subprocess.Popen(
            workers.command("--until", "tables"),
            cwd=copy,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait(count, process):
        while len(started()) < count and process.poll() is None:
            time.sleep(0.05)
        return started()[count - 1]

    first = run()
    orphan = wait(1, first)
    time.sleep(random.Random(stage).uniform(0, 0.9) * undisturbed[1][stage])
    os.kill(orphan, signal.SIGSTOP)
    first.kill(), first.wait()
    workers.snakemake(copy, "--unlock")
    second = run()
    wait(2, second)
    os.kill(orphan, signal.SIGCONT)
    assert second.wait() == 0
    while os.path.exists(f"/proc/{orphan}"):
        time.sleep(0.1)
    require_same(copy, undisturbed)
    _, output = workers.snakemake(copy, "--until", "tables")
    assert "Nothing to be done" in output
    require_same(copy, undisturbed)
