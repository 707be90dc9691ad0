"""Precision of matrix products, scoped: whatever the process had set comes back afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """Make all float32 products of the process ``precision``: ``ieee``, or ``tf32`` (CUDA); sum those of halves in float32."""
    cuda = torch.backends.cuda.matmul
    backends = (cuda, torch.backends.mkldnn.matmul)
    before = [backend.fp32_precision for backend in backends]
    halves = (
        cuda.allow_fp16_reduced_precision_reduction,
        cuda.allow_fp16_reduced_precision_reduction_split_k,
    )
    try:
        for backend in backends:
            backend.fp32_precision = precision
        cuda.allow_fp16_reduced_precision_reduction = False
        yield
    finally:
        for backend, value in zip(backends, before):
            backend.fp32_precision = value
        cuda.allow_fp16_reduced_precision_reduction = halves
