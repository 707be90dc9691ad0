"""Readers: real layouts → rows, classes and truth masks, with the noise and the traps of the published metadata."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import trees
from PIL import Image

from taco import metrics
from taco.data import datasets, manifest
from taco.data.datasets import avsbench, avss, common
from taco.data.problems import ManifestError

READERS = sorted(trees.WRITERS)


def rows(dataset, **options):
    """The manifest of a tree as a list of rows."""
    return manifest.build({**dataset, **options}).to_dict("records")


@pytest.mark.parametrize("reader", READERS)
def test_every_path_of_every_layout_exists_and_all_checks_pass(tmp_path, reader):
    dataset = trees.WRITERS[reader](tmp_path)
    frame = manifest.build(dataset)
    manifest.check(frame, dataset)
    for column in ("image", "audio", "mask"):
        assert all(Path(path).is_file() for path in frame[column])
    names = datasets.class_names(dataset)
    assert set(frame["classes"].explode().dropna()) <= set(names) and len(set(names)) == len(names)


@pytest.mark.parametrize("options", [{"size": (224, 224), "rate": 16000}, {"size": (36, 64), "rate": 44100}])
@pytest.mark.parametrize("reader", READERS)
def test_no_size_or_rate_is_special(tmp_path, reader, options):
    dataset = trees.WRITERS[reader](tmp_path, **options)
    frame = manifest.build(dataset)
    manifest.check(frame, dataset)
    for size in (20, 224):
        mask = datasets.read_mask(frame.iloc[0], dataset, size)
        assert mask.shape == (size, size) and mask.any() and not mask.all()


def test_s4_rows(tmp_path):
    first, *_, last = rows(trees.s4(tmp_path))
    base = tmp_path / "Single-source/s4_data"
    assert first == {
        "sample_id": "a1b2_1",
        "clip_id": "a1b2",
        "frame": 0,
        "image": f"{base}/visual_frames/test/dog_barking/a1b2/a1b2_1.png",
        "audio": f"{base}/audio_wav/test/dog_barking/a1b2.wav",
        "start": 0.0,
        "duration": 1.0,
        "mask": f"{base}/gt_masks/test/dog_barking/a1b2/a1b2_1.png",
        "classes": ["dog barking"],
        "class_id": -1,
        "split": "test",
    }
    assert (last["sample_id"], last["frame"], last["start"]) == ("-c3_d4_5", 4, 4.0)


def test_s4_class_names_are_those_of_all_splits_in_the_order_of_the_csv(tmp_path):
    dataset = trees.s4(
        tmp_path, clips=(("a", "race_car", "train"), ("b", "cat", "val"), ("c", "race_car", "test"))
    )
    assert datasets.class_names(dataset) == ["race car", "cat"]


def test_training_clips_of_s4_have_truth_for_their_first_frame_only(tmp_path):
    dataset = trees.s4(tmp_path) | {"split": "train"}
    frame = manifest.build(dataset)
    manifest.check(frame, dataset)
    assert [bool(mask) for mask in frame["mask"]] == [True, False, False, False, False]
    with pytest.raises(ValueError, match="has no truth"):
        datasets.read_mask(frame.iloc[1], dataset, 24)


def test_ms3_rows_have_mp4_in_the_names_of_frames_and_no_split_in_their_folder(tmp_path):
    sample = rows(trees.ms3(tmp_path))[6]
    base = tmp_path / "Multi-sources/ms3_data"
    assert sample["sample_id"] == "v_9_2" and sample["classes"] == []
    assert sample["image"] == f"{base}/visual_frames/v_9/v_9.mp4_2.png"
    assert sample["mask"] == f"{base}/gt_masks/test/v_9/v_9_2.png"
    assert sample["audio"] == f"{base}/audio_wav/test/v_9.wav"


def test_ms3_reads_frame_classes_where_a_list_is_at_hand(tmp_path):
    dataset = trees.ms3(tmp_path)
    trees.write_csv(tmp_path / "frames.csv", ("u_0_1", "dog"), ("u_0_2", "man, dog"), ("u_0_3", ""))
    classes = [sample["classes"] for sample in rows(dataset, frame_classes="frames.csv")]
    assert classes[:4] == [["dog"], ["man", "dog"], [], []]


def test_ms3_asks_for_class_names(tmp_path):
    dataset = trees.ms3(tmp_path)
    del dataset["classes"]
    with pytest.raises(
        ManifestError, match=r"ms3_meta_data.csv: expected class names.*List them as `classes`"
    ):
        datasets.class_names(dataset)


@pytest.mark.parametrize(("reader", "palette"), [("s4", False), ("ms3", True)])
def test_binary_truth_is_what_was_drawn(tmp_path, reader, palette):
    dataset = trees.WRITERS[reader](tmp_path)
    sample = rows(dataset)[3]
    mask = datasets.read_mask(sample, dataset, 24)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, trees.square((24, 24), 0 if palette else 3))


def test_silent_frames_have_empty_truth_and_silence(tmp_path, caplog):
    dataset = trees.ms3(tmp_path)
    frame = manifest.build(dataset)
    with caplog.at_level(logging.WARNING):
        manifest.check(frame, dataset)
    assert "2 of 10 masks have empty truth (legal)" in caplog.text
    assert not datasets.read_mask(frame.iloc[1], dataset, 24).any()


def test_avss_rows(tmp_path):
    samples = rows(trees.avss(tmp_path))
    assert len(samples) == 20
    assert samples[13] == {
        "sample_id": "y_5_15000_3",
        "clip_id": "y_5_15000",
        "frame": 3,
        "image": f"{tmp_path}/v2/y_5_15000/frames/3.jpg",
        "audio": f"{tmp_path}/v2/y_5_15000/audio.wav",
        "start": 3.0,
        "duration": 1.0,
        "mask": f"{tmp_path}/v2/y_5_15000/labels_rgb/3.png",
        "classes": ["emergency-car"],
        "class_id": -1,
        "split": "test",
    }


@pytest.mark.parametrize(("subset", "count"), [("v2", 20), ("v1m", 5), (["v1m", "v2"], 25)])
def test_avss_subsets(tmp_path, subset, count):
    assert len(rows(trees.avss(tmp_path), subset=subset)) == count


def test_avss_class_names_follow_the_keys_of_label2idx_not_its_values(tmp_path):
    assert datasets.class_names(trees.avss(tmp_path)) == list(trees.AVSS_CLASSES)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"dog": 0, "background": 1}', '{"background": 0, "dog": 1, "dog": 2}']
)
def test_avss_refuses_a_label_list_that_is_none(tmp_path, text):
    dataset = trees.avss(tmp_path)
    (tmp_path / "label2idx.json").write_text(text)
    with pytest.raises(ManifestError, match=r'label2idx.json: expected a JSON object .*"background" first'):
        datasets.class_names(dataset)


def test_avss_known_noise_is_normalised_and_counted(tmp_path, caplog):
    noisy = ("h orse", "man_h orse", "off-the-screen", "background", "dog_off-the-screen")
    dataset = trees.avss(tmp_path, clips=[(f"c{n}", name, "test", "v1m") for n, name in enumerate(noisy)])
    with caplog.at_level(logging.WARNING):
        frame = manifest.build({**dataset, "subset": "v1m"})
    assert frame["classes"][::5].tolist() == [["horse"], ["man", "horse"], [], [], ["dog"]]
    assert "'h orse' in a_obj of 2 clips: read as 'horse'" in caplog.text
    assert "'off-the-screen' in a_obj of 2 clips: names no class" in caplog.text
    assert "'background' in a_obj of 1 clips: names no class" in caplog.text


def test_avss_unknown_classes_and_subsets_are_listed_together(tmp_path):
    clips = (("a", "dog_unicorn", "test", "v2"), ("b", "gryphon", "test", "v2"), ("c", "dog", "test", "v9"))
    with pytest.raises(ManifestError) as caught:
        rows(trees.avss(tmp_path, clips=clips))
    found = [problem.found for problem in caught.value.problems]
    assert found == [
        "'v9' in 1 rows",
        "unknown class 'unicorn' in 10 samples",
        "unknown class 'gryphon' in 10 samples",
    ]


def test_palette_is_the_published_one_and_its_inverse_is_exact():
    colours = avss.palette(256)
    assert [tuple(colour) for colour in colours[: len(trees.VOC)]] == list(trees.VOC)
    assert tuple(colours[255]) == (224, 224, 192) and len(np.unique(colours, axis=0)) == 256
    red, green, blue = avss._index_bits()
    index = red[colours[:, 0]] | green[colours[:, 1]] | blue[colours[:, 2]]
    np.testing.assert_array_equal(index, np.arange(256))


@pytest.mark.parametrize("mode", ["P", "RGB", "RGBA"])
def test_avss_truth_is_colour_to_class_in_every_mode(tmp_path, mode):
    dataset = trees.avss(tmp_path, size=(32, 32), mode=mode)
    sample = rows(dataset)[4]
    semantic = Path(sample["mask"]).parents[1] / "labels_semantic" / "4.png"
    mask = datasets.read_mask(sample, dataset, 32)
    assert mask.dtype == np.int64 and set(np.unique(mask)) == {0, 2, 5}
    np.testing.assert_array_equal(mask, np.asarray(Image.open(semantic)))


def test_avss_strange_colours_are_an_error_or_background(tmp_path):
    dataset = trees.avss(tmp_path, mode="RGB")
    sample = rows(dataset)[0]
    clean = datasets.read_mask(sample, dataset, 18)
    image = np.array(Image.open(sample["mask"]))
    image[-1, :3] = (1, 2, 3)
    image[-1, 3] = (64, 0, 128)  # a colour of the palette, but of class 13
    Image.fromarray(image).save(sample["mask"])
    with pytest.raises(ManifestError, match=r"2 other colours: #010203 \(3 pixels\), #400080 \(1 pixels\)"):
        datasets.read_mask(sample, dataset, 18)
    lenient = {**dataset, "unknown_colours": "background"}
    np.testing.assert_array_equal(datasets.read_mask(sample, lenient, 18), clean)


def test_avss_pixels_of_strange_colours_are_counted_and_logged(tmp_path, caplog):
    dataset = trees.avss(tmp_path, mode="RGB") | {"unknown_colours": "background"}
    frame = manifest.build(dataset)
    for place in (0, 7):
        image = np.array(Image.open(frame["mask"][place]))
        image[-1, :3] = (1, 2, 3)
        Image.fromarray(image).save(frame["mask"][place])
    with caplog.at_level(logging.WARNING):
        masks = manifest.check(frame, dataset)
    assert masks["pixels"] == {avss.STRANGE: 6}
    assert f"avss: 6 pixels {avss.STRANGE}" in caplog.text


def test_avss_truth_is_reduced_as_predictions_are(tmp_path):
    """At 720×1280, where the source pixel of floor and that of the centre differ: a perfect prediction scores 100."""
    dataset = trees.avss(tmp_path, size=(720, 1280))
    sample = rows(dataset)[0]
    classes = np.asarray(Image.open(sample["mask"]))
    blobs = np.random.default_rng(0).integers(0, 6, (72, 128)).repeat(10, axis=0).repeat(10, axis=1)
    for drawn in (classes, blobs):
        image = Image.fromarray(drawn.astype(np.uint8), mode="P")
        image.putpalette([value for colour in trees.VOC for value in colour])
        image.save(sample["mask"])
        truth = datasets.read_mask(sample, dataset, 224)
        prediction = as_predictions_are(drawn, 224)
        np.testing.assert_array_equal(truth, prediction)
        row = metrics.semantic_row(prediction, truth, 6, 0)
        assert row["intersection"].tolist() == row["predicted"].tolist() == row["truth"].tolist()
    assert (common.resize_nearest(drawn, 224) != prediction).any()


def as_predictions_are(ids, size):
    """Class ids [H, W] squashed to [size, size] as `taco.method.evaluate` squashes predictions."""
    import torch  # here alone, and slow to import

    squashed = torch.nn.functional.interpolate(torch.tensor(ids)[None, None].float(), (size, size))
    return squashed[0, 0].numpy().astype(np.int64)


@pytest.mark.parametrize(
    ("foreground", "mode", "kind", "differing"),
    [
        (255, "1", "mode 1, first channel 0/255", 0),
        (255, "L", "mode L, first channel 0/255", 0),
        (1, "L", "mode L, first channel 0/1", 48),
        ((255, 0, 0), "RGB", "mode RGB, first channel 0/255", 0),
        ((128, 0, 0), "RGB", "mode RGB, first channel 0/128", 48),
        ((0, 255, 0), "RGB", "mode RGB, first channel 0", 48),
    ],
)
def test_masks_that_the_release_would_read_otherwise_are_counted(
    tmp_path, caplog, foreground, mode, kind, differing
):
    """The release counts the pixels of exactly 255 in the first channel, this project every colour but black."""
    dataset = trees.s4(tmp_path, clips=(("a1b2", "dog_barking", "test"),))
    frame = manifest.build(dataset)
    for number, path in enumerate(frame["mask"]):
        square = trees.square((24, 24), number)
        colour = np.array(foreground, dtype=np.uint8)
        drawn = square[..., None] * colour if colour.ndim else square * colour
        Image.fromarray(drawn.astype(np.uint8)).convert(mode).save(path)
    with caplog.at_level(logging.INFO):
        masks = manifest.check(frame, dataset)
    assert masks == {"masks": 5, "empty": 0, "kinds": {kind: 5}, "pixels": {avsbench.NOT_255: 5 * differing}}
    assert f"s4: 5 masks: {kind}" in caplog.text
    assert [record.levelname for record in caplog.records if avsbench.NOT_255 in record.message] == [
        "WARNING" if differing else "INFO"
    ]
    manifest.write(frame, tmp_path / "s4.parquet", masks)
    assert manifest.read_masks(tmp_path / "s4.parquet") == masks


def test_ade_rows(tmp_path):
    sample = rows(trees.ade(tmp_path))[2]
    assert np.isnan(sample.pop("duration"))
    assert sample == {
        "sample_id": "sub_c__r_000030",
        "clip_id": "sub_c__r_000030",
        "frame": 0,
        "image": f"{tmp_path}/frames/sub/c.jpg",
        "audio": f"{tmp_path}/audio/r_000030.wav",
        "start": 0.0,
        "mask": f"{tmp_path}/annotations/sub/c_seg.png",
        "classes": ["car"],
        "class_id": 2977,
        "split": "test",
    }


def test_ade_drops_and_counts_rows_without_sound_or_class(tmp_path, caplog):
    dataset = trees.ade(tmp_path)
    with open(tmp_path / "prompted_segmentation.csv", "a") as stream:
        stream.write("x.jpg,,41,dog\nx.jpg,nan,41,dog\ny.jpg,s.wav,0,\n")
    with caplog.at_level(logging.WARNING):
        assert len(rows(dataset)) == 3
    assert "2 of 6 rows are left out: without a sound file" in caplog.text
    assert "1 of 6 rows are left out: with class 0" in caplog.text


def test_ade_tells_two_classes_of_one_image_and_sound_apart(tmp_path):
    dataset = trees.ade(tmp_path)
    with open(tmp_path / "prompted_segmentation.csv", "a") as stream:
        stream.write("a.jpg,vgg/p_000010.wav,1330,piano\n")
    found = {sample["sample_id"]: sample["class_id"] for sample in rows(dataset)}
    assert found["a__p_000010__41"] == 41 and found["a__p_000010__1330"] == 1330
    assert "b__q_000000" in found


def test_ade_uses_a_split_column_and_is_all_test_without_one(tmp_path):
    dataset = trees.ade(tmp_path)
    with pytest.raises(ManifestError, match=r"'val'; found an empty split \(rows by split: 'test': 3\)"):
        rows(dataset, split="val")
    table = [
        line + f",{split}"
        for line, split in zip(csv_lines(tmp_path), ("split", "test", "val", "test"), strict=True)
    ]
    (tmp_path / "prompted_segmentation.csv").write_text("\n".join(table))
    assert [sample["classes"] for sample in rows(dataset, split="val")] == [["piano"]]
    assert datasets.class_names({**dataset, "split": "val"}) == ["dog", "piano", "car"]


def csv_lines(root):
    return (root / "prompted_segmentation.csv").read_text().split()


def test_ade_takes_names_from_the_configuration_where_the_csv_has_none(tmp_path):
    dataset = trees.ade(tmp_path, names=False)
    with pytest.raises(ManifestError, match="expected a name for class 41; found none") as caught:
        rows(dataset)
    assert len(caught.value.problems) == 3
    named = {**dataset, "class_labels": trees.ADE_NAMES}
    assert [sample["classes"] for sample in rows(named)] == [["dog"], ["piano"], ["car"]]


def test_ade_refuses_ids_that_are_none_and_two_names_for_one_id(tmp_path):
    dataset = trees.ade(tmp_path)
    with open(tmp_path / "prompted_segmentation.csv", "a") as stream:
        stream.write(
            "a.jpg,s.wav,4.5,dog\na.jpg,t.wav,-1,dog\na.jpg,u.wav,cat,dog\na.jpg,p_000010.wav,41,hound\n"
        )
    with pytest.raises(ManifestError) as caught:
        manifest.build(dataset, require_files=False)
    text = str(caught.value)
    for part in (
        "'4.5' in 1 rows",
        "'-1' in 1 rows",
        "'cat' in 1 rows",
        "one name for class 41; found 'dog', 'hound'",
    ):
        assert part in text
    assert "one sample 'a__p_000010'; found 2 rows" in text


@pytest.mark.parametrize("convention", ["paper", "nearest"])
def test_ade_truth_in_both_tasks(tmp_path, convention):
    dataset = trees.ade(tmp_path, size=(32, 32)) | {"mask_resize": convention}
    samples = rows(dataset)
    expected = np.zeros((32, 32), dtype=bool)
    expected[8:24, 4:12] = True
    for number, sample in enumerate(samples):
        mask = datasets.read_mask(sample, dataset, 32)
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, expected)
        semantic = datasets.read_mask(sample, dataset, 32, "semantic")
        assert semantic.dtype == np.int64
        np.testing.assert_array_equal(semantic, expected * (number + 1))


def test_the_papers_resize_of_class_ids_erodes_borders_and_nearest_does_not(tmp_path):
    dataset = trees.ade(tmp_path, size=(64, 64))
    sample = rows(dataset)[1]
    for size in (20, 27, 40):
        nearest = datasets.read_mask(sample, dataset, size)
        paper = datasets.read_mask(sample, dataset | {"mask_resize": "paper"}, size)
        assert 0 < paper.sum() < nearest.sum(), size


def test_a_prompted_class_that_is_absent_is_empty_truth_with_a_warning(tmp_path, caplog):
    dataset = trees.ade(tmp_path)
    frame = manifest.build(dataset)
    trees.ade_image(np.full((32, 24), 7)).save(frame["mask"][0])
    with caplog.at_level(logging.WARNING):
        manifest.check(frame, dataset)
    assert "1 of 3 masks have empty truth (legal)" in caplog.text
    assert not datasets.read_mask(frame.iloc[0], dataset, 24).any()


SHAPES = [
    ((7, 12), 5),
    ((12, 7), 30),
    ((9, 9), 9),
    ((1, 4), 3),
    ((6, 5), 1),
    ((720, 1280), 224),
    ((447, 223), 224),
]


@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_resizing_agrees_with_torch(shape, size):
    import torch  # here alone, and slow to import

    values = np.random.default_rng(0).integers(0, 3000, shape)
    tensor = torch.from_numpy(values)[None, None].float()
    for resize, options in (
        (common.resize_bilinear, {"mode": "bilinear", "align_corners": True}),
        (common.resize_floor, {"mode": "nearest"}),
        (common.resize_nearest, {"mode": "nearest-exact"}),
    ):
        expected = torch.nn.functional.interpolate(tensor, (size, size), **options)[0, 0].numpy()
        np.testing.assert_allclose(resize(values, size), expected, rtol=1e-6)


def test_the_papers_truth_of_ade_is_the_releases_pixel_for_pixel(tmp_path):
    """Ids interpolated in float32 with aligned corners, compared for equality; source positions are whole at 447 × 670."""
    import torch  # here alone, and slow to import

    coarse = np.random.default_rng(1).integers(0, 3000, (15, 20))
    for shape in ((300, 400), (447, 670)):
        zoom = [np.arange(length) * n // length for length, n in zip(shape, coarse.shape, strict=True)]
        ids = coarse[np.ix_(*zoom)]
        dataset = trees.ade(tmp_path, size=shape) | {"mask_resize": "paper"}
        sample = rows(dataset)[0]
        trees.ade_image(ids).save(sample["mask"])
        interpolated = torch.nn.functional.interpolate(
            torch.from_numpy(ids)[None, None].float(), (224, 224), mode="bilinear", align_corners=True
        )[0, 0].numpy()
        for number in np.unique(ids)[::25]:
            mask = datasets.read_mask(sample | {"class_id": number}, dataset, 224)
            np.testing.assert_array_equal(mask, interpolated == number)


@pytest.mark.parametrize(
    ("reader", "wrong"), [("s4", "semantic"), ("ms3", "semantic"), ("avss", "binary"), ("ade", "soft")]
)
def test_truth_that_a_dataset_does_not_have_is_refused(tmp_path, reader, wrong):
    dataset = trees.WRITERS[reader](tmp_path)
    with pytest.raises(ValueError, match=f"not '{wrong}'"):
        datasets.read_mask(rows(dataset)[0], dataset, 24, wrong)


def test_wrong_options_are_refused(tmp_path):
    dataset = trees.ade(tmp_path) | {"mask_resize": "bicubic"}
    with pytest.raises(ValueError, match="mask_resize must be one of paper, nearest"):
        datasets.read_mask(rows(dataset)[0], dataset, 24)
    with pytest.raises(ValueError, match="subset must be"):
        rows(trees.avss(tmp_path), subset="v3")
    with pytest.raises(ValueError, match="unknown reader 's5'; known: s4, ms3, avss, ade"):
        rows(dataset, reader="s5")
    with pytest.raises(ValueError, match="frame_seconds must be > 0"):
        rows(trees.s4(tmp_path), frame_seconds=0)


def test_frames_may_be_other_than_a_second_apart(tmp_path):
    samples = rows(trees.s4(tmp_path), frame_seconds=0.5)
    assert [sample["start"] for sample in samples[:5]] == [0, 0.5, 1, 1.5, 2] and samples[0][
        "duration"
    ] == 0.5


@pytest.mark.parametrize(
    "name", ["../out", "/etc/passwd", "a/../../b", "..", "", "a\\b", "C:/x", "a\nb", "./a", "a//b"]
)
def test_names_that_leave_the_folder_are_refused(name):
    with pytest.raises(ValueError, match="no path inside the dataset"):
        common.inside("root", "frames", name)


def test_names_inside_are_kept_as_they_are():
    assert common.inside("root", "sub/-x $(y).png", "née") == "root/sub/-x $(y).png/née"


@pytest.mark.parametrize("reader", READERS)
def test_hostile_metadata_is_an_error_that_names_the_cell(tmp_path, reader):
    dataset = trees.WRITERS[reader](tmp_path)
    path, line, cell = {
        "s4": ("Single-source/s4_meta_data.csv", "../../x,0,dog_barking,test", "../../x"),
        "ms3": ("Multi-sources/ms3_meta_data.csv", "a/b,test", "a/b"),
        "avss": ("metadata.csv", "x,/etc/x,0,0,dog,test,v2", "/etc/x"),
        "ade": ("prompted_segmentation.csv", "../../a.jpg,s.wav,41,dog", "../../a.jpg"),
    }[reader]
    with open(tmp_path / path, "a") as stream:
        stream.write(line + "\n")
    with pytest.raises(ManifestError) as caught:
        rows(dataset)
    (problem,) = caught.value.problems
    assert problem.file == str(tmp_path / path) and repr(cell) in problem.found


@pytest.mark.parametrize("reader", READERS)
def test_metadata_that_is_missing_empty_or_without_its_columns_is_refused(tmp_path, reader):
    dataset = trees.WRITERS[reader](tmp_path)
    path = next(tmp_path.glob("**/*.csv"))
    for content, found in (("a,b\n1,2\n", "a, b (missing: "), ("", "an empty file"), (None, "no such file")):
        path.unlink() if content is None else path.write_text(content)
        with pytest.raises(ManifestError) as caught:
            rows(dataset)
        assert caught.value.problems[0].file == str(path) and found in caught.value.problems[0].found


def test_ids_stay_text_and_cells_are_stripped(tmp_path):
    clips = (("NA", "cat", "test"), ("0012", "cat", "test"), ("1e5", "cat", "test"))
    dataset = trees.s4(tmp_path, clips=clips)
    path = tmp_path / "Single-source/s4_meta_data.csv"
    path.write_text(path.read_text().replace(",cat,", ", cat ,").replace("name", "Name "))
    assert [sample["clip_id"] for sample in rows(dataset)][::5] == ["NA", "0012", "1e5"]


def test_configured_classes_replace_those_of_the_metadata(tmp_path):
    dataset = trees.s4(tmp_path) | {"classes": ["dog barking", "race car", "cat"]}
    assert datasets.class_names(dataset) == ["dog barking", "race car", "cat"]
    with pytest.raises(ValueError, match="repeated names"):
        datasets.class_names({**dataset, "classes": ["cat", "cat"]})
    with pytest.raises(ManifestError, match="unknown class 'dog barking' in 5 samples"):
        rows(dataset, classes=["race car"])


def test_label_lists_are_read_again_when_they_change(tmp_path):
    dataset = trees.avss(tmp_path)
    datasets.class_names(dataset)
    (tmp_path / "label2idx.json").write_text(json.dumps({"background": 0, "cello": 1}))
    assert datasets.class_names(dataset) == ["background", "cello"]
