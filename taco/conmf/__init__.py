"""Soft co-NMF (Sec. 3). Takes image and audio tokens and anchors; gives activations, factors, k* and cross-entropies.

One batched solver for CPU and CUDA. It needs nothing but torch and nothing of this package, and works on tensors only (no files).
"""

from .settings import Anchors, CoNMFError, Initial, Projection, Result, Settings
from .solver import CoNMF

__all__ = ["Anchors", "CoNMF", "CoNMFError", "Initial", "Projection", "Result", "Settings"]
