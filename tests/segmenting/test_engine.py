"""People's own pairs through the pipeline: the very maps that the workflow scores, and answers to any image and sound."""

import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from recorded import tone, write_video

import taco
from taco import suites
from taco.cache.hdf5 import CacheWriter, open_cache
from taco.data import datasets, manifest
from taco.method import evaluate, factorize, features, text
from taco.method.proposals import Kept
from taco.miniature import vocabulary, writer
from taco.segmenting import engine
from taco.segmenting.words import SegmentError

ROOT = Path(__file__).resolve().parents[2]
IMAGE, SOUND, VIDEO = (ROOT / "examples" / name for name in ("guitar.png", "guitar.wav", "engine.mp4"))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    return taco.load("miniature", device="cpu", threads=1)


@pytest.fixture(scope="module")
def answer(model):
    return taco.segment(IMAGE, SOUND, model=model)


def changed(model, **options):
    """The same models with other settings of the section ``segment``."""
    config = {**model.config, "segment": {**model.config["segment"], **options}}
    return engine.Segmenter(model.models, model.labels, config, CPU, model.about["models"])


# ---------------------------------------------------------------------------- the workflow's maps


def solved(result, seed):
    """A run of the only sample, with activations in the precision of the caches."""
    activations = result.image_activations[:, 0].half().float()
    return evaluate.Run(
        "proposed", "general", (seed,), activations, result.image_factors[:, 0], result.k_star[:, 0]
    )


@pytest.fixture(scope="module")
def scored(model, tmp_path_factory):
    """Two manifest rows of the miniature ADE SP, and what the workflow's stages score of them, by method and seed."""
    folder = tmp_path_factory.mktemp("workflow")
    once = dict.fromkeys(writer.SPLITS, 1)
    counts = {name: once | {"test": 2 if name == "ade" else 1} for name in writer.DATASETS}
    writer.write_world(folder / "world", writer.WorldSettings(clips=counts))
    config, models = model.config, model.models
    options = {**suites.dataset(config, "ade"), "root": str(folder / "world/ade")}
    frame, classes = manifest.build(options), datasets.class_names(options)
    ids = frame["sample_id"].tolist()
    how = features.Extraction("fcclip", config["features"]["audio_crop"], 1, config["seed"])
    with (
        CacheWriter(folder / "features.h5", "features", ids, {"dataset": "ade"}) as tokens,
        CacheWriter(folder / "proposals.h5", "proposals", ids, {}) as proposals,
    ):
        features.extract(frame, "ade", models, how, tokens, proposals)
    banks = {"ade/general": vocabulary.general_bank(), "ade/classes": classes}
    constants = text.model_constants(models.clip, models.clap, models.fcclip)
    text.write(folder / "text.h5", banks, config["prompts"], models.clip, models.clap, constants, {})
    words = text.Text(folder / "text.h5")
    settings = evaluate.Scoring("ade_sp", "ade", 124, 0, ("list",), (), 0.0, 1.0)
    scorer = evaluate.Scorer(settings, words.labels("ade", "classes"), words.constants, CPU)
    run = factorize.Run("general", "proposed", "own", suites.solver_settings(config, "ade", "proposed"))
    found = []
    for number in range(len(frame)):
        rows = frame.iloc[number : number + 1]
        shard = factorize.Shard(
            "ade", rows, frame, {"own": [folder / "features.h5"]}, words, config["seed"], {}
        )
        answers = {}
        for seed in (0, 1):
            result, _ = factorize.solve(shard, run, (seed,), CPU)
            with (
                open_cache(folder / "features.h5", "features") as tokens,
                open_cache(folder / "proposals.h5", "proposals") as proposals,
            ):
                sample = evaluate.Sample(
                    key=shard.keys[0],
                    proposals=next(Kept(proposals, CPU).of(ids[number : number + 1])),
                    clap_embedding=torch.from_numpy(tokens["clap_embedding"][number]),
                    grid=tuple(tokens["grid"][number].tolist()),
                    truth=np.zeros((124, 124), dtype=bool),
                    runs=[solved(result, seed)],
                )
            answers |= {(a.method, a.seed): a for a in scorer.predictions(sample, 0)}
        found.append((frame.iloc[number], shard.keys[0], answers))
    return found


