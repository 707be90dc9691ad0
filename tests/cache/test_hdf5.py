"""HDF5 caches: round trips, and every way in which a file may be wrong."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from taco.cache import hdf5
from taco.cache.hdf5 import SCHEMA, CacheError, CacheWriter, open_cache
from taco.cache.storage import STORAGES

IDS = ["clip/1", "clip/2", "ümlaut"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "features" / "0.h5"


def write(path, ids=IDS, attributes=None, threads=1):
    rng = np.random.default_rng(0)
    arrays = {
        "tokens": rng.random((len(ids), 256, 16)).astype(np.float16),
        "deep/embedding": rng.standard_normal((len(ids), 7)).astype(np.float32),
        "count": np.arange(len(ids), dtype=np.int32),
        "none": np.zeros((len(ids), 0), dtype=np.float32),
    }
    attributes = {"model": "abc", "list": [1, 2]} | (attributes or {})
    with CacheWriter(path, "features", ids, attributes, threads=threads) as writer:
        for name, values in arrays.items():
            for index in reversed(range(len(ids))):  # any order
                writer.put(name, index, values[index])
    return arrays


def test_a_round_trip_keeps_every_bit(path):
    arrays = write(path)
    with open_cache(path, "features", {"model": "abc", "list": (1, 2)}) as cache:
        assert cache.sample_ids == IDS
        assert sorted(cache) == sorted(arrays)
        for name, values in arrays.items():
            assert cache[name].shape == values.shape
            for sample in IDS:
                index = cache.position(sample)
                found = cache[name][index]
                assert found.dtype == values.dtype
                np.testing.assert_array_equal(found, values[index])


def test_strings_round_trip(path):
    labels = ["bell", "a longer label", "señal"]
    with CacheWriter(path, "text", ["-"], {}) as writer:
        writer.put("bank/labels", 0, np.array(labels))
    with open_cache(path, "text") as cache:
        assert cache.strings("bank/labels") == labels


def test_samples_are_chunks_of_their_own_and_compressed(path):
    write(path)
    with h5py.File(path) as file:
        assert file["tokens"].chunks == (1, 256, 16)
        assert file["tokens"].id.get_create_plist().get_nfilters() > 0


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"]
)
@pytest.mark.parametrize("shape", [(), (1,), (3, 5, 7), (0, 4)])
def test_every_type_is_read_by_us_and_by_plain_h5py(path, dtype, shape):
    """h5py undoes the filters on its own: the bytes are those that it would have written, or are read as such."""
    values = np.random.default_rng(0).integers(-100, 100, (len(IDS), *shape)).astype(dtype)
    with CacheWriter(path, "features", IDS, {}) as writer:
        for index in range(len(IDS)):
            writer.put("values", index, values[index])
    with open_cache(path, "features") as cache, h5py.File(path, locking=False) as file:
        for index in range(len(IDS)):
            for found in (cache["values"][index], file["values"][index]):
                assert found.dtype == dtype
                np.testing.assert_array_equal(found, values[index])


def test_what_plain_h5py_writes_is_read_by_us(path):
    """A chunk from HDF5's own filters, with another level and another compressor's bytes."""
    arrays = write(path)
    with h5py.File(path, "r+") as file:
        file["tokens"][1] = arrays["tokens"][1]
    with open_cache(path, "features") as cache:
        np.testing.assert_array_equal(cache["tokens"][1], arrays["tokens"][1])


def test_an_array_that_is_not_contiguous_is_stored_as_it_looks(path):
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    with CacheWriter(path, "features", ["a", "b"], {}) as writer:
        writer.put("x", 0, array.T)
        writer.put("x", 1, array.T[::-1])
    with open_cache(path, "features") as cache:
        np.testing.assert_array_equal(cache["x"][0], array.T)
        np.testing.assert_array_equal(cache["x"][-1], array.T[::-1])


def test_what_is_read_may_be_changed(path):
    with CacheWriter(path, "features", ["a"], {}) as writer:
        writer.put("truth", 0, np.ones((4, 4), dtype=bool))
    with open_cache(path, "features") as cache:
        cache["truth"][0][0] = False
        assert cache["truth"][0].all()


def test_logits_in_bytes_are_within_half_a_step_and_keep_their_sign(path):
    logits = np.random.default_rng(0).normal(0, 12, (4, 24, 24)).astype(np.float16)
    with CacheWriter(path, "proposals", IDS, {}, storage={"masks": "uint8"}) as writer:
        for index in range(len(IDS)):
            writer.put("masks", index, logits)
            writer.put("pooled", index, logits)
    with h5py.File(path) as file:
        assert file["masks"].dtype == np.uint8 and file["pooled"].dtype == np.float16
    with open_cache(path, "proposals", {"storage": {"masks": "uint8"}}) as cache:
        found = cache["masks"][1]
        assert cache["masks"].dtype == found.dtype == np.float16
        np.testing.assert_array_equal(cache["pooled"][1], logits)
    inside = np.clip(logits, -32, 32).astype(float)
    half_a_step = (np.abs(inside) + 2) * np.expm1(np.log1p(16) / 255)
    assert (np.abs(found - inside) <= half_a_step + 0.016).all()  # and half-precision's rounding at 32
    np.testing.assert_array_equal(found > 0, logits > 0)


def test_a_step_is_read_and_written_as_itself():
    storage = STORAGES["uint8"]
    steps = storage.steps
    assert (np.diff(steps) > 0).all() and (steps[0], steps[-1]) == (-32, 32)
    np.testing.assert_array_equal(storage.encode(steps), np.arange(256))
    for count in (0, 1, 2, 255):  # two at a time, and one that is left
        np.testing.assert_array_equal(storage.decode(np.arange(count, dtype=np.uint8)), steps[:count])
    shape = np.arange(30, dtype=np.uint8).reshape(5, 6)
    np.testing.assert_array_equal(storage.decode(shape.T), steps[shape.T])


def test_logits_in_bytes_and_whole_ones_are_told_apart(path):
    with CacheWriter(path, "proposals", IDS[:1], {}, storage={"masks": "float16"}) as writer:
        writer.put("masks", 0, np.zeros((2, 2), dtype=np.float16))
    with pytest.raises(CacheError, match="expected storage {'masks': 'uint8'}, found {'masks': 'float16'}"):
        open_cache(path, "proposals", {"storage": {"masks": "uint8"}})


@pytest.mark.parametrize("threads", [1, 4])
def test_the_same_content_gives_the_same_bytes_with_any_threads(tmp_path, threads):
    first, second = tmp_path / "a.h5", tmp_path / "b.h5"
    write(first)
    write(second, threads=threads)
    assert first.read_bytes() == second.read_bytes()


def test_what_waits_to_be_written_is_bounded(path, monkeypatch):
    """However far the caller is ahead: the bytes that it has handed over and that are not written."""
    monkeypatch.setattr(hdf5, "BYTES_AHEAD", 1000)
    release, waiting = threading.Event(), []
    pack = hdf5._pack

    def slow(array, storage):
        release.wait(10)
        return pack(array, storage)

    monkeypatch.setattr(hdf5, "_pack", slow)
    ids = [str(number) for number in range(20)]
    with CacheWriter(path, "features", ids, {}, threads=2) as writer:
        threading.Timer(0.3, release.set).start()
        for index in range(len(ids)):
            writer.put("x", index, np.full(200, index, dtype=np.float32))
            waiting.append(writer._bytes_pending)
    # Nothing is written before the release: so many are taken at once, the next one waits.
    assert max(waiting) == 4000 and waiting[:5] == [800, 1600, 2400, 3200, 4000]
    with open_cache(path, "features") as cache:
        assert [int(cache["x"][index][0]) for index in range(len(ids))] == list(range(20))


def test_many_threads_may_read_one_cache(path):
    arrays = write(path, ids=[str(number) for number in range(40)])
    with open_cache(path, "features") as cache, ThreadPoolExecutor(8) as pool:
        for found, expected in zip(
            pool.map(lambda i: cache["tokens"][i], range(40)), arrays["tokens"], strict=True
        ):
            np.testing.assert_array_equal(found, expected)


def test_an_error_of_compression_is_the_writers(path, monkeypatch):
    def failing(*_):
        raise MemoryError("no more")

    monkeypatch.setattr(hdf5, "_pack", failing)
    with pytest.raises(MemoryError, match="no more"), CacheWriter(path, "features", ["a"], {}) as writer:
        writer.put("x", 0, np.zeros(3))
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize(
    ("expect", "wanted"),
    [
        ({"model": "other"}, "expected model 'other', found 'abc'"),
        ({"absent": 1}, "expected absent 1, found None"),
    ],
)
def test_a_mismatch_is_refused_by_name(path, expect, wanted):
    write(path)
    with pytest.raises(CacheError, match="0.h5") as error:
        open_cache(path, "features", expect)
    assert wanted in str(error.value)
    assert "Delete it" in str(error.value)


def test_another_kind_is_refused(path):
    write(path)
    with pytest.raises(CacheError, match="expected kind 'proposals', found 'features'"):
        open_cache(path, "proposals")


def test_another_schema_is_refused(path, monkeypatch):
    write(path)
    monkeypatch.setattr("taco.cache.hdf5.SCHEMA", SCHEMA + 1)
    with pytest.raises(CacheError, match=f"expected schema {SCHEMA + 1}, found {SCHEMA}"):
        open_cache(path, "features")


def test_a_changed_value_is_found_by_its_checksum(path):
    write(path)
    with h5py.File(path, "r+") as file:
        values = file["deep/embedding"][1]
        values[3] = np.nextafter(values[3], np.float32(np.inf))
        file["deep/embedding"][1] = values
    with open_cache(path, "features") as cache:
        cache["deep/embedding"][0]
        with pytest.raises(CacheError, match="0.h5: sample 1 of deep/embedding: expected xxh3_128"):
            cache["deep/embedding"][1]
    with open_cache(path, "features", verify=False) as cache:
        np.testing.assert_array_equal(cache["deep/embedding"][1], values)


def test_changed_attributes_are_found(path):
    write(path)
    with h5py.File(path, "r+") as file:
        attributes = json.loads(file.attrs["attributes"])
        file.attrs["attributes"] = json.dumps(attributes | {"model": "forged"})
    with pytest.raises(CacheError, match="match their checksum"):
        open_cache(path, "features", {"model": "forged"})


def test_exchanged_samples_are_found(path):
    write(path)
    with h5py.File(path, "r+") as file:
        file["tokens"][0], file["tokens"][1] = file["tokens"][1], file["tokens"][0]
    for index in (0, 1):
        with (
            open_cache(path, "features") as cache,
            pytest.raises(CacheError, match=f"sample {index} of tokens"),
        ):
            cache["tokens"][index]


def test_a_chunk_that_cannot_be_decompressed_is_an_error_with_the_file(path):
    write(path)
    with h5py.File(path, "r+") as file:
        file["tokens"].id.write_direct_chunk((1, 0, 0), b"no compressed data")
    with open_cache(path, "features") as cache, pytest.raises(CacheError, match="0.h5: sample 1 of tokens"):
        cache["tokens"][1]


def test_digests_cannot_be_exchanged_with_the_data(path):
    write(path)
    with h5py.File(path, "r+") as file:
        for name in ("tokens", "xxh3_128/tokens"):
            file[name][0], file[name][1] = file[name][1], file[name][0]
    with pytest.raises(CacheError, match="checksums to match their checksum"):
        open_cache(path, "features")


@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_a_truncated_file_is_refused(path, keep):
    write(path)
    size = path.stat().st_size
    os.truncate(path, keep if isinstance(keep, int) else int(keep * size))
    with pytest.raises(CacheError, match="0.h5"):
        open_cache(path, "features")


def test_a_foreign_hdf5_file_is_refused(path):
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file["tokens"] = np.zeros(3)
    with pytest.raises(CacheError, match="this package's cache format"):
        open_cache(path, "features")


def test_a_missing_file_names_the_remedy(path):
    with pytest.raises(CacheError, match="no such file. Run the stage"):
        open_cache(path, "features")


def test_unknown_samples_and_datasets_are_named(path):
    write(path)
    with open_cache(path, "features") as cache:
        with pytest.raises(CacheError, match="expected sample 'clip/9'"):
            cache.position("clip/9")
        with pytest.raises(CacheError, match="no dataset 'nothing'"):
            cache["nothing"]


def test_an_error_leaves_nothing_and_keeps_the_old_file(path):
    write(path)
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="stop"), CacheWriter(path, "features", IDS, {}) as writer:
        writer.put("tokens", 0, np.zeros(3))
        raise RuntimeError("stop")
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_forgotten_sample_is_an_error(path):
    with (
        pytest.raises(CacheError, match="tokens was never written for clip/2"),
        CacheWriter(path, "features", IDS, {}) as writer,
    ):
        writer.put("tokens", 0, np.zeros(3))
        writer.put("tokens", 2, np.zeros(3))
    assert not path.exists()


def test_arrays_of_another_shape_or_type_are_refused(path):
    with (
        pytest.raises(ValueError, match=r"must be float64\[3\]"),
        CacheWriter(path, "features", IDS, {}) as writer,
    ):
        writer.put("tokens", 0, np.zeros(3))
        writer.put("tokens", 1, np.zeros(4))
    with pytest.raises(ValueError, match=r"not int64\[3\]"), CacheWriter(path, "features", IDS, {}) as writer:
        writer.put("tokens", 0, np.zeros(3))
        writer.put("tokens", 1, np.zeros(3, dtype=int))


@pytest.mark.parametrize("ids", [[], ["a", "a"]])
def test_sample_ids_must_be_present_and_unique(path, ids):
    with pytest.raises(ValueError, match="unique"):
        CacheWriter(path, "features", ids, {})


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CacheError, match="expected a folder that can be written to"):
        CacheWriter(tmp_path / "file" / "0.h5", "features", IDS, {}).__enter__()


def test_a_killed_writer_leaves_no_result_and_its_remains_are_swept(path):
    script = (
        "import os, signal, sys, numpy as np\n"
        "from taco.cache.hdf5 import CacheWriter\n"
        "with CacheWriter(sys.argv[1], 'features', ['a', 'b'], {}) as writer:\n"
        "    writer.put('tokens', 0, np.zeros(3))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == -9
    assert not path.exists()
    assert len(list(path.parent.glob(".0.h5.*.partial"))) == 1
    write(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
