"""ADE20K Sound Prompted: rows, class ids and truth as the authors' release reads it."""

import logging

import numpy as np
import pytest
import trees

from taco.data import datasets, manifest
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
