"""AVSBench-semantic: real layouts → rows, classes and colour-coded truth, with the noise of the published metadata."""

import logging
from pathlib import Path

import numpy as np
import pytest
import trees
from PIL import Image

from taco import metrics
from taco.data import datasets, manifest
from taco.data.datasets import avss, common
from taco.data.problems import ManifestError


def test_avss_rows(tmp_path):
    samples = trees.rows(trees.avss(tmp_path))
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
    assert len(trees.rows(trees.avss(tmp_path), subset=subset)) == count


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
        trees.rows(trees.avss(tmp_path, clips=clips))
    found = [problem.found for problem in caught.value.problems]
    assert found == [
        "'v9' in line 4",
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
    sample = trees.rows(dataset)[4]
    semantic = Path(sample["mask"]).parents[1] / "labels_semantic" / "4.png"
    mask = datasets.read_mask(sample, dataset, 32)
    assert mask.dtype == np.int64 and set(np.unique(mask)) == {0, 2, 5}
    np.testing.assert_array_equal(mask, np.asarray(Image.open(semantic)))


def test_avss_strange_colours_are_an_error_or_background(tmp_path):
    dataset = trees.avss(tmp_path, mode="RGB")
    sample = trees.rows(dataset)[0]
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
    sample = trees.rows(dataset)[0]
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


def test_a_clip_without_classes_in_avss_is_an_error(tmp_path):
    clips = (("a", "dog", "test", "v2"), ("b", "", "test", "v2"))
    with pytest.raises(ManifestError, match="expected a_obj in each row; found none in line 3"):
        trees.rows(trees.avss(tmp_path, clips=clips))


def test_label_lists_with_a_byte_order_mark_are_read(tmp_path):
    dataset = trees.avss(tmp_path)
    names = datasets.class_names(dataset)
    path = tmp_path / "label2idx.json"
    path.write_text("\ufeff" + path.read_text(), encoding="utf-8")
    assert datasets.class_names(dataset) == names
