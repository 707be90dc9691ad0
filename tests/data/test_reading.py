"""Files read ahead by worker processes: same batches, same order, errors that name the file."""

import io
import logging
import pickle

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from PIL import Image

from taco import progress
from taco.data import media, reading
from taco.data.media import Hearing
from taco.data.reading import Preparation, Samples, ahead, batches, workers_for

RATE = 8000
HOW = Preparation(24, ("fcclip", "openclip"), Hearing(RATE, RATE, "random", 0))


@pytest.fixture
def frame(tmp_path):
    """Seven samples of different sizes; sounds longer than the window, so that the random crop counts."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(7):
        image, audio = tmp_path / f"{number}.png", tmp_path / f"{number}.wav"
        Image.fromarray(rng.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)).save(image)
        soundfile.write(audio, rng.uniform(-0.5, 0.5, 2 * RATE), RATE)
        row = {"sample_id": str(number), "image": str(image), "audio": str(audio)}
        rows.append(row | {"start": 0.0, "duration": np.nan})
    return pd.DataFrame(rows)


def read(frame, workers, batch_size=3):
    found = list(batches(frame, "s4", HOW, batch_size, workers=workers))
    return {key: torch.cat([batch[key] for batch in found]) for key in found[0]}


def test_batches_hold_what_the_files_do_in_order(frame):
    found = list(batches(frame, "s4", HOW, 3))
    assert [len(batch["wave"]) for batch in found] == [3, 3, 1]
    image = media.read_image(frame["image"][4])
    for mode, dtype in (("fcclip", torch.float32), ("openclip", torch.uint8)):
        assert found[1][mode].dtype == dtype
        np.testing.assert_array_equal(found[1][mode][1], media.resize(image, 24, mode))


def test_neither_workers_nor_batches_nor_shards_change_an_array(frame):
    alone = read(frame, 0)
    for other in (read(frame, 2, 2), read(frame, 0, 1)):
        assert all(torch.equal(alone[key], other[key]) for key in alone)
    shard = read(frame.iloc[4:], 0)
    assert all(torch.equal(alone[key][4:], shard[key]) for key in alone)


def test_channels_are_joined_before_a_short_sound_is_repeated_and_a_long_one_cropped(tmp_path):
    """Left above 0, right below: of 1 s each the window of 3 s holds left, right, left; of 2 s each the middle of both."""
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    samples = []
    for seconds in (1, 2):
        path = tmp_path / f"{seconds}.wav"
        soundfile.write(path, np.tile([0.5, -0.5], (seconds * RATE, 1)), RATE)
        row = {"sample_id": path.stem, "image": str(tmp_path / "a.png"), "audio": str(path)}
        samples.append(row | {"start": 0.0, "duration": np.nan})
    how = Preparation(24, ("fcclip",), Hearing(RATE, 3 * RATE, "centre", 0, "join"))
    short, long = Samples(pd.DataFrame(samples), "s4", how)[0], Samples(pd.DataFrame(samples), "s4", how)[1]
    sign = [np.sign(found["wave"][RATE // 4 :: RATE // 2]).tolist() for found in (short, long)]
    assert sign == [[1, 1, -1, -1, 1, 1], [1, 1, 1, -1, -1, -1]]


def test_reading_leaves_the_global_generator_alone(frame):
    before = torch.get_rng_state()
    read(frame, 0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_is_named_after_the_batches_before_it(frame, workers):
    with open(frame["image"][3], "wb") as stream:
        stream.write(b"\x89PNG but not really")
    loader = batches(frame, "s4", HOW, 3, workers=workers)
    assert len(next(loader)["wave"]) == 3
    with pytest.raises(media.MediaError, match=r"3\.png: expected a complete image") as error:
        next(loader)
    assert error.value.file == frame["image"][3]


def test_samples_and_errors_can_be_sent_to_another_process(frame):
    sent = pickle.loads(pickle.dumps(Samples(frame, "s4", HOW)))
    here = Samples(frame, "s4", HOW)
    assert all(np.array_equal(sent[2][key], here[2][key]) for key in here[2])
    error = pickle.loads(pickle.dumps(media.MediaError("a.png", "an image", "none", "Fetch it.")))
    assert (error.file, str(error)) == ("a.png", "a.png: expected an image; found none. Fetch it.")


def test_work_ahead_keeps_order_and_its_bound():
    begun = []

    def work(item):
        begun.append(item)
        return item * item

    for number, result in enumerate(ahead(work, range(10), 2)):
        assert result == number * number
        assert len(begun) <= number + 3
    assert begun == list(range(10))


def test_an_error_of_work_ahead_comes_in_its_place():
    results = ahead(lambda item: 1 / item, [1, 2, 0, 4], 2)
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize(("threads", "workers"), [(1, 0), (2, 1), (5, 4), (64, reading.MOST_WORKERS)])
def test_workers_are_the_threads_but_one(threads, workers, monkeypatch, tmp_path):
    monkeypatch.setattr(reading, "SHARED_MEMORY", tmp_path / "none")
    assert workers_for(threads, HOW, 4) == workers


def test_little_shared_memory_means_fewer_workers_and_is_said(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(reading, "SHARED_MEMORY", tmp_path)
    free = 2 * HOW.bytes_per_sample * 4 * (reading.BATCHES_AHEAD + 1)
    monkeypatch.setattr(reading.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
    assert workers_for(8, HOW, 4) == 2
    assert "enough for 2 of 7 reading processes" in caplog.text


def test_bytes_per_sample_are_those_of_the_arrays(frame):
    assert sum(array.nbytes for array in Samples(frame, "s4", HOW)[0].values()) == HOW.bytes_per_sample


def test_progress_is_lines_in_the_log_where_nobody_watches(monkeypatch, caplog, capsys):
    monkeypatch.setattr(progress.sys, "stderr", io.StringIO())
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level(logging.INFO, "taco"), progress.progress(4, "s4: features") as bar:
        bar.update(3)
        bar.update(1)
    assert "s4: features: 3 of 4, " in caplog.text and "sample/s" in caplog.text and " left" in caplog.text
    assert capsys.readouterr().err == ""
