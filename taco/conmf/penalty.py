"""Descriptors, their cross-entropy, and its gradient with respect to what they describe."""

from __future__ import annotations

import torch
from torch import Tensor

from .settings import Anchors, Settings


class Penalty:
    """Cross-entropy between the descriptors of all factors of a batch, by rows of a [S*R*K, ·] view.

    With rows c_I (P_I or V_I) and e = c_A linear1ᵀ (Eqs. 3 to 6 of the paper, shared/method.md)

        s_I = cos(c_I, b_I)                               s_A = τ cos(LayerNorm(e + GELU(e) linear2ᵀ), b_A)
        CE  = logsumexp(s_I) - ⟨softmax(s_A), s_I⟩

    A cosine does not see the length of c_I, so P_I = U_Iᵀ X_I stands for the mean over tokens; for audio the mean enters
    through ``projected`` = X_A linear1ᵀ / T.

    Parameters
    ----------
    settings : Settings
    anchors : Anchors
        On the device and of the computing type; image rows of length 1, audio rows of length τ.
    projected : Tensor [S, T, D]
        X_A linear1ᵀ / T.
    counts : Tensor [S]
        T of each sample.
    n_seeds : int
    """

    def __init__(
        self, settings: Settings, anchors: Anchors, projected: Tensor, counts: Tensor, n_seeds: int
    ) -> None:
        self.settings, self.anchors, self.projected = settings, anchors, projected
        self.repeat = n_seeds * settings.n_components
        self.inverse_counts = counts.to(projected).reciprocal().repeat_interleave(self.repeat)  # [S*R*K]
        m, k, j = len(projected) * self.repeat, settings.n_components, len(anchors.image)
        d, c = projected.shape[2], anchors.image.shape[1]
        self.rows_image = projected.new_empty(m, c)  # unit rows
        self.embedded = projected.new_empty(m, d)  # e
        self.hidden = projected.new_empty(m, d)  # GELU(e)
        self.summed = projected.new_empty(m, d)  # e + GELU(e) linear2ᵀ
        self.logits_image = projected.new_empty(m, j)
        self.logits_audio = projected.new_empty(m, j)
        self.target_image = projected.new_empty(m, j)  # softmax of the logits
        self.target_audio = projected.new_empty(m, j)
        self.scratch = projected.new_empty(m, j)
        self.factors = k
        self.weight = settings.beta_penalty / (k if settings.reduction == "mean" else 1)

    def forward(self, image, audio) -> Tensor:
        """Descriptors and cross-entropies at the present P and V; returns k* [S*R]."""
        component = self.settings.descriptor == "component"
        self._describe_image((image.p if component else image.v).view(-1, self.rows_image.shape[1]))
        self._describe_audio(audio, component)
        torch.softmax(self.logits_image, 1, out=self.target_image)
        torch.softmax(self.logits_audio, 1, out=self.target_audio)
        log_partition = self.logits_image[:, 0] - self.target_image[:, 0].log()
        self.mean_image = torch.mul(self.target_audio, self.logits_image, out=self.scratch).sum(1)
        self.cross_entropy = log_partition - self.mean_image
        if self.settings.penalty_side != "image":
            self.mean_audio = torch.mul(self.target_image, self.logits_audio, out=self.scratch).sum(1)
            self.cross_entropy_audio = torch.logsumexp(self.logits_audio, 1) - self.mean_audio
        return self.cross_entropy.view(-1, self.factors).argmin(1)

    def value(self, k_star: Tensor) -> Tensor:
        """Penalty [S*R] (without its weight β) at the last forward pass."""
        term = {"image": lambda: self.cross_entropy, "audio": lambda: self.cross_entropy_audio}.get(
            self.settings.penalty_side, lambda: self.cross_entropy + self.cross_entropy_audio
        )()
        term = term.view(-1, self.factors)
        return (
            term.mean(1) if self.settings.reduction == "mean" else term.gather(1, k_star[:, None]).squeeze(1)
        )

    def backward(self, rows: Tensor | None, rate: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients [M, C_I] and [M, C_A] with respect to the given rows of P (or V), times β and the step size."""
        pick = (lambda t: t) if rows is None else (lambda t: t.index_select(0, rows))
        weight = self.weight * rate
        image, audio = pick(self.target_image), pick(self.target_audio)
        gradient_image, gradient_audio = 0.0, 0.0
        if self.settings.penalty_side in ("image", "both"):
            gradient_image = image - audio
            gradient_audio = audio * (pick(self.mean_image)[:, None] - pick(self.logits_image))
        if self.settings.penalty_side in ("audio", "both"):
            gradient_audio = gradient_audio + audio - image
            gradient_image = gradient_image + image * (
                pick(self.mean_audio)[:, None] - pick(self.logits_audio)
            )
        return (
            self._image_gradient(gradient_image * weight, pick),
            self._audio_gradient(gradient_audio * weight, rows, pick),
        )

    def _describe_image(self, rows: Tensor) -> None:
        self.inverse_image = inverse(torch.linalg.vector_norm(rows, dim=1))
        torch.mul(rows, self.inverse_image[:, None], out=self.rows_image)
        torch.mm(self.rows_image, self.anchors.image.t(), out=self.logits_image)

    def _describe_audio(self, audio, component: bool) -> None:
        s, r, k, t, c = audio.shape
        p = self.anchors.projection
        if component:
            torch.bmm(audio.u.view(s, r * k, t), self.projected, out=self.embedded.view(s, r * k, -1))
        else:
            torch.mm(audio.v.view(-1, c), p.linear1.t(), out=self.embedded)
        torch.ops.aten.gelu.out(self.embedded, approximate="none", out=self.hidden)
        torch.mm(self.hidden, p.linear2.t(), out=self.summed).add_(self.embedded)
        self.normed, self.centre, self.spread = torch.native_layer_norm(
            self.summed, self.summed.shape[1:], p.norm_weight, p.norm_bias, p.eps
        )
        # A zero component has no direction, although its projection (the layer norm's bias) may have one.
        present = torch.linalg.vector_norm((audio.p if component else audio.v).view(-1, c), dim=1) > 0
        self.inverse_audio = inverse(torch.linalg.vector_norm(self.normed, dim=1)) * present
        self.rows_audio = self.normed.mul_(self.inverse_audio[:, None])
        torch.mm(self.rows_audio, self.anchors.audio.t(), out=self.logits_audio)

    def _image_gradient(self, gradient: Tensor, pick) -> Tensor:
        return _through_cosine(
            torch.mm(gradient, self.anchors.image), pick(self.rows_image), pick(self.inverse_image)
        )

    def _audio_gradient(self, gradient: Tensor, rows: Tensor | None, pick) -> Tensor:
        p = self.anchors.projection
        gradient = _through_cosine(
            torch.mm(gradient, self.anchors.audio), pick(self.rows_audio), pick(self.inverse_audio)
        )
        gradient, _, _ = torch.ops.aten.native_layer_norm_backward(
            gradient,
            pick(self.summed),
            self.summed.shape[1:],
            pick(self.centre),
            pick(self.spread),
            p.norm_weight,
            p.norm_bias,
            [True, False, False],
        )
        gradient = gradient + torch.ops.aten.gelu_backward(torch.mm(gradient, p.linear2), pick(self.embedded))
        gradient = torch.mm(gradient, p.linear1)
        if self.settings.descriptor == "component":
            gradient = gradient * pick(self.inverse_counts)[:, None]
        return gradient


def inverse(length: Tensor) -> Tensor:
    """1 / length, and 0 for a length of 0 (whose cosine and gradient are 0 by definition)."""
    return length.reciprocal().nan_to_num_(nan=float("nan"), posinf=0.0)


def _through_cosine(gradient: Tensor, direction: Tensor, inverse: Tensor) -> Tensor:
    """Gradient with respect to a row of which ``direction`` is the unit vector."""
    along = (gradient * direction).sum(1, keepdim=True)
    return (gradient - direction * along) * inverse[:, None]
