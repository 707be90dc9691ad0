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
from typing import NamedTuple

import torch
from torch import Tensor

from . import elementwise
from .penalty import Penalty, inverse
from .settings import Settings

# Below this ratio of ‖R‖² to ‖X‖² the Gram form of the residual has lost too many digits.
GUARD = {torch.float32: 1e-3, torch.float64: 1e-8}
# Residuals themselves are formed for this fraction of a batch at a time, so that they never set the peak of memory.
RESIDUAL_SHARE = 16


class Explicit(NamedTuple):
    """Products of the residual E = UV - X of some pairs, for which the Gram form will not do.

    Attributes
    ----------
    which : int64 Tensor [F]
        The pairs.
    by_u : Tensor [F, K, C]
        Uᵀ E
    by_v : Tensor [F, K, N]
        V Eᵀ
    """

    which: Tensor
    by_u: Tensor
    by_v: Tensor


class Modality:
    """Tokens, unknowns and buffers of one modality; U is that of the present W at all times.

    W, U, V, P and their likes are held by pair, [S*R, K, ·]; ``folded`` are views [S, R*K, ·] of them for the products
    with X, which the seeds of a sample share.

    Parameters
    ----------
    tokens : Tensor [S, N, C]
    weights : Tensor [S, R, K, N]
    factors : Tensor [S, R, K, C]
        Both are overwritten.
    beta : float
        Weight of the norm.
    squared : bool
    """

    def __init__(self, tokens: Tensor, weights: Tensor, factors: Tensor, beta: float, squared: bool) -> None:
        s, r, k, n = weights.shape
        c = tokens.shape[2]
        self.shape = (s, r, k, n, c)
        self.beta, self.squared = beta, squared
        self.x, self.w, self.v = tokens, weights.view(s * r, k, n), factors.view(s * r, k, c)
        self.u, self.gradient = torch.sigmoid(self.w), torch.empty_like(self.w)
        self.p, self.m = torch.empty_like(self.v), torch.empty_like(self.v)
        self.folded = [t.view(s, r * k, -1) for t in (self.u, self.p, self.m, self.gradient)]
        self.transposed = [t.transpose(1, 2) for t in (self.x, self.u, self.v)]
        self.uu, self.vv = factors.new_empty(s * r, k, k), factors.new_empty(s * r, k, k)
        self.square = factors.new_empty(s * r)
        self.norm_x = torch.linalg.vector_norm(tokens, dim=(1, 2)).square().repeat_interleave(r)  # ‖X‖² [S*R]
        # Of X = 0 the Gram form loses nothing.
        self.limit = self.norm_x.masked_fill(self.norm_x == 0, float("-inf"))

    def forward(self) -> None:
        """P, the two Gram matrices and ‖R‖²."""
        u, p, _, _ = self.folded
        _, u_t, v_t = self.transposed
        torch.bmm(u, self.x, out=p)
        torch.bmm(self.u, u_t, out=self.uu)
        torch.bmm(self.v, v_t, out=self.vv)
        elementwise.residual(self.p, self.v, self.uu, self.vv, self.norm_x, scratch=self.m, out=self.square)

    def cancelled(self, guard: float) -> Tensor:
        """Which (sample, seed) pairs [S*R] need the residual itself."""
        return self.square <= self.limit * guard

    def explicit(self, which: Tensor) -> Explicit:
        """What needs the residuals UV - X of the pairs ``which`` [F]; their norms replace the Gram form's."""
        s, r, *_ = self.shape
        by_u, by_v = [], []
        for part in which.split(max(1, s // RESIDUAL_SHARE)):
            u, v = self.u[part], self.v[part]
            residual = torch.baddbmm(self.x[part // r], u.transpose(1, 2), v, beta=-1)
            self.square[part] = torch.linalg.vector_norm(residual, dim=(1, 2)).square()
            by_u.append(torch.bmm(u, residual))
            by_v.append(torch.bmm(v, residual.transpose(1, 2)))
        return Explicit(which, torch.cat(by_u), torch.cat(by_v))

    def scale(self, rate: Tensor) -> Tensor:
        """a [S*R], times the step size; 0 where the residual is 0."""
        if self.squared:
            return (2 * self.beta * rate).repeat(len(self.square))
        inverse_norm = self.square.clamp(min=0).rsqrt_().nan_to_num_(nan=float("nan"), posinf=0.0)
        return inverse_norm.mul_(self.beta * rate)

    def backward(
        self,
        rate: Tensor,
        through_p: tuple[Tensor | None, Tensor] | None,
        through_v: list[tuple[Tensor | None, Tensor]],
        explicit: Explicit | None,
    ) -> None:
        """Update W and V; V's projection on the non-negative numbers included.

        Parameters
        ----------
        rate : Tensor []
            Step size.
        through_p, through_v : (rows, gradient)
            Penalty's gradient [M, C] for rows [M] of P or V in the view [S*R*K, C]; rows ``None`` are all of them.
        explicit : Explicit or None
            Pairs whose own gradient must come from the residual itself.
        """
        _, _, m, gradient = self.folded
        a = self.scale(rate)
        own = a if explicit is None else a.index_fill(0, explicit.which, 0.0)
        per_pair = own[:, None, None]

        torch.mul(self.v, per_pair, out=self.m)
        if through_p is not None:
            _descend_rows(self.m, *through_p)
        torch.bmm(m, self.transposed[0], out=gradient)
        if explicit is not None:
            weight = a[explicit.which, None, None]
            self.gradient.index_add_(0, explicit.which, explicit.by_v * weight, alpha=-1)

        project = explicit is None and not through_v
        elementwise.move_factors(self.v, self.p, self.uu.mul_(per_pair), own, self.m, project)
        if not project:
            if explicit is not None:
                self.m.index_add_(0, explicit.which, explicit.by_u * weight, alpha=-1)
            for rows, row_gradient in through_v:
                _descend_rows(self.m, rows, row_gradient)
            torch.clamp(self.m, min=0, out=self.v)
        elementwise.move_weights(self.w, self.u, self.gradient, self.vv.mul_(per_pair))


def _descend_rows(target: Tensor, rows: Tensor | None, gradient: Tensor) -> None:
    """Take a gradient [M, C] from all rows of ``target`` [S*R, K, C], or from the given distinct ones."""
    flat = target.view(-1, target.shape[2])
    if rows is None:
        flat.sub_(gradient)
    else:
        flat.index_add_(0, rows, gradient, alpha=-1)


@dataclass
class Links:
    """Neighbours in time of each sample of a batch, within its clip.

    Attributes
    ----------
    previous, following : int64 Tensor [S]
        Index in the batch; the sample's own where there is none.
    has_previous, has_following : Tensor [S, 1, 1]
        1 or 0.
    weight : Tensor [S, 1, 1]
        Of the clip's temporal term, against one frame's other terms (``temporal_weight`` of the settings).
    """

    previous: Tensor
    following: Tensor
    has_previous: Tensor
    has_following: Tensor
    weight: Tensor


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
        self.settings, self.penalty, self.links = settings, penalty, links
        self.image, self.audio = image, audio
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
        self.explicit = [self._explicit(side) if guarded else None for side in (self.image, self.audio)]
        if descriptors:
            self.k_star.copy_(self.penalty.forward(self.image, self.audio))

    def update(self, rate: Tensor) -> None:
        """Move W and V by one step of size ``rate`` (0-dimensional tensor on the device)."""
        through_p, through_v = self._penalty_gradients(rate)
        for i, side in enumerate((self.image, self.audio)):
            side.backward(rate, through_p[i], through_v[i], self.explicit[i])

    def cancelled(self, margin: float = 1.0) -> bool:
        """Whether any residual is (within ``margin`` times) too small for its Gram form; waits for the device."""
        guard = self.guard * margin
        return bool(self.image.cancelled(guard).any() | self.audio.cancelled(guard).any())

    def _explicit(self, side: Modality) -> Explicit | None:
        flags = side.cancelled(self.guard)
        return side.explicit(flags.nonzero().squeeze(1)) if bool(flags.any()) else None

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
        v = side.v.view(s * r * k, c).index_select(0, rows).view(s, r, c)
        length = torch.linalg.vector_norm(v, dim=2, keepdim=True)
        shorter = inverse(length)
        return v * shorter, shorter

    def _temporal(self, side: Modality, rows: Tensor, rate: Tensor) -> Tensor:
        """Gradient [S*R, C] of the temporal term (Eq. 7) for the chosen rows of V, times the step size."""
        direction, shorter = self._chosen_directions(side, rows)
        pull = direction[self.links.previous] * self.links.has_previous
        pull = pull + direction[self.links.following] * self.links.has_following
        pull = pull - direction * (pull * direction).sum(2, keepdim=True)
        return (pull * shorter * (self.links.weight * -rate)).flatten(0, 1)

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
                value = value - (direction * ahead * self.links.weight).sum(2)
        return value
