"""Unpack zip and tar archives that nobody has vouched for.

Every member is checked before a byte of it is written: no absolute path, no way out of the folder, no link, no device,
no name twice, no more bytes than allowed. What systems leave in folders is passed over. The folder appears whole or not
at all.
"""

import contextlib
import gzip
import logging
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from shlex import quote
from typing import Any

from taco.runtime import DISK_FULL
from taco.staging import formats
from taco.staging.sources import GIGA, StagingError

log = logging.getLogger("taco")

CHUNK = 1 << 20
MOST_BYTES = 500 * GIGA
MOST_MEMBERS = 5_000_000
DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError),
    EOFError,
)
ZIP_METHODS = {9: "Deflate64 (as Windows does above 2 GB)", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES"}
"""Ways to pack a member that the standard library does not read, of those that are met."""
READ_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


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
        All into the same folder; two that hold a file of one name with other content are refused, unless it is a readme
        or the like: the first one's is kept.
    target : Path
        Must not exist. It is renamed from a temporary folder beside it once all is unpacked.
    holds : sequence of str
        Entries that must be there. Where they lie some folders deeper, `target` is that deeper folder.
    most_bytes : int
        Bound on the unpacked size of all archives together.

    Returns
    -------
    Contents
        Of `target`: what lies beside its folder in an archive is left out.

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
        total = 0
        for archive in archives:
            total += _unpack_one(archive, temporary, most_bytes - total, layout(target, holds))
        _find_root(temporary, holds, archives).rename(target)
        return counted(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def layout(target: Path, holds: Sequence[str]) -> str:
    """What to do by hand in place of `unpack`."""
    return f"put its content where {target}/ then holds {', '.join(holds) or 'its files'}"


def counted(folder: Path) -> Contents:
    """What a folder holds, without what systems leave there."""
    files = (path for path in folder.rglob("*") if path.is_file())
    sizes = [path.stat().st_size for path in files if not formats.is_junk(path.relative_to(folder))]
    return Contents(len(sizes), sum(sizes))


def _unpack_one(archive: Path, folder: Path, most_bytes: int, by_hand: str) -> int:
    """Unpack one archive, and return the bytes that it wrote."""
    with readable(archive, by_hand) as (members, opener):
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
                if path.is_file():
                    _require_same(opener, member, path, archive)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                written += copy_member(opener, member, path, most_bytes - written, archive)
            except OSError as error:
                raise _unwritable(archive, member.name, error) from error
    return written


def _require_same(opener, member: Member, path: Path, archive: Path) -> None:
    """Raise `ArchiveError` where an earlier archive had another file of this name, unless it is a note to people."""
    with opener(member.handle) as source, path.open("rb") as stream:
        same = path.stat().st_size == member.size
        while same and (chunk := source.read(CHUNK)):
            same = chunk == stream.read(len(chunk))
    if not same and not formats.is_note(member.name):
        raise ArchiveError(
            f"{archive}: expected files that the archives before it do not hold, found another {member.name!r} than "
            "theirs. Remove the archive that does not belong to them, or unpack them by hand."
        )
    log.info("%s: %s was there already, from an earlier archive", archive.name, member.name)


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
def readable(
    archive: Path, by_hand: str = "take out what is wanted"
) -> Iterator[tuple[Iterable[Member], Any]]:
    """Open an archive: its checked members in their order, and a function that opens one of them.

    Every error of the decoders becomes an `ArchiveError` that says whether the archive is damaged, or whole but of a
    kind that is not read here; then `by_hand` says what to do once it is unpacked.
    """
    if said := formats.advice_by_name(archive) or formats.advice_by_content(archive):
        raise ArchiveError(
            f"{archive}: expected a complete zip or tar archive, found that {said}. Once unpacked, {by_hand}."
        )
    try:
        if _starts_as_zip(archive):
            with zipfile.ZipFile(archive) as handle:
                yield _zip_members(handle, archive, by_hand), handle.open
        else:
            with tarfile.open(archive) as handle:
                yield _tar_members(handle, archive), handle.extractfile
    except DAMAGED as error:
        found = " ".join(str(error).split()) or type(error).__name__
        raise ArchiveError(
            f"{archive}: expected a complete zip or tar archive, found {found}. Fetch it again."
        ) from error
    except NotImplementedError as error:
        raise _unread(archive, f"one that uses what cannot be read here ({error})", by_hand) from error


def _starts_as_zip(archive: Path) -> bool:
    with archive.open("rb") as stream:
        return stream.read(4) in formats.ZIP_STARTS


def _zip_members(handle: zipfile.ZipFile, archive: Path, by_hand: str) -> Iterator[Member]:
    seen: set[str] = set()
    for info in handle.infolist():
        if formats.is_junk(_slashed(info.filename)):
            continue
        mode = info.external_attr >> 16
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _hostile(archive, info.filename, "a link or device")
        if info.flag_bits & 1:
            raise ArchiveError(
                f"{archive}: {info.filename!r} needs a password. Unpack it with `7z x {quote(archive.name)}` and the password "
                f"that came with it, and {by_hand}."
            )
        if info.compress_type not in READ_METHODS:
            method = ZIP_METHODS.get(info.compress_type, f"method {info.compress_type}")
            raise _unread(archive, f"{info.filename!r} packed by {method}", by_hand)
        name = _checked(archive, _slashed(info.filename), seen)
        if not _slashed(info.filename).endswith("/"):
            yield Member(name, info.file_size, info)


def _tar_members(handle: tarfile.TarFile, archive: Path) -> Iterator[Member]:
    seen: set[str] = set()
    for info in handle:
        name = _slashed(info.name)
        if formats.is_junk(name):
            continue
        if not (info.isfile() or info.isdir()):
            raise _hostile(archive, info.name, "a link or device")
        if info.isdir() and name in (".", "./"):
            continue
        name = _checked(archive, name, seen)
        if info.isfile():
            yield Member(name, info.size, info)


def _slashed(name: str) -> str:
    """Some programs of Windows write back slashes between folders."""
    return name.replace("\\", "/")


def _unread(archive: Path, found: str, by_hand: str) -> ArchiveError:
    return ArchiveError(
        f"{archive}: expected an archive that Python can read, found {found}. It may be whole: unpack it with "
        f"`7z x {quote(archive.name)}` (or `unzip`), and {by_hand}."
    )


def _unwritable(archive: Path, name: str, error: OSError) -> StagingError:
    """Why a member could not be written: a full disk, or a name that cannot be."""
    if error.errno in DISK_FULL:
        return DiskFullError(
            f"{archive}: the disk became full while {name!r} was unpacked ({error.strerror}). Free some room and start "
            "again; nothing was kept."
        )
    if isinstance(error, FileExistsError | NotADirectoryError):
        return _hostile(archive, name, "a path through another member that is a file")
    return _hostile(archive, name, f"a name that cannot be written ({error.strerror})")


def _checked(archive: Path, name: str, seen: set[str]) -> str:
    """The member's path below the folder; refuse what leaves it or comes twice."""
    path = PurePosixPath(name)
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise _hostile(archive, name, "control characters in its name")
    unsafe = path.is_absolute() or PureWindowsPath(name).drive
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
    names = ", ".join(path.name for path in archives)
    inner = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if formats.is_archive(path))
    if inner:
        raise ArchiveError(
            f"{names}: expected {', '.join(holds)} inside, found further archives: {', '.join(inner[:12])}. Take them "
            "out by hand, and place them in place of the outer one."
        )
    found = ", ".join(sorted(str(path.relative_to(folder)) for path in folder.glob("*/*"))[:12])
    raise ArchiveError(
        f"{names}: expected {', '.join(holds)} inside, found "
        f"{found or ', '.join(sorted(path.name for path in folder.iterdir())) or 'nothing'}. If the publisher has "
        "rearranged it or parts of it are missing, unpack it by hand in the layout that config/README.md shows."
    )
