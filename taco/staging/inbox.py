"""Archives that are given on request and placed by hand: what lies there, and what to do next."""

from dataclasses import dataclass, field
from pathlib import Path

from taco.staging import archives, formats
from taco.staging.sources import Source


@dataclass(frozen=True)
class Inbox:
    """What the user has placed for a source that is given on request.

    Attributes
    ----------
    folder : Path
    archives : list of Path
        Those that can be unpacked, by name.
    unread : list of str
        Of what cannot be, what it is and what to do with it.
    others : list of str
        Names of other files.
    """

    folder: Path
    archives: list[Path] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def find(source: Source, data_root: Path | None) -> Inbox:
    """The first folder with archives of any kind: the source's own inbox, or the one of its name below the data root."""
    folders = [source.inbox, *([data_root / source.inbox.name] if data_root is not None else [])]
    found = [_sorted(folder, source) for folder in folders]
    return next((placed for placed in found if placed.archives or placed.unread), found[0])


def _sorted(folder: Path, source: Source) -> Inbox:
    entries = [path for path in sorted(folder.glob("*")) if not formats.is_junk(path.name)]
    files = [path for path in entries if path.is_file() and path.suffix != ".guard"]
    said = {path: formats.advice_by_name(path) for path in files}
    placed = [path for path in files if formats.is_archive(path) and not said[path]]
    # What the user has joined or packed anew may still lie beside its parts.
    whole = {formats.whole_of(path.name) for path in placed}
    unread = [text for path, text in said.items() if text and formats.whole_of(path.name) not in whole]
    unread += [
        f"{path.name}/ is a folder: move what it holds to {source.place}/"
        for path in entries
        if path.is_dir() and not path.name.startswith(".") and not placed
    ]
    others = [path.name for path in files if path not in placed and not said[path]]
    return Inbox(folder, placed, unread, others)


def by_hand(source: Source, data_root: Path | None) -> str:
    """The exact place, step and terms of a source that must be requested, or the next step where it has been placed."""
    where = ""
    if source.inbox:
        placed = find(source, data_root)
        if placed.unread:
            return _refusal(placed, source)
        if placed.archives:
            names = ", ".join(path.name for path in placed.archives)
            return f"{source.title}: {names} in {placed.folder} can be unpacked: run `snakemake stage`."
        where = f"place the archive(s) unopened in {source.inbox}/ and stage again"
        where += f" (there lie {', '.join(placed.others)}, which are no archives)" if placed.others else ""
    shape = f"or unpack them so that {source.place}/ holds {', '.join(source.holds)}"
    return (
        f"{source.title}: expected at {source.place}, found nothing; it is given on request only. {source.request} Then "
        f"{where}, {shape}. Terms: {source.terms}"
    )


def _refusal(placed: Inbox, source: Source) -> str:
    """Why what lies there cannot be unpacked, and what to do."""
    listed = "; ".join(placed.unread)
    return (
        f"{source.title}: expected zip or tar archives in {placed.folder}, found what is not read here: {listed}. Place "
        f"the whole or a zip or tar archive instead, or {archives.layout(source.place, source.holds)}."
    )
