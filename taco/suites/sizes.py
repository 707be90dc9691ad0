"""Sizes of the frozen models as their descriptions tell them: numbers of tokens, the longest sound. Nothing is loaded."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PADDING_MULTIPLE = 32
PATCH = 4
"""A ConvNeXt's and an HTS-AT's first stage, and the masks, lie at a quarter of the input's resolution."""


def side(model: Mapping[str, Any]) -> int:
    """Side of the padded image in pixels, from the settings of CLIP."""
    return -(-model["image_size"] // PADDING_MULTIPLE) * PADDING_MULTIPLE


def image_tokens(model: Mapping[str, Any], preparation: str) -> int:
    """Number of CLIP's tokens of an image, prepared as for ``fcclip`` (padded) or ``openclip`` (not)."""
    stride = clip(model["architecture"]).get("backbone", {}).get("output_stride", 32)
    return ((side(model) if preparation == "fcclip" else model["image_size"]) // stride) ** 2


def audio_tokens(model: Mapping[str, Any]) -> int:
    """Number of CLAP's tokens of a sound."""
    audio = read(model["architecture"])["audio"]
    return (audio["spec_size"] // (PATCH << (len(audio["depths"]) - 1))) ** 2


def windows(model: Mapping[str, Any]) -> tuple[float, float]:
    """Shortest and longest sound in seconds that CLAP hears whole.

    HTS-AT lays the spectrogram's T frames into a square, of which there are ``spec_size`` · ``spec_size // mel_bins``; of
    a longer sound the library takes crops. A sound of half a Fourier window cannot be padded by reflection.
    """
    sizes = read(model["architecture"])
    spectrogram, rate = sizes["spectrogram"], model["sample_rate"]
    side = sizes["audio"]["spec_size"]
    frames = side * (side // spectrogram["mel_bins"])
    shortest = spectrogram["window_size"] // 2 + 1
    return shortest / rate, (frames * spectrogram["hop_size"] - 1) / rate


def clip(architecture: str) -> dict[str, Any]:
    """Sizes of a CLIP: those of a JSON file, or of the file that open_clip (not imported here) has for a name."""
    if architecture.endswith(".json"):
        return read(architecture)
    library = importlib.util.find_spec("open_clip").submodule_search_locations[0]
    return read(Path(library, "model_configs", f"{architecture}.json"))


def read(path: str | Path) -> dict[str, Any]:
    """A model's description."""
    return json.loads(Path(path).read_text(encoding="utf-8"))
