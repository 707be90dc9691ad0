"""Triton kernels of a step in split half precision; :mod:`.fast` allocates, orders and launches them.

A float32 number is held as two halves, hi + lo, wherever a product needs it; tensor cores multiply halves exactly and sum
in float32. Letters as in :mod:`.step`: X [S, N, C] is float16 as stored; W and U are [S, N, L], with the R K columns of a
sample's seeds and factors side by side and L the next power of two (W = -inf and U = 0 in the columns behind); what
belongs to one factor is a row of [S*R*K, ·], what belongs to a pair (sample, seed) a row of [S*R, ·]. Rows that cuBLAS
multiplies are stored as ``terms`` (hi, hi, lo) against constants (hi, lo, hi): one product of three times the width.

Bounds of loops over tiles are arguments (``n_end``, ``c_end``, ...): where they are constants, ptxas of Triton 3.6 unrolls
twelve rounds and drops their products (seen on sm_90; tests/conmf/test_kernels.py disassembles every kernel).
"""

import triton
import triton.language as tl

# Length of unit rows and of unit anchors as halves: the low part of a small entry keeps its digits.
UNIT = tl.constexpr(64.0)
HALF_ROOT = tl.constexpr(0.7071067811865476)
DENSITY = tl.constexpr(0.3989422804014327)  # 1 / sqrt(2 pi)


@triton.jit
def _split(x):
    hi = x.to(tl.float16)
    return hi, (x - hi.to(tl.float32)).to(tl.float16)


@triton.jit
def _store_terms(at, value, size, mask):
    hi, lo = _split(value)
    tl.store(at, hi, mask=mask)
    tl.store(at + size, hi, mask=mask)
    tl.store(at + 2 * size, lo, mask=mask)


@triton.jit
def _power_of_two(largest, exponent: tl.constexpr):
    """The power of two by which ``largest`` divided lies in 2^exponent .. 2^(exponent + 1); 1 for 0."""
    return tl.where(
        largest > 0, tl.exp2(tl.floor(tl.log2(tl.where(largest > 0, largest, 1.0))) - exponent), 1.0
    )


