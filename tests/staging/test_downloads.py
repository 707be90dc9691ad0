"""Downloads from servers on loopback: plain addresses, a mirror of the hub, and gdown given such an address."""

import contextlib
import importlib
import json
import shutil
import types
from pathlib import Path

import loopback
import pytest
import yaml
from loopback import BODY, KEPT, OTHER, PATIENCE, REVISION, SHA, catalogue, from_hub, locked

from taco.staging import archives, bring, downloads, hub, transfers
from taco.staging.sources import Origin

server, place = pytest.fixture(loopback.server), pytest.fixture(loopback.place)


def fetch(server, kind, tmp_path, **wanted):
    part = tmp_path / "thing.part"
    downloads.fetch(
        Origin("url", f"{server.url}/{kind}"), part, transfers.Wanted("thing", **wanted), PATIENCE
    )
    return part


# Plain addresses


@pytest.mark.parametrize("kind", ["file", "moved", "nonsense-length", "packed"])
def test_a_file_is_fetched_whole(server, tmp_path, kind):
    assert fetch(server, kind, tmp_path).read_bytes() == BODY


def test_a_broken_transfer_goes_on_where_it_stopped(server, tmp_path):
    assert fetch(server, "cut", tmp_path, size=len(BODY)).read_bytes() == BODY
    ranges = [call[2] for call in server.calls]
    assert ranges == [None, f"bytes={KEPT}-"]


def test_a_later_run_goes_on_where_an_earlier_one_stopped(server, tmp_path):
    part = tmp_path / "thing.part"
    part.write_bytes(BODY[:1234])
    part.with_name("thing.part.etag").write_text(json.dumps('"one"'))
    assert fetch(server, "file", tmp_path).read_bytes() == BODY
    assert server.calls[0][2] == "bytes=1234-"
    assert not part.with_name("thing.part.etag").exists()


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("cut-untagged", "without a tag nobody can tell whether the file is the same"),
        ("changed", "the server has another file meanwhile"),
        ("liar", "the server goes on at another place"),
    ],
)
def test_a_transfer_that_cannot_go_on_begins_again(server, tmp_path, kind, why):
    assert fetch(server, kind, tmp_path).read_bytes() == BODY, why


def test_a_busy_server_is_asked_again(server, tmp_path, caplog):
    assert fetch(server, "busy", tmp_path).read_bytes() == BODY
    assert sum("503" in message for message in caplog.messages) == 2


def test_pauses_grow(server, tmp_path, caplog):
    patience = transfers.Patience(attempts=4, first_pause=0.02, longest_pause=1)
    with pytest.raises(transfers.TransientError, match="Tried 4 times"):
        downloads.fetch(
            Origin("url", f"{server.url}/always-cut"), tmp_path / "x.part", transfers.Wanted("x"), patience
        )
    with pytest.raises(transfers.TransientError):
        downloads.fetch(
            Origin("url", "http://127.0.0.1:9/x"), tmp_path / "y.part", transfers.Wanted("y"), PATIENCE
        )
    waits = [record.args[2] for record in caplog.records if "next one" in record.msg]
    assert waits[:3] == [0.02, 0.04, 0.08]


