"""TF32 on a machine without tensor cores: what products and convolutions read is rounded as there, sums stay float32."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

DROPPED_BITS = 13
OPERATIONS = (
    torch.ops.aten.mm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.baddbmm.default,
    torch.ops.aten.convolution.default,
)
ADDED = (torch.ops.aten.addmm.default, torch.ops.aten.baddbmm.default)  # whose first operand is only added
FACTORS = 2  # a product has two; a convolution's bias is added too


class TensorCore(TorchDispatchMode):
    """Rounds the factors of every float32 product within it to 10 bits of fraction, to the nearest."""

    def __init__(self) -> None:
        super().__init__()
        self.products = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in OPERATIONS:
            self.products += 1
            first = 1 if function in ADDED else 0
            args = tuple(
                rounded(value) if first <= place < first + FACTORS else value
                for place, value in enumerate(args)
            )
        return function(*args, **(kwargs or {}))


def rounded(x: Tensor) -> Tensor:
    """A float32 tensor with 10 bits of fraction; others as they are."""
    if x.dtype != torch.float32:
        return x
    bits = x.contiguous().view(torch.int32)
    half = 1 << (DROPPED_BITS - 1)
    return ((bits + half) & -(1 << DROPPED_BITS)).view(torch.float32)
