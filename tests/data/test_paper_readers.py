"""The paper suite's configuration reads data of any size, rate and number of channels: nothing is special-cased.

Once on trees written from scratch, once on the miniature generator's data.
"""

from pathlib import Path

import numpy as np
import pytest
import trees
import yaml

from taco import suites
from taco.data import datasets, manifest, media
from taco.data.problems import ManifestError
from taco.miniature import writer

ROOT = Path(__file__).resolve().parents[2]
READERS = ("s4", "ms3", "avss", "ade")
FRAMES = {"s4": 5, "ms3": 5, "avss": 10, "ade": 1}


@pytest.fixture(scope="module")
def paper():
    """The paper suite's configuration, as a run has it."""
    base, overlay = (
        yaml.safe_load((ROOT / "config" / name).read_text()) for name in ("config.yaml", "paper.yaml")
    )
    config = suites.overlay(base, overlay)
    suites.check(config, ROOT / "config/schemas/config.schema.yaml")
    return config


def options(paper, name, root, **changes):
    """The paper suite's options of a dataset, with the counts of the real one set aside."""
    return {**suites.dataset(paper, name), "root": str(root), "expected": {}, **changes}


def check_whole_way(paper, dataset, frames):
    """Manifest, its checks, and for each sample the image, the truth and the sound that the models take."""
    frame = manifest.build(dataset)
    manifest.check(frame, dataset, workers=1)
    assert set(frame.groupby("clip_id")["frame"].max() + 1) == {frames}
    size, rate = paper["evaluation"]["size"], paper["models"]["clap"]["sample_rate"]
    for row in frame.iloc[:: max(1, len(frame) // 2)].to_dict("records"):
        image = media.read_image(row["image"])
        assert image.dtype == np.uint8 and image.shape[2] == 3
        mask = datasets.read_mask(row, dataset, size)
        assert mask.shape == (size, size)
        wave = media.read_sound(row["audio"], row["start"], row["duration"], rate)
        assert wave.dtype == np.float32 and wave.ndim == 1
        if row["duration"] == row["duration"]:
            assert abs(len(wave) - row["duration"] * rate) <= 1
        window = round(paper["models"]["clap"]["window"] * rate)
        assert media.fit_window(wave, window, paper["features"]["audio_crop"]).shape == (window,)
    return frame


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("size", [(224, 224), (90, 160)], ids=["224x224", "original"])
@pytest.mark.parametrize("name", READERS)
def test_trees_of_every_layout(paper, tmp_path, name, size, rate):
    trees.WRITERS[name](tmp_path, size=size, rate=rate)
    check_whole_way(paper, options(paper, name, tmp_path), FRAMES[name])


@pytest.mark.parametrize("channels", [1, 2])
def test_mono_and_stereo_are_heard_alike(paper, tmp_path, channels):
    trees.s4(tmp_path, rate=44100, channels=channels)
    frame = check_whole_way(paper, options(paper, "s4", tmp_path), 5)
    row = frame.iloc[3]
    wave = media.read_sound(row["audio"], row["start"], row["duration"], 44100)
    # Each second of the tone is louder than the one before: this is the fourth.
    assert np.abs(wave).max() == pytest.approx(0.05 * 4, rel=0.02)


@pytest.mark.parametrize(("subset", "frames"), [("v2", 10), ("v1m", 5)])
def test_avss_clips_of_five_and_ten_frames(paper, tmp_path, subset, frames):
    trees.avss(tmp_path)
    check_whole_way(paper, options(paper, "avss", tmp_path, subset=subset), frames)


@pytest.mark.parametrize("name", ["s4", "ms3", "avss"])
def test_the_real_counts_are_demanded(paper, tmp_path, name):
    trees.WRITERS[name](tmp_path)
    expected = paper["datasets"][name]["expected"]
    assert expected["samples"] == {"s4": 3700, "ms3": 320, "avss": 7500}[name]
    with pytest.raises(ManifestError, match=f"{expected['samples']} samples in the split 'test'"):
        manifest.build(options(paper, name, tmp_path, expected=expected))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The generator's data at another size and rate than the miniature suite's."""
    root = tmp_path_factory.mktemp("world") / "world"
    clips = {name: dict.fromkeys(writer.SPLITS, 2) for name in READERS}
    writer.write_world(root, {"image_size": 224, "sample_rate": 44100, "clips": clips})
    return root


@pytest.mark.parametrize("name", READERS)
def test_the_generators_data_under_the_papers_configuration(paper, world, name):
    frame = check_whole_way(paper, options(paper, name, world / name), FRAMES[name])
    assert frame["clip_id"].nunique() == 2
