"""``taco bench conmf``: the solver against plain autograd versions, in the same run.

Notes, predictions and outcomes; newest last. CPU: 2 cores (EPYC, Zen 4), shared with other jobs; times are of one core.

- Bare products of the miniature size (N 256, C 128, three seeds folded): 62 to 82 GFLOP/s for P = U^T X and X M^T in every
  layout, so W is kept [S, R, K, N], where the element-wise work is contiguous too.
- Predicted 39 us a miniature step and pair, measured 120, 108, 89, 87 us at batch 4, 8, 16, 32: four fifths in products.
  Batches that hide the 60 calls of a step and stay in the cache are best (CACHE_BYTES). The paper's size wants 8 samples
  or more, as projection and anchors are fetched once for all.
- Fewer steps, trained miniature tokens, objective and IoU of the chosen maps against 1,800 steps (736.2): 900 of size 0.5
  735.4, 0.98; 450 of 1.0 731.4, 0.85; 300 of 1.25 733.3, 0.85; 300 of 0.25 788.6, 0.50. The objective is reached in 300
  steps, the same maps are not, but the scores are (config/README.md): the configuration's ``schedule: fast``.
- Peak at the paper's size, 32 samples, tokens = 1, constants apart: descent 1.30 (one seed), 1.88 (three); with k-means
  2.59, of which its float64 copies of 16 samples are 1.8.
- Two threads with 4 small samples each (200 calls a step) wait for the interpreter's lock: 2.0 to 3.4 ms a step of 8, one
  thread 1.0. Predicted the opposite. ``auto`` now takes a thread for every 4 MiB of tokens (THREAD_BYTES).
- Products of the descriptors cut to TF32 moved the objective by 4.8e-5 in the median: given up for split halves.
- Both cores free, batch 8, times faster than the expanded form (one seed, three seeds): miniature size 7.8 and 15.3, paper's
  size 14.8 and 37 (by processor time 15.6, 30.5, 15.4, 36.3). On a crowded machine the expanded form, which uses both cores,
  suffers more, and 20 to 61 were seen. One seed's products have 8 rows: calls and the reading of X rule.
- Two cores of a Xeon (2 MiB of L2 each, 257 GFLOP/s), both free: paper's size 34 and 65 (36 and 66), miniature size 7.3 and 16 (15 and 32).
  Of a one-seed step at the paper's size, batch 8, three quarters are products (X twice 30 %, words and projection 45 %); at
  the miniature size half.
- One H200, the plain step in a graph, us a step (predicted 750): 128 x 3 1226, 20 x 3 507, 20 x 1 460, 1 x 1 271; all of
  ``fit`` at 128 x 3 7.4 ms a pair, of which 1.7 are start, checks and upload. K-fold expanded 20 x 3 8.4 ms, 20 x 1 6.7.
- A prototype of the fast step there: 360 at 128 x 3, 111 at 20 x 3, one kernel of it without its products, so lower bounds.
  By kernel: V's update 101, X twice 99, audio's W 35, audio's P and e 34; these have been made anew since (V's update by
  blocks of columns, the gradient of e once a pair, 128 columns a program). The fast step as it is has run on no card.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from rich.table import Table
from torch import Tensor

from taco.bench import gates, kernels, measure
from taco.bench.problems import SIZES, Size, flops_of_halves, flops_per_step, problem
from taco.conmf import Anchors, CoNMF, Initial, Projection, Settings

STEPS = 1800
# On a CPU all steps are plain.
WAYS: dict[str, dict[str, object]] = {"fast": {"fast": True}, "plain": {"fast": False}}
# Rows of a GPU at the paper's size that have a goal: samples, seeds, ms a pair of all of ``fit``, times the expanded form.
GOALS = ((128, 3, 1.5, None), (20, 3, 4.0, 60.0), (20, 1, None, None))


@dataclass
class Row:
    """One measured solver run.

    ``step_ms`` is wall time of a step of the whole batch, ``cpu_step_ms`` the processor time of all threads (the better
    number on a shared machine), ``pair_ms`` wall time of a (sample, seed) at 1,800 steps from a given start, ``fit_ms`` the
    same of all of :meth:`CoNMF.fit`, k-means included (GPU). ``compute`` and ``traffic`` are what the step's products and
    two readings of the tokens would take at the measured ceilings, over what the step took: products of split halves and
    tokens in half precision on the fast way, float32 otherwise; ``roofline`` is the larger one (above 1 with tokens that
    stay on chip).
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
    fit_ms: float | None = None


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

    @property
    def way(self) -> str:
        """The solver's own way there."""
        return "fast" if self.cuda else "plain"

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
    is told apart from the steps. Ceilings are measured first: large products and a large copy. On a GPU the rows that have
    a goal, the time of each kernel and the floors end the report.

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
        Of :data:`WAYS`, timed at the last size, its two largest batches and the baselines', and compared with float64; all
        of them on CUDA, none on a CPU unless given.
    tokens : path, optional
        A suite's results (``results/miniature``), whose features the ways are compared on too.
    say : callable
        Prints a line of progress.

    Returns
    -------
    dict
        ``ceilings``, ``rows``, ``ratios``, ``gates``, ``goals``, ``kernels``.
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
        cases = [(n, batch, run.way) for n in seeds for batch in wanted]
        if name == sizes[-1]:
            largest = [batch for batch in wanted if batch in (*wanted[-2:], run.baseline_batch)]
            cases += [(n, batch, way) for way in ways if way != run.way for n in seeds for batch in largest]
        for n, batch, way in cases:
            rows.append(_time_solver(name, batch, n, run, way))
            say(f"{name}, {batch} samples, {n} seeds, {way}: {rows[-1].pair_ms:.4g} ms a pair")
        if reference is not None:
            rows += [_time_reference(name, n, run, reference, wide) for n in seeds for wide in (False, True)]
    return {
        "ceilings": run.ceilings,
        "rows": [asdict(row) for row in rows],
        "ratios": _ratios(rows),
        "gates": gates.compare({way: WAYS[way] for way in ways}, tokens, device),
        "goals": _goals(rows) if cuda else [],
        "kernels": kernels.times(SIZES[sizes[-1]], max(batches), max(seeds), device) if cuda else [],
    }


