"""Staging: downloads from servers on loopback, lock files, links to copies on disk, archives of strangers."""

import hashlib
import http.server
import io
import json
import os
import re
import shutil
import stat
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest
import yaml

from taco import archives, downloads, staging
from taco.sources import (
    CatalogueError,
    DigestError,
    Lock,
    Origin,
    StagingError,
    brought_by,
    lost,
    read_catalogue,
    source_of,
)

ROOT = Path(__file__).resolve().parents[1]
BODY = bytes(range(256)) * 2048  # 512 KiB
CUT = 200_000
KEPT = CUT // downloads.CHUNK * downloads.CHUNK  # whole chunks that arrived before the cut
SHA = hashlib.sha256(BODY).hexdigest()
OTHER = b"another file " * 40000
REVISION = "0123456789abcdef0123456789abcdef01234567"
PATIENCE = downloads.Patience(attempts=4, first_pause=0.01, longest_pause=0.05)
QUOTA_PAGE = (
    b"<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title>Sorry, you can't view it</html>"
)


class Handler(http.server.BaseHTTPRequestHandler):
    """One path per kind of server; `calls` remembers (method, path, Range header)."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.serve()

    def do_GET(self):
        self.serve()

    def serve(self):
        name = self.path.split("?")[0].strip("/").split("/")
        self.server.calls.append((self.command, self.path, self.headers.get("Range")))
        getattr(self, f"on_{name[0].replace('-', '_').replace('.', '_')}")(name)

    @property
    def gets(self) -> int:
        return sum(call[:2] == ("GET", self.path) for call in self.server.calls)

    def send(self, body=BODY, status=200, cut=None, etag='"one"', kind="application/octet-stream", **headers):
        """Answer, with a part of the body where the request asks for it; `cut` bytes and then a closed connection."""
        wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        fresh = self.headers.get("If-Range") in (None, etag)
        start = int(wanted[1]) if wanted and etag and fresh and status == 200 else 0
        self.send_response(206 if start else status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if etag:
            self.send_header("ETag", etag)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[start:cut])
        if cut is not None:
            self.close_connection = True

    def on_file(self, _):
        self.send()

    def on_other(self, _):
        self.send(OTHER)

    def on_cut(self, _):
        self.send(cut=CUT if self.gets == 1 else None)

    def on_cut_untagged(self, _):
        self.send(cut=CUT if self.gets == 1 else None, etag=None)

    def on_always_cut(self, _):
        self.send(cut=1000, etag=None)

    def on_changed(self, _):
        first = self.gets == 1
        self.send(OTHER if first else BODY, cut=CUT if first else None, etag='"old"' if first else '"new"')

    def on_liar(self, _):
        """Goes on at another place than was asked for, once."""
        if self.headers.get("Range") and self.gets == 2:
            self.send_response(206)
            self.send_header("Content-Range", f"bytes 7-{len(BODY) - 1}/{len(BODY)}")
            self.send_header("Content-Length", str(len(BODY) - 7))
            self.end_headers()
            self.close_connection = True
            return
        self.send(cut=CUT if self.gets == 1 else None)

    def on_busy(self, _):
        self.send(b"" if self.gets < 3 else BODY, status=503 if self.gets < 3 else 200)

    def on_gone(self, _):
        self.send(b"no such file", status=404)

    def on_page(self, _):
        self.send(b"<html><title>Log in</title></html>", kind="text/html; charset=utf-8")

    def on_disguised_page(self, _):
        self.send(b"\n<!DOCTYPE html><html><title>Log in</title></html>")

    def on_quota(self, _):
        self.send(QUOTA_PAGE, kind="text/html")

    def on_moved(self, _):
        self.send(b"", status=302, Location="/file")

    def on_slow(self, _):
        self.send_response(200)
        self.send_header("Content-Length", "40")
        self.end_headers()
        for _ in range(4):
            time.sleep(0.05)
            self.wfile.write(b"0123456789")

    def on_archive(self, name):
        self.send(self.server.files[name[1]])

    def on_hub(self, name):
        """The hub's way to answer: commit and digest in the headers."""
        if name[1] == "api":
            return self.api(name)
        body = self.server.files.get(name[-1])
        commit = {"X_Repo_Commit": REVISION}
        if body is None:
            return self.send(b"", status=404, X_Error_Code="EntryNotFound", **commit)
        cut = CUT if name[-1] == "cut.bin" and self.gets == 1 else None
        return self.send(body, cut=cut, etag=f'"{hashlib.sha256(body).hexdigest()}"', **commit)

    def api(self, name):
        listed = sorted(file for file in self.server.files if file.startswith(name[4].split(".")[0]))
        if "tree" in name:
            value = [{"type": "file", "path": file, "size": 1, "oid": "0" * 40} for file in listed]
        else:
            value = {"id": "/".join(name[3:5]), "sha": REVISION, "siblings": []}
        self.send(json.dumps(value).encode(), kind="application/json", etag=None)


