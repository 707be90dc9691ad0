"""VGGSound's clips: of its shards, only the sounds that ADE SP's CSV lists and its archive does not hold."""

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from taco.data.datasets import ade
from taco.data.problems import ManifestError
from taco.runtime import atomic_write
from taco.staging import archives, downloads, hub, transfers
from taco.staging.sources import SOUNDS, IncompleteError, Origin, Source, StagingError

log = logging.getLogger("taco")

SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")


class SoundError(StagingError):
    """A clip has no sound that can be read."""


def listed(root: Path) -> list[str]:
    """File names of the sounds that the rows of ADE SP's CSV that count need (`taco.data.datasets.ade.listed_sounds`).

    Raises
    ------
    IncompleteError
        The CSV is missing, or its rows are at fault.
    """
    try:
        return ade.listed_sounds(root)
    except ManifestError as error:
        hint = "" if (root / ade.CSV).is_file() else " Stage ADE SP first."
        raise IncompleteError(" ".join(map(str, error.problems)) + hint) from error


def missing(root: Path) -> list[str]:
    """Those of `listed` that are not in ``audio/``."""
    return [name for name in listed(root) if not (root / "audio" / name).is_file()]


def bring(source: Source, data_root: Path | None, patience: transfers.Patience) -> tuple[str, str]:
    """Take from VGGSound's shards the clips that ADE SP lists, and no others.

    A shard is removed once it is searched. One that is damaged gives what can be read before the damage; the clips that
    no shard has are written by name to ``missing_sounds.txt``, and the rest goes on.

    Parameters
    ----------
    source : Source
        Its place is the folder ``audio`` of ADE SP.
    data_root : Path, optional
        Shards in its folder ``vggsound`` are read where they are, before any is fetched.
    patience : transfers.Patience

    Returns
    -------
    way, remark : str
        As in `taco.staging.bring.Staged`; the remark counts the missing ones.

    Raises
    ------
    StagingError
        Sounds are missing and could not be looked for: a shard could not be fetched, the folder cannot be written,
        ffmpeg is not there.
    """
    root = source.place.parent
    if not missing(root):
        return "present", "every listed sound is there"
    if not os.access(root, os.W_OK):
        raise StagingError(
            f"{root}: expected a folder that can be written, as {len(missing(root))} listed sounds are missing from "
            "audio/, found a read-only one. Ask its keeper to add them, or place a copy of your own."
        )
    source.place.mkdir(exist_ok=True)
    for shard in _on_disk(data_root):
        _search(shard, shard.name, root)
    failures = _fetch_shards(source, patience, {shard.name for shard in _on_disk(data_root)})
    return _report(root, missing(root), failures)


def _on_disk(data_root: Path | None) -> list[Path]:
    """The user's own shards."""
    if data_root is None:
        return []
    found = sorted((data_root / SOUNDS).glob("*"))
    return [path for path in found if path.name.lower().endswith(SHARD_SUFFIXES)]


def _fetch_shards(source: Source, patience: transfers.Patience, known: set[str]) -> list[StagingError]:
    """Fetch and search one shard after another until nothing is missing; why some could not be fetched."""
    root, state = source.place.parent, source.place / ".searched.json"
    searched, failures = _searched(state, root), []
    if missing(root):
        _require_ffmpeg(root)
    for origin in _shards(source, patience, failures) if missing(root) else ():
        label = f"{origin.address}/{origin.file}"
        if label in searched or PurePosixPath(origin.file).name in known:
            continue
        try:
            shard = _fetched(origin, source, patience)
        except archives.DiskFullError:
            raise
        except StagingError as error:
            log.warning("%s is left out for now: %s", label, error)
            failures.append(error)
            continue
        _search(shard, label, root)
        shard.unlink()
        searched.append(label)
        with atomic_write(state) as partial:
            partial.write_text(json.dumps({"listed": listed(root), "searched": searched}))
        if not missing(root):
            break
    return failures


def _shards(source: Source, patience: transfers.Patience, failures: list[StagingError]) -> Iterator[Origin]:
    """Every shard of every origin; an origin that cannot be listed is added to the failures."""
    for origin in source.origins:
        try:
            origin = patience.call(hub.resolve_revision, origin)
            names = [origin.file] if origin.file else patience.call(hub.files, origin, SHARD_SUFFIXES)
        except StagingError as error:
            log.warning("%s is left out for now: %s", origin, error)
            failures.append(error)
            continue
        yield from (replace(origin, file=name) for name in names)


def _searched(state: Path, root: Path) -> list[str]:
    """Shards that an earlier attempt has searched for the very same list."""
    try:
        before = json.loads(state.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return before["searched"] if before["listed"] == listed(root) else []


def _fetched(origin: Origin, source: Source, patience: transfers.Patience) -> Path:
    """A shard of the hub; one that an earlier attempt has left whole is taken."""
    name = PurePosixPath(origin.file).name
    shard = source.place / f".{name}"
    if not shard.exists():
        part = source.place / f".{name}.part"
        downloads.fetch(origin, part, transfers.Wanted(name, rough_size=source.size), patience)
        part.replace(shard)
    return shard


def _search(shard: Path, label: str, root: Path) -> None:
    try:
        found = extract(shard, missing(root), root / "audio")
    except archives.ArchiveError as error:
        log.warning("%s: reading stops here: %s", label, error)
    else:
        log.info("%s: %d of the listed sounds", label, len(found))


def _report(root: Path, wanted: list[str], failures: list[StagingError]) -> tuple[str, str]:
    """Say what is missing: final where every shard was searched, to be tried again otherwise."""
    report = root / "missing_sounds.txt"
    if not wanted:
        report.unlink(missing_ok=True)
        return "fetched", "every listed sound is there"
    names = ", ".join(wanted[:10]) + (" …" if len(wanted) > 10 else "")
    if failures:
        listing = "\n".join(f"  {number}. {error}" for number, error in enumerate(failures, 1))
        raise StagingError(
            f"{root}: {len(wanted)} of the listed sounds are still missing ({names}), as not every shard could be "
            f"searched. Stage again; what is here is kept.\n{listing}"
        )
    with atomic_write(report) as partial:
        partial.write_text("".join(f"{name}\n" for name in wanted), encoding="utf-8")
    log.warning("%s: no shard has %d of the listed sounds: %s (all in %s)", root, len(wanted), names, report)
    return "fetched", f"{len(wanted)} sounds missing, see {report}"


def extract(shard: Path, wanted: Iterable[str], folder: Path) -> list[str]:
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
    found: list[str] = []
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
    _require_ffmpeg(sound.parent)
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", str(video), "-vn"]
    done = subprocess.run(
        [*command, "-f", suffix.lstrip("."), str(sound)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SoundError(
            f"{video.name}: expected a video with sound, ffmpeg says: {done.stderr.strip()[-300:]}"
        )


def _require_ffmpeg(folder: Path) -> None:
    """VGGSound's shards hold videos: say so before 16 GB of them are fetched."""
    if shutil.which("ffmpeg") is None:
        raise StagingError(
            f"{folder}: expected the program ffmpeg, as VGGSound's shards hold videos and sounds are wanted, found none on "
            "PATH. Install it (`conda install -c conda-forge ffmpeg`, or your system's package) and stage again."
        )
