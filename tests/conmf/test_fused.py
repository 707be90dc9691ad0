"""The fused passes equal the plain ones: on a GPU where there is one, else in Triton's interpreter."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

triton = pytest.importorskip("triton")

from taco.bench.problems import Size, problem
from taco.conmf import CoNMF, CoNMFError, Settings, elementwise, fused
from taco.conmf.settings import stream

# The interpreter's own; numpy's wish to it.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")

PAIRS, K, N, C = 3, 5, 150, 200  # neither a multiple of the kernels' blocks nor a power of two


@pytest.fixture
def one_thread():
    """Triton's interpreter serves one thread at a time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw(name, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=stream("fused", name), dtype=torch.float64).to(DEVICE, dtype)


def both(name, *tensors):
    """What the plain and the fused function leave in their arguments."""
    results = []
    for passes in (elementwise, fused):
        copies = [t.clone() if isinstance(t, torch.Tensor) else t for t in tensors]
        getattr(passes, name)(*copies)
        results.append(copies)
    return zip(*results)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_move_alike(dtype):
    w = draw("w", PAIRS, K, N, dtype=dtype)
    w[1, :, 140:] = float("-inf")  # padding
    tensors = (w, w.sigmoid(), draw("g", PAIRS, K, N, dtype=dtype), draw("gram", PAIRS, K, K, dtype=dtype))
    for i, (plain, kernel) in enumerate(both("move_weights", *tensors)):
        if i != 2:  # the gradient is scratch afterwards
            torch.testing.assert_close(kernel, plain)
    assert (kernel == tensors[3]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("project", [True, False])
def test_factors_move_alike(dtype, project):
    v, p = draw("v", PAIRS, K, C, dtype=dtype).abs(), draw("p", PAIRS, K, C, dtype=dtype)
    gram, a = draw("gram", PAIRS, K, K, dtype=dtype), draw("a", PAIRS, dtype=dtype)
    for plain, kernel in both("move_factors", v, p, gram, a, torch.empty_like(v), project):
        if isinstance(plain, torch.Tensor):
            torch.testing.assert_close(kernel, plain)


def test_what_is_not_a_number_is_not_projected_away():
    v, p = draw("v", 1, K, C).abs(), draw("p", 1, K, C)
    p[0, 2, 3] = float("nan")
    gram, a = draw("gram", 1, K, K), draw("a", 1)
    for plain, kernel in list(both("move_factors", v, p, gram, a, torch.empty_like(v), True))[:1]:
        assert plain[0, 2, 3].isnan() and kernel[0, 2, 3].isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_residuals_are_alike(dtype):
    p, v = draw("p", PAIRS, K, 300, dtype=dtype), draw("v", PAIRS, K, 300, dtype=dtype)
    grams = (draw("uu", PAIRS, K, K, dtype=dtype), draw("vv", PAIRS, K, K, dtype=dtype))
    norm, out = draw("x", PAIRS, dtype=dtype).abs(), torch.empty(PAIRS, dtype=dtype, device=DEVICE)
    *_, (plain, kernel) = both("residual", p, v, *grams, norm, torch.empty_like(v), out)
    torch.testing.assert_close(kernel, plain)


@pytest.mark.parametrize("option", [{}, {"beta_temporal": 1.0}])
def test_a_run_is_the_same(option, one_thread):
    """Different token counts too; float64, so that rounding stays small."""
    image, audio, anchors = problem(Size(20, 12, 10, 14, 9, 16, k=3), samples=2)
    tokens = [image[0].double(), image[1, :15].double()], [audio[0].double(), audio[1, :8].double()]
    settings = Settings(n_components=3, steps=4, beta_penalty=2.0, init="random_tokens", **option)
    plain, kernels = (
        CoNMF(replace(settings, fused=fused), anchors, DEVICE).fit(*tokens, ["a", "b"], (0, 1), ["c", "c"])
        for fused in (False, True)
    )
    for name in ("image_activations", "audio_activations", "image_factors", "audio_factors", "cross_entropy"):
        torch.testing.assert_close(getattr(kernels, name), getattr(plain, name), rtol=1e-10, atol=1e-10)


def test_the_cpu_is_refused_outside_the_interpreter(monkeypatch):
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    with pytest.raises(CoNMFError, match="fused: expected a CUDA device, found cpu"):
        fused.check(torch.device("cpu"))


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from taco.conmf import fused

for kernel, scalars, constants in (
    (fused._residual, ("size", "cells"), {"CELLS": 64, "BLOCK": 1024}),
    (fused._move_weights, ("n",), {"K": 8, "BLOCK": 128}),
    (fused._move_factors, ("c",), {"K": 8, "PROJECT": True, "BLOCK": 128}),
):
    types = dict.fromkeys(scalars, "i32") | dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, "*fp32") for name in kernel.arg_names}
    source = triton.compiler.ASTSource(kernel, signature, constants)
    binary = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    print(kernel.__name__, len(binary.asm["cubin"]), binary.asm["ptx"].count(".local"))
"""


def test_kernels_compile_for_a_gpu_that_is_not_there(tmp_path):
    """The interpreter does not check types; the compiler does, down to the machine code of an H100 (sm_90)."""
    plain = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    made = subprocess.run(
        [sys.executable, "-c", COMPILE],
        check=False,
        env=plain | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    kernels = [line.split() for line in made.stdout.splitlines()]
    assert len(kernels) == 3
    assert all(int(size) > 0 and int(spilled) == 0 for *_, size, spilled in kernels)
