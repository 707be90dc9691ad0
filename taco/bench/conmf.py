"""``taco bench conmf``: the solver against plain autograd versions, in the same run.

Notes on the solver (predictions and outcomes, newest last) are in :data:`CONMF_NOTES`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType

import torch
from rich.console import Console
from torch import Tensor

from taco.bench import measure
from taco.conmf import Anchors, CoNMF, Initial, Projection, Result, Settings

STEPS = 1800
CONMF_NOTES = """\
2 cores (EPYC, Zen 4), float32, miniature size (N 256, C 128, T 64, D 128, J 240, K 8, three seeds folded)
- Predicted: 2.9 MFLOP a step and (sample, seed); at the 75 GFLOP/s that one core reaches in these small products, 39 us.
- Bare products at batch 16: 62 to 82 GFLOP/s for P = U^T X and X M^T in every layout, so W is kept [S, R, K, N], where the
  element-wise work is contiguous too.
- One step as first written, beside two other busy processes: 120, 108, 89, 87 us at batch 4, 8, 16, 32 on one core; four fifths
  of it in matrix products. Batches of 16 to 32 samples hide the 60 calls of a step and stay in the cache: CACHE_BYTES.
- addmm(e, h, W2) took twice the time of mm and an addition: replaced.
- Softmax of both descriptors costs less than one exponential: log-partition is read off the softmax.
- Tokens of the paper's size want at least 8 samples a batch (one seed: 2.7 ms a step and pair alone, 1.8 ms at 8; three
  seeds: 1.6 and 1.1 ms), as the projection and the anchors are fetched once for all of them.
- Step at batch 16 x 3 seeds, part by part from a warm cache: 3.2 ms; together, beside two trainings: 4.1 ms. The rest is cache.
- float32 against float64, tokens of (half-trained) miniature models, S4 and ADE, 16 samples, both suites' settings: objective
  within 1.2e-6, k* and maps equal (conmf_gates).
- Fewer steps, same tokens, two seeds, objective and IoU of the chosen maps against 1,800 steps (736.2 on S4): 900 of size 0.5
  735.4, 0.98; 450 of 1.0 731.4, 0.85; 300 of 1.25 733.3, 0.85; 300 of 1.5 728.3, 0.78; 300 of 0.25 788.6, 0.50. The objective
  is reached in 300 steps, the maps are not: no ``schedule: fast`` is offered; ``steps`` and ``learning_rate`` can say it.
- Not measured: anything on a GPU. Predicted for an H200 at batch 128 x 3 seeds: 0.5 ms of products at 40 TFLOP/s, 0.15 ms for
  reading X twice, 0.3 ms for the 119 captured kernels of a step: about 4 ms a pair.
