"""Fetch one file from the network, with the tool that its origin asks for.

pooch brings plain addresses, huggingface_hub files of the hub, gdown files of Google Drive. Whatever the tool, the
file lands under a private name, a broken transfer is tried again after growing pauses and goes on where it stopped,
and what can be refused early is refused early: a page instead of a file, another size, a disk too full.
"""

import contextlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tqdm import tqdm

from taco.runtime import DISK_FULL
from taco.staging import hub, transfers
from taco.staging.archives import DiskFullError, require_space
from taco.staging.sources import Origin
from taco.staging.transfers import (
    GoneError,
    Patience,
    QuotaError,
    SizeError,
    TransientError,
    Wanted,
    brief,
    check_size,
    network_errors,
    page_error,
    quota_message,
    refuse_page,
)

log = logging.getLogger("taco")

# What a broken transfer loses at most, in bytes.
CHUNK = 1 << 16


def fetch(origin: Origin, part: Path, wanted: Wanted, patience: Patience | None = None) -> None:
    """Bring one file to `part`.

    Parameters
    ----------
    origin : Origin
        Where from.
    part : Path
        Private name. What an earlier attempt left there (or beside it) is used where the server allows.
    wanted : Wanted
    patience : Patience, optional

    Raises
    ------
    PageError, QuotaError, SizeError, GoneError, DiskFullError, TransientError
        Each says where, what was expected, what was found, what to do.
    """
    patience = patience or Patience()
    part.parent.mkdir(parents=True, exist_ok=True)
    bring = {"url": _from_url, "hub": hub.bring, "drive": _from_drive}[origin.tool]
    try:
        patience.call(bring, origin, part, wanted)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise DiskFullError(
                f"{part}: the disk became full while {wanted.name} arrived. Free some room and start again; "
                "what has arrived is kept."
            ) from error
        raise
    if part.stat().st_size == 0:
        raise SizeError(
            f"{origin}: expected {wanted.name}, found nothing: the file has no bytes. Stage again later."
        )
    refuse_page(part, str(origin))
    check_size(part.stat().st_size, wanted, str(origin))


@contextlib.contextmanager
def _progress(name: str) -> Iterator[tqdm]:
    """A bar on a terminal, nothing elsewhere. The total is known later; 1 keeps its truth value defined until then."""
    with tqdm(total=1, desc=name, unit="B", unit_scale=True, disable=None, ncols=100) as bar:
        yield bar


def _from_url(origin: Origin, part: Path, wanted: Wanted) -> None:
    """pooch's downloader, told to go on behind the bytes that are there already."""
    from pooch import HTTPDownloader

    with part.open("ab") as stream, _progress(wanted.name) as bar, network_errors(origin.address):
        headers = {"Accept-Encoding": "identity"}
        tag = _tag_path(part)
        if stream.tell() and tag.exists():
            # If-Range: a file that has changed meanwhile is sent from its beginning.
            headers |= {"Range": f"bytes={stream.tell()}-", "If-Range": json.loads(tag.read_text())}
        else:
            stream.truncate(0)
        guard = _Guard(part, stream, wanted, origin.address.startswith("https:"))
        downloader = HTTPDownloader(
            progressbar=bar,
            chunk_size=CHUNK,
            headers=headers,
            hooks={"response": guard},
            timeout=(transfers.CONNECT_SECONDS, transfers.READ_SECONDS),
        )
        downloader(origin.address, stream, None)
    if guard.total is not None and part.stat().st_size != guard.total:
        raise TransientError(
            f"{origin.address}: expected {guard.total:,} bytes, the transfer ended after {part.stat().st_size:,}."
        )
    tag.unlink(missing_ok=True)


