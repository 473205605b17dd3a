"""A zoo of fixed-point problems with answers known in closed form or from an independent dense solve.

Each problem says which solvers must reach its answer, so that one test runs every solver on every problem it
should solve. All in float64; `f` maps (B, ...) to (B, ...) and acts on every sample alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deq import SolverSettings

BACKWARD = ("broyden", "anderson", "fixed_point", "exact", "gmres", "bicgstab")
NEWTON = SolverSettings("newton", 30, 1e-14)
ALL = ("broyden", "anderson", "fixed_point", "newton")
COSINE_FIXED_POINT = 0.7390851332151607


@dataclass(frozen=True)
class Problem:
    """A map, where to start, the answer, who must find it and within how many steps."""

    name: str
    f: Callable[[Tensor], Tensor]
    z0: Tensor
    z_star: Tensor
    solvers: tuple[str, ...] = ALL
    max_steps: int = 200


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def with_spectral_norm(a: Tensor, norm: float) -> Tensor:
    return a * (norm / torch.linalg.matrix_norm(a, 2))


def affine(n_dims: int, batch: int, norm: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """A (n, n) of that spectral norm, b (B, n), and the solution of z = A z + b by a dense solve."""
    a = with_spectral_norm(normal(n_dims, n_dims, seed=seed), norm)
    b = normal(batch, n_dims, seed=seed + 1)
    z_star = torch.linalg.solve(torch.eye(n_dims, dtype=torch.float64) - a, b.T).T
    return a, b, z_star


def cosine() -> Problem:
    shape = (3, 2, 2)
    z_star = torch.full(shape, COSINE_FIXED_POINT, dtype=torch.float64)
    return Problem("cosine", torch.cos, torch.zeros(shape, dtype=torch.float64), z_star)


def contraction_200() -> Problem:
    a, b, z_star = affine(200, 4, 0.9, seed=1)
    return Problem("contraction_200", lambda z: z @ a.T + b, torch.zeros_like(b), z_star)


def expansion() -> Problem:
    """Affine with two eigenvalues far beyond 1: Picard runs away, the answer exists all the same."""
    a = torch.diag(torch.tensor([3.0, -2.5, 0.5, 0.1, -0.3], dtype=torch.float64))
    q = torch.linalg.qr(normal(5, 5, seed=3))[0]
    a = q @ a @ q.T
    b = normal(4, 5, seed=4)
    z_star = torch.linalg.solve(torch.eye(5, dtype=torch.float64) - a, b.T).T
    solvers = ("broyden", "anderson", "newton")
    return Problem("expansion", lambda z: z @ a.T + b, torch.zeros_like(b), z_star, solvers)


def square_root() -> Problem:
    """The Babylonian map z <- (z + a / z) / 2, one number per sample."""
    a = torch.tensor([[2.0], [9.0], [0.25], [1e4]], dtype=torch.float64)
    return Problem("square_root", lambda z: (z + a / z) / 2, torch.ones_like(a), a.sqrt())


def tanh_of_known_answer() -> Problem:
    """z = tanh(z W^T + x) with x chosen so that a given z solves it."""
    w = with_spectral_norm(normal(6, 6, seed=5), 0.8)
    z_star = 0.9 * torch.tanh(normal(5, 6, seed=6))
    x = torch.atanh(z_star) - z_star @ w.T
    return Problem("tanh", lambda z: torch.tanh(z @ w.T + x), torch.zeros_like(x), z_star)


def zero_map() -> Problem:
    z0 = normal(3, 4, seed=7)
    return Problem("zero_map", torch.zeros_like, z0, torch.zeros_like(z0))


def mixed_difficulty() -> Problem:
    """z = c z + 1 with another contraction factor c for every sample: z = 1 / (1 - c), entry by entry."""
    c = torch.tensor([[0.0], [0.3], [0.6], [-0.9]], dtype=torch.float64)
    z_star = (1 / (1 - c)).expand(4, 3).clone()
    return Problem("mixed_difficulty", lambda z: c * z + 1, torch.zeros_like(z_star), z_star, max_steps=400)


# problems of the public zoos of jaxopt (the first three) and optimistix


def slow_decay() -> Problem:
    """z = r z with ratios up to 0.999, of which Picard needs thousands of steps: z = 0."""
    ratios = torch.tensor([0.9, 0.99, 0.999], dtype=torch.float64)
    z0 = torch.tensor([[1.0, 0.4, -0.2], [0.1, -1.0, 0.5]], dtype=torch.float64)
    return Problem("slow_decay", lambda z: ratios * z, z0, torch.zeros_like(z0), ("broyden", "anderson", "newton"))


def rotation() -> Problem:
    """Seven planes turned about a centre: no contraction, all eigenvalues of modulus 1, the centre is the answer."""
    angles = math.pi / torch.tensor([2, 3, 4, 5, 6, 1.27, 1.73], dtype=torch.float64)
    turn = torch.block_diag(*(torch.tensor([[a.cos(), -a.sin()], [a.sin(), a.cos()]]) for a in angles)).double()
    centre = torch.arange(1.0, 15.0, dtype=torch.float64).expand(2, 14)
    f = lambda z: (z - centre) @ turn.T + centre  # noqa: E731
    return Problem("rotation", f, normal(2, 14, seed=21), centre, ("broyden", "newton"))


def flat() -> Problem:
    """z = sin(z) z^2 in one half and z^3 in the other, derivative 0 at the answer 0; Newton finds other solutions."""
    z0 = torch.tensor([[0.6, 0.7], [-0.1, 0.5]], dtype=torch.float64)
    f = lambda z: torch.stack([z[:, 0].sin() * z[:, 0] ** 2, z[:, 1] ** 3], dim=1)  # noqa: E731
    return Problem("flat", f, z0, torch.zeros_like(z0), ("broyden", "anderson", "fixed_point"))


def exponential() -> Problem:
    """z = exp(-z): the omega constant."""
    omega = torch.full((3, 2), 0.5671432904097838, dtype=torch.float64)
    return Problem("exponential", lambda z: torch.exp(-z), torch.ones_like(omega), omega)


def implicit_midpoint() -> Problem:
    """A step of the implicit midpoint rule for y' = A y, in y-space: (I - dt A / 2) y = (I + dt A / 2) y0."""
    a, dt, y0 = normal(6, 6, seed=22), 1 / 16, normal(4, 6, seed=23)
    eye = torch.eye(6, dtype=torch.float64)
    y = torch.linalg.solve(eye - dt / 2 * a, (y0 @ (eye + dt / 2 * a).T).T).T
    return Problem("implicit_midpoint", lambda z: y0 + dt * (0.5 * (y0 + z)) @ a.T, y0, y)


