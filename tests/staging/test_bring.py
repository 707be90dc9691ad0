"""Staging: lock files, links to copies on disk, archives placed by hand, and the project's own catalogue."""

import io
import os
import re
import tarfile
from pathlib import Path

import loopback
import pytest
import yaml
from loopback import BODY, QUOTA_PAGE, SHA, catalogue, locked, zipped

from taco.staging import bring, transfers
from taco.staging.sources import (
    CatalogueError,
    DigestError,
    IncompleteError,
    Lock,
    StagingError,
    brought_by,
    lost,
    read_catalogue,
    source_of,
)

server, place = pytest.fixture(loopback.server), pytest.fixture(loopback.place)
ROOT = Path(__file__).resolve().parents[2]

# Lock files


def test_an_unpublished_digest_is_recorded_and_verified_ever_after(server, place):
    settings = catalogue({"thing": {"from": [{"url": f"{server.url}/file"}]}})
    bring.stage("thing", settings)
    known = locked()["files"]["thing.bin"]
    assert (known["sha256"], known["bytes"]) == (SHA, len(BODY))
    assert "first fetch" in known["recorded"]
    Path("data/thing.bin").unlink()
    catalogue({"thing": {"from": [{"url": f"{server.url}/other"}]}})
    with pytest.raises(StagingError, match="expected 524,288 bytes"):
        bring.stage("thing", settings)
    assert not Path("data/thing.bin").exists()
    assert locked()["files"]["thing.bin"] == known


def test_the_same_size_with_other_bytes_is_refused_and_removed(server, place):
    settings = catalogue({"thing": {"from": [{"url": f"{server.url}/file"}]}})
    known = {"thing": {"files": {"thing.bin": {"sha256": "0" * 64, "bytes": len(BODY), "origin": "me"}}}}
    Path("config/weights.lock.yaml").write_text(yaml.safe_dump(known))
    with pytest.raises(DigestError, match="expected sha256 0000.*found " + SHA):
        bring.stage("thing", settings)
    assert not list(Path("data").glob("*.bin*.part"))


def test_what_stands_in_its_place_is_verified_not_fetched(server, place):
    settings = catalogue({"thing": {"from": [{"url": f"{server.url}/file"}]}})
    bring.stage("thing", settings)
    before = len(server.calls)
    assert bring.stage("thing", settings).way == "present"
    Path("data/thing.bin").write_bytes(BODY[:-1] + b"!")
    with pytest.raises(DigestError, match="delete it and stage it again"):
        bring.stage("thing", settings)
    assert len(server.calls) == before


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [(b"", IncompleteError, "an empty file"), (QUOTA_PAGE, transfers.QuotaError, "downloaded too often")],
)
def test_what_is_no_file_is_not_recorded_from_its_place(place, body, error, words):
    settings = catalogue({"thing": {}})
    Path("data").mkdir()
    Path("data/thing.bin").write_bytes(body)
    with pytest.raises(error, match=words):
        bring.stage("thing", settings)
    assert not Path("config/weights.lock.yaml").exists()
    assert Path("data/thing.bin").exists()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        "thing: 5",
        "thing: {files: [a]}",
        "thing: {files: {a: {}}}",
        "thing: {files: {a: {sha256: 1}}}",
    ],
)
def test_a_spoilt_lock_file_is_named(place, text):
    settings = catalogue({"thing": {}})
    Path("config/weights.lock.yaml").write_text(text)
    with pytest.raises(
        CatalogueError, match="(?s)weights.lock.yaml: expected a lock file.*Restore it from git"
    ):
        bring.stage("thing", settings)


def test_entries_of_other_jobs_survive(place):
    first, second = Lock(Path("config/a.lock.yaml")), Lock(Path("config/a.lock.yaml"))
    files = {"x": place / "x"}
    files["x"].write_bytes(b"x")
    first.record("one", files, "here")
    second.record("two", files, "there")
    assert set(Lock.read("config/a.lock.yaml").entries) == {"one", "two"}


def test_a_mirror_is_tried_and_all_failures_are_told(server, place):
    origins = [{"url": f"{server.url}/gone"}, {"url": f"{server.url}/file"}]
    assert "file" in bring.stage("thing", catalogue({"thing": {"from": origins}})).remark
    Path("data/thing.bin").unlink()
    origins = [{"url": f"{server.url}/gone"}, {"url": f"{server.url}/page"}]
    with pytest.raises(StagingError, match=r"(?s)none of its 2 origins.*1\. .*404.*2\. .*web page"):
        bring.stage("thing", catalogue({"thing": {"from": origins}}))


