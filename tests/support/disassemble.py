"""Compile every kernel of a fast step for GPUs that are not there, as it would be launched, and read the machine code.

Run as a script: one JSON line for each kernel, with the size and the options that it is compiled for.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget

from taco.bench.problems import SIZES
from taco.conmf import Anchors, Projection, Settings, fast, halves
from taco.conmf.descent import Batch, make_step

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


class Absent:
    """Stands for Triton's driver of a GPU of this compute capability."""

    def __init__(self, capability):
        self.capability = capability

    def get_current_target(self):
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


def shapeless(size, samples, seeds, settings):
    """A fast step on tensors without values."""

    def empty(*shape):
        return torch.empty(*shape, device="meta")

    k = size.k
    sides = [
        (
            empty(samples, n, c),
            torch.full((samples,), n),
            empty(samples, seeds, k, n),
            empty(samples, seeds, k, c),
        )
        for n, c in size.tokens
    ]
    d = size.d
    projection = Projection(empty(d, size.c_audio), empty(d, d), empty(d), empty(d))
    anchors = Anchors(empty(size.j, size.c_image), empty(size.j, d), 30.0, projection)
    step = make_step(Batch(*sides, lengths=[samples]), settings, anchors)
    return fast.Fast(step, settings, halves.constants_of(anchors))


def read(cubin):
    """:func:`parse` of what cuobjdump says about a binary."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        usage, code = (
            subprocess.run([CUOBJDUMP, what, file.name], check=True, capture_output=True, text=True).stdout
            for what in ("--dump-resource-usage", "--dump-sass")
        )
    return parse(usage, code)


def parse(usage, code):
    """Registers, local memory (spills), tensor-core products, and those whose result nobody gets."""
    products = re.findall(r"\bHG?MMA\.\S+ (\w+)", code)
    return {
        "registers": int(re.search(r"REG:(\d+)", usage)[1]),
        "spilled": int(re.search(r"STACK:(\d+)", usage)[1]) + len(re.findall(r"\b(?:LDL|STL)\b", code)),
        "products": len(products),
        "dropped": products.count("RZ"),
    }


def main(capability, size, seeds, beta_temporal):
    triton.runtime.driver.set_active(Absent(capability))

    def compile_only(kernel, grid, *arguments, warps=4, stages=3, **constants):
        made = kernel.run(*arguments, grid=grid, warmup=True, num_warps=warps, num_stages=stages, **constants)
        found = read(made.asm["cubin"]) | {"shared": made.metadata.shared, "grid": grid}
        print(json.dumps({"kernel": kernel.__name__} | found), flush=True)

    fast.launch = compile_only
    fast.product = lambda *_: None
    step = shapeless(SIZES[size], 128, seeds, Settings(beta_temporal=beta_temporal))
    for work in step.work.values():
        work()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
