"""Disks that are full or read-only: one error with the file's name, and nothing damaged is left behind."""

import errno
import os
import subprocess

import numpy as np
import pandas as pd
import pytest
from score_rows import binary_rows, pool_rows

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
