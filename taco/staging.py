"""Bring one source to its place, or use it where it already is, and verify it.

The order of attempts: what stands at its place is verified; a copy on another disk (``staging.data_root``, or the
hub's own cache) is linked, never copied; what must be requested is asked for; the rest is fetched, and an archive
unpacked. Nothing appears at its place before it is complete and verified.
"""

import contextlib
import csv
import json
import logging
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from taco import archives, downloads
from taco.runtime import atomic_write
from taco.sources import SOUNDS, DigestError, Lock, Origin, Source, StagingError, lock_path, read_catalogue

log = logging.getLogger("taco")

ADE_CSV = "prompted_segmentation.csv"
NO_SOUND = ("", "nan", "NaN", "None", "null")
SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")


class ByHandError(StagingError):
    """The source must be requested and placed by the user."""


class TermsError(StagingError):
    """The source has terms of use that the user has not yet agreed to."""


class IncompleteError(StagingError):
    """A folder lacks entries that the source should have."""


class SoundError(StagingError):
    """A clip has no sound that can be read."""


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
    patience : downloads.Patience
        Attempts and pauses; not part of the configuration.
    """

    catalogue: Path = Path("config/sources.yaml")
    data_root: Path | None = None
    accepted_terms: tuple[str, ...] = ()
    patience: downloads.Patience = field(default_factory=downloads.Patience)

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


def stage(name: str, settings: Settings) -> Staged:
    """Bring a source.

    Parameters
    ----------
    name : str
        Its name in the catalogue.
    settings : Settings

    Raises
    ------
    StagingError
        One of its kinds; the message names the place, what was expected, what was found, what to do.
    """
    source = read_catalogue(settings.catalogue)[name]
    lock = Lock.read(lock_path(settings.catalogue, source.lock))
    require_terms(source, settings.accepted_terms)
    source.place.parent.mkdir(parents=True, exist_ok=True)
    with _guard(source.place):
        if source.name == SOUNDS:
            return stage_sounds(source, lock, settings)
        staged = _present(source, lock) or _linked(source, lock, settings) or _brought(source, lock, settings)
    log.info("%s: %s at %s %s", name, staged.way, staged.place, staged.remark)
    return staged


@contextlib.contextmanager
def _guard(place: Path) -> Iterator[None]:
    """Let two runs that stage the same source take turns; the second finds it present.

    A folder that cannot be written (a cluster's copy) needs no turns: it can only be verified.
    """
    if os.access(place.parent, os.W_OK):
        with FileLock(place.parent / f".{place.name}.guard"):
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
    unrecorded = [name for name, path in files if lock.verify(source.name, name, path, quick=quick) is None]
    if unrecorded:
        return f"no digest recorded yet for {', '.join(unrecorded)}"
    return "" if files or source.name == SOUNDS else _verify_tree(source, lock, place)


def _verify_tree(source: Source, lock: Lock, place: Path) -> str:
    """Compare a folder with what its archives held. One that a user has arranged may leave things out."""
    known = lock.unpacked(source.name)
    if known is None:
        return "entries found; no archive recorded to compare with"
    sizes = [path.stat().st_size for path in place.rglob("*") if path.is_file()]
    if len(sizes) >= known["files"] and sum(sizes) >= known["bytes"]:
        return ""
    counts = f"the {known['files']:,} files of {known['bytes']:,} bytes that its archives hold"
    found = f"{len(sizes):,} of {sum(sizes):,}"
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
        except (IncompleteError, DigestError) as error:
            log.warning("%s is not used: %s", candidate, error)
            continue
        lock.record(source.name, contents(source, candidate), "found on disk")
        source.place.symlink_to(candidate.absolute(), target_is_directory=candidate.is_dir())
        return Staged(source.name, str(source.place), "linked", f"to {candidate}; {remark}".rstrip("; "))
    return None


def candidates(source: Source, settings: Settings) -> list[Path]:
    """Where a copy may lie already: below the data root, in the hub's cache."""
    found = []
    if settings.data_root is not None:
        tails = [Path(*source.place.parts[start:]) for start in range(len(source.place.parts))]
        found = [settings.data_root / tail for tail in tails if not tail.is_absolute()]
    if not source.is_folder:
        cached = [downloads.cached_on_hub(origin, source.place.name) for origin in source.origins]
        found += [path for path in cached if path is not None]
    place = source.place.absolute()
    return [path for path in found if path.exists() and path.absolute() != place]


def _brought(source: Source, lock: Lock, settings: Settings) -> Staged:
    if source.inbox is not None:
        placed = placed_archives(source, settings)
        if placed:
            return _unpacked(source, lock, placed, "placed by hand")
    if not source.origins:
        raise ByHandError(by_hand(source))
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


def by_hand(source: Source) -> str:
    """The exact place, step and terms of a source that must be requested."""
    where = f"place the archive(s) unopened in {source.inbox}/ and stage again" if source.inbox else ""
    shape = f"or unpack them so that {source.place}/ holds {', '.join(source.holds)}"
    return (
        f"{source.title}: expected at {source.place}, found nothing; it is given on request only. {source.request} Then "
        f"{where}, {shape}. Terms: {source.terms}"
    )


def placed_archives(source: Source, settings: Settings) -> list[Path]:
    """Archives that the user has placed for a source, sorted by name."""
    inboxes = [source.inbox]
    if settings.data_root is not None:
        inboxes.append(settings.data_root / source.inbox.name)
    for inbox in inboxes:
        found = sorted(path for path in inbox.glob("*") if path.is_file() and archives.is_archive(path))
        if found:
            return found
    return []


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
        downloads.refuse_page(path, str(path), remove=False)
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
    wanted = downloads.Wanted(name, known.get("bytes"), known.get("sha256"), source.size)
    failures = []
    for number, origin in enumerate(source.origins):
        part = target.with_name(f".{target.name}.{number}.part")
        try:
            origin = downloads.resolve_revision(origin)
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


def listed_sounds(root: Path) -> list[str]:
    """File names of the sounds that ADE SP's CSV lists, in its order, without repeats.

    Raises
    ------
    IncompleteError
        The CSV is missing or has no column of sounds.
    """
    path = root / ADE_CSV
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            cells = [row["vggsound_file"].strip() for row in csv.DictReader(stream)]
    except (OSError, KeyError, csv.Error, UnicodeDecodeError) as error:
        raise IncompleteError(
            f"{path}: expected a CSV with the column vggsound_file, found {type(error).__name__} {error}. Stage ADE SP "
            "first."
        ) from error
    names = [PurePosixPath(cell).name for cell in cells if cell not in NO_SOUND]
    return list(dict.fromkeys(names))


def missing_sounds(root: Path) -> list[str]:
    """Those of `listed_sounds` that are not in ``audio/``."""
    return [name for name in listed_sounds(root) if not (root / "audio" / name).is_file()]


def stage_sounds(source: Source, lock: Lock, settings: Settings) -> Staged:
    """Fetch from VGGSound's shards the clips that ADE SP lists, and no others.

    Shards that hold nothing more are never kept. One that is damaged gives what can be read before the damage; the
    clips that no shard has are written by name to ``missing_sounds.txt``, and the rest goes on.

    Returns
    -------
    Staged
        Its remark counts the missing ones.
    """
    root = source.place.parent
    wanted = missing_sounds(root)
    if not wanted:
        return Staged(source.name, str(source.place), "present", "every listed sound is there")
    if not os.access(root, os.W_OK):
        raise StagingError(
            f"{root}: expected a folder that can be written, as {len(wanted)} listed sounds are missing from audio/, found "
            "a read-only one. Ask its keeper to add them, or place a copy of your own."
        )
    source.place.mkdir(exist_ok=True)
    state = source.place / ".scanned.json"
    scanned = set(json.loads(state.read_text())) if state.exists() else set()
    for name, shard, keep in _shards(source, settings, scanned):
        try:
            found = extract_sounds(shard, wanted, source.place)
        except archives.ArchiveError as error:
            log.warning("%s: reading stops here: %s", name, error)
        else:
            log.info("%s: %d of the listed sounds", name, len(found))
        if not keep:
            shard.unlink()
        wanted = missing_sounds(root)
        scanned.add(name)
        with atomic_write(state) as partial:
            partial.write_text(json.dumps(sorted(scanned)))
        if not wanted:
            break
    return _report_sounds(source, root, wanted)


def _report_sounds(source: Source, root: Path, wanted: list[str]) -> Staged:
    report = root / "missing_sounds.txt"
    if not wanted:
        report.unlink(missing_ok=True)
        return Staged(source.name, str(source.place), "fetched", "every listed sound is there")
    with atomic_write(report) as partial:
        partial.write_text("".join(f"{name}\n" for name in wanted), encoding="utf-8")
    names = ", ".join(wanted[:10]) + (" …" if len(wanted) > 10 else "")
    log.warning("%s: no shard has %d of the listed sounds: %s (all in %s)", root, len(wanted), names, report)
    return Staged(source.name, str(source.place), "fetched", f"{len(wanted)} sounds missing, see {report}")


def _shards(source: Source, settings: Settings, scanned: set[str]):
    """Yield (name, path, whether it is the user's): shards on disk first, then one after another from the hub."""
    folder = settings.data_root / SOUNDS if settings.data_root is not None else None
    for path in sorted(folder.glob("*")) if folder is not None and folder.is_dir() else ():
        if path.name.lower().endswith(SHARD_SUFFIXES):
            yield path.name, path, True
            scanned.add(path.name)
    for origin in map(downloads.resolve_revision, source.origins):
        for file in [origin.file] if origin.file else downloads.hub_files(origin, SHARD_SUFFIXES):
            name = f"{origin.address}/{file}" if origin.tool == "hub" else file
            if name in scanned or PurePosixPath(file).name in scanned:
                continue
            part = source.place / f".{PurePosixPath(file).name}"
            one = Origin(
                origin.tool, origin.address, origin.revision, origin.repo_type, file, origin.endpoint
            )
            try:
                wanted = downloads.Wanted(file, rough_size=source.size)
                downloads.fetch(one, part, wanted, settings.patience)
            except archives.DiskFullError:
                raise
            except StagingError as error:
                log.warning("%s is left out for now: %s", name, error)
                continue
            yield name, part, False


def extract_sounds(shard: Path, wanted: Iterable[str], folder: Path) -> list[str]:
    """Take the wanted clips from a shard, whatever folder they lie in; a video's sound is converted.

    Parameters
    ----------
    shard : Path
        A tar archive; read once, front to back.
    wanted : iterable of str
        File names; a member fits by its name without suffix.
    folder : Path
        Where they go, each under a private name until it is complete.

    Returns
    -------
    list of str
        Names that were found.
    """
    stems = {PurePosixPath(name).stem: name for name in wanted}
    found = []
    with archives.readable(shard) as (members, opener):
        for member in members:
            path = PurePosixPath(member.name)
            name = stems.get(path.stem)
            if name is None or name in found:
                continue
            raw = folder / f".{path.name}"
            try:
                raw.unlink(missing_ok=True)
                archives.copy_member(opener, member, raw, member.size, shard)
                _place_sound(raw, folder / name)
            except SoundError as error:
                log.warning("%s: %s", shard, error)
                continue
            finally:
                raw.unlink(missing_ok=True)
            found.append(name)
    return found


def _place_sound(raw: Path, target: Path) -> None:
    """Rename a sound to its name, or convert it where it is of another kind."""
    if raw.suffix.lower() == target.suffix.lower():
        raw.replace(target)
        return
    with atomic_write(target) as partial:
        _convert(raw, partial, target.suffix)


def _convert(video: Path, sound: Path, suffix: str) -> None:
    """The sound of a video, by the program ffmpeg, at its own rate and channels."""
    if shutil.which("ffmpeg") is None:
        raise StagingError(
            f"{video.name}: expected the program ffmpeg to take the sound from a video, found none on PATH. Install it "
            "(`conda install -c conda-forge ffmpeg`, or your system's package) and stage again."
        )
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", str(video), "-vn"]
    done = subprocess.run(
        [*command, "-f", suffix.lstrip("."), str(sound)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SoundError(
            f"{video.name}: expected a video with sound, ffmpeg says: {done.stderr.strip()[-300:]}"
        )