@pytest.fixture
def server():
    """A server on loopback; `.url`, `.calls`, and `.files` to serve."""
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    made.calls, made.files = [], {}
    made.url = f"http://127.0.0.1:{made.server_address[1]}"
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fetch(server, kind, tmp_path, **wanted):
    part = tmp_path / "thing.part"
    downloads.fetch(
        Origin("url", f"{server.url}/{kind}"), part, downloads.Wanted("thing", **wanted), PATIENCE
    )
    return part


def catalogue(entries: dict, **staging_options) -> staging.Settings:
    """A catalogue in the working directory, and settings that use it."""
    Path("config").mkdir(exist_ok=True)
    base = {"title": "A thing", "lock": "weights", "place": "data/thing.bin", "licence": "MIT"}
    text = yaml.safe_dump({name: base | entry for name, entry in entries.items()})
    Path("config/sources.yaml").write_text(text)
    return staging.Settings(patience=PATIENCE, **staging_options)


def locked(name: str = "thing", kind: str = "weights") -> dict:
    return yaml.safe_load(Path(f"config/{kind}.lock.yaml").read_text())[name]


# Plain addresses


@pytest.mark.parametrize("kind", ["file", "moved"])
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
    patience = downloads.Patience(attempts=4, first_pause=0.02, longest_pause=1)
    with pytest.raises(downloads.TransientError, match="Tried 4 times"):
        downloads.fetch(
            Origin("url", f"{server.url}/always-cut"), tmp_path / "x.part", downloads.Wanted("x"), patience
        )
    with pytest.raises(downloads.TransientError):
        downloads.fetch(
            Origin("url", "http://127.0.0.1:9/x"), tmp_path / "y.part", downloads.Wanted("y"), PATIENCE
        )
    waits = [record.args[2] for record in caplog.records if "next one" in record.msg]
    assert waits[:3] == [0.02, 0.04, 0.08]


def test_a_slow_server_is_waited_for(server, tmp_path):
    assert fetch(server, "slow", tmp_path).read_bytes() == b"0123456789" * 4


def test_a_server_that_stalls_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "READ_SECONDS", 0.01)
    with pytest.raises(downloads.TransientError, match="Tried 4 times"):
        fetch(server, "slow", tmp_path)


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("gone", downloads.GoneError, "answered 404"),
        ("page", downloads.PageError, "web page .'Log in'"),
        ("disguised-page", downloads.PageError, "web page .'Log in'"),
        ("quota", downloads.QuotaError, "downloaded too often"),
    ],
)
def test_what_is_no_file_is_refused_at_once(server, tmp_path, kind, error, words):
    with pytest.raises(error, match=words):
        fetch(server, kind, tmp_path)
    assert len(server.calls) == 1
    assert not any(path.stat().st_size for path in tmp_path.iterdir())


def test_another_size_is_refused_before_the_body_is_read(server, tmp_path):
    with pytest.raises(downloads.SizeError, match="expected 7 bytes for thing, found 524,288"):
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
        downloads.fetch(Origin("url", "http://x"), tmp_path / "x.part", downloads.Wanted("x"), PATIENCE)


# The hub, at a mirror on loopback


def hub(server, name="org/model", **more) -> dict:
    return {"hub": name, "revision": REVISION, "endpoint": f"{server.url}/hub", **more}


