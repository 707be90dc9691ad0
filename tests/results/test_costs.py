"""Costs are what the jobs recorded, divided by what they did."""

import numpy as np
import pytest
from score_rows import identity

from taco import metrics
from taco.cache.hdf5 import CacheWriter
from taco.results import costs, printing
from taco.results.score_files import write_rows


def write_cache(path, kind, samples, **attributes):
    with CacheWriter(path, kind, samples, {"device": "cpu", **attributes}) as writer:
        for index in range(len(samples)):
            writer.put("values", index, np.full((5, 7), index, dtype=np.float32))
    return path


def cost(seconds, samples):
    return {"seconds": seconds, "samples": samples, "threads": 2}


@pytest.fixture
def measured(tmp_path):
    """Two shards of S4 (3 and 1 samples), one run of three seeds, scores of both shards."""
    files = {"features": [], "proposals": [], "factors": [], "scores": []}
    for shard, samples in enumerate((["a", "b", "c"], ["d"])):
        n = len(samples)
        named = {"dataset": "s4"}
        files["features"].append(
            write_cache(tmp_path / f"f{shard}.h5", "features", samples, **named, cost=cost(0.5 * n, n))
        )
        files["proposals"].append(write_cache(tmp_path / f"p{shard}.h5", "proposals", samples, **named))
        files["factors"].append(
            write_cache(
                tmp_path / f"u{shard}.h5",
                "factors",
                samples,
                **named,
                bank="general",
                variant="proposed",
                seeds=[0, 1, 2],
                cost=cost(0.6 * n, n),
            )
        )
        row = identity("s4", shard) | metrics.binary_row(np.eye(4), np.eye(4, dtype=bool))
        spent = {
            "seconds": {"masks": 0.01 * n, "TACO": 0.06 * n, "U only": 0.003 * n, "A-FC-CLIP": 0.04 * n},
            "answers": {"TACO": 3 * n, "U only": 3 * n, "A-FC-CLIP": 2 * n},
            "samples": n,
        }
        files["scores"].append(tmp_path / f"s{shard}.parquet")
        write_rows([row], files["scores"][-1], "binary", spent)
    return files


def table_of(files):
    return costs.table(
        costs.of_caches(files["features"], "features", ("dataset",)),
        costs.of_caches(files["proposals"], "proposals", ("dataset",)),
        costs.of_caches(files["factors"], "factors", ("dataset", "bank", "variant")),
        costs.of_scores(files["scores"]),
        {"s4": [("s4", "general", "proposed")]},
        "miniature",
    )


def test_milliseconds_are_for_one_sample_and_seed_over_all_shards(measured):
    frame = table_of(measured).set_index("method")
    assert list(frame.index) == ["A-FC-CLIP", "TACO", "U only"]
    assert frame["features_ms"].to_list() == pytest.approx([500] * 3)
    assert frame["decomposition_ms"].to_list() == pytest.approx([0, 200, 200])
    # The masks of the proposals are made once per sample and belong to all that is decoded from them.
    assert frame["decoding_ms"].to_list() == pytest.approx([20 + 10, 20 + 10, 1])
    assert frame["total_ms"].to_list() == pytest.approx([530, 730, 701])
    assert set(frame["n_samples"]) == {4} and frame["n_seeds"].to_list() == [1, 3, 3]


def test_megabytes_are_those_on_disk(measured):
    frame = table_of(measured).set_index("method")
    features, factors = (
        sum(path.stat().st_size for name in names for path in measured[name]) / 4e6
        for names in (("features", "proposals"), ("factors",))
    )
    assert frame["features_mb"].to_list() == pytest.approx([features] * 3)
    assert frame["factors_mb"].to_list() == pytest.approx([0, factors, factors])


def test_the_page_shows_every_method_and_the_device(measured):
    page = printing.costs_page(table_of(measured), "miniature")
    text = page.markdown()
    assert "730.0" in text and "A-FC-CLIP" in text and "cpu" in text and "miniature suite" in text
    assert page.latex().isascii()


def test_a_file_without_its_cost_is_named(tmp_path):
    path = write_cache(tmp_path / "old.h5", "features", ["a"], dataset="s4")
    with pytest.raises(costs.CostError, match="old.h5"):
        costs.of_caches([path], "features", ("dataset",))
