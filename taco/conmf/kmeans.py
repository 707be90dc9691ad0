"""Batched complete k-means: the start of V, per sample and modality."""

from __future__ import annotations

import torch
from torch import Tensor

from .settings import stream

STARTS = 8
ITERATIONS = 100
MOVEMENT = 1e-4
TIE = 1e-6


def kmeans(tokens: Tensor, counts: Tensor, keys: list[str], n_clusters: int, seed: int = 0) -> Tensor:
    """Centres of least inertia over 8 k-means++ starts of up to 100 Lloyd iterations each.

    Every start stops on its own when all its centres move by less than 1e-4 (Euclidean), and an empty cluster keeps
    its last centre. The arithmetic is float64, so that a sample's assignments do not hang on the rounding of the
    batch it happens to be in.

    Parameters
    ----------
    tokens : Tensor [S, N, C]
        Rows from ``counts[i]`` on are padding and are left out.
    counts : int64 Tensor [S]
        Tokens of each sample, at least ``n_clusters``.
    keys : list of str, length S
        Names of the samples' random streams.
    n_clusters : int
        K.
    seed : int
        Seed of the streams.

    Returns
    -------
    Tensor [S, K, C], of ``tokens``' dtype and device.
    """
    x = tokens.double()
    uniforms = torch.stack([torch.rand(STARTS, n_clusters, generator=stream(seed, key)) for key in keys])
    valid = torch.arange(x.shape[1], device=x.device) < counts.to(x.device)[:, None]  # [S, N]
    square = x.square().sum(2)
    centres = _plus_plus(x, square, valid, uniforms.to(x))
    centres = _lloyd(x, square, valid, centres)
    inertia = (_distances(x, square, centres).amin(3) * valid[:, None]).sum(2)  # [S, starts]
    # Many starts end in the same clusters in another order; the first of them is taken, whatever the rounding.
    best = (inertia <= inertia.amin(1, keepdim=True) * (1 + TIE)).to(torch.uint8).argmax(1)
    return centres[torch.arange(len(x), device=x.device), best].to(tokens.dtype)


def _distances(x: Tensor, square: Tensor, centres: Tensor) -> Tensor:
    """Squared distances [S, starts, N, K] of tokens [S, N, C], of squares [S, N], to centres [S, starts, K, C]."""
    s, starts, k, c = centres.shape
    flat = centres.reshape(s, starts * k, c)
    distance = torch.baddbmm(flat.square().sum(2)[:, None], x, flat.transpose(1, 2), alpha=-2)
    distance.add_(square[:, :, None]).clamp_(min=0)
    return distance.view(s, -1, starts, k).transpose(1, 2)


def _plus_plus(x: Tensor, square: Tensor, valid: Tensor, uniforms: Tensor) -> Tensor:
    """k-means++ centres [S, starts, K, C]: each new one a token drawn in proportion to its squared distance."""
    rows = torch.arange(len(x), device=x.device)[:, None]
    weight = valid[:, None].to(x).expand(-1, uniforms.shape[1], -1)  # first centre: uniform over tokens
    nearest, centres = None, []
    for k in range(uniforms.shape[2]):
        total = weight.cumsum(2)
        # All tokens at distance zero (duplicates): any token will do, so draw uniformly.
        total = torch.where(total[..., -1:] > 0, total, valid[:, None].to(x).cumsum(2))
        target = uniforms[..., k, None] * total[..., -1:]
        index = torch.searchsorted(total, target, right=True).squeeze(2)
        index = torch.minimum(index, valid.sum(1, keepdim=True) - 1)
        centres.append(x[rows, index])  # [S, starts, C]
        distance = _distances(x, square, centres[-1][:, :, None]).squeeze(3)
        nearest = distance if nearest is None else torch.minimum(nearest, distance)
        # A token is at distance exactly 0 of itself; rounding must not let it be drawn twice.
        nearest.scatter_(2, index[..., None], 0.0)
        weight = nearest * valid[:, None]
    return torch.stack(centres, 2)


def _lloyd(x: Tensor, square: Tensor, valid: Tensor, centres: Tensor) -> Tensor:
    """Lloyd iterations on all starts together; finished starts stand still, finished samples leave the batch."""
    s, starts, k, c = centres.shape
    active = torch.arange(s, device=x.device)
    moving = torch.ones(s, starts, dtype=torch.bool, device=x.device)
    for _ in range(ITERATIONS):
        current = centres[active]
        label = _distances(x, square, current).argmin(3)  # [A, starts, N]
        member = torch.nn.functional.one_hot(label, k).to(x).mul_(valid[:, None, :, None])
        size = member.sum(2)[..., None]  # [A, starts, K, 1]
        mean = torch.bmm(member.transpose(2, 3).reshape(len(active), starts * k, -1), x)
        mean = mean.view(-1, starts, k, c).div_(size.clamp(min=1))
        mean = torch.where((size > 0) & moving[:, :, None, None], mean, current)
        centres[active] = mean
        moving &= (mean - current).norm(dim=3).amax(2) >= MOVEMENT
        going = moving.any(1)
        if not bool(going.any()):
            break
        if not bool(going.all()):
            active, x, square, valid, moving = (t[going] for t in (active, x, square, valid, moving))
    return centres


def random_tokens(tokens: Tensor, counts: Tensor, keys: list[str], n_clusters: int, seed: int = 0) -> Tensor:
    """``n_clusters`` distinct tokens of each sample, drawn at random: [S, K, C]."""
    index = [torch.randperm(int(n), generator=stream(seed, key))[:n_clusters] for n, key in zip(counts, keys)]
    return tokens[torch.arange(len(tokens))[:, None], torch.stack(index).to(tokens.device)]
