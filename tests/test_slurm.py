"""The workflow on a real SLURM of one node with two pretended GPUs."""

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest
import yaml
from workflow import OVERLAY, RESULTS, ROOT, command, environment, make_project, snakemake, table_bytes

pytestmark = pytest.mark.slurm
# As many threads as the local run's: another number may change last digits. There is no accounting.
OPTIONS = (
    *(
        "--workflow-profile",
        "profiles/slurm",
        "--slurm-status-command",
        "squeue",
        "--set-threads",
        "features=1",
    ),
    *("--slurm-init-seconds-before-status-checks", "3"),
)


@pytest.fixture
def slurm(tmp_path_factory, monkeypatch):
    """A one-node SLURM of this test's own: the folder of its state."""
    folder = tmp_path_factory.mktemp("slurm") / "state"
    script = ROOT / "tests/slurm"
    try:
        # Its daemons outlive the script, so no pipe may be left to them.
        with open(folder.with_suffix(".out"), "w") as output:
            done = subprocess.run([script / "start.sh", folder], stdout=output, stderr=output, check=False)
        text = folder.with_suffix(".out").read_text()
        if done.returncode == 77:
            pytest.skip(text.strip())
        assert done.returncode == 0, text
        monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        yield folder
    finally:
        subprocess.run([script / "stop.sh", folder], check=False)


def one_task(folder, shards):
    """A project of S4 alone, with a clip in each shard, that has run to its tables; and a copy without them."""
    local = make_project(folder / "local")
    overlay = yaml.safe_load(OVERLAY)
    others = dict.fromkeys(("ms3", "avss", "ade_sp", "ade_sp_semantic"))
    overlay |= {"limit": 3, "datasets": {"s4": {"shards": shards}}, "tasks": overlay["tasks"] | others}
    (local / "small.yaml").write_text(yaml.safe_dump(overlay))
    snakemake(local, "--until", "tables")
    copy = folder / "cluster"
    shutil.copytree(local, copy, symlinks=True)
    for name in ("features", "proposals", "factors", "scores", "tables", "logs"):
        shutil.rmtree(copy / RESULTS / name)
    return local, copy


def slurm_jobs():
    """What SLURM was asked for, by job: the fields that `scontrol show job` prints."""
    show = subprocess.run(
        ["scontrol", "--oneliner", "show", "job"], capture_output=True, text=True, check=True
    )
    jobs = [
        dict(word.split("=", 1) for word in line.split() if "=" in word) for line in show.stdout.splitlines()
    ]
    return [job for job in jobs if job.get("JobName", "").startswith("taco_")]


def jobs_of(comment):
    """Jobs of a rule and its wildcards, the first attempt first: the plugin names all alike and tells them in a comment."""
    return [job for job in slurm_jobs() if job["Comment"] == comment]


def cards(folder):
    """The pretended GPU of each job, as the node gave it."""
    return dict(line.split(maxsplit=1) for line in (folder / "log/gpus").read_text().splitlines())


def span(job):
    return tuple(datetime.fromisoformat(job[name]) for name in ("StartTime", "EndTime"))


def overlap(one, other):
    (start, end), (other_start, other_end) = span(one), span(other)
    return max(start, other_start) < min(end, other_end)


def test_slurm_gives_the_tables_of_a_local_run(slurm, tmp_path):
    local, folder = one_task(tmp_path, shards=3)
    snakemake(folder, *OPTIONS, "--until", "tables", "--retries", "0")
    assert table_bytes(folder) == table_bytes(local)
    assert "device: " in (folder / RESULTS / "logs/factorize/s4/2.log").read_text()

    jobs = {job["Comment"]: job for job in slurm_jobs()}
    shards = {
        rule: [jobs[f"rule_{rule}_wildcards_miniature_s4_{shard}"] for shard in range(3)]
        for rule in ("features", "factorize", "score")
    }
    on_gpu = list(itertools.chain(*shards.values()))
    # Asked for: a GPU each, memory and minutes by the shard's five frames; and never twice by SLURM itself.
    assert {job["TresPerJob"] for job in on_gpu} == {"gres:gpu:1"}
    assert "TresPerJob" not in jobs["rule_tables_wildcards_miniature"]
    assert {job["Requeue"] for job in jobs.values()} == {"0"}
    assert {rule: {job["MinMemoryNode"] for job in some} for rule, some in shards.items()} == {
        "features": {"12000M"},
        "factorize": {"6020M"},
        "score": {"6060M"},
    }
    assert {job["TimeLimit"] for job in on_gpu} == {"00:21:00"}
    # Two side by side, and never two on one card.
    card = cards(slurm)
    assert {card[job["JobId"]] for job in on_gpu} == {"0", "1"}
    assert any(overlap(one, other) for one, other in itertools.combinations(on_gpu, 2))
    for one, other in itertools.combinations(on_gpu, 2):
        assert card[one["JobId"]] != card[other["JobId"]] or not overlap(one, other)


# ---------------------------------------------------------------- faults


def processes(job):
    """Processes of a job that run a rule's script."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = f"SLURM_JOB_ID={job}\0".encode() in (place / "environ").read_bytes()
            if ours and re.search(rb"/\.snakemake/scripts/", (place / "cmdline").read_bytes()):
                yield int(place.name)


def wait_for(found, process):
    """What ``found`` returns as soon as there is any, while Snakemake runs."""
    while process.poll() is None:
        if result := found():
            return result
        time.sleep(0.2)
    raise AssertionError(f"Snakemake ended with {process.returncode}")


@pytest.mark.slow
def test_slurm_jobs_that_are_cancelled_or_run_out_of_time_are_tried_again_with_more(slurm, tmp_path):
    local, folder = one_task(tmp_path, shards=1)
    receipt = str(RESULTS / "factors/s4/0.json")
    features, factors = "rule_features_wildcards_miniature_s4_0", "rule_factorize_wildcards_miniature_s4_0"
    with open(folder / "run.log", "w") as log:
        run = subprocess.Popen(
            command(receipt, *OPTIONS), cwd=folder, stdout=log, stderr=log, env=environment()
        )

        def started(comment):
            return [pid for job in jobs_of(comment) for pid in processes(job["JobId"])]

        wait_for(lambda: started(features), run)
        subprocess.run(["scancel", jobs_of(features)[0]["JobId"]], check=True)
        # Halted, so that it is still there when its time is up.
        for pid in wait_for(lambda: started(factors), run):
            os.kill(pid, signal.SIGSTOP)
        number = jobs_of(factors)[0]["JobId"]
        subprocess.run(["scontrol", "update", f"jobid={number}", "timelimit=1"], check=True)
        run.wait()
    assert run.returncode == 0, (folder / "run.log").read_text()[-6000:]
    cancelled, again = jobs_of(features)
    assert (cancelled["JobState"], again["JobState"]) == ("CANCELLED", "COMPLETED")
    assert (cancelled["MinMemoryNode"], again["MinMemoryNode"]) == ("12000M", "24000M")
    late, again = jobs_of(factors)
    assert (late["JobState"], again["JobState"]) == ("TIMEOUT", "COMPLETED")
    assert again["TimeLimit"] == "00:42:00"
    snakemake(folder, "--until", "tables")
    assert table_bytes(folder) == table_bytes(local)
    assert not list((folder / RESULTS).rglob("*.partial"))
