"""Readers of every layout: paths exist, mistakes in metadata and options are refused by name."""

import json
from pathlib import Path

import pytest
import trees

from taco.data import datasets, manifest
from taco.data.problems import ManifestError

READERS = sorted(trees.WRITERS)


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


@pytest.mark.parametrize(
    ("reader", "wrong"), [("s4", "semantic"), ("ms3", "semantic"), ("avss", "binary"), ("ade", "soft")]
)
def test_truth_that_a_dataset_does_not_have_is_refused(tmp_path, reader, wrong):
    dataset = trees.WRITERS[reader](tmp_path)
    with pytest.raises(ValueError, match=f"not '{wrong}'"):
        datasets.read_mask(trees.rows(dataset)[0], dataset, 24, wrong)


def test_wrong_options_are_refused(tmp_path):
    dataset = trees.ade(tmp_path) | {"mask_resize": "bicubic"}
    with pytest.raises(ValueError, match="mask_resize must be one of paper, nearest"):
        datasets.read_mask(trees.rows(dataset)[0], dataset, 24)
    with pytest.raises(ValueError, match="subset must be"):
        trees.rows(trees.avss(tmp_path), subset="v3")
    with pytest.raises(
        ValueError, match="datasets.ade.reader: expected one of s4, ms3, avss, ade, .*found 's5'"
    ):
        trees.rows(dataset, reader="s5")
    with pytest.raises(ValueError, match="frame_seconds must be > 0"):
        trees.rows(trees.s4(tmp_path), frame_seconds=0)


def test_frames_may_be_other_than_a_second_apart(tmp_path):
    samples = trees.rows(trees.s4(tmp_path), frame_seconds=0.5)
    assert [sample["start"] for sample in samples[:5]] == [0, 0.5, 1, 1.5, 2] and samples[0][
        "duration"
    ] == 0.5


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
        trees.rows(dataset)
    (problem,) = caught.value.problems
    assert problem.file == str(tmp_path / path) and repr(cell) in problem.found


@pytest.mark.parametrize("reader", READERS)
def test_metadata_that_is_missing_empty_or_without_its_columns_is_refused(tmp_path, reader):
    dataset = trees.WRITERS[reader](tmp_path)
    path = next(tmp_path.glob("**/*.csv"))
    for content, found in (("a,b\n1,2\n", "a, b (missing: "), ("", "an empty file"), (None, "no such file")):
        path.unlink() if content is None else path.write_text(content)
        with pytest.raises(ManifestError) as caught:
            trees.rows(dataset)
        assert caught.value.problems[0].file == str(path) and found in caught.value.problems[0].found


def test_ids_stay_text_and_cells_are_stripped(tmp_path):
    clips = (("NA", "cat", "test"), ("0012", "cat", "test"), ("1e5", "cat", "test"))
    dataset = trees.s4(tmp_path, clips=clips)
    path = tmp_path / "Single-source/s4_meta_data.csv"
    path.write_text(path.read_text().replace(",cat,", ", cat ,").replace("name", "Name "))
    assert [sample["clip_id"] for sample in trees.rows(dataset)][::5] == ["NA", "0012", "1e5"]


def test_configured_classes_replace_those_of_the_metadata(tmp_path):
    dataset = trees.s4(tmp_path) | {"classes": ["dog barking", "race car", "cat"]}
    assert datasets.class_names(dataset) == ["dog barking", "race car", "cat"]
    with pytest.raises(ValueError, match="repeated names"):
        datasets.class_names({**dataset, "classes": ["cat", "cat"]})
    with pytest.raises(ManifestError, match="unknown class 'dog barking' in 5 samples"):
        trees.rows(dataset, classes=["race car"])


def test_label_lists_are_read_again_when_they_change(tmp_path):
    dataset = trees.avss(tmp_path)
    datasets.class_names(dataset)
    (tmp_path / "label2idx.json").write_text(json.dumps({"background": 0, "cello": 1}))
    assert datasets.class_names(dataset) == ["background", "cello"]