def test_the_hub_gives_a_file_at_its_revision(server, place):
    server.files["thing.bin"] = BODY
    done = staging.stage("thing", catalogue({"thing": {"from": [hub(server)]}}))
    assert done.way == "fetched"
    assert Path("data/thing.bin").read_bytes() == BODY
    assert locked()["files"]["thing.bin"]["sha256"] == SHA
    assert all(REVISION in call[1] for call in server.calls)
    assert not [path for path in Path("data").iterdir() if path.suffix in (".hub", ".part")]


def test_the_hub_goes_on_where_it_stopped(server, place, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", downloads.CHUNK)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    server.files["cut.bin"] = BODY
    entry = {"place": "data/cut.bin", "from": [hub(server)]}
    staging.stage("thing", catalogue({"thing": entry}))
    assert Path("data/cut.bin").read_bytes() == BODY
    assert f"bytes={KEPT}-" in [call[2] for call in server.calls]


def test_a_folder_is_fetched_file_by_file(server, place):
    server.files |= {"vocab.json": b"{}", "merges.txt": b"#version"}
    entry = {"place": "data/tokenizer", "files": ["vocab.json", "merges.txt"], "from": [hub(server)]}
    settings = catalogue({"thing": entry})
    staging.stage("thing", settings)
    assert {path.name for path in Path("data/tokenizer").iterdir()} == {"vocab.json", "merges.txt"}
    assert set(locked()["files"]) == {"vocab.json", "merges.txt"}
    assert staging.stage("thing", settings).way == "present"


def test_a_folder_appears_only_when_complete(server, place):
    server.files |= {"vocab.json": b"{}"}
    entry = {"place": "data/tokenizer", "files": ["vocab.json", "merges.txt"], "from": [hub(server)]}
    settings = catalogue({"thing": entry})
    with pytest.raises(downloads.GoneError):
        staging.stage("thing", settings)
    assert not Path("data/tokenizer").exists()
    server.files |= {"merges.txt": b"#version"}
    before = len(server.calls)
    staging.stage("thing", settings)
    assert not [call for call in server.calls[before:] if "vocab" in call[1]]


def test_the_hub_announces_another_digest(server, place):
    server.files["thing.bin"] = OTHER
    settings = catalogue({"thing": {"from": [hub(server)]}})
    known = {"thing": {"files": {"thing.bin": {"sha256": SHA, "bytes": None}}}}
    Path("config/weights.lock.yaml").write_text(yaml.safe_dump(known))
    with pytest.raises(downloads.GoneError, match="the hub announces"):
        staging.stage("thing", settings)
    assert [call[0] for call in server.calls] == ["HEAD"]


def test_a_file_that_the_hub_lacks(server, place):
    with pytest.raises(downloads.GoneError, match="expected the file at this revision"):
        staging.stage("thing", catalogue({"thing": {"from": [hub(server)]}}))


def test_offline_mode_is_named(server, place, monkeypatch):
    from huggingface_hub.errors import OfflineModeIsEnabled

    with (
        pytest.raises(downloads.GoneError, match="Unset it while staging"),
        downloads._hub_errors(Origin("hub", "a/b")),
    ):
        raise OfflineModeIsEnabled("offline")


def test_an_unpinned_revision_is_resolved_and_recorded(server, place):
    server.files["thing.bin"] = BODY
    entry = hub(server)
    del entry["revision"]
    staging.stage("thing", catalogue({"thing": {"from": [entry]}}))
    assert REVISION[:12] in locked()["files"]["thing.bin"]["origin"]


# Google Drive: gdown given an address on loopback


def test_drive_goes_on_where_it_stopped(server, tmp_path, monkeypatch):
    import gdown  # noqa: F401

    monkeypatch.setattr(sys.modules["gdown.download"], "CHUNK_SIZE", downloads.CHUNK)
    part = tmp_path / "thing.part"
    downloads.fetch(Origin("drive", f"{server.url}/cut"), part, downloads.Wanted("thing"), PATIENCE)
    assert part.read_bytes() == BODY
    assert server.calls[-1][2] == f"bytes={KEPT}-"


@pytest.mark.parametrize(("kind", "error"), [("quota", downloads.QuotaError), ("page", downloads.PageError)])
def test_drive_sends_a_page(server, tmp_path, kind, error):
    with pytest.raises(error):
        downloads.fetch(
            Origin("drive", f"{server.url}/{kind}"), tmp_path / "x.part", downloads.Wanted("x"), PATIENCE
        )


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("Too many users have viewed or downloaded this file recently.", downloads.QuotaError),
        ("Sorry, you do not have permission.", downloads.GoneError),
    ],
)
def test_drive_gives_no_link(tmp_path, monkeypatch, words, error):
    import gdown
    from gdown.exceptions import FileURLRetrievalError

    def refuse(**_):
        raise FileURLRetrievalError(words)

    monkeypatch.setattr(gdown, "download", refuse)
    with pytest.raises(error, match=words[:20]):
        downloads.fetch(Origin("drive", "abc"), tmp_path / "x.part", downloads.Wanted("x"), PATIENCE)