def test_terms_must_be_accepted_first(server, place):
    entry = {
        "from": [{"url": f"{server.url}/file"}],
        "agreement": True,
        "terms": "Be kind.",
    }
    with pytest.raises(bring.TermsError, match="Be kind.*staging.accepted_terms"):
        bring.stage("thing", catalogue({"thing": entry}))
    assert not server.calls
    bring.stage("thing", catalogue({"thing": entry}, accepted_terms=("thing",)))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"size": 3}, "unknown keys .'size'"),
        ({"lock": "other"}, "lock .weights or datasets"),
        ({"from": [{"url": "a", "hub": "b"}]}, "expected one of url, hub, drive"),
        ({"from": [{"hub": "b", "branch": "main"}]}, "found branch, hub"),
    ],
)
def test_a_wrong_catalogue_names_the_entry(place, entry, words):
    with pytest.raises(CatalogueError, match=f"thing.*{words}"):
        bring.stage("thing", catalogue({"thing": entry}))


# Copies on disk


def test_a_copy_on_disk_is_linked_not_copied(server, place):
    shelf = place / "cluster" / "weights"
    shelf.mkdir(parents=True)
    (shelf / "thing.bin").write_bytes(BODY)
    entry = {"place": "data/weights/thing.bin", "from": [{"url": f"{server.url}/file"}]}
    done = bring.stage("thing", catalogue({"thing": entry}, data_root=place / "cluster"))
    assert done.way == "linked"
    assert Path("data/weights/thing.bin").readlink() == shelf / "thing.bin"
    assert not server.calls


def test_a_wrong_copy_on_disk_is_passed_over(server, place, caplog):
    (place / "cluster").mkdir()
    (place / "cluster/thing.bin").write_bytes(b"something else")
    settings = catalogue({"thing": {"from": [{"url": f"{server.url}/file"}]}}, data_root=place / "cluster")
    known = {"thing": {"files": {"thing.bin": {"sha256": SHA, "bytes": len(BODY)}}}}
    Path("config/weights.lock.yaml").write_text(yaml.safe_dump(known))
    assert bring.stage("thing", settings).way == "fetched"
    assert any("is not used" in message for message in caplog.messages)


def test_a_dataset_on_disk_is_linked_as_a_folder(place):
    made = place / "cluster" / "avsbench"
    (made / "frames").mkdir(parents=True)
    entry = {"place": "data/avsbench", "holds": ["frames"], "inbox": "data/archives/avsbench"}
    done = bring.stage("thing", catalogue({"thing": entry}, data_root=place / "cluster"))
    assert done.way == "linked"
    assert Path("data/avsbench").readlink() == made
    made.rename(place / "cluster" / "elsewhere")
    with pytest.raises(bring.ByHandError, match="expected at data/avsbench, found nothing"):
        bring.stage("thing", catalogue({"thing": entry}, data_root=place / "cluster"))
    assert not Path("data/avsbench").is_symlink()


def test_a_read_only_copy_in_place_is_verified_without_a_guard(place, monkeypatch):
    Path("data").mkdir()
    Path("data/thing.bin").write_bytes(BODY)
    settings = catalogue({"thing": {}})
    # Root, as in containers, may write everywhere: the question is answered for it here.
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert bring.stage("thing", settings).way == "present"
    assert os.listdir("data") == ["thing.bin"]


# Archives that are placed by hand, and archives that are fetched


