"""Problems that the solver is measured on: their shapes, random tokens, and the arithmetic of a step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from taco.conmf import Anchors, Projection


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

    @property
    def tokens(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """N x C_I and T x C_A."""
        return (self.n, self.c_image), (self.t, self.c_audio)


SIZES = {
    "miniature": Size(256, 128, 64, 128, 240, 128),
    "paper": Size(576, 768, 64, 768, 527, 1024),
}


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
    per_side = sum(4 * n * k * c + 4 * n * k * k + 4 * k * k * c for n, c in size.tokens)
    forward = 2 * size.t * k * size.d + 2 * k * size.d**2 + 2 * k * size.j * (size.c_image + size.d)
    backward = 2 * size.j * (size.c_image + size.d) + 2 * size.d**2 + 2 * size.d * size.c_audio
    return per_side + forward + backward


def flops_of_halves(size: Size) -> int:
    """The same of a fast step: two products where X is one factor, which is exact in half precision, else three."""
    k, d = size.k, size.d
    per_side = sum(
        2 * 4 * n * k * c + 3 * (4 * n * k * k + 2 * k * k * c) + 2 * k * k * c for n, c in size.tokens
    )
    forward = 2 * size.t * k * d + 2 * k * d**2 + 2 * k * size.j * (size.c_image + d)
    backward = 2 * size.j * (size.c_image + d) + 2 * d**2 + 2 * size.t * d
    return per_side + 3 * (forward + backward)
