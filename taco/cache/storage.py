"""Numbers of a cache in fewer bits than they are used in."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Logarithmic:
    """Half-precision numbers as 256 steps from -bound to bound, even in sign(x) · log(1 + abs(x) / knee).

    So steps are fine around 0 and grow with the number. What lies beyond the bound is clipped, signs are kept.

    Attributes
    ----------
    bound, knee : float
    """

    bound: float
    knee: float

    @cached_property
    def steps(self) -> np.ndarray:
        """Values of the 256 steps: float16, ascending."""
        even = np.linspace(-1, 1, 256)
        return (np.sign(even) * np.expm1(np.abs(even) * self._range) * self.knee).astype(np.float16)

    def encode(self, array: np.ndarray) -> np.ndarray:
        """Round float16 numbers to steps: uint8, of the same shape."""
        if array.dtype != np.float16:
            raise ValueError(f"expected float16 to encode, found {array.dtype}")
        return self._table[array.view(np.uint16)]

    def decode(self, array: np.ndarray) -> np.ndarray:
        """Values of steps: float16, of the same shape; off by half a step within the bound."""
        steps = np.ascontiguousarray(array).reshape(-1)
        values = np.empty(steps.size, np.float16)
        paired = steps.size // 2 * 2
        np.take(self._pairs, steps[:paired].view(np.uint16), out=values[:paired].view(np.uint32), mode="clip")
        values[paired:] = self.steps[steps[paired:]]
        return values.reshape(array.shape)

    @cached_property
    def _pairs(self) -> np.ndarray:
        """Two steps' values for every two bytes, as uint32: half as many look-ups."""
        both = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
        return self.steps[both].view(np.uint32).reshape(-1)

    @cached_property
    def _table(self) -> np.ndarray:
        """The step of every float16, by its bits: looking up is faster than a logarithm."""
        values = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
        values = np.clip(np.nan_to_num(values), -self.bound, self.bound)
        even = np.sign(values) * np.log1p(np.abs(values) / self.knee) / self._range
        return np.rint((even + 1) * 127.5).astype(np.uint8)

    @property
    def _range(self) -> float:
        return float(np.log1p(self.bound / self.knee))


# Of mask logits, by the configuration's `features.proposals`. Even steps between ±8 were tried and rejected: masks are
# upsampled as logits, so clipping softens steep edges, and where no mask lies, which of many tiny values is greatest
# becomes chance. `taco.bench.caches` has the numbers.
STORAGES: dict[str, Logarithmic | None] = {"float16": None, "uint8": Logarithmic(bound=32.0, knee=2.0)}