@pytest.mark.parametrize(("segmenter", "method"), [(True, "TACO"), (False, "U only")])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_very_map_that_the_workflow_scores(model, scored, segmenter, method, seed):
    for row, key, answers in scored:
        found = model.segment(row["image"], row["audio"], seeds=[seed], segmenter=segmenter, key=key)
        expected = answers[method, seed]
        # The workflow decodes all runs of an image together, which rounds differently.
        np.testing.assert_allclose(found.map, expected.scores, rtol=1e-4, atol=1e-6)
        assert found.confidence == pytest.approx(expected.span[1], rel=1e-5)
        assert found.chosen == expected.k_star


# ---------------------------------------------------------------------------- answers


def test_the_shipped_pair_is_found_and_named(answer):
    assert answer.mask.shape == answer.map.shape == answer.image.shape[:2] == (124, 124)
    assert answer.mask.dtype == bool and answer.map.dtype == np.float32
    assert answer.words[0].text in vocabulary.SYNONYMS["guitar"] + ("guitar", "string instrument")
    assert answer.visible and 0.02 < answer.mask.mean() < 0.5
    still = writer.draw_clip(writer.WorldSettings(seed=11), "ade", "test", 4)
    assert still.sounding == ("guitar",)


def test_files_pictures_and_arrays_are_one(model, answer):
    pixels = np.array(Image.open(IMAGE).convert("RGB"))
    import soundfile

    samples, rate = soundfile.read(SOUND, dtype="int16")
    for image, sound in ((pixels, (samples, rate)), (Image.open(IMAGE), str(SOUND))):
        np.testing.assert_array_equal(taco.segment(image, sound, model=model).map, answer.map)


def test_activations_are_those_of_all_factors(answer):
    image, sound = answer.activations
    assert image.shape == (*answer.factors[0].image_activation.shape, 8)
    assert sound.shape == (*answer.factors[0].sound_activation.shape, 8)
    assert image.min() > 0 and image.max() < 1 and sound.min() > 0 and sound.max() < 1


def test_the_words_are_those_that_the_penalty_compares(model, answer):
    """From the cosines behind the words follow the cross-entropies by which the factor was chosen."""
    tau = model.models.clap.logit_scale
    looked, _ = model._look(answer.image, answer.wave, segmenter=False)
    tokens = [torch.from_numpy(looked[name][0]) for name in ("image_tokens", "audio_tokens")]
    activations = [torch.from_numpy(side).flatten(0, 1) for side in answer.activations]
    parts = [engine.lexicon.components(*pair) for pair in zip(tokens, activations, strict=True)]
    seen, heard = map(torch.from_numpy, model.lexicon.similarities(*parts))
    expected = -((tau * heard).softmax(-1) * seen.log_softmax(-1)).sum(-1)
    found = [factor.cross_entropy for factor in answer.factors]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert answer.chosen == int(np.argmin(found))
    assert answer.margin == pytest.approx(np.partition(found, 1)[1] - min(found))
    assert [word.image for word in answer.words] == sorted(
        (word.image for word in answer.words), reverse=True
    )
    assert answer.words[0].image == pytest.approx(float(seen[answer.chosen].max()))
    assert answer.heard[0].sound == pytest.approx(float(heard[answer.chosen].max()))


def test_of_several_seeds_the_one_of_least_cross_entropy_answers(model):
    alone = [taco.segment(IMAGE, SOUND, model=model, seeds=[seed]) for seed in (0, 1, 2)]
    best = min(alone, key=lambda answer: answer.factors[answer.chosen].cross_entropy)
    found = taco.segment(IMAGE, SOUND, model=model, seeds=[0, 1, 2])
    assert found.seed == best.seed
    assert np.abs(found.map - best.map).mean() < 0.01  # solved together, sums are rounded otherwise


def test_nothing_visible_is_an_empty_mask_that_says_so(model):
    faint = taco.segment(
        IMAGE, SOUND, model=changed(model, confidence_threshold={"TACO": 1e9, "U only": None})
    )
    assert not faint.visible and not faint.mask.any() and faint.map.max() > 0.9
    assert faint.record()["visible"] is False
    never = taco.segment(
        IMAGE, SOUND, model=changed(model, confidence_threshold={"TACO": None, "U only": None})
    )
    assert never.visible and never.mask.any()


