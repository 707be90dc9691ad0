"""Bootstrap and permutation by clip: known cases, seeds and order, p-values under no difference."""

import numpy as np
import pytest

from taco.results import resampling


def test_bootstrap_draws_whole_clips():
    # two clips with opposite differences: only 0, ½ or all of the images can come from the first
    difference, clips = np.repeat([1.0, -1.0], 50), np.repeat(["a", "b"], 50)
    assert resampling.paired_bootstrap(difference, clips) == (-1, 1)
    # as a hundred clips of one image each, the interval is the usual ± 1.96 / sqrt(100)
    low, high = resampling.paired_bootstrap(difference, np.arange(100))
    assert (low, high) == pytest.approx((-0.196, 0.196), abs=0.03)


def test_bootstrap_weighs_clips_by_their_images():
    difference, clips = np.array([0.0, 0.0, 0.0, 4.0]), np.array(["a", "a", "a", "b"])
    low, high = resampling.paired_bootstrap(difference, clips, draws=2000)
    assert (low, high) == (0, 4)
    assert resampling.paired_bootstrap(np.full(4, 0.25), clips) == (0.25, 0.25)


def test_bootstrap_covers_the_true_mean_about_95_times_in_100():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        offset = rng.normal(0, 1, 30)
        difference = np.repeat(0.5 + offset, 5) + rng.normal(0, 0.5, 150)  # images of a clip go together
        low, high = resampling.paired_bootstrap(difference, np.repeat(np.arange(30), 5), draws=400)
        covered += low <= 0.5 <= high
    assert 0.88 <= covered / 200 <= 0.98


def test_bootstrap_is_seeded_and_does_not_depend_on_the_order_of_images():
    rng = np.random.default_rng(0)
    difference, clips = rng.normal(size=60), np.repeat(np.arange(12), 5)
    first = resampling.paired_bootstrap(difference, clips, draws=500, seed=1)
    order = np.argsort(np.arange(60) % 5, kind="stable")
    assert resampling.paired_bootstrap(difference[order], clips[order], draws=500, seed=1) == pytest.approx(
        first
    )
    assert resampling.paired_bootstrap(difference, clips, draws=500, seed=2) != first


def test_permutation_counts_every_exchange_of_few_clips():
    # differences 3, 1 and 1: |±3 ±1 ±1| reaches 5 in 2 of 8 ways, and 3 in 6 of 8
    clips = np.array(["a", "a", "b", "c", "c"])
    assert resampling.paired_permutation([1.0, 2.0, 1.0, 0.5, 0.5], clips) == 2 / 8
    assert resampling.paired_permutation([1.0, 2.0, -1.0, 0.5, 0.5], clips) == 6 / 8
    assert resampling.paired_permutation(np.zeros(5), clips) == 1


def test_drawn_exchanges_agree_with_all_of_them():
    rng = np.random.default_rng(0)
    difference, clips = rng.normal(0.2, 1, 26), np.repeat(np.arange(13), 2)
    every = resampling.paired_permutation(difference, clips, draws=10_000)  # 2^13 = 8192 exchanges
    drawn = resampling.paired_permutation(difference, clips, draws=8_000)
    assert 0.02 < every < 0.98
    assert drawn == pytest.approx(every, abs=0.02)
    assert drawn == resampling.paired_permutation(difference[::-1], clips[::-1], draws=8_000)


def test_drawn_p_values_are_never_zero_and_exchange_whole_clips():
    difference = np.ones(400)
    assert resampling.paired_permutation(difference, np.arange(400), draws=999) == 1 / 1000
    assert resampling.paired_permutation(difference, np.repeat([0, 1], 200), draws=999) == 0.5


def test_p_values_are_uniform_where_there_is_no_difference():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(200):
        clip = np.repeat(rng.normal(0, 1, 20), 3)  # images of a clip go together
        found.append(
            resampling.paired_permutation(
                clip + rng.normal(0, 0.3, 60), np.repeat(np.arange(20), 3), draws=200
            )
        )
    assert np.mean(np.array(found) <= 0.05) < 0.1
    assert np.mean(found) == pytest.approx(0.5, abs=0.07)