def test_drive_size_is_checked_at_the_first_bytes(server, tmp_path):
    with pytest.raises(downloads.SizeError):
        downloads.fetch(
            Origin("drive", f"{server.url}/file"),
            tmp_path / "x.part",
            downloads.Wanted("x", size=7),
            PATIENCE,
        )


# Lock files


def test_an_unpublished_digest_is_recorded_and_verified_ever_after(server, place):
    settings = catalogue({"thing": {"from": [{"url": f"{server.url}/file"}]}})
    staging.stage("thing", settings)
    known = locked()["files"]["thing.bin"]
    assert (known["sha256"], known["bytes"]) == (SHA, len(BODY))
    assert "first fetch" in known["recorded"]
    Path("data/thing.bin").unlink()
    catalogue({"thing": {"from": [{"url": f"{server.url}/other"}]}})
    with pytest.raises(StagingError, match="expected 524,288 bytes"):
        staging.stage("thing", settings)
    assert not Path("data/thing.bin").exists()
    assert locked()["files"]["thing.bin"] == known


def test_the_same_size_with_other_bytes_is_refused_and_removed(server, place):
    settings = catalogue({"thing": {"from": [{"url": f"{server.url}/file"}]}})
    known = {"thing": {"files": {"thing.bin": {"sha256": "0" * 64, "bytes": len(BODY), "origin": "me"}}}}
    Path("config/weights.lock.yaml").write_text(yaml.safe_dump(known))
    with pytest.raises(DigestError, match="expected sha256 0000.*found " + SHA):
        staging.stage("thing", settings)
    assert not list(Path("data").glob("*.bin*.part"))


def test_what_stands_in_its_place_is_verified_not_fetched(server, place):
    settings = catalogue({"thing": {"from": [{"url": f"{server.url}/file"}]}})
    staging.stage("thing", settings)
    before = len(server.calls)
    assert staging.stage("thing", settings).way == "present"
    Path("data/thing.bin").write_bytes(BODY[:-1] + b"!")
    with pytest.raises(DigestError, match="delete it and stage it again"):
        staging.stage("thing", settings)
    assert len(server.calls) == before


def test_entries_of_other_jobs_survive(place):
    first, second = Lock(Path("config/a.lock.yaml")), Lock(Path("config/a.lock.yaml"))
    files = {"x": place / "x"}
    files["x"].write_bytes(b"x")
    first.record("one", files, "here")
    second.record("two", files, "there")
    assert set(Lock.read("config/a.lock.yaml").entries) == {"one", "two"}


def test_a_mirror_is_tried_and_all_failures_are_told(server, place):
    origins = [{"url": f"{server.url}/gone"}, {"url": f"{server.url}/file"}]
    assert "file" in staging.stage("thing", catalogue({"thing": {"from": origins}})).remark
    Path("data/thing.bin").unlink()
    origins = [{"url": f"{server.url}/gone"}, {"url": f"{server.url}/page"}]
    with pytest.raises(StagingError, match=r"(?s)none of its 2 origins.*1\. .*404.*2\. .*web page"):
        staging.stage("thing", catalogue({"thing": {"from": origins}}))


def test_terms_must_be_accepted_first(server, place):
    entry = {
        "from": [{"url": f"{server.url}/file"}],
        "agreement": True,
        "terms": "Be kind.",
    }
    with pytest.raises(staging.TermsError, match="Be kind.*staging.accepted_terms"):
        staging.stage("thing", catalogue({"thing": entry}))
    assert not server.calls
    staging.stage("thing", catalogue({"thing": entry}, accepted_terms=("thing",)))


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
        staging.stage("thing", catalogue({"thing": entry}))


