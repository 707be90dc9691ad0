"""How long each kernel and product of a fast step takes by itself."""

import torch

from taco.bench import measure
from taco.bench.problems import Size, problem
from taco.conmf import CoNMF, Settings
from taco.conmf.descent import cuda_graph, make_step
from taco.conmf.products import float32_products
from taco.conmf.solver import _prepare

TIMES, REPLAYS = 10, 20


def times(size: Size, samples: int, seeds: int, device: str) -> list[dict]:
    """Microseconds of each part of a step, ``TIMES`` of it in a graph, and of the whole step on its streams.

    Returns
    -------
    list of dict
        ``kernel``, ``us``. Parts overlap in the whole step, which is less than their sum.
    """
    image, audio, anchors = problem(size, samples)
    settings = Settings(n_components=size.k, init="random_tokens", batch_size=samples)
    solver = CoNMF(settings, anchors, device)
    keys = [str(i) for i in range(samples)]

    def microseconds(work) -> float:
        replay = cuda_graph(work)
        replay()
        spent = measure.seconds(lambda: [replay() for _ in range(REPLAYS)], device)
        return 1e6 * spent / (REPLAYS * TIMES)

    with float32_products("ieee"), solver._on_device():
        prepared = _prepare(anchors, torch.float32, solver.device)
        units = [[i] for i in range(samples)]
        batch = solver._batch(units, image.half(), audio.half(), keys, range(seeds), None, torch.float32)
        quick = solver._accelerate(prepared, cuda_graph)(make_step(batch, settings, prepared))
        quick.load()
        quick.advance(1, 1e-6)
        rows = [
            {"kernel": name, "us": microseconds(lambda work=work: [work() for _ in range(TIMES)])}
            for name, work in quick.work.items()
        ]
        rows.append({"kernel": "sum", "us": sum(row["us"] for row in rows)})
        rows.append({"kernel": "step", "us": microseconds(lambda: quick.run(TIMES))})
    return rows
