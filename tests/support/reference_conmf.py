"""Soft co-NMF by plain autograd, written from the equations: the oracle of the tests and the baseline of the benchmark.

Nothing is shared with :mod:`taco.conmf`, and nothing is clever: batched matrix products for one seed, one graph per step.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import torch
from torch.nn.functional import gelu, layer_norm


def safe_norm(x, dim, keepdim=False):
    """Euclidean norm whose gradient at 0 is 0."""
    square = x.square().sum(dim, keepdim=keepdim)
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)


def cosine(a, b):
    """Cosines of rows a [..., M, C] and b [J, C]; 0 for a zero row."""
    length = safe_norm(a, -1, keepdim=True)
    direction = a / torch.where(length > 0, length, 1.0)
    return direction @ (b / b.norm(dim=1, keepdim=True)).T


def projected(c, anchors):
    """CLAP's projection of rows of c."""
    p = anchors.projection
    e = c @ p.linear1.T
    return layer_norm(e + gelu(e) @ p.linear2.T, e.shape[-1:], p.norm_weight, p.norm_bias, p.eps)


def descriptors(c_i, c_a, anchors):
    """Image and audio descriptors [S, K, J] of rows [S, K, C]."""
    s_i = cosine(c_i, anchors.image)
    s_a = anchors.scale * cosine(projected(c_a, anchors), anchors.audio)
    present = (c_a != 0).any(-1, keepdim=True)
    return s_i, torch.where(present, s_a, 0.0)


def cross_entropy(target, other):
    """-sum_j softmax(target)_j log softmax(other)_j."""
    return -(target.softmax(-1) * other.log_softmax(-1)).sum(-1)


def components(x, u, expanded):
    """Mean over tokens of X[n] U[n, k]; ``expanded`` forms the K-fold copy [S, N, K, C] as the authors do."""
    if expanded:
        return (x[:, :, None, :] * u[:, :, :, None]).mean(1)
    return u.transpose(1, 2) @ x / x.shape[1]


def objective(x_i, x_a, w_i, w_a, v_i, v_a, anchors, settings, clips=None, expanded=False):
    """Value [] over all samples, k* [S], CE [S, K], reconstruction norms and per-sample objective [S]."""
    u_i, u_a = w_i.sigmoid(), w_a.sigmoid()
    r_i, r_a = safe_norm(x_i - u_i @ v_i, (1, 2)), safe_norm(x_a - u_a @ v_a, (1, 2))
    if settings.descriptor == "component":
        rows = components(x_i, u_i, expanded), components(x_a, u_a, expanded)
    else:
        rows = v_i, v_a
    s_i, s_a = descriptors(*rows, anchors)
    ce = cross_entropy(s_a, s_i)
    term = {
        "image": lambda: ce,
        "audio": lambda: cross_entropy(s_i, s_a),
        "both": lambda: ce + cross_entropy(s_i, s_a),
    }[settings.penalty_side]()
    k_star = ce.argmin(1)
    chosen = term.mean(1) if settings.reduction == "mean" else term.gather(1, k_star[:, None]).squeeze(1)
    power = 2 if settings.norm == "squared" else 1
    value = (
        settings.beta_image * r_i**power + settings.beta_audio * r_a**power + settings.beta_penalty * chosen
    )
    if settings.beta_temporal:
        samples = torch.arange(len(x_i))
        for v in (v_i, v_a):
            row = v[samples, k_star]
            length = safe_norm(row, 1, keepdim=True)
            row = row / torch.where(length > 0, length, 1.0)
            same = torch.tensor([float(a == b) for a, b in pairwise(clips)], dtype=row.dtype)
            frames = Counter(clips) if settings.temporal_weight == "release" else dict.fromkeys(clips, 1)
            weight = torch.tensor([settings.beta_temporal * frames[clip] for clip in clips[:-1]]).to(row)
            pair = weight * same * (row[:-1] * row[1:]).sum(1)
            value = value - torch.cat([pair, pair.new_zeros(1)])
    return value.sum(), k_star, ce, r_i, r_a, value


def solve(x_i, x_a, w_i, w_a, v_i, v_a, anchors, settings, clips=None, expanded=False):
    """Projected gradient descent of one seed; shapes [S, N, C], W [S, N, K], V [S, K, C]."""
    unknowns = [t.clone().requires_grad_() for t in (w_i, w_a, v_i, v_a)]
    rate = 0.25 if settings.learning_rate is None else settings.learning_rate
    trace = []
    for step in range(settings.steps):
        if step in settings.halve_at:
            rate = rate / 2
        value, k_star, ce, r_i, r_a, per_sample = objective(
            x_i, x_a, *unknowns, anchors, settings, clips, expanded
        )
        trace.append(per_sample.detach())
        gradients = torch.autograd.grad(value, unknowns)
        u_i, u_a = unknowns[0].detach().sigmoid(), unknowns[1].detach().sigmoid()
        with torch.no_grad():
            for unknown, gradient in zip(unknowns, gradients):
                unknown -= rate * gradient
            for unknown in unknowns[2:]:
                unknown.clamp_(min=0)
    return {
        "image_activations": u_i,
        "audio_activations": u_a,
        "image_factors": unknowns[2].detach(),
        "audio_factors": unknowns[3].detach(),
        "k_star": k_star,
        "cross_entropy": ce.detach(),
        "reconstruction_image": r_i.detach(),
        "reconstruction_audio": r_a.detach(),
        "objective": torch.stack(trace, 1),
    }
