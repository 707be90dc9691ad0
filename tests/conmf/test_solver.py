"""The solver states its mathematics: the plain definition's iterates, invariances, planted truth, the door's errors."""

from dataclasses import replace

import pytest
import reference_conmf as reference
import torch

from taco.conmf import Anchors, CoNMF, CoNMFError, Initial, Projection, Settings
from taco.conmf.checks import _check_values
from taco.conmf.kmeans import kmeans
from taco.conmf.settings import stream
from taco.conmf.solver import _chunks, _draw

S, R, N, T, C, C_A, D, J, K = 4, 2, 30, 16, 24, 20, 28, 12, 4  # samples: two noisy, two planted
CLIPS = ["a", "a", "a", "b"]
KEYS = [f"set/{i}" for i in range(S)]
BASE = Settings(n_components=K, steps=200, halve_at=(60, 120), init="given", trace_every=1)


def draw(name, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=stream("test", name), dtype=dtype)


def make_anchors(dtype=torch.float64, scale=10.0):
    projection = Projection(
        draw("linear1", D, C_A, dtype=dtype) / C_A**0.5,
        draw("linear2", D, D, dtype=dtype) / D**0.5,
        draw("norm_weight", D, dtype=dtype).abs() + 0.5,
        draw("norm_bias", D, dtype=dtype) / 10,
    )
    return Anchors(draw("b_i", J, C, dtype=dtype), draw("b_a", J, D, dtype=dtype), scale, projection)


def planted(name, n, c, samples=S, dtype=torch.float64, noise=0.02):
    """Tokens that share K directions, each token near one of them."""
    directions = draw(f"{name} directions", samples, K, c, dtype=dtype).clamp(min=0)
    owner = torch.arange(n) % K
    return (directions[:, owner] + noise * draw(f"{name} noise", samples, n, c, dtype=dtype)).clamp(min=0)


def noisy(name, n, c, samples=S, dtype=torch.float64):
    return draw(name, samples, n, c, dtype=dtype).clamp(min=0)


@pytest.fixture(scope="module")
def anchors():
    return make_anchors()


@pytest.fixture(scope="module")
def tokens():
    """Image and audio tokens: half the samples pure noise, half near a planted factorization."""
    image = torch.cat([noisy("x_i", N, C, 2), planted("x_i", N, C, 2)])
    return image, torch.cat([noisy("x_a", T, C_A, 2), planted("x_a", T, C_A, 2)])


def start(dtype=torch.float64, samples=S, n=N, t=T):
    return Initial(
        draw("v_i", samples, K, C, dtype=dtype).abs(),
        draw("v_a", samples, K, C_A, dtype=dtype).abs(),
        draw("w_i", R, samples, n, K, dtype=dtype),
        draw("w_a", R, samples, t, K, dtype=dtype),
    )


def against_reference(anchors, settings, x_i, x_a, initial, clips=None):
    """Largest difference between solver and oracle over all outputs and, for the objective, all steps."""
    samples = len(x_i)
    result = CoNMF(settings, anchors).fit(x_i, x_a, KEYS[:samples], range(R), clips, initial)
    expected = reference.solve(
        x_i.repeat(R, 1, 1),
        x_a.repeat(R, 1, 1),
        initial.image_weights.flatten(0, 1),
        initial.audio_weights.flatten(0, 1),
        initial.image_factors.repeat(R, 1, 1),
        initial.audio_factors.repeat(R, 1, 1),
        anchors,
        settings,
        [(r, clip) for r in range(R) for clip in (clips or range(samples))],
    )
    assert torch.equal(result.k_star.flatten(), expected.pop("k_star"))
    worst = 0.0
    for name, value in expected.items():
        difference = (getattr(result, name).flatten(0, 1) - value).abs() / value.abs().clamp(min=1)
        worst = max(worst, float(difference.max()))
    return worst


