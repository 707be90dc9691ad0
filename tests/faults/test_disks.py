"""Disks that are full or read-only: one error with the file's name, and nothing damaged is left behind."""

import errno
import os
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from score_rows import binary_rows, pool_rows
from workers import jobs, plan
from workflow import RESULTS, planned, table_bytes

from taco.cache.hdf5 import CacheError, CacheWriter
from taco.data import manifest
from taco.results import pools, score_files
from taco.runtime import OutputError, atomic_folder, atomic_write, check_writable


@pytest.fixture
def disk(tmp_path):
    """A disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("needs to mount a small disk (root)")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def write_cache(path):
    noise = np.random.default_rng(0).integers(0, 255, (8, 90_000), np.uint8)
    with CacheWriter(path, "features", [str(n) for n in range(8)], {}) as writer:
        for index, array in enumerate(noise):
            writer.put("tokens", index, array)


def write_rows(path):
    score_files.write_rows(binary_rows(samples=range(3000)), path, "binary")


def write_pools(path):
    noise = np.sort(np.random.default_rng(0).integers(0, 2**31 - 1, 200_000, np.int32))
    with pools.writer(path) as keep:
        keep([row | {"positives": noise} for row in pool_rows(seeds=(0,))])


def write_manifest(path):
    row = dict.fromkeys(manifest.COLUMNS, "dog") | {"classes": ["dog"]}
    row |= {name: 1 for name, kind in manifest.COLUMNS.items() if kind != "object"}
    names = np.random.default_rng(0).bytes(600_000).hex()
    frame = manifest.from_rows([row | {"sample_id": names[100 * n : 100 * n + 100]} for n in range(6000)])
    manifest.write(frame, path)


def write_text(path):
    with atomic_write(path) as partial:
        partial.write_text("x" * 400_000)


def write_table(path):
    with atomic_write(path) as partial:
        pd.DataFrame({"a": np.arange(100_000)}).to_csv(partial)


def write_folder(path):
    with atomic_folder(path) as partial:
        for number in range(8):
            (partial / str(number)).write_bytes(b"x" * 90_000)


WRITERS = [write_cache, write_rows, write_pools, write_manifest, write_text, write_table, write_folder]


@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_is_one_error_and_leaves_nothing(disk, write):
    with pytest.raises((OutputError, CacheError), match="output") as error:
        write(disk / "output")
    assert os.strerror(errno.ENOSPC) in str(error.value)
    assert not list(disk.iterdir())


@pytest.mark.parametrize("write", WRITERS)
def test_a_disk_that_has_become_read_only_is_one_error_and_keeps_what_was_there(disk, write):
    (disk / "output").write_text("old")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises((OutputError, CacheError), match="output") as error:
        write(disk / "output")
    assert os.strerror(errno.EROFS) in str(error.value)
    assert (disk / "output").read_text() == "old"
    with pytest.raises(OutputError, match="without permission to write"):
        check_writable(disk / "results")


# ---------------------------------------------------------------- the whole workflow


def mounted(folder, size):
    """A small disk in a folder's place, with what the folder held."""
    held = folder.with_name("held")
    folder.rename(held)
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("needs to mount a small disk (root)")
    shutil.copytree(held, folder, symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(held)


def kilobytes(folder):
    return sum(-(-path.stat().st_size // 4096) * 4 for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def small_disk(copy):
    """The finished project, its results on a disk that has no room for what is made anew."""
    results = copy / "results"
    yield results
    subprocess.run(["umount", "-l", results], check=False)


def require_one_error(output, *signs):
    assert any(sign in output for sign in signs), output[-4000:]
    assert "Traceback" not in output


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["features", "factors", "scores", "tables"])
def test_the_workflow_on_a_full_disk_says_so_and_goes_on_when_there_is_room(
    workers, copy, undisturbed, small_disk, stage
):
    gone = copy / RESULTS / stage
    size = kilobytes(copy / "results")
    shutil.rmtree(gone)
    mounted(small_disk, size + 4096)
    filler = small_disk / "filler"
    free = shutil.disk_usage(small_disk).free
    filler.write_bytes(b"x" * (free - (65_536 if stage != "tables" else 8_192)))
    code, output = workers.snakemake(copy, "--until", "tables", check=False)
    assert code != 0
    require_one_error(output, os.strerror(errno.ENOSPC))
    assert not list((copy / RESULTS).rglob(".*.partial"))
    filler.unlink()
    workers.snakemake(copy, "--until", "tables")
    assert table_bytes(copy) == table_bytes(undisturbed[0])
    assert not planned(copy, "--until", "tables")


@pytest.mark.slow
def test_the_workflow_on_a_read_only_disk_says_so_before_work(workers, copy, undisturbed, small_disk):
    shutil.rmtree(copy / RESULTS / "scores")
    mounted(small_disk, kilobytes(copy / "results") + 16_384)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    plan(copy, {})
    code, output = workers.snakemake(copy, "--until", "tables", check=False)
    assert code != 0 and not list(jobs(copy))
    require_one_error(output, "without permission to write")
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    workers.snakemake(copy, "--until", "tables")
    assert table_bytes(copy) == table_bytes(undisturbed[0])