def stiff_step() -> Problem:
    """An implicit Euler step of Robertson's reaction, whose rates differ by nine orders: only Newton holds.

    The answer's second entry y solves k2 y^2 + k3 y w(y) + y / dt = k1 (1 - y - w) with w = dt k2 y^2, by bisection.
    """
    k1, k2, k3, dt = 0.04, 3e7, 1e4, 1e-2

    def f(z: Tensor) -> Tensor:
        a, b, c = z.unbind(1)
        forth, back, on = k1 * a, k3 * b * c, k2 * b * b
        start = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
        return start + dt * torch.stack([back - forth, forth - back - on, on], dim=1)

    def excess(y: float) -> float:
        w = dt * k2 * y * y
        return k2 * y * y + k3 * y * w + y / dt - k1 * (1 - y - w)

    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) > 0 else (middle, high)
    w = dt * k2 * low * low
    z_star = torch.tensor([[1 - low - w, low, w]], dtype=torch.float64)
    return Problem("stiff_step", f, torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64), z_star, ("newton",))


PROBLEMS = [
    slow_decay(),
    rotation(),
    flat(),
    exponential(),
    implicit_midpoint(),
    stiff_step(),
    cosine(),
    contraction_200(),
    expansion(),
    square_root(),
    tanh_of_known_answer(),
    zero_map(),
    mixed_difficulty(),
]
CASES = [(problem, solver) for problem in PROBLEMS for solver in problem.solvers]
CASE_NAMES = [f"{problem.name}-{solver}" for problem, solver in CASES]


class TanhLayer(torch.nn.Module):
    """z -> tanh(z W^T + U x + b) bound to x: a small layer with parameters, contractive for small W.

    `scale` bounds the entries' size; `offers_jacobian` decides whether f offers its own closed-form Jacobian.
    """

    def __init__(self, n_dims: int, seed: int, scale: float = 0.5) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(scale * normal(n_dims, n_dims, seed=seed) / math.sqrt(n_dims))
        self.b = torch.nn.Parameter(normal(n_dims, seed=seed + 1))

    def bind(self, x: Tensor, offers_jacobian: bool = False) -> Callable[[Tensor], Tensor]:
        return (
            BoundTanh(self.w, self.b, x)
            if offers_jacobian
            else lambda z: torch.tanh(z @ self.w.T + self.b + x)
        )


class BoundTanh:
    """The same map with its own Jacobian; counts how often that is asked for."""

    def __init__(self, w: Tensor, b: Tensor, x: Tensor) -> None:
        self.w, self.b, self.x = w, b, x
        self.n_jacobians = 0

    def __call__(self, z: Tensor) -> Tensor:
        return torch.tanh(z @ self.w.T + self.b + self.x)

    def jacobian(self, z: Tensor) -> Tensor:
        self.n_jacobians += 1
        return (1 - self(z) ** 2).unsqueeze(2) * self.w


def layer_and_input(n_dims: int = 3, batch: int = 2) -> tuple[TanhLayer, Tensor]:
    """A small layer and an input that requires a gradient."""
    return TanhLayer(n_dims, seed=1), normal(batch, n_dims, seed=3).requires_grad_()


def tight(name: str) -> SolverSettings:
    """Settings that solve a backward system to the last digits."""
    return SolverSettings(name, 200, 1e-13, "abs")
