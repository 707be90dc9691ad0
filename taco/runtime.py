"""What every job shares: its device and threads, its log, whole files or none, digests, provenance.

Imports neither torch nor anything of the package at import time, so that dry runs and table jobs stay light.
"""

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import logging
import math
import os
import platform
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    import numpy as np
    import torch

log = logging.getLogger("taco")
_claims: list[FileLock] = []

DEVICES = ("auto", "cpu", "cuda")
DEEPEST, MOST_VALUES = 50, 100_000  # of a YAML file
REPORTED_PACKAGES = (
    *("torch", "torchaudio", "torchvision", "transformers", "timm", "open_clip_torch", "msclap"),
    *("numpy", "pandas", "pyarrow", "h5py", "hdf5plugin", "snakemake", "av", "taco-bench"),
)


# Answers of a disk that takes no more: full, over quota, read-only, a file too large for it.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DISK_REFUSES = (*DISK_FULL, errno.EROFS)
FOLDER_REFUSES = (*DISK_REFUSES, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)
# Answers to fsync of file systems that cannot (SMB, sshfs, WSL's drives), or of a folder that only takes new files.
CANNOT_SYNC = (
    *(errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY),
    *(errno.EACCES, errno.EPERM, errno.EISDIR),
)


class DeviceError(RuntimeError):
    """The configured device is unknown or not there."""


def setup(device: str = "auto", threads: int = 1) -> "torch.device":
    """Choose the device and set torch up for repeatable results.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        ``auto`` takes CUDA where there is one. ``cuda`` never falls back.
    threads : int
        CPU threads of this process, at least 1.

    Returns
    -------
    torch.device
        Also written to the log.

    Raises
    ------
    DeviceError
        For an unknown name, or ``cuda`` on a machine without CUDA.
    """
    if device not in DEVICES:
        raise DeviceError(
            f"device: expected one of {', '.join(DEVICES)}, found {device!r}. Correct the config."
        )
    import torch

    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise DeviceError(
            f"device: expected a CUDA device, found none (torch {torch.__version__}). "
            "Install a CUDA build of torch, or set `device: auto` or `device: cpu`."
        )
    chosen = torch.device("cpu")
    if available and device != "cpu":
        cards = [str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())]
        chosen = torch.device("cuda", claim(cards))
        torch.cuda.set_device(chosen)
    torch.set_num_threads(max(1, int(threads)))
    # cuBLAS repeats its results only with a fixed workspace.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # By default torch lets cuDNN round float32 convolutions to TF32.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    log.info("device: %s (asked for %s), %d threads", describe(chosen), device, torch.get_num_threads())
    return chosen


def claim(cards: Sequence[str]) -> int:
    """Take a card for this process, so that jobs side by side spread over the cards of a machine.

    Parameters
    ----------
    cards : sequence of str
        What tells each visible card from all others, also from those that only another process sees.

    Returns
    -------
    int
        Index of the first card that no process of this user has claimed; where all are taken, one of them is shared.
        The claim, a lock file for each card, ends with the process.
    """
    folder = Path(tempfile.gettempdir())
    for index, card in enumerate(cards):
        lock = FileLock(folder / f"taco-{os.getuid()}-{card}.lock", timeout=0)
        try:
            lock.acquire()
        except (Timeout, OSError, NotImplementedError):  # some file systems cannot lock
            continue
        _claims.append(lock)
        return index
    shared = os.getpid() % len(cards)
    log.info("all %d cards have a job: card %d is shared", len(cards), shared)
    return shared


class OutputError(RuntimeError):
    """Results cannot be written where they should be."""


def check_writable(folder: str | Path) -> None:
    """Raise `OutputError` unless the folder, or the nearest one above that exists, can be written to."""
    path = Path(folder)
    while not path.exists() and path != path.parent:
        path = path.parent
    if path.is_dir() and os.access(path, os.W_OK | os.X_OK):
        return
    found = "a folder without permission to write" if path.is_dir() else "something that is no folder"
    raise OutputError(
        f"{path}: expected a folder to which {folder} can be written, found {found}. "
        "Remove it, mend its permissions, or run elsewhere with `--directory`."
    )


class ClockError(RuntimeError):
    """A file is dated in the future: says which, and what to do."""


CLOCKS_DIFFER = 300
"""Seconds by which the clocks of a file server and of this machine may differ."""


