"""How much disk a suite's features and proposals will take, from its configuration alone; nothing is loaded."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taco import suites
from taco.suites import sizes

# What compression leaves of each part, measured on full-size samples (`taco bench caches`) and rounded up.
KEPT = {"float16": 0.65, "uint8": 0.55, "none": 0.0, "embeddings": 0.9, "tokens": 0.6}
FRAMES_OF_A_CLIP = {"s4": 5, "ms3": 5, "avss": 10, "ade": 1}


def estimate(
    config: Mapping[str, Any], proposals: str | None = None, counts: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Bytes on disk of each dataset's features and proposals together.

    Parameters
    ----------
    config : mapping
    proposals : {"float16", "uint8", "none"}, optional
        In place of the configuration's ``features.proposals``.
    counts : mapping, optional
        Samples by dataset, in place of those that the configuration tells.

    Returns
    -------
    dict
        By dataset, of those that some task uses and whose number of samples the configuration knows.
    """
    kind = proposals or config["features"]["proposals"]
    if counts is None:
        counts = {name: sample_count(config, name) for name in suites.used_datasets(config)}
    raw = sample_bytes(config)
    parts = [kind, "tokens"] + (["embeddings"] if kind != "none" else [])
    one = sum(raw[part] * KEPT[part] for part in parts)
    return {name: round(count * one) for name, count in counts.items() if count is not None}


def sample_count(config: Mapping[str, Any], name: str) -> int | None:
    """Number of a dataset's samples as the configuration tells it; None where it does not."""
    options = config["datasets"][name]
    frames = FRAMES_OF_A_CLIP.get(options["reader"])
    if options["generated"]:
        count = config["world"]["clips"][name][config["split"]] * frames
    else:
        count = options.get("expected", {}).get("samples")
    if count is None or config["limit"] is None or frames is None:
        return count
    return min(count, config["limit"] * frames)


def sample_bytes(config: Mapping[str, Any]) -> dict[str, int]:
    """Raw bytes of one sample: its masks as ``float16``, ``uint8`` or ``none``, their ``embeddings``, and its ``tokens``.

    The tokens' grid is the padded image's, which is the larger of the two preparations.
    """
    models = config["models"]
    clip, clap = models["clip"], sizes.read(models["clap"]["architecture"])
    queries = sizes.read(models["fcclip"]["architecture"])["num_queries"]
    width = sizes.clip(clip["architecture"])["embed_dim"]
    channels = clap["audio"]["embed_dim"] << (len(clap["audio"]["depths"]) - 1)
    pixels = queries * (sizes.side(clip) // sizes.PATCH) ** 2
    tokens = sizes.image_tokens(clip, "fcclip") * width + sizes.audio_tokens(models["clap"]) * channels
    return {
        "float16": 2 * pixels,
        "uint8": pixels,
        "none": 0,
        "embeddings": 4 * 2 * queries * width,
        "tokens": 2 * tokens + 4 * clap["projection"],
    }


def factor_bytes(config: Mapping[str, Any], name: str) -> int:
    """Raw bytes of one sample's factors on a dataset, all runs and seeds: an upper bound, as they are compressed.

    Of K factors of a seed: activations of all tokens as halves, factors and cross-entropies as single precision.
    """
    models = config["models"]
    clip, clap = models["clip"], sizes.read(models["clap"]["architecture"])
    width = sizes.clip(clip["architecture"])["embed_dim"]
    channels = clap["audio"]["embed_dim"] << (len(clap["audio"]["depths"]) - 1)
    preparation = config["datasets"][name]["image_tokens"]
    tokens = sizes.image_tokens(clip, preparation) + sizes.audio_tokens(models["clap"])
    total = 0
    for run in suites.solved_runs(config, name):
        traced = len(range(0, run["solver"]["steps"], run["solver"]["trace_every"]))
        total += run["solver"]["n_components"] * (2 * tokens + 4 * (width + channels + 1)) + 4 * traced
    return total * len(config["seeds"])


def present(config: Mapping[str, Any]) -> int:
    """Bytes of the features and proposals that are there already."""
    folders = [Path("results", config["suite"], kind) for kind in ("features", "proposals")]
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*.h5"))


def free(config: Mapping[str, Any]) -> int:
    """Bytes free where the results lie or will lie."""
    folder = Path("results", config["suite"]).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
