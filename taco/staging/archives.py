"""Unpack zip and tar archives that nobody has vouched for.

Every member is checked before a byte of it is written: no absolute path, no way out of the folder, no link, no device,
no name twice, no more bytes than allowed. The folder appears whole or not at all.
"""

import contextlib
import errno
import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from taco.staging.sources import GIGA, StagingError

CHUNK = 1 << 20
MOST_BYTES = 500 * GIGA
MOST_MEMBERS = 5_000_000
DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError),
    *(EOFError, NotImplementedError),
)
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


class ArchiveError(StagingError):
    """An archive is damaged, or holds what no archive of a dataset should."""


class DiskFullError(StagingError):
    """There is not enough room on the disk."""


@dataclass(frozen=True)
class Member:
    """One file of an archive: its checked name, its declared size in bytes, and its handle in the archive."""

    name: str
    size: int
    handle: Any


@dataclass(frozen=True)
class Contents:
    """What was unpacked: number of files, bytes."""

    files: int
    bytes: int


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise `DiskFullError` unless the disk of `folder` (or of its first existing parent) has room.

    Parameters
    ----------
    folder : Path
    needed : int
        Bytes; a reserve of 1 % is added.
    what : str
        What needs the room, for the message.
    """
    existing = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed * 1.01:
        raise DiskFullError(
            f"{folder}: {what} needs {needed / GIGA:.2f} GB, the disk has {free / GIGA:.2f} GB free. Free some room, "
            "or make this folder a link to a larger disk; nothing was written."
        )


def is_archive(path: Path) -> bool:
    """Whether the name is that of an archive that `unpack` reads."""
    return path.name.lower().endswith(SUFFIXES)


def unpack(
    archives: Sequence[Path],
    target: Path,
    holds: Sequence[str] = (),
    *,
    most_bytes: int = MOST_BYTES,
) -> Contents:
    """Unpack archives into one folder.

    Parameters
    ----------
    archives : sequence of Path
        All into the same folder; two that hold the same file are refused.
    target : Path
        Must not exist. It is renamed from a temporary folder beside it once all is unpacked.
    holds : sequence of str
        Entries that must be there. Where they lie some folders deeper, `target` is that deeper folder.
    most_bytes : int
        Bound on the unpacked size of all archives together.

    Raises
    ------
    ArchiveError
        Damaged or hostile archive, or one that does not hold what it should.
    DiskFullError
        Not enough room for what the archive declares.
    """
    if target.exists() or target.is_symlink():
        raise ArchiveError(
            f"{target}: expected no such folder yet, found one. Move it away to unpack {archives[0]} again."
        )
    temporary = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        files = total = 0
        for archive in archives:
            done = _unpack_one(archive, temporary, most_bytes - total)
            files, total = files + done.files, total + done.bytes
        _find_root(temporary, holds, archives).rename(target)
        return Contents(files, total)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack_one(archive: Path, folder: Path, most_bytes: int) -> Contents:
    with readable(archive) as (members, opener):
        listed = []
        for member in members:
            listed.append(member)
            if len(listed) > MOST_MEMBERS:
                raise ArchiveError(
                    f"{archive}: more than {MOST_MEMBERS:,} members. It is no dataset's archive."
                )
        declared = sum(member.size for member in listed)
        if declared > most_bytes:
            raise _too_large(archive, declared, most_bytes)
        require_space(folder, declared, f"unpacking {archive.name}")
        written = 0
        for member in listed:
            path = folder / member.name
            try:
                if path.exists():
                    raise ArchiveError(
                        f"{archive}: {member.name!r} was unpacked already. Remove one of the copies."
                    )
                path.parent.mkdir(parents=True, exist_ok=True)
                written += copy_member(opener, member, path, most_bytes - written, archive)
            except OSError as error:
                raise _unwritable(archive, member.name, error) from error
    return Contents(len(listed), written)


def copy_member(opener, member: Member, path: Path, most_bytes: int, archive: Path) -> int:
    """Write one member to `path`, counting what it really holds; returns the bytes."""
    written = 0
    with opener(member.handle) as source, path.open("xb") as stream:
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > most_bytes or written > member.size:
                raise _too_large(archive, written, min(most_bytes, member.size))
            stream.write(chunk)
    if written != member.size:
        raise ArchiveError(
            f"{archive}: {member.name!r} should have {member.size:,} bytes, found {written:,}. Fetch it again."
        )
    return written


def _too_large(archive: Path, found: int, bound: int) -> ArchiveError:
    return ArchiveError(
        f"{archive}: expected at most {bound:,} bytes unpacked, found {found:,} or more. It is damaged or hostile; "
        "compare it with its source."
    )


@contextlib.contextmanager
def readable(archive: Path) -> Iterator[tuple[Iterable[Member], Any]]:
    """Open an archive: its checked members in their order, and a function that opens one of them.

    Every error of the decoders becomes an `ArchiveError` that says that the archive is damaged.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as handle:
                yield _zip_members(handle, archive), handle.open
        else:
            with tarfile.open(archive) as handle:
                yield _tar_members(handle, archive), handle.extractfile
    except DAMAGED as error:
        raise ArchiveError(
            f"{archive}: expected a complete zip or tar archive, found {error or type(error).__name__}. "
            "Fetch it again."
        ) from error


