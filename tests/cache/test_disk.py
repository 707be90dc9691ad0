"""A full disk below HDF5: one error, whenever it becomes full, and nothing kept."""

import contextlib
import os
import resource

import numpy as np
import pytest

from taco.cache.disk import DiskFile
from taco.cache.hdf5 import CacheError, CacheWriter, open_cache

N = 20


@contextlib.contextmanager
def largest_file(size):
    """Files of this process may have so many bytes, a disk of that size in effect."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write(path):
    tokens = np.random.default_rng(0).random((N, 300), dtype=np.float32)
    with CacheWriter(path, "features", [f"sample {i}" for i in range(N)], {"dataset": "s4"}) as writer:
        for i in range(N):
            writer.put("image_tokens", i, tokens[i])
            writer.put("k_star", i, np.int32(i))
    return tokens


def test_a_disk_full_at_any_time_is_one_error_and_leaves_nothing(tmp_path):
    write(tmp_path / "whole.h5")
    whole = (tmp_path / "whole.h5").stat().st_size
    (tmp_path / "whole.h5").unlink()
    for size in range(0, whole, whole // 25):
        with largest_file(size), pytest.raises(CacheError) as error:
            write(tmp_path / "a.h5")
        assert f"{tmp_path}/a.h5: expected a disk that takes the whole file" in str(error.value)
        assert "Free some space" in str(error.value)
        assert not list(tmp_path.iterdir())
    tokens = write(tmp_path / "a.h5")
    with open_cache(tmp_path / "a.h5", "features") as cache:
        np.testing.assert_array_equal(cache["image_tokens"][N - 1], tokens[N - 1])


def test_what_a_full_disk_refuses_is_read_back_until_the_end(tmp_path):
    with DiskFile(tmp_path / "a") as disk:
        with largest_file(10):
            assert disk.write(b"0123456789ab") == 12
            assert disk.error is not None
            disk.seek(2), disk.write(b"XY")
        assert disk.seek(0, os.SEEK_END) == 12
        for place, wanted in ((0, b"01XY45"), (8, b"89ab\0\0")):
            buffer = bytearray(6)
            disk.seek(place)
            assert disk.readinto(buffer) == 6
            assert bytes(buffer) == wanted
