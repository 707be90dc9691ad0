"""The functions of :mod:`.elementwise` as Triton kernels: each array is read and written once a pass.

A program owns its columns of one pair, for all K rows: what it overwrites, no other program reads.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .settings import CoNMFError

COLUMNS = 128
PRODUCTS = 1024


def check(device: torch.device) -> None:
    """Refuse a device on which Triton cannot run; the CPU has its interpreter (``TRITON_INTERPRET=1``), for tests."""
    if device.type != "cuda" and not triton.knobs.runtime.interpret:
        raise CoNMFError(f"fused: expected a CUDA device, found {device}; set fused to false there")


def residual(
    p: Tensor, v: Tensor, uu: Tensor, vv: Tensor, norm_x: Tensor, scratch: Tensor, out: Tensor
) -> None:
    """See :func:`.elementwise.residual`."""
    pairs, k, c = v.shape
    _residual[(pairs,)](p, v, uu, vv, norm_x, out, k * c, k * k, triton.next_power_of_2(k * k), PRODUCTS)


def move_weights(w: Tensor, u: Tensor, gradient: Tensor, gram: Tensor) -> None:
    """See :func:`.elementwise.move_weights`."""
    pairs, k, n = w.shape
    _move_weights[(pairs, triton.cdiv(n, COLUMNS))](w, u, gradient, gram, n, k, COLUMNS)


def move_factors(v: Tensor, p: Tensor, gram: Tensor, a: Tensor, moved: Tensor, project: bool) -> None:
    """See :func:`.elementwise.move_factors`."""
    pairs, k, c = v.shape
    _move_factors[(pairs, triton.cdiv(c, COLUMNS))](v, p, gram, a, moved, c, k, project, COLUMNS)


@triton.jit
def _residual(p, v, uu, vv, norm_x, out, size, cells, CELLS: tl.constexpr, BLOCK: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    total = tl.zeros([BLOCK], dtype=v.dtype.element_ty)
    for start in range(0, size, BLOCK):
        at = start + tl.arange(0, BLOCK)
        left = tl.load(p + pair * size + at, mask=at < size, other=0.0)
        total += left * tl.load(v + pair * size + at, mask=at < size, other=0.0)
    at = tl.arange(0, CELLS)
    grams = tl.load(uu + pair * cells + at, mask=at < cells, other=0.0)
    grams *= tl.load(vv + pair * cells + at, mask=at < cells, other=0.0)
    tl.store(out + pair, tl.load(norm_x + pair) - 2 * tl.sum(total) + tl.sum(grams))


@triton.jit
def _move_weights(w, u, gradient, gram, n, K: tl.constexpr, BLOCK: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < n
    first = pair * K * n + column
    for i in range(K):
        at = gradient + first + i * n
        total = -tl.load(at, mask=inside)
        for j in range(K):
            total += tl.load(gram + (pair * K + i) * K + j) * tl.load(u + first + j * n, mask=inside)
        tl.store(at, total, mask=inside)
    tl.debug_barrier()  # no thread overwrites U while another one reads it
    for i in range(K):
        at = first + i * n
        active = tl.load(u + at, mask=inside)
        moved = tl.load(w + at, mask=inside)
        moved -= tl.load(gradient + at, mask=inside) * active * (1 - active)
        tl.store(w + at, moved, mask=inside)
        tl.store(u + at, tl.sigmoid(moved), mask=inside)


@triton.jit
def _move_factors(v, p, gram, a, moved, c, K: tl.constexpr, PROJECT: tl.constexpr, BLOCK: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < c
    first = pair * K * c + column
    for i in range(K):
        at = first + i * c
        total = tl.load(v + at, mask=inside) + tl.load(a + pair) * tl.load(p + at, mask=inside)
        for j in range(K):
            total -= tl.load(gram + (pair * K + i) * K + j) * tl.load(v + first + j * c, mask=inside)
        tl.store(moved + at, total, mask=inside)
    if PROJECT:
        tl.debug_barrier()
        for i in range(K):
            at = first + i * c
            value = tl.load(moved + at, mask=inside)
            tl.store(
                v + at, tl.where(value < 0, 0.0, value), mask=inside
            )  # what is not a number stays visible
