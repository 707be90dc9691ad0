"""Which words people's own pairs are compared to, and how close a factor comes to each."""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import torch
from torch import Tensor
from torch.nn import functional as F

from taco import runtime, suites
from taco.cache.hdf5 import CacheError, CacheWriter
from taco.method import text
from taco.method.features import Models
from taco.method.text import Labels, Text
from taco.miniature import vocabulary
from taco.segmenting.answer import Word

SHOWN = 5
log = logging.getLogger("taco")


class SegmentError(ValueError):
    """A question that cannot be answered as it was asked; says what was expected, what was found and what to do."""


def bank(config: Mapping[str, Any], words: str | Path | Sequence[str] | None) -> list[str]:
    """Words to compare with.

    Parameters
    ----------
    config : mapping
    words : list of str, path or None
        A list; a text file with a word or phrase on each line, or a CSV file with a column ``display_name``; None takes
        the suite's general bank.

    Raises
    ------
    SegmentError
        Fewer than two different words.
    taco.method.text.BankError
        A file that is no word bank.
    """
    if words is None:
        source = suites.bank(config, "general")
        found = vocabulary.general_bank() if source["generated"] else text.bank_labels(source["source"], ())
    elif isinstance(words, str | Path):
        found = _read(Path(words))
    else:
        found = words
    found = list(dict.fromkeys(word.strip() for word in found if word.strip()))
    if len(found) < 2:
        raise SegmentError(
            f"words: expected at least two different words to choose between, found {found}. Give more."
        )
    return found


def _read(path: Path) -> list[str]:
    if path.suffix.lower() == ".csv":
        return text.bank_labels(str(path), ())
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SegmentError(
            f"{path}: expected a text file with a word on each line, found {error}. Correct the path."
        ) from None


def embed(
    names: Sequence[str], models: Models, prompts: Mapping[str, str], digests: Mapping[str, str]
) -> Labels:
    """Embed words in both spaces, as the workflow's text.h5 holds them; once, as 527 take minutes of a CPU at full size.

    They are kept in the folder that the environment variable ``TACO_CACHE`` names, else in the user's cache folder
    (``taco-bench``), by a digest of words, prompts and models. Where it cannot be written they are embedded each time.

    Parameters
    ----------
    names : sequence of str
    models : Models
    prompts : mapping
        Templates ``image`` and ``audio`` with ``{label}``.
    digests : mapping
        Of the models, from `taco.method.features.model_digests`.
    """
    told = runtime.digest([list(names), dict(prompts), dict(digests)])
    folder = os.environ.get("TACO_CACHE") or pooch.os_cache("taco-bench")
    path = Path(folder, "words", f"{told[:32]}.h5")
    with suppress(CacheError):
        return Text(path, {"words": told}).labels("own", "words")
    log.info("embedding %d words", len(names))
    clip, clap = (
        model.encode_text([prompts[side].format(label=name) for name in names]).float().cpu().numpy()
        for side, model in (("image", models.clip), ("audio", models.clap))
    )
    try:
        with CacheWriter(path, "text", [text.SAMPLE], {"words": told}) as writer:
            for name, table in (("labels", np.array(names)), ("clip", clip), ("clap", clap)):
                writer.put(f"own/words/{name}", 0, table)
    except (OSError, CacheError, runtime.OutputError) as error:
        log.warning("the embedded words cannot be kept, so each start embeds them anew: %s", error)
    return Labels(list(names), clip, clap)


def components(tokens: Tensor, activations: Tensor) -> Tensor:
    """Mean of the tokens [N, C] weighted by each factor's activations [N, K]: its semantic component, [K, C]."""
    return activations.T @ tokens.float() / len(tokens)


class Lexicon:
    """Cosines of components with all words.

    Parameters
    ----------
    labels : Labels
    projection : torch.nn.Module
        CLAP's, from audio components to the space of its texts.
    device : torch.device
    """

    def __init__(self, labels: Labels, projection: torch.nn.Module, device: torch.device) -> None:
        self.labels, self.projection = labels, projection
        self.clip, self.clap = (
            F.normalize(torch.from_numpy(table).to(device), dim=-1) for table in (labels.clip, labels.clap)
        )

    @torch.no_grad()
    def similarities(self, image: Tensor, audio: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Cosines [K, J] in both spaces of image components [K, C_I] and audio components [K, C_A]."""
        seen = F.normalize(image.to(self.clip.device), dim=-1) @ self.clip.T
        heard = F.normalize(self.projection(audio.to(self.clap.device)), dim=-1) @ self.clap.T
        return seen.cpu().numpy(), heard.cpu().numpy()

    def closest(self, ranked: np.ndarray, seen: np.ndarray, heard: np.ndarray) -> tuple[Word, ...]:
        """The words of the greatest values of ``ranked`` [J], with their cosines in both spaces [J]."""
        order = np.argsort(-ranked, kind="stable")[:SHOWN]
        return tuple(Word(self.labels.names[j], float(seen[j]), float(heard[j])) for j in order)
