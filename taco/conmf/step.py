"""One gradient step of soft co-NMF in closed form, on preallocated buffers.

Letters as in the paper: X tokens [S, N, C], W and U = sigmoid(W) held as [S, R, K, N] (seeds folded beside the factors,
so that X is read once for all of them), V [S, R, K, C], P = Uᵀ X. With a = ∂(norm term)/∂‖R‖² · 2 (1/‖R‖ times β, or 2 β
for the squared norm)

    ∂V = a (UᵀU V - P)                    ∂U = a U VVᵀ - X (a V - ∂penalty/∂P)ᵀ
    ∂W = ∂U ⊙ U ⊙ (1 - U)                 ‖R‖² = ‖X‖² - 2 ⟨P, V⟩ + ⟨UᵀU, VVᵀ⟩

so that X is read twice a step, nothing of X's size is formed, and the penalty rides on the same products. The step size is
folded into ``a`` and into the penalty's weight: every gradient below is already multiplied by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .penalty import Penalty, inverse
from .settings import Settings

# Below this ratio of ‖R‖² to ‖X‖² the Gram form of the residual has lost too many digits.
GUARD = {torch.float32: 1e-3, torch.float64: 1e-8}


class Modality:
    """Tokens, unknowns and buffers of one modality."""

    def __init__(self, tokens: Tensor, weights: Tensor, factors: Tensor, beta: float, squared: bool) -> None:
        s, r, k, n = weights.shape
        c = tokens.shape[2]
        self.shape = (s, r, k, n, c)
        self.x, self.w, self.v = tokens, weights, factors
        self.beta, self.squared = beta, squared
        self.u = torch.empty_like(weights)
        self.gradient = torch.empty_like(weights)
        self.p = torch.empty_like(factors)
        self.m = torch.empty_like(factors)
        self.uu = factors.new_empty(s * r, k, k)
        self.vv = factors.new_empty(s * r, k, k)
        self.square = factors.new_empty(s * r)
        self.norm_x = tokens.square().sum((1, 2)).repeat_interleave(r)  # ‖X‖² [S*R]
        self.eye = torch.eye(k, dtype=tokens.dtype, device=tokens.device)

    def forward(self) -> None:
        """Activations, P, the two Gram matrices and ‖R‖²."""
        s, r, k, n, c = self.shape
        torch.sigmoid(self.w, out=self.u)
        u, v, p = self.u.view(s * r, k, n), self.v.view(s * r, k, c), self.p.view(s * r, k, c)
        torch.bmm(self.u.view(s, r * k, n), self.x, out=self.p.view(s, r * k, c))
        torch.bmm(u, u.transpose(1, 2), out=self.uu)
        torch.bmm(v, v.transpose(1, 2), out=self.vv)
        cross = torch.mul(p, v, out=self.m.view(s * r, k, c)).sum((1, 2))
        torch.sub(self.norm_x, cross, alpha=2, out=self.square)
        self.square.add_((self.uu * self.vv).sum((1, 2)))

    def cancelled(self, guard: float) -> Tensor:
        """Which (sample, seed) pairs [S*R] need the residual itself; of X = 0 the Gram form loses nothing."""
        return (self.square <= guard * self.norm_x) & (self.norm_x > 0)

    def explicit(self, which: Tensor) -> Tensor:
        """Residuals UV - X [F, N, C] of the pairs ``which`` [F]; their norms replace the Gram form's."""
        s, r, k, n, c = self.shape
        u, v = self.u.view(s * r, k, n)[which], self.v.view(s * r, k, c)[which]
        residual = torch.baddbmm(self.x[which // r], u.transpose(1, 2), v, beta=-1)
        self.square[which] = residual.square().sum((1, 2))
        return residual

    def scale(self, rate: Tensor) -> Tensor:
        """a [S*R], times the step size; 0 where the residual is 0."""
        if self.squared:
            return (2 * self.beta * rate).expand_as(self.square)
        inverse_norm = self.square.clamp(min=0).rsqrt_().nan_to_num_(nan=float("nan"), posinf=0.0)
        return inverse_norm.mul_(self.beta * rate)

    def backward(
        self,
        rate: Tensor,
        through_p: tuple[Tensor | None, Tensor] | None,
        through_v: list[tuple[Tensor | None, Tensor]],
        residual: tuple[Tensor, Tensor] | None,
    ) -> None:
        """Update W and V; V's projection on the non-negative numbers included.

        Parameters
        ----------
        rate : Tensor []
            Step size.
        through_p, through_v : (rows, gradient)
            Penalty's gradient [M, C] for rows [M] of P or V in the view [S*R*K, C]; rows ``None`` are all of them.
        residual : (which [F], UV - X [F, N, C]) or None
            Pairs whose own gradient must come from the residual itself.
        """
        s, r, k, n, c = self.shape
        a = self.scale(rate)
        gram = a
        if residual is not None:
            gram = a.clone()
            gram[residual[0]] = 0
        per_pair = gram[:, None, None]
        u, g = self.u.view(s * r, k, n), self.gradient.view(s * r, k, n)
        v, m, p = (t.view(s * r, k, c) for t in (self.v, self.m, self.p))

        torch.mul(v, per_pair, out=m)
        if through_p is not None:
            _add_rows(self.m.view(s * r * k, c), *through_p, sign=-1)
        torch.bmm(self.m.view(s, r * k, c), self.x.transpose(1, 2), out=self.gradient.view(s, r * k, n))
        torch.baddbmm(g, self.vv.mul_(per_pair), u, beta=-1, out=g)  # before V changes

        torch.bmm(torch.sub(self.eye, self.uu * per_pair), v, out=m)  # (I - a UᵀU) V
        m.addcmul_(p, per_pair)
        if residual is not None:
            which, error = residual
            weight = a[which, None, None]
            g.index_add_(0, which, torch.bmm(v[which], error.transpose(1, 2)).mul_(weight))
            m.index_add_(0, which, torch.bmm(u[which], error).mul_(weight), alpha=-1)
        for rows, gradient in through_v:
            _add_rows(self.m.view(s * r * k, c), rows, gradient, sign=-1)
        torch.clamp(m, min=0, out=v)

        torch.ops.aten.sigmoid_backward.grad_input(self.gradient, self.u, grad_input=self.gradient)
        self.w.sub_(self.gradient)


def _add_rows(target: Tensor, rows: Tensor | None, gradient: Tensor, sign: int) -> None:
    """Add a signed gradient to all rows of ``target``, or to the given distinct ones."""
    if rows is None:
        target.add_(gradient, alpha=sign)
    else:
        target.index_add_(0, rows, gradient, alpha=sign)


@dataclass
class Links:
    """Neighbours in time of each sample of a batch, within its clip.

    Attributes
    ----------
    previous, following : int64 Tensor [S]
        Index in the batch; the sample's own where there is none.
    has_previous, has_following : Tensor [S, 1, 1]
        1 or 0.
    """

    previous: Tensor
    following: Tensor
    has_previous: Tensor
    has_following: Tensor


class Step:
    """State of a batch and its gradient step.

    Parameters
    ----------
    settings : Settings
    penalty : Penalty
        Descriptors and cross-entropy, ready for this batch.
    image, audio : Modality
    links : Links or None
        Needed for the temporal term only.
    """

    def __init__(
        self, settings: Settings, penalty: Penalty, image: Modality, audio: Modality, links: Links | None
    ) -> None:
        self.settings, self.penalty, self.image, self.audio, self.links = (
            settings,
            penalty,
            image,
            audio,
            links,
        )
        s, r, k, _, _ = image.shape
        self.pairs = s * r
        self.first_row = torch.arange(self.pairs, device=image.x.device) * k
        self.guard = GUARD[image.x.dtype]
        self.k_star = torch.zeros(self.pairs, dtype=torch.int64, device=image.x.device)
        self.steers = settings.beta_penalty > 0 or settings.beta_temporal > 0

    def forward(self, descriptors: bool = True, guarded: bool = True) -> None:
        """Everything that is measured at the present state.

        Parameters
        ----------
        descriptors : bool
            Compute descriptors and k* (without them the penalty and the temporal term cannot be used).
        guarded : bool
            Look for cancelled residuals (waits for the device) and recompute them.
        """
        self.image.forward()
        self.audio.forward()
        self.residuals = [self._residual(side) if guarded else None for side in (self.image, self.audio)]
        if descriptors:
            self.k_star.copy_(self.penalty.forward(self.image, self.audio))

    def update(self, rate: Tensor) -> None:
        """Move W and V by one step of size ``rate`` (0-dimensional tensor on the device)."""
        through_p, through_v = self._penalty_gradients(rate)
        for i, side in enumerate((self.image, self.audio)):
            side.backward(rate, through_p[i], through_v[i], self.residuals[i])

    def cancelled(self, margin: float = 1.0) -> bool:
        """Whether any residual is (within ``margin`` times) too small for its Gram form; waits for the device."""
        guard = self.guard * margin
        return bool(self.image.cancelled(guard).any() | self.audio.cancelled(guard).any())

    def _residual(self, side: Modality) -> tuple[Tensor, Tensor] | None:
        flags = side.cancelled(self.guard)
        if not bool(flags.any()):
            return None
        which = flags.nonzero().squeeze(1)
        return which, side.explicit(which)

    def _penalty_gradients(self, rate: Tensor) -> tuple[list, list]:
        """Gradients through P and through V per modality, each (rows, gradient)."""
        through_p, through_v = [None, None], [[], []]
        if self.settings.beta_penalty > 0:
            rows = self.first_row + self.k_star if self.settings.reduction == "min" else None
            for i, gradient in enumerate(self.penalty.backward(rows, rate)):
                if self.settings.descriptor == "factor":
                    through_v[i].append((rows, gradient))
                else:
                    through_p[i] = (rows, gradient)
        if self.settings.beta_temporal > 0:
            rows = self.first_row + self.k_star
            for i, side in enumerate((self.image, self.audio)):
                through_v[i].append((rows, self._temporal(side, rows, rate)))
        return through_p, through_v

    def _chosen_directions(self, side: Modality, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors [S, R, C] of the chosen factors and their inverse lengths; 0 for a zero row."""
        s, r, k, _, c = side.shape
        v = side.v.view(s * r * k, c)[rows].view(s, r, c)
        length = torch.linalg.vector_norm(v, dim=2, keepdim=True)
        shorter = inverse(length)
        return v * shorter, shorter

    def _temporal(self, side: Modality, rows: Tensor, rate: Tensor) -> Tensor:
        """Gradient [S*R, C] of the temporal term (Eq. 7) for the chosen rows of V, times the step size."""
        direction, shorter = self._chosen_directions(side, rows)
        pull = direction[self.links.previous] * self.links.has_previous
        pull = pull + direction[self.links.following] * self.links.has_following
        pull = pull - direction * (pull * direction).sum(2, keepdim=True)
        return (pull * shorter * (-self.settings.beta_temporal * rate)).flatten(0, 1)

    def objective(self) -> Tensor:
        """Minimised value [S, R] at the last forward pass, descriptors included; call before V changes.

        The temporal value of a pair of frames is counted at the earlier one.
        """
        value = self.penalty.value(self.k_star) * self.settings.beta_penalty
        for side in (self.image, self.audio):
            square = side.square.clamp(min=0)
            value = value + side.beta * (square if side.squared else square.sqrt())
        value = value.view(self.image.shape[:2])
        if self.settings.beta_temporal > 0:
            rows = self.first_row + self.k_star
            for side in (self.image, self.audio):
                direction, _ = self._chosen_directions(side, rows)
                ahead = direction[self.links.following] * self.links.has_following
                value = value - self.settings.beta_temporal * (direction * ahead).sum(2)
        return value
