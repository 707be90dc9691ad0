"""What a GPU asks of the solver, stated on a CPU as far as that goes: capture, memory, precision of products."""

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from taco.bench import kernels, measure
from taco.bench.problems import SIZES, Size, problem
from taco.conmf import Anchors, CoNMF, CoNMFError, Projection, Settings, descent
from taco.conmf import solver as solver_module
from taco.conmf import step as step_module
from taco.conmf.descent import Batch, Runner, descend, make_step
from taco.conmf.products import float32_products
from taco.conmf.solver import _prepare

SIZE = Size(20, 12, 10, 14, 9, 16, k=3)
KEYS = ["a", "b", "c", "d"]
CALM = {"learning_rate": 0.02, "beta_penalty": 2.0}
BASE = Settings(n_components=3, steps=90, init="random_tokens", halve_at=(20, 40), **CALM)
FIELDS = (
    "image_activations",
    "audio_activations",
    "image_factors",
    "audio_factors",
    "cross_entropy",
    "objective",
)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(scope="module")
def data():
    """Four samples in float64: image tokens, audio tokens, anchors."""
    image, audio, anchors = problem(SIZE, samples=4)
    return image.double(), audio.double(), anchors


@pytest.fixture
def one_thread():
    """Solve in the calling thread, the only one whose allocations are counted."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def batch_of(data, settings, seeds=(0, 1)):
    image, audio, anchors = data
    units = [[0, 1, 2], [3]] if settings.beta_temporal else [[0], [1], [2], [3]]
    solver = CoNMF(settings, anchors)
    return solver._batch(units, list(image), list(audio), KEYS, seeds, None, torch.float64)


def prepared(data):
    return _prepare(data[2], torch.float64, torch.device("cpu"))


@pytest.mark.parametrize("option", [{}, {"beta_temporal": 1.0}, {"beta_penalty": 0.0}])
def test_captured_steps_equal_steps_from_the_host(option, data):
    """The graph's seam, with a capture that just repeats the function."""
    settings = replace(BASE, trace_every=30, checkpoints=(47,), **option)
    calls = []
    host, _ = descend(batch_of(data, settings), settings, prepared(data))
    graph, _ = descend(
        batch_of(data, settings), settings, prepared(data), lambda work: lambda: (calls.append(1), work())
    )
    assert len(calls) > 80
    for name in FIELDS:
        assert torch.equal(getattr(host, name), getattr(graph, name)), name
    assert torch.equal(host.checkpoints[47].image_factors, graph.checkpoints[47].image_factors)


def test_a_captured_run_is_left_when_a_residual_comes_near_the_guard(data, monkeypatch):
    """The guard is put where the descent passes it on its way; the result is as without a graph."""
    settings = replace(BASE, checkpoints=(10, 90))
    host, _ = descend(batch_of(data, settings), settings, prepared(data))
    least = []  # ratio of a squared residual to its tokens
    for kept in host.checkpoints.values():
        sides = zip((kept.reconstruction_image, kept.reconstruction_audio), data[:2])
        least.append(min(float((norm / x.flatten(1).norm(dim=1)).min()) ** 2 for norm, x in sides))
    assert least[1] < 0.95 * least[0]
    guard = step_module.GUARD[torch.float64]
    monkeypatch.setattr(descent, "LOOK_MARGIN", (least[0] * least[1]) ** 0.5 / guard)
    calls = []
    graph, _ = descend(
        batch_of(data, settings), settings, prepared(data), lambda work: lambda: (calls.append(1), work())
    )
    assert 0 < len(calls) < 80
    assert torch.equal(host.image_factors, graph.image_factors)


