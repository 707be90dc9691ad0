"""The miniature world on disk: settings, streams of clips, the four datasets in their formats."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import soundfile
from PIL import Image

from taco.method.text import bank_labels
from taco.miniature import scenes, vocabulary, writer

RATE = 16000
COUNTS = {
    "s4": {"train": 1, "val": 1, "test": 3},
    "ms3": {"train": 1, "val": 1, "test": 4},
    "avss": {"train": 1, "val": 1, "test": 2},
    "ade": {"train": 1, "val": 1, "test": 4},
}
SETTINGS = writer.WorldSettings(clips=COUNTS)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("results") / "world"
    writer.write_world(root, SETTINGS)
    return root


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def clips_of(dataset, settings=SETTINGS):
    for split, count in settings.clips[dataset].items():
        for number in range(count):
            yield writer.draw_clip(settings, dataset, split, number)


def sounding_union(clip, masks):
    return np.any([m for m, o in zip(masks, clip.scene.objects, strict=True) if o.sounding], axis=0)


# ---------------------------------------------------------------- settings and streams


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, r"world\.seed"),
        ({"image_size": 8}, r"world\.image_size"),
        ({"snr_db": (2.0, -8.0)}, r"world\.snr_db"),
        ({"frame_seconds": 0.0}, r"world\.frame_seconds"),
        ({"clips": {**COUNTS, "ade": {"train": 1, "val": 0, "test": 1}}}, r"world\.clips\.ade"),
    ],
)
def test_bad_values_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        writer.WorldSettings(**change)


def test_default_counts_give_64_test_images_per_set():
    clips = writer.WorldSettings().clips
    assert clips["s4"]["test"] >= 40 and clips["ade"]["test"] >= 64
    assert clips["ms3"]["test"] * writer.MS3_FRAMES >= 64
    assert clips["avss"]["test"] * writer.AVSS_FRAMES >= 64


def test_clips_of_all_splits_and_datasets_differ():
    draws = [
        writer.clip_stream(seed, dataset, split, number).random()
        for seed in (0, 1)
        for dataset in writer.DATASETS
        for split in writer.SPLITS
        for number in range(20)
    ]
    assert len(set(draws)) == len(draws)


def test_a_clip_does_not_depend_on_the_other_counts():
    more = dataclasses.replace(SETTINGS, clips={**COUNTS, "s4": {"train": 5, "val": 9, "test": 3}})
    one, other = (writer.draw_clip(settings, "s4", "test", 2) for settings in (SETTINGS, more))
    assert one.scene == other.scene and np.array_equal(one.wave, other.wave)


def test_classes_take_turns():
    leads = [writer.draw_clip(SETTINGS, "ade", "test", number).sounding[0] for number in range(12)]
    assert sorted(leads) == sorted(vocabulary.SOUNDING)


def test_something_visible_could_sound_but_does_not():
    for number in range(6):
        clip = writer.draw_clip(SETTINGS, "s4", "val", number)
        quiet = {o.name for o in clip.scene.objects if not o.sounding}
        assert len(clip.sounding) == 1 and 1 <= len(quiet) <= 2
        assert quiet & set(vocabulary.SOUNDING)


def test_unknown_keys():
    with pytest.raises(ValueError, match="'tets'"):
        writer.clip_stream(0, "s4", "tets", 0)


# ---------------------------------------------------------------- files


def test_equal_settings_give_equal_files_and_the_older_world_goes(world, tmp_path):
    root = tmp_path / "world"
    root.mkdir()
    (root / "old.txt").write_text("left from before")
    writer.write_world(root, dataclasses.asdict(SETTINGS))
    files = sorted(p.relative_to(world) for p in world.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(root) for p in root.rglob("*") if p.is_file())
    for file in files:
        assert (world / file).read_bytes() == (root / file).read_bytes(), file
    assert [p.name for p in tmp_path.iterdir()] == ["world"]


def test_a_failed_write_leaves_the_older_world(tmp_path, monkeypatch):
    root = tmp_path / "world"
    root.mkdir()
    (root / "old.txt").write_text("complete")

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(writer, "_write_s4", fail)
    with pytest.raises(OSError, match="no space"):
        writer.write_world(root, SETTINGS)
    assert [p.name for p in root.iterdir()] == ["old.txt"]


def test_s4(world):
    base = world / "s4/Single-source"
    rows = {row["name"]: row for row in rows_of(base / "s4_meta_data.csv")}
    for clip in clips_of("s4"):
        row = rows.pop(clip.name)
        assert (row["split"], row["category"], row["start"]) == (clip.split, *clip.sounding, "0")
        place = f"{clip.split}/{clip.sounding[0]}"
        wave, rate = soundfile.read(base / f"s4_data/audio_wav/{place}/{clip.name}.wav")
        assert rate == RATE and wave.shape == (5 * RATE, 2) and np.isfinite(wave).all()
        for frame, time in enumerate(clip.times):
            file = f"{place}/{clip.name}/{clip.name}_{frame + 1}.png"
            image, masks = scenes.render(clip.scene, time)
            assert np.array_equal(np.asarray(Image.open(base / "s4_data/visual_frames" / file)), image)
            mask = base / "s4_data/gt_masks" / file
            assert mask.exists() == (clip.split != "train" or frame == 0)
            if mask.exists():
                picture = Image.open(mask)
                assert picture.mode == "1"
                assert np.array_equal(np.asarray(picture), sounding_union(clip, masks))
    assert not rows


def test_ms3(world):
    base, silent = world / "ms3/Multi-sources", 0
    assert len(rows_of(base / "ms3_meta_data.csv")) == 6
    with (base / "ms3_frame_classes.csv").open(encoding="utf-8", newline="") as file:
        named = dict(csv.reader(file))
    for clip in clips_of("ms3"):
        assert 2 <= len(clip.sounding) <= 3
        wave, _ = soundfile.read(base / f"ms3_data/audio_wav/{clip.split}/{clip.name}.wav")
        assert wave.shape == (5 * RATE,)
        for frame, time in enumerate(clip.times):
            picture = base / f"ms3_data/visual_frames/{clip.name}/{clip.name}.mp4_{frame + 1}.png"
            assert Image.open(picture).size == (124, 124)
            mask = Image.open(
                base / f"ms3_data/gt_masks/{clip.split}/{clip.name}/{clip.name}_{frame + 1}.png"
            )
            assert mask.mode == "P"
            values, heard = np.asarray(mask), wave[frame * RATE : (frame + 1) * RATE]
            if frame in clip.silent_frames:
                silent += 1
                assert not values.any() and not heard.any()
                assert named[f"{clip.name}_{frame + 1}"] == ""
            else:
                union = sounding_union(clip, scenes.render(clip.scene, time)[1])
                assert heard.any() and set(np.unique(values)) == {0, 1}
                assert np.array_equal(values > 0, union)
                assert named[f"{clip.name}_{frame + 1}"].split(", ") == list(clip.sounding)
    assert silent == 2


def test_avss(world):
    base, palette = world / "avss", writer.voc_palette()
    keys = list(json.loads((base / "label2idx.json").read_text()))
    values = list(json.loads((base / "label2idx.json").read_text()).values())
    assert keys == list(writer.AVSS_CLASSES) and keys[0] == "background"
    assert values != list(range(13)) and sorted(values) == list(range(13))
    rows = rows_of(base / "metadata.csv")
    assert list(rows[0]) == ["vid", "uid", "s_min", "s_sec", "a_obj", "split", "label"]
    for row, clip in zip(rows, clips_of("avss"), strict=True):
        folder = base / row["label"] / row["uid"]
        assert row["a_obj"].split("_") == list(clip.sounding) and row["split"] == clip.split
        assert soundfile.read(folder / "audio.wav")[0].shape == (10 * RATE,)
        for frame, time in enumerate(clip.times):
            image, masks = scenes.render(clip.scene, time)
            picture = np.asarray(Image.open(folder / f"frames/{frame}.jpg"))
            assert np.abs(picture.astype(int) - image).mean() < 6
            truth = np.zeros((124, 124), dtype=int)
            for item, mask in zip(clip.scene.objects, masks, strict=True):
                if item.name in clip.sounding:
                    truth[mask] = keys.index(item.name)
            coloured = np.asarray(Image.open(folder / f"labels_rgb/{frame}.png").convert("RGB"))
            assert np.array_equal(coloured, palette[truth])
            assert np.array_equal(np.asarray(Image.open(folder / f"labels_semantic/{frame}.png")), truth)


def test_ade(world):
    base = world / "ade"
    rows = rows_of(base / "prompted_segmentation.csv")
    usable = [r for r in rows if r["vggsound_file"] and r["ade_class_id"] != "0"]
    assert len(rows) == len(usable) + 2
    assert [r["vggsound_file"] == "" for r in rows].count(True) == 1
    assert any(int(r["ade_class_id"]) > 255 for r in usable)
    for row, clip in zip(usable, clips_of("ade"), strict=True):
        assert row["split"] == clip.split and row["ade_class_name"] == clip.sounding[0]
        assert Image.open(base / "frames" / row["image_location"]).size == (124, 124)
        assert soundfile.read(base / "audio" / row["vggsound_file"].split("/")[-1])[0].shape == (2 * RATE,)
        code = Image.open(base / f"annotations/{clip.name}_seg.png").convert("RGB")
        red, green, _ = np.moveaxis(np.asarray(code).astype(int), -1, 0)
        ids = red // 10 * 256 + green
        masks = scenes.render(clip.scene)[1]
        assert np.array_equal(ids == int(row["ade_class_id"]), sounding_union(clip, masks))
        shown = {writer.ADE_CLASS_IDS[o.name] for o in clip.scene.objects}
        assert set(np.unique(ids)) == {0} | shown


def test_ade_code_refuses_ids_beyond_its_range():
    with pytest.raises(ValueError, match="0 to 6399"):
        writer.ade_code(np.full((2, 2), 6400), np.zeros((2, 2), dtype=int))


def test_voc_palette_is_the_published_one():
    """First colours of PASCAL VOC: background, aeroplane, bicycle, …, and the last, the border's 255."""
    expected = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]
    palette = writer.voc_palette()
    assert [tuple(c) for c in palette[:5].tolist()] == expected
    assert tuple(palette[20].tolist()) == (0, 64, 128) and tuple(palette[255].tolist()) == (224, 224, 192)


