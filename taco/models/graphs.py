"""Work whose launches take longer than its arithmetic: captured once as a CUDA graph, then replayed.

A graph runs the very kernels of its capture, so results are bit for bit those of a call from the host.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Work = Callable[[Mapping[str, Tensor]], tuple[Tensor, ...]]
WARM_UP = 2  # calls before a capture: libraries make their handles and workspaces, constants are remembered


class Remembered(TorchFunctionMode):
    """Within this, tensors made of Python's numbers are made once and handed out again.

    Libraries make small constants anew in every call (transformers' Mask2Former the sizes of its feature maps). On a
    GPU each of them is a copy that the host waits for, and none can be captured. Whoever is given one must not change it.
    """

    MAKERS = (torch.tensor, torch.as_tensor)

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self._made)

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        data = args[0] if args else kwargs.get("data")
        if function not in self.MAKERS or not isinstance(data, list | tuple):
            return function(*args, **kwargs)
        key = repr((function.__name__, args, sorted(kwargs.items(), key=lambda item: item[0])))
        if key not in self._made:
            self._made[key] = function(*args, **kwargs)
        return self._made[key]


class Captured:
    """A function of named tensors, captured for inputs of one shape.

    Parameters
    ----------
    work : callable
        Takes a mapping of tensors, returns a tuple of tensors. It may ask nothing of the host.
    inputs : mapping of str to Tensor
        Of the shapes and types that later calls will have, on CUDA.
    capture : callable
        Turns a function of no arguments into one that repeats its device work; a test hands in another.
    """

    def __init__(
        self,
        work: Work,
        inputs: Mapping[str, Tensor],
        capture: Callable[[Callable[[], None]], Callable[[], None]] | None = None,
    ):
        self._inputs = {name: tensor.clone() for name, tensor in inputs.items()}
        self._outputs: tuple[Tensor, ...] = ()
        # The graph reads these constants at every replay.
        self._constants = Remembered()

        def run() -> None:
            with self._constants:
                self._outputs = work(self._inputs)

        self._replay = (capture or cuda_graph)(run)

    def __call__(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Run the work on other inputs; the outputs are the caller's own."""
        for name, tensor in self._inputs.items():
            tensor.copy_(inputs[name])
        self._replay()
        return tuple(output.clone() for output in self._outputs)


def cuda_graph(work: Callable[[], None]) -> Callable[[], None]:
    """Run ``work`` on a stream of its own until it is warm, capture it there, and return what replays it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            work()
        # Other threads may meanwhile use the GPU: only this one is forbidden to wait for it.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    return graph.replay
