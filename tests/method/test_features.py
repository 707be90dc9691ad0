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