@triton.jit
def _store_gram(at, gram, s, ROWS: tl.constexpr, K: tl.constexpr, L: tl.constexpr):
    """The K x K blocks of the pairs, from the diagonal of a sample's [L, L]."""
    row = tl.arange(0, L)[:, None]
    column = tl.arange(0, L)[None, :]
    own = (row // K == column // K) & (row < ROWS) & (column < ROWS)
    tl.store(at + (s * ROWS + row) * K + column % K, gram, mask=own)


@triton.jit
def project(
    x,
    u_hi,
    u_lo,
    v,
    p,
    along,
    uu,
    n_end,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    K: tl.constexpr,
    L: tl.constexpr,
    BC: tl.constexpr,
    BN: tl.constexpr,
):
    """P = Uᵀ X and ⟨P, V⟩ by blocks of columns; the last program of a sample makes UᵀU. Grid (S, C / BC + 1)."""
    s = tl.program_id(0)
    block = tl.program_id(1)
    l = tl.arange(0, L)
    n = tl.arange(0, BN)
    u_at = s * n_end * L + n[:, None] * L + l[None, :]
    if block < C // BC:
        c = block * BC + tl.arange(0, BC)
        x_at = x + s.to(tl.int64) * n_end * C + n[:, None] * C + c[None, :]
        total = tl.zeros([BC, L], tl.float32)
        for start in range(0, n_end, BN):
            tile = tl.trans(tl.load(x_at + start * C))
            total = tl.dot(tile, tl.load(u_hi + u_at + start * L), total)
            total = tl.dot(tile, tl.load(u_lo + u_at + start * L), total)
        at = (s * ROWS + l)[None, :] * C + c[:, None]
        inside = (l < ROWS)[None, :]
        tl.store(p + at, total, mask=inside)
        total *= tl.load(v + at, mask=inside, other=0.0)
        tl.store(along + (s * (C // BC) + block) * L + l, tl.sum(total, 0))
    else:
        gram = tl.zeros([L, L], tl.float32)
        for start in range(0, n_end, BN):
            hi = tl.load(u_hi + u_at + start * L)
            lo = tl.load(u_lo + u_at + start * L)
            gram = tl.dot(tl.trans(hi), hi, gram)
            gram = tl.dot(tl.trans(hi), lo, gram)
            gram = tl.dot(tl.trans(lo), hi, gram)
        _store_gram(uu, gram, s, ROWS, K, L)


@triton.jit
def gram_factors(
    v, vv, c_end, C: tl.constexpr, ROWS: tl.constexpr, K: tl.constexpr, L: tl.constexpr, BC: tl.constexpr
):
    """V Vᵀ of a sample's pairs. Grid (S,)."""
    s = tl.program_id(0)
    l = tl.arange(0, L)
    at = v + (s * ROWS + l)[:, None] * C + tl.arange(0, BC)[None, :]
    gram = tl.zeros([L, L], tl.float32)
    for start in range(0, c_end, BC):
        tile = tl.load(at + start, mask=(l < ROWS)[:, None], other=0.0)
        gram = tl.dot(tile, tl.trans(tile), gram, input_precision="tf32x3")
    _store_gram(vv, gram, s, ROWS, K, L)


@triton.jit
def embed(
    q_hi,
    q_lo,
    u_hi,
    u_lo,
    lift,
    e,
    hidden,
    t_end,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    L: tl.constexpr,
    BD: tl.constexpr,
    BT: tl.constexpr,
):
    """e = Uᵀ Q, and GELU(e) as terms times the lift of Q. Grid (S, D / BD)."""
    s = tl.program_id(0)
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    l = tl.arange(0, L)
    t = tl.arange(0, BT)
    u_at = s * t_end * L + t[:, None] * L + l[None, :]
    q_at = s * t_end * D + t[:, None] * D + d[None, :]
    total = tl.zeros([BD, L], tl.float32)
    for start in range(0, t_end, BT):
        hi = tl.load(u_hi + u_at + start * L)
        tile = tl.trans(tl.load(q_hi + q_at + start * D))
        total = tl.dot(tile, hi, total)
        total = tl.dot(tile, tl.load(u_lo + u_at + start * L), total)
        total = tl.dot(tl.trans(tl.load(q_lo + q_at + start * D)), hi, total)
    scale = tl.load(lift + s)
    total /= scale
    row = (s * ROWS + l)[None, :]
    inside = (l < ROWS)[None, :]
    tl.store(e + row * D + d[:, None], total, mask=inside)
    active = 0.5 * total * (1 + tl.erf(total * HALF_ROOT))
    _store_terms(hidden + row * (3 * D) + d[:, None], active * scale, D, inside)


@triton.jit
def unit_image(p, rows, inverse, C: tl.constexpr, BLOCK: tl.constexpr):
    """Rows of P of unit length as terms, and 1 / length (0 for a zero row). Grid (S R K,)."""
    i = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    value = tl.load(p + i * C + c, mask=c < C, other=0.0)
    length = tl.sqrt(tl.sum(value * value))
    shorter = tl.where(length > 0, 1 / tl.where(length > 0, length, 1.0), length * 0.0)
    tl.store(inverse + i, shorter)
    _store_terms(rows + i * (3 * C) + c, value * shorter * UNIT, C, c < C)


@triton.jit
def unit_audio(
    e,
    y,
    y_scale,
    norm_weight,
    norm_bias,
    eps,
    rows,
    statistics,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """LayerNorm(e + y) of unit length as terms; its mean, 1 / deviation and 1 / length. Grid (S R K,).

    A component of zero has e = 0, and no direction.
    """
    i = tl.program_id(0)
    d = tl.arange(0, BLOCK)
    inside = d < D
    value = tl.load(e + i * D + d, mask=inside, other=0.0)
    present = tl.max(tl.abs(value)) > 0
    value += tl.load(y + i * D + d, mask=inside, other=0.0) * tl.load(y_scale + i // ROWS)
    mean = tl.sum(value) / D
    value = tl.where(inside, value - mean, 0.0)
    spread = 1 / tl.sqrt(tl.sum(value * value) / D + eps)
    value = value * spread * tl.load(norm_weight + d, mask=inside, other=0.0)
    value += tl.load(norm_bias + d, mask=inside, other=0.0)
    length = tl.sqrt(tl.sum(value * value))
    there = present & (length > 0)
    shorter = tl.where(there, 1 / tl.where(there, length, 1.0), length * 0.0)
    tl.store(statistics + 3 * i, mean)
    tl.store(statistics + 3 * i + 1, spread)
    tl.store(statistics + 3 * i + 2, shorter)
    _store_terms(rows + i * (3 * D) + d, value * shorter * UNIT, D, inside)


@triton.jit
def _softmaxes(logits_image, logits_audio, scale_audio, j, J: tl.constexpr):
    """Both softmaxes of a row of logits, ⟨softmax_A, s_I⟩, log Σ exp s_I, and s_I."""
    inside = j < J
    image = tl.load(logits_image + j, mask=inside, other=0.0) * (1 / (UNIT * UNIT))
    audio = tl.load(logits_audio + j, mask=inside, other=0.0) * scale_audio
    top = tl.max(tl.where(inside, image, -float("inf")))
    of_image = tl.where(inside, tl.exp(image - top), 0.0)
    of_audio = tl.where(inside, tl.exp(audio - tl.max(tl.where(inside, audio, -float("inf")))), 0.0)
    total = tl.sum(of_image)
    of_audio /= tl.sum(of_audio)
    return of_image / total, of_audio, tl.sum(of_audio * image), top + tl.log(total), image


@triton.jit
def cross_entropy(
    logits_image, logits_audio, scale_audio, ce, J: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr
):
    """CE of every factor. Grid (S R K,)."""
    at = tl.program_id(0) * WIDTH
    j = tl.arange(0, BLOCK)
    _, _, mean, partition, _ = _softmaxes(logits_image + at, logits_audio + at, scale_audio, j, J)
    tl.store(ce + tl.program_id(0), partition - mean)


@triton.jit
def choose(
    ce,
    logits_image,
    logits_audio,
    scale_audio,
    k_star,
    gradient_image,
    gradient_audio,
    J: tl.constexpr,
    WIDTH: tl.constexpr,
    K: tl.constexpr,
    KP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """k*, and ∂CE/∂logits of its row as terms. Grid (S R,)."""
    b = tl.program_id(0)
    k = tl.arange(0, KP)
    best = tl.argmin(tl.load(ce + b * K + k, mask=k < K, other=float("inf")), 0)
    best = tl.minimum(best, K - 1)  # whatever is not a number
    tl.store(k_star + b, best)
    at = (b * K + best) * WIDTH
    j = tl.arange(0, BLOCK)
    of_image, of_audio, mean, _, image = _softmaxes(logits_image + at, logits_audio + at, scale_audio, j, J)
    at = b * (3 * WIDTH) + j
    _store_terms(gradient_image + at, (of_image - of_audio) * UNIT, WIDTH, j < WIDTH)
    _store_terms(gradient_audio + at, of_audio * (mean - image) * UNIT, WIDTH, j < WIDTH)


@triton.jit
def back_norm(
    gradient,
    g_scale,
    e,
    y,
    y_scale,
    statistics,
    k_star,
    norm_weight,
    norm_bias,
    h,
    h_terms,
    h_scale,
    D: tl.constexpr,
    R: tl.constexpr,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The chosen row's gradient through cosine and LayerNorm, over a power of two of its own. Grid (S R,)."""
    b = tl.program_id(0)
    d = tl.arange(0, BLOCK)
    inside = d < D
    row = b * K + tl.load(k_star + b)
    spread = tl.load(statistics + 3 * row + 1)
    shorter = tl.load(statistics + 3 * row + 2)
    value = tl.load(e + row * D + d, mask=inside, other=0.0)
    value += tl.load(y + row * D + d, mask=inside, other=0.0) * tl.load(y_scale + b // R)
    value = tl.where(inside, (value - tl.load(statistics + 3 * row)) * spread, 0.0)
    weight = tl.load(norm_weight + d, mask=inside, other=0.0)
    direction = (value * weight + tl.load(norm_bias + d, mask=inside, other=0.0)) * shorter
    g = tl.load(gradient + b * D + d, mask=inside, other=0.0) * g_scale
    g = (g - direction * tl.sum(g * direction)) * shorter * weight
    g = tl.where(inside, spread * (g - tl.sum(g) / D - value * (tl.sum(g * value) / D)), 0.0)
    scale = _power_of_two(tl.max(tl.abs(g)), 3)
    tl.store(h_scale + b, scale)
    g /= scale
    tl.store(h + b * D + d, g, mask=inside)
    _store_terms(h_terms + b * (3 * D) + d, g, D, inside)


@triton.jit
def back_gelu(
    h,
    h_scale,
    y,
    linear2_scale,
    e,
    k_star,
    g_hi,
    g_lo,
    g_scale,
    D: tl.constexpr,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """∂CE/∂e of the chosen row, h + GELU'(e) (h linear2), split over a power of two of its own. Grid (S R,)."""
    b = tl.program_id(0)
    d = tl.arange(0, BLOCK)
    inside = d < D
    value = tl.load(e + (b * K + tl.load(k_star + b)) * D + d, mask=inside, other=0.0)
    slope = 0.5 * (1 + tl.erf(value * HALF_ROOT)) + value * DENSITY * tl.exp(-0.5 * value * value)
    g = tl.load(y + b * D + d, mask=inside, other=0.0) * tl.load(linear2_scale) * slope
    g += tl.load(h + b * D + d, mask=inside, other=0.0)
    scale = _power_of_two(tl.max(tl.abs(g)), 3)
    tl.store(g_scale + b, tl.load(h_scale + b) * scale)
    hi, lo = _split(g / scale)
    tl.store(g_hi + b * D + d, hi, mask=inside)
    tl.store(g_lo + b * D + d, lo, mask=inside)


@triton.jit
def _direction(v, row, c, C: tl.constexpr):
    value = tl.load(v + row * C + c, mask=c < C, other=0.0)
    length = tl.sqrt(tl.sum(value * value))
    shorter = tl.where(length > 0, 1 / tl.where(length > 0, length, 1.0), length * 0.0)
    return value * shorter, shorter


@triton.jit
def temporal(
    v,
    k_star,
    previous,
    following,
    has_previous,
    has_following,
    weight,
    gradient,
    value,
    C: tl.constexpr,
    R: tl.constexpr,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The temporal term's gradient (Eq. 7) for the chosen rows of V, and its value at the earlier frame. Grid (S R,)."""
    b = tl.program_id(0)
    s = b // R
    c = tl.arange(0, BLOCK)
    own, shorter = _direction(v, b * K + tl.load(k_star + b), c, C)
    other = (tl.load(previous + s) * R + b % R).to(tl.int32)
    before, _ = _direction(v, other * K + tl.load(k_star + other), c, C)
    other = (tl.load(following + s) * R + b % R).to(tl.int32)
    after, _ = _direction(v, other * K + tl.load(k_star + other), c, C)
    after *= tl.load(has_following + s)
    tl.store(value + b, tl.sum(own * after) * tl.load(weight + s))
    pull = before * tl.load(has_previous + s) + after
    pull -= own * tl.sum(pull * own)
    tl.store(gradient + b * C + c, pull * shorter * -tl.load(weight + s), mask=c < C)
