"""Say in one table whether a suite can run: what is present, missing, corrupt or unlicensed, and what to do."""

import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from taco import suites
from taco.data.datasets import ade
from taco.models import backends, sums
from taco.runtime import REPORTED_PACKAGES, file_digest, versions
from taco.staging import bring, inbox, space, vggsound
from taco.staging.sources import (
    GIGA,
    SOUNDS,
    Lock,
    Source,
    StagingError,
    lock_path,
    needed,
    options_for,
    read_catalogue,
    source_of,
)

PRESENT, MISSING, CORRUPT, UNLICENSED = "present", "missing", "corrupt", "unlicensed"
COLOURS = {PRESENT: "green", MISSING: "yellow", CORRUPT: "red", UNLICENSED: "magenta"}
COLUMNS = ("status", "place", "needed by", "source", "licence", "remark")
WIDE = 160
SMALLER = {
    "float16": ("uint8", "none"),
    "uint8": ("none",),
    "none": (),
}  # ways to keep proposals in less space


class NotReadyError(StagingError):
    """Something that the suite needs is missing, corrupt or unlicensed."""


@dataclass(frozen=True)
class Finding:
    """State of one thing that a suite needs.

    Attributes
    ----------
    need : str
        Keys of the configuration that name it.
    status : {"present", "missing", "corrupt", "unlicensed"}
    place : str
        Path.
    source : str
        Name in the catalogue, "" where it has none.
    licence : str
    remark : str
        What was found.
    step : str
        What to do; "" where nothing has to be done.
    """

    need: str
    status: str
    place: str
    source: str = ""
    licence: str = ""
    remark: str = ""
    step: str = ""


def examine(config: Mapping[str, Any], *, quick: bool = False) -> list[Finding]:
    """Look at everything that a configuration needs and the workflow does not make itself.

    Parameters
    ----------
    config : mapping
        The validated configuration.
    quick : bool
        Compare sizes only. Otherwise every weight file is read (some seconds per gigabyte).

    Returns
    -------
    list of Finding
        In the order of the configuration; a path that several keys name comes once.
    """
    settings = bring.Settings.of(config.get("staging") or {})
    catalogue = read_catalogue(settings.catalogue)
    findings = []
    for place, (keys, datasets) in needs(config).items():
        source = source_of(catalogue, place, next((options["reader"] for options in datasets), None))
        source = source and needed(source, datasets)
        findings.append(_finding(", ".join(keys), Path(place), source, settings, quick))
        if "ade" in [options["reader"] for options in datasets] and findings[-1].status == PRESENT:
            findings += _sounds(", ".join(keys), Path(place), catalogue)
    return findings + _backend(config)


def needs(config: Mapping[str, Any]) -> dict[str, tuple[list[str], list[dict[str, Any]]]]:
    """Every path on disk that a configuration names and the workflow does not make: path → (keys, datasets read there)."""
    named: list[tuple[str, str, list[dict[str, Any]]]] = []
    for name in suites.used_datasets(config):
        dataset = suites.dataset(config, name)
        if not dataset["generated"]:
            named.append((f"datasets.{name}", dataset["root"], [dataset]))
    for name, model in config["models"].items():
        named += [
            (f"models.{name}.{key}", model[key], []) for key in ("weights", "tokenizer") if model.get(key)
        ]
        if model["architecture"].endswith(".json"):
            named.append((f"models.{name}.architecture", model["architecture"], []))
    for name in config["banks"]:
        bank = suites.bank(config, name)
        if bank["source"] not in ("classes", "pairs") and not bank["generated"]:
            named.append((f"banks.{name}", bank["source"], []))
    named += [
        (f"tables.{key}", config["tables"][key], [])
        for key in ("reported", "thresholds")
        if config["tables"][key]
    ]
    paths: dict[str, tuple[list[str], list[dict[str, Any]]]] = {}
    for key, path, datasets in named:
        keys, read = paths.setdefault(path, ([], []))
        keys.append(key)
        read += datasets
    return paths


def datasets_of(config: Mapping[str, Any], source: Source) -> list[dict[str, Any]]:
    """Options (`options_for`) of the datasets that the tasks of a configuration read from a source's place."""
    datasets = [suites.dataset(config, name) for name in suites.used_datasets(config)]
    place = os.path.normpath(source.place)
    return [options_for(source, one) for one in datasets if os.path.normpath(one["root"]) == place]


