"""A clock that was set back: nothing stale is taken for new, nothing is made without end, and one error comes before work."""

import os
import re
import subprocess
import time

import pytest
from workers import jobs, plan
from workflow import RESULTS, planned, table_bytes

from taco.runtime import ClockError, check_clock

DAY = 86400


def shift(folder, seconds):
    """Move all times of a folder, as if its files had been written then."""
    for path in [folder, *folder.rglob("*")]:
        found = path.lstat()
        os.utime(path, (found.st_atime + seconds, found.st_mtime + seconds), follow_symlinks=False)


def test_times_of_the_past_and_of_servers_that_are_a_little_fast_are_passed_over(tmp_path):
    check_clock(tmp_path / "none", [tmp_path / "none of this"])
    (tmp_path / "features").mkdir()
    (tmp_path / "features/0.h5").touch()
    shift(tmp_path, 60)
    check_clock(tmp_path)
    shift(tmp_path, -1000 * DAY)
    check_clock(tmp_path, [__file__])


def test_a_file_of_the_future_is_named_and_the_remedy_keeps_the_order(tmp_path):
    folder = tmp_path / "a 'suite'"
    (folder / "features").mkdir(parents=True)
    (folder / "gallery").mkdir()
    for age, name in enumerate(("gallery/a.png", "features/1.h5", "features/0.h5", "text.h5")):
        (folder / name).touch()
        os.utime(folder / name, (0, time.time() + 400 * DAY - age))
    before = {path: path.stat().st_mtime for path in folder.rglob("*.h5")}
    with pytest.raises(ClockError, match=r"features/1\.h5: expected a time in the past") as error:
        check_clock(folder)
    remedy = re.search(r"if it is, (find .*?;) sets", str(error.value))[1]
    subprocess.run(remedy, shell=True, check=True)
    check_clock(folder)
    moved = {round(before[path] - path.stat().st_mtime, 2) for path in before}
    assert len(moved) == 1


def test_an_input_of_the_future_is_named(tmp_path):
    path = tmp_path / "clip.safetensors"
    path.touch()
    os.utime(path, (0, time.time() + DAY))
    with pytest.raises(ClockError, match=r"clip\.safetensors: .* touch .*clip\.safetensors gives"):
        check_clock(tmp_path / "none", [path])


@pytest.mark.slow
def test_after_a_clock_was_set_back_results_are_kept_or_one_error_says_so_before_work(
    workers, copy, undisturbed
):
    results = copy / RESULTS
    # All is older than what it was made from and than the code: nothing of it is stale.
    shift(results, -400 * DAY)
    workers.snakemake(copy, "--until", "tables")
    assert table_bytes(copy) == table_bytes(undisturbed[0])
    assert not planned(copy, "--until", "tables")
    # The clock is set back behind all results.
    shift(results, 800 * DAY)
    plan(copy, {})
    (results / "factors/s4/0.json").unlink()
    code, output = workers.snakemake(copy, "--until", "tables", check=False)
    assert code != 0 and "expected a time in the past" in output and "Traceback" not in output
    assert not list(jobs(copy))
    remedy = re.search(r"if it is, (find .*?;) sets", output)[1]
    subprocess.run(remedy, shell=True, check=True, cwd=copy)
    workers.snakemake(copy, "--until", "tables")
    assert {script for script, *_ in jobs(copy)} == {"factorize", "score", "tables"}
    assert table_bytes(copy) == table_bytes(undisturbed[0])
    assert not planned(copy, "--until", "tables")
