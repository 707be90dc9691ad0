"""A file of a dataset that was edited after it had been checked is named, whatever its time and size say."""

import os

import pandas as pd
import pytest

from taco.data import contents
from taco.data.problems import ManifestError


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """Two frames of one clip, the second without a mask; their manifest."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png", "clip.wav", "a mask.png"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    return pd.DataFrame(
        {"image": ["b.png", "a.png"], "audio": ["clip.wav"] * 2, "mask": ["a mask.png", ""], "frame": [0, 1]}
    )


def test_every_file_is_there_once_and_survives_parquet(dataset, tmp_path):
    found = contents.of_manifest(dataset, workers=2)
    assert found["path"].tolist() == ["a mask.png", "a.png", "b.png", "clip.wav"]
    assert found["bytes"].tolist() == [1000, 500, 500, 800] and found["digest"].nunique() == 4
    contents.write(found, tmp_path / "files.parquet")
    pd.testing.assert_frame_equal(contents.read(tmp_path / "files.parquet"), found)
    assert list(contents.edited(found)) == []


@pytest.mark.parametrize("keep_time", [True, False])
@pytest.mark.parametrize("name", ["a mask.png", "clip.wav", "b.png"])
def test_an_edited_file_is_named(dataset, tmp_path, name, keep_time):
    found, path = contents.of_manifest(dataset), tmp_path / name
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[77] ^= 1
    path.write_bytes(data)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (line,) = contents.edited(found)
    assert line.startswith(f"{name}: ") and "another content of the same size" in line
    path.write_bytes(data[:-1])
    (line,) = contents.edited(found)
    assert f"found {len(data) - 1} bytes" in line
    path.unlink()
    (line,) = contents.edited(found)
    assert line.startswith(f"{name}: ") and "No such file" in line


def test_another_file_in_its_place_is_refused_by_name(dataset, tmp_path):
    path = tmp_path / "files.parquet"
    dataset.to_parquet(path)
    with pytest.raises(ManifestError, match=r"files\.parquet"):
        contents.read(path)
    contents.write(contents.of_manifest(dataset), path)
    whole = path.read_bytes()
    for data in (b"", whole[:-9], whole[:40] + bytes([whole[40] ^ 4]) + whole[41:]):
        path.write_bytes(data)
        with pytest.raises(ManifestError, match=r"files\.parquet"):
            contents.read(path)