def required_sources(config: Mapping[str, Any]) -> list[str]:
    """Names of the catalogue's sources whose places a configuration names; what ``stage`` brings.

    A thing that the configuration takes from elsewhere is used there and not staged.
    """
    settings = bring.Settings.of(config.get("staging") or {})
    catalogue = read_catalogue(settings.catalogue)
    found = [source_of(catalogue, place) for place in needs(config)]
    names = [source.name for source in found if source is not None]
    listed = any("ade" in catalogue[name].readers for name in names)
    return [*names, SOUNDS] if listed and SOUNDS in catalogue else names


def _finding(need: str, place: Path, source: Source | None, settings: bring.Settings, quick: bool) -> Finding:
    about = {"need": need, "place": str(place)}
    if source is not None:
        about |= {"source": source.name, "licence": source.licence}
    if not place.exists():
        remark = f"the link to {place.readlink()} points nowhere" if place.is_symlink() else "nothing there"
        return Finding(**about, status=MISSING, remark=remark, step=_step(source, place, settings))
    try:
        remark = _verified(source, place, settings, quick)
    except StagingError as error:
        return Finding(**about, status=CORRUPT, remark=str(error), step=_repair(source, place))
    if source is not None and source.agreement and source.name not in settings.accepted_terms:
        step = f"Terms: {source.terms} If you agree, add {source.name} to staging.accepted_terms."
        return Finding(**about, status=UNLICENSED, remark="terms of use not yet accepted", step=step)
    if place.is_symlink():
        remark = f"link to {place.resolve()}; {remark}".rstrip("; ")
    return Finding(**about, status=PRESENT, remark=remark)


def _verified(source: Source | None, place: Path, settings: bring.Settings, quick: bool) -> str:
    """A remark on what stands at a place; raises where it is not what it should be."""
    if source is None:
        if place.is_file() and place.stat().st_size == 0:
            raise StagingError(f"{place}: expected content, found an empty file.")
        if quick or not place.is_file():
            return ""
        found, listed = file_digest(place), sums.beside(place)
        if listed not in (None, found):
            raise StagingError(
                f"{place}: expected the sha256 {listed[:16]} of {place.with_name(sums.NAME)}, found {found[:16]}."
            )
        return f"sha256 {found[:16]}"
    return bring.verify(source, Lock.read(lock_path(settings.catalogue, source.lock)), place, quick=quick)


def _step(source: Source | None, place: Path, settings: bring.Settings) -> str:
    if source is None:
        return f"Place it at {place}, or correct the configuration."
    if source.origins:
        size = f" (about {source.size / GIGA:.1f} GB)" if source.size >= GIGA / 10 else ""
        step = f"Run `snakemake stage` with your configuration; it comes from {source.origins[0]}{size}."
        step += f" Terms: {source.terms}" if source.agreement else ""
    else:
        step = inbox.by_hand(source, settings.data_root)
    if source.agreement and source.name not in settings.accepted_terms:
        step += f" If you agree, add {source.name} to staging.accepted_terms first."
    return step


def _repair(source: Source | None, place: Path) -> str:
    if source is None or not source.origins:
        return f"Move {place} away and place it again."
    return f"Delete {place} and run `snakemake stage`."


def _sounds(need: str, root: Path, catalogue: Mapping[str, Source]) -> list[Finding]:
    """The sounds that ADE SP lists but does not hold."""
    place = str(root / "audio")
    try:
        missing = vggsound.missing(root)
    except StagingError as error:
        return [Finding(need, CORRUPT, str(root), remark=str(error), step=f"Stage {root} again.")]
    if not missing:
        return []
    names = ", ".join(missing[:8]) + (" …" if len(missing) > 8 else "")
    source = catalogue.get(SOUNDS)
    step = "Run `snakemake stage`: it takes these clips from VGGSound's shards, which may lie in data_root/vggsound."
    if (root / "missing_sounds.txt").exists():
        step = (
            "No shard has them. Fetch them from the authors of DenseAV or VGGSound, or take their rows out of "
            f"{root / ade.CSV} and say so with your results."
        )
    remark = f"{len(missing)} listed sounds are not there: {names}"
    licence = source.licence if source else ""
    return [Finding(f"{need} (sounds)", MISSING, place, SOUNDS, licence, remark, step)]


