"""Fetch one file from the network, with the tool that its origin asks for.

pooch brings plain addresses, huggingface_hub files of the hub, gdown files of Google Drive. Whatever the tool, the
file lands under a private name, a broken transfer is tried again after growing pauses and goes on where it stopped,
and what can be refused early is refused early: a page instead of a file, another size, a disk too full.
"""

import contextlib
import errno
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import tenacity
from tqdm import tqdm

from taco.archives import DiskFullError, require_space
from taco.runtime import file_digest
from taco.sources import Origin, StagingError

log = logging.getLogger("taco")

# What a broken transfer loses at most, in bytes.
CHUNK = 1 << 16
CONNECT_SECONDS, READ_SECONDS = 30, 60
SHA256 = re.compile(r"[0-9a-f]{64}")
QUOTA_WORDS = (b"quota exceeded", b"too many users have viewed", b"download quota")
HTML_STARTS = (b"<!doctype html", b"<html", b"<head", b"<?xml")
RETRIED_STATUS = (408, 425, 429, 500, 502, 503, 504)


class PageError(StagingError):
    """The server sent a web page where a file was expected."""


class QuotaError(StagingError):
    """The server refuses for now, because the file was fetched too often."""


class SizeError(StagingError):
    """The file has another size than the one that is known."""


class GoneError(StagingError):
    """The server no longer has the file, or no longer gives it to everybody."""


class TransientError(StagingError):
    """A transfer broke; trying again may help."""


@dataclass(frozen=True)
class Wanted:
    """What is known of a file before it is fetched.

    Attributes
    ----------
    name : str
        Its name, for messages and the hub.
    size : int, optional
        Exact bytes, where recorded.
    sha256 : str, optional
        Where recorded.
    rough_size : int
        Bytes to reserve where nobody says how large it is.
    """

    name: str
    size: int | None = None
    sha256: str | None = None
    rough_size: int = 0


