"""The benchmark counts what the solver does, and reports all that it promises."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from taco.bench import conmf as bench
from taco.conmf import CoNMF, Settings

TINY = bench.Size(n=20, c_image=12, t=10, c_audio=14, j=9, d=16, k=3)


@pytest.fixture
def one_thread():
    """Solve in the calling thread, the only one whose operations torch's counter sees."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_counted_operations_are_those_of_a_step(one_thread):
    """Two runs that differ by ten steps; torch counts the products."""
    image, audio, anchors = bench.problem(TINY, samples=2)
    counts = []
    for steps in (5, 15):
        solver = CoNMF(Settings(n_components=3, steps=steps, init="random_tokens", batch_size=2), anchors)
        with FlopCounterMode(display=False) as counter:
            solver.fit(image, audio, ["a", "b"], (0, 1, 2))
        counts.append(counter.get_total_flops())
    assert (counts[1] - counts[0]) / 10 == 6 * bench.flops_per_step(TINY)


def test_report_has_rows_ratios_and_json(tmp_path, monkeypatch):
    monkeypatch.setitem(bench.SIZES, "tiny", TINY)
    monkeypatch.setattr(bench.measure, "ceilings", lambda device: {"gflops": 100.0, "gbytes": 10.0})
    path = tmp_path / "bench.json"
    report = bench.conmf(
        sizes=["tiny"],
        batches=[1, 2],
        seeds=[1, 3],
        steps=40,
        baseline_batch=2,
        baseline_steps=20,
        output=path,
    )
    assert json.loads(path.read_text()) == report
    assert [(r["samples"], r["seeds"]) for r in report["rows"][:4]] == [(1, 1), (2, 1), (1, 3), (2, 3)]
    assert [r["version"] for r in report["rows"][4:]] == ["autograd, plain", "autograd, expanded"]
    assert len(report["ratios"]) == 4
    assert all(r["times_faster"] > 0 for r in report["ratios"])


def test_unknown_size_is_refused():
    with pytest.raises(ValueError, match="miniature, paper"):
        bench.conmf(sizes=["huge"])


def test_gates_hold_for_float32_on_planted_tokens():
    image, audio, anchors = bench.problem(bench.Size(48, 24, 16, 20, 12, 28, k=4), samples=3)
    settings = Settings(n_components=4, beta_penalty=10.0, steps=200)
    gates = bench.conmf_gates(3 * image, 3 * audio, anchors, ["a", "b", "c"], settings, seeds=(0, 1))
    assert gates["clear"] > 0
    assert gates["objective"] < 1e-4 and gates["k_star"] >= 0.99 and gates["iou"] >= 0.99


def test_the_gates_see_a_difference(monkeypatch):
    """A device path whose W is off must not pass."""
    image, audio, anchors = bench.problem(bench.Size(48, 24, 16, 20, 12, 28, k=4), samples=3)
    fit = CoNMF.fit

    def spoilt(self, image_tokens, *rest, **options):
        result = fit(self, image_tokens, *rest, **options)
        if image_tokens.dtype == torch.float32:
            result.image_activations = result.image_activations.flip(2)
            result.objective = result.objective * 1.01
        return result

    monkeypatch.setattr(CoNMF, "fit", spoilt)
    settings = Settings(n_components=4, beta_penalty=10.0, steps=60)
    gates = bench.conmf_gates(3 * image, 3 * audio, anchors, ["a", "b", "c"], settings)
    assert gates["objective"] > 1e-4 and gates["iou"] < 0.9
