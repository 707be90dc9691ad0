"""The miniature world: banks, scenes, sounds, and the four datasets on disk."""

import colorsys
import csv
import dataclasses
import hashlib
import json

import numpy as np
import pytest
import soundfile
from PIL import Image

from taco.method.text import bank_labels
from taco.miniature import scenes, sounds, vocabulary, writer

RATE = 16000
CLASSES = vocabulary.SOUNDING + vocabulary.SILENT
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


def rng(seed=0):
    return np.random.default_rng(seed)


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def clips_of(dataset, settings=SETTINGS):
    for split, count in settings.clips[dataset].items():
        for number in range(count):
            yield writer.draw_clip(settings, dataset, split, number)


def sounding_union(clip, masks):
    return np.any([m for m, o in zip(masks, clip.scene.objects, strict=True) if o.sounding], axis=0)


def decibel(ratio):
    return 10 * np.log10(ratio)


class TestVocabulary:
    def test_sizes(self):
        assert len(vocabulary.SOUNDING) == len(set(vocabulary.SOUNDING)) == 12
        assert len(vocabulary.SILENT) == 6
        assert len(vocabulary.FAMILIES) == 6
        assert len(set(vocabulary.UNRELATED)) >= 80
        assert set(vocabulary.SYNONYMS) == set(CLASSES)
        assert min(len(phrases) for phrases in vocabulary.SYNONYMS.values()) >= 3

    def test_general_bank_is_unique_sized_and_complete(self):
        bank = vocabulary.general_bank()
        assert 200 <= len(bank) == len(set(bank)) <= 240
        assert bank[:12] == vocabulary.SOUNDING
        parts = [*CLASSES, *vocabulary.UNRELATED, *vocabulary.BACKGROUND_WORDS, "bell and bird"]
        parts += [phrase for group in vocabulary.SYNONYMS.values() for phrase in group]
        parts += [phrase for group in vocabulary.FAMILY_WORDS.values() for phrase in group]
        assert set(parts) <= set(bank)

    def test_general_bank_is_frozen(self):
        """Scores of different days compare only if the bank is the same; a change of it must be deliberate."""
        digest = hashlib.sha256("\n".join(vocabulary.general_bank()).encode()).hexdigest()
        assert digest == "86b4f6ad7f306f6dfec9a1caa378c96f8d6bda3f179008b23a72dc40b48d97e1"

    def test_a_phrase_names_one_class(self):
        phrases = list(CLASSES)
        phrases += [phrase for group in vocabulary.SYNONYMS.values() for phrase in group]
        assert len(phrases) == len(set(phrases))

    def test_compounds_join_different_families(self):
        pairs = [phrase.split(" and ") for phrase in vocabulary.compounds()]
        assert len(pairs) == 20
        assert all(vocabulary.family_of(a) != vocabulary.family_of(b) for a, b in pairs)

    def test_vocabulary_covers_banks_and_prompts(self):
        known = vocabulary.vocabulary()
        assert list(known) == sorted(set(known))
        assert set(vocabulary.words("A photo of a")) <= set(known)
        assert set(vocabulary.words("This is a sound of")) <= set(known)
        for phrase in vocabulary.general_bank():
            assert set(phrase.split()) <= set(known), phrase

    def test_family_of_refuses_a_silent_class(self):
        with pytest.raises(KeyError, match="'vase' is no sounding class"):
            vocabulary.family_of("vase")

    @pytest.mark.parametrize(
        ("phrase", "expected"), [("urn", "an urn"), ("ukulele", "a ukulele"), ("kite", "a kite")]
    )
    def test_article(self, phrase, expected):
        assert vocabulary.with_article(phrase) == expected