class _Guard:
    """Look at a response before its body is read: status, kind, size, room on the disk, and where it goes on."""

    def __init__(self, part: Path, stream, wanted: Wanted, secure: bool) -> None:
        self.part, self.stream, self.wanted, self.secure = part, stream, wanted, secure
        self.total: int | None = None

    def __call__(self, response, **_) -> None:
        if self.secure and response.url.startswith("http:"):
            raise GoneError(
                f"{response.url}: expected a safe connection to the end, found a redirect to an open one. Check the "
                "network's login, or correct the address in config/sources.yaml."
            )
        if response.is_redirect or response.status_code not in (200, 206):
            if response.status_code == 416:
                self._restart()
            return
        if "text/html" in response.headers.get("Content-Type", ""):
            self._restart()
            raise page_error(response.raw.read(1 << 16, decode_content=True), response.url)
        offset = self._offset(response)
        length = _length(response.headers)
        self.total = None if length is None else offset + length
        if length is None:
            response.headers.pop("Content-Length", None)  # nonsense, which pooch would take for a number
            if self.wanted.sha256 is None:
                log.warning(
                    "%s does not say how long it is: nobody can tell whether it is whole", response.url
                )
        if self.total is not None:
            check_size(self.total, self.wanted, response.url)
        expected = self.wanted.size or self.wanted.rough_size if self.total is None else self.total
        require_space(self.part.parent, max(0, expected - offset), self.wanted.name)
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if tag and not tag.startswith("W/"):
            _tag_path(self.part).write_text(json.dumps(tag))

    def _offset(self, response) -> int:
        """Bytes kept of an earlier attempt."""
        if response.status_code == 206:
            start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            if start and int(start[1]) == self.stream.tell():
                log.info("%s: going on after %d bytes", self.wanted.name, self.stream.tell())
                return self.stream.tell()
            self._restart()
            raise TransientError(f"{response.url}: the server went on at another place than was asked for.")
        self._restart()
        return 0

    def _restart(self) -> None:
        self.stream.truncate(0)
        _tag_path(self.part).unlink(missing_ok=True)


def _length(headers: Mapping[str, str]) -> int | None:
    """Bytes of the body, None where the server does not say (or says nonsense, or packs them)."""
    length = headers.get("Content-Length", "")
    packed = headers.get("Content-Encoding", "identity") != "identity"
    return int(length) if length.isdecimal() and not packed else None


def _tag_path(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _from_drive(origin: Origin, part: Path, wanted: Wanted) -> None:
    """gdown, which continues its own unfinished files."""
    import gdown
    from gdown.exceptions import DownloadError, FileURLRetrievalError

    require_space(part.parent, wanted.size or wanted.rough_size, wanted.name)
    address = {"url": origin.address} if "://" in origin.address else {"id": origin.address}
    part.unlink(missing_ok=True)
    try:
        with _progress(wanted.name) as bar, network_errors(str(origin)):
            watch = _watch(bar, part, wanted, origin)
            timeout = (transfers.CONNECT_SECONDS, transfers.READ_SECONDS)
            gdown.download(
                **address,
                output=str(part),
                quiet=True,
                resume=True,
                use_cookies=False,
                timeout=timeout,
                progress=watch,
            )
    except FileURLRetrievalError as error:
        words = brief(error)
        if any(word in words.lower().encode() for word in (*transfers.QUOTA_WORDS, b"many accesses")):
            raise QuotaError(quota_message(str(origin), words)) from error
        raise GoneError(
            f"{origin}: Google Drive gives no link to the file ({words}). It may have gone or may ask for permission: "
            "see config/README.md, “When a source has gone”."
        ) from error
    except DownloadError as error:
        raise TransientError(f"{origin}: the transfer broke ({brief(error)}).") from error


def _watch(bar: tqdm, part: Path, wanted: Wanted, origin: Origin) -> Callable[[int, int | None], None]:
    """gdown's progress callback: moves the bar; the first call checks size and room."""
    seen = False

    def watch(done: int, total: int | None) -> None:
        nonlocal seen
        if not seen and total is not None:
            seen = True
            bar.total = total
            check_size(total, wanted, str(origin))
            require_space(part.parent, total - done, wanted.name)
        bar.update(done - bar.n)

    return watch
