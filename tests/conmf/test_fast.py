"""Fast steps equal the plain ones: on a GPU where there is one, else in Triton's interpreter, against float64."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch

pytest.importorskip("triton")

from taco.bench.problems import SIZES, Size, problem
from taco.conmf import CoNMF, Settings, descent, fast
from taco.conmf.descent import Runner, descend, make_step
from taco.conmf.halves import constants_of, split, terms_of
from taco.conmf.settings import stream
from taco.conmf.solver import _prepare

# The interpreter's own; numpy's wish to it.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SIZE = Size(70, 128, 20, 64, 9, 64, k=3)  # neither tokens nor labels nor factors fill their tiles
KEYS = ["a", "b", "c"]
BASE = Settings(n_components=3, init="random_tokens", beta_penalty=20.0, fast=True)


@pytest.fixture(autouse=True)
def one_thread():
    """Triton's interpreter serves one thread at a time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def data(size=SIZE, samples=3):
    """Tokens that halves hold exactly, the last sample's fewer; anchors."""
    image, audio, anchors = problem(size, samples)
    image, audio = image.half(), audio.half()
    return [*image[:-1], image[-1, :-7]], [*audio[:-1], audio[-1, :-3]], anchors


def plain(settings, tokens, dtype, seeds=(0, 1), units=None):
    """A plain step at its start, and its prepared anchors."""
    image, audio, anchors = tokens
    units = units or [[i] for i in range(len(image))]
    solver = CoNMF(settings, anchors, DEVICE)
    batch = solver._batch(units, image, audio, KEYS[: len(image)], seeds, None, dtype)
    prepared = _prepare(anchors, dtype, DEVICE)
    return make_step(batch, settings, prepared), prepared


def both(settings, tokens, **options):
    """The plain step in float64, and the fast one."""
    exact, _ = plain(settings, tokens, torch.float64, **options)
    step, prepared = plain(settings, tokens, torch.float32, **options)
    return exact, fast.make(settings, constants_of(prepared), None, step)


def relative(found, expected, over=None):
    scale = expected if over is None else expected - over
    return float((found.double().flatten() - expected.flatten()).norm() / scale.norm())


@pytest.mark.parametrize(
    "option",
    [{}, {"beta_temporal": 1.0}, {"beta_penalty": 0.0, "beta_image": 0.5, "beta_audio": 2.0}],
    ids=["default", "temporal", "weights"],
)
def test_steps_equal_the_plain_ones_in_float64(option):
    """Two of them, so that what one leaves for the next is seen too."""
    settings = replace(BASE, **option)
    exact, quick = both(settings, data(), units=[[0, 1], [2]])
    quick.load()
    for rate in (0.25, 0.125):
        exact.forward(guarded=False)
        before = [t.clone() for side in (exact.image, exact.audio) for t in (side.u, side.v)]
        objective = exact.objective()
        exact.update(torch.tensor(rate, dtype=torch.float64, device=DEVICE))
        assert quick.advance(5, rate) == 1
        assert torch.equal(quick.k_star.long(), exact.k_star)
        assert relative(quick.ce, exact.penalty.cross_entropy) < 1e-6
        assert relative(quick.objective(), objective) < 1e-6
        quick.store()
        for side, state, old in zip(("image", "audio"), (quick.image, quick.audio), (before[:2], before[2:])):
            expected = getattr(exact, side)
            assert relative(state.square, expected.square) < 1e-5
            # float32 holds W and V to 6e-8, and a step moves them by some thousandths
            assert relative(state.plain.u, expected.u, over=old[0]) < 5e-5
            assert relative(state.plain.v, expected.v, over=old[1]) < 5e-5
            assert ((state.plain.u > 0) == (expected.u > 0)).all()  # padding stays


