"""One sample's things from the caches of earlier stages, as scoring takes them."""

from typing import NamedTuple

import torch

from taco.cache.hdf5 import Cache
from taco.method.evaluate import Run
from taco.models import fcclip


class StoredRun(NamedTuple):
    """A run's open factor file, and the variant's name in score rows."""

    label: str
    bank: str
    cache: Cache

    def read(self, sample: str, device: torch.device) -> Run:
        """One sample's factors, all seeds."""
        index = self.cache.position(sample)
        names = ("image_activations", "image_factors", "k_star")
        activations, factors, k_star = (
            torch.from_numpy(self.cache[name][index]).to(device) for name in names
        )
        seeds = self.cache.attributes["seeds"]
        return Run(self.label, self.bank, seeds, activations.float(), factors, k_star.long())


def read_proposals(cache: Cache, index: int, device: torch.device) -> fcclip.Proposals:
    """One image's proposals from a cache, as a batch of one."""
    names = ("masks", "class_embeddings", "pooled")
    tensors = (torch.from_numpy(cache[name][index])[None].to(device).float() for name in names)
    return fcclip.Proposals(*tensors, [tuple(cache["geometry"][index].tolist())])
