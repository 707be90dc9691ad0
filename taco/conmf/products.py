"""Precision of float32 matrix products, scoped: whatever the process had set comes back afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