class TestCaptions:
    def test_every_word_is_known(self):
        known, draw = set(vocabulary.vocabulary()), rng(1)
        for _ in range(150):
            names = [CLASSES[i] for i in draw.permutation(18)[: draw.integers(1, 4)]]
            caption = scenes.describe(draw, scenes.sample_scene(draw, sounding=names))
            heard = [vocabulary.SOUNDING[i] for i in draw.permutation(12)[: draw.integers(0, 4)]]
            assert set(vocabulary.words(caption)) <= known
            assert set(vocabulary.words(sounds.describe(draw, heard))) <= known

    def test_image_caption_names_only_what_is_there(self):
        draw = rng(2)
        scene = scenes.sample_scene(draw, sounding=["bell"], silent=["vase"])
        allowed = {"bell", "vase", *vocabulary.SYNONYMS["bell"], *vocabulary.SYNONYMS["vase"]}
        allowed |= set(vocabulary.FAMILY_WORDS["struck metal"])
        others = set(vocabulary.general_bank()) - allowed
        others = {phrase for phrase in others if not any(phrase in good for good in allowed)}
        for _ in range(200):
            caption = f" {scenes.describe(draw, scene)} "
            assert not [phrase for phrase in others if f" {phrase} " in caption], caption

    def test_shares_of_names_synonyms_and_family_words(self):
        draw = rng(3)
        drawn = [sounds.phrase_for(draw, "harp") for _ in range(3000)]
        family = vocabulary.FAMILY_WORDS["string instrument"]
        assert np.mean([phrase == "harp" for phrase in drawn]) == pytest.approx(0.5, abs=0.04)
        assert np.mean([phrase in family for phrase in drawn]) == pytest.approx(0.15, abs=0.03)

    def test_one_of_two_objects_is_left_out_now_and_then(self):
        draw = rng(4)
        captions = [sounds.describe(draw, ["siren", "drum"]) for _ in range(2000)]
        assert np.mean([" and " not in caption for caption in captions]) == pytest.approx(0.1, abs=0.03)

    def test_nothing_to_describe(self):
        with pytest.raises(ValueError, match="empty"):
            scenes.describe(rng(), scenes.Scene("sky", (), 124, 0))
        assert sounds.describe(rng(), []) in vocabulary.SILENCE_CAPTIONS


class TestScenes:
    def test_equal_seeds_give_equal_pictures(self):
        def draw(seed):
            scene = scenes.sample_scene(rng(seed), sounding=["bell", "drum"], silent=["kite"])
            return scenes.render(scene)

        (image, masks), (again, masks_again), (other, _) = draw(5), draw(5), draw(6)
        assert np.array_equal(image, again) and np.array_equal(masks, masks_again)
        assert not np.array_equal(image, other)

    def test_shapes_types_and_disjoint_masks(self):
        scene = scenes.sample_scene(rng(7), sounding=["gong", "harp"], silent=["lamp", "bell"], size=124)
        image, masks = scenes.render(scene)
        assert image.shape == (124, 124, 3) and image.dtype == np.uint8
        assert masks.shape == (4, 124, 124) and masks.dtype == bool
        assert masks.sum(0).max() == 1
        assert {o.name for o in scene.objects if o.sounding} == {"gong", "harp"}

    def test_objects_stay_visible_in_moving_scenes(self):
        for seed in range(12):
            draw = rng(seed)
            names = [CLASSES[i] for i in draw.permutation(18)[:4]]
            scene = scenes.sample_scene(draw, sounding=names[:2], silent=names[2:], moving=True)
            for time in (0.5, 4.5, 9.5):
                _, masks = scenes.render(scene, time)
                for item, mask in zip(scene.objects, masks, strict=True):
                    alone = scenes.render(dataclasses.replace(scene, objects=(item,)), time)[1][0]
                    assert mask.sum() >= scenes.MIN_VISIBLE * alone.sum()

    def test_objects_move_smoothly(self):
        scene = scenes.sample_scene(rng(8), sounding=["mower"], moving=True)
        centres = [np.argwhere(scenes.render(scene, t)[1][0]).mean(0) for t in np.arange(0.5, 9.5)]
        steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
        assert steps.max() < 16 and steps.sum() > 16

    def test_a_still_does_not_move(self):
        scene = scenes.sample_scene(rng(9), sounding=["mower"])
        assert np.array_equal(scenes.render(scene, 0.0)[1], scenes.render(scene, 3.0)[1])

    @pytest.mark.parametrize("name", CLASSES)
    def test_the_mask_holds_the_class_hue(self, name):
        """Inside the mask the class's own hue prevails: the mask lies where the object is drawn."""
        scene = scenes.sample_scene(rng(10), sounding=[name])
        image, masks = scenes.render(scene)
        hue = colorsys.rgb_to_hsv(*scene.objects[0].base)[0]
        inside = np.array([colorsys.rgb_to_hsv(*p) for p in image[masks[0]] / 255])
        gap = np.abs((inside[:, 0] - hue + 0.5) % 1 - 0.5)
        assert np.mean(gap[inside[:, 1] > 0.3] < 0.06) > 0.75
        assert 0.05 < masks[0].mean() < 0.3

    def test_bad_requests(self):
        with pytest.raises(ValueError, match="distinct classes"):
            scenes.sample_scene(rng(), sounding=["bell", "bell"])
        with pytest.raises(ValueError, match="unicorn"):
            scenes.sample_scene(rng(), sounding=["unicorn"])
        with pytest.raises(ValueError, match="found no place"):
            scenes.sample_scene(rng(), sounding=CLASSES)


