"""Precision of a frozen model's products, within a block: whatever the process had set comes back after it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

TF32 = "tf32"
PRECISIONS = ("float32", TF32, "float16", "bfloat16")


@contextmanager
def products(precision: str, device: torch.device) -> Iterator[None]:
    """Compute in a precision of `PRECISIONS`.

    Parameters
    ----------
    precision : str
        ``float32`` leaves the process's settings alone (`taco.runtime.setup`: exact float32). With ``tf32`` an NVIDIA
        GPU's tensor cores read 10 bits of the fraction of a float32 and sum in float32; on a CPU it is float32. The
        others are torch's autocast.
    device : torch.device
    """
    if precision == TF32:
        backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
        before = [backend.fp32_precision for backend in backends]
        try:
            for backend in backends:
                backend.fp32_precision = "tf32"
            yield
        finally:
            for backend, value in zip(backends, before, strict=True):
                backend.fp32_precision = value
    elif precision == "float32":
        yield
    else:
        with torch.autocast(device.type, getattr(torch, precision)):
            yield
