"""Word banks and everything textual that later stages need: labels, anchors, the models' constants.

One small file (text.h5) per suite, so that solving and scoring load no model library. Its groups:

====================  =================================================================================
``<dataset>/<bank>``  ``labels`` (strings [J]), ``clip`` [J, C_I], ``clap`` [J, D]: a word bank on a dataset
``<dataset>/classes`` the same for the dataset's own list of classes, which names regions
``constants``         CLAP's projection and scale, CLIP's and FC-CLIP's scales, FC-CLIP's void embedding; audio tokens
                      of silence and noises (`taco.method.stimuli`)
====================  =================================================================================
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from taco.cache.hdf5 import CacheWriter, open_cache
from taco.data.datasets import class_names
from taco.runtime import is_text

SAMPLE = "-"
"""A text file has one record; this is its sample id."""
CLASSES = "classes"
BACKGROUND = "background"
"""A class of AVSS; it is no thing that sounds beside another."""


class BankError(ValueError):
    """A word bank cannot be read, or is left without labels."""


@dataclass(frozen=True)
class Labels:
    """A list of labels in both spaces.

    Attributes
    ----------
    names : list of str
    clip : float32 [J, C_I]
        CLIP text embeddings, not normalised.
    clap : float32 [J, D]
        CLAP text embeddings after the projection, not normalised.
    """

    names: list[str]
    clip: np.ndarray
    clap: np.ndarray


def bank_labels(source: str, classes: Sequence[str], drop: Iterable[str] = ()) -> list[str]:
    """Return the labels of a word bank on a dataset.

    Parameters
    ----------
    source : str
        ``classes``, ``pairs`` (the classes, and any two of them joined by "and"), or a CSV file with a column
        ``display_name`` (AudioSet's list of classes).
    classes : sequence of str
        The dataset's own class names.
    drop : iterable of str
        Labels to leave out; each must be there.

    Raises
    ------
    BankError
    """
    if source == "classes":
        labels = list(classes)
    elif source == "pairs":
        named = [name for name in classes if name != BACKGROUND]
        labels = [*named, *(f"{a} and {b}" for a, b in combinations(named, 2))]
    else:
        labels = _read_csv(Path(source))
    unknown = sorted(set(drop) - set(labels))
    if unknown:
        raise BankError(
            f"{source}: expected to drop the labels {unknown}, found none such. Correct `drop_labels`."
        )
    labels = [label for label in labels if label not in set(drop)]
    if broken := [label for label in labels if not is_text(label)]:
        raise BankError(
            f"{source}: expected labels of whole signs, found {broken[0]!r}. Correct it at its source."
        )
    if not labels or len(set(labels)) != len(labels):
        raise BankError(
            f"{source}: expected labels, each once; found {len(labels)}, {len(set(labels))} different."
        )
    return labels


def words(
    datasets: Iterable[Mapping[str, Any]], banks: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[str]]:
    """Labels by group (dataset/bank, and dataset/classes) over all datasets, from their files.

    Raises
    ------
    BankError
    """
    groups = {}
    for dataset in datasets:
        classes = class_names(dataset)
        groups[f"{dataset['name']}/{CLASSES}"] = classes
        for bank, options in banks.items():
            dropped = dataset["drop_labels"].get(bank, [])
            groups[f"{dataset['name']}/{bank}"] = bank_labels(options["source"], classes, dropped)
    return groups


def _read_csv(path: Path) -> list[str]:
    expected = "a CSV file with a column display_name"
    if not path.is_file():
        raise BankError(
            f"{path}: expected {expected}, found no such file. Stage it, or correct `banks` in the config."
        )
    with open(path, newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if "display_name" not in (reader.fieldnames or []):
            raise BankError(
                f"{path}: expected {expected}, found the columns {reader.fieldnames}. Fetch it again."
            )
        return [row["display_name"] for row in reader]


def write(
    path: str | Path,
    banks: Mapping[str, Sequence[str]],
    prompts: Mapping[str, str],
    clip: Any,
    clap: Any,
    constants: Mapping[str, Any],
    attributes: Mapping[str, Any],
) -> None:
    """Embed labels and write the file.

    Parameters
    ----------
    path : str or Path
    banks : mapping
        Group (``s4/general``) to labels.
    prompts : mapping
        Templates ``image`` and ``audio`` with ``{label}``.
    clip, clap : FrozenCLIP, FrozenCLAP
        Only their ``encode_text(list of str) -> Tensor`` is used, once per different label.
    constants : mapping
        Arrays and scalars by name.
    attributes : mapping
        Digests and preprocessing, as `taco.cache.hdf5` stores them.
    """
    labels = list(dict.fromkeys(label for names in banks.values() for label in names))
    row = {label: index for index, label in enumerate(labels)}
    encoded = {
        "clip": clip.encode_text([prompts["image"].format(label=label) for label in labels]).cpu().numpy(),
        "clap": clap.encode_text([prompts["audio"].format(label=label) for label in labels]).cpu().numpy(),
    }
    with CacheWriter(path, "text", [SAMPLE], attributes) as writer:
        for group, names in banks.items():
            writer.put(f"{group}/labels", 0, np.array(names))
            for space, table in encoded.items():
                writer.put(f"{group}/{space}", 0, table[[row[name] for name in names]].astype(np.float32))
        for name, value in constants.items():
            writer.put(f"constants/{name}", 0, np.asarray(value, dtype=np.float32))


class Text:
    """The contents of text.h5, in memory.

    Attributes
    ----------
    attributes : dict
    constants : dict of str to float32 array
    """

    def __init__(self, path: str | Path, expect: Mapping[str, Any] | None = None):
        with open_cache(path, "text", expect) as cache:
            self.attributes = cache.attributes
            self._groups = {}
            self.constants = {}
            for name in cache:
                group, leaf = name.rsplit("/", 1)
                if group == "constants":
                    self.constants[leaf] = np.asarray(cache[name][0])
                elif leaf == "labels":
                    names = cache.strings(name)
                    self._groups[group] = Labels(names, cache[f"{group}/clip"][0], cache[f"{group}/clap"][0])

    def labels(self, dataset: str, bank: str) -> Labels:
        """Labels of a bank on a dataset; bank ``classes`` is the dataset's own list."""
        return self._groups[f"{dataset}/{bank}"]


def model_constants(clip: Any, clap: Any, fcclip: Any) -> dict[str, Any]:
    """Collect what solving and decoding need of the models beside their outputs.

    Returns
    -------
    dict
        ``linear1`` [D, C_A], ``linear2`` [D, D], ``norm_weight``, ``norm_bias`` [D], ``norm_eps`` of CLAP's
        projection; ``clap_logit_scale``, ``clip_logit_scale``, ``fcclip_logit_scale`` as factors (already
        exponentiated); ``void_embedding`` [C_I].
    """
    projection = clap.projection
    tensors = {
        "linear1": projection.linear1.weight,
        "linear2": projection.linear2.weight,
        "norm_weight": projection.layer_norm.weight,
        "norm_bias": projection.layer_norm.bias,
        **fcclip.constants(),
    }
    return {
        **{name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()},
        "norm_eps": projection.layer_norm.eps,
        "clap_logit_scale": clap.logit_scale,
        "clip_logit_scale": clip.logit_scale,
    }
