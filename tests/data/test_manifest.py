"""The manifest: round trip, limit, shards, and every kind of bad input named in one error."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import trees
from PIL import Image

from taco.data import manifest, soundfiles
from taco.data.datasets import common
from taco.data.problems import ManifestError, Problem
from taco.runtime import OutputError


@pytest.fixture
def dataset(tmp_path):
    return trees.s4(tmp_path / "data")


@pytest.fixture
def frame(dataset):
    return manifest.build(dataset)


def problems_of(frame, dataset, **options):
    """The problems that `check` lists."""
    with pytest.raises(ManifestError) as caught:
        manifest.check(frame, dataset, **options)
    return caught.value.problems


def many_clips(counts):
    """A manifest of clips with the given numbers of frames; no file exists."""
    rows = [
        {
            "sample_id": f"c{clip}_{n}",
            "clip_id": f"c{clip}",
            "frame": n,
            "image": "i",
            "audio": "a",
            "start": float(n),
            "duration": 1.0,
            "mask": "m",
            "classes": [],
            "class_id": -1,
            "split": "test",
        }
        for clip, count in enumerate(counts)
        for n in range(count)
    ]
    return manifest.from_rows(rows)


@pytest.mark.parametrize("reader", sorted(trees.WRITERS))
def test_round_trip_through_parquet(tmp_path, reader):
    frame = manifest.build(trees.WRITERS[reader](tmp_path))
    manifest.write(frame, tmp_path / "new/folder/x.parquet")
    again = manifest.read(tmp_path / "new/folder/x.parquet")
    pd.testing.assert_frame_equal(frame, again)
    assert all(type(names) is list for names in again["classes"])
    assert os.listdir(tmp_path / "new/folder") == ["x.parquet"]


def test_columns_and_types_are_those_documented(frame):
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == manifest.COLUMNS
    assert list(frame.index) == list(range(len(frame)))


def test_writing_into_what_is_no_folder_is_one_clear_error(tmp_path, frame):
    (tmp_path / "results").write_text("a file, no folder")
    with pytest.raises(OutputError, match="expected a file that can be written"):
        manifest.write(frame, tmp_path / "results/s4.parquet")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, frame, monkeypatch):
    manifest.write(frame, tmp_path / "m.parquet")
    before = (tmp_path / "m.parquet").read_bytes()

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        manifest.write(manifest.limit(frame, 1), tmp_path / "m.parquet")
    assert (tmp_path / "m.parquet").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["data", "m.parquet"]


def test_reading_what_is_no_manifest_is_refused(tmp_path, frame):
    path = tmp_path / "m.parquet"
    with pytest.raises(ManifestError, match="No such file"):
        manifest.read(path)
    path.write_text("no parquet")
    with pytest.raises(ManifestError, match="expected a manifest of schema 1"):
        manifest.read(path)
    frame.drop(columns="mask").to_parquet(path)
    with pytest.raises(ManifestError, match="found schema none with columns sample_id"):
        manifest.read(path)


def test_limit_keeps_the_first_clips_whole(frame):
    assert manifest.limit(frame, None) is frame
    assert manifest.limit(frame, 1)["sample_id"].tolist() == [f"a1b2_{n}" for n in range(1, 6)]
    pd.testing.assert_frame_equal(manifest.limit(frame, 99), frame)
    with pytest.raises(ValueError, match="at least 1"):
        manifest.limit(frame, 0)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 11, 20])
def test_shards_are_whole_clips_disjoint_in_order_and_even(count):
    whole = many_clips([5, 1, 5, 10, 5, 5, 5, 2, 5, 5, 5])
    parts = [manifest.shard(whole, index, count) for index in range(count)]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole)
    clips = [set(part["clip_id"]) for part in parts]
    assert sum(map(len, clips)) == 11
    assert max(map(len, clips)) - min(map(len, clips)) <= 1
    assert all(list(part.index) == list(range(len(part))) for part in parts)


@pytest.mark.parametrize(("index", "count"), [(-1, 2), (2, 2), (0, 0)])
def test_shards_that_do_not_exist_are_refused(frame, index, count):
    with pytest.raises(ValueError, match="0 <= index < count"):
        manifest.shard(frame, index, count)


def test_class_counts(frame):
    counts = manifest.class_counts(frame)
    assert counts.to_dict() == {"dog barking": 5, "race car": 5} and list(counts.index) == [
        "dog barking",
        "race car",
    ]
    assert manifest.class_counts(many_clips([3])).empty


def test_expected_counts_are_asserted(dataset):
    good = {"samples": 10, "clips": 2, "classes": 2}
    assert len(manifest.build({**dataset, "expected": good})) == 10
    with pytest.raises(ManifestError) as caught:
        manifest.build({**dataset, "expected": {"samples": 3700, "clips": 2, "classes": 23}})
    assert [(p.expected, p.found) for p in caught.value.problems] == [
        ("3700 samples in the split 'test'", "10"),
        ("23 classes in the split 'test'", "2"),
    ]
    with pytest.raises(ValueError, match=r"unknown keys \['frames'\]"):
        manifest.build({**dataset, "expected": {"frames": 1}})


@pytest.mark.parametrize("reader", sorted(trees.WRITERS))
def test_manifests_build_from_metadata_alone(tmp_path, reader):
    dataset = trees.WRITERS[reader](tmp_path)
    with_files = manifest.build(dataset)
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        if path.suffix not in (".csv", ".json"):
            path.unlink() if path.is_file() else (any(path.iterdir()) or path.rmdir())
    pd.testing.assert_frame_equal(manifest.build(dataset, require_files=False), with_files)
    with pytest.raises(ManifestError, match="expected a folder; found none. Place the dataset under"):
        manifest.build(dataset)


def test_an_empty_split_names_the_splits_there_are(dataset):
    with pytest.raises(ManifestError) as caught:
        manifest.build({**dataset, "split": "val"})
    (problem,) = caught.value.problems
    assert problem.found == "an empty split (rows by split: 'test': 2, 'train': 1)"


def test_check_refuses_an_empty_manifest(frame, dataset):
    (problem,) = problems_of(frame.iloc[:0], dataset)
    assert problem.found == "an empty split"


def test_duplicate_ids_unknown_classes_and_other_splits_are_found(frame, dataset):
    twice = pd.concat([frame, frame.iloc[:1]], ignore_index=True)
    assert [problem.found for problem in problems_of(twice, dataset)] == ["2 rows with this id"]
    strange = frame.copy()
    strange.at[3, "classes"] = ["unicorn"]
    strange.at[4, "split"] = "train"
    assert [problem.found for problem in problems_of(strange, dataset)] == [
        "unknown class 'unicorn' in 1 samples",
        "samples of 'train'",
    ]


@pytest.mark.parametrize("column", ["clip_id", "image", "audio", "mask"])
def test_halves_of_signs_are_found_before_a_table_would_have_to_hold_them(column, frame, dataset):
    strange = frame.copy()
    strange[column] = strange[column].where(strange["clip_id"] != strange["clip_id"].iloc[0], "a\udcff")
    found = manifest.structure_problems(strange, dataset)
    assert [problem.found for problem in found] == [repr("a\udcff")]


def test_clips_that_are_parted_or_out_of_order_are_found(frame, dataset):
    parted = frame.iloc[[0, 5, 1, 2]].reset_index(drop=True)
    assert "clip 'a1b2' in several places" in problems_of(parted, dataset)[0].found
    turned = frame.iloc[[1, 0]].reset_index(drop=True)
    assert "clip 'a1b2' out of order" in problems_of(turned, dataset)[0].found


def test_impossible_times_are_found(frame, dataset):
    frame.loc[0, "duration"] = 0.0
    frame.loc[1, "start"] = -1.0
    frame.loc[2, "start"] = np.nan
    assert [problem.found for problem in problems_of(frame, dataset)] == [
        "start 0.0, duration 0.0 in sample 'a1b2_1'",
        "start -1.0, duration 1.0 in sample 'a1b2_2'",
        "start nan, duration 1.0 in sample 'a1b2_3'",
    ]


def spoil(frame):
    """Damage ten files of the S4 tree, each in its own way; expected findings by path."""
    image, mask, audio = frame["image"], frame["mask"], frame["audio"].unique()
    os.remove(image[0])
    Path(image[1]).write_bytes(b"")
    whole = Path(image[3]).read_bytes()
    Path(image[2]).write_bytes(whole[: len(whole) // 2])
    Path(image[4]).write_text("<html>")
    Image.new("1", (24, 23)).save(mask[5])
    Image.fromarray(np.arange(24 * 24, dtype=np.uint8).reshape(24, 24)).save(mask[6])
    os.remove(mask[7])
    shutil.copy(audio[0], mask[8])
    soundfile.write(audio[0], np.full(80000, np.nan, dtype=np.float32), 16000, subtype="FLOAT")
    soundfile.write(audio[1], np.zeros(3 * 16000), 16000)
    return {
        image[0]: "no such file",
        image[1]: "an empty file (0 bytes)",
        image[2]: "undecodable data",
        image[4]: "undecodable data",
        audio[0]: "80000 NaN or infinite samples, the first at 0.000 s",
        audio[1]: "a file of 3.000 s",
        mask[5]: "24×23",
        mask[6]: "255 colours beside black",
        mask[7]: "no such file",
        mask[8]: "undecodable data",
    }


def test_all_problems_of_a_dataset_are_listed_together(frame, dataset):
    expected = spoil(frame)
    problems = problems_of(frame, dataset)
    assert [problem.file for problem in problems] == list(expected)
    for problem in problems:
        assert expected[problem.file] in problem.found and problem.expected and problem.remedy
    assert (
        problems[0].expected == "a complete image" and problems[6].expected == "the size of its image, 24×24"
    )


def test_faulty_metadata_is_listed_with_faulty_files(frame, dataset):
    os.remove(frame["image"][0])
    with pytest.raises(ManifestError) as caught:
        manifest.build({**dataset, "expected": {"samples": 11}})
    assert [problem.found for problem in caught.value.problems] == ["10", "no such file"]


def test_findings_do_not_depend_on_the_number_of_workers(frame, dataset):
    spoil(frame)
    assert problems_of(frame, dataset, workers=1) == problems_of(frame, dataset, workers=7)


def test_a_sound_of_zero_length_is_found(frame, dataset):
    soundfile.write(frame["audio"][0], np.zeros(0), 16000)
    (problem,) = problems_of(frame, dataset)
    assert problem.found == "a sound of zero length"


def test_digital_silence_and_empty_truth_are_legal(frame, dataset):
    soundfile.write(frame["audio"][0], np.zeros(80000), 16000)
    Image.new("1", (24, 24)).save(frame["mask"][0])
    assert manifest.check(frame, dataset)["empty"] == 1


@pytest.mark.parametrize("reader", sorted(trees.WRITERS))
def test_empty_truth_is_legal_for_one_sample_and_not_for_all(tmp_path, reader):
    dataset = trees.WRITERS[reader](tmp_path)
    frame = manifest.build(dataset)
    for path in frame["mask"]:
        Image.new("RGB", Image.open(path).size).save(path)
    (problem,) = problems_of(frame, dataset)
    assert problem.expected == "truth with foreground in one sample at least"
    assert problem.found == f"none in all {len(frame)} masks"


def test_class_numbers_in_place_of_colours_are_found_where_they_are_the_rule(tmp_path):
    dataset = trees.avss(tmp_path) | {"unknown_colours": "background"}
    frame = manifest.build(dataset)
    numbers = [Path(path).parents[1] / "labels_semantic" / Path(path).name for path in frame["mask"]]
    shutil.copy(numbers[0], frame["mask"][0])
    assert manifest.check(frame, dataset)["kinds"][common.CLASS_NUMBERS] == 1
    for number, path in zip(numbers[1:-2], frame["mask"][1:-2], strict=True):
        shutil.copy(number, path)
    (problem,) = problems_of(frame, dataset)
    assert problem.found == f"18 of 20 with {common.CLASS_NUMBERS}"


def test_a_prompted_class_without_any_truth_is_named(tmp_path, caplog):
    dataset = trees.ade(tmp_path)
    frame = manifest.build(dataset)
    trees.ade_image(np.full((32, 24), 7)).save(frame["mask"][1])
    manifest.check(frame, dataset)
    assert "none of the 1 samples of 'piano' has truth: the class scores 0" in caplog.text
    assert "'dog'" not in caplog.text


@pytest.mark.parametrize("reader", sorted(trees.WRITERS))
def test_masks_that_jpeg_has_smeared_are_found(tmp_path, reader):
    dataset = trees.WRITERS[reader](tmp_path) | {"unknown_colours": "background"}
    frame = manifest.build(dataset)
    path = frame["mask"][0]
    Image.open(path).convert("RGB").save(path, "JPEG")
    (problem,) = problems_of(frame, dataset)
    assert problem.file == path and problem.expected == "a mask in a lossless format"


def test_an_error_of_any_type_in_a_decoder_leaves_the_rest_to_be_checked(frame, dataset, monkeypatch):
    failures = iter(
        [ValueError("array is too big"), MemoryError(), OverflowError("too large"), KeyError("x")] * 9
    )

    class Failing:
        def __init__(self, *_):
            raise next(failures)

    monkeypatch.setattr(soundfiles, "_Forwards", Failing)
    monkeypatch.setattr(Image, "open", Failing)
    problems = problems_of(frame, dataset, workers=1)
    files = [*frame["image"], *frame["audio"].unique(), *frame["mask"]]
    assert [problem.file for problem in problems] == files
    assert all("undecodable data" in problem.found for problem in problems)


def test_see_through_images_are_counted(frame, dataset, caplog):
    for path in frame["image"][:3]:
        Image.open(path).convert("RGBA").save(path)
    image = Image.open(frame["image"][0])
    image.putalpha(100)
    image.save(frame["image"][0])
    manifest.check(frame, dataset)
    assert "1 images have transparent pixels, whose stored colours are read" in caplog.text


def test_a_cut_sound_is_found(frame, dataset):
    path = Path(frame["audio"][0])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 84 // 100])  # it still reaches into the last second
    (problem,) = problems_of(frame, dataset)
    assert problem.file == str(path) and "the file was cut" in problem.found


def test_a_short_last_second_is_legal_and_a_missing_one_is_not(frame, dataset):
    path = frame["audio"][0]
    soundfile.write(path, np.zeros(4 * 16000 + 1), 16000)
    manifest.check(frame, dataset)
    soundfile.write(path, np.zeros(4 * 16000), 16000)
    (problem,) = problems_of(frame, dataset)
    assert problem.expected == "sound at 4 s for the last frame" and problem.found == "a file of 4.000 s"


def test_avss_masks_of_another_size_or_colour_are_found(tmp_path):
    dataset = trees.avss(tmp_path)
    frame = manifest.build(dataset)
    Image.new("RGB", (33, 18), (9, 9, 9)).save(frame["mask"][0])
    size, colour = problems_of(frame, dataset)
    assert size.found == "33×18" and size.expected == "the size of its image, 32×18"
    assert colour.found == "1 other colours: #090909 (594 pixels)"


def test_a_test_frame_without_a_mask_is_a_problem(frame, dataset):
    frame.loc[0, "mask"] = ""
    (problem,) = problems_of(frame, dataset)
    assert problem.expected == "a mask for sample 'a1b2_1'"


def test_the_message_holds_twenty_problems_and_the_count():
    problems = [Problem(f"file{n}", "this", "that", "Do so.") for n in range(25)]
    error = ManifestError("s4", problems)
    lines = str(error).split("\n")
    assert lines[0] == "dataset 's4': 25 problems" and lines[-1] == "  … and 5 more" and len(lines) == 22
    assert lines[20] == "  20. file19: expected this; found that. Do so."
    assert error.problems == problems
