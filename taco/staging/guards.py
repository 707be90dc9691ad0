"""Let processes that stage the same thing take turns, on file systems without locks too."""

import contextlib
import errno
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from taco.runtime import OutputError

log = logging.getLogger("taco")

# Answers to flock of file systems that have none: NFS without its daemon, old Lustre, SMB, sshfs, WSL's drives.
NO_LOCKS = (
    *(errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL),
    *(errno.ENOTTY, errno.EBADF, errno.EPERM, errno.EIO, errno.ESTALE, errno.EREMOTEIO),
)
QUIET_SECONDS = 5.0


@contextlib.contextmanager
def guard(place: Path) -> Iterator[None]:
    """Hold what lies at ``place`` for this process alone; another one that asks for it waits, and says so.

    The lock lies beside it. Where that file system has no locks, one in this machine's temporary folder takes its
    place: runs on this machine take turns still, and a warning says that those on others do not.

    Parameters
    ----------
    place : Path
        File or folder; its folder must be one that can be written.

    Raises
    ------
    OutputError
        Neither folder can hold a lock.
    """
    try:
        lock = _acquired(place.parent / f".{place.name}.guard", place)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise _refused(place, error) from error
        log.warning(
            "%s: its file system has no locks (%s): stage from one machine at a time", place, error.strerror
        )
        lock = _substitute(place, error)
    try:
        yield
    finally:
        # The system lets go of it at the latest when the process ends.
        with contextlib.suppress(OSError):
            lock.release()


def _substitute(place: Path, reason: OSError) -> FileLock:
    """A lock in the temporary folder, of this user for this place."""
    name = hashlib.sha256(f"{os.getuid()} {place.absolute()}".encode()).hexdigest()[:16]
    try:
        return _acquired(Path(tempfile.gettempdir(), f"taco-{name}.guard"), place)
    except OSError:
        raise _refused(place, reason) from reason


def _acquired(path: Path, place: Path) -> FileLock:
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(timeout=QUIET_SECONDS)
    except Timeout:
        log.warning("%s: another run is staging it; waiting until it has ended", place)
        lock.acquire()
    return lock


def _refused(place: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{place}: expected a folder in which runs can lock what they stage, found: {error.strerror or error}. Make "
        f"{place.parent} a link to a disk that can be written and has locks (for NFS and Lustre, a mount option), or "
        "stage on such a disk and name it in staging.data_root."
    )
