"""Runs of the workflow in projects of their own, on a very small world."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = ("Snakefile", "rules", "workflow_scripts", "methods", "taco", "config", "envs", "profiles", "report")
OVERLAY = """
limit: 2
threads: 1
world:
  clips:
    s4: {train: 1, val: 1, test: 3}
    ms3: {train: 1, val: 1, test: 3}
    avss: {train: 1, val: 1, test: 2}
    ade: {train: 1, val: 1, test: 3}
solver: {steps: 6, halve_at: [3], trace_every: 2}
tasks:
  s4: {banks: [general], variants: [shuffled-audio]}
  ms3: {banks: [general]}
  ade_sp: {banks: [general]}
  avss: {banks: [specific]}
  ade_sp_semantic: {banks: [specific]}
tables: {which: [table1, table2, table3, table5], bootstrap_samples: 100}
"""
RESULTS = Path("results/miniature")
STAGES = {"world", "manifest", "text", "features", "factorize", "score", "tables"}


def make_project(folder):
    """A checkout of its own: copies, so that a test may edit them, and a link to the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in CODE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, folder / name)
    (folder / "weights").symlink_to(ROOT / "weights")
    (folder / "small.yaml").write_text(OVERLAY)
    return folder


def command(*arguments, overlay=True):
    base = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", "--nocolor"]
    # Last, as it takes every word that follows for a file.
    return [*base, *(["--configfile", "small.yaml"] if overlay else [])]


def environment():
    """One thread per process: several fight over the cores and lose."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def snakemake(folder, *arguments, overlay=True, check=True):
    done = subprocess.run(
        command(*arguments, overlay=overlay),
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    output = done.stdout + done.stderr
    assert not check or done.returncode == 0, output[-6000:]
    return done.returncode, output


def planned(folder, *arguments):
    """Names of the rules that a dry run would run."""
    _, output = snakemake(folder, "--dry-run", *arguments)
    if "Nothing to be done" in output or re.search(r"^total +0$", output, re.MULTILINE):
        return set()
    lines = [line.split() for line in output.splitlines()]
    words = [line[1].rstrip(":") for line in lines if len(line) == 2 and line[0] in ("rule", "localrule")]
    assert words, output[-3000:]
    return set(words) - {"all"}


def table_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / RESULTS / "tables").iterdir())}
