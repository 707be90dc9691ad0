"""``taco bench conmf``: the solver against plain autograd versions, in the same run.

Notes, predictions and outcomes; newest last. CPU: 2 cores (EPYC, Zen 4), shared with other jobs; times are of one core.

- Bare products of the miniature size (N 256, C 128, three seeds folded): 62 to 82 GFLOP/s for P = U^T X and X M^T in every
  layout, so W is kept [S, R, K, N], where the element-wise work is contiguous too.
- Predicted 39 us a miniature step and pair, measured 120, 108, 89, 87 us at batch 4, 8, 16, 32: four fifths in products.
  Batches that hide the 60 calls of a step and stay in the cache are best (CACHE_BYTES). The paper's size wants 8 samples
  or more, as projection and anchors are fetched once for all.
- addmm(e, h, W2) took twice the time of mm and an addition: replaced. Log-partition is read off the softmax.
- Fewer steps, trained miniature tokens, objective and IoU of the chosen maps against 1,800 steps (736.2): 900 of size 0.5
  735.4, 0.98; 450 of 1.0 731.4, 0.85; 300 of 1.25 733.3, 0.85; 300 of 0.25 788.6, 0.50. The objective is reached in 300
  steps, the same maps are not, but the scores are (config/README.md): the configuration's ``schedule: fast``.
- Peak at the paper's size, 32 samples, tokens = 1, constants apart: descent 1.30 (one seed), 1.88 (three); with k-means
  2.59, of which its float64 copies of 16 samples are 1.8.
- Two threads with 4 small samples each (200 calls a step) wait for the interpreter's lock: 2.0 to 3.4 ms a step of 8, one
  thread 1.0. Predicted the opposite. ``auto`` now takes a thread for every 4 MiB of tokens (THREAD_BYTES).
- TF32 emulated on the CPU, 24 trained S4 samples, the paper's settings, median error of the objective, IoU of the maps: all
  products rounded 2.1e-4, 0.994; cut 1.4e-3, 0.965 (the Gram form of the residual is what suffers); those of the
  descriptors alone 2e-6 rounded, 4.8e-5 cut, 1.000 and 0.992, as float32 itself (0.992: one pair near a tie of k* takes
  the other branch for any rounding). So ``products: tf32`` means the descriptors' products. bf16 there flips a k* in 24.
- Both cores free, batch 8, times faster than the expanded form (one seed, three seeds): miniature size 7.8 and 15.3, paper's
  size 14.8 and 37 (by processor time 15.6, 30.5, 15.4, 36.3). On a crowded machine the expanded form, which uses both cores,
  suffers more, and 20 to 61 were seen. One seed's products have 8 rows: calls and the reading of X rule.
- Not measured: anything on a GPU. Predicted for an H200 at batch 128 x 3 seeds, us a step: products 400 in float32, 200 with
  tf32; other passes 350, 300 fused; X twice 105 (hidden behind the products). A step 750, 500 with both: 3.5 and 2.4 ms a
  pair. Batches of 1: launches rule, 250 us. Tokens are float16, so X is exact in TF32: U and M split into two TF32 parts
  each (16 rows, not 8) would be the next thing to try.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType

import torch
from rich.table import Table
from torch import Tensor

from taco.bench import gates, measure
from taco.bench.problems import SIZES, Size, flops_per_step, problem
from taco.conmf import Anchors, CoNMF, Initial, Projection, Settings

STEPS = 1800
GATE_SAMPLES = 16
# Ways of the solver on a GPU; on a CPU only the first is fast, and only the second loses precision.
DEFAULT = "closed form"
WAYS: dict[str, dict[str, object]] = {
    DEFAULT: {},
    "tf32": {"products": "tf32"},
    "fused": {"fused": True},
    "fused, tf32": {"fused": True, "products": "tf32"},
    "no graph": {"graph": False},
}


@dataclass
class Row:
    """One measured solver run.

    ``step_ms`` is wall time of a step of the whole batch, ``cpu_step_ms`` the processor time of all threads (the better
    number on a shared machine), ``pair_ms`` wall time of a (sample, seed) at 1,800 steps, start included. ``compute`` and
    ``traffic`` are the shares of the two ceilings that the step's products in float32, and two readings of the tokens,
    reach; ``roofline`` is the larger one (above 1 with TF32, or with tokens that stay on chip).
    """

    size: str
    samples: int
    seeds: int
    version: str
    step_ms: float
    cpu_step_ms: float
    fixed_ms: float
    pair_ms: float
    compute: float | None = None
    traffic: float | None = None
    roofline: float | None = None
    peak_over_tokens: float | None = None


@dataclass(frozen=True)
class Run:
    """How much is timed, and where."""

    device: str
    steps: int | None
    baseline_batch: int
    baseline_steps: int | None
    ceilings: dict[str, float]

    @property
    def cuda(self) -> bool:
        """Whether on a GPU."""
        return torch.device(self.device).type == "cuda"

    def timed_steps(self, size: Size, baseline: bool = False) -> int:
        """Steps to time; on a CPU so many that each size takes about as long."""
        asked = self.baseline_steps if baseline else self.steps
        if asked is not None:
            return asked
        if self.cuda:
            return 50 if baseline else STEPS
        return (3 if baseline else 20) * max(1, flops_per_step(SIZES["paper"]) // flops_per_step(size))


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
    ways: Sequence[str] | None = None,
    tokens: str | Path | None = None,
    say: measure.Say = print,
) -> dict:
    """Time the solver, the plain and the K-fold expanded autograd versions in the same run, and check the fast ways.

    Times come from the difference of a short and a long run, so that what happens once (upload, start, capture)
    is told apart from the steps. Ceilings are measured first: a large float32 product and a large copy. On an H100 or
    H200 all of it is predicted to take five minutes.

    Parameters
    ----------
    sizes : sequence of {"miniature", "paper"}
    batches : sequence of int
        Samples solved together.
    seeds : sequence of int
        Numbers of seeds that share the tokens.
    device : str
    steps : int, optional
        Timed steps; unless given 1,800 on CUDA, on a CPU 20 at the paper's size and more at a smaller one.
    baselines : bool
        Also time ``tests/reference_conmf.py`` (needs a checkout) at ``baseline_batch``, once for each number of seeds,
        which there are samples of their own.
    baseline_batch : int, optional
        Samples of the baselines: 20 on CUDA, 8 on a CPU.
    baseline_steps : int, optional
        Timed steps of the baselines: 50 on CUDA, on a CPU 3 or more.
    ways : sequence of str, optional
        Of :data:`WAYS`, timed at the last size and its two largest batches, and compared with float64; all of them on
        CUDA, none on a CPU unless given.
    tokens : path, optional
        A suite's results (``results/miniature``), whose features the ways are compared on too.
    say : callable
        Prints a line of progress.

    Returns
    -------
    dict
        ``ceilings``, ``rows``, ``ratios``, ``gates``.
    """
    unknown = set(sizes) - set(SIZES)
    if unknown:
        raise ValueError(f"sizes: expected some of {', '.join(SIZES)}, found {', '.join(sorted(unknown))}")
    cuda = torch.device(device).type == "cuda"
    ways = (tuple(WAYS) if cuda else ()) if ways is None else tuple(ways)
    reference = _reference() if baselines else None
    run = Run(
        device,
        steps,
        baseline_batch or (20 if cuda else 8),
        baseline_steps,
        measure.ceilings(device),
    )
    rows: list[Row] = []
    for name in sizes:
        wanted = sorted({*batches, *([run.baseline_batch] if baselines else [])})
        cases = [(n, batch, DEFAULT) for n in seeds for batch in wanted]
        if name == sizes[-1]:
            cases += [
                (n, batch, way) for way in ways if way != DEFAULT for n in seeds for batch in wanted[-2:]
            ]
        for n, batch, way in cases:
            rows.append(_time_solver(name, batch, n, run, way))
            say(f"{name}, {batch} samples, {n} seeds, {way}: {rows[-1].pair_ms:.4g} ms a pair")
        if reference is not None:
            rows += [_time_reference(name, n, run, reference, wide) for n in seeds for wide in (False, True)]
    return {
        "ceilings": run.ceilings,
        "rows": [asdict(row) for row in rows],
        "ratios": _ratios(rows),
        "gates": _gates(ways, tokens, device),
    }


def _time_solver(name: str, samples: int, n_seeds: int, run: Run, way: str) -> Row:
    size = SIZES[name]
    image, audio, anchors = problem(size, samples)
    keys = [str(i) for i in range(samples)]
    base = Settings(n_components=size.k, batch_size=samples if run.cuda else "auto", **WAYS[way])
    start = CoNMF(replace(base, init="random_tokens"), anchors, run.device).initial_factors
    initial = Initial(start(image, keys, "image"), start(audio, keys, "audio"))

    def solve(count: int) -> object:
        settings = replace(base, init="given", steps=count)
        return CoNMF(settings, anchors, run.device).fit(image, audio, keys, range(n_seeds), initial=initial)

    step, cpu, once = measure.difference(solve, run.timed_steps(size), run.device)
    pairs, bytes_read = samples * n_seeds, 2 * (image.nbytes + audio.nbytes)
    shares = {
        "compute": flops_per_step(size) * pairs / step / 1e9 / run.ceilings["gflops"],
        "traffic": bytes_read / step / 1e9 / run.ceilings["gbytes"],
    }
    return Row(
        size=name,
        samples=samples,
        seeds=n_seeds,
        version=way,
        step_ms=1e3 * step,
        cpu_step_ms=1e3 * cpu,
        fixed_ms=1e3 * once,
        pair_ms=1e3 * (step * STEPS + once) / pairs,
        **shares,
        roofline=max(shares.values()),
        peak_over_tokens=_peak(image, audio, anchors, replace(base, steps=10), n_seeds, run),
    )


def _peak(
    image: Tensor, audio: Tensor, anchors: Anchors, settings: Settings, n_seeds: int, run: Run
) -> float:
    """Most bytes held by a short solution of one batch, k-means and capture included, over those of the tokens."""
    keys = [str(i) for i in range(len(image))]
    constants = sum(t.nbytes for t in (anchors.image, anchors.audio, *anchors.projection[:4]))
    solver = CoNMF(replace(settings, batch_size=len(image)), anchors, run.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a CPU the calling thread is what is counted
    try:
        peak = measure.peak_bytes(lambda: solver.fit(image, audio, keys, range(n_seeds)), run.device)
    finally:
        torch.set_num_threads(threads)
    return (peak - constants) / (image.nbytes + audio.nbytes)


def _time_reference(name: str, n_seeds: int, run: Run, reference: ModuleType, expanded: bool) -> Row:
    size, samples = SIZES[name], run.baseline_batch
    image, audio, anchors = problem(size, samples)
    b_i, b_a, *matrices = (t.to(run.device) for t in (anchors.image, anchors.audio, *anchors.projection[:4]))
    anchors = Anchors(b_i, b_a, anchors.scale, Projection(*matrices))
    weights = (torch.randn(samples * n_seeds, n, size.k) for n, _ in size.tokens)
    image, audio = (x.repeat(n_seeds, 1, 1) for x in (image, audio))
    data = [t.to(run.device) for t in (image, audio, *weights, image[:, : size.k], audio[:, : size.k])]

    def solve(count: int) -> object:
        settings = Settings(n_components=size.k, steps=count)
        return reference.solve(*data, anchors, settings, expanded=expanded)

    step, cpu, once = measure.difference(solve, run.timed_steps(size, baseline=True), run.device)
    return Row(
        size=name,
        samples=samples,
        seeds=n_seeds,
        version="autograd, expanded" if expanded else "autograd, plain",
        step_ms=1e3 * step,
        cpu_step_ms=1e3 * cpu,
        fixed_ms=1e3 * once,
        pair_ms=1e3 * (step * STEPS + once) / (samples * n_seeds),
    )


def _ratios(rows: Sequence[Row]) -> list[dict]:
    """Each baseline's step over each of the solver's on the same samples and seeds."""
    slow = [row for row in rows if row.version.startswith("autograd")]
    return [
        {
            "size": own.size,
            "samples": own.samples,
            "seeds": own.seeds,
            "version": own.version,
            "against": other.version,
            "times_faster": other.step_ms / own.step_ms,
            "times_faster_cpu": other.cpu_step_ms / own.cpu_step_ms if own.cpu_step_ms > 0 else None,
        }
        for other in slow
        for own in rows
        if own not in slow and (own.size, own.samples, own.seeds) == (other.size, other.samples, other.seeds)
    ]


def _gates(ways: Sequence[str], tokens: str | Path | None, device: str) -> list[dict]:
    """Deviation of each way on planted tokens, and on those of a suite."""
    if not ways:
        return []
    keys = [f"planted/{i}" for i in range(GATE_SAMPLES)]
    problems = {"planted": gates.Problem(*problem(SIZES["miniature"], GATE_SAMPLES), keys, gates.PLANTED)}
    if tokens is not None:
        datasets = sorted(path.name for path in Path(tokens, "features").iterdir())
        problems |= {name: gates.suite_problem(tokens, name, GATE_SAMPLES) for name in datasets}
    found = []
    for name, case in problems.items():
        truth = gates.exact(case)
        found += [
            {"tokens": name, "version": way} | gates.deviation(case, truth, device, WAYS[way]) for way in ways
        ]
    return found


def _reference() -> ModuleType:
    """The plain versions, which live with the tests."""
    path = Path(__file__).resolve().parents[2] / "tests/support/reference_conmf.py"
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: the baselines live with the tests; run from a checkout, or ask for no baselines"
        )
    spec = importlib.util.spec_from_file_location("reference_conmf", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tables(report: dict) -> Iterator[Table | str]:
    """Lay out a report of `conmf` for printing."""
    ceilings = report["ceilings"]
    yield (
        f"ceilings measured: {ceilings['gflops']:.0f} GFLOP/s (float32 product), {ceilings['gbytes']:.0f} GB/s (copy)"
    )
    where = {"size": "size", "samples": "samples", "seeds": "seeds", "version": "version"}
    columns = where | {
        "ms/step": "step_ms",
        "CPU": "cpu_step_ms",
        "ms/pair": "pair_ms",
        "compute": "compute",
        "traffic": "traffic",
        "memory": "peak_over_tokens",
    }
    title = f"co-NMF, {STEPS} steps; shares of the ceilings; memory over tokens"
    yield measure.table(title, columns, report["rows"])
    if report["ratios"]:
        columns = where | {"against": "against", "times": "times_faster", "by CPU": "times_faster_cpu"}
        yield measure.table("times faster, same run", columns, report["ratios"])
    if report["gates"]:
        columns = {
            "tokens": "tokens",
            "version": "version",
            "objective": "objective",
            "median": "objective_median",
        }
        columns |= {"k*": "k_star", "clear": "clear", "IoU": "iou", "passed": "passed"}
        yield measure.table("float32 against float64 on the CPU", columns, report["gates"])