def test_the_general_bank_has_the_columns_of_audiosets_list(world):
    labels = bank_labels(str(world / "class_labels_indices.csv"), [])
    assert labels == list(vocabulary.general_bank())


# ---------------------------------------------------------------- sounds alone


def test_sounds_alone_are_those_of_the_world(world, tmp_path):
    for dataset in writer.DATASETS:
        writer.write_sounds(tmp_path, SETTINGS, dataset, "test")
    found = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.*")}
    inside = {
        path.relative_to(world): path.read_bytes()
        for path in world.rglob("*.wav")
        if "test" in str(path.relative_to(world))
    }
    assert found == inside and len(found) == sum(counts["test"] for counts in COUNTS.values())


def test_another_range_changes_the_level_of_the_noise_alone():
    clips = [
        writer.draw_clip(dataclasses.replace(SETTINGS, snr_db=ends), "ms3", "val", 0)
        for ends in ((40, 50), (-8, 2), (-22, -12))
    ]
    assert len({repr(clip.scene) for clip in clips}) == 1
    clean, usual, noisy = (clip.wave.astype(float) for clip in clips)
    parts = np.stack(
        [clean, usual], axis=1
    )  # source and noise in two mixtures, so any third is a sum of these
    weights = np.linalg.lstsq(parts, noisy, rcond=None)[0]
    assert np.abs(parts @ weights - noisy).max() < 1e-4
    assert weights[1] > 1