def test_where_no_server_answers_few_attempts_are_enough(tmp_path, caplog):
    with pytest.raises(transfers.UnreachableError, match="(?s)expected a server, found none.*Tried 3 times"):
        downloads.fetch(
            Origin("url", "http://127.0.0.1:9/x"), tmp_path / "x.part", transfers.Wanted("x"), PATIENCE
        )
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("kind", ["hub", "drive"])
def test_an_unreachable_hub_or_drive_is_told_as_soon(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(
        "huggingface_hub.file_download.http_backoff", lambda **_: pytest.fail("its own patience")
    )
    address = {"hub": "org/model", "drive": "http://127.0.0.1:9/x"}[kind]
    origin = Origin(kind, address, REVISION, endpoint="http://127.0.0.1:9")
    with pytest.raises(transfers.UnreachableError, match="Tried 3 times"):
        downloads.fetch(origin, tmp_path / "x.part", transfers.Wanted("x"), PATIENCE)


def test_a_circle_of_redirects_is_an_address_that_leads_nowhere(server, tmp_path):
    with pytest.raises(transfers.GoneError, match="leads nowhere"):
        fetch(server, "circle", tmp_path)


def test_a_redirect_from_a_safe_connection_to_an_open_one_is_refused(tmp_path):
    answer = types.SimpleNamespace(
        url="http://elsewhere/file", status_code=200, is_redirect=False, headers={}
    )
    for secure in (True, False):
        with (tmp_path / "x.part").open("ab") as stream:
            guard = downloads._Guard(tmp_path / "x.part", stream, transfers.Wanted("x"), secure)
            with pytest.raises(transfers.GoneError, match="open one") if secure else contextlib.nullcontext():
                guard(answer)


def test_a_slow_server_is_waited_for(server, tmp_path):
    assert fetch(server, "slow", tmp_path).read_bytes() == b"0123456789" * 4


def test_a_server_that_stalls_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfers, "READ_SECONDS", 0.01)
    with pytest.raises(transfers.TransientError, match="Tried 4 times"):
        fetch(server, "slow", tmp_path)


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("gone", transfers.GoneError, "answered 404"),
        ("page", transfers.PageError, "web page .'Log in'"),
        ("disguised-page", transfers.PageError, "web page .'Log in'"),
        ("quota", transfers.QuotaError, "downloaded too often"),
        ("empty", transfers.SizeError, "the file has no bytes"),
    ],
)
def test_what_is_no_file_is_refused_at_once(server, tmp_path, kind, error, words):
    with pytest.raises(error, match=words):
        fetch(server, kind, tmp_path)
    assert len(server.calls) == 1
    assert not any(path.stat().st_size for path in tmp_path.iterdir())


def test_another_size_is_refused_before_the_body_is_read(server, tmp_path):
    with pytest.raises(transfers.SizeError, match="expected 7 bytes for thing, found 524,288"):
        fetch(server, "file", tmp_path, size=7)
    assert (tmp_path / "thing.part").stat().st_size == 0


