"""Files of predictions: the same picture is the same prediction however it is written, and any other is one error."""

import json
import os

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from written_png import GREY, png

from taco.data.datasets import avss
from taco.results.prediction_files import PredictionError, find, grey_tops, read_ids, read_map

SIZE = 24
NAMES = 6
SQUARE = np.zeros((SIZE, SIZE), dtype=np.uint8)
BOX = SQUARE.copy()
BOX[4:12, 4:14] = 1
LEVELS = (BOX * 140 + 60 + np.arange(SIZE, dtype=np.uint8)[None] // 6 * 10).astype(np.uint8)
IDS = SQUARE.copy()
IDS[2:9, 3:8], IDS[12:20, 9:22], IDS[20:, :5] = 5, 2, 1


def rle(mask):
    packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in packed["size"]], "counts": packed["counts"].decode()}


def palette(indices, colours):
    image = Image.fromarray(np.asarray(indices, dtype=np.uint8), mode="P")
    image.putpalette(np.asarray(colours, dtype=np.uint8).ravel().tolist())
    return image


def grey_to_rgb(values):
    return Image.fromarray(np.repeat(np.asarray(values, dtype=np.uint8)[..., None], 3, axis=-1))


@pytest.fixture
def written(tmp_path):
    """Write a picture, an array or a text to a file of the fitting kind."""

    def write(content, name="a"):
        if isinstance(content, Image.Image):
            path = tmp_path / f"{name}.png"
            content.save(path)
        elif isinstance(content, np.ndarray):
            path = tmp_path / f"{name}.npy"
            np.save(path, content)
        else:
            path = tmp_path / f"{name}.json"
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write