def disk(config: Mapping[str, Any]) -> list[Finding]:
    """Whether the caches that a run writes fit on the disk; what is there already is not counted again."""
    try:
        parts = space.estimate(config)
    except FileNotFoundError:  # a description of a model, which `examine` reports
        return []
    needed = max(sum(parts.values()) - space.present(config), 0)
    free, suite, kind = space.free(config), f"results/{config['suite']}", config["features"]["proposals"]
    counts = [space.sample_count(config, name) for name in parts]
    masks = sum(counts) * space.sample_bytes(config)[kind]
    kept = (
        "proposals are not kept: jobs that need them make them again, which wants a GPU"
        if kind == "none"
        else f"{kind} masks alone are {masks / GIGA:.3g} GB before compression"
    )
    remark = (
        f"caches of {', '.join(parts)} need about {needed / GIGA:.3g} GB more ({kept}), "
        f"{free / GIGA:.3g} GB are free"
    )
    if needed < free:
        return [Finding("features.proposals", PRESENT, suite, remark=remark)]
    step = f"Free some space, or make {suite} a link to a larger disk."
    for smaller in SMALLER[kind]:
        whole = sum(space.estimate(config, smaller).values()) / GIGA
        step += f" `features.proposals: {smaller}` needs about {whole:.3g} GB in all."
    return [Finding("features.proposals", MISSING, suite, remark=remark, step=step)]


def _backend(config: Mapping[str, Any]) -> list[Finding]:
    """The official code of FC-CLIP, where the configuration asks for it."""
    if config["models"].get("fcclip", {}).get("backend") != "detectron2":
        return []
    need = "models.fcclip.backend"
    lacks = [
        Finding(need, MISSING, lack.what, remark="not found", step=f"To do: {lack.step}.")
        for lack in backends.missing()
    ]
    return lacks or [Finding(need, PRESENT, "detectron2 and FC-CLIP")]


def exit_code(findings: Iterable[Finding]) -> int:
    """0 where a run can succeed, else 1."""
    return int(any(finding.status != PRESENT for finding in findings))


def show(findings: Iterable[Finding], suite: str, console: Console | None = None) -> None:
    """Print the table, and below it one step per problem.

    A terminal too narrow for all columns shows those that tell what is where; what is not a terminal counts as wide.
    """
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDE)
    findings = list(findings)
    table = Table(title=f"What the {suite} suite needs", title_justify="left", expand=False)
    columns = COLUMNS if console.width >= WIDE else COLUMNS[:3]
    for column in columns:
        table.add_column(column, overflow="fold")
    for finding in findings:
        remark = finding.remark if finding.status != CORRUPT else "see below"
        cells = (finding.place, finding.need.replace(", ", "\n"), finding.source, finding.licence, remark)
        row = (Text(finding.status, COLOURS[finding.status]), *map(Text, cells))
        table.add_row(*row[: len(columns)])
    console.print(table)
    problems = [finding for finding in findings if finding.status != PRESENT]
    for number, finding in enumerate(problems, 1):
        text = f"{number}. {finding.place} is {finding.status}: {finding.remark.rstrip('.')}. {finding.step}"
        console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)
    free = shutil.disk_usage(".").free / GIGA
    verdict = f"{len(problems)} of {len(findings)} need attention" if problems else "The suite can run"
    console.print(f"{verdict}. Free on this disk: {free:.0f} GB.", highlight=False)
    console.print(installed(), highlight=False, soft_wrap=not console.is_terminal)


def installed() -> str:
    """The versions of Python and of the packages that results are reported with, in one line."""
    found = {"Python": platform.python_version(), **versions(REPORTED_PACKAGES)}
    told = ", ".join(f"{name} {version or '(not there)'}" for name, version in found.items())
    return f"Installed: {told}."


def as_records(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """The findings as JSON-like records."""
    return [asdict(finding) for finding in findings]


def fingerprint(config: Mapping[str, Any]) -> dict[str, list[int] | None]:
    """Size and time of change of every path that a suite needs, None where nothing is: changes when a check may differ.

    Reads no file; cheap enough for every start of the workflow.
    """
    found: dict[str, list[int] | None] = {}
    for place in needs(config):
        path = Path(place)
        status = path.stat() if path.exists() else None
        found[place] = [status.st_size, status.st_mtime_ns] if status else None
    return found


def state(config: Mapping[str, Any]) -> dict[str, Any]:
    """The `fingerprint`, and the settings on which the check depends; the same ones need no second check."""
    catalogue = read_catalogue(config["staging"]["catalogue"])
    read = {}
    for place, (keys, datasets) in needs(config).items():
        source = source_of(catalogue, place, next((options["reader"] for options in datasets), None))
        read[place] = [keys, [options_for(source, options) for options in datasets]]
    try:
        sizes = space.estimate(config)
    except (OSError, ValueError, KeyError, TypeError):  # a damaged description of a model
        sizes = None
    return {
        "files": fingerprint(config),
        "staging": config["staging"],
        "read": read,
        "backend": config["models"]["fcclip"]["backend"],
        "sizes": sizes,
    }