def test_state_and_step_size_keep_their_addresses(data):
    """A graph writes to and reads from the addresses of its capture, also after steps from the host."""
    step = make_step(batch_of(data, BASE), BASE, prepared(data))
    runner = Runner(step, BASE)

    def addresses():
        sides = [(side.x, side.w, side.v, side.u, side.p, side.square) for side in (step.image, step.audio)]
        return [t.data_ptr() for t in (*sides[0], *sides[1], step.k_star, runner.rate)]

    before, rate = addresses(), float(runner.rate)
    runner.measure()
    runner.move()
    runner.run_to(50)
    assert addresses() == before
    assert float(runner.rate) == rate / 4


class OnlyOnDevice(TorchDispatchMode):
    """Counts operations, and refuses one that touches a tensor off the GPU."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            if isinstance(value, torch.Tensor) and value.device.type != "cuda":
                raise AssertionError(f"{function} touches the {value.device.type}")
        self.count += 1
        return result


@pytest.mark.parametrize(
    "option",
    [
        {},
        {"reduction": "mean"},
        {"descriptor": "factor", "penalty_side": "both"},
        {"beta_temporal": 1.0},
        {"beta_penalty": 0.0},
        {"norm": "squared", "penalty_side": "audio"},
    ],
)
def test_a_captured_step_asks_nothing_of_the_host(option):
    """On tensors of a GPU that is not there, values are unknown: what needs one, or a shape that hangs on one, fails."""
    settings = replace(BASE, **option)
    s, r, k = 4, 2, settings.n_components
    with FakeTensorMode():

        def empty(*shape):
            return torch.empty(*shape, device="cuda")

        sides = [
            (empty(s, n, c), torch.full((s,), n), empty(s, r, k, n), empty(s, r, k, c))
            for n, c in ((SIZE.n, SIZE.c_image), (SIZE.t, SIZE.c_audio))
        ]
        d, c = SIZE.d, SIZE.c_audio
        anchors = Anchors(
            empty(SIZE.j, SIZE.c_image),
            empty(SIZE.j, d),
            10.0,
            Projection(empty(d, c), empty(d, d), empty(d), empty(d)),
        )
        step = make_step(Batch(*sides, lengths=[3, 1]), settings, anchors)
        runner = Runner(step, settings)
        with OnlyOnDevice() as operations:
            runner._unguarded()
        assert operations.count > 20
        with pytest.raises(DataDependentOutputException):
            step.forward(guarded=True)


@needs_cuda
@pytest.mark.parametrize(
    "option", [{}, {"beta_temporal": 1.0}, {"reduction": "mean"}, {"descriptor": "factor"}]
)
def test_cuda_equals_cpu_in_float64_and_repeats_bit_for_bit(option, data):
    settings = replace(BASE, init="kmeans", checkpoints=(77,), trace_every=50, **option)
    clips = ["x", "x", "x", "y"]
    *tokens, anchors = data
    cpu = CoNMF(settings, anchors).fit(*tokens, KEYS, (0, 1), clips)
    first, second = (CoNMF(settings, anchors, "cuda").fit(*tokens, KEYS, (0, 1), clips) for _ in range(2))
    for name in FIELDS:
        assert torch.allclose(getattr(cpu, name), getattr(first, name), atol=1e-9), name
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert torch.allclose(cpu.checkpoints[77].image_factors, first.checkpoints[77].image_factors, atol=1e-9)


@needs_cuda
def test_cuda_waits_for_nothing_in_a_captured_step(data):
    """CUDA's own detector of waits, over a step from the host."""
    image, audio, anchors = data
    solver = CoNMF(BASE, anchors, "cuda")
    with solver._on_device():
        batch = solver._batch(
            [[i] for i in range(4)], list(image), list(audio), KEYS, (0, 1), None, torch.float64
        )
        step = make_step(batch, BASE, _prepare(anchors, torch.float64, solver.device))
        runner = Runner(step, BASE)
        torch.cuda.set_sync_debug_mode("error")
        try:
            runner._unguarded()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("seeds", [1, 3])
