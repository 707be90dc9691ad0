"""What the kernels read and write, laid out for them: constants, and one modality's tokens and unknowns, as split halves."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from torch import Tensor
from torch.nn.functional import pad

from .kernels import UNIT as UNIT_CONSTANT
from .settings import Anchors
from .step import Modality

TILE = 64  # tokens are padded to a multiple of it, and widths must be one
LOGITS = 16  # labels are padded to a multiple of it
UNIT = UNIT_CONSTANT.value


def product(rows: Tensor, constant: Tensor, out: Tensor) -> None:
    """``out`` [M, N] = rows [M, L] constantᵀ [N, L] of halves, summed in float32."""
    if rows.is_cuda:
        torch.mm(rows, constant.t(), out_dtype=torch.float32, out=out)
    else:
        torch.mm(rows.float(), constant.float().t(), out=out)


class Constants(NamedTuple):
    """Anchors and projection as terms (hi, lo, hi), the anchors' rows of length UNIT; shared by all batches.

    Attributes
    ----------
    image, audio : half Tensor [J', 3 C_I] and [J', 3 D]
        J' is J rounded up to a multiple of 16.
    image_back, audio_back : half Tensor [C_I, 3 J'] and [D, 3 J']
    linear2, linear2_back : half Tensor [D, 3 D]
        Over ``linear2_scale``, a power of two.
    linear2_scale : Tensor []
    anchors : Anchors
        As prepared by the solver.
    """

    image: Tensor
    audio: Tensor
    image_back: Tensor
    audio_back: Tensor
    linear2: Tensor
    linear2_back: Tensor
    linear2_scale: Tensor
    anchors: Anchors


def constants_of(anchors: Anchors) -> Constants:
    """Constants of prepared anchors (image rows of length 1, audio rows of length τ)."""
    missing = -len(anchors.image) % LOGITS
    image = pad(anchors.image * UNIT, (0, 0, 0, missing))
    audio = pad(anchors.audio * (UNIT / anchors.scale), (0, 0, 0, missing))
    linear2 = anchors.projection.linear2
    lift = lift_of(linear2.abs().amax(), 16)
    return Constants(
        *(terms_of(t) for t in (image, audio, image.t(), audio.t())),
        terms_of(linear2 * lift),
        terms_of(linear2.t() * lift),
        1 / lift,
        anchors,
    )


class Side:
    """Tokens, unknowns and buffers of one modality, as :mod:`.kernels` names and lays them out."""

    def __init__(self, plain: Modality) -> None:
        s, r, k, n, c = plain.shape
        self.plain = plain
        self.rows, self.tokens, self.c = r * k, -(-n // TILE) * TILE, c
        self.columns = max(16, triton.next_power_of_2(r * k))
        self.block = 128 if c % 128 == 0 else TILE

        def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return plain.v.new_empty(*shape, dtype=dtype)

        self.x = pad(plain.x.half(), (0, 0, 0, self.tokens - n)).contiguous()
        self.w = empty(s, self.tokens, self.columns)
        self.u_hi, self.u_lo = (empty(s, self.tokens, self.columns, dtype=torch.half) for _ in range(2))
        self.v, self.p = empty(s * r * k, c), empty(s * r * k, c)
        self.m_hi, self.m_lo = (empty(s * r * k, c, dtype=torch.half) for _ in range(2))
        self.m_scale, self.square = empty(s * r), empty(s * r)
        self.along = empty(s, c // self.block, self.columns)
        self.uu, self.vv = empty(s * r, k, k), empty(s * r, k, k)
        self.gram = empty(s, self.columns, self.columns).zero_()  # between pairs it stays 0
        self.gradient = empty(s * r, c)
        self.temporal, self.temporal_value = empty(s * r, c), empty(s * r).zero_()

    def sizes(self, k: int) -> dict[str, int]:
        """Constants that most kernels want."""
        return {"C": self.c, "ROWS": self.rows, "K": k, "L": self.columns}

    def load(self) -> None:
        """Take W and V of the plain step."""
        s, _, _, n, _ = self.plain.shape
        self.w.fill_(float("-inf"))
        self.w[:, :n, : self.rows] = self.plain.w.view(s, self.rows, n).transpose(1, 2)
        for half, value in zip((self.u_hi, self.u_lo), split(torch.sigmoid(self.w))):
            half.copy_(value)
        self.v.copy_(self.plain.v.view_as(self.v))

    def store(self) -> None:
        """Give W and V, and U with them, to the plain step."""
        s, _, _, n, _ = self.plain.shape
        self.plain.w.view(s, self.rows, n).copy_(self.w[:, :n, : self.rows].transpose(1, 2))
        torch.sigmoid(self.plain.w, out=self.plain.u)
        self.plain.v.copy_(self.v.view_as(self.plain.v))


def lift_of(largest: Tensor, target: float) -> Tensor:
    """The power of two that brings ``largest`` to between half of ``target`` and ``target``; 1 for 0."""
    there = largest > 0
    return torch.where(
        there, torch.exp2(torch.floor(torch.log2(target / torch.where(there, largest, target)))), 1.0
    )


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Halves hi and lo with x = hi + lo."""
    hi = x.half()
    return hi, (x - hi.float()).half()


def terms_of(constant: Tensor) -> Tensor:
    """[N, L] as halves [N, 3 L]: hi, lo, hi, against rows of hi, hi, lo."""
    hi, lo = split(constant)
    return torch.cat([hi, lo, hi], 1)
