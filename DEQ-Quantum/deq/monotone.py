"""A layer whose equilibrium exists and is unique for all weights, and two splitting methods that always find it.

Winston and Kolter, "Monotone operator equilibrium networks", NeurIPS 2020:

    z = relu(W z + U x + b),    W = (1 - m) I - A^T A + B - B^T,    m > 0

I - W is then strongly monotone, (v, (I - W) v) >= m |v|^2, however large W is; Picard may diverge all the same.
Both solvers are solvers of one's own in the sense of `deq.Solver`: they know the layer, and propose the next
iterate from what they keep.

    layer = MonotoneLayer(n_inputs=10, n_units=40)
    f = layer.bind(x)
    z, result = deq.equilibrium(f, x.new_zeros(len(x), 40), SolverSettings(PeacemanRachford(f), 200))
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MonotoneLayer(nn.Module):
    """z = relu(W z + U x + b) with W = (1 - m) I - A^T A + B - B^T.

    Args:
        n_inputs: entries of x.
        n_units: entries of z.
        m: how strongly monotone I - W is, > 0.
        scale: size of the entries of A and B at the start, over sqrt(n_units).
    """

    def __init__(self, n_inputs: int, n_units: int, m: float = 0.1, scale: float = 1.0) -> None:
        super().__init__()
        if m <= 0:
            raise ValueError(f"m must be > 0, not {m}")
        self.m = m
        self.a = nn.Parameter(scale * torch.randn(n_units, n_units) / n_units**0.5)
        self.b_skew = nn.Parameter(scale * torch.randn(n_units, n_units) / n_units**0.5)
        self.inject = nn.Linear(n_inputs, n_units)

    def weight(self) -> Tensor:
        """W, (n_units, n_units)."""
        eye = torch.eye(len(self.a), dtype=self.a.dtype, device=self.a.device)
        return (1 - self.m) * eye - self.a.T @ self.a + self.b_skew - self.b_skew.T

    def bind(self, x: Tensor) -> BoundMonotone:
        """f(z) for inputs x (B, n_inputs); W and U x + b are computed once."""
        return BoundMonotone(self.weight(), self.inject(x), self.m)


class BoundMonotone:
    """f(z) = relu(W z + c) for a batch c (B, n)."""

    def __init__(self, w: Tensor, c: Tensor, m: float) -> None:
        self.w, self.c, self.m = w, c, m

    def __call__(self, z: Tensor) -> Tensor:
        return torch.relu(z @ self.w.T + self.c)


class ForwardBackward:
    """z <- relu(z - alpha ((I - W) z - c)): a step down the monotone operator, then the resolvent of relu's.

    Converges for 0 < alpha < 2 m / L^2, L = ||I - W||; the default is m / L^2, for which the error falls by
    sqrt(1 - m^2 / L^2) a step.

    Args:
        f: the bound layer.
        alpha: step, or None for the default.
    """

    def __init__(self, f: BoundMonotone, alpha: float | None = None) -> None:
        self.f, self.alpha = f, alpha

    def start(self, f, shape: torch.Size, max_steps: int):
        """See `deq.Solver`."""
        w, c = self.f.w.detach(), self.f.c.detach()
        alpha = self.alpha
        if alpha is None:
            eye = torch.eye(len(w), dtype=w.dtype, device=w.device)
            alpha = self.f.m / torch.linalg.matrix_norm(eye - w, 2) ** 2
        return lambda z, f_z: torch.relu(z + alpha * (z @ w.T + c - z))


class PeacemanRachford:
    """Reflected resolvents of both operators in turn; converges for every alpha > 0, in far fewer steps.

        z_half = V (u_half + alpha c),  V = (I + alpha (I - W))^-1;   u = 2 z_half - u_half;   z = relu(u)

    with u_half = 2 z - u. V is factorised once per solve.

    Args:
        f: the bound layer.
        alpha: any number > 0.
    """

    def __init__(self, f: BoundMonotone, alpha: float = 1.0) -> None:
        self.f, self.alpha = f, alpha

    def start(self, f, shape: torch.Size, max_steps: int) -> _Reflections:
        """See `deq.Solver`."""
        return _Reflections(self.f.w.detach(), self.f.c.detach(), self.alpha)


class _Reflections:
    def __init__(self, w: Tensor, c: Tensor, alpha: float) -> None:
        eye = torch.eye(len(w), dtype=w.dtype, device=w.device)
        self.factors = torch.linalg.lu_factor(eye + alpha * (eye - w))
        self.shift = alpha * c
        self.u: Tensor | None = None

    def __call__(self, z: Tensor, f_z: Tensor) -> Tensor:
        u = z if self.u is None else self.u
        u_half = 2 * torch.relu(u) - u
        z_half = torch.linalg.lu_solve(*self.factors, (u_half + self.shift).T).T
        self.u = 2 * z_half - u_half
        return torch.relu(self.u)