# A smaller step or weight where the descent amplifies rounding, so that 200 steps can be compared at all.
CALM = {"learning_rate": 0.02, "beta_penalty": 2.0}
OPTIONS = {
    "default": {},
    "no-min": {"reduction": "mean"},
    "without component": {"descriptor": "factor", **CALM},
    "without component, no-min": {"descriptor": "factor", "reduction": "mean", **CALM},
    "without penalty": {"beta_penalty": 0.0},
    "penalty on audio": {"penalty_side": "audio", **CALM},
    "penalty on both": {"penalty_side": "both", **CALM},
    "both, no-min, without component": {
        "penalty_side": "both",
        "reduction": "mean",
        "descriptor": "factor",
        **CALM,
    },
    "temporal": {"beta_temporal": 1.0, **CALM},
    "temporal, once for a clip": {"beta_temporal": 3.0, "temporal_weight": "paper", **CALM},
    "temporal, without penalty": {"beta_temporal": 1.0, **CALM, "beta_penalty": 0.0},
    "squared": {"norm": "squared", "learning_rate": 1e-3},
    "weights": {"beta_image": 0.5, "beta_audio": 2.0},
    "no reconstruction": {"beta_image": 0.0, "beta_audio": 0.0},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_iterates_equal_the_plain_definition(option, anchors, tokens):
    settings = replace(BASE, **OPTIONS[option])
    assert against_reference(anchors, settings, *tokens, start(), CLIPS) < 1e-10


@pytest.mark.parametrize(
    "option", [{}, {"descriptor": "factor"}, {"beta_temporal": 1.0}, {"penalty_side": "both"}]
)
def test_first_steps_at_the_papers_weights_equal_the_plain_definition(option, anchors, tokens):
    settings = replace(BASE, steps=5, **option)
    assert against_reference(anchors, settings, *tokens, start(), CLIPS) < 1e-10


FILM = {"frames": 5, "clips": 2}


def film(anchors, rate=0.02, **options):
    """Two clips of five frames after one step: their tokens and start, and the result."""
    n = FILM["frames"] * FILM["clips"]
    x = planted("film", N, C, n), planted("film a", T, C_A, n)
    factors = (draw("film v_i", n, K, C).abs(), draw("film v_a", n, K, C_A).abs())
    initial = Initial(*factors, draw("film w_i", 1, n, N, K), draw("film w_a", 1, n, T, K))
    names = [clip for clip in range(FILM["clips"]) for _ in range(FILM["frames"])]
    settings = replace(BASE, steps=1, learning_rate=rate, **options)
    result = CoNMF(settings, anchors).fit(*x, [f"film/{i}" for i in range(n)], (0,), names, initial)
    return x, initial, result


@pytest.mark.parametrize("weight", ["release", "paper"])
def test_the_temporal_term_counts_as_its_weight_says(weight, anchors):
    """Against autograd on Eqs. 6 and 7; the release adds the number to the vector of the frames' objectives, and sums."""
    x, initial, result = film(anchors, rate=0.02, beta_temporal=1.0, temporal_weight=weight)
    v_i, v_a = (v.clone().requires_grad_() for v in initial[:2])
    start = initial.image_weights[0], initial.audio_weights[0], v_i, v_a
    _, k_star, _, _, _, by_frame = reference.objective(*x, *start, anchors, replace(BASE, beta_temporal=0.0))
    value = 0.0
    for part in torch.arange(len(k_star)).split(FILM["frames"]):
        chosen = [v[part, k_star[part]] for v in (v_i, v_a)]
        term = -sum(torch.cosine_similarity(row[:-1], row[1:], dim=1).sum() for row in chosen)
        frames = by_frame[part]
        value = value + ((frames + term).sum() if weight == "release" else frames.sum() + term)
    for found, start, gradient in zip(
        (result.image_factors, result.audio_factors), (v_i, v_a), torch.autograd.grad(value, (v_i, v_a))
    ):
        assert torch.allclose(found[0], (start - 0.02 * gradient).clamp(min=0), rtol=0, atol=1e-12)
    assert float(result.objective[0, :, 0].sum()) == pytest.approx(float(value), rel=1e-12)


def test_the_release_weighs_the_term_of_a_clip_once_for_each_of_its_frames(anchors):
    assert BASE.temporal_weight == "release"
    release, paper, without = (
        film(anchors, **options)[2].objective.sum()
        for options in ({"beta_temporal": 1.0}, {"beta_temporal": 1.0, "temporal_weight": "paper"}, {})
    )
    ratio = (release - without) / (paper - without)
    assert float(ratio) == pytest.approx(FILM["frames"], abs=1e-10)


def test_a_vanishing_residual_is_recomputed(anchors):
    """Started beside an exact factorization, where the Gram form of the residual has lost its digits."""
    initial = start()
    x_i = initial.image_weights[0].sigmoid() @ initial.image_factors
    x_a = initial.audio_weights[0].sigmoid() @ initial.audio_factors
    initial = Initial(initial.image_factors * 1.00001, initial.audio_factors * 1.00001, *initial[2:])
    initial.image_weights[1], initial.audio_weights[1] = initial.image_weights[0], initial.audio_weights[0]
    settings = replace(BASE, steps=1, learning_rate=1e-3)
    assert against_reference(anchors, settings, x_i, x_a, initial) < 1e-10


@pytest.mark.filterwarnings("ignore:co-NMF. the objective")
def test_residual_of_zero_has_no_gradient_but_the_penalty_has(anchors):
    """With W = 0 and V of whole numbers the factorization is exact in floating point too."""
    x_i = torch.ones(1, N, C, dtype=torch.float64)
    x_a = torch.ones(1, T, C_A, dtype=torch.float64)
    zero = Initial(
        torch.full((1, K, C), 2.0 / K, dtype=torch.float64),
        torch.full((1, K, C_A), 2.0 / K, dtype=torch.float64),
        torch.zeros(R, 1, N, K, dtype=torch.float64),
        torch.zeros(R, 1, T, K, dtype=torch.float64),
    )
    result = CoNMF(replace(BASE, steps=1), anchors).fit(x_i, x_a, ["x"], range(R), initial=zero)
    assert result.reconstruction_image.max() == 0
    assert torch.equal(result.image_factors[0], zero.image_factors)
    assert against_reference(anchors, replace(BASE, steps=3), x_i, x_a, zero) < 1e-9


def test_all_zero_audio_gives_zero_factors_and_chance_descriptors(anchors, tokens):
    x_i, x_a = tokens[0][:1], torch.zeros(1, T, C_A, dtype=torch.float64)
    result = CoNMF(replace(BASE, init="kmeans", steps=30), anchors).fit(x_i, x_a, ["x"], range(R))
    assert result.audio_factors.abs().max() == 0
    assert result.reconstruction_audio.max() == 0
    # A uniform target: CE = logsumexp(s) - mean(s).
    u = result.image_activations[:, 0]
    s, _ = reference.descriptors(u.transpose(1, 2) @ x_i[0] / N, torch.zeros(R, K, C_A).double(), anchors)
    chance = s.logsumexp(-1) - s.mean(-1)
    assert torch.allclose(result.cross_entropy[:, 0], chance, atol=1e-12)


@pytest.mark.filterwarnings("ignore:co-NMF. the objective")
def test_a_zero_factor_row_has_cosine_zero_and_stays_finite(anchors, tokens):
    initial = start()
    initial.image_factors[:, 0] = 0
    initial.audio_factors[:, 1] = 0
    settings = replace(BASE, descriptor="factor", beta_temporal=1.0, steps=5, **CALM)
    assert against_reference(anchors, settings, *tokens, initial, CLIPS) < 1e-10


@pytest.mark.parametrize(
    "option", ["default", "no-min", "without component", "penalty on both", "temporal", "squared"]
)
def test_float32_reaches_the_float64_objective_after_1800_steps(option, anchors):
    """Mid-size, with noise enough that the descent settles: near a zero residual a step of 0.25 never does."""
    x_i = 3 * torch.cat([planted("mid", 96, 48, 1, noise=0.5), noisy("mid", 96, 48, 1)])
    x_a = 3 * torch.cat([planted("mid a", 32, C_A, 1, noise=0.5), noisy("mid a", 32, C_A, 1)])
    anchors = replace(anchors, image=draw("mid b_i", J, 48))
    small = {"learning_rate": 1e-4} if option == "squared" else {}
    settings = Settings(n_components=K, trace_every=1799, **OPTIONS[option] | small)
    exact = CoNMF(settings, anchors).fit(x_i, x_a, KEYS[:2], (0,), CLIPS[:2])
    fast = CoNMF(settings, anchors).fit(x_i.float(), x_a.float(), KEYS[:2], (0,), CLIPS[:2])
    relative = (fast.objective[..., -1].double() / exact.objective[..., -1] - 1).abs()
    assert exact.objective_steps[-1] == 1799
    assert relative.max() < 1e-4
    margin = exact.cross_entropy.sort(2).values
    clear = margin[..., 1] - margin[..., 0] > 1e-4
    assert clear.any() and torch.equal(fast.k_star[clear], exact.k_star[clear])


def test_result_does_not_depend_on_batch_order_company_or_seeds(anchors, tokens):
    x_i, x_a = tokens
    settings = replace(BASE, init="kmeans", steps=60, batch_size=4)
    whole = CoNMF(settings, anchors).fit(x_i, x_a, KEYS, (0, 1))
    alone = CoNMF(settings, anchors).fit(x_i[2:3], x_a[2:3], KEYS[2:3], (1,))
    order = [3, 2, 0, 1]
    shuffled = CoNMF(replace(settings, batch_size=3), anchors).fit(
        x_i[order], x_a[order], [KEYS[i] for i in order], (1, 0)
    )
    for name in ("image_activations", "audio_factors", "cross_entropy", "objective"):
        value = getattr(whole, name)
        assert torch.allclose(getattr(alone, name)[0, 0], value[1, 2], atol=1e-10), name
        assert torch.allclose(getattr(shuffled, name), value[[1, 0]][:, order], atol=1e-10), name


def test_clips_without_the_temporal_term_may_lie_in_any_order(anchors, tokens):
    solver = CoNMF(replace(BASE, init="kmeans", steps=3), anchors)
    mixed = solver.fit(*tokens, KEYS, (0,), ["a", "b", "a", "b"])
    assert torch.equal(mixed.image_factors, solver.fit(*tokens, KEYS, (0,)).image_factors)


@pytest.mark.parametrize(
    ("samples", "size", "expected"),
    [
        (61, 20, [15, 15, 16, 15]),
        (61, 16, [15, 15, 16, 15]),
        (40, 20, [20, 20]),
        (3, 2, [3]),
        (5, 2, [3, 2]),
        (3, 1, [1, 1, 1]),
        (1, 20, [1]),
    ],
)
def test_batches_are_filled_evenly(samples, size, expected):
    chunks = _chunks([[i] for i in range(samples)], size)
    assert sorted(map(len, chunks)) == sorted(expected)
    assert [i for chunk in chunks for unit in chunk for i in unit] == list(range(samples))


@pytest.mark.parametrize("size", [2, 3, 7, 20, 64])
def test_batches_hold_whole_clips_and_never_one_sample_beside_others(size):
    generator = stream("test", "clips", size)
    for lengths in (
        [5] * 37,
        [1, 5, 1],
        [10, 1, 10],
        *torch.randint(1, 11, (20, 9), generator=generator).tolist(),
    ):
        ends = torch.tensor(lengths).cumsum(0).tolist()
        units = [list(range(end - length, end)) for end, length in zip(ends, lengths)]
        chunks = _chunks(units, size)
        assert [unit for chunk in chunks for unit in chunk] == units
        filled = [sum(map(len, chunk)) for chunk in chunks]
        assert min(filled) > 1 and max(filled) < size + max(lengths) + 1
        if len(set(lengths)) == 1:
            assert max(filled) <= max(size, lengths[0])


def test_clips_keep_together_and_do_not_touch_each_other(anchors, tokens):
    x_i, x_a = tokens
    settings = replace(BASE, init="kmeans", steps=40, beta_temporal=1.0, batch_size=1, **CALM)
    whole = CoNMF(settings, anchors).fit(x_i, x_a, KEYS, (0,), CLIPS)
    first = CoNMF(settings, anchors).fit(x_i[:3], x_a[:3], KEYS[:3], (0,), CLIPS[:3])
    apart = CoNMF(settings, anchors).fit(x_i, x_a, KEYS, (0,), range(S))
    assert torch.allclose(whole.image_factors[:, :3], first.image_factors, atol=1e-10)
    assert torch.allclose(whole.image_factors[:, 3], apart.image_factors[:, 3], atol=1e-10)
    assert not torch.allclose(whole.image_factors[:, :3], apart.image_factors[:, :3], atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_repeat_is_bit_identical_with_threads_and_leaves_the_global_generator(batch_size, anchors, tokens):
    x_i, x_a = (x.float() for x in tokens)
    settings = replace(BASE, init="kmeans", steps=20, batch_size=batch_size)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    one = CoNMF(settings, anchors).fit(x_i, x_a, KEYS, (0, 1))
    torch.set_num_threads(2)
    try:
        two = CoNMF(settings, anchors).fit(x_i, x_a, KEYS, (0, 1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)
    for name in ("image_activations", "image_factors", "objective", "cross_entropy"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name


def test_different_token_counts_solve_as_if_alone(anchors, tokens):
    x_i, x_a = tokens
    image, audio = [x_i[0], x_i[1, :21], x_i[2, :25]], [x_a[0, :9], x_a[1], x_a[2, :12]]
    settings = replace(BASE, init="kmeans", steps=60, batch_size=3)
    together = CoNMF(settings, anchors).fit(image, audio, KEYS[:3], (0, 1))
    for i in range(3):
        alone = CoNMF(settings, anchors).fit([image[i]], [audio[i]], [KEYS[i]], (0, 1))
        n, t = len(image[i]), len(audio[i])
        assert torch.allclose(together.image_activations[:, i, :n], alone.image_activations[:, 0], atol=1e-10)
        assert torch.allclose(together.audio_activations[:, i, :t], alone.audio_activations[:, 0], atol=1e-10)
        assert torch.allclose(together.image_factors[:, i], alone.image_factors[:, 0], atol=1e-10)
        assert torch.allclose(together.cross_entropy[:, i], alone.cross_entropy[:, 0], atol=1e-10)
        assert together.image_activations[:, i, n:].abs().sum() == 0


def test_checkpoints_equal_shorter_runs(anchors, tokens):
    settings = replace(BASE, init="kmeans", steps=30, checkpoints=(1, 12, 30), trace_every=5)
    whole = CoNMF(settings, anchors).fit(*tokens, KEYS, (0, 1))
    for steps in (1, 12, 30):
        short = CoNMF(replace(settings, steps=steps, checkpoints=()), anchors).fit(*tokens, KEYS, (0, 1))
        kept = whole.checkpoints[steps]
        for name in ("image_activations", "image_factors", "k_star", "cross_entropy", "n_steps", "objective"):
            assert torch.equal(getattr(kept, name), getattr(short, name)), (steps, name)
        assert kept.objective_steps == short.objective_steps
    assert torch.equal(whole.checkpoints[30].image_factors, whole.image_factors)


def test_early_stop_keeps_the_state_of_its_step(anchors, tokens):
    """Each (sample, seed) stops on its own, with the result of a run of just that many steps."""
    settings = replace(
        BASE, init="kmeans", norm="squared", learning_rate=2e-3, steps=1000, halve_at=(), trace_every=25
    )
    settings = replace(settings, tolerance=0.02, patience=50, checkpoints=(100, 1000))
    stopped = CoNMF(settings, anchors).fit(*tokens, KEYS, (0, 1))
    assert stopped.n_steps.max() < 1000
    assert len(stopped.n_steps.unique()) > 1
    assert stopped.objective.shape[2] == 40
    for r, s in ((0, 0), (1, 3)):
        steps = int(stopped.n_steps[r, s])
        plain = replace(settings, tolerance=None, steps=steps, checkpoints=())
        short = CoNMF(plain, anchors).fit(*(x[s : s + 1] for x in tokens), [KEYS[s]], (r,))
        assert torch.allclose(stopped.image_factors[r, s], short.image_factors[0, 0], atol=1e-9)
        assert torch.allclose(stopped.image_activations[r, s], short.image_activations[0, 0], atol=1e-9)
        at = (steps - 1) // 25
        assert torch.allclose(stopped.objective[r, s, at:], short.objective[0, 0, -1], atol=1e-9)
        assert torch.equal(stopped.checkpoints[1000].image_factors[r, s], stopped.image_factors[r, s])


def test_the_frames_of_a_clip_stop_together(anchors, tokens):
    settings = replace(
        BASE, init="kmeans", beta_temporal=1.0, steps=600, trace_every=0, tolerance=0.01, **CALM
    )
    result = CoNMF(settings, anchors).fit(*tokens, KEYS, (0, 1), CLIPS)
    assert result.n_steps.max() < 600
    assert torch.equal(result.n_steps[:, 0], result.n_steps[:, 1])
    assert torch.equal(result.n_steps[:, 0], result.n_steps[:, 2])


def test_objective_falls_under_small_steps(anchors, tokens):
    settings = replace(BASE, init="kmeans", learning_rate=1e-3, halve_at=(), steps=150)
    objective = CoNMF(settings, anchors).fit(*tokens, KEYS, (0, 1)).objective
    assert (objective.diff(dim=2) <= 1e-12).all()


def test_activations_and_factors_keep_their_ranges(anchors, tokens):
    result = CoNMF(replace(BASE, init="kmeans"), anchors).fit(*tokens, KEYS, (0, 1))
    for u in (result.image_activations, result.audio_activations):
        assert ((u > 0) & (u < 1)).all()
    for v in (result.image_factors, result.audio_factors):
        assert (v >= 0).all() and (v == 0).any()
    assert torch.equal(result.k_star, result.cross_entropy.argmin(2))


def test_permuted_factors_give_permuted_results(anchors, tokens):
    order = torch.tensor([2, 0, 3, 1])
    initial = start()
    permuted = Initial(*(t[:, order] for t in initial[:2]), *(t[..., order] for t in initial[2:]))
    settings = replace(BASE, steps=60)
    one = CoNMF(settings, anchors).fit(*tokens, KEYS, (0, 1), initial=initial)
    two = CoNMF(settings, anchors).fit(*tokens, KEYS, (0, 1), initial=permuted)
    assert torch.allclose(two.image_factors, one.image_factors[:, :, order], atol=1e-9)
    assert torch.allclose(two.cross_entropy, one.cross_entropy[:, :, order], atol=1e-9)
    assert torch.equal(order[two.k_star], one.k_star)


def test_scaled_tokens_without_penalty_scale_the_gradient(anchors, tokens):
    """‖R‖ is homogeneous: with X and V scaled by q, the first step moves W by q times as much, V the same way."""
    x_i, x_a = tokens
    settings = replace(BASE, steps=1, beta_penalty=0.0, learning_rate=1e-3)
    initial = start()
    scaled = initial._replace(
        image_factors=3 * initial.image_factors, audio_factors=3 * initial.audio_factors
    )
    one = CoNMF(settings, anchors).fit(x_i, x_a, KEYS, (0, 1), initial=initial)
    two = CoNMF(settings, anchors).fit(3 * x_i, 3 * x_a, KEYS, (0, 1), initial=scaled)
    assert torch.allclose(two.reconstruction_image, 3 * one.reconstruction_image)
    moved = [r.image_factors - v.image_factors for r, v in ((one, initial), (two, scaled))]
    inside = (one.image_factors > 0) & (two.image_factors > 0)
    assert torch.allclose(moved[0][inside], moved[1][inside], atol=1e-9)


def test_planted_factors_are_recovered(anchors):
    """X = U V with V of disjoint supports and U near one-hot has one factorization, up to scale and order."""
    sides = []
    for n, c in ((40, C), (T, C_A)):
        v = torch.block_diag(*torch.ones(K, 1, c // K)) * (draw("planted v", 2, K, c).abs() + 0.2)
        u = torch.full((n, K), 0.02, dtype=torch.float64)
        u[torch.arange(n), torch.arange(n) % K] = 0.9
        sides.append((u @ v, v))
    (x_i, v_i), (x_a, _) = sides
    settings = Settings(n_components=K, beta_penalty=0.0, steps=1500, halve_at=(800, 1000, 1200, 1400))
    result = CoNMF(settings, anchors).fit(x_i, x_a, KEYS[:2], (0, 1))
    found = torch.nn.functional.normalize(result.image_factors, dim=3)
    cosines = found @ torch.nn.functional.normalize(v_i, dim=2).transpose(1, 2)
    assert cosines.amax(2).min() > 0.999
    assert torch.equal(cosines.argmax(2).sort(2).values, torch.arange(K).expand(2, 2, K))
    assert (result.reconstruction_image / x_i.flatten(1).norm(dim=1)).max() < 0.05


def test_kmeans_finds_planted_clusters_of_least_inertia():
    centres = torch.tensor([[0.0, 0], [10, 0], [0, 10]])
    points = centres.repeat(20, 1) + 0.1 * draw("points", 60, 2, dtype=torch.float32)
    found = kmeans(points[None], torch.tensor([60]), ["x"], 3)[0]
    expected = torch.stack([points[i::3].mean(0) for i in range(3)])
    assert torch.cdist(expected, found).amin(1).max() < 1e-5


def plain_kmeans(x, uniforms):
    """Centres of least inertia of one sample, by the definition, one start after the other."""
    best = None
    for u in uniforms.double():
        weight, centres = torch.ones(len(x)).double(), []
        for k in range(uniforms.shape[1]):
            centres.append(x[int((weight.cumsum(0) <= u[k] * weight.sum()).sum())])
            weight = torch.cdist(x, torch.stack(centres)).amin(1).square()
        centres = torch.stack(centres)
        for _ in range(100):
            label = torch.cdist(x, centres).argmin(1)
            means = [x[label == k].mean(0) if (label == k).any() else centres[k] for k in range(len(centres))]
            moved = (torch.stack(means) - centres).norm(dim=1).max()
            centres = torch.stack(means)
            if moved < 1e-4:
                break
        inertia = torch.cdist(x, centres).amin(1).square().sum()
        if best is None or inertia < best[0] * (1 - 1e-6):
            best = inertia, centres
    return best[1]


def test_kmeans_equals_the_plain_definition():
    x = noisy("kmeans", 40, 8, samples=2)
    found = kmeans(x, torch.tensor([40, 33]), ["a", "b"], 5)
    for i, (key, n) in enumerate((("a", 40), ("b", 33))):
        uniforms = torch.rand(8, 5, generator=stream(0, key))
        assert torch.allclose(found[i], plain_kmeans(x[i, :n], uniforms), atol=1e-8)


def test_kmeans_with_fewer_distinct_tokens_than_clusters_and_padding():
    tokens = torch.zeros(2, 9, 3)
    tokens[0, :5] = torch.tensor([1.0, 2, 3])
    tokens[1, :, 0] = torch.arange(9) % 2
    found = kmeans(tokens, torch.tensor([5, 9]), ["a", "b"], 4)
    assert torch.equal(found[0], torch.tensor([1.0, 2, 3]).expand(4, 3))
    assert found[1, :, 1:].abs().max() == 0 and set(found[1, :, 0].tolist()) == {0.0, 1.0}


def test_start_of_v_is_shared_by_variants_and_can_be_given(anchors, tokens):
    settings = replace(BASE, init="kmeans", steps=10)
    start = CoNMF(replace(settings, reduction="mean"), anchors).initial_factors
    initial = Initial(start(tokens[0], KEYS, "image"), start(tokens[1], KEYS, "audio"))
    given = CoNMF(replace(settings, init="given"), anchors).fit(*tokens, KEYS, (0, 1), initial=initial)
    own = CoNMF(settings, anchors).fit(*tokens, KEYS, (0, 1))
    assert torch.equal(given.image_factors, own.image_factors)
    start = CoNMF(replace(settings, init="random_tokens"), anchors).initial_factors
    for x, side in zip(tokens, ("image", "audio"), strict=True):
        for found, rows in zip(start(x, KEYS, side), x, strict=True):
            assert (found[:, None] == rows).all(2).any(1).all()


def test_half_precision_is_computed_in_float32(anchors, tokens):
    x_i, x_a = (x.half() for x in tokens)
    settings = replace(BASE, init="kmeans", steps=10)
    half = CoNMF(settings, anchors).fit(x_i, x_a, KEYS, (0,))
    full = CoNMF(settings, anchors).fit(x_i.float(), x_a.float(), KEYS, (0,))
    assert half.image_factors.dtype == torch.float32
    assert torch.equal(half.image_factors, full.image_factors)
    mixed = CoNMF(settings, anchors).fit([x_i[0], *x_i[1:].float()], x_a, KEYS, (0,))
    assert torch.equal(mixed.image_factors, full.image_factors)


def test_progress_counts_every_sample(anchors, tokens):
    done = []
    CoNMF(replace(BASE, init="kmeans", steps=2, batch_size=3), anchors).fit(
        *tokens, KEYS, (0,), progress=done.append
    )
    assert sum(done) == S


def test_divergence_is_an_error_and_a_risen_objective_a_warning(anchors, tokens):
    settings = replace(BASE, norm="squared", learning_rate=1e300, init="kmeans", steps=5)
    with pytest.raises(CoNMFError, match="smaller learning_rate"):
        CoNMF(settings, anchors).fit(*tokens, KEYS, (0,))
    settings = replace(settings, learning_rate=1e3)
    with pytest.warns(RuntimeWarning, match="4 of 4 .* smaller learning_rate"):
        CoNMF(settings, anchors).fit(*tokens, KEYS, (0,))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"norm": "squared"}, "learning_rate"),
        ({"norm": "l1"}, "norm: expected one of frobenius, squared"),
        ({"reduction": "max"}, "reduction"),
        ({"descriptor": "token"}, "descriptor"),
        ({"penalty_side": "left"}, "penalty_side"),
        ({"init": "svd"}, "init"),
        ({"n_components": 0}, "n_components"),
        ({"steps": 0}, "steps"),
        ({"beta_penalty": -1.0}, "beta_penalty"),
        ({"beta_image": float("nan")}, "beta_image"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": "large"}, "batch_size"),
        ({"checkpoints": (0,)}, "checkpoints"),
        ({"checkpoints": (2000,)}, "checkpoints"),
        ({"tolerance": -1.0}, "tolerance"),
    ],
)
def test_settings_refuse(option, message):
    with pytest.raises(CoNMFError, match=message):
        Settings(**option)


def spoil(x, value, *index):
    x = x.clone()
    x[index] = value
    return x


def test_half_precision_is_checked_as_it_is():
    """Infinity, NaN, a sign and zeros are seen without a copy in float32; minus zero is no negative number."""
    tiny = 2.0**-24  # the least positive half
    good = torch.tensor([[0.0, -0.0], [tiny, 65504.0]]).half()
    _check_values("image", [good], Settings(n_components=2))
    for value, message in (
        (float("inf"), "samples 1 are not finite"),
        (float("-inf"), "samples 1 are not finite"),
        (float("nan"), "samples 1 are not finite"),
        (-tiny, "samples 1 have negative"),
    ):
        with pytest.raises(CoNMFError, match=message):
            _check_values("image", [good, spoil(good, value, 1, 0)], Settings(n_components=2))
    with pytest.raises(CoNMFError, match="samples 0 are all zero"):
        _check_values("image", [torch.zeros(2, 2).half(), good], Settings(n_components=2))


def test_weights_are_normal_numbers_of_their_own_stream():
    """Token after token; zero behind a sample's last one. Whoever draws W must draw these numbers."""
    weights = _draw(["a", "b"], (0, 7), torch.tensor([5, 3]), 5, 4, "image")
    assert weights.shape == (2, 2, 5, 4)
    for i, (key, n) in enumerate((("a", 5), ("b", 3))):
        for r, seed in enumerate((0, 7)):
            assert torch.equal(weights[i, r, :n], torch.randn(n, 4, generator=stream(seed, key, "image")))
            assert (weights[i, r, n:] == 0).all()


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (lambda i, a: (spoil(i, -1.0, 2, 0, 0), a, KEYS), "image tokens: samples 2 have negative"),
        (lambda i, a: (i, spoil(a, float("nan"), 1, 0, 0), KEYS), "audio tokens: samples 1 are not finite"),
        (lambda i, a: (spoil(i, 0.0, 3), a, KEYS), "image tokens: samples 3 are all zero"),
        (lambda i, a: (i[..., :-1], a, KEYS), "image tokens: expected matrices with 24 columns"),
        (lambda i, a: (i, a[:3], KEYS), "as many images as sounds"),
        (lambda i, a: (i[:, : K - 1], a, KEYS), "fewer tokens than n_components"),
        (lambda i, a: (i, a, KEYS[:3]), "keys: expected 4"),
        (lambda i, a: (i, a, ["x"] * 4), "keys: expected 4"),
        (lambda i, a: ([], [], []), "at least one sample"),
    ],
)
def test_tokens_and_names_are_checked(spoilt, message, anchors, tokens):
    with pytest.raises(CoNMFError, match=message):
        CoNMF(replace(BASE, init="kmeans"), anchors).fit(*spoilt(*tokens))


def test_seeds_clips_and_start_are_checked(anchors, tokens):
    x = tokens
    solver = CoNMF(replace(BASE, init="kmeans", beta_temporal=1.0), anchors)
    with pytest.raises(CoNMFError, match="seeds"):
        solver.fit(*x, KEYS, (0, 0), CLIPS)
    with pytest.raises(CoNMFError, match="clips: expected the clip"):
        solver.fit(*x, KEYS)
    with pytest.raises(CoNMFError, match="consecutive"):
        solver.fit(*x, KEYS, clips=["a", "b", "a", "b"])
    with pytest.raises(CoNMFError, match="clips: expected one per sample"):
        CoNMF(replace(BASE, init="kmeans"), anchors).fit(*x, KEYS, clips=["a"])
    with pytest.raises(CoNMFError, match="expects no given start"):
        solver.fit(*x, KEYS, (0, 1), CLIPS, initial=start())
    given = CoNMF(BASE, anchors)
    with pytest.raises(CoNMFError, match="expects a given start"):
        given.fit(*x, KEYS)
    with pytest.raises(CoNMFError, match="image_factors: expected \\[4, 4, 24\\]"):
        given.fit(*x, KEYS, (0, 1), initial=start(samples=3))
    with pytest.raises(CoNMFError, match="non-negative"):
        given.fit(*x, KEYS, (0, 1), initial=start()._replace(image_factors=-start().image_factors))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: replace(a, image=spoil(a.image, 0.0, 3)), "anchors.image: rows 3 are all zero"),
        (lambda a: replace(a, audio=a.audio[:-1]), "same word bank"),
        (lambda a: replace(a, audio=spoil(a.audio, float("inf"), 0, 0)), "anchors.audio: expected a finite"),
        (lambda a: replace(a, scale=0.0), "scale"),
        (lambda a: replace(a, projection=a.projection._replace(linear2=a.image)), "projection: expected"),
    ],
)
def test_anchors_are_checked(change, message, anchors):
    with pytest.raises(CoNMFError, match=message):
        CoNMF(BASE, change(anchors))