def _time_solver(name: str, samples: int, n_seeds: int, run: Run, way: str) -> Row:
    size = SIZES[name]
    image, audio, anchors = problem(size, samples)
    if run.cuda:
        image, audio = image.half(), audio.half()  # as a cache gives them
    keys = [str(i) for i in range(samples)]
    base = Settings(n_components=size.k, batch_size=samples if run.cuda else "auto", **WAYS[way])
    start = CoNMF(replace(base, init="random_tokens"), anchors, run.device).initial_factors
    initial = Initial(start(image, keys, "image"), start(audio, keys, "audio"))

    def solve(count: int) -> object:
        settings = replace(base, init="given", steps=count)
        return CoNMF(settings, anchors, run.device).fit(image, audio, keys, range(n_seeds), initial=initial)

    step, cpu, once = measure.difference(solve, run.timed_steps(size), run.device)
    pairs, fast = samples * n_seeds, run.cuda and way == "fast"
    bytes_read = (image.numel() + audio.numel()) * (4 if fast else 8)
    flops = (flops_of_halves if fast else flops_per_step)(size)
    shares = {
        "compute": flops * pairs / step / 1e9 / run.ceilings["half_gflops" if fast else "gflops"],
        "traffic": bytes_read / step / 1e9 / run.ceilings["gbytes"],
    }
    whole = CoNMF(base, anchors, run.device)
    once_more = partial(whole.fit, image, audio, keys, range(n_seeds))
    fit = min(measure.seconds(once_more, run.device) for _ in range(2)) if run.cuda else None
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
        fit_ms=None if fit is None else 1e3 * fit / pairs,
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


def _goals(rows: Sequence[Row]) -> list[dict]:
    """What the rows of :data:`GOALS` reached: ms a pair of all of ``fit``, and times the expanded form's step."""
    found = []
    for samples, seeds, most, least in GOALS:
        at = {r.version: r for r in rows if (r.size, r.samples, r.seeds) == ("paper", samples, seeds)}
        fast, slow = at.get("fast"), at.get("autograd, expanded")
        if fast is not None:
            times = None if slow is None else slow.step_ms / fast.step_ms
            found.append(
                {
                    "samples": samples,
                    "seeds": seeds,
                    "fit_ms": fast.fit_ms,
                    "fit_goal": most,
                    "step_us": 1e3 * fast.step_ms,
                    "reading_us": 1e3 * fast.step_ms * fast.traffic,
                    "arithmetic_us": 1e3 * fast.step_ms * fast.compute,
                    "times_expanded": times,
                    "times_goal": least,
                }
            )
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
    halves = f", {ceilings['half_gflops']:.0f} (of halves)" if "half_gflops" in ceilings else ""
    yield (
        f"ceilings measured: {ceilings['gflops']:.0f} GFLOP/s (float32 product){halves}, {ceilings['gbytes']:.0f} GB/s (copy)"
    )
    where = {"size": "size", "samples": "samples", "seeds": "seeds", "version": "version"}
    columns = where | {
        "ms/step": "step_ms",
        "CPU": "cpu_step_ms",
        "ms/pair": "pair_ms",
        "ms/fit": "fit_ms",
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
        yield measure.table("against float64", columns, report["gates"])
    if report["kernels"]:
        columns = {"kernel or product": "kernel", "µs": "us"}
        yield measure.table("a fast step, each part alone, largest batch", columns, report["kernels"])
    if report["goals"]:
        columns = {"samples": "samples", "seeds": "seeds", "ms/fit": "fit_ms", "goal": "fit_goal"}
        columns |= {"µs/step": "step_us", "X twice": "reading_us", "arithmetic": "arithmetic_us"}
        columns |= {"times expanded": "times_expanded", "its goal": "times_goal"}
        yield measure.table("paper's size, the rows that have a goal", columns, report["goals"])
