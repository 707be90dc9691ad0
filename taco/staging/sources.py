"""What can be staged: the catalogue of sources, and the lock files that hold the digest of every file.

The catalogue (``config/sources.yaml``) is written by people: where a thing comes from, under which terms, where it
belongs. The lock files beside it are written by the program: what was found there. A digest, once recorded, is
verified ever after.
"""

import logging
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from taco import suites
from taco.runtime import atomic_write, file_digest, read_yaml
from taco.staging.guards import guard

log = logging.getLogger("taco")

GIGA = 10**9
FIELD = re.compile(r"{(\w+)}")
LOCK_HEADER = """\
# sha256 and size in bytes of everything that is fetched. Written by `taco.staging.sources`, sorted by name; commit its changes.
# A digest that a source does not publish is recorded when the file is first fetched, and verified ever after.
"""


class StagingError(RuntimeError):
    """A source could not be brought, or is not what it should be; says what to do."""


class DigestError(StagingError):
    """A file is not the one whose digest is recorded."""


class IncompleteError(StagingError):
    """A folder lacks entries that the source should have."""


class CatalogueError(ValueError):
    """The catalogue or a lock file cannot be used."""


@dataclass(frozen=True)
class Origin:
    """One place on the network from which a source can be fetched.

    Attributes
    ----------
    tool : {"url", "hub", "drive"}
        pooch for plain addresses, huggingface_hub, gdown for Google Drive.
    address : str
        URL, repository on the hub, or id on Google Drive.
    revision : str, optional
        Commit on the hub.
    repo_type : str
        Kind of repository on the hub, ``model`` or ``dataset``.
    file : str, optional
        Path inside the repository, where it is not the file's own name.
    endpoint : str, optional
        Address of a mirror of the hub.
    """

    tool: str
    address: str
    revision: str | None = None
    repo_type: str = "model"
    file: str | None = None
    endpoint: str | None = None

    def __str__(self) -> str:
        at = f" at {self.revision[:12]}" if self.revision else ""
        return {"url": "", "hub": "hub:", "drive": "drive:"}[self.tool] + self.address + at


@dataclass(frozen=True)
class Source:
    """An entry of the catalogue.

    Attributes
    ----------
    name, title : str
    lock : {"weights", "datasets"}
        Lock file that holds its digests.
    place : Path
        File or folder where the configuration expects it, relative to the working directory.
    origins : tuple of Origin
        Tried in this order; empty where it must be placed by hand.
    files : tuple of str
        The files of a folder that is fetched file by file.
    archive : str, optional
        Name of the one archive that is fetched and unpacked to `place`.
    inbox : Path, optional
        Folder into which archives are placed by hand.
    holds : tuple of str
        Entries that must exist below `place`, for folders. ``{key}`` stands for a dataset's option, see `needed`.
    read_by : mapping
        Reader to those of `holds` that it reads, where it does not read all.
    readers : tuple of str
        Readers of datasets that it serves.
    optional : bool
        Not needed by any run.
    size, unpacked_size : int
        Bytes, roughly where the publisher does not say: for the check of free space alone.
    licence, terms, request : str
        Licence; terms of use; how to ask for it.
    agreement : bool
        Whether the user must have agreed to the terms.
    """

    name: str
    title: str
    lock: str
    place: Path
    licence: str
    origins: tuple[Origin, ...] = ()
    files: tuple[str, ...] = ()
    archive: str | None = None
    inbox: Path | None = None
    holds: tuple[str, ...] = ()
    read_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    readers: tuple[str, ...] = ()
    optional: bool = False
    size: int = 0
    unpacked_size: int = 0
    terms: str = ""
    request: str = ""
    agreement: bool = False

    @property
    def tool(self) -> str:
        """How it is brought: ``url``, ``hub``, ``drive``, ``hand`` or ``sounds`` (VGGSound's listed clips)."""
        if self.name == SOUNDS:
            return "sounds"
        return self.origins[0].tool if self.origins else "hand"

    @property
    def is_folder(self) -> bool:
        """Whether `place` is a folder."""
        return bool(self.files or self.archive or self.inbox or self.holds)


def needed(source: Source, datasets: Iterable[Mapping[str, Any]]) -> Source:
    """The source with only those entries that datasets read, each once.

    Parameters
    ----------
    source : Source
    datasets : iterable of mapping
        Options, as in the configuration, of the datasets that are read from it. Where there are none, all entries are
        needed but those that depend on a dataset's options.
    """
    found: dict[str, None] = {}
    for options in datasets:
        for entry in source.read_by.get(options["reader"], source.holds):
            found |= dict.fromkeys(_filled(entry, options))
    return replace(source, holds=tuple(found or (entry for entry in source.holds if "{" not in entry)))


