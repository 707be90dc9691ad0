"""Questions from paths, and many answers: resumed, with failures apart."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from answered import Instant
from PIL import Image
from recorded import tone, write_video

from taco.data.problems import MediaError
from taco.segmenting import asking
from taco.segmenting.asking import Question
from taco.segmenting.words import SegmentError

OPTIONS = {"seeds": None, "segmenter": True, "fps": None}


def pair(folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), "red").save(folder / f"{name}.jpg")
    soundfile.write(folder / f"{name}.wav", tone(0.5, 16000), 16000)
    return folder / f"{name}.jpg", folder / f"{name}.wav"


def film(path):
    pictures = [np.full((32, 32, 3), 80, dtype=np.uint8)] * 4
    return write_video(path, pictures, [0, 0.5, 1, 1.5], wave=tone(2, 16000))


# ---------------------------------------------------------------------------- questions


def test_one_or_two_paths(tmp_path):
    image, sound = pair(tmp_path, "a")
    assert asking.questions([image, sound]) == [Question(image, sound)]
    assert asking.questions([Path("a.mp4")]) == [Question(Path("a.mp4"), None)]


@pytest.mark.parametrize(("inputs", "expected"), [
    (["a.jpg"], "a sound beside the image"), (["a.wav"], "an image before the sound"), (["a", "b", "c"], "found 3 inputs"),
    (["not-there.csv"], "not-there.csv"),
])  # fmt: skip
def test_what_is_no_question_is_explained(inputs, expected):
    with pytest.raises(SegmentError, match=expected):
        asking.questions([Path(name) for name in inputs])


def test_a_folder_pairs_files_of_one_name(tmp_path):
    a, b = pair(tmp_path, "a"), pair(tmp_path / "deep", "b")
    (tmp_path / "c.mp4").touch()
    (tmp_path / "notes.txt").touch()
    assert asking.questions([tmp_path]) == [
        Question(*a, "a"), Question(tmp_path / "c.mp4", None, "c"), Question(*b, "deep/b"),
    ]  # fmt: skip


def test_a_video_beside_a_pair_of_its_name_keeps_its_ending(tmp_path):
    pair(tmp_path, "a")
    (tmp_path / "a.mp4").touch()
    assert [question.name for question in asking.questions([tmp_path])] == ["a", "a.mp4"]


@pytest.mark.parametrize("files", [["a.jpg"], ["a.wav"], ["a.jpg", "a.png", "a.wav"], []])
def test_a_folder_that_is_not_clear_is_named(tmp_path, files):
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(SegmentError, match="expected"):
        asking.questions([tmp_path])


def test_a_table_of_pairs_and_videos(tmp_path):
    (tmp_path / "list.csv").write_text("name,image,sound,video\nfirst,a.jpg,b.wav,\n,,,c.mp4\n")
    assert asking.questions([tmp_path / "list.csv"]) == [
        Question(tmp_path / "a.jpg", tmp_path / "b.wav", "first"), Question(tmp_path / "c.mp4", None, "0002-c"),
    ]  # fmt: skip


@pytest.mark.parametrize(("content", "expected"), [
    ("photo,sound\na,b\n", "columns image and sound"), ("image,sound\na.jpg,\n", "line 2"), ("image,sound\n", "no row"),
    ("name,image,sound\nx,a.jpg,a.wav\nx,b.jpg,b.wav\n", "found x"), ("name,image,sound\n../x,a.jpg,a.wav\n", r"\.\./x"),
])  # fmt: skip
def test_a_table_that_is_not_clear_is_named(tmp_path, content, expected):
    (tmp_path / "list.csv").write_text(content)
    with pytest.raises(SegmentError, match=expected):
        asking.questions([tmp_path / "list.csv"])


# ---------------------------------------------------------------------------- many answers


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b"):
        pair(tmp_path / "in", name)
    film(tmp_path / "in/c.mp4")
    return tmp_path / "in"


def run(folder, model=None, **options):
    model = model or Instant()
    output = folder.parent / "out"
    return asking.answer_all(
        asking.questions([folder]), model, output, quiet=True, **OPTIONS | options
    ), model


def statuses(record):
    return {row["name"]: row["status"] for row in record["rows"]}


def test_what_is_there_and_right_stays(folder):
    first, _ = run(folder)
    assert statuses(first) == dict.fromkeys("abc", "answered")
    second, model = run(folder)
    assert statuses(second) == dict.fromkeys("abc", "kept") and model.calls == 0
    strip = [{key: value for key, value in row.items() if key != "status"} for row in first["rows"]]
    assert strip == [{key: value for key, value in row.items() if key != "status"} for row in second["rows"]]


def test_what_changed_or_broke_is_answered_anew(folder):
    run(folder)
    soundfile.write(folder / "a.wav", tone(0.5, 16000, 500), 16000)
    (folder.parent / "out/b/map.npy").write_bytes(b"cut")
    assert statuses(run(folder)[0]) == {"a": "answered", "b": "answered", "c": "kept"}
    assert statuses(run(folder, segmenter=False)[0]) == dict.fromkeys("abc", "answered")


def test_a_killed_run_goes_on(folder):
    run(folder)
    shutil.rmtree(folder.parent / "out/b")
    (folder.parent / "out/c/result.json").unlink()
    assert statuses(run(folder)[0]) == {"a": "kept", "b": "answered", "c": "answered"}


def test_one_that_fails_does_not_stop_the_rest(folder):
    (folder / "a.jpg").write_bytes(b"no image")
    record, _ = run(folder)
    assert statuses(record) == {"a": "failed", "b": "answered", "c": "answered"}
    assert (record["failed"], record["answered"], record["kept"]) == (1, 2, 0)
    assert "a.jpg" in asking.describe_all(record)
    with (folder.parent / "out/summary.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["status"] for row in rows] == ["failed", "answered", "answered"]
    assert "a.jpg" in rows[0]["error"] and rows[1]["word"] == "guitar"


def test_a_video_is_written_with_frames_film_and_sound(folder):
    run(folder)
    out = folder.parent / "out/c"
    record = json.loads((out / "result.json").read_text())
    assert [frame["time"] for frame in record["frames"]] == [0.5, 1.5]
    assert (record["visible"], record["visible_frames"], record["count"]) == (True, 1, 2)
    assert sorted(path.name for path in (out / "frames").iterdir()) == [
        f"000{n}-{name}" for n in (0, 1) for name in ("map.npy", "mask.png", "overlay.png")
    ]
    from taco.data import video

    assert len(list(video.frames(out / "overlay.mp4", 1))) == 2
    assert "1 of 2 frames" in asking.describe(record)


def test_a_video_without_a_sound_is_refused_before_anything_is_written(tmp_path):
    write_video(tmp_path / "a.mp4", [np.full((32, 32, 3), 80, dtype=np.uint8)], [0])
    with pytest.raises(MediaError, match="without a sound track"):
        asking.answer(Question(tmp_path / "a.mp4", None), Instant(), tmp_path / "out", **OPTIONS)
    assert not (tmp_path / "out").exists()
