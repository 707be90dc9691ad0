"""ADE20K Sound Prompted: rows, class ids and truth as the authors' release reads it."""

import logging
from pathlib import Path

import numpy as np
import pytest
import trees
from PIL import Image

from taco.data import datasets, manifest
from taco.data.datasets import ade
from taco.data.problems import ManifestError


def test_ade_rows(tmp_path):
    sample = trees.rows(trees.ade(tmp_path))[2]
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
        assert len(trees.rows(dataset)) == 3
    assert "2 of 6 rows are left out: without a sound file" in caplog.text
    assert "1 of 6 rows are left out: with class 0" in caplog.text


def test_ade_tells_two_classes_of_one_image_and_sound_apart(tmp_path):
    dataset = trees.ade(tmp_path)
    with open(tmp_path / "prompted_segmentation.csv", "a") as stream:
        stream.write("a.jpg,vgg/p_000010.wav,1330,piano\n")
    found = {sample["sample_id"]: sample["class_id"] for sample in trees.rows(dataset)}
    assert found["a__p_000010__41"] == 41 and found["a__p_000010__1330"] == 1330
    assert "b__q_000000" in found


def test_ade_uses_a_split_column_and_is_all_test_without_one(tmp_path):
    dataset = trees.ade(tmp_path)
    with pytest.raises(ManifestError, match=r"'val'; found an empty split \(rows by split: 'test': 3\)"):
        trees.rows(dataset, split="val")
    table = [
        line + f",{split}"
        for line, split in zip(csv_lines(tmp_path), ("split", "test", "val", "test"), strict=True)
    ]
    (tmp_path / "prompted_segmentation.csv").write_text("\n".join(table))
    assert [sample["classes"] for sample in trees.rows(dataset, split="val")] == [["piano"]]
    assert datasets.class_names({**dataset, "split": "val"}) == ["dog", "piano", "car"]


def csv_lines(root):
    return (root / "prompted_segmentation.csv").read_text().split()


def test_ade_takes_names_from_the_configuration_where_the_csv_has_none(tmp_path):
    dataset = trees.ade(tmp_path, names=False)
    with pytest.raises(ManifestError, match="expected a name for class 41; found none") as caught:
        trees.rows(dataset)
    assert len(caught.value.problems) == 3
    named = {**dataset, "class_labels": trees.ADE_NAMES}
    assert [sample["classes"] for sample in trees.rows(named)] == [["dog"], ["piano"], ["car"]]


@pytest.mark.parametrize(
    "cell", ["4.5", "-1", "cat", "inf", "1e400", "nan", "", "4_1", "0x29", "6656", "9" * 30, "٤١"]
)
def test_ade_refuses_class_ids_that_no_annotation_can_hold(tmp_path, cell):
    dataset = trees.ade(tmp_path)
    trees.add_rows(
        tmp_path / "prompted_segmentation.csv", f"a.jpg,s.wav,{cell},dog", f"a.jpg,t.wav,{cell},dog"
    )
    with pytest.raises(ManifestError) as caught:
        manifest.build(dataset, require_files=False)
    (problem,) = caught.value.problems
    assert problem.expected == "a class id (whole number of 0 … 6655)"
    assert problem.found == f"{cell!r} in lines 5, 6"


def test_ade_takes_whole_floats_for_class_ids(tmp_path):
    dataset = trees.ade(tmp_path)
    trees.add_rows(
        tmp_path / "prompted_segmentation.csv",
        "a.jpg,s.wav,41.0,dog",
        "b.jpg,s.wav,041.,dog",
        "b.jpg,t.wav,0.0,",
    )
    frame = manifest.build(dataset, require_files=False)
    assert frame["class_id"].tolist() == [41, 1330, 2977, 41, 41]


def test_ade_refuses_two_names_for_one_id_and_repeated_rows(tmp_path):
    dataset = trees.ade(tmp_path)
    trees.add_rows(tmp_path / "prompted_segmentation.csv", "a.jpg,p_000010.wav,41,hound")
    with pytest.raises(ManifestError) as caught:
        manifest.build(dataset, require_files=False)
    found = {problem.expected: problem.found for problem in caught.value.problems}
    assert found == {
        "one name for class 41": "'dog', 'hound'",
        "one row for sample 'a__p_000010'": "lines 2, 5",
    }


def test_ade_refuses_class_labels_whose_keys_are_no_numbers(tmp_path):
    dataset = trees.ade(tmp_path, names=False)
    with pytest.raises(ManifestError, match="class_labels: expected class ids as keys .*found 'dog'"):
        trees.rows(dataset, class_labels={"dog": 41, 1330: "piano"})


