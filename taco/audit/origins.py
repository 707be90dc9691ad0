"""Where a cell's numbers come from: what the files behind it say of themselves."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taco import suites
from taco.cache import receipts
from taco.cache.hdf5 import open_cache
from taco.results import score_files

SOLVED = ("TACO", "U only")
UNTOLD = ("storage", "kind", "schema", "objective_steps")
"""Attributes that are about the file, not about what made it."""


def of_cell(
    config: Mapping[str, Any], dataset: str, cell: Mapping[str, Any], paths: Sequence[str]
) -> dict[str, Any]:
    """What is behind a cell.

    Parameters
    ----------
    config : mapping
    dataset : str
    cell : mapping
        ``method``, ``variant`` and ``word_bank`` as in the tables.
    paths : sequence of str
        Its score files.

    Returns
    -------
    dict
        ``scores``: of each score file its ``path``, rows, cost and what made it (None where an older run did not say);
        ``caches``: path → attributes of each cache that the method reads; ``provenance`` of the tables (commit, versions,
        device, time), where it was written; ``evaluation``: the configuration's.
    """
    return {
        "scores": [_of_scores(path) for path in paths],
        "caches": {path: _of_cache(path, kind) for path, kind in caches_of(config, dataset, cell)},
        "provenance": _provenance(config),
        "evaluation": {key: config[key] for key in ("split", "limit", "evaluation", "decoding")},
    }


def caches_of(config: Mapping[str, Any], dataset: str, cell: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Path and kind of the caches that a method reads; controls know the truth alone."""
    folder = f"results/{config['suite']}"
    if cell["variant"] == "control":
        return []
    found = [(f"{folder}/text.h5", "text")]
    variants = {options["label"]: name for name, options in config["variants"].items()}
    solved = suites.solved_as(config, dataset)
    # What the gate leaves, and variants that differ in decoding alone, come from the factors of another run.
    run = (cell["word_bank"], variants.get(cell["variant"], "proposed"))
    run = solved.get(run, run)
    methods = {options["label"]: name for name, options in config["methods"].items()}
    for shard in suites.shards(config, dataset):
        for kind in ("features", "proposals"):
            found.append((f"{folder}/{kind}/{dataset}/{shard}.h5", kind))
        if cell["method"] in SOLVED:
            files = receipts.read(suites.receipt(config, dataset, shard))
            found += [(str(files[run]), "factors")] if run in files else []
        elif cell["method"] in methods:
            name = methods[cell["method"]]
            found.append((f"{folder}/predictions/{dataset}/{name}/{shard}.h5", "predictions"))
    return found


def _of_cache(path: str, kind: str) -> dict[str, Any]:
    with open_cache(path, kind, verify=False) as cache:
        told = {name: value for name, value in cache.attributes.items() if name not in UNTOLD}
        return {**told, "samples": len(cache.sample_ids), "fingerprint": cache.fingerprint(*cache)}


def _of_scores(path: str) -> dict[str, Any]:
    told = score_files.about(path)
    device = (told["cost"] or {}).get("device")
    return {"path": path, "rows": told["rows"], "device": device, "made": told["made"]}


def _provenance(config: Mapping[str, Any]) -> dict[str, Any] | None:
    path = Path("results", config["suite"], "provenance.json")
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    names = ("commit", "written", "python", "platform", "device", "packages", "config_digest", "digests")
    return {name: record.get(name) for name in names}
