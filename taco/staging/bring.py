"""Bring one source to its place, or use it where it already is, and verify it.

The order of attempts: what stands at its place is verified; a copy on another disk (``staging.data_root``, or the
hub's own cache) is linked, never copied; what must be requested is asked for; the rest is fetched, and an archive
unpacked. Nothing appears at its place before it is complete and verified.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taco.staging import archives, downloads, hub, inbox, transfers, vggsound
from taco.staging.guards import guard
from taco.staging.sources import (
    SOUNDS,
    DigestError,
    IncompleteError,
    Lock,
    Origin,
    Source,
    StagingError,
    lock_path,
    needed,
    read_catalogue,
)

log = logging.getLogger("taco")


class ByHandError(StagingError):
    """The source must be requested and placed by the user."""


class TermsError(StagingError):
    """The source has terms of use that the user has not yet agreed to."""


@dataclass(frozen=True)
class Settings:
    """The ``staging`` section of the configuration.

    Attributes
    ----------
    catalogue : Path
        The lock files lie beside it.
    data_root : Path, optional
        Folder with sources that are on disk already, such as a cluster's read-only copy.
    accepted_terms : tuple of str
        Names of sources whose terms of use the user has agreed to.
    patience : transfers.Patience
        Attempts and pauses; not part of the configuration.
    """

    catalogue: Path = Path("config/sources.yaml")
    data_root: Path | None = None
    accepted_terms: tuple[str, ...] = ()
    patience: transfers.Patience = field(default_factory=transfers.Patience)

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> "Settings":
        """From the configuration; a missing key has the default above."""
        root = section.get("data_root")
        return cls(
            Path(section.get("catalogue") or cls.catalogue),
            Path(root).expanduser() if root else None,
            tuple(section.get("accepted_terms") or ()),
        )


@dataclass(frozen=True)
class Staged:
    """What was done: the way (``present``, ``linked``, ``fetched``, ``unpacked``), and a remark."""

    source: str
    place: str
    way: str
    remark: str = ""


def stage(name: str, settings: Settings, datasets: Iterable[Mapping[str, Any]] = ()) -> Staged:
    """Bring a source.

    Parameters
    ----------
    name : str
        Its name in the catalogue.
    settings : Settings
    datasets : iterable of mapping
        The options of those that are to be read: of a source that holds several, only their parts must be there.

    Raises
    ------
    StagingError
        One of its kinds; the message names the place, what was expected, what was found, what to do.
    """
    source = needed(read_catalogue(settings.catalogue)[name], datasets)
    lock = Lock.read(lock_path(settings.catalogue, source.lock))
    require_terms(source, settings.accepted_terms)
    source.place.parent.mkdir(parents=True, exist_ok=True)
    with _guard(source.place):
        if source.name == SOUNDS:
            return Staged(
                name, str(source.place), *vggsound.bring(source, settings.data_root, settings.patience)
            )
        staged = _present(source, lock) or _linked(source, lock, settings) or _brought(source, lock, settings)
    log.info("%s: %s at %s %s", name, staged.way, staged.place, staged.remark)
    return staged


@contextlib.contextmanager
def _guard(place: Path) -> Iterator[None]:
    """Let two runs that stage the same source take turns; the second finds it present.

    A folder that cannot be written (a cluster's copy) needs no turns: it can only be verified.
    """
    if os.access(place.parent, os.W_OK):
        with guard(place):
            yield
    else:
        yield


def require_terms(source: Source, accepted: Iterable[str]) -> None:
    """Raise `TermsError` unless the source needs no agreement or the user has given it."""
    if source.agreement and source.name not in accepted:
        raise TermsError(
            f"{source.title}: expected your agreement to its terms of use, found none. The terms: {source.terms} If you "
            f"agree, add {source.name} to staging.accepted_terms in your configuration."
        )


def contents(source: Source, place: Path) -> dict[str, Path]:
    """The files whose digests are recorded, by name."""
    if source.files:
        return {name: place / name for name in source.files}
    return {} if source.is_folder else {source.place.name: place}


def verify(source: Source, lock: Lock, place: Path, *, quick: bool = False) -> str:
    """Check that a source is whole at `place`; a quick check compares sizes, not digests.

    Returns
    -------
    str
        A remark: what could not be verified.

    Raises
    ------
    IncompleteError
        Entries of a folder are missing, or files have gone since it was unpacked.
    DigestError
        A file has another digest or size than the one recorded.
    PageError, QuotaError
        A file is a web page, as a login or a notice that was saved under its name.
    """
    if source.is_folder and not place.is_dir():
        raise IncompleteError(f"{place}: expected a folder, found a file. Move it away and stage again.")
    if not source.is_folder and not place.is_file():
        raise IncompleteError(f"{place}: expected a file, found a folder. Move it away and stage again.")
    expected = [*source.holds, *source.files]
    absent = [entry for entry in expected if not (place / entry).exists()]
    if absent:
        raise IncompleteError(
            f"{place}: expected {', '.join(expected)}; missing: {', '.join(absent)}. Complete the folder, or move it "
            "away and stage it again."
        )
    files = contents(source, place).items()
    for _, path in files:
        if path.stat().st_size == 0:
            raise IncompleteError(
                f"{path}: expected content, found an empty file. Delete it and stage again."
            )
        transfers.refuse_page(path, str(path), remove=False)
    unrecorded = [name for name, path in files if lock.verify(source.name, name, path, quick=quick) is None]
    if unrecorded:
        return f"no digest recorded yet for {', '.join(unrecorded)}"
    return "" if files or source.name == SOUNDS else _verify_tree(source, lock, place)


def _verify_tree(source: Source, lock: Lock, place: Path) -> str:
    """Compare a folder with what its archives held. One that a user has arranged may leave things out."""
    known = lock.unpacked(source.name)
    if known is None:
        return "entries found; no archive recorded to compare with"
    here = archives.counted(place)
    if here.files >= known["files"] and here.bytes >= known["bytes"]:
        return ""
    counts = f"the {known['files']:,} files of {known['bytes']:,} bytes that its archives hold"
    found = f"{here.files:,} of {here.bytes:,}"
    if source.inbox is not None:
        return f"entries found; fewer files ({found}) than {counts}"
    raise IncompleteError(
        f"{place}: expected at least {counts}, found {found}. Move the folder away and stage it again."
    )


def _present(source: Source, lock: Lock) -> Staged | None:
    """What stands at its place already, verified; a dangling link is removed."""
    place = source.place
    if place.is_symlink() and not place.exists():
        log.warning("%s: the link points nowhere (%s) and is removed", place, os.readlink(place))
        place.unlink()
    if not place.exists():
        return None
    remark = verify(source, lock, place)
    lock.record(source.name, contents(source, place), "found in place")
    return Staged(source.name, str(place), "present", remark)


def _linked(source: Source, lock: Lock, settings: Settings) -> Staged | None:
    """A copy on another disk, verified and linked."""
    for candidate in candidates(source, settings):
        try:
            remark = verify(source, lock, candidate)
        except StagingError as error:
            log.warning("%s is not used: %s", candidate, error)
            continue
        lock.record(source.name, contents(source, candidate), "found on disk")
        _link(source.place, candidate.absolute())
        return Staged(source.name, str(source.place), "linked", f"to {candidate}; {remark}".rstrip("; "))
    return None


def _link(place: Path, target: Path) -> None:
    try:
        place.symlink_to(target, target_is_directory=target.is_dir())
    except OSError as error:
        raise StagingError(
            f"{place}: expected a file system that has links, found: {error.strerror or error}. Name {target} in the "
            f"configuration in place of {place}, or make {place.parent} a folder of another disk."
        ) from error


def candidates(source: Source, settings: Settings) -> list[Path]:
    """Where a copy may lie already: below the data root, in the hub's cache."""
    found = []
    if settings.data_root is not None:
        tails = [Path(*source.place.parts[start:]) for start in range(len(source.place.parts))]
        found = [settings.data_root / tail for tail in tails if not tail.is_absolute()]
    if not source.is_folder:
        cached = [hub.cached(origin, source.place.name) for origin in source.origins]
        found += [path for path in cached if path is not None]
    place = source.place.absolute()
    return [path for path in found if path.exists() and path.absolute() != place]


def _brought(source: Source, lock: Lock, settings: Settings) -> Staged:
    if source.inbox is not None:
        placed = inbox.find(source, settings.data_root)
        if placed.archives and not placed.unread:
            return _unpacked(source, lock, placed.archives, "placed by hand")
    if not source.origins:
        raise ByHandError(inbox.by_hand(source, settings.data_root))
    if source.archive:
        return _archive(source, lock, settings)
    if not source.is_folder:
        origin = _fetched(source, lock, source.place.name, source.place, settings)
        return Staged(source.name, str(source.place), "fetched", f"from {origin}")
    return _folder(source, lock, settings)


def _folder(source: Source, lock: Lock, settings: Settings) -> Staged:
    """Fetch a folder file by file; what an earlier attempt has brought is verified and kept."""
    temporary = source.place.with_name(f".{source.place.name}.fetching")
    temporary.mkdir(parents=True, exist_ok=True)
    for name in source.files:
        path = temporary / name
        if path.exists():
            lock.verify(source.name, name, path)
        else:
            _fetched(source, lock, name, path, settings)
    temporary.rename(source.place)
    return Staged(source.name, str(source.place), "fetched", f"{len(source.files)} files")


def _archive(source: Source, lock: Lock, settings: Settings) -> Staged:
    """Fetch an archive, unpack it, and remove it."""
    needed = source.size + source.unpacked_size
    archives.require_space(
        source.place.parent, needed, f"{source.title} (archive and unpacked files, roughly)"
    )
    archive = source.place.parent / f".{source.name}" / source.archive
    if not archive.exists():
        _fetched(source, lock, source.archive, archive, settings)
    staged = _unpacked(source, lock, [archive], "fetched")
    shutil.rmtree(archive.parent)
    return staged


def _unpacked(source: Source, lock: Lock, placed: list[Path], origin: str) -> Staged:
    for path in placed:
        transfers.refuse_page(path, str(path), remove=False)
        lock.verify(source.name, path.name, path)
    bound = max(2 * source.unpacked_size, archives.GIGA) if source.unpacked_size else archives.MOST_BYTES
    found = archives.unpack(placed, source.place, source.holds, most_bytes=bound)
    lock.record(
        source.name,
        {path.name: path for path in placed},
        origin,
        unpacked={"files": found.files, "bytes": found.bytes},
    )
    return Staged(source.name, str(source.place), "unpacked", f"{found.files:,} files, {found.bytes:,} bytes")


def _fetched(source: Source, lock: Lock, name: str, target: Path, settings: Settings) -> Origin:
    """Fetch one file from the first origin that gives it, verify, record, and rename it to `target`."""
    known = lock.file(source.name, name) or {}
    wanted = transfers.Wanted(name, known.get("bytes"), known.get("sha256"), source.size)
    failures = []
    for number, origin in enumerate(source.origins):
        part = target.with_name(f".{target.name}.{number}.part")
        try:
            origin = settings.patience.call(hub.resolve_revision, origin)
            downloads.fetch(origin, part, wanted, settings.patience)
            _verified(lock, source, name, part, origin)
        except archives.DiskFullError:
            raise
        except StagingError as error:
            log.warning("%s", error)
            failures.append(error)
            continue
        part.replace(target)
        return origin
    if len(failures) == 1:
        raise failures[0]
    listed = "\n".join(f"  {number}. {error}" for number, error in enumerate(failures, 1))
    raise StagingError(f"{source.title}: none of its {len(failures)} origins gave {name}:\n{listed}")


def _verified(lock: Lock, source: Source, name: str, part: Path, origin: Origin) -> None:
    try:
        lock.record(source.name, {name: part}, str(origin))
    except DigestError as error:
        part.unlink()
        raise DigestError(f"{origin}: {error}") from error