def test_a_full_disk_is_refused_before_the_body_is_read(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(archives.DiskFullError, match="needs 0.00 GB, the disk has 0.00 GB free"):
        fetch(server, "file", tmp_path)
    assert (tmp_path / "thing.part").stat().st_size == 0


def test_a_disk_that_becomes_full_says_so(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloads, "_from_url", full)
    with pytest.raises(archives.DiskFullError, match="became full"):
        downloads.fetch(Origin("url", "http://x"), tmp_path / "x.part", transfers.Wanted("x"), PATIENCE)


# The hub, at a mirror on loopback


def test_the_hub_gives_a_file_at_its_revision(server, place):
    server.files["thing.bin"] = BODY
    done = bring.stage("thing", catalogue({"thing": {"from": [from_hub(server)]}}))
    assert done.way == "fetched"
    assert Path("data/thing.bin").read_bytes() == BODY
    assert locked()["files"]["thing.bin"]["sha256"] == SHA
    assert all(REVISION in call[1] for call in server.calls)
    assert not [path for path in Path("data").iterdir() if path.suffix in (".hub", ".part")]


def test_the_hub_goes_on_where_it_stopped(server, place, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", downloads.CHUNK)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    server.files["cut.bin"] = BODY
    entry = {"place": "data/cut.bin", "from": [from_hub(server)]}
    bring.stage("thing", catalogue({"thing": entry}))
    assert Path("data/cut.bin").read_bytes() == BODY
    assert f"bytes={KEPT}-" in [call[2] for call in server.calls]


def test_a_folder_is_fetched_file_by_file(server, place):
    server.files |= {"vocab.json": b"{}", "merges.txt": b"#version"}
    entry = {"place": "data/tokenizer", "files": ["vocab.json", "merges.txt"], "from": [from_hub(server)]}
    settings = catalogue({"thing": entry})
    bring.stage("thing", settings)
    assert {path.name for path in Path("data/tokenizer").iterdir()} == {"vocab.json", "merges.txt"}
    assert set(locked()["files"]) == {"vocab.json", "merges.txt"}
    assert bring.stage("thing", settings).way == "present"


def test_a_folder_appears_only_when_complete(server, place):
    server.files |= {"vocab.json": b"{}"}
    entry = {"place": "data/tokenizer", "files": ["vocab.json", "merges.txt"], "from": [from_hub(server)]}
    settings = catalogue({"thing": entry})
    with pytest.raises(transfers.GoneError):
        bring.stage("thing", settings)
    assert not Path("data/tokenizer").exists()
    server.files |= {"merges.txt": b"#version"}
    before = len(server.calls)
    bring.stage("thing", settings)
    assert not [call for call in server.calls[before:] if "vocab" in call[1]]


def test_the_hub_announces_another_digest(server, place):
    server.files["thing.bin"] = OTHER
    settings = catalogue({"thing": {"from": [from_hub(server)]}})
    known = {"thing": {"files": {"thing.bin": {"sha256": SHA, "bytes": None}}}}
    Path("config/weights.lock.yaml").write_text(yaml.safe_dump(known))
    with pytest.raises(transfers.GoneError, match="the hub announces"):
        bring.stage("thing", settings)
    assert {call[0] for call in server.calls} == {"HEAD"}


def test_a_file_that_the_hub_lacks(server, place):
    with pytest.raises(transfers.GoneError, match="expected the file at this revision"):
        bring.stage("thing", catalogue({"thing": {"from": [from_hub(server)]}}))


def test_a_page_in_place_of_the_hub_is_named(server, place):
    origin = {"hub": "org/model", "revision": REVISION, "endpoint": f"{server.url}/page"}
    with pytest.raises(transfers.PageError, match="Check HF_ENDPOINT"):
        bring.stage("thing", catalogue({"thing": {"from": [origin]}}))


def test_offline_mode_is_named(server, place, monkeypatch):
    from huggingface_hub.errors import OfflineModeIsEnabled

    with (
        pytest.raises(transfers.GoneError, match="Unset it while staging"),
        hub._hub_errors(Origin("hub", "a/b")),
    ):
        raise OfflineModeIsEnabled("offline")


def test_an_unpinned_revision_is_resolved_and_recorded(server, place):
    server.files["thing.bin"] = BODY
    entry = from_hub(server)
    del entry["revision"]
    bring.stage("thing", catalogue({"thing": {"from": [entry]}}))
    assert REVISION[:12] in locked()["files"]["thing.bin"]["origin"]


# Google Drive: gdown given an address on loopback


def test_drive_goes_on_where_it_stopped(server, tmp_path, monkeypatch):

    monkeypatch.setattr(importlib.import_module("gdown.download"), "CHUNK_SIZE", downloads.CHUNK)
    part = tmp_path / "thing.part"
    downloads.fetch(Origin("drive", f"{server.url}/cut"), part, transfers.Wanted("thing"), PATIENCE)
    assert part.read_bytes() == BODY
    assert server.calls[-1][2] == f"bytes={KEPT}-"


@pytest.mark.parametrize(("kind", "error"), [("quota", transfers.QuotaError), ("page", transfers.PageError)])
def test_drive_sends_a_page(server, tmp_path, kind, error):
    with pytest.raises(error):
        downloads.fetch(
            Origin("drive", f"{server.url}/{kind}"), tmp_path / "x.part", transfers.Wanted("x"), PATIENCE
        )


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("Too many users have viewed or downloaded this file recently.", transfers.QuotaError),
        ("Sorry, you do not have permission.", transfers.GoneError),
    ],
)
def test_drive_gives_no_link(tmp_path, monkeypatch, words, error):
    import gdown
    from gdown.exceptions import FileURLRetrievalError

    def refuse(**_):
        raise FileURLRetrievalError(words)

    monkeypatch.setattr(gdown, "download", refuse)
    with pytest.raises(error, match=words[:20]):
        downloads.fetch(Origin("drive", "abc"), tmp_path / "x.part", transfers.Wanted("x"), PATIENCE)


def test_drive_size_is_checked_at_the_first_bytes(server, tmp_path):
    with pytest.raises(transfers.SizeError):
        downloads.fetch(
            Origin("drive", f"{server.url}/file"),
            tmp_path / "x.part",
            transfers.Wanted("x", size=7),
            PATIENCE,
        )
