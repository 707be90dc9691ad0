"""What is kept of the samples for figures: TACO's first seed with the default bank, and with exchanged sounds."""

import numpy as np
import pytest
from scoring import make_run, make_sample, make_scorer

from taco.cache.hdf5 import CacheWriter, open_cache
from taco.method import evaluate
from taco.method.examples import ExampleWriter
from taco.method.stored import StoredRun

RNG = np.random.default_rng(0)


@pytest.fixture
def runs(tmp_path):
    """Open factor files of the proposed variant and of the one with exchanged sounds."""
    kept, opened = {}, []
    for prefix, label in (("", "proposed"), ("shuffled/", "shuffled audio")):
        run, path = make_run(label), tmp_path / f"{label}.h5"
        with CacheWriter(path, "factors", ["a"], {"seeds": [0, 1]}) as writer:
            writer.put("image_activations", 0, run.image_activations.numpy().astype(np.float16))
            writer.put("audio_activations", 0, RNG.random((2, 5, 2)).astype(np.float16))
            writer.put("image_factors", 0, run.image_factors.numpy())
            writer.put("k_star", 0, run.k_star.numpy().astype(np.int32))
            writer.put("cross_entropy", 0, RNG.random((2, 2)).astype(np.float32))
        opened.append(open_cache(path, "factors"))
        kept[prefix] = StoredRun(label, "general", opened[-1])
    yield kept
    for cache in opened:
        cache.close()


@pytest.mark.parametrize("task", ["s4", "ade_sp_semantic"])
def test_the_answers_that_are_shown_are_kept_and_no_others(runs, tmp_path, task):
    scorer, semantic = make_scorer(task), task != "s4"
    found = [run.read("a", "cpu") for run in runs.values()]
    sample = make_sample(semantic, runs=[*found, make_run(bank="specific")])
    theirs = evaluate.Prediction(
        "other/s", "contributed", "none", -1, np.full((32, 32), 1 if semantic else 1.0), -1, ""
    )
    sample = sample._replace(contributed=[theirs])
    with ExampleWriter(
        tmp_path / "e.h5", ["a"], runs, ["other/s"], {"task": task, "dataset": "toy", "bank": "general"}
    ) as kept:
        kept.truth(0, sample.truth)
        answers = []
        for answer, _ in scorer.scored(sample, {}, "bell"):
            answers.append(answer)
            kept.answer(0, answer, sample)
    with open_cache(tmp_path / "e.h5", "examples") as cache:
        assert cache.attributes["seed"] == 0 and cache.attributes["task"] == task
        np.testing.assert_array_equal(cache["truth"][0], sample.truth)
        assert cache.attributes["contributed"] == ["other/s"]
        np.testing.assert_array_equal(cache["contributed/0"][0], theirs.scores * (1 if semantic else 255))
        for prefix, run in runs.items():
            answer = next(
                a
                for a in answers
                if (a.method, a.variant, a.bank, a.seed) == ("TACO", run.label, "general", 0)
            )
            scale = 1 if semantic else 255
            np.testing.assert_allclose(
                cache[f"{prefix}prediction"][0], scale * answer.scores.clip(0, answer.scores.max()), atol=0.5
            )
            k = int(cache[f"{prefix}k_star"][0])
            assert k == answer.k_star
            np.testing.assert_array_equal(
                cache[f"{prefix}audio_activation"][0], run.cache["audio_activations"][0][0, :, k]
            )
            np.testing.assert_array_equal(
                cache[f"{prefix}image_factors"][0], run.cache["image_factors"][0][0]
            )
            assert cache[f"{prefix}image_activation"][0].shape == sample.grid
