"""Layers on which `deq` is compared with its peers: closed forms, a convolution, a block of attention.

All are contractions, so that every solver can solve them and a long unrolled stack in float64 is the answer. The
affine map, the cosine and maps of mixed difficulty are those of the public problem zoos (torchdeq's documentation,
jaxopt's and optimistix's tests); the block of attention is the weight-tied transformer of Bai, Kolter, Koltun 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, layer_norm

STACK = 300  # layers of the reference; 0.9^300 = 2e-14


@dataclass
class PeerProblem:
    """f(z; parameters, x) with its starting point and what is injected.

    Attributes:
        name: of the rows.
        f: (parameters, x) to the map of (B, ...) to (B, ...).
        parameters: what gets the gradient.
        x: (B, ...) injection; z has its shape.
        weights: (B, ...), the loss is their product with z*, summed.
    """

    name: str
    f: Callable[[tuple[Tensor, ...], Tensor], Callable[[Tensor], Tensor]]
    parameters: tuple[Tensor, ...]
    x: Tensor
    weights: Tensor

    def bound(self) -> Callable[[Tensor], Tensor]:
        """f as a solver sees it."""
        return self.f(self.parameters, self.x)

    def gradient(self, z: Tensor) -> tuple[Tensor, ...]:
        """The loss's gradient in the parameters."""
        return torch.autograd.grad((z * self.weights).sum(), self.parameters)

    def answer(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """z* and the gradient in float64: Picard to its end, then a stack of layers that autograd differentiates."""
        parameters = tuple(p.detach().double().requires_grad_() for p in self.parameters)
        f, z = self.f(parameters, self.x.double()), torch.zeros_like(self.x, dtype=torch.float64)
        with torch.no_grad():
            for _ in range(STACK):
                z = f(z)
        for _ in range(STACK):
            z = f(z)
        return z.detach(), torch.autograd.grad((z * self.weights.double()).sum(), parameters)


def _draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator)


def _with_norm(a: Tensor, norm: float) -> Tensor:
    return a * (norm / torch.linalg.matrix_norm(a, 2))


def peer_problems(seed: int, batch_size: int) -> list[PeerProblem]:
    """All problems, float32, their numbers drawn from the seed."""
    g = torch.Generator().manual_seed(seed)
    b = batch_size

    def problem(name: str, f, parameters: list[Tensor], shape: tuple[int, ...]) -> PeerProblem:
        leaves = tuple(nn.Parameter(p) for p in parameters)
        return PeerProblem(name, f, leaves, _draw(g, b, *shape), _draw(g, b, *shape))

    kernels = [_draw(g, 16, 16, 3, 3) / 12 for _ in range(2)]
    e = 32
    attention = [0.3 * _draw(g, e, e) / e**0.5 for _ in range(4)]
    feed_forward = [0.3 * _draw(g, e, 4 * e) / e**0.5, 0.3 * _draw(g, 4 * e, e) / (4 * e) ** 0.5]
    slopes = 0.95 * torch.rand(b, 1, generator=g)
    return [
        problem("affine, d 64", lambda p, x: lambda z: z @ p[0] + x, [_with_norm(_draw(g, 64, 64), 0.9)], (64,)),
        problem("cosine, d 64", lambda p, x: lambda z: torch.cos(p[0] * z + 0.3 * x), [torch.full((64,), 0.8)], (64,)),
        problem("mixed difficulty, d 64", lambda p, x: lambda z: slopes.to(z.dtype) * torch.sin(z * p[0]) + x,
                [torch.ones(64)], (64,)),
        problem("tanh, d 256", lambda p, x: lambda z: torch.tanh(z @ p[0] + x),
                [_with_norm(_draw(g, 256, 256), 0.95)], (256,)),
        problem("elementwise, d 3136", lambda p, x: lambda z: torch.tanh(p[0] * z + x),
                [0.9 * torch.rand(3136, generator=g)], (3136,)),
        problem("convolution, d 3136", _convolution, kernels, (16, 14, 14)),
        problem("attention, 16 x 32", attention_block, [*attention, *feed_forward], (16, e)),
    ]  # fmt: skip


def _convolution(p: tuple[Tensor, ...], x: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda z: torch.tanh(x + conv2d(torch.relu(conv2d(z, p[0], padding=1)), p[1], padding=1))


def attention_block(p: tuple[Tensor, ...], x: Tensor) -> Callable[[Tensor], Tensor]:
    """A block of causal self-attention and feed-forward on (B, T, E), x injected before it and after."""
    query, key, value, out, up, down = p
    n_steps, width = x.shape[1:]
    later = torch.ones(n_steps, n_steps, dtype=torch.bool).triu(1)

    def f(z: Tensor) -> Tensor:
        v = z + x
        scores = (v @ query) @ (v @ key).mT / width**0.5
        mixed = scores.masked_fill(later, float("-inf")).softmax(-1) @ (v @ value) @ out
        hidden = layer_norm(x + mixed, (width,))
        return layer_norm(hidden + torch.relu(hidden @ up) @ down, (width,))

    return f