class TestSounds:
    @pytest.mark.parametrize("name", vocabulary.SOUNDING)
    def test_a_source_is_finite_bounded_reproducible_and_sounds_throughout(self, name):
        wave = sounds.synthesise(rng(11), name, 3.0, RATE)
        assert wave.dtype == np.float32 and wave.shape == (3 * RATE,)
        assert np.isfinite(wave).all() and np.abs(wave).max() <= 1
        assert np.sqrt(np.mean(wave**2)) == pytest.approx(sounds.RMS, rel=0.35)
        assert np.array_equal(wave, sounds.synthesise(rng(11), name, 3.0, RATE))
        assert not np.array_equal(wave, sounds.synthesise(rng(12), name, 3.0, RATE))
        power = np.mean(wave.reshape(6, -1) ** 2, axis=1)
        assert power.min() > 0.1 * power.mean(), "half a second is nearly silent"

    @pytest.mark.parametrize("snr", [-8.0, 2.0])
    def test_the_noise_has_the_level_asked_for(self, snr):
        """The sources draw first, so the same stream without noise is the clean part up to one gain."""
        clean = sounds.mixture(rng(13), ["bell", "mower"], 2.0, RATE).astype(float)
        noisy = sounds.mixture(rng(13), ["bell", "mower"], 2.0, RATE, snr).astype(float)
        factor = noisy @ clean / (clean @ clean)  # noise is uncorrelated with the sources
        noise = noisy - factor * clean
        assert decibel(factor**2 * np.mean(clean**2) / np.mean(noise**2)) == pytest.approx(snr, abs=0.5)
        assert np.abs(noisy).max() <= 1

    def test_the_noise_is_pink(self):
        noise = sounds.mixture(rng(14), [], 8.0, RATE, 0.0)
        density = np.abs(np.fft.rfft(noise)) ** 2
        frequency = np.fft.rfftfreq(len(noise), 1 / RATE)
        octaves = [
            density[(frequency >= low) & (frequency < 2 * low)].sum() for low in (125, 250, 500, 1000, 2000)
        ]
        assert decibel(max(octaves) / min(octaves)) < 1.0  # equal power in each octave

    def test_silence_and_levels(self):
        assert not sounds.mixture(rng(), [], 1.0, RATE).any()
        loud = sounds.mixture(rng(15), ["siren"], 1.0, RATE)
        soft = sounds.mixture(rng(15), ["siren"], 1.0, RATE, name_levels_db=[-20.0])
        assert np.allclose(soft, 0.1 * loud, atol=1e-6)

    def test_bad_requests(self):
        with pytest.raises(ValueError, match="'vase' has no sound"):
            sounds.synthesise(rng(), "vase", 1.0, RATE)
        with pytest.raises(ValueError, match="positive duration"):
            sounds.mixture(rng(), ["bell"], 0.0, RATE)
        with pytest.raises(ValueError, match="one level per source"):
            sounds.mixture(rng(), ["bell"], 1.0, RATE, name_levels_db=[0.0, 1.0])


class TestSettings:
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
    def test_bad_values_are_named(self, change, message):
        with pytest.raises(ValueError, match=message):
            writer.WorldSettings(**change)

    def test_default_counts_give_64_test_images_per_set(self):
        clips = writer.WorldSettings().clips
        assert clips["s4"]["test"] >= 40 and clips["ade"]["test"] >= 64
        assert clips["ms3"]["test"] * writer.MS3_FRAMES >= 64
        assert clips["avss"]["test"] * writer.AVSS_FRAMES >= 64


