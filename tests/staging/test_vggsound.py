"""VGGSound's clips: only the listed ones are taken from the shards, and the missing ones are named."""

import io
import os
import tarfile
from pathlib import Path

import loopback
import pytest
from loopback import catalogue, from_hub

from taco.staging import bring, vggsound
from taco.staging.sources import StagingError

server, place = pytest.fixture(loopback.server), pytest.fixture(loopback.place)


def shard(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as handle:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            handle.addfile(info, io.BytesIO(body))
    return stream.getvalue()


@pytest.fixture
def sounds(server, place, monkeypatch):
    """ADE SP without sounds, and settings with shards at a hub; ffmpeg counts as installed."""
    monkeypatch.setattr(vggsound.shutil, "which", lambda name: f"/usr/bin/{name}")
    root = Path("data/ade")
    root.mkdir(parents=True)
    rows = ["a_000001.wav", "x/b_000002.wav", "c_000003.wav", "", "a_000001.wav"]
    lines = ["image_location,vggsound_file,ade_class_id", *(f"{n}.jpg,{row},1" for n, row in enumerate(rows))]
    (root / "prompted_segmentation.csv").write_text("\n".join(lines))
    origin = from_hub(server, "org/shards", repo_type="dataset")
    entry = {"place": "data/ade/audio", "lock": "datasets", "from": [origin]}
    return root, catalogue({"vggsound": entry}, data_root=place / "cluster")


def test_only_listed_sounds_are_taken_and_missing_ones_named(server, sounds, caplog):
    root, settings = sounds
    server.files["shards_00.tar.gz"] = shard(
        {"deep/video/a_000001.wav": b"A", "deep/video/z_000009.wav": b"Z"}
    )
    server.files["shards_01.tar.gz"] = shard({"b_000002.wav": b"B"})
    done = bring.stage("vggsound", settings)
    assert {path.name for path in (root / "audio").glob("[!.]*")} == {"a_000001.wav", "b_000002.wav"}
    assert (root / "audio/a_000001.wav").read_bytes() == b"A"
    assert (root / "missing_sounds.txt").read_text() == "c_000003.wav\n"
    assert "1 sounds missing" in done.remark
    assert any("c_000003.wav" in message for message in caplog.messages)
    before = len([call for call in server.calls if "resolve" in call[1]])
    bring.stage("vggsound", settings)
    assert len([call for call in server.calls if "resolve" in call[1]]) == before, "no shard is fetched twice"


def test_a_damaged_shard_gives_what_it_can_and_the_rest_goes_on(server, sounds, caplog):
    root, settings = sounds
    good = os.urandom(200_000)
    whole = shard({"a_000001.wav": good, "pad.wav": os.urandom(300_000), "c_000003.wav": b"C"})
    server.files["shards_00.tar.gz"] = whole[: len(whole) // 2]
    server.files["shards_01.tar.gz"] = shard({"b_000002.wav": b"B", "c_000003.wav": b"C"})
    bring.stage("vggsound", settings)
    assert (root / "audio/a_000001.wav").read_bytes() == good
    assert not (root / "missing_sounds.txt").exists()
    assert any("reading stops here" in message for message in caplog.messages)


def test_sounds_that_could_not_be_looked_for_are_no_success(server, sounds):
    root, settings = sounds
    server.files["shards_00.tar.gz"] = b"<html><title>Log in</title></html>"
    server.files["shards_01.tar.gz"] = shard({"b_000002.wav": b"B"})
    with pytest.raises(StagingError, match="(?s)2 of the listed sounds are still missing.*1[.].*web page"):
        bring.stage("vggsound", settings)
    assert (root / "audio/b_000002.wav").read_bytes() == b"B"
    assert not (root / "missing_sounds.txt").exists()
    server.files["shards_00.tar.gz"] = shard({"a_000001.wav": b"A", "c_000003.wav": b"C"})
    before = len(server.calls)
    assert bring.stage("vggsound", settings).remark == "every listed sound is there"
    assert not [call for call in server.calls[before:] if "shards_01" in call[1]]


def test_without_ffmpeg_no_shard_is_fetched(server, sounds, monkeypatch):
    monkeypatch.setattr(vggsound.shutil, "which", lambda _: None)
    server.files["shards_00.tar.gz"] = shard({"a_000001.wav": b"A"})
    with pytest.raises(StagingError, match="expected the program ffmpeg"):
        bring.stage("vggsound", sounds[1])
    assert not server.calls


def test_shards_on_disk_are_used_and_kept(server, sounds, place):
    settings = sounds[1]
    (place / "cluster/vggsound").mkdir(parents=True)
    body = shard({name: name.encode() for name in ("a_000001.wav", "b_000002.wav", "c_000003.wav")})
    (place / "cluster/vggsound/vggsound_00.tar.gz").write_bytes(body)
    assert bring.stage("vggsound", settings).remark == "every listed sound is there"
    assert (place / "cluster/vggsound/vggsound_00.tar.gz").exists()
    assert not server.calls


def test_a_video_is_converted_by_ffmpeg(sounds, place, monkeypatch):
    root, settings = sounds
    (place / "cluster/vggsound").mkdir(parents=True)
    videos = {"a_000001.mp4": b"video", "b_000002.mp4": b"broken", "c_000003.wav": b"C"}
    (place / "cluster/vggsound/00.tar").write_bytes(shard(videos))
    folder = place / "bin"
    folder.mkdir()
    program = folder / "ffmpeg"
    # Stands in for the program: refuses one video, and writes the others' bytes behind a mark.
    program.write_text(
        '#!/bin/sh\nwhile [ "$1" != -i ]; do shift; done\nin=$2\nfor out; do :; done\n'
        'grep -q broken "$in" && { echo "no audio stream" >&2; exit 1; }\n'
        'printf "RIFF " > "$out"; cat "$in" >> "$out"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(vggsound.hub, "files", lambda *_: [])
    bring.stage("vggsound", settings)
    assert (root / "audio/a_000001.wav").read_bytes() == b"RIFF video"
    assert (root / "missing_sounds.txt").read_text() == "b_000002.wav\n"
    assert not [path for path in (root / "audio").iterdir() if path.suffix in (".mp4", ".partial")]


def test_a_video_without_ffmpeg_is_explained(sounds, place, monkeypatch):
    settings = sounds[1]
    (place / "cluster/vggsound").mkdir(parents=True)
    (place / "cluster/vggsound/00.tar").write_bytes(shard({"a_000001.mp4": b"video"}))
    monkeypatch.setattr(vggsound.shutil, "which", lambda _: None)
    with pytest.raises(StagingError, match="Install it"):
        bring.stage("vggsound", settings)