@pytest.mark.parametrize("size", [(1, 1), (900, 4), (37, 53)])
def test_any_size_of_image_is_answered_at_that_size(model, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = taco.segment(image, (tone(0.05, 44100)[:, 0], 44100), model=model)
    assert found.mask.shape == found.map.shape == size
    assert np.isfinite(found.map).all() and found.sound["repeated"] == pytest.approx(20)


def test_silence_is_answered(model):
    found = taco.segment(IMAGE, (np.zeros(16000), 16000), model=model)
    assert np.isfinite(found.confidence) and len(found.heard) == 5


# ---------------------------------------------------------------------------- video


def test_a_video_is_answered_frame_by_frame_with_the_temporal_term(model):
    found = list(taco.segment_video(VIDEO, model=model))
    assert [answer.time for answer in found] == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert model.settings(temporal=True)["beta_temporal"] == model.config["segment"]["beta_temporal"] > 0
    apart = list(taco.segment_video(VIDEO, model=changed(model, beta_temporal=0.0)))
    assert any(not np.array_equal(a.map, b.map) for a, b in zip(found, apart, strict=True))


def test_a_long_video_is_solved_in_pieces(model, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "FRAMES_TOGETHER", 2)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", list(pixels), range(5), wave=tone(5, 16000))
    answers = taco.segment_video(tmp_path / "a.mp4", model=model, segmenter=False)
    assert [answer.time for answer in answers] == [0.5, 1.5, 2.5, 3.5, 4.5]


# ---------------------------------------------------------------------------- loading


def test_words_of_ones_own(model):
    digests = features.model_digests(model.config["models"])
    labels = engine.lexicon.embed(["guitar", "engine"], model.models, model.config["prompts"], digests)
    found = taco.segment(
        IMAGE, SOUND, model=engine.Segmenter(model.models, labels, model.config, CPU, digests)
    )
    assert found.words[0].text == found.heard[0].text == "guitar"
    assert len(found.words) == 2


def test_words_are_embedded_once(model, tmp_path, monkeypatch, caplog):
    """Another word, prompt or model is embedded anew, a damaged file too; a folder that cannot be written is no error."""
    digests, prompts = features.model_digests(model.config["models"]), model.config["prompts"]
    monkeypatch.setenv("TACO_CACHE", str(tmp_path))
    first = engine.lexicon.embed(["guitar", "engine"], model.models, prompts, digests)
    again = engine.lexicon.embed(["guitar", "engine"], None, prompts, digests)
    assert first.names == again.names
    np.testing.assert_array_equal(first.clip, again.clip)
    np.testing.assert_array_equal(first.clap, again.clap)
    for changed in (
        (["guitar", "drum"], prompts, digests),
        (["guitar", "engine"], prompts, {"clip_digest": "0"}),
    ):
        with pytest.raises(AttributeError):
            engine.lexicon.embed(changed[0], None, *changed[1:])
    (kept,) = (tmp_path / "words").iterdir()
    kept.write_bytes(kept.read_bytes()[:-100])
    anew = engine.lexicon.embed(["guitar", "engine"], model.models, prompts, digests)
    np.testing.assert_array_equal(first.clip, anew.clip)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TACO_CACHE", str(tmp_path / "file"))
    anew = engine.lexicon.embed(["guitar", "engine"], model.models, prompts, digests)
    np.testing.assert_array_equal(first.clip, anew.clip)
    assert "cannot be kept" in caplog.text


@pytest.mark.parametrize(("options", "expected"), [
    ({"suite": "miniture"}, "miniature or paper"), ({"words": ["one"]}, "at least two"),
    ({"words": "not/there.txt"}, "not/there.txt"), ({"configfile": "not/there.yaml"}, "not/there.yaml"),
    ({"device": "tpu"}, "auto, cpu, cuda"),
])  # fmt: skip
def test_mistakes_are_named(options, expected):
    with pytest.raises((SegmentError, suites.ConfigError, taco.runtime.DeviceError), match=expected):
        taco.load(**options)


def test_seeds_must_differ(model):
    with pytest.raises(SegmentError, match="each once"):
        taco.segment(IMAGE, SOUND, model=model, seeds=[1, 1])


def test_files_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = engine.configuration("miniature", None)
    assert all(Path(spec["weights"]).is_file() for spec in config["models"].values())


def test_the_examples_of_the_docstrings(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = doctest.testmod(engine)
    assert found.attempted >= 5 and found.failed == 0


def test_importing_the_package_loads_no_torch():
    script = "import sys, taco; assert 'torch' not in sys.modules; assert 'load' in dir(taco)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
    assert taco.load is engine.load
    with pytest.raises(AttributeError, match="nothing"):
        _ = taco.nothing