def check_clock(folder: str | Path, others: Iterable[str | Path] = ()) -> None:
    """Raise an error where a file is dated in the future, since a clock was set back: before any work.

    Snakemake refuses what is made from such a file, but only once it has been made.

    Parameters
    ----------
    folder : path
        Results: its files and those of its folders, but not of theirs that no job reads (world, gallery, logs).
    others : iterable of path
        Further files that jobs read.

    Raises
    ------
    ClockError
    """
    left_out, files = {"world", "gallery", "logs", "benchmarks"}, []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in left_out]
        files += [os.path.join(place, name) for name in names]
    times = {str(path): os.stat(path).st_mtime for path in (*files, *others) if os.path.exists(path)}
    now, last = time.time(), max(times, key=times.__getitem__, default=None)
    if last is None or times[last] <= now + CLOCKS_DIFFER:
        return
    seconds, written = (
        math.ceil(times[last] - now),
        time.strftime("%Y-%m-%d %H:%M", time.localtime(times[last])),
    )
    remedy = (
        f"find {shlex.quote(str(folder))} -exec touch -h -r {{}} -d '-{seconds} seconds' {{}} \\; sets all times of the "
        "results back and keeps their order"
        if last in files
        else f"touch {shlex.quote(last)} gives the file the present time"
    )
    raise ClockError(
        f"{last}: expected a time in the past, found {written}, {seconds} s from now: this machine's clock was set back, or "
        f"another's is fast. What is made from the file would look older than it. Set the clock right; if it is, {remedy}."
    )


def has_cuda_device() -> bool:
    """Whether this machine shows an NVIDIA card; torch is not asked, as importing it takes seconds."""
    devices = Path("/dev")
    return any(devices.glob("nvidia[0-9]*")) or (devices / "dxg").exists()


def describe(device: "torch.device") -> str:
    """Name a device for people: ``cpu``, or ``cuda`` with the card's name."""
    if device.type != "cuda":
        return device.type
    import torch

    return f"{device.type} ({torch.cuda.get_device_name(device)})"


@contextlib.contextmanager
def log_to(path: str | Path | None, terminal: int = logging.WARNING) -> Iterator[logging.Logger]:
    """Send the package's log to a file, and warnings also to the terminal.

    Parameters
    ----------
    path : str or Path, optional
        Overwritten. None: terminal only.
    terminal : int
        Least level that goes to the terminal.
    """
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    handlers[0].setLevel(terminal)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, mode="w", encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(formatter)
        log.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)
    try:
        yield log
    finally:
        log.setLevel(level)
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()


def partial_path(path: str | Path) -> Path:
    """Return a private name beside ``path``, unique to this process, and remove what dead ones left.

    The name carries host and process, so that a leftover of a killed process can be told from the
    unfinished file of a live one, and is removed only on the host that can tell.
    """
    path = Path(path)
    host = re.sub(r"[^A-Za-z0-9]", "", socket.gethostname())
    for leftover in path.parent.glob(f".{path.name}.{host}-*.partial"):
        pid = int(leftover.name.rsplit("-", 2)[1])
        if not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            discard(leftover)
    return path.with_name(f".{path.name}.{host}-{os.getpid()}-{secrets.token_hex(4)}.partial")


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Write a whole file or none.

    Yields a private name in the same folder; at the end of the block that file is flushed to disk and
    renamed to ``path``. After an error it is removed, and what stood at ``path`` before stands there still.

    Raises
    ------
    OutputError
        The folder cannot be written, or its disk is full.
    """
    path = Path(path)
    with _beside(path) as partial:
        with write_errors(path, DISK_REFUSES):
            yield partial
        publish(partial, path)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A private name in the folder of ``path``, which is made if need be; nothing of that name is left."""
    with write_errors(path, FOLDER_REFUSES):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_path(path)
    try:
        yield partial
    finally:
        discard(partial)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Write a whole folder or none.

    Yields a private folder beside ``path``; at the end of the block it is renamed to ``path``, in place of an older
    folder of that name. After an error it is removed, and what stood at ``path`` before stands there still.

    Raises
    ------
    OutputError
        The folder cannot be written, or its disk is full.
    """
    path = Path(path)
    with _beside(path) as partial:
        with write_errors(path, FOLDER_REFUSES):
            partial.mkdir()
        with write_errors(path, DISK_REFUSES):
            yield partial
        with write_errors(path):
            _replace_folder(partial, path)
            _sync(path.parent)


def _replace_folder(new: Path, path: Path) -> None:
    """Rename a folder to a name that an older one may have, also while another process does the same."""
    while True:
        try:
            new.rename(path)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        old = partial_path(path)
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            path.rename(old)
            shutil.rmtree(old, ignore_errors=True)


def discard(path: Path) -> None:
    """Remove a file or folder that is wanted no more; where the disk refuses, an earlier error says more than this one."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def write_errors(path: Path, numbers: Iterable[int] | None = None) -> Iterator[None]:
    """Turn the errors (of these numbers; None: all) that the operating system gives on writing into `OutputError`."""
    try:
        yield
    except OSError as error:
        if numbers is not None and error.errno not in numbers:
            raise
        raise OutputError(
            f"{path}: expected a file that can be written, found: {error.strerror or error}. Free some space, mend the "
            "permissions, or make its folder a link to another disk; then run again. What stood there before is kept."
        ) from error


