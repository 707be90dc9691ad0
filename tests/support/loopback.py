"""Servers on loopback, good and bad, a working directory of one's own, and catalogues: for the tests of
staging. `server` and `place` become fixtures in the modules that use them."""

import gzip
import hashlib
import http.server
import io
import json
import re
import threading
import time
import zipfile
from pathlib import Path

import yaml

from taco.staging import bring, downloads, transfers

BODY = bytes(range(256)) * 2048  # 512 KiB
CUT = 200_000
KEPT = CUT // downloads.CHUNK * downloads.CHUNK  # whole chunks that arrived before the cut
SHA = hashlib.sha256(BODY).hexdigest()
OTHER = b"another file " * 40000
REVISION = "0123456789abcdef0123456789abcdef01234567"
PATIENCE = transfers.Patience(attempts=4, first_pause=0.01, longest_pause=0.05)
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

    def on_circle(self, _):
        self.send(b"", status=302, Location="/circle")

    def on_empty(self, _):
        self.send(b"")

    def on_nonsense_length(self, _):
        self.send_response(200)
        self.send_header("Content-Length", "many")
        self.end_headers()
        self.wfile.write(BODY)
        self.close_connection = True

    def on_packed(self, _):
        """Sends packed what was asked for as it is."""
        self.send(gzip.compress(BODY), etag=None, Content_Encoding="gzip")

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


def server():
    """A server on loopback; `.url`, `.calls`, and `.files` to serve."""
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    made.handle_error = lambda *_: None  # a client that hangs up is no news
    made.calls, made.files = [], {}
    made.url = f"http://127.0.0.1:{made.server_address[1]}"
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def place(tmp_path, monkeypatch):
    """A working directory of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def catalogue(entries: dict, **staging_options) -> bring.Settings:
    """A catalogue in the working directory, and settings that use it."""
    Path("config").mkdir(exist_ok=True)
    base = {"title": "A thing", "lock": "weights", "place": "data/thing.bin", "licence": "MIT"}
    text = yaml.safe_dump({name: base | entry for name, entry in entries.items()})
    Path("config/sources.yaml").write_text(text)
    return bring.Settings(patience=PATIENCE, **staging_options)


def locked(name: str = "thing", kind: str = "weights") -> dict:
    return yaml.safe_load(Path(f"config/{kind}.lock.yaml").read_text())[name]


def from_hub(server, name="org/model", **more) -> dict:
    """An origin of a catalogue: a repository on the hub that the server plays."""
    return {"hub": name, "revision": REVISION, "endpoint": f"{server.url}/hub", **more}


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as handle:
        for name, body in files.items():
            handle.writestr(name, body)
    return stream.getvalue()