- Threads: a batch each (one torch thread) instead of threads inside each small product.
"""


@dataclass(frozen=True)
class Size:
    """Shapes of one benchmark: image tokens N x C_I, audio tokens T x C_A, J anchors, CLAP width D."""

    n: int
    c_image: int
    t: int
    c_audio: int
    j: int
    d: int
    k: int = 8


SIZES = {
    "miniature": Size(256, 128, 64, 128, 240, 128),
    "paper": Size(576, 768, 64, 768, 527, 1024),
}


@dataclass
class Row:
    """One measured solver run.

    ``step_ms`` is wall time of a step of the whole batch, ``cpu_step_ms`` the processor time of all threads (the better
    number on a shared machine), ``pair_ms`` wall time of a (sample, seed) at 1,800 steps; rates are from ``step_ms``.
    """

    size: str
    samples: int
    seeds: int
    version: str
    step_ms: float
    cpu_step_ms: float
    fixed_ms: float
    pair_ms: float
    gflops: float | None
    roofline_share: float | None
    peak_over_tokens: float | None


def conmf(
    *,
    sizes: Sequence[str] = ("miniature", "paper"),
    batches: Sequence[int] = (1, 8, 32, 128),
    seeds: Sequence[int] = (1, 3),
    device: str = "cpu",
    steps: int | None = None,
    baselines: bool = True,
    baseline_batch: int | None = None,
    baseline_steps: int | None = None,
    output: str | Path | None = None,
    console: Console | None = None,
) -> dict:
    """Time the solver, and the plain and the K-fold expanded autograd versions in the same run.

    Times come from the difference of a short and a long run, so that what happens once (upload, start, capture)
    is told apart from the steps. Ceilings are measured first: a large float32 product and a large copy.

    Parameters
    ----------
    sizes : sequence of {"miniature", "paper"}
    batches : sequence of int
        Samples solved together.
    seeds : sequence of int
        Numbers of seeds that share the tokens.
    device : str
    steps : int, optional
        Timed steps; 1,800 on CUDA, 20 on a CPU unless given.
    baselines : bool
        Also time ``tests/reference_conmf.py`` (needs a checkout), one seed, at ``baseline_batch``.
    baseline_batch : int, optional
        Samples of the baselines: 20 on CUDA, 8 on a CPU.
    baseline_steps : int, optional
        Timed steps of the baselines: 50 on CUDA, 3 on a CPU.
    output : path, optional
        JSON file to write.
    console : rich.console.Console, optional

    Returns
    -------
    dict
        What the JSON file holds: ``machine``, ``ceilings``, ``rows``, ``ratios``.
    """
    cuda = torch.device(device).type == "cuda"
    steps = steps or (STEPS if cuda else 20)
    baseline_batch = baseline_batch or (20 if cuda else 8)
    baseline_steps = baseline_steps or (50 if cuda else 3)
    console = console or Console(width=None if sys.stdout.isatty() else 110)
    unknown = set(sizes) - set(SIZES)
    if unknown:
        raise ValueError(f"sizes: expected some of {', '.join(SIZES)}, found {', '.join(sorted(unknown))}")
    reference = _reference() if baselines else None
    ceilings = measure.ceilings(device)
    rows, ratios = [], []
    for name in sizes:
        for n_seeds in seeds:
            for batch in batches:
                rows.append(_time_solver(name, batch, n_seeds, device, steps, ceilings))
                console.print(f"{name}: {batch} samples, {n_seeds} seeds: {rows[-1].pair_ms:.4g} ms a pair")
        if reference is None:
            continue
        slow = [
            _time_reference(name, baseline_batch, device, baseline_steps, reference, expanded)
            for expanded in (False, True)
        ]
        for n_seeds in seeds:
            same = [r for r in rows if (r.size, r.samples, r.seeds) == (name, baseline_batch, n_seeds)]
            if not same:
                same = [_time_solver(name, baseline_batch, n_seeds, device, steps, ceilings)]
                rows += same
            ratios += [_ratio(name, baseline_batch, other, same[0]) for other in slow]
        rows += slow
    report = {
        "machine": measure.machine(device),
        "timed_steps": steps,
        "ceilings": ceilings,
        "rows": [asdict(row) for row in rows],
        "ratios": ratios,
    }
    _print(report, console)
    if output is not None:
        Path(output).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def problem(size: Size, samples: int, seed: int = 0) -> tuple[Tensor, Tensor, Anchors]:
    """Random non-negative tokens near a few directions, and anchors; on the CPU, float32."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    sides = []
    for n, c in ((size.n, size.c_image), (size.t, size.c_audio)):
        directions = normal(samples, 6, c).clamp(min=0)
        owner = torch.randint(0, 6, (samples, n), generator=g)
        x = directions[torch.arange(samples)[:, None], owner] + 0.3 * normal(samples, n, c)
        sides.append(x.clamp_(min=0))
    projection = Projection(
        normal(size.d, size.c_audio) / size.c_audio**0.5,
        normal(size.d, size.d) / size.d**0.5,
        torch.ones(size.d),
        torch.zeros(size.d),
    )
    return *sides, Anchors(normal(size.j, size.c_image), normal(size.j, size.d), 30.0, projection)