def test_peak_memory_is_under_three_times_the_tokens(seeds, one_thread):
    """At the paper's size, 32 samples, k-means included; anchors and projection apart."""
    image, audio, anchors = problem(SIZES["paper"], 32)
    solver = CoNMF(Settings(steps=2, batch_size=32), anchors)
    constants = sum(t.nbytes for t in (anchors.image, anchors.audio, *anchors.projection[:4]))
    peak = measure.peak_bytes(
        lambda: solver.fit(image, audio, [str(i) for i in range(32)], range(seeds)), "cpu"
    )
    tokens = image.nbytes + audio.nbytes
    assert tokens < peak - constants < 3 * tokens


def test_vanished_residuals_are_formed_a_part_at_a_time(one_thread):
    """All pairs at an exact factorization: the residuals together would be as large as the tokens, once per seed."""
    size = Size(200, 100, 20, 30, 9, 16, k=3)
    _, _, anchors = problem(size, 2)
    settings = replace(BASE, init="random_tokens", beta_penalty=0.0)
    image, audio = (torch.ones(32, n, c) for n, c in ((200, 100), (20, 30)))
    solver = CoNMF(settings, anchors)
    batch = solver._batch(
        [[i] for i in range(32)],
        list(image),
        list(audio),
        list(map(str, range(32))),
        range(3),
        None,
        torch.float32,
    )
    for _, _, w, v in (batch.image, batch.audio):
        w.zero_()
        v.fill_(2 / 3)
    step = make_step(batch, settings, _prepare(anchors, torch.float32, torch.device("cpu")))
    peak = measure.peak_bytes(lambda: step.forward(False), "cpu")
    assert step.explicit[0].which.numel() == 96
    assert 0 < peak < image.nbytes


def test_automatic_batch_takes_most_of_the_free_memory(data, monkeypatch, one_thread):
    """The estimate is no less than what a sample was seen to need, and not far above."""
    size = SIZES["paper"]
    image, audio, anchors = problem(size, 8)
    solver = CoNMF(Settings(steps=2, init="random_tokens", batch_size=8), anchors)
    peak = measure.peak_bytes(lambda: solver.fit(image, audio, list(map(str, range(8))), range(3)), "cpu")
    solver = CoNMF(Settings(fast=False), anchors)
    solver.device = torch.device("cuda")
    free = 100 * peak
    monkeypatch.setattr(solver_module, "free_bytes", lambda device: free)
    samples = solver._batch_size(list(image), list(audio), 3, 4)
    assert free / 4 < samples * peak / 8 < free
    free = 10
    assert solver._batch_size(list(image), list(audio), 3, 4) == 1
    free = 1 << 50
    assert solver._batch_size(list(image), list(audio), 3, 4) == solver_module.MOST_ON_CUDA


@pytest.mark.parametrize("wrapped", [False, True])
def test_out_of_memory_halves_the_batch_and_says_so(wrapped, data, monkeypatch):
    """Also when it strikes during a capture, whose end then fails with an error of its own."""
    image, audio, anchors = data
    settings = replace(BASE, steps=5, batch_size=4)
    expected = CoNMF(settings, anchors).fit(image, audio, KEYS, (0,))
    sizes = []

    def small_memory(batch, *rest):
        sizes.append(len(batch.lengths))
        if len(batch.lengths) > 1:
            try:
                raise torch.cuda.OutOfMemoryError("no more")
            finally:
                if wrapped:
                    raise RuntimeError("capture_end")
        return descend(batch, *rest)

    monkeypatch.setattr(solver_module, "descend", small_memory)
    with pytest.warns(ResourceWarning, match="out of memory with 4 units; going on with 2.* batch_size"):
        result = CoNMF(settings, anchors).fit(image, audio, KEYS, (0,))
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    assert torch.allclose(result.image_factors, expected.image_factors, atol=1e-12)