def publish(partial: Path, path: Path) -> None:
    """Flush ``partial`` to disk and rename it to ``path``.

    Raises
    ------
    OutputError
        The disk takes it no more.
    """
    with write_errors(path):
        _sync(partial)
        os.replace(partial, path)
        # The rename itself must survive a power cut.
        _sync(path.parent)


def _sync(path: Path) -> None:
    """Flush a file or folder, where its file system can."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file that people write.

    Raises
    ------
    OSError
    ValueError
        In one line, for whatever is no YAML, also dates that do not exist, nesting or aliases without end, halves of signs.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise ValueError(f"no YAML: {' '.join(str(error).split())}") from error
    require_bounded(content)
    return content


def require_bounded(value: Any) -> None:
    """Raise `ValueError` for nested values that hold themselves, or each other so often that nobody could have written it;
    and for text that no file could hold."""
    pending, seen = [(value, 0)], 0
    while pending:
        part, depth = pending.pop()
        seen += 1
        if depth > DEEPEST or seen > MOST_VALUES:
            raise ValueError(
                f"nesting beyond {DEEPEST} levels or {MOST_VALUES} values: does an alias (*name) hold itself?"
            )
        for text in part if isinstance(part, Mapping) else [part]:
            if isinstance(text, str) and not is_text(text):
                raise ValueError(
                    f"half of a sign (a lone surrogate) in the text {text!r}: write the whole sign"
                )
        if isinstance(part, Mapping):
            pending += [(item, depth + 1) for item in part.values()]
        elif isinstance(part, list | tuple | set):
            pending += [(item, depth + 1) for item in part]


def is_text(value: str) -> bool:
    """Whether a file can hold a text: JSON, YAML and names of files may have halves of signs, which UTF-8 has no bytes for."""
    try:
        value.encode()
        return True
    except UnicodeEncodeError:
        return False


def digest(value: Any) -> str:
    """SHA-256 (hex) of a JSON-like value; the order of a mapping's keys does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # JSON may hold halves of signs (lone surrogates), which UTF-8 has no bytes for.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def file_digest(path: str | Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def array_digest(values: "np.ndarray") -> str:
    """SHA-256 (hex) of an array's values in their order."""
    import numpy as np

    return hashlib.sha256(np.ascontiguousarray(values)).hexdigest()


def generator(seed: int, purpose: str, key: str = "") -> "np.random.Generator":
    """A random generator of its own for (seed, purpose, key), so that no draw depends on order, batch or shard."""
    import numpy as np

    words = hashlib.sha256("\0".join((str(int(seed)), purpose, key)).encode()).digest()
    return np.random.default_rng(np.frombuffer(words, dtype=np.uint32))


def provenance(
    config: Mapping[str, Any], device: str, digests: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Describe what made a result: suite, configuration, code, versions, machine, time.

    Parameters
    ----------
    config : mapping
        The validated configuration; it is recorded whole, beside its digest.
    device : str
        What the numbers were computed on, as `describe` says it.
    digests : mapping, optional
        Further digests by name (code of each stage, model weights).
    """
    return {
        "suite": config["suite"],
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": versions(REPORTED_PACKAGES),
        "commit": git_commit(Path(__file__).resolve().parents[1]),
        "config_digest": digest(config),
        "config": config,
        "digests": dict(digests or {}),
    }


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Installed version of each package; None where it is not installed."""
    found: dict[str, str | None] = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def git_commit(folder: Path) -> str | None:
    """Commit checked out in ``folder``, with ``+changes`` where tracked files differ; None outside git."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return None
    return commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