def test_by_hand_names_place_step_and_terms(place):
    entry = {
        "place": "data/avss",
        "inbox": "data/archives/avss",
        "holds": ["metadata.csv"],
        "request": "Write to the authors.",
        "terms": "Research only.",
    }
    settings = catalogue({"thing": entry})
    words = "data/avss.*Write to the authors.*data/archives/avss/.*metadata.csv.*Research only"
    with pytest.raises(bring.ByHandError, match=words):
        bring.stage("thing", settings)
    inbox = Path("data/archives/avss")
    inbox.mkdir(parents=True)
    (inbox / "part1.zip").write_bytes(zipped({"AVSS/metadata.csv": b"a,b"}))
    with tarfile.open(inbox / "part2.tar.gz", "w:gz") as handle:
        body = tarfile.TarInfo("AVSS/v2/x/frames/0.jpg")
        body.size = 4
        handle.addfile(body, io.BytesIO(b"jpeg"))
    assert bring.stage("thing", settings).way == "unpacked"
    assert Path("data/avss/metadata.csv").read_bytes() == b"a,b"
    assert Path("data/avss/v2/x/frames/0.jpg").read_bytes() == b"jpeg"
    assert set(locked()["files"]) == {"part1.zip", "part2.tar.gz"}
    assert locked()["unpacked"] == {"files": 2, "bytes": 7}
    assert (inbox / "part1.zip").exists()


def test_a_page_placed_as_an_archive_is_named_and_kept(place):
    inbox = Path("data/archives/avss")
    inbox.mkdir(parents=True)
    (inbox / "avss.zip").write_bytes(QUOTA_PAGE)
    entry = {"place": "data/avss", "inbox": str(inbox), "holds": ["metadata.csv"]}
    with pytest.raises(transfers.QuotaError):
        bring.stage("thing", catalogue({"thing": entry}))
    assert (inbox / "avss.zip").exists()


def test_a_fetched_archive_is_unpacked_and_removed(server, place):
    server.files["set.zip"] = zipped({"set/list.csv": b"x", "set/frames/1.jpg": b"jpeg"})
    entry = {
        "place": "data/set",
        "lock": "datasets",
        "archive": "set.zip",
        "holds": ["list.csv", "frames"],
        "from": [{"url": f"{server.url}/archive/set.zip"}],
    }
    settings = catalogue({"thing": entry})
    assert bring.stage("thing", settings).way == "unpacked"
    visible = [path.name for path in Path("data").iterdir() if not path.name.endswith(".guard")]
    assert visible == ["set"]
    assert bring.stage("thing", settings).way == "present"
    Path("data/set/frames/1.jpg").unlink()
    with pytest.raises(bring.IncompleteError, match="expected at least the 2 files of 5 bytes"):
        bring.stage("thing", settings)


# The project's own catalogue


def test_the_catalogue_serves_every_place_of_the_paper_suite():
    catalogue = read_catalogue(ROOT / "config/sources.yaml")
    base = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    paper = yaml.safe_load((ROOT / "config/paper.yaml").read_text())
    for name, options in paper["datasets"].items():
        source = source_of(catalogue, options["root"])
        assert base["datasets"][name]["reader"] in source.readers
    for model in paper["models"].values():
        for key in ("weights", "tokenizer"):
            assert not model.get(key) or source_of(catalogue, model[key]).lock == "weights"
    assert source_of(catalogue, paper["banks"]["general"]["source"]).name == "audioset-labels"
    for source in catalogue.values():
        pinned = [origin for origin in source.origins if origin.tool == "hub"]
        assert all(re.fullmatch("[0-9a-f]{40}", origin.revision) for origin in pinned)
        assert source.origins or source.request, source.name
        assert not source.agreement or source.terms, source.name


def test_every_source_is_brought_by_one_rule():
    catalogue = read_catalogue(ROOT / "config/sources.yaml")
    tools = [re.compile(brought_by(catalogue, tool)) for tool in ("url", "hub", "drive", "hand", "sounds")]
    for name in catalogue:
        assert sum(tool.fullmatch(name) is not None for tool in tools) == 1


def test_a_receipt_whose_data_has_gone_is_seen(place):
    source = read_catalogue(ROOT / "config/sources.yaml")["clap"]
    receipt = place / "clap.json"
    assert not lost(source, receipt)
    receipt.touch()
    assert lost(source, receipt)
    source.place.parent.mkdir(parents=True)
    source.place.touch()
    assert not lost(source, receipt)


def test_the_lock_files_are_digests_of_known_sources():
    catalogue = read_catalogue(ROOT / "config/sources.yaml")
    for kind in ("weights", "datasets"):
        for name, entry in Lock.read(ROOT / f"config/{kind}.lock.yaml").entries.items():
            assert catalogue[name].lock == kind
            for record in entry["files"].values():
                assert re.fullmatch("[0-9a-f]{64}", record["sha256"])
                assert record["recorded"]
