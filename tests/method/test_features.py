"""Features: what the caches hold does not depend on batches, shards or the job's threads."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml
from PIL import Image

from taco.cache.hdf5 import CacheWriter, open_cache
from taco.data.media import MediaError
from taco.method import features

ROOT = Path(__file__).resolve().parents[2]
COUNT = 3


@pytest.fixture(scope="module")
def models():
    specs = yaml.safe_load((ROOT / "config/config.yaml").read_text())["models"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return features.load_models(specs, torch.device("cpu"))


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    rows = []
    for number in range(COUNT):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((90 + number, 70), Image.BICUBIC).save(folder / f"{number}.png")
        soundfile.write(folder / f"{number}.wav", rng.uniform(-0.5, 0.5, 24000), 16000)
        rows.append(
            {
                "sample_id": str(number),
                "image": str(folder / f"{number}.png"),
                "audio": str(folder / f"{number}.wav"),
            }
        )
    return pd.DataFrame(rows).assign(start=0.0, duration=np.nan)


def extract(frame, models, folder, *, batch_size=1, threads=1, storage="float16", image_tokens="openclip"):
    """Extract into two caches and read everything back."""
    how = features.Extraction(image_tokens, "random", batch_size, 0)
    ids, places = (
        frame["sample_id"].tolist(),
        {kind: folder / f"{kind}.h5" for kind in ("features", "proposals")},
    )
    with (
        CacheWriter(places["features"], "features", ids, how.attributes()) as tokens,
        CacheWriter(places["proposals"], "proposals", ids, {}, storage={"masks": storage}) as proposals,
    ):
        features.extract(frame, "s4", models, how, tokens, proposals, threads=threads)
    found = {}
    for kind, place in places.items():
        with open_cache(place, kind) as cache:
            found |= {name: np.stack([cache[name][i] for i in range(len(ids))]) for name in cache}
    return found


@pytest.fixture(scope="module")
def alone(frame, models, tmp_path_factory):
    return extract(frame, models, tmp_path_factory.mktemp("alone"), batch_size=1)


def test_caches_hold_what_their_readers_expect(alone):
    assert alone["image_tokens"].shape == (COUNT, 15 * 15, 128)  # 124 pixels at stride 8, unpadded
    assert alone["image_tokens"].dtype == alone["audio_tokens"].dtype == alone["masks"].dtype == np.float16
    assert (alone["grid"] == 15).all() and (alone["geometry"] == (128, 128, 124, 124)).all()
    assert (alone["image_tokens"] >= 0).all() and (alone["audio_tokens"] >= 0).all()
    assert alone["masks"].shape == (COUNT, 24, 32, 32) and alone["pooled"].shape == (COUNT, 24, 128)


def test_threads_change_nothing(frame, models, alone, tmp_path):
    found = extract(frame, models, tmp_path, batch_size=1, threads=3)
    assert set(found) == set(alone)
    for name in alone:
        np.testing.assert_array_equal(found[name], alone[name], err_msg=name)


def test_batches_change_rounding_alone_and_order_not_at_all(frame, models, alone, tmp_path):
    found = extract(frame, models, tmp_path, batch_size=2)
    for name in alone:
        scale = np.abs(alone[name].astype(float)).max()
        np.testing.assert_allclose(found[name], alone[name], rtol=0, atol=2e-3 * scale, err_msg=name)


def test_a_shard_holds_its_part_of_the_whole(frame, models, alone, tmp_path):
    found = extract(frame.iloc[1:], models, tmp_path, batch_size=1)
    for name in alone:
        np.testing.assert_array_equal(found[name], alone[name][1:], err_msg=name)


def test_bytes_change_the_masks_alone(frame, models, alone, tmp_path):
    found = extract(frame, models, tmp_path, batch_size=1, storage="uint8")
    for name in set(alone) - {"masks"}:
        np.testing.assert_array_equal(found[name], alone[name], err_msg=name)
    # Half a step at 32, the widest.
    assert np.abs(found["masks"].astype(float) - np.clip(alone["masks"], -32, 32)).max() < 0.4


@pytest.mark.parametrize("threads", [1, 2])
def test_a_broken_file_is_named_and_leaves_no_cache(frame, models, tmp_path, threads):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    broken = frame.copy()
    broken.loc[2, "image"] = str(tmp_path / "broken.png")
    with pytest.raises(MediaError, match=r"broken\.png"):
        extract(broken, models, tmp_path, threads=threads)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.png"]


def test_without_proposals_tokens_are_the_same_and_the_trunk_runs_once(
    frame, models, alone, tmp_path, monkeypatch
):
    trunk, seen = models.clip.pyramid, []
    monkeypatch.setattr(models.clip, "pyramid", lambda pixels: (seen.append(len(pixels)), trunk(pixels))[1])
    how, ids = features.Extraction("openclip", "random", 1, 0), frame["sample_id"].tolist()
    with CacheWriter(tmp_path / "features.h5", "features", ids, {}) as tokens:
        features.extract(frame, "s4", models, how, tokens, None)
    assert seen == [1] * COUNT
    with open_cache(tmp_path / "features.h5", "features") as cache:
        assert sorted(cache) == ["audio_tokens", "clap_embedding", "grid", "image_tokens"]
        for name in cache:
            found = np.stack([cache[name][index] for index in range(COUNT)])
            np.testing.assert_array_equal(found, alone[name], err_msg=name)


@pytest.mark.parametrize(
    ("sizes", "least", "expected"),
    [([4, 4, 4, 2], 1, [1, 1, 1, 1]), ([4, 4, 4, 2], 8, [2, 2]), ([4, 4, 4], 16, [3]), ([], 16, [])],
)
def test_batches_are_gathered_until_there_are_sounds_enough(sizes, least, expected):
    batches = [{"wave": torch.zeros(size, 3)} for size in sizes]
    groups = list(features.grouped(batches, least))
    assert [len(group) for group in groups] == expected
    assert [batch for group in groups for batch in group] == batches


def test_sounds_heard_together_change_rounding_alone(frame, models, alone, tmp_path, monkeypatch):
    """As on a GPU, where images pass one by one and sounds sixteen at a time."""
    waves = features.reading.batches(
        frame, "s4", features.Extraction("openclip", "random", COUNT, 0).preparation(models), COUNT
    )
    found = features.Leaving(features.sounds(next(waves)["wave"], models)).columns()
    for name, values in found.items():
        scale = np.abs(alone[name].astype(float)).max()
        np.testing.assert_allclose(values, alone[name], rtol=0, atol=2e-3 * scale, err_msg=name)


@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan, 65520.0])
def test_numbers_beyond_half_precision_are_found(wrong):
    values = torch.zeros(2, 3, 4)
    features.Leaving({"masks": values.half()}).columns()
    values[1, 2, 3] = wrong
    with pytest.raises(FloatingPointError, match="masks: expected finite values within ±65504"):
        features.Leaving({"masks": values.half()}).columns()


def test_an_error_of_storing_comes_out_and_at_most_two_batches_wait():
    class Failing:
        def put(self, name, index, value):
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"), features.Storing() as storing:
        for start in range(features.Storing.MOST + 1):
            storing.put(Failing(), {"x": torch.zeros(1, 2)}, start)


@pytest.mark.parametrize(
    ("free", "count"), [(10**12, features.MOST_IMAGES), (10**9, 4), (10**9 // 4, 1), (10, 1)]
)
def test_the_automatic_batch_takes_half_of_the_free_memory(free, count):
    assert features.fitting(free, 10**8) == count


def test_a_batch_size_is_as_configured_and_on_a_cpu_small(models):
    assert features.batch_size(7, models) == 7
    assert features.batch_size("auto", models) == features.IMAGES_ON_CPU