class TestStreams:
    def test_clips_of_all_splits_and_datasets_differ(self):
        draws = [
            writer.clip_stream(seed, dataset, split, number).random()
            for seed in (0, 1)
            for dataset in writer.DATASETS
            for split in writer.SPLITS
            for number in range(20)
        ]
        assert len(set(draws)) == len(draws)

    def test_a_clip_does_not_depend_on_the_other_counts(self):
        more = dataclasses.replace(SETTINGS, clips={**COUNTS, "s4": {"train": 5, "val": 9, "test": 3}})
        one, other = (writer.draw_clip(settings, "s4", "test", 2) for settings in (SETTINGS, more))
        assert one.scene == other.scene and np.array_equal(one.wave, other.wave)

    def test_classes_take_turns(self):
        leads = [writer.draw_clip(SETTINGS, "ade", "test", number).sounding[0] for number in range(12)]
        assert sorted(leads) == sorted(vocabulary.SOUNDING)

    def test_something_visible_could_sound_but_does_not(self):
        for number in range(6):
            clip = writer.draw_clip(SETTINGS, "s4", "val", number)
            quiet = {o.name for o in clip.scene.objects if not o.sounding}
            assert len(clip.sounding) == 1 and 1 <= len(quiet) <= 2
            assert quiet & set(vocabulary.SOUNDING)

    def test_unknown_keys(self):
        with pytest.raises(ValueError, match="'tets'"):
            writer.clip_stream(0, "s4", "tets", 0)


class TestFiles:
    def test_equal_settings_give_equal_files_and_the_older_world_goes(self, world, tmp_path):
        root = tmp_path / "world"
        root.mkdir()
        (root / "old.txt").write_text("left from before")
        writer.write_world(root, dataclasses.asdict(SETTINGS))
        files = sorted(p.relative_to(world) for p in world.rglob("*") if p.is_file())
        assert files == sorted(p.relative_to(root) for p in root.rglob("*") if p.is_file())
        for file in files:
            assert (world / file).read_bytes() == (root / file).read_bytes(), file
        assert [p.name for p in tmp_path.iterdir()] == ["world"]

    def test_a_failed_write_leaves_the_older_world(self, tmp_path, monkeypatch):
        root = tmp_path / "world"
        root.mkdir()
        (root / "old.txt").write_text("complete")

        def fail(*_):
            raise OSError("no space left on device")

        monkeypatch.setattr(writer, "_write_s4", fail)
        with pytest.raises(OSError, match="no space"):
            writer.write_world(root, SETTINGS)
        assert [p.name for p in root.iterdir()] == ["old.txt"]

    def test_s4(self, world):
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

    def test_ms3(self, world):
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

    def test_avss(self, world):
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

    def test_ade(self, world):
        base = world / "ade"
        rows = rows_of(base / "prompted_segmentation.csv")
        usable = [r for r in rows if r["vggsound_file"] and r["ade_class_id"] != "0"]
        assert len(rows) == len(usable) + 2
        assert [r["vggsound_file"] == "" for r in rows].count(True) == 1
        assert any(int(r["ade_class_id"]) > 255 for r in usable)
        for row, clip in zip(usable, clips_of("ade"), strict=True):
            assert row["split"] == clip.split and row["ade_class_name"] == clip.sounding[0]
            assert Image.open(base / "frames" / row["image_location"]).size == (124, 124)
            assert soundfile.read(base / "audio" / row["vggsound_file"].split("/")[-1])[0].shape == (
                2 * RATE,
            )
            code = Image.open(base / f"annotations/{clip.name}_seg.png").convert("RGB")
            red, green, _ = np.moveaxis(np.asarray(code).astype(int), -1, 0)
            ids = red // 10 * 256 + green
            masks = scenes.render(clip.scene)[1]
            assert np.array_equal(ids == int(row["ade_class_id"]), sounding_union(clip, masks))
            shown = {writer.ADE_CLASS_IDS[o.name] for o in clip.scene.objects}
            assert set(np.unique(ids)) == {0} | shown

    def test_ade_code_refuses_ids_beyond_its_range(self):
        with pytest.raises(ValueError, match="0 to 6399"):
            writer.ade_code(np.full((2, 2), 6400), np.zeros((2, 2), dtype=int))

    def test_voc_palette_is_the_published_one(self):
        """First colours of PASCAL VOC: background, aeroplane, bicycle, …, and the last, the border's 255."""
        expected = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]
        palette = writer.voc_palette()
        assert [tuple(c) for c in palette[:5].tolist()] == expected
        assert tuple(palette[20].tolist()) == (0, 64, 128) and tuple(palette[255].tolist()) == (224, 224, 192)


def test_the_general_bank_has_the_columns_of_audiosets_list(world):
    labels = bank_labels(str(world / "class_labels_indices.csv"), [])
    assert labels == list(vocabulary.general_bank())
