"""A small suite that ran undisturbed, and workers that can be killed."""

import shutil

import pytest
import yaml
from workers import Workers, jobs
from workflow import OVERLAY, make_project


@pytest.fixture(scope="session")
def workers(tmp_path_factory):
    found = Workers(tmp_path_factory.mktemp("workers"))
    yield found
    found.stop()


@pytest.fixture(scope="session")
def new_project(tmp_path_factory):
    """Makes projects of S4 alone, two clips."""

    def make():
        folder = make_project(tmp_path_factory.mktemp("faults") / "project")
        overlay = yaml.safe_load(OVERLAY)
        others = dict.fromkeys(("ms3", "avss", "ade_sp", "ade_sp_semantic"))
        overlay["tasks"] |= others
        overlay["tables"] = {"which": ["table2"], "bootstrap_samples": 100}
        (folder / "small.yaml").write_text(yaml.safe_dump(overlay))
        return folder

    return make


@pytest.fixture(scope="session")
def undisturbed(workers, new_project):
    """A project whose tables are there, and how long each of its jobs took."""
    folder = new_project()
    workers.snakemake(folder, "--until", "tables")
    seconds = {script: seconds for script, _, event, seconds in jobs(folder) if event == "end"}
    return folder, seconds


@pytest.fixture
def copy(undisturbed, tmp_path):
    """A copy of it, to which something may happen."""
    return shutil.copytree(undisturbed[0], tmp_path / "project", symlinks=True)