@dataclass(frozen=True)
class Patience:
    """How often a broken transfer is tried again, and how the pauses grow (seconds, doubled each time)."""

    attempts: int = 6
    first_pause: float = 2.0
    longest_pause: float = 120.0


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
    bring = {"url": _from_url, "hub": _from_hub, "drive": _from_drive}[origin.tool]
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(patience.attempts),
        wait=tenacity.wait_exponential(multiplier=patience.first_pause, max=patience.longest_pause),
        retry=tenacity.retry_if_exception_type(TransientError),
        before_sleep=_announce,
        reraise=True,
    )
    try:
        retrying(bring, origin, part, wanted)
    except TransientError as error:
        raise TransientError(
            f"{error}. Tried {patience.attempts} times. What has arrived is kept: stage again later, or check the network."
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFullError(
                f"{part}: the disk became full while {wanted.name} arrived. Free some room and start again; "
                "what has arrived is kept."
            ) from error
        raise
    refuse_page(part, str(origin))
    _check_size(part.stat().st_size, wanted, str(origin))


def _announce(state: tenacity.RetryCallState) -> None:
    log.warning(
        "%s — attempt %d, next one in %.0f s",
        state.outcome.exception(),
        state.attempt_number,
        state.next_action.sleep,
    )


def refuse_page(path: Path, origin: str, *, remove: bool = True) -> None:
    """Raise `PageError` or `QuotaError` where the first bytes are those of a web page; ours is removed, a user's kept."""
    if path.suffix in (".html", ".xml"):
        return
    with path.open("rb") as stream:
        head = stream.read(1 << 16)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(HTML_STARTS):
        if remove:
            path.unlink()
        raise _page_error(head, origin)


def _page_error(body: bytes, origin: str) -> StagingError:
    title = re.search(rb"<title[^>]*>(.*?)</title>", body, re.IGNORECASE | re.DOTALL)
    words = " ".join(title[1].decode("utf-8", "replace").split())[:120] if title else "no title"
    if any(word in body.lower() for word in QUOTA_WORDS):
        return QuotaError(_quota_message(origin, words))
    return PageError(
        f"{origin}: expected a file, found a web page ({words!r}). The file may have moved or may ask for a login: open "
        "the address in a browser, and place the file by hand or correct the address in config/sources.yaml."
    )


def _quota_message(origin: str, words: str) -> str:
    return (
        f"{origin}: expected a file, found the notice that it was downloaded too often ({words!r}). Wait a day, or "
        "fetch it in a browser with your own account and place it by hand (`taco doctor` says where)."
    )


def _check_size(found: int, wanted: Wanted, origin: str) -> None:
    if wanted.size is not None and found != wanted.size:
        raise SizeError(
            f"{origin}: expected {wanted.size:,} bytes for {wanted.name}, found {found:,}. The file at its source has "
            "changed, or this is not it: see config/README.md, “When a source has gone”."
        )


@contextlib.contextmanager
def _progress(name: str) -> Iterator[tqdm]:
    """A bar on a terminal, nothing elsewhere. The total is known later; 1 keeps its truth value defined until then."""
    with tqdm(total=1, desc=name, unit="B", unit_scale=True, disable=None, ncols=100) as bar:
        yield bar


def _from_url(origin: Origin, part: Path, wanted: Wanted) -> None:
    """pooch's downloader, told to go on behind the bytes that are there already."""
    from pooch import HTTPDownloader

    with part.open("ab") as stream, _progress(wanted.name) as bar, _network_errors(origin.address):
        headers = {"Accept-Encoding": "identity"}
        tag = _tag_path(part)
        if stream.tell() and tag.exists():
            # If-Range: a file that has changed meanwhile is sent from its beginning.
            headers |= {"Range": f"bytes={stream.tell()}-", "If-Range": json.loads(tag.read_text())}
        else:
            stream.truncate(0)
        guard = _Guard(part, stream, wanted)
        downloader = HTTPDownloader(
            progressbar=bar,
            chunk_size=CHUNK,
            headers=headers,
            hooks={"response": guard},
            timeout=(CONNECT_SECONDS, READ_SECONDS),
        )
        downloader(origin.address, stream, None)
    if guard.total is not None and part.stat().st_size != guard.total:
        raise TransientError(
            f"{origin.address}: expected {guard.total:,} bytes, the transfer ended after {part.stat().st_size:,}"
        )
    tag.unlink(missing_ok=True)


class _Guard:
    """Look at a response before its body is read: status, kind, size, room on the disk, and where it goes on."""

    def __init__(self, part: Path, stream, wanted: Wanted) -> None:
        self.part, self.stream, self.wanted = part, stream, wanted
        self.total: int | None = None

    def __call__(self, response, **_) -> None:
        if response.is_redirect or response.status_code not in (200, 206):
            if response.status_code == 416:
                self._restart()
            return
        if "text/html" in response.headers.get("Content-Type", ""):
            self._restart()
            raise _page_error(response.raw.read(1 << 16, decode_content=True), response.url)
        offset = self._offset(response)
        length = response.headers.get("Content-Length")
        self.total = offset + int(length) if length is not None else None
        if self.total is not None:
            _check_size(self.total, self.wanted, response.url)
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
            raise TransientError(f"{response.url}: the server went on at another place than was asked for")
        self._restart()
        return 0

    def _restart(self) -> None:
        self.stream.truncate(0)
        _tag_path(self.part).unlink(missing_ok=True)


def _tag_path(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


@contextlib.contextmanager
def _network_errors(address: str) -> Iterator[None]:
    """Turn the errors of requests into ours: worth another attempt, or not."""
    import requests

    try:
        yield
    except requests.HTTPError as error:
        status = error.response.status_code
        raise _status_error(address, status) from error
    except (requests.exceptions.SSLError, requests.exceptions.InvalidURL) as error:
        raise GoneError(
            f"{address}: expected a safe connection, found {error}. Check the address and clock."
        ) from error
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise TransientError(f"{address}: the transfer broke ({_brief(error)})") from error


def _status_error(address: str, status: int) -> StagingError:
    if status in RETRIED_STATUS or status == 416:
        return TransientError(f"{address}: the server answered {status}")
    return GoneError(
        f"{address}: expected a file, the server answered {status}. The source has moved, gone, or asks for a login: "
        "see config/README.md, “When a source has gone”."
    )


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _from_hub(origin: Origin, part: Path, wanted: Wanted) -> None:
    """huggingface_hub, into a folder of our own, where it keeps and continues what has arrived."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    file = origin.file or wanted.name
    place = {"repo_id": origin.address, "repo_type": origin.repo_type, "revision": origin.revision}
    folder = part.with_name(part.name + ".hub")
    with _network_errors(str(origin)), _hub_errors(origin):
        address = hf_hub_url(filename=file, endpoint=origin.endpoint, **place)
        known = get_hf_file_metadata(address, timeout=READ_SECONDS, endpoint=origin.endpoint)
        # The hub names large files by their sha256: a wrong one is refused before it is fetched.
        if wanted.sha256 and known.etag and SHA256.fullmatch(known.etag) and known.etag != wanted.sha256:
            raise GoneError(
                f"{origin}: {file}: expected sha256 {wanted.sha256}, the hub announces {known.etag}. The repository "
                "has changed: pin the revision that has the recorded file."
            )
        if known.size is not None:
            _check_size(known.size, wanted, str(origin))
            require_space(part.parent, known.size, wanted.name)
        arrived = Path(hf_hub_download(filename=file, local_dir=folder, endpoint=origin.endpoint, **place))
    announced = known.etag if known.etag and SHA256.fullmatch(known.etag) else None
    arrived.replace(part)
    shutil.rmtree(folder)
    if announced:
        _check_announced(part, announced, origin)


def _check_announced(part: Path, announced: str, origin: Origin) -> None:
    if (found := file_digest(part)) != announced:
        part.unlink()
        raise TransientError(f"{origin}: expected sha256 {announced}, what arrived has {found}")


@contextlib.contextmanager
def _hub_errors(origin: Origin) -> Iterator[None]:
    from huggingface_hub import errors

    try:
        yield
    except errors.OfflineModeIsEnabled as error:
        raise GoneError(
            f"{origin}: HF_HUB_OFFLINE is set. Unset it while staging; set it again for runs."
        ) from error
    except errors.GatedRepoError as error:
        raise GoneError(
            f"{origin}: the repository asks for a login and its terms. Accept them on its page, then `hf auth login`."
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise TransientError(f"{origin}: the hub cannot be reached ({_brief(error)})") from error
        raise GoneError(
            f"{origin}: expected the file at this revision, the hub answered: {_brief(error)}. See config/README.md, "
            "“When a source has gone”."
        ) from error
    except errors.FileMetadataError as error:
        raise PageError(
            f"{origin}: expected the hub, found another server ({_brief(error)}). Check HF_ENDPOINT."
        ) from error


def _from_drive(origin: Origin, part: Path, wanted: Wanted) -> None:
    """gdown, which continues its own unfinished files."""
    import gdown
    from gdown.exceptions import DownloadError, FileURLRetrievalError

    require_space(part.parent, wanted.size or wanted.rough_size, wanted.name)
    address = {"url": origin.address} if "://" in origin.address else {"id": origin.address}
    part.unlink(missing_ok=True)
    try:
        with _progress(wanted.name) as bar, _network_errors(str(origin)):
            watch = _watch(bar, part, wanted, origin)
            timeout = (CONNECT_SECONDS, READ_SECONDS)
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
        words = _brief(error)
        if any(word in words.lower().encode() for word in (*QUOTA_WORDS, b"many accesses")):
            raise QuotaError(_quota_message(str(origin), words)) from error
        raise GoneError(
            f"{origin}: Google Drive gives no link to the file ({words}). It may have gone or may ask for permission: "
            "see config/README.md, “When a source has gone”."
        ) from error
    except DownloadError as error:
        raise TransientError(f"{origin}: the transfer broke ({_brief(error)})") from error


def _watch(bar: tqdm, part: Path, wanted: Wanted, origin: Origin) -> Callable[[int, int | None], None]:
    """gdown's progress callback: moves the bar; the first call checks size and room."""
    seen = False

    def watch(done: int, total: int | None) -> None:
        nonlocal seen
        if not seen and total is not None:
            seen = True
            bar.total = total
            _check_size(total, wanted, str(origin))
            require_space(part.parent, total - done, wanted.name)
        bar.update(done - bar.n)

    return watch


def resolve_revision(origin: Origin) -> Origin:
    """The same origin at the commit that it has now, where the catalogue pins none."""
    from huggingface_hub import HfApi

    if origin.tool != "hub" or origin.revision:
        return origin
    with _network_errors(str(origin)), _hub_errors(origin):
        found = HfApi(endpoint=origin.endpoint).repo_info(origin.address, repo_type=origin.repo_type)
    return replace(origin, revision=found.sha)


def hub_files(origin: Origin, suffixes: tuple[str, ...]) -> list[str]:
    """Names of the repository's files with one of the suffixes, sorted."""
    from huggingface_hub import HfApi

    with _network_errors(str(origin)), _hub_errors(origin):
        files = HfApi(endpoint=origin.endpoint).list_repo_files(
            origin.address, repo_type=origin.repo_type, revision=origin.revision
        )
    return sorted(file for file in files if file.lower().endswith(suffixes))


def cached_on_hub(origin: Origin, name: str) -> Path | None:
    """The file in huggingface_hub's own cache, where it is there at the pinned revision."""
    from huggingface_hub import try_to_load_from_cache

    if origin.tool != "hub" or not origin.revision:
        return None
    found = try_to_load_from_cache(
        origin.address, origin.file or name, revision=origin.revision, repo_type=origin.repo_type
    )
    return Path(found) if isinstance(found, str) else None
