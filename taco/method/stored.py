"""One sample's factors from the caches of co-NMF, as scoring takes them."""

from typing import NamedTuple

import torch

from taco.cache.hdf5 import Cache
from taco.method.evaluate import Run
from taco.method.naming import FACTOR


class StoredRun(NamedTuple):
    """A run's open factor file, the variant's name in score rows, and what it names (`taco.method.naming`)."""

    label: str
    bank: str
    cache: Cache
    classes: str = FACTOR

    def read(self, sample: str, device: torch.device) -> Run:
        """One sample's factors, all seeds."""
        index = self.cache.position(sample)
        names = ("image_activations", "image_factors", "k_star")
        activations, factors, k_star = (
            torch.from_numpy(self.cache[name][index]).to(device) for name in names
        )
        seeds = self.cache.attributes["seeds"]
        return Run(self.label, self.bank, seeds, activations.float(), factors, k_star.long(), self.classes)