@pytest.mark.parametrize("case", ["zero audio", "one seed", "five factors, three seeds"])
def test_other_shapes_and_a_silent_sound(case):
    if case == "zero audio":
        settings, (image, audio, anchors), seeds = BASE, data(samples=2), (0,)
        audio[0].zero_()
    else:
        k, seeds = (3, (0,)) if case == "one seed" else (5, (0, 1, 2))
        settings = replace(BASE, n_components=k)
        image, audio, anchors = data(replace(SIZE, k=k), samples=1)
    exact, quick = both(settings, (image, audio, anchors), seeds=seeds)
    quick.load()
    exact.forward(guarded=False)
    exact.update(torch.tensor(0.25, dtype=torch.float64, device=DEVICE))
    quick.advance(1, 0.25)
    quick.store()
    assert relative(quick.ce, exact.penalty.cross_entropy) < 1e-6
    for side, state in ((exact.image, quick.image), (exact.audio, quick.audio)):
        torch.testing.assert_close(state.plain.u.double(), side.u, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(state.plain.v.double(), side.v, atol=1e-5, rtol=1e-5)


def test_a_step_at_the_papers_size_equals_the_plain_one_in_float64():
    """All tiles and loops as a GPU has them; one sample, as the interpreter is slow."""
    settings = replace(BASE, n_components=8, beta_penalty=125.0)
    image, audio, anchors = problem(SIZES["paper"], 1)
    exact, quick = both(settings, (image.half(), audio.half(), anchors), seeds=(0,))
    quick.load()
    exact.forward(guarded=False)
    before = [t.clone() for side in (exact.image, exact.audio) for t in (side.w, side.v)]
    exact.update(torch.tensor(0.25, dtype=torch.float64, device=DEVICE))
    quick.advance(1, 0.25)
    quick.store()
    assert relative(quick.ce, exact.penalty.cross_entropy) < 1e-6
    after = [t for side in (exact.image, exact.audio) for t in (side.w, side.v)]
    found = [t for side in (quick.image.plain, quick.audio.plain) for t in (side.w, side.v)]
    for a, b, old in zip(found, after, before):
        assert relative(a, b, over=old) < 1e-5


def accelerated(monkeypatch, calls=None):
    """Fast steps also on a CPU; ``calls`` counts the steps."""

    def accelerate(self, prepared, capture):
        if calls is not None:
            advance = fast.Fast.advance

            def counted(self, *arguments):
                calls.append(advance(self, *arguments))
                return calls[-1]

            monkeypatch.setattr(fast.Fast, "advance", counted)
        return partial(fast.make, self.settings, constants_of(prepared), capture)

    monkeypatch.setattr(CoNMF, "_accelerate", accelerate)


def test_a_run_equals_the_one_in_float64(monkeypatch):
    """Trace, a checkpoint in between, a halving, different token counts, clips: all that surrounds the steps."""
    image, audio, anchors = data(samples=2)
    settings = replace(BASE, steps=12, trace_every=3, checkpoints=(5,), halve_at=(7,), beta_temporal=0.5)
    calls = []
    exact = CoNMF(settings, anchors).fit(
        [x.double() for x in image], [x.double() for x in audio], KEYS[:2], (0,), ["x", "x"]
    )
    accelerated(monkeypatch, calls)
    found = CoNMF(settings, anchors, DEVICE).fit(image, audio, KEYS[:2], (0,), ["x", "x"])
    assert sum(calls) == 12 - 3  # the first step, the checkpoint's and the last are plain
    assert found.objective_steps == exact.objective_steps
    assert torch.equal(found.k_star, exact.k_star)
    for name in ("image_activations", "audio_activations", "image_factors", "audio_factors", "objective"):
        for a, b in ((found, exact), (found.checkpoints[5], exact.checkpoints[5])):
            assert relative(getattr(a, name), getattr(b, name)) < 1e-5, name


def test_what_the_kernels_do_not_know_takes_plain_steps():
    tokens = data(samples=1)
    for option in (
        {"reduction": "mean"},
        {"descriptor": "factor"},
        {"penalty_side": "both"},
        {"norm": "squared", "learning_rate": 1e-3},
    ):
        assert both(replace(BASE, **option), tokens)[1] is None
    assert both(BASE, tokens, seeds=range(22))[1] is None  # 66 columns
    image, audio, anchors = tokens
    assert both(BASE, ([image[0].float() * 1.0001], audio, anchors))[1] is None  # no halves
    step, prepared = plain(BASE, tokens, torch.float64)
    assert fast.make(BASE, constants_of(prepared), None, step) is None


class Counting:
    """Stands for fast steps: the plain step's own, counted."""

    at_once = 10

    def __init__(self, step, near=10**6):
        self.step, self.near, self.made, self.loads, self.looks = step, near, [], 0, []

    def load(self):
        self.loads += 1
        self.looks.append(len(self.made))  # the plain step's residuals are looked at

    def store(self):
        pass

    def advance(self, most, rate):
        count = self.at_once if most >= self.at_once else 1
        for _ in range(count):
            self.step.forward()
            self.value = self.step.objective()
            self.step.update(torch.tensor(rate, dtype=self.step.image.x.dtype))
        self.made += [rate] * count
        return count

    def objective(self):
        return self.value

    def cancelled(self, guard):
        assert guard == self.step.guard * descent.LOOK_MARGIN
        self.looks.append(len(self.made))
        return len(self.made) >= self.near


@pytest.mark.parametrize("near", [10**6, 20], ids=["to the end", "left near the guard"])
def test_the_schedule_holds_across_graphs_of_ten_steps(near):
    """The size of every step, looks at the residuals at least every 25 steps, and the plain result."""
    settings = replace(
        BASE, steps=93, halve_at=(17, 40), trace_every=20, checkpoints=(64,), learning_rate=0.01
    )
    tokens = data(samples=2)
    solver = CoNMF(settings, tokens[2])

    def batch():
        return solver._batch([[0], [1]], *tokens[:2], KEYS[:2], (0,), None, torch.float64)

    prepared = _prepare(tokens[2], torch.float64, torch.device("cpu"))
    made = []

    def accelerate(step):
        made.append(Counting(step, near))
        return made[0]

    expected, _ = descend(batch(), settings, prepared)
    found, _ = descend(batch(), settings, prepared, None, accelerate)
    for name in ("image_activations", "image_factors", "objective", "cross_entropy"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert torch.equal(found.checkpoints[64].image_factors, expected.checkpoints[64].image_factors)
    if near == 20:
        assert len(made[0].made) < 45
        return
    rates = [settings.rate(i) for i in range(settings.steps)]
    assert made[0].made == rates[1:63] + rates[64:92]
    assert made[0].loads == 2  # at the start and after the checkpoint: a trace needs no change of hands
    assert max(b - a for a, b in pairwise([*made[0].looks, len(rates)])) <= descent.LOOK_EVERY


def test_a_residual_near_the_guard_is_seen(monkeypatch):
    """Beside an exact factorization the kernels' own residual tells."""
    settings = replace(BASE, beta_penalty=0.0)
    image, audio = torch.ones(1, 64, 64).half(), torch.ones(1, 64, 64).half()
    _, _, anchors = problem(Size(64, 64, 64, 64, 9, 64, k=3), 1)
    step, prepared = plain(settings, (image, audio, anchors), torch.float32, seeds=(0,))
    for side in (step.image, step.audio):
        side.w.zero_()
        side.u.fill_(0.5)
        side.v.fill_(0.6)
    quick = fast.make(settings, constants_of(prepared), None, step)
    quick.load()
    quick.advance(1, 1e-6)
    assert relative(quick.image.square, torch.tensor([64.0 * 64 * 0.01])) < 1e-4
    assert quick.cancelled(0.011) and not quick.cancelled(0.009)


def test_state_survives_the_change_of_hands():
    step, prepared = plain(BASE, data(), torch.float32)
    before = [t.clone() for side in (step.image, step.audio) for t in (side.w, side.u, side.v)]
    quick = fast.make(BASE, constants_of(prepared), None, step)
    quick.load()
    for side in (step.image, step.audio):
        side.w.zero_()
        side.v.zero_()
    quick.store()
    after = [t for side in (step.image, step.audio) for t in (side.w, side.u, side.v)]
    assert all(torch.equal(a, b) for a, b in zip(after, before))


def test_two_halves_hold_a_float32():
    x = torch.randn(1000, generator=stream("halves")) * torch.logspace(-2, 3, 1000)
    hi, lo = split(x)
    assert ((hi.double() + lo.double() - x).abs() <= 2.0**-22 * x.abs() + 2.0**-25).all()
    rows, constant = torch.randn(5, 64, generator=stream("rows")), torch.randn(7, 64, generator=stream("b"))
    hi, lo = split(rows)
    made = torch.cat([hi, hi, lo], 1).double() @ terms_of(constant).double().t()
    assert relative(made, rows.double() @ constant.double().t()) < 1e-6


def test_every_piece_of_a_step_has_its_place():
    """What is launched is ordered, and what is waited for is launched."""
    step, prepared = plain(replace(BASE, beta_temporal=1.0), data(), torch.float32)
    quick = fast.make(replace(BASE, beta_temporal=1.0), constants_of(prepared), None, step)
    names = [name for name, *_ in fast.ORDER]
    assert list(quick.work) == names
    assert {need for *_, needs in fast.ORDER for need in needs} <= set(names)
    assert isinstance(Runner(step, BASE, None, quick).fast, fast.Fast)
