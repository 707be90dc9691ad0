"""The benchmark counts what the solver does, and reports all that it promises."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from taco.bench import conmf as bench
from taco.bench import gates
from taco.cache.hdf5 import CacheWriter
from taco.conmf import CoNMF, Settings
from taco.method import text

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


def test_report_has_rows_ratios_and_gates(monkeypatch):
    monkeypatch.setitem(bench.SIZES, "tiny", TINY)
    monkeypatch.setitem(bench.SIZES, "miniature", TINY)
    monkeypatch.setattr(bench.measure, "ceilings", lambda device: {"gflops": 100.0, "gbytes": 10.0})
    monkeypatch.setattr(gates, "GATE_SAMPLES", 2)
    report = bench.conmf(
        sizes=["tiny"],
        batches=[1, 2],
        seeds=[1, 3],
        steps=40,
        baseline_batch=2,
        baseline_steps=20,
        ways=["plain", "fast"],
    )
    cases = [(r["samples"], r["seeds"], r["version"]) for r in report["rows"]]
    assert cases[:4] == [
        (1, 1, "plain"),
        (2, 1, "plain"),
        (1, 3, "plain"),
        (2, 3, "plain"),
    ]
    assert cases[4:8] == [(1, 1, "fast"), (2, 1, "fast"), (1, 3, "fast"), (2, 3, "fast")]
    assert [case[1:] for case in cases[8:]] == [
        (seeds, f"autograd, {kind}") for seeds in (1, 3) for kind in ("plain", "expanded")
    ]
    for row in report["rows"][:8]:
        assert row["roofline"] == max(row["compute"], row["traffic"]) > 0
        assert row["peak_over_tokens"] > 0
    assert len(report["ratios"]) == 2 * 2 * 2  # ways, baselines, numbers of seeds
    assert all(r["times_faster"] > 0 for r in report["ratios"])
    assert [(r["tokens"], r["version"]) for r in report["gates"]] == [
        ("planted, miniature", "plain"),
        ("planted, miniature", "fast"),
    ]
    ceilings, *tables = bench.tables(report)
    assert "100 GFLOP/s" in ceilings
    assert [table.row_count for table in tables] == [12, 8, 2]


def test_goals_are_read_off_the_rows():
    """Of the paper's size, on the fast way; floors are what the ceilings would take."""

    def row(samples, seeds, version, step, **more):
        own = {"cpu_step_ms": 0.0, "fixed_ms": 0.0, "pair_ms": 1.0} | more
        return bench.Row("paper", samples, seeds, version, step, **own)

    fast = {"fit_ms": 1.4, "traffic": 0.2, "compute": 0.4}
    rows = [
        row(128, 3, "fast", 0.3, **fast),
        row(20, 3, "plain", 0.5),
        row(20, 3, "fast", 0.1, **fast),
        row(20, 3, "autograd, expanded", 8.0),
    ]
    first, second = bench._goals(rows)
    assert (first["samples"], first["fit_ms"], first["fit_goal"], first["times_expanded"]) == (
        128,
        1.4,
        1.5,
        None,
    )
    assert first["reading_us"] == pytest.approx(60) and first["arithmetic_us"] == pytest.approx(120)
    assert (second["times_expanded"], second["times_goal"]) == (pytest.approx(80), 60.0)


def test_unknown_size_is_refused():
    with pytest.raises(ValueError, match="miniature, paper"):
        bench.conmf(sizes=["huge"])


@pytest.fixture(scope="module")
def planted():
    """A problem for the gates, and its exact outcome."""
    image, audio, anchors = bench.problem(bench.Size(48, 24, 16, 20, 12, 28, k=4), samples=3)
    problem = gates.Problem(3 * image, 3 * audio, anchors, ["a", "b", "c"], tuple(gates.GATES))
    settings = Settings(n_components=4, beta_penalty=10.0, steps=200)
    return problem, gates.exact(problem, settings, seeds=(0, 1))


@pytest.mark.parametrize("way", ["plain", "fast"])
def test_gates_hold_on_planted_tokens(way, planted):
    found = gates.deviation(*planted, "cpu", bench.WAYS[way])
    assert found["clear"] > 0 and found["passed"]
    assert 0 < found["objective_median"] <= found["objective"]


def test_the_gates_see_a_difference(monkeypatch, planted):
    """A way whose W is off must not pass."""
    fit = CoNMF.fit

    def spoilt(self, image_tokens, *rest, **options):
        result = fit(self, image_tokens, *rest, **options)
        result.image_activations = result.image_activations.flip(2)
        result.objective = result.objective * 1.01
        return result

    monkeypatch.setattr(CoNMF, "fit", spoilt)
    found = gates.deviation(*planted, "cpu")
    assert found["objective"] > 1e-4 and found["iou"] < 0.9 and not found["passed"]


def test_tokens_of_a_suite_are_read(tmp_path):
    """Its first samples, and the anchors of its general bank."""
    image, audio, anchors = bench.problem(TINY, samples=3)
    (tmp_path / "features" / "s4").mkdir(parents=True)
    with CacheWriter(tmp_path / "features" / "s4" / "0.h5", "features", ["a", "b", "c"], {}) as writer:
        for i in range(3):
            writer.put("image_tokens", i, image[i].numpy().astype(np.float16))
            writer.put("audio_tokens", i, audio[i].numpy().astype(np.float16))
    constants = dict(zip(("linear1", "linear2", "norm_weight", "norm_bias", "norm_eps"), anchors.projection))
    constants["clap_logit_scale"] = anchors.scale
    labels = text.Labels(["x"], anchors.image.numpy(), anchors.audio.numpy())
    held = SimpleNamespace(labels=lambda dataset, bank: labels, constants=constants)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gates, "Text", lambda path: held)
        problem = gates.suite_problem(tmp_path, "s4", 2)
    assert problem.keys == ["s4/a", "s4/b"]
    assert torch.equal(problem.image, image[:2].half().float())
    assert torch.equal(problem.audio, audio[:2].half().float())
    assert torch.equal(problem.anchors.projection.linear2, anchors.projection.linear2)
