"""The passes of a step over W, U, V and P.

A pair is a (sample, seed): W, U and their gradient are [pairs, K, N], V, P and their likes [pairs, K, C], Gram matrices
[pairs, K, K]; all contiguous.
"""

import torch
from torch import Tensor


def residual(
    p: Tensor, v: Tensor, uu: Tensor, vv: Tensor, norm_x: Tensor, scratch: Tensor, out: Tensor
) -> None:
    """‖X - UV‖² [pairs] = ‖X‖² - 2 ⟨P, V⟩ + ⟨UᵀU, VVᵀ⟩; ``scratch`` is like V."""
    torch.sub(norm_x, torch.mul(p, v, out=scratch).sum((1, 2)), alpha=2, out=out)
    out.add_((uu * vv).sum((1, 2)))


def move_weights(w: Tensor, u: Tensor, gradient: Tensor, gram: Tensor) -> None:
    """W -= ∂U ⊙ U ⊙ (1 - U) and U = sigmoid(W), where ∂U = ``gram`` U - ``gradient``; ``gradient`` is overwritten."""
    torch.baddbmm(gradient, gram, u, beta=-1, out=gradient)
    torch.ops.aten.sigmoid_backward.grad_input(gradient, u, grad_input=gradient)
    w.sub_(gradient)
    torch.sigmoid(w, out=u)


def move_factors(v: Tensor, p: Tensor, gram: Tensor, a: Tensor, moved: Tensor, project: bool) -> None:
    """``moved`` = V - ``gram`` V + a P, with a [pairs]; and V = max(``moved``, 0) where ``project``."""
    stay = gram.neg()
    stay.diagonal(dim1=1, dim2=2).add_(1)
    torch.bmm(stay, v, out=moved)
    moved.addcmul_(p, a[:, None, None])
    if project:
        torch.clamp(moved, min=0, out=v)
