"""AVSBench S4 and MS3: real layouts → rows, classes and binary truth."""

import logging

import numpy as np
import pandas as pd
import pytest
import trees
from PIL import Image

from taco.data import datasets, manifest
from taco.data.datasets import avsbench
from taco.data.problems import ManifestError


def test_s4_rows(tmp_path):
    first, *_, last = trees.rows(trees.s4(tmp_path))
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
    sample = trees.rows(trees.ms3(tmp_path))[6]
    base = tmp_path / "Multi-sources/ms3_data"
    assert sample["sample_id"] == "v_9_2" and sample["classes"] == []
    assert sample["image"] == f"{base}/visual_frames/v_9/v_9.mp4_2.png"
    assert sample["mask"] == f"{base}/gt_masks/test/v_9/v_9_2.png"
    assert sample["audio"] == f"{base}/audio_wav/test/v_9.wav"


def test_ms3_reads_frame_classes_where_a_list_is_at_hand(tmp_path):
    dataset = trees.ms3(tmp_path)
    trees.write_csv(tmp_path / "frames.csv", ("u_0_1", "dog"), ("u_0_2", "man, dog"), ("u_0_3", ""))
    classes = [sample["classes"] for sample in trees.rows(dataset, frame_classes="frames.csv")]
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
    sample = trees.rows(dataset)[3]
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


def test_categories_that_differ_in_letters_or_blanks_alone_are_refused(tmp_path):
    clips = (
        ("a", "race_car", "test"),
        ("b", "Race_car", "test"),
        ("c", "race car", "train"),
        ("d", "cat", "test"),
    )
    with pytest.raises(ManifestError) as caught:
        trees.rows(trees.s4(tmp_path, clips=clips))
    (problem,) = caught.value.problems
    assert problem.expected == "one spelling of the category 'race_car'"
    assert problem.found == "'race_car' in 1 rows, 'Race_car' in 1 rows, 'race car' in 1 rows"


def test_ms3_takes_the_ids_where_titles_stand_beside_them(tmp_path):
    dataset = trees.ms3(tmp_path)
    before = manifest.build(dataset)
    for header in ("name,video_id,split", "video id,Name,split", "vid,name,split"):
        path = tmp_path / "Multi-sources/ms3_meta_data.csv"
        ids_first = not header.startswith("name")
        cells = [("u_0", "A song"), ("v_9", "Another"), ("w_3", "A third")]
        ordered = [",".join((i, t) if ids_first else (t, i)) for i, t in cells]
        path.write_text("\n".join([header, f"{ordered[0]},test", f"{ordered[1]},test", f"{ordered[2]},val"]))
        pd.testing.assert_frame_equal(manifest.build(dataset), before)


def test_frames_without_classes_and_repeated_ones_are_told(tmp_path, caplog):
    dataset = trees.ms3(tmp_path)
    trees.write_csv(tmp_path / "frames.csv", ("u_0_1", "dog"), ("u_0_2", "man, dog"))
    trees.rows(dataset, frame_classes="frames.csv")
    assert "frames.csv: 8 of 10 frames are not in it" in caplog.text
    trees.add_rows(tmp_path / "frames.csv", "u_0_1,man")
    with pytest.raises(ManifestError, match="one row for frame 'u_0_1'; found lines 1, 3"):
        trees.rows(dataset, frame_classes="frames.csv")
