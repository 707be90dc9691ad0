"""What files from strangers are, by name and by content: archives that are read here, those that are not with what to do,
downloads that have not ended, and what systems and programs leave in folders."""

import re
import struct
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from shlex import quote

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".tar.lzma")
"""Of archives that are read here."""

JUNK = (
    # macOS, Windows, Linux desktops, network storage, editors; all in lower case.
    *("__macosx", ".ds_store", "._*", ".appledouble", ".spotlight-v100", ".trashes", ".fseventsd", ".apdisk"),
    *(".documentrevisions-v100", ".temporaryitems", ".localized", ".volumeicon.icns", "icon\r"),
    *("thumbs.db", "thumbs.db:encryptable", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"),
    *("$recycle.bin", "system volume information", ".directory", ".trash-*", ".nfs*", ".fuse_hidden*"),
    *("@eadir", "@synoeastream", ".@__thumb", ".ipynb_checkpoints", "~$*", "*~"),
)
NOTES = re.compile(r"(?i)(read.?me|licen[cs]e|copying|notice|changelog|changes|citation|authors?)(?![a-z]).*")

UNFINISHED = (
    *(".crdownload", ".part", ".partial", ".download", ".opdownload", ".filepart", ".!ut", ".!qb", ".aria2"),
    *(".downloading", ".tmp", ".temp"),
)
_ARCHIVE = r"(zip|7z|rar|tar|tgz|tbz2?|txz|gz|bz2|xz|zst)"
_FIRST_OF_7Z = re.compile(r"(?i)(?P<whole>.+\.7z)\.\d{2,4}")
_PART_OF_RAR = re.compile(r"(?i)(?P<stem>.+?)(\.part\d+\.rar|\.r\d{2,3})")
_PART_OF_ZIP = re.compile(r"(?i)(?P<stem>.+)\.z\d{2,3}")
_CUT = re.compile(rf"(?i)(?P<whole>.+\.{_ARCHIVE})[._-]?(part[._-]?)?(\d{{1,4}}|[ab][a-z])")

# Programs that unpack what is not read here, by the suffix or the first bytes of the file.
_TOOLS = {
    ".7z": ("a 7z archive", "7z x"),
    ".rar": ("a rar archive", "unrar x"),
    ".tar.zst": ("an archive packed by Zstandard", "tar --zstd -xf"),
    ".tzst": ("an archive packed by Zstandard", "tar --zstd -xf"),
    ".zst": ("a file packed by Zstandard", "zstd -d"),
    ".lz4": ("a file packed by lz4", "lz4 -d"),
    ".lz": ("a file packed by lzip", "lzip -d"),
    ".z": ("a file packed by compress", "gzip -d"),
    ".gz": ("a packed file that is no tar archive", "gzip -d"),
    ".bz2": ("a packed file that is no tar archive", "bzip2 -d"),
    ".xz": ("a packed file that is no tar archive", "xz -d"),
    ".iso": ("the image of a disk", "7z x"),
    ".dmg": ("the image of a disk", "7z x"),
    ".cab": ("a cabinet archive", "7z x"),
    ".exe": ("an archive that unpacks itself on Windows", "7z x"),
}
_MAGIC = {
    b"7z\xbc\xaf\x27\x1c": ".7z",
    b"Rar!\x1a\x07": ".rar",
    b"\x28\xb5\x2f\xfd": ".tar.zst",
    b"\x04\x22\x4d\x18": ".lz4",
    b"LZIP": ".lz",
    b"\x1f\x9d": ".z",
    b"MSCF": ".cab",
    b"MZ": ".exe",
}
ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08", b"PK00")


def is_archive(path: Path) -> bool:
    """Whether the name is that of an archive that is read here."""
    return path.name.lower().endswith(SUFFIXES)


def is_junk(name: str | PurePosixPath) -> bool:
    """Whether a relative path is something, or lies in something, that a system or program leaves in folders."""
    parts = [part.lower() for part in PurePosixPath(name).parts]
    return any(fnmatchcase(part, pattern) for part in parts for pattern in JUNK)


def is_note(name: str) -> bool:
    """Whether a file is a note to people, which no reader of data opens."""
    return NOTES.fullmatch(PurePosixPath(name).name) is not None


def advice_by_name(path: Path) -> str | None:
    """What a file is, by its name, and what to do with it where it is not read here; None where it is, or is no archive."""
    name, lower = path.name, path.name.lower()
    if lower.endswith(UNFINISHED):
        return f"{name} is a transfer that has not ended: bring it to its end, or fetch it again"
    if found := _FIRST_OF_7Z.fullmatch(name):
        return f"{name} is a part of a 7z archive: unpack it with `7z x {quote(found['whole'])}.001`"
    if found := _PART_OF_RAR.fullmatch(name):
        return f"{name} is a part of a rar archive: unpack it with `unrar x` on the first part"
    if found := _PART_OF_ZIP.fullmatch(name):
        return split_zip(f"{found['stem']}.zip", name)
    if is_archive(path) and any(path.parent.glob(f"{glob_quoted(path.stem)}.[zZ][0-9][0-9]*")):
        return split_zip(name, name)
    if (found := _CUT.fullmatch(name)) and not is_archive(path):
        whole = found["whole"]
        return (
            f"{name} is a part of {whole}: join all parts in their order (`cat {quote(whole)}?* > ../{quote(whole)}`) "
            "and place the whole here instead of them"
        )
    return None if is_archive(path) else advice_by_suffix(name, lower)


def advice_by_suffix(name: str, suffix: str) -> str | None:
    """What to do with a file of a kind that is not read here."""
    for known, (what, tool) in _TOOLS.items():
        if suffix.endswith(known):
            return f"{name} is {what}: unpack it with `{tool} {quote(name)}`"
    return None


def split_zip(last: str, name: str) -> str:
    """What to do with a part of a zip archive that lies in several."""
    return (
        f"{name} is a part of a zip archive that lies in several files: join them with `zip -s 0 {quote(last)} --out "
        f"../{quote(last)}` "
        "and place the whole here instead of them"
    )


def advice_by_content(path: Path) -> str | None:
    """What to do with a file that has an archive's name and is none that is read here; None for the others."""
    with path.open("rb") as stream:
        head = stream.read(8)
        stream.seek(-min(path.stat().st_size, 1 << 16), 2)
        tail = stream.read()
    if not head:
        return f"{path.name} is empty: fetch it again"
    for magic, suffix in _MAGIC.items():
        if head.startswith(magic):
            return advice_by_suffix(path.name, suffix)
    if not head.startswith(ZIP_STARTS):
        return None
    end = tail.rfind(b"PK\x05\x06")
    if end < 0:
        return (
            f"{path.name} is the beginning of a zip archive: where more parts of it were given, join them "
            f"(`cat` for .001, .002; `zip -s 0` for .z01, .z02); else its transfer broke off, and it has to be fetched again"
        )
    disk = struct.unpack_from("<H", tail, end + 4)[0] if len(tail) >= end + 6 else 0
    return split_zip(path.name, path.name) if 0 < disk < 0xFFFF else None


def whole_of(name: str) -> str:
    """What the whole of an archive would be called without suffixes: the same for all of its parts and kinds."""
    name = name.lower()
    for pattern in (_FIRST_OF_7Z, _PART_OF_RAR, _PART_OF_ZIP, _CUT):
        if found := pattern.fullmatch(name):
            groups = found.groupdict()
            name = groups.get("whole") or groups["stem"]
            break
    for suffix in sorted((*SUFFIXES, *_TOOLS), key=len, reverse=True):
        name = name.removesuffix(suffix)
    return name


def glob_quoted(name: str) -> str:
    """The name with nothing that a pattern would take for more than itself."""
    return re.sub(r"([*?[])", r"[\1]", name)