def test_ade_ids_are_apart_where_names_are(tmp_path):
    table = (
        ("x/y_z.jpg", "p.wav", 41),
        ("x_y/z.jpg", "p.wav", 41),
        ("q.jpg", "p.wav", 41),
        ("q.png", "p.wav", 41),
        ("q.jpg", "p.flac", 41),
    )
    dataset = trees.ade(tmp_path)
    trees.write_csv(
        tmp_path / trees.ADE_CSV,
        trees.ADE_HEADER,
        *(row + ("dog",) for row in table),
        ("a.jpg", "r.wav", 41, "dog"),
    )
    frame = manifest.build(dataset, require_files=False)
    assert frame["sample_id"].is_unique and frame["sample_id"].iloc[-1] == "a__r"
    # In another order they are the same.
    trees.write_csv(tmp_path / trees.ADE_CSV, trees.ADE_HEADER, *(row + ("dog",) for row in table[::-1]))
    again = manifest.build(dataset, require_files=False)
    assert set(again["sample_id"]) == set(frame["sample_id"][:-1])


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_ade_refuses_the_grey_edition(tmp_path, mode):
    dataset = trees.ade(tmp_path)
    frame = manifest.build(dataset)
    grey = np.where(trees.square((32, 24)), 127, 0).astype(np.uint8)
    Image.fromarray(grey).convert(mode).save(frame["mask"][1])
    with pytest.raises(ManifestError) as caught:
        manifest.check(frame, dataset)
    (problem,) = caught.value.problems
    assert problem.file == frame["mask"][1] and "the edition of 150 classes" in problem.found


@pytest.mark.parametrize(
    ("location", "sound"),
    [
        ("..", "s.wav"),
        ("/a.jpg", "s.wav"),
        ("", "s.wav"),
        ("a.jpg", "v/"),
        ("a.jpg", "v\\s.wav"),
        ("a.jpg", ".."),
    ],
)
def test_rows_that_leave_the_folder_are_refused_by_the_run_and_by_staging(tmp_path, location, sound):
    dataset = trees.ade(tmp_path)
    trees.add_rows(tmp_path / trees.ADE_CSV, f"{location},{sound},41,dog")
    for read in (lambda: manifest.build(dataset), lambda: ade.listed_sounds(tmp_path)):
        with pytest.raises(ManifestError) as caught:
            read()
        (problem,) = caught.value.problems
        assert "no path inside the dataset" in problem.found and "(line 5)" in problem.found


def test_what_the_run_and_the_staging_of_ade_need_is_one_list(tmp_path):
    dataset = trees.ade(tmp_path)
    path = tmp_path / trees.ADE_CSV
    trees.add_rows(
        path,
        "a.jpg,NULL,41,dog",
        "a.jpg,N/A,41,dog",
        "a.jpg,v/zero.wav,0,",
        "a.jpg,v/zero.wav,0.0,",
        "c.jpg,v/new.wav,41,dog",
    )
    path.write_text("\ufeff" + path.read_text().replace("vggsound_file", " VGGSound File "), encoding="utf-8")
    needed = [Path(sound).name for sound in manifest.build(dataset, require_files=False)["audio"]]
    assert (
        needed == ade.listed_sounds(tmp_path) == ["p_000010.wav", "q_000000.wav", "r_000030.wav", "new.wav"]
    )


@pytest.mark.parametrize("convention", ["paper", "nearest"])
def test_ade_truth_in_both_tasks(tmp_path, convention):
    dataset = trees.ade(tmp_path, size=(32, 32)) | {"mask_resize": convention}
    samples = trees.rows(dataset)
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
    sample = trees.rows(dataset)[1]
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


def test_the_papers_truth_of_ade_is_the_releases_pixel_for_pixel(tmp_path):
    """Ids interpolated in float32 with aligned corners, compared for equality; source positions are whole at 447 × 670."""
    import torch  # here alone, and slow to import

    coarse = np.random.default_rng(1).integers(0, 3000, (15, 20))
    for shape in ((300, 400), (447, 670)):
        zoom = [np.arange(length) * n // length for length, n in zip(shape, coarse.shape, strict=True)]
        ids = coarse[np.ix_(*zoom)]
        dataset = trees.ade(tmp_path, size=shape) | {"mask_resize": "paper"}
        sample = trees.rows(dataset)[0]
        trees.ade_image(ids).save(sample["mask"])
        interpolated = torch.nn.functional.interpolate(
            torch.from_numpy(ids)[None, None].float(), (224, 224), mode="bilinear", align_corners=True
        )[0, 0].numpy()
        for number in np.unique(ids)[::25]:
            mask = datasets.read_mask(sample | {"class_id": number}, dataset, 224)
            np.testing.assert_array_equal(mask, interpolated == number)