# Copies on disk


def test_a_copy_on_disk_is_linked_not_copied(server, place):
    shelf = place / "cluster" / "weights"
    shelf.mkdir(parents=True)
    (shelf / "thing.bin").write_bytes(BODY)
    entry = {"place": "data/weights/thing.bin", "from": [{"url": f"{server.url}/file"}]}
    done = staging.stage("thing", catalogue({"thing": entry}, data_root=place / "cluster"))
    assert done.way == "linked"
    assert Path("data/weights/thing.bin").readlink() == shelf / "thing.bin"
    assert not server.calls


def test_a_wrong_copy_on_disk_is_passed_over(server, place, caplog):
    (place / "cluster").mkdir()
    (place / "cluster/thing.bin").write_bytes(b"something else")
    settings = catalogue({"thing": {"from": [{"url": f"{server.url}/file"}]}}, data_root=place / "cluster")
    known = {"thing": {"files": {"thing.bin": {"sha256": SHA, "bytes": len(BODY)}}}}
    Path("config/weights.lock.yaml").write_text(yaml.safe_dump(known))
    assert staging.stage("thing", settings).way == "fetched"
    assert any("is not used" in message for message in caplog.messages)


def test_a_dataset_on_disk_is_linked_as_a_folder(place):
    made = place / "cluster" / "avsbench"
    (made / "frames").mkdir(parents=True)
    entry = {"place": "data/avsbench", "holds": ["frames"], "inbox": "data/archives/avsbench"}
    done = staging.stage("thing", catalogue({"thing": entry}, data_root=place / "cluster"))
    assert done.way == "linked"
    assert Path("data/avsbench").readlink() == made
    made.rename(place / "cluster" / "elsewhere")
    with pytest.raises(staging.ByHandError, match="expected at data/avsbench, found nothing"):
        staging.stage("thing", catalogue({"thing": entry}, data_root=place / "cluster"))
    assert not Path("data/avsbench").is_symlink()


def test_a_read_only_copy_in_place_is_verified_without_a_guard(place, monkeypatch):
    Path("data").mkdir()
    Path("data/thing.bin").write_bytes(BODY)
    settings = catalogue({"thing": {}})
    # Root, as in containers, may write everywhere: the question is answered for it here.
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert staging.stage("thing", settings).way == "present"
    assert os.listdir("data") == ["thing.bin"]


# Archives that are placed by hand, and archives that are fetched


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as handle:
        for name, body in files.items():
            handle.writestr(name, body)
    return stream.getvalue()


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
    with pytest.raises(staging.ByHandError, match=words):
        staging.stage("thing", settings)
    inbox = Path("data/archives/avss")
    inbox.mkdir(parents=True)
    (inbox / "part1.zip").write_bytes(zipped({"AVSS/metadata.csv": b"a,b"}))
    with tarfile.open(inbox / "part2.tar.gz", "w:gz") as handle:
        body = tarfile.TarInfo("AVSS/v2/x/frames/0.jpg")
        body.size = 4
        handle.addfile(body, io.BytesIO(b"jpeg"))
    assert staging.stage("thing", settings).way == "unpacked"
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
    with pytest.raises(downloads.QuotaError):
        staging.stage("thing", catalogue({"thing": entry}))
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
    assert staging.stage("thing", settings).way == "unpacked"
    visible = [path.name for path in Path("data").iterdir() if not path.name.endswith(".guard")]
    assert visible == ["set"]
    assert staging.stage("thing", settings).way == "present"
    Path("data/set/frames/1.jpg").unlink()
    with pytest.raises(staging.IncompleteError, match="expected at least the 2 files of 5 bytes"):
        staging.stage("thing", settings)


def test_an_archive_without_what_it_should_hold(place):
    Path("a.zip").write_bytes(zipped({"readme.txt": b"moved", "deep/er/file": b"x"}))
    with pytest.raises(archives.ArchiveError, match="expected metadata.csv inside, found"):
        archives.unpack([Path("a.zip")], Path("out"), ["metadata.csv"])
    assert os.listdir() == ["a.zip"]