def options_for(source: Source | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Of a dataset's options those that decide what of a source is `needed`."""
    entries = " ".join(chain(source.holds, *source.read_by.values())) if source else ""
    return {key: options[key] for key in ("reader", *FIELD.findall(entries)) if key in options}


def _filled(entry: str, options: Mapping[str, Any]) -> list[str]:
    """An entry with an option's value for its ``{key}``, for each value of a list."""
    key = FIELD.search(entry)
    if key is None:
        return [entry]
    values = options[key[1]]
    return [entry.replace(key[0], value) for value in ([values] if isinstance(values, str) else values)]


SOUNDS = "vggsound"
"""The one source of which only the clips that another dataset lists are fetched."""

_KEYS = {
    *(
        "title",
        "lock",
        "place",
        "licence",
        "from",
        "files",
        "archive",
        "inbox",
        "holds",
        "readers",
        "optional",
    ),
    *("gigabytes", "unpacked_gigabytes", "terms", "request", "agreement"),
}
_TOOLS = ("url", "hub", "drive")
_ORIGIN_KEYS = ("revision", "repo_type", "file", "endpoint")


def read_catalogue(path: str | Path) -> dict[str, Source]:
    """Read ``config/sources.yaml``.

    Raises
    ------
    CatalogueError
        Naming the entry and key.
    """
    try:
        return {name: _source(str(path), name, entry) for name, entry in read_yaml(path).items()}
    except (OSError, AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, CatalogueError):
            raise
        raise CatalogueError(
            f"{path}: expected the catalogue of sources, found {type(error).__name__} {error}. Restore the file."
        ) from error


def _source(path: str, name: str, entry: Mapping[str, Any]) -> Source:
    unknown = sorted(set(entry) - _KEYS)
    missing = sorted({"title", "lock", "place", "licence"} - set(entry))
    if unknown or missing or entry["lock"] not in ("weights", "datasets"):
        raise CatalogueError(
            f"{path}: {name}: expected the keys title, lock (weights or datasets), place, licence and perhaps "
            f"{', '.join(sorted(_KEYS))}; found unknown keys {unknown}, missing keys {missing}. Correct the entry."
        )
    held = entry.get("holds", ())
    read_by = (
        {reader: tuple(entries) for reader, entries in held.items()} if isinstance(held, Mapping) else {}
    )
    return Source(
        name=name,
        title=entry["title"],
        lock=entry["lock"],
        place=Path(suites.located(entry["place"])),
        licence=entry["licence"],
        origins=tuple(_origin(path, name, origin) for origin in entry.get("from", ())),
        files=tuple(entry.get("files", ())),
        archive=entry.get("archive"),
        inbox=Path(entry["inbox"]) if "inbox" in entry else None,
        holds=tuple(chain(*read_by.values())) if read_by else tuple(held),
        read_by=read_by,
        readers=tuple(entry.get("readers", ())),
        optional=bool(entry.get("optional", False)),
        size=round(entry.get("gigabytes", 0) * GIGA),
        unpacked_size=round(entry.get("unpacked_gigabytes", 0) * GIGA),
        terms=" ".join(entry.get("terms", "").split()),
        request=" ".join(entry.get("request", "").split()),
        agreement=bool(entry.get("agreement", False)),
    )


def _origin(path: str, name: str, entry: Mapping[str, Any]) -> Origin:
    tools = [tool for tool in _TOOLS if tool in entry]
    unknown = sorted(set(entry) - {*_TOOLS, *_ORIGIN_KEYS})
    if len(tools) != 1 or unknown:
        raise CatalogueError(
            f"{path}: {name}.from: expected one of {', '.join(_TOOLS)} with {', '.join(_ORIGIN_KEYS)}; "
            f"found {', '.join(entry)}. Correct the entry."
        )
    options = {key: entry[key] for key in _ORIGIN_KEYS if entry.get(key)}
    return Origin(tools[0], str(entry[tools[0]]), **options)


@dataclass
class Lock:
    """A lock file: what is known of each source's files.

    ``entries[source]`` holds ``files`` (name → sha256, bytes, recorded, origin), and where an archive was unpacked
    ``unpacked`` (number of files, bytes).
    """

    path: Path
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> "Lock":
        """Read a lock file; one that is not there yet is empty."""
        path = Path(path)
        if not path.exists():
            return cls(path)
        try:
            entries = read_yaml(path) or {}
            for entry in entries.values():
                for record in entry.get("files", {}).values():
                    if not re.fullmatch("[0-9a-f]{64}", record["sha256"]):
                        raise ValueError(f"the digest {record['sha256']!r}")
        except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise CatalogueError(
                f"{path}: expected a lock file, found {type(error).__name__} {error}. Restore it from git."
            ) from error
        return cls(path, entries)

    def file(self, source: str, name: str) -> dict[str, Any] | None:
        """What is recorded of a file, or None."""
        return self.entries.get(source, {}).get("files", {}).get(name)

    def unpacked(self, source: str) -> dict[str, int] | None:
        """Number of files and bytes that the source's archives held, or None."""
        return self.entries.get(source, {}).get("unpacked")

    def verify(self, source: str, name: str, path: Path, *, quick: bool = False) -> dict[str, Any] | None:
        """Compare a file with its record; quick compares its size alone.

        Returns
        -------
        dict or None
            The record, None where there is none yet.

        Raises
        ------
        DigestError
            Another size or digest.
        """
        known = self.file(source, name)
        if known is None:
            return None
        size = path.stat().st_size
        if known.get("bytes") is not None and size != known["bytes"]:
            raise DigestError(self._refusal(path, known, f"{known['bytes']:,} bytes", f"{size:,} bytes"))
        digest = known["sha256"] if quick else file_digest(path)
        if digest != known["sha256"]:
            raise DigestError(self._refusal(path, known, f"sha256 {known['sha256']}", digest))
        return known

    def _refusal(self, path: Path, known: Mapping[str, Any], expected: str, found: str) -> str:
        return (
            f"{path}: expected {expected} ({known.get('origin', 'unknown origin')}, recorded "
            f"{known.get('recorded', 'at an unknown time')} in {self.path}), found {found}. The file is damaged, or "
            "its source has changed: delete it and stage it again; if it is the same again, compare with the "
            "source's own announcement before removing the record."
        )

    def record(self, source: str, files: Mapping[str, Path], origin: str, **more: Any) -> None:
        """Record digests of files that have none yet, and verify those that have.

        The file is read again under a guard, so that jobs which stage at the same time keep each other's entries.
        """
        if not files and not more:
            return
        if self.path.parent.is_dir() and not os.access(self.path.parent, os.W_OK):
            self._verify_only(source, files)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with guard(self.path):
            self.entries = Lock.read(self.path).entries
            before = yaml.safe_dump(self.entries)
            entry = self.entries.setdefault(source, {})
            for name, path in files.items():
                if self.verify(source, name, path) is None:
                    entry.setdefault("files", {})[name] = _record(path, origin)
            entry.update(more)
            if yaml.safe_dump(self.entries) != before:
                self._write()

    def _verify_only(self, source: str, files: Mapping[str, Path]) -> None:
        """In a project of somebody else's: what is recorded is verified, what is not is said."""
        new = [name for name, path in files.items() if self.verify(source, name, path) is None]
        if new:
            log.warning(
                "%s cannot be written: the digest of %s is not recorded. To keep one, copy the catalogue and its lock "
                "files to a folder of yours and set staging.catalogue.",
                *(self.path, ", ".join(new)),
            )

    def _write(self) -> None:
        with atomic_write(self.path) as partial:
            text = yaml.safe_dump(self.entries, sort_keys=True, allow_unicode=True, width=1000)
            partial.write_text(LOCK_HEADER + text, encoding="utf-8")


def _record(path: Path, origin: str) -> dict[str, Any]:
    today = datetime.now(UTC).date().isoformat()
    return {
        "sha256": file_digest(path),
        "bytes": path.stat().st_size,
        "origin": origin,
        "recorded": f"{today}, on first fetch",
    }


def lock_path(catalogue: str | Path, kind: str) -> Path:
    """Path of a lock file: it lies beside the catalogue."""
    return Path(catalogue).with_name(f"{kind}.lock.yaml")


def source_of(catalogue: Mapping[str, Source], path: str, reader: str | None = None) -> Source | None:
    """The source that belongs at a path; for a dataset that lies elsewhere, the one that its reader takes."""
    wanted = os.path.normpath(path)
    here = [source for source in catalogue.values() if os.path.normpath(source.place) == wanted]
    served = [source for source in catalogue.values() if reader in source.readers]
    return next(iter(here + served), None)


def brought_by(catalogue: Mapping[str, Source], tool: str) -> str:
    """Regular expression of the names of all sources that a tool brings."""
    return "|".join(re.escape(name) for name, source in catalogue.items() if source.tool == tool)


def lost(source: Source, receipt: str | Path) -> bool:
    """Whether a source's receipt is there but its data has gone since."""
    return Path(receipt).exists() and not source.place.exists()
