"""Triton kernels that move V and W (conventions: :mod:`.kernels`)."""

import triton
import triton.language as tl

from .kernels import UNIT, _power_of_two, _split


@triton.jit
def move_factors(
    p,
    v,
    uu,
    vv,
    along,
    gram,
    norm_x,
    square,
    m_hi,
    m_lo,
    m_scale,
    inverse,
    gradient,
    temporal,
    k_star,
    rate,
    beta,
    beta_penalty,
    C: tl.constexpr,
    R: tl.constexpr,
    K: tl.constexpr,
    KP: tl.constexpr,
    L: tl.constexpr,
    BC: tl.constexpr,
    WHOLE: tl.constexpr,
    PENALTY: tl.constexpr,
    TEMPORAL: tl.constexpr,
):
    """‖R‖²; M = a V - ∂penalty/∂P, split; a V Vᵀ; and V moved and projected. Grid (S R, C / BC).

    The scale of M is a power of two from a bound, so that a block of columns needs no other one.
    """
    b = tl.program_id(0)
    block = tl.program_id(1)
    k = tl.arange(0, KP)
    c = block * BC + tl.arange(0, BC)
    there = (k < K)[:, None]
    pair = (k < K)[:, None] & (k < K)[None, :]
    small = (b * K + k)[:, None] * K + k[None, :]
    uu_tile = tl.load(uu + small, mask=pair, other=0.0)
    vv_tile = tl.load(vv + small, mask=pair, other=0.0)
    first = (b // R) * (C // BC) * L + (b % R) * K
    inner = tl.zeros([KP], tl.float32)
    for i in tl.static_range(C // BC):
        inner += tl.load(along + first + i * L + k, mask=k < K, other=0.0)
    residual = tl.load(norm_x + b) - 2 * tl.sum(inner) + tl.sum(tl.sum(uu_tile * vv_tile, 1), 0)
    step = tl.load(rate)
    # 0 at a residual of 0; what is not a number stays visible
    a = tl.where(residual > 0, beta * step / tl.sqrt(tl.where(residual > 0, residual, 1.0)), residual * 0.0)
    at = (b * K + k)[:, None] * C + c[None, :]
    p_tile = tl.load(p + at, mask=there, other=0.0)
    v_tile = tl.load(v + at, mask=there, other=0.0)
    m = v_tile * a
    bound = a * tl.sqrt(tl.max(tl.load(vv + (b * K + k) * K + k, mask=k < K, other=0.0)))
    if PENALTY:
        row = b * K + tl.load(k_star + b)
        shorter = tl.load(inverse + row)
        weight = beta_penalty * step * (1 / (UNIT * UNIT))
        f = tl.arange(0, WHOLE)
        whole = tl.load(gradient + b * C + f, mask=f < C, other=0.0) * weight
        cosine = tl.sum(whole * tl.load(p + row * C + f, mask=f < C, other=0.0)) * shorter
        bound += tl.sqrt(tl.sum(whole * whole)) * shorter
        part = tl.load(gradient + b * C + c) * weight - tl.load(p + row * C + c) * (shorter * cosine)
        m -= tl.where((k == tl.load(k_star + b))[:, None], (part * shorter)[None, :], 0.0)
    scale = _power_of_two(bound, 11)
    hi, lo = _split(m / scale)
    tl.store(m_hi + at, hi, mask=there)
    tl.store(m_lo + at, lo, mask=there)
    moved = v_tile + a * p_tile
    for i in tl.static_range(K):
        other = tl.load(v + (b * K + i) * C + c)
        column = tl.load(uu + (b * K + k) * K + i, mask=k < K, other=0.0) * a
        moved -= column[:, None] * other[None, :]
    if TEMPORAL:
        pull = tl.load(temporal + b * C + c) * step
        moved -= tl.where((k == tl.load(k_star + b))[:, None], pull[None, :], 0.0)
    tl.debug_barrier()  # no thread overwrites V while another one reads it
    tl.store(v + at, tl.where(moved < 0, 0.0, moved), mask=there)
    if block == 0:
        tl.store(square + b, residual)
        tl.store(m_scale + b, scale)
        own = (b % R) * K + k
        corner = ((b // R) * L + own)[:, None] * L + own[None, :]
        tl.store(gram + corner, vv_tile * a, mask=pair)


@triton.jit
def move_weights(
    x,
    m_hi,
    m_lo,
    m_scale,
    gram,
    w,
    u_hi,
    u_lo,
    q_hi,
    q_lo,
    lift,
    g_hi,
    g_lo,
    g_scale,
    k_star,
    rate,
    beta_penalty,
    n_end,
    c_end,
    d_end,
    C: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    R: tl.constexpr,
    K: tl.constexpr,
    L: tl.constexpr,
    BN: tl.constexpr,
    BC: tl.constexpr,
    BD: tl.constexpr,
    PENALTY: tl.constexpr,
):
    """G = X Mᵀ (with PENALTY, less Q ∂penalty/∂e), W -= (U a VVᵀ - G) U (1 - U), U = sigmoid(W) split. Grid (S, N / BN)."""
    s = tl.program_id(0)
    l = tl.arange(0, L)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    c = tl.arange(0, BC)
    row = (s * ROWS + l)[None, :]
    inside = (l < ROWS)[None, :]
    pair = s * R + l // K
    x_at = x + s.to(tl.int64) * n_end * C + n[:, None] * C + c[None, :]
    m_at = row * C + c[:, None]
    g = tl.zeros([BN, L], tl.float32)
    for start in range(0, c_end, BC):
        tile = tl.load(x_at + start)
        g = tl.dot(tile, tl.load(m_hi + m_at + start, mask=inside, other=0.0), g)
        g = tl.dot(tile, tl.load(m_lo + m_at + start, mask=inside, other=0.0), g)
    g *= tl.load(m_scale + pair, mask=l < ROWS, other=0.0)[None, :]
    if PENALTY:
        d = tl.arange(0, BD)
        chosen = (l % K == tl.load(k_star + pair, mask=l < ROWS, other=-1))[None, :] & inside
        q_at = s * n_end * D + n[:, None] * D + d[None, :]
        g_at = pair[None, :] * D + d[:, None]
        through = tl.zeros([BN, L], tl.float32)
        for start in range(0, d_end, BD):
            hi = tl.load(g_hi + g_at + start, mask=chosen, other=0.0)
            tile = tl.load(q_hi + q_at + start)
            through = tl.dot(tile, hi, through)
            through = tl.dot(tile, tl.load(g_lo + g_at + start, mask=chosen, other=0.0), through)
            through = tl.dot(tl.load(q_lo + q_at + start), hi, through)
        weight = beta_penalty * tl.load(rate) / tl.load(lift + s)
        g -= through * (tl.load(g_scale + pair, mask=l < ROWS, other=0.0) * weight)[None, :]
    at = s * n_end * L + n[:, None] * L + l[None, :]
    old = tl.load(w + at)
    u = tl.sigmoid(old)
    block = tl.load(gram + s * L * L + l[:, None] * L + l[None, :])
    new = old - (tl.dot(u, block, input_precision="tf32x3") - g) * u * (1 - u)
    tl.store(w + at, new)
    hi, lo = _split(tl.sigmoid(new))
    tl.store(u_hi + at, hi)
    tl.store(u_lo + at, lo)