# ------------------------------------------------------------------------------------------- names


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    for name in (
        "a.png",
        "sub/b.png",
        ".ipynb_checkpoints/a.png",
        "sub/._b.png",
        "__MACOSX/._a.png",
        "Thumbs.db",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find(tmp_path, ["a", "b"]) == {"a": tmp_path / "a.png", "b": tmp_path / "sub/b.png"}


def test_all_wrong_names_are_listed_together(tmp_path):
    for name in ("stranger.npy", "b.npy", "b.png", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(PredictionError) as error:
        find(tmp_path, ["a", "b"])
    message = str(error.value)
    assert "1 of the samples have no file: 'a'" in message
    assert "1 files have an unknown sample id: 'stranger'" in message
    assert "1 sample ids have several files: 'b'" in message
    assert "1 files are neither of .png, .npy, .json: 'notes.txt'" in message


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(PredictionError, match="nowhere: expected a folder"):
        find(tmp_path / "nowhere", ["a"])


# -------------------------------------------------------------------------------------------- maps


DEEP = LEVELS.astype(np.uint16) * 257
SAME_MAP = {
    "grey": Image.fromarray(LEVELS),
    "16 bits": Image.fromarray(DEEP),
    "palette by quantize": grey_to_rgb(LEVELS).quantize(16),
    "palette of all levels": palette(255 - LEVELS, np.repeat(np.arange(255, -1, -1)[:, None], 3, axis=1)),
    "colours": grey_to_rgb(LEVELS),
    "opaque": grey_to_rgb(LEVELS).convert("RGBA"),
    "grey with alpha": Image.fromarray(LEVELS).convert("LA"),
    "floats": LEVELS / 255,
    "half floats": (LEVELS / 255).astype(">f8"),
}


@pytest.mark.parametrize("name", SAME_MAP)
def test_a_map_is_the_same_however_it_is_written(written, name):
    found = read_map(written(SAME_MAP[name]), SIZE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, LEVELS / 255, atol=1e-6)


SAME_MASK = {
    "grey": Image.fromarray(BOX * 255),
    "16 bits": Image.fromarray(BOX.astype(np.uint16) * 65535),
    "1 bit": Image.fromarray(BOX.astype(bool)),
    "palette, white first": palette(1 - BOX, [[255] * 3, [0] * 3]),
    "palette, VOC red": palette(BOX, [[0] * 3, [128, 0, 0]]),
    "green": Image.fromarray(np.stack([SQUARE, BOX * 200, SQUARE], axis=-1)),
    "0 and 1": BOX,
    "bool": BOX.astype(bool),
    "compressed runs": rle(BOX),
    "runs with a byte order mark": "\ufeff" + json.dumps(rle(BOX)),
    "whole floats": {"size": [24.0, 24.0], "counts": rle(BOX)["counts"]},
}


@pytest.mark.parametrize("name", SAME_MASK)
def test_a_mask_is_the_same_however_it_is_written(written, name):
    np.testing.assert_array_equal(read_map(written(SAME_MASK[name]), SIZE), BOX)


NO_MAPS = {
    "wide": (np.zeros((SIZE, SIZE + 1)), r"expected shape \[24, 24\].*found \[24, 25\]"),
    "wide picture": (Image.new("L", (SIZE + 1, SIZE)), r"found \[24, 25\]"),
    "three axes": (np.zeros((1, SIZE, SIZE)), r"found \[1, 24, 24\]"),
    "NaN": (np.full((SIZE, SIZE), np.nan), "NaN"),
    "too large": (np.full((SIZE, SIZE), 1e300), "infinity"),
    "0 to 255": (np.full((SIZE, SIZE), 255), "found int64 in 255 … 255"),
    "negative": (np.full((SIZE, SIZE), -1), "found int64 in -1 … -1"),
    "complex": (np.zeros((SIZE, SIZE), dtype=complex), "found complex128"),
    "text": (np.full((SIZE, SIZE), "a"), "found <U1"),
    "times": (np.zeros((SIZE, SIZE), dtype="M8[s]"), "found datetime64"),
    "records": (np.zeros((SIZE, SIZE), dtype=[("a", "f4")]), "expected an array of numbers"),
    "objects": (np.full((SIZE, SIZE), None), "expected a readable .npy file"),
    "empty": (np.zeros((0, 0), dtype=np.uint8), r"a\.npy: expected"),
    "scalar": (np.array(0.5), r"found \[\]"),
    "many colours": (
        Image.fromarray(np.random.default_rng(0).integers(0, 9, (24, 24, 3), dtype=np.uint8)),
        "colours",
    ),
    "coloured palette": (palette(IDS, avss.palette(9)), "found 3 colours"),
    "0 and 1 in 8 bits": (Image.fromarray(BOX), "found 0 and 1 only"),
    "8-bit values in 16 bits": (
        Image.fromarray(BOX.astype(np.uint16) * 255),
        "found 0 … 255, which are of fewer bits",
    ),
    "12-bit values in 16 bits": (Image.fromarray(LEVELS.astype(np.uint16) * 16), "which are of fewer bits"),
    "mask in alpha": (
        Image.merge("LA", [Image.new("L", (24, 24), 255), Image.fromarray(BOX * 255)]),
        "opaque",
    ),
    "transparent": (Image.merge("LA", [Image.fromarray(LEVELS), Image.fromarray(BOX * 255)]), "opaque"),
}


@pytest.mark.parametrize("name", NO_MAPS)
def test_files_that_are_no_maps(written, name):
    content, finding = NO_MAPS[name]
    path = written(content)
    with pytest.raises(PredictionError, match=finding) as caught:
        read_map(path, SIZE)
    assert str(path) in str(caught.value)


def test_stretching_takes_any_range(written):
    for values in (BOX, BOX.astype(np.uint16) * 255):
        np.testing.assert_array_equal(read_map(written(Image.fromarray(values)), SIZE, stretch=True), BOX)


def test_the_range_is_that_of_the_folders_pictures_of_a_depth(written):
    faint, deep = (
        written(Image.fromarray(BOX), "faint"),
        written(Image.fromarray(BOX.astype(np.uint16) * 200), "deep"),
    )
    bright = written(Image.fromarray(LEVELS), "bright")
    assert grey_tops([faint, deep], SIZE) == {255: 1, 65535: 200}
    tops = grey_tops([faint, bright, deep, written(BOX / 2, "array")], SIZE)
    np.testing.assert_allclose(read_map(faint, SIZE, tops=tops), BOX / 255)
    with pytest.raises(PredictionError, match=r"deep\.png.*0 … 200"):
        read_map(deep, SIZE, tops=tops)


# ------------------------------------------------------------------------------------- run lengths


def runs(counts, size=(SIZE, SIZE)):
    return {"size": list(size), "counts": counts}


TEXT = rle(BOX)["counts"]
NO_RUNS = {
    "torn": "{",
    "list": [],
    "number": 3,
    "null": None,
    "without counts": {"size": [24, 24]},
    "few runs": runs([5, 7]),
    "many runs": runs([576, 1]),
    "negative runs": runs([600, -24]),
    "broken runs": runs([575.5, 0.5]),
    "runs of text": runs(["576"]),
    "runs of bool": runs([575, True]),
    "no counts": runs(None),
    "size of one number": {"size": 24, "counts": [576]},
    "size of three": runs([576], (24, 24, 1)),
    "negative size": runs(TEXT, (-24, -24)),
    "zero size": runs("", (0, 0)),
    "huge size": runs(TEXT, (10**9, 10**9)),
    "size of text": runs(TEXT, ("24", "24")),
    "size of null": runs(TEXT, (None, 24)),
    "cut text": runs(TEXT[: len(TEXT) // 2]),
    "text cut in a number": runs(TEXT[:-2]),
    "empty text": runs(""),
    "long text": runs(TEXT + "1"),
    "endless number": runs("o" * 1000),
    "strange letters": runs("é" + TEXT),
    "bytes in base 64": runs("YWJj"),
    "deep nesting": "[" * 100_000,
    "other encoding": "\udcff",
}


@pytest.mark.parametrize(
    "reader", [read_map, lambda path, size: read_ids(path, size, NAMES)], ids=["map", "ids"]
)
@pytest.mark.parametrize("name", NO_RUNS)
def test_texts_that_are_no_masks(tmp_path, reader, name):
    content = NO_RUNS[name]
    if reader is not read_map and not isinstance(content, str):
        content = [{"category_id": 1, "segmentation": content}]
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "a.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(PredictionError, match=r"a\.json: expected"):
        reader(tmp_path / "a.json", SIZE)


@pytest.mark.parametrize("end", range(len(TEXT)))
def test_no_part_of_a_text_of_runs_is_taken_for_the_whole(written, end):
    with pytest.raises(PredictionError):
        read_map(written(runs(TEXT[:end])), SIZE)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_runs_are_read_as_pycocotools_writes_them(written, share):
    for seed in range(5):
        mask = np.random.default_rng(seed).random((SIZE, SIZE)) < share
        np.testing.assert_array_equal(read_map(written(rle(mask)), SIZE), mask)


# --------------------------------------------------------------------------------------- class ids


SAME_IDS = {
    "grey": Image.fromarray(IDS),
    "16 bits": Image.fromarray(IDS.astype(np.uint16)),
    "palette of VOC": palette(IDS, avss.palette(256)),
    "palette of VOC, used colours only": Image.fromarray(avss.palette(256)[IDS]).quantize(8),
    "palette of grey": palette(IDS, np.repeat(np.arange(256)[:, None], 3, axis=1)),
    "palette by quantize": grey_to_rgb(IDS).quantize(8),
    "array": IDS,
    "runs": [{"category_id": int(c), "segmentation": rle(c == IDS)} for c in (1, 2, 5)],
    "whole floats": [{"category_id": float(c), "segmentation": rle(c == IDS)} for c in (0, 1, 2, 5)],
}


@pytest.mark.parametrize("name", SAME_IDS)
def test_ids_are_the_same_however_they_are_written(written, name):
    found = read_ids(written(SAME_IDS[name]), SIZE, NAMES)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, IDS)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_ids_of_few_bits_are_those_written(tmp_path, bits):
    ids = IDS % 2**bits
    (tmp_path / "a.png").write_bytes(png(ids, bits, GREY))
    np.testing.assert_array_equal(read_ids(tmp_path / "a.png", SIZE, 71), ids)


NO_IDS = {
    "too large": (SQUARE + 6, "class ids 0 … 5, found 6 … 6"),
    "negative": (SQUARE.astype(int) - 1, "found -1 … -1"),
    "floats": (SQUARE / 2, "whole numbers"),
    "text": (np.full((SIZE, SIZE), "1"), "expected an array of numbers"),
    "palette of others' colours": (
        palette(IDS, [[9 * n, 40, 255 - n] for n in range(9)]),
        "write the ids as 8-bit grey",
    ),
    "palette of grey, spread": (palette(IDS, [[50 * n] * 3 for n in range(6)]), "class ids 0 … 5"),
    "colours": (Image.fromarray(avss.palette(256)[IDS]), "expected grey values or a palette"),
    "one mask": (rle(BOX), "expected a list"),
    "no mask": ([{"category_id": 1}], "expected a list"),
    "overlap": ([{"category_id": c, "segmentation": rle(BOX)} for c in (1, 2)], "overlap"),
}


@pytest.mark.parametrize("name", NO_IDS)
def test_files_that_are_no_ids(written, name):
    content, finding = NO_IDS[name]
    with pytest.raises(PredictionError, match=finding):
        read_ids(written(content), SIZE, NAMES)


@pytest.mark.parametrize(
    "value", [None, "dog", "2", 2.7, True, [2], {}, 6, -1, 2**80, -(2**80), float("nan"), float("inf")]
)
def test_category_ids_that_are_none(written, value):
    path = written([{"category_id": value, "segmentation": rle(BOX)}])
    with pytest.raises(PredictionError, match=r"a\.json: .*expected"):
        read_ids(path, SIZE, NAMES)


# ----------------------------------------------------------------------------------- damaged files


def torn(path):
    path.write_bytes(b"torn")


def empty(path):
    path.touch()


def folder(path):
    path.mkdir()


def dangling(path):
    os.symlink("nowhere", path)


def damaged(path):
    """A PNG of noise with the name of its second chunk of data changed."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (600, 600), dtype=np.uint8)).save(path, "PNG")
    data = bytearray(path.read_bytes())
    data[bytes(data).index(b"IDAT", 70000)] ^= 0x80
    path.write_bytes(data)


def huge(path):
    Image.new("1", (20000, 20000)).save(path, "PNG")


def jpeg(path):
    Image.fromarray(LEVELS).save(path, "JPEG")


def archive(path):
    with open(path, "wb") as stream:
        np.savez(stream, BOX)


def huge_array(path):
    """A header that promises 10^12 numbers, and none."""
    with open(path, "wb") as stream:  # by name, NumPy would add its own ending
        np.save(stream, SQUARE.astype(float))
    path.write_bytes(
        path.read_bytes().replace(b"(24, 24), }" + b" " * 14, b"(1000000, 1000000), }    ")[:128]
    )


@pytest.mark.parametrize("suffix", [".png", ".npy", ".json", ".PNG"])
@pytest.mark.parametrize("spoil", [torn, empty, folder, dangling, damaged, huge, jpeg, archive, huge_array])
def test_a_file_that_cannot_be_read_is_one_error_that_names_it(tmp_path, spoil, suffix):
    path = tmp_path / f"a{suffix}"
    spoil(path)
    for call in (lambda: read_map(path, SIZE), lambda: read_ids(path, SIZE, NAMES)):
        with pytest.raises(PredictionError) as caught:
            call()
        assert str(path) in str(caught.value)