def tar_with(**fields) -> bytes:
    """A tar of one good file and one hostile member."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as handle:
        good = tarfile.TarInfo("good.txt")
        good.size = 2
        handle.addfile(good, io.BytesIO(b"ok"))
        bad = tarfile.TarInfo(fields.pop("name", "bad"))
        body = fields.pop("body", b"")
        bad.size = len(body)
        for key, value in fields.items():
            setattr(bad, key, value)
        handle.addfile(bad, io.BytesIO(body))
    return stream.getvalue()


def zip_link() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as handle:
        info = zipfile.ZipInfo("link")
        info.create_system = 3
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        handle.writestr(info, "/etc/passwd")
    return stream.getvalue()


def zip_lying() -> bytes:
    """A zip whose directory says that a member has 1 byte, while its data has a million."""
    body = bytearray(zipped({"a": b"\0" * 1_000_000}))
    at = body.rindex(b"PK\x01\x02")
    body[at + 24 : at + 28] = (1).to_bytes(4, "little")
    return bytes(body)


HOSTILE = {
    "zip climbs out": (zipped({"../out.txt": b"x"}), "outside the archive's folder"),
    "zip climbs out below": (zipped({"a/../../out.txt": b"x"}), "outside the archive's folder"),
    "zip absolute": (zipped({"/tmp/out.txt": b"x"}), "outside the archive's folder"),
    "zip backslash": (zipped({"..\\out.txt": b"x"}), "outside the archive's folder"),
    "zip drive": (zipped({"C:/out.txt": b"x"}), "outside the archive's folder"),
    "zip link": (zip_link(), "a link or device"),
    "zip lies about its size": (zip_lying(), "unpacked, found|complete zip"),
    "zip cut": (zipped({"a": os.urandom(5000)})[:-400], "expected a complete zip or tar"),
    "tar climbs out": (tar_with(name="../out.txt", body=b"x"), "outside the archive's folder"),
    "tar absolute": (tar_with(name="/tmp/out.txt", body=b"x"), "outside the archive's folder"),
    "tar symbolic link": (tar_with(type=tarfile.SYMTYPE, linkname="/etc"), "a link or device"),
    "tar hard link": (tar_with(type=tarfile.LNKTYPE, linkname="good.txt"), "a link or device"),
    "tar device": (tar_with(type=tarfile.CHRTYPE), "a link or device"),
    "tar fifo": (tar_with(type=tarfile.FIFOTYPE), "a link or device"),
    "tar name twice": (tar_with(name="good.txt", body=b"xx"), "a name that comes twice"),
    "tar through a file": (tar_with(name="good.txt/below", body=b"xx"), "through another member"),
    "tar cut": (tar_with(name="b", body=b"x" * 5000)[:4000], "expected a complete zip or tar"),
    "no archive": (b"neither", "expected a complete zip or tar"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_leave_nothing(tmp_path, kind):
    body, words = HOSTILE[kind]
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "a.bin").write_bytes(body)
    with pytest.raises(archives.ArchiveError, match=words):
        archives.unpack([inner / "a.bin"], inner / "out")
    assert os.listdir(inner) == ["a.bin"]
    assert os.listdir(tmp_path) == ["inner"]


def test_an_archive_larger_than_allowed_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped({"a": b"\0" * 100_000}))
    with pytest.raises(archives.ArchiveError, match="at most 50,000 bytes unpacked, found 100,000"):
        archives.unpack([tmp_path / "a.zip"], tmp_path / "out", most_bytes=50_000)
    assert os.listdir(tmp_path) == ["a.zip"]


def test_unpacking_asks_for_room_first(tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(zipped({"a": b"\0" * 100_000}))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=99_000))
    with pytest.raises(archives.DiskFullError, match=r"unpacking a.zip"):
        archives.unpack([tmp_path / "a.zip"], tmp_path / "out")
    assert os.listdir(tmp_path) == ["a.zip"]


def test_an_interrupted_unpacking_starts_anew(tmp_path):
    (tmp_path / ".out.unpacking").mkdir()
    (tmp_path / ".out.unpacking" / "left").write_text("half")
    (tmp_path / "a.zip").write_bytes(zipped({"a": b"x"}))
    assert archives.unpack([tmp_path / "a.zip"], tmp_path / "out") == archives.Contents(1, 1)
    assert os.listdir(tmp_path / "out") == ["a"]


# VGGSound's listed clips


def shard(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as handle:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            handle.addfile(info, io.BytesIO(body))
    return stream.getvalue()


@pytest.fixture
def sounds(server, place):
    """ADE SP without sounds, and settings with shards at a hub."""
    root = Path("data/ade")
    root.mkdir(parents=True)
    rows = ["a_000001.wav", "x/b_000002.wav", "c_000003.wav", "", "a_000001.wav"]
    lines = ["image_location,vggsound_file,ade_class_id", *(f"{n}.jpg,{row},1" for n, row in enumerate(rows))]
    (root / "prompted_segmentation.csv").write_text("\n".join(lines))
    origin = hub(server, "org/shards", repo_type="dataset")
    entry = {"place": "data/ade/audio", "lock": "datasets", "from": [origin]}
    return root, catalogue({"vggsound": entry}, data_root=place / "cluster")


def test_only_listed_sounds_are_taken_and_missing_ones_named(server, sounds, caplog):
    root, settings = sounds
    server.files["shards_00.tar.gz"] = shard(
        {"deep/video/a_000001.wav": b"A", "deep/video/z_000009.wav": b"Z"}
    )
    server.files["shards_01.tar.gz"] = shard({"b_000002.wav": b"B"})
    done = staging.stage("vggsound", settings)
    assert {path.name for path in (root / "audio").glob("[!.]*")} == {"a_000001.wav", "b_000002.wav"}
    assert (root / "audio/a_000001.wav").read_bytes() == b"A"
    assert (root / "missing_sounds.txt").read_text() == "c_000003.wav\n"
    assert "1 sounds missing" in done.remark
    assert any("c_000003.wav" in message for message in caplog.messages)
    before = len([call for call in server.calls if "resolve" in call[1]])
    staging.stage("vggsound", settings)
    assert len([call for call in server.calls if "resolve" in call[1]]) == before, "no shard is fetched twice"


def test_a_damaged_shard_gives_what_it_can_and_the_rest_goes_on(server, sounds, caplog):
    root, settings = sounds
    good = os.urandom(200_000)
    whole = shard({"a_000001.wav": good, "pad.wav": os.urandom(300_000), "c_000003.wav": b"C"})
    server.files["shards_00.tar.gz"] = whole[: len(whole) // 2]
    server.files["shards_01.tar.gz"] = shard({"b_000002.wav": b"B", "c_000003.wav": b"C"})
    staging.stage("vggsound", settings)
    assert (root / "audio/a_000001.wav").read_bytes() == good
    assert not (root / "missing_sounds.txt").exists()
    assert any("reading stops here" in message for message in caplog.messages)


def test_shards_on_disk_are_used_and_kept(server, sounds, place):
    settings = sounds[1]
    (place / "cluster/vggsound").mkdir(parents=True)
    body = shard({name: name.encode() for name in ("a_000001.wav", "b_000002.wav", "c_000003.wav")})
    (place / "cluster/vggsound/vggsound_00.tar.gz").write_bytes(body)
    assert staging.stage("vggsound", settings).remark == "every listed sound is there"
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
    monkeypatch.setattr(staging.downloads, "hub_files", lambda *_: [])
    staging.stage("vggsound", settings)
    assert (root / "audio/a_000001.wav").read_bytes() == b"RIFF video"
    assert (root / "missing_sounds.txt").read_text() == "b_000002.wav\n"
    assert not [path for path in (root / "audio").iterdir() if path.suffix in (".mp4", ".partial")]


def test_a_video_without_ffmpeg_is_explained(sounds, place, monkeypatch):
    settings = sounds[1]
    (place / "cluster/vggsound").mkdir(parents=True)
    (place / "cluster/vggsound/00.tar").write_bytes(shard({"a_000001.mp4": b"video"}))
    monkeypatch.setattr(staging.shutil, "which", lambda _: None)
    with pytest.raises(StagingError, match="Install it"):
        staging.stage("vggsound", settings)


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
        pinned = [origin for origin in source.origins if origin.tool == "hub" and source.lock == "weights"]
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