def _zip_members(handle: zipfile.ZipFile, archive: Path) -> Iterator[Member]:
    seen: set[str] = set()
    for info in handle.infolist():
        mode = info.external_attr >> 16
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _hostile(archive, info.filename, "a link or device")
        if info.flag_bits & 1:
            raise ArchiveError(f"{archive}: {info.filename!r} needs a password. Unpack it by hand.")
        name = _checked(archive, info.filename, seen)
        if not info.is_dir():
            yield Member(name, info.file_size, info)


def _tar_members(handle: tarfile.TarFile, archive: Path) -> Iterator[Member]:
    seen: set[str] = set()
    for info in handle:
        if not (info.isfile() or info.isdir()):
            raise _hostile(archive, info.name, "a link or device")
        if info.isdir() and info.name in (".", "./"):
            continue
        name = _checked(archive, info.name, seen)
        if info.isfile():
            yield Member(name, info.size, info)


def _unwritable(archive: Path, name: str, error: OSError) -> StagingError:
    """Why a member could not be written: a full disk, or a name that cannot be."""
    if error.errno == errno.ENOSPC:
        return DiskFullError(
            f"{archive}: the disk became full while {name!r} was unpacked. Free some room and start again; nothing was kept."
        )
    if isinstance(error, FileExistsError | NotADirectoryError):
        return _hostile(archive, name, "a path through another member that is a file")
    return _hostile(archive, name, f"a name that cannot be written ({error.strerror})")


def _checked(archive: Path, name: str, seen: set[str]) -> str:
    """The member's path below the folder; refuse what leaves it or comes twice."""
    path = PurePosixPath(name)
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise _hostile(archive, name, "control characters in its name")
    unsafe = path.is_absolute() or PureWindowsPath(name).drive or "\\" in name
    if unsafe or ".." in path.parts or not path.parts:
        raise _hostile(archive, name, "a path outside the archive's folder")
    if str(path) in seen and not name.endswith("/"):
        raise _hostile(archive, name, "a name that comes twice")
    seen.add(str(path))
    return str(path)


def _hostile(archive: Path, name: str, what: str) -> ArchiveError:
    return ArchiveError(
        f"{archive}: member {name!r}: expected a file inside the archive's folder, found {what}. Nothing was kept; "
        "compare the archive with its source before you trust it."
    )


def _find_root(folder: Path, holds: Sequence[str], archives: Sequence[Path], depth: int = 4) -> Path:
    """The shallowest folder that holds all expected entries."""
    level = [folder]
    for _ in range(depth):
        for candidate in level:
            if all((candidate / entry).exists() for entry in holds):
                return candidate
        level = [child for parent in level for child in sorted(parent.iterdir()) if child.is_dir()]
    found = ", ".join(sorted(str(path.relative_to(folder)) for path in folder.glob("*/*"))[:12])
    raise ArchiveError(
        f"{', '.join(path.name for path in archives)}: expected {', '.join(holds)} inside, found "
        f"{found or ', '.join(sorted(path.name for path in folder.iterdir())) or 'nothing'}. If the publisher has "
        "rearranged it or parts of it are missing, unpack it by hand in the layout that config/README.md shows."
    )