def test_one_sample_too_large_and_other_errors_are_not_halved(data, monkeypatch):
    image, audio, anchors = data
    errors = iter((torch.cuda.OutOfMemoryError("no more"), RuntimeError("another")))

    def failing(*_):
        raise next(errors)

    monkeypatch.setattr(solver_module, "descend", failing)
    solver = CoNMF(replace(BASE, batch_size=1), anchors)
    with pytest.raises(CoNMFError, match="one sample does not fit the memory"):
        solver.fit(image[:1], audio[:1], KEYS[:1], (0,))
    with pytest.raises(RuntimeError, match="another"):
        solver.fit(image[:1], audio[:1], KEYS[:1], (0,))


@pytest.mark.parametrize("own", ["highest", "high", "medium"])
def test_the_process_keeps_its_precision_and_the_solver_its_own(own, data):
    image, audio, anchors = data
    image, audio = image.float(), audio.float()
    expected = CoNMF(replace(BASE, steps=5), anchors).fit(image, audio, KEYS, (0,))
    default = torch.get_float32_matmul_precision()
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    torch.set_float32_matmul_precision(own)
    try:
        before = [backend.fp32_precision for backend in backends]
        seen = []
        result = CoNMF(replace(BASE, steps=5, batch_size=4), anchors).fit(
            image,
            audio,
            KEYS,
            (0,),
            progress=lambda _: seen.append([backend.fp32_precision for backend in backends]),
        )
        with pytest.raises(KeyError), float32_products("tf32"):
            assert backends[0].fp32_precision == "tf32"
            assert not backends[0].allow_fp16_reduced_precision_reduction
            raise KeyError
        assert backends[0].allow_fp16_reduced_precision_reduction  # torch's default
        assert [backend.fp32_precision for backend in backends] == before
        assert torch.get_float32_matmul_precision() == own
    finally:
        torch.set_float32_matmul_precision(default)
    assert seen == [["ieee", "ieee"]]
    assert torch.allclose(result.image_factors, expected.image_factors, atol=1e-5)


@needs_cuda
@pytest.mark.parametrize("size", ["miniature", "paper"])
@pytest.mark.parametrize("option", [{}, {"beta_temporal": 1.0}])
def test_cuda_fast_steps_pass_the_gates_and_repeat_bit_for_bit(size, option):
    """Planted tokens that halves hold exactly; at the paper's size too, where a compiler once lost all products."""
    image, audio, anchors = problem(SIZES[size], 8)
    image, audio = image.half(), audio.half()
    settings = Settings(steps=300, halve_at=(100, 200), trace_every=299, **option)
    keys, clips = [str(i) for i in range(8)], ["x"] * 5 + ["y"] * 3
    exact = CoNMF(settings, anchors, "cuda").fit(image.double(), audio.double(), keys, (0, 1), clips)
    first, second = (
        CoNMF(settings, anchors, "cuda").fit(image, audio, keys, (0, 1), clips) for _ in range(2)
    )
    assert (first.objective[..., -1].double() / exact.objective[..., -1] - 1).abs().max() < 1e-4
    assert (first.k_star == exact.k_star).double().mean() >= 0.99
    for name in FIELDS:
        assert torch.equal(getattr(first, name), getattr(second, name)), name


@needs_cuda
def test_cuda_makes_fast_steps_of_the_default_options(monkeypatch):
    """Ten at a time, and none where they are not wanted."""
    from taco.conmf import fast

    counts = []
    advance = fast.Fast.advance
    monkeypatch.setattr(fast.Fast, "advance", lambda *a: counts.append(advance(*a)) or counts[-1])
    image, audio, anchors = problem(SIZES["miniature"], 2)
    for settings in (Settings(steps=40, fast=True), Settings(steps=40)):
        CoNMF(settings, anchors, "cuda").fit(image.half(), audio.half(), ["a", "b"], (0,))
    assert counts == [1, 10, 10, 10, *[1] * 7]


@needs_cuda
def test_cuda_kernels_are_timed():
    rows = kernels.times(SIZES["miniature"], 2, 1, "cuda")
    assert rows[-1]["kernel"] == "step" and len(rows) == 21 + 2
    assert all(row["us"] > 0 for row in rows)
