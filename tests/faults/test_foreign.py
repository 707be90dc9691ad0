"""A valid file of another suite, dataset or version in the place of a cache: refused by name, and made anew when it is deleted."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from workflow import RESULTS, table_bytes

from taco.cache.hdf5 import CacheError, CacheWriter, open_cache
from taco.method.factorize import read_tokens
from taco.results import score_files


def rewrite(path, kind, ids=lambda ids: ids, **attributes):
    """The same arrays under other names and attributes."""
    with open_cache(path, kind) as cache:
        samples, told = list(cache.sample_ids), {**cache.attributes, **attributes}
        arrays = {name: [cache[name][index] for index in range(len(samples))] for name in cache}
    with CacheWriter(path, kind, ids(samples), told) as writer:
        for name, values in arrays.items():
            for index, value in enumerate(values):
                writer.put(name, index, value)


def of_another_dataset(results):
    path = results / "features/s4/0.h5"
    rewrite(path, "features", dataset="ms3")
    return path, [path]


def of_other_samples(results):
    path = results / "features/s4/0.h5"
    rewrite(path, "features", ids=lambda ids: [f"other {name}" for name in ids])
    return path, [path]


def of_other_models(results):
    path = results / "text.h5"
    rewrite(path, "text", clip_digest="0" * 64)
    return path, [path]


def of_another_run(results):
    """Factors of two runs, exchanged."""
    shutil.rmtree(results / "scores/s4/0")
    files = sorted((results / "factors/s4").rglob("*.h5"))[:2]
    spare = files[0].with_name("spare")
    files[0].rename(spare), files[1].rename(files[0]), spare.rename(files[1])
    return files[0], files


def scores_of_another_version(results):
    shutil.rmtree(results / "tables")
    path = results / "scores/s4/0/s4.rows.parquet"
    made = score_files.about(path)["made"] | {"code": "0" * 64}
    rows = pq.read_table(path).to_pylist()
    score_files.write_rows(rows, path, "binary", json.loads("{}"), made)
    return path, [path.parent]


def test_features_of_other_samples_are_refused_by_name(tmp_path):
    path = tmp_path / "0.h5"
    with CacheWriter(path, "features", ["a"], {"dataset": "s4"}) as writer:
        for name in ("image_tokens", "audio_tokens"):
            writer.put(name, 0, np.ones((3, 2), np.float16))
    image, audio = read_tokens([path], {"dataset": "s4"}, ["a"], ["a", "a"])
    assert len(image) == 1 and len(audio) == 2
    for samples, sounds in ((["b"], ["a"]), (["a"], ["b"])):
        with pytest.raises(CacheError, match=r"0\.h5: expected sample 'b'"):
            read_tokens([path], {"dataset": "s4"}, samples, sounds)


FOREIGN = [of_another_dataset, of_other_samples, of_other_models, of_another_run, scores_of_another_version]


@pytest.mark.slow
@pytest.mark.parametrize("put", FOREIGN)
def test_a_foreign_file_is_refused_by_name_and_made_anew(workers, copy, undisturbed, put):
    path, deleted = put(copy / RESULTS)
    code, output = workers.snakemake(copy, "--until", "tables", check=False)
    assert code != 0 and str(path.relative_to(copy)) in output, output[-3000:]
    assert "expected" in output and "Traceback" not in output
    for one in deleted:
        shutil.rmtree(one) if one.is_dir() else one.unlink()
    workers.snakemake(copy, "--until", "tables")
    assert table_bytes(copy) == table_bytes(undisturbed[0])