def flops_per_step(size: Size) -> int:
    """Floating-point operations of one closed-form step of one (sample, seed), products only."""
    k = size.k
    per_side = sum(4 * n * k * c + 4 * n * k * k + 4 * k * k * c for n, c in _token_shapes(size))
    forward = 2 * size.t * k * size.d + 2 * k * size.d**2 + 2 * k * size.j * (size.c_image + size.d)
    backward = 2 * size.j * (size.c_image + size.d) + 2 * size.d**2 + 2 * size.d * size.c_audio
    return per_side + forward + backward


def conmf_gates(
    image_tokens: Tensor,
    audio_tokens: Tensor,
    anchors: Anchors,
    keys: Sequence[str],
    settings: Settings | None = None,
    device: str = "cpu",
    seeds: Sequence[int] = (0,),
) -> dict[str, float]:
    """How far float32 on ``device`` is from float64 on the CPU, from the same start (issue's gates of a fast path).

    Parameters
    ----------
    image_tokens, audio_tokens : Tensor [S, N, C]
        As in :meth:`taco.conmf.CoNMF.fit`, for example from a suite's feature files.
    anchors : Anchors
    keys : sequence of str, length S
    settings : Settings, optional
        The paper's by default.
    device : str
    seeds : sequence of int

    Returns
    -------
    dict
        ``objective``: largest relative difference of the last objective (gate 1e-4); ``k_star``: share of equal k*
        where the margin between the two least cross-entropies exceeds 1e-4 (gate 0.99), ``clear`` how many those
        are; ``iou``: mean IoU of the two maps U[:, k*] min-max normalised and cut at 0.5 (gate 0.99).
    """
    settings = settings or Settings()
    image, audio = image_tokens.float(), audio_tokens.float()
    start = CoNMF(settings, anchors).initial_factors(image, audio, keys)
    settings = replace(settings, init="given", trace_every=max(1, settings.steps - 1), checkpoints=())
    fast = CoNMF(settings, anchors, device).fit(image, audio, keys, seeds, initial=start)
    exact = CoNMF(settings, anchors).fit(image.double(), audio.double(), keys, seeds, initial=start)
    least = exact.cross_entropy.sort(2).values
    clear = least[..., 1] - least[..., 0] > 1e-4
    masks = [_mask(result) for result in (fast, exact)]
    overlap = (masks[0] & masks[1]).sum(2) / (masks[0] | masks[1]).sum(2)
    last = fast.objective[..., -1].double() / exact.objective[..., -1]
    return {
        "objective": float((last - 1).abs().max()),
        "k_star": float((fast.k_star == exact.k_star)[clear].double().mean()),
        "clear": int(clear.sum()),
        "iou": float(overlap.mean()),
    }


def _mask(result: Result) -> Tensor:
    """The chosen factor's activations [R, S, N], min-max normalised and cut at 0.5."""
    index = result.k_star[..., None, None].expand(*result.image_activations.shape[:3], 1)
    chosen = result.image_activations.gather(3, index).squeeze(3)
    low, high = chosen.amin(2, keepdim=True), chosen.amax(2, keepdim=True)
    return chosen - low > 0.5 * (high - low)


def _token_shapes(size: Size) -> tuple[tuple[int, int], tuple[int, int]]:
    return (size.n, size.c_image), (size.t, size.c_audio)


