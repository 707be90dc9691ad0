"""Precision of float32 matrix products, scoped: whatever the process had set comes back afterwards."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

# TF32 keeps 10 of the 23 bits of a float32's fraction.
DROPPED_BITS = 13


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """Make all float32 products of the process ``precision``: ``ieee``, or ``tf32`` (CUDA)."""
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = precision
        yield
    finally:
        for backend, value in zip(backends, before):
            backend.fp32_precision = value


class Products:
    """The products of the descriptors, seven tenths of a step's arithmetic, in the precision that the settings name.

    Parameters
    ----------
    kind : {"float32", "tf32"}
        With ``tf32`` a GPU's tensor cores read 10 bits of the fraction of a float32 and sum in float32. A CPU has no such
        products: there the other bits are cut off first, the least that a tensor core may do, so that what is lost can
        be measured. Products in float64 are never touched.
    """

    def __init__(self, kind: str) -> None:
        self.tf32 = kind == "tf32"

    def mm(self, a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
        """A [M, L] times B [L, N]."""
        with self._scope(a):
            return torch.mm(self._cut(a), self._cut(b), out=out)

    def bmm(self, a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
        """A [S, M, L] times B [S, L, N]."""
        with self._scope(a):
            return torch.bmm(self._cut(a), self._cut(b), out=out)

    def _scope(self, like: Tensor) -> AbstractContextManager:
        return float32_products("tf32") if self.tf32 and like.is_cuda else nullcontext()

    def _cut(self, x: Tensor) -> Tensor:
        if not self.tf32 or x.is_cuda or x.dtype != torch.float32:
            return x
        return (x.view(torch.int32) & -(1 << DROPPED_BITS)).view(torch.float32)
