"""What every download has in common, whatever tool brings it: what is known of the file, patience with a network, and what
can be refused, each with a message of its own."""

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import tenacity

from taco.staging.sources import StagingError

log = logging.getLogger("taco")

CONNECT_SECONDS, READ_SECONDS = 30, 60
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


class UnreachableError(TransientError):
    """No server answers at all: no network, no such name, or a closed door."""


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
    """How often a broken transfer is tried, and how the pauses grow (seconds, doubled each time).

    Where no server answers at all, `unreachable` attempts are enough.
    """

    attempts: int = 6
    first_pause: float = 2.0
    longest_pause: float = 120.0
    unreachable: int = 3

    def call(self, function: Callable, *arguments: Any) -> Any:
        """Call a function until it raises no `TransientError`, or patience ends."""
        retrying = tenacity.Retrying(
            stop=self._is_spent,
            wait=tenacity.wait_exponential(multiplier=self.first_pause, max=self.longest_pause),
            retry=tenacity.retry_if_exception_type(TransientError),
            before_sleep=_announce,
            retry_error_callback=self._give_up,
        )
        return retrying(function, *arguments)

    def _is_spent(self, state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception()
        most = self.unreachable if isinstance(error, UnreachableError) else self.attempts
        return state.attempt_number >= most

    @staticmethod
    def _give_up(state: tenacity.RetryCallState) -> NoReturn:
        error = state.outcome.exception()
        text = f"{error} Tried {state.attempt_number} times; what has arrived is kept, so stage again later."
        raise type(error)(text) from error


def _announce(state: tenacity.RetryCallState) -> None:
    log.warning(
        "%s Attempt %d; the next one in %.0f s.",
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
        raise page_error(head, origin)


def page_error(body: bytes, origin: str) -> StagingError:
    title = re.search(rb"<title[^>]*>(.*?)</title>", body, re.IGNORECASE | re.DOTALL)
    words = " ".join(title[1].decode("utf-8", "replace").split())[:120] if title else "no title"
    if any(word in body.lower() for word in QUOTA_WORDS):
        return QuotaError(quota_message(origin, words))
    return PageError(
        f"{origin}: expected a file, found a web page ({words!r}). The file may have moved or may ask for a login: open "
        "the address in a browser, and place the file by hand or correct the address in config/sources.yaml."
    )


def quota_message(origin: str, words: str) -> str:
    return (
        f"{origin}: expected a file, found the notice that it was downloaded too often ({words!r}). Wait a day, or "
        "fetch it in a browser with your own account and place it by hand (`taco doctor` says where)."
    )


def check_size(found: int, wanted: Wanted, origin: str) -> None:
    if wanted.size is not None and found != wanted.size:
        raise SizeError(
            f"{origin}: expected {wanted.size:,} bytes for {wanted.name}, found {found:,}. The file at its source has "
            "changed, or this is not it: see config/README.md, “When a source has gone”."
        )


@contextlib.contextmanager
def network_errors(address: str) -> Iterator[None]:
    """Turn the errors of requests into ours: worth another attempt, or not."""
    import requests
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

    try:
        yield
    except requests.HTTPError as error:
        status = error.response.status_code
        raise _status_error(address, status) from error
    except (requests.exceptions.SSLError, requests.exceptions.InvalidURL) as error:
        raise GoneError(
            f"{address}: expected a safe connection, found: {_reason(error)}. Check the address and this machine's clock."
        ) from error
    except requests.exceptions.ProxyError as error:
        raise UnreachableError(f"{address}: {_UNREACHABLE} the proxy fails ({_reason(error)}).") from error
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        if isinstance(_cause(error), (NewConnectionError, ConnectTimeoutError)):
            raise UnreachableError(f"{address}: {_UNREACHABLE} {_reason(error)}.") from error
        raise TransientError(f"{address}: the transfer broke ({_reason(error)}).") from error
    except requests.RequestException as error:
        raise GoneError(
            f"{address}: expected a file, found an address that leads nowhere ({_reason(error)}). Correct it in "
            "config/sources.yaml."
        ) from error


_UNREACHABLE = "expected a server, found none. Check this machine's network (on a cluster, stage on a login or transfer node):"


def _cause(error: Exception) -> Exception:
    """What urllib3 says at the bottom of an error of requests."""
    inner = error.args[0] if error.args else error
    inner = getattr(inner, "reason", None) or inner
    return inner if isinstance(inner, Exception) else error


def _reason(error: Exception) -> str:
    """The bottom of an error in a few words, without the object that urllib3 prints before it."""
    cause = _cause(error)
    words = cause.args[0] if cause.args and isinstance(cause.args[0], str) else str(cause)
    words = " ".join(words.split()).rpartition(">: ")[2].rpartition("): ")[2]
    return words[:200].rstrip(".") or type(error).__name__


def _status_error(address: str, status: int) -> StagingError:
    if status in RETRIED_STATUS or status == 416:
        return TransientError(f"{address}: the server answered {status}.")
    return GoneError(
        f"{address}: expected a file, the server answered {status}. The source has moved, gone, or asks for a login: "
        "see config/README.md, “When a source has gone”."
    )


def brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