def _time_solver(name: str, samples: int, n_seeds: int, device: str, steps: int, ceilings: dict) -> Row:
    size = SIZES[name]
    image, audio, anchors = problem(size, samples)
    cuda = torch.device(device).type == "cuda"
    batch = samples if cuda else "auto"
    keys = [str(i) for i in range(samples)]
    solver = CoNMF(Settings(n_components=size.k, init="random_tokens"), anchors, device)
    initial = solver.initial_factors(image, audio, keys)

    def run(count: int) -> object:
        settings = Settings(n_components=size.k, steps=count, init="given", batch_size=batch)
        return CoNMF(settings, anchors, device).fit(image, audio, keys, range(n_seeds), initial=initial)

    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    step, cpu, once = measure.difference(run, steps, device)
    peak = None
    if cuda:
        constants = sum(t.nbytes for t in (anchors.image, anchors.audio, *anchors.projection[:4]))
        held = torch.cuda.max_memory_allocated(device) - constants
        peak = held / (image.nbytes + audio.nbytes)
    pairs = samples * n_seeds
    rate = flops_per_step(size) * pairs / step / 1e9
    return Row(
        size=name,
        samples=samples,
        seeds=n_seeds,
        version="closed form",
        step_ms=1e3 * step,
        cpu_step_ms=1e3 * cpu,
        fixed_ms=1e3 * once,
        pair_ms=1e3 * (step * STEPS + once) / pairs,
        gflops=rate,
        roofline_share=rate / ceilings["gflops"],
        peak_over_tokens=peak,
    )


def _time_reference(
    name: str, samples: int, device: str, steps: int, reference: ModuleType, expanded: bool
) -> Row:
    size = SIZES[name]
    image, audio, anchors = problem(size, samples)
    tensors = (anchors.image, anchors.audio, *anchors.projection[:4])
    b_i, b_a, *matrices = (t.to(device) for t in tensors)
    anchors = Anchors(b_i, b_a, anchors.scale, Projection(*matrices))
    start = Initial(
        image[:, : size.k],
        audio[:, : size.k],
        *(torch.randn(samples, n, size.k) for n, _ in _token_shapes(size)),
    )
    data = [t.to(device) for t in (image, audio, start.image_weights, start.audio_weights, *start[:2])]

    def run(count: int) -> object:
        settings = Settings(n_components=size.k, steps=count)
        return reference.solve(*data, anchors, settings, expanded=expanded)

    step, cpu, once = measure.difference(run, steps, device)
    return Row(
        size=name,
        samples=samples,
        seeds=1,
        version="autograd, expanded" if expanded else "autograd, plain",
        step_ms=1e3 * step,
        cpu_step_ms=1e3 * cpu,
        fixed_ms=1e3 * once,
        pair_ms=1e3 * (step * STEPS + once) / samples,
        gflops=None,
        roofline_share=None,
        peak_over_tokens=None,
    )


def _ratio(size: str, samples: int, other: Row, own: Row) -> dict:
    return {
        "size": size,
        "samples": samples,
        "against": other.version,
        "seeds": own.seeds,
        "times_faster": other.step_ms * own.seeds / own.step_ms,
        "times_faster_cpu": other.cpu_step_ms * own.seeds / own.cpu_step_ms if own.cpu_step_ms > 0 else None,
    }


def _reference() -> ModuleType:
    """The plain versions, which live with the tests."""
    path = Path(__file__).resolve().parents[2] / "tests" / "reference_conmf.py"
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: the baselines live with the tests; run from a checkout, or ask for no baselines"
        )
    spec = importlib.util.spec_from_file_location("reference_conmf", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _print(report: dict, console: Console) -> None:
    """The tables of a report."""
    ceilings = report["ceilings"]
    console.print(
        f"ceilings measured: {ceilings['gflops']:.0f} GFLOP/s (float32 product), {ceilings['gbytes']:.0f} GB/s (copy)"
    )
    columns = {
        "size": "size",
        "samples": "samples",
        "seeds": "seeds",
        "version": "version",
        "ms/step": "step_ms",
        "CPU": "cpu_step_ms",
        "ms/pair": "pair_ms",
        "GFLOP/s": "gflops",
        "ceiling": "roofline_share",
        "memory": "peak_over_tokens",
    }
    console.print(
        measure.table(f"co-NMF, {STEPS} steps from {report['timed_steps']} timed", columns, report["rows"])
    )
    if report["ratios"]:
        columns = {
            "size": "size",
            "samples": "samples",
            "one seed of": "against",
            "our seeds": "seeds",
            "times": "times_faster",
            "by CPU": "times_faster_cpu",
        }
        console.print(measure.table("times faster per (sample, seed), same run", columns, report["ratios"]))
