"""Matrix-free Krylov solvers, batched, for the linear system q - J^T q = b of the implicit gradient.

Each sample has a Krylov space of its own; all products are made for the whole batch at once. States are (B, d).
A sample that is done stays where it is; the batch goes on until all are, and on a GPU to the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deq.host import host_may_look
from deq.result import sample_norm
from deq.rows import add_combination, choose, dot, history_dots, norm
from deq.settings import SolverSettings

Product = Callable[[Tensor], Tensor]


@dataclass
class KrylovSolution:
    """Where a Krylov solver ended.

    Attributes:
        q: (B, d).
        n_products: batched products with J^T.
        steps: (B,) steps until a sample was done.
        trace: residuals (B,) in the measure of the settings, as far as the recurrences know them.
    """

    q: Tensor
    n_products: int
    steps: Tensor
    trace: list[Tensor] = field(default_factory=list)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where b is 0: a direction that has broken down is not taken."""
    return torch.where(b != 0, a / torch.where(b != 0, b, 1.0), 0.0)


class _Progress:
    """Which samples are not done: residual over scale, against the tolerance."""

    def __init__(self, b: Tensor, settings: SolverSettings) -> None:
        self.settings = settings
        self.steps = torch.zeros(len(b), dtype=torch.long, device=b.device)
        self.trace: list[Tensor] = []

    def see(self, residual: Tensor, q_norm: Tensor) -> Tensor:
        """(B,) samples whose residual norm is above the tolerance, and an entry of the trace; both arguments (B,)."""
        self.trace.append(_ratio(residual, q_norm) if self.settings.stop_mode == "rel" else residual)
        return self.above(residual, q_norm)

    def above(self, residual: Tensor, q_norm: Tensor) -> Tensor:
        """(B,) samples whose residual norm is above the tolerance."""
        if self.settings.stop_mode == "rel":
            return residual > self.settings.tol * q_norm
        return residual > self.settings.tol

    def any(self, active: Tensor) -> bool:
        return not host_may_look(active) or bool(active.any())


def gmres(product: Product, b: Tensor, settings: SolverSettings, memory: int) -> KrylovSolution:
    """Least residual over the Krylov space, restarted when `memory` vectors are full.

    Source: Y. Saad, M. H. Schultz, SIAM J. Sci. Stat. Comput. 7 (1986); Arnoldi's vectors are orthogonalised twice.
    While a cycle runs ||q|| is that of its start, so the true residual is looked at between cycles.
    """
    progress, q, n_products = _Progress(b, settings), b, 1
    r = product(q)  # b - (q - J^T q) at q = b
    active = progress.see(sample_norm(r), sample_norm(q))
    done = 0
    while done < settings.max_steps and progress.any(active):
        length = min(memory, settings.max_steps - done)
        basis = torch.zeros(length + 1, *b.shape, dtype=b.dtype, device=b.device)
        hessenberg = _Hessenberg(sample_norm(r), length)
        basis[0] = _ratio(r, norm(r))
        scale, running, used = sample_norm(q), active, 0
        while used < length and progress.any(running):
            progress.steps = progress.steps + running
            w = basis[used] - product(basis[used])
            n_products += 1
            column = torch.zeros_like(b[:, :1]).expand(-1, used + 1)
            for _ in range(2):
                (weights,) = history_dots(basis[: used + 1], w)
                w = add_combination(w, basis[: used + 1], weights, sign=-1)
                column = column + weights
            length_w = norm(w)
            basis[used + 1] = _ratio(w, length_w)
            running = running & progress.see(hessenberg.add(column, length_w.squeeze(1)), scale)
            used += 1
        q = torch.where(active.unsqueeze(1), add_combination(q, basis[:used], hessenberg.weights()), q)
        r = product(q) + b - q
        n_products, done = n_products + 1, done + used
        active = active & progress.see(sample_norm(r), sample_norm(q))
    return KrylovSolution(q, n_products, progress.steps, progress.trace)


class _Hessenberg:
    """The small least-squares problem of a cycle, kept triangular by one rotation a step; everything is (B,)."""

    def __init__(self, beta: Tensor, length: int) -> None:
        self.right = [beta]
        self.rotations: list[tuple[Tensor, Tensor]] = []
        self.columns: list[Tensor] = []

    def add(self, column: Tensor, below: Tensor) -> Tensor:
        """Add a column (B, k) and the entry below it; returns the residual's norm."""
        entries = list(column.unbind(1))
        for i, (c, s) in enumerate(self.rotations):
            entries[i : i + 2] = [c * entries[i] + s * entries[i + 1], c * entries[i + 1] - s * entries[i]]
        diagonal = torch.hypot(entries[-1], below)
        empty = diagonal == 0
        c, s = torch.where(empty, 1.0, _ratio(entries[-1], diagonal)), _ratio(below, diagonal)
        self.rotations.append((c, s))
        self.columns.append(torch.stack([*entries[:-1], torch.where(empty, 1.0, diagonal)], dim=1))
        last = self.right[-1]
        # an empty column, of a space that is exhausted, leaves the residual and takes no part
        self.right[-1] = torch.where(empty, 0.0, c * last)
        self.right.append(torch.where(empty, last, -s * last))
        return self.right[-1].abs()

    def weights(self) -> Tensor:
        """(B, k) weights of the basis vectors, by back substitution."""
        k = len(self.columns)
        weights = [self.right[0]] * k
        for i in reversed(range(k)):
            above = sum(self.columns[j][:, i] * weights[j] for j in range(i + 1, k))
            weights[i] = (self.right[i] - above) / self.columns[i][:, i]
        return torch.stack(weights, dim=1)


def bicgstab(product: Product, b: Tensor, settings: SolverSettings) -> KrylovSolution:
    """Two short recurrences in place of a basis: memory of eight states, two products a step.

    Source: H. A. van der Vorst, SIAM J. Sci. Stat. Comput. 13 (1992). A sample whose recurrence breaks down (a
    denominator lost in rounding) starts anew from its residual. Far from I - J^T positive, GMRES is the surer choice.
    """
    progress, q, n_products = _Progress(b, settings), b, 1
    r = shadow = p = product(q)
    rho = dot(shadow, r)
    active = progress.see(sample_norm(r), sample_norm(q))
    eps = torch.finfo(b.dtype).eps
    for n_steps in range(settings.max_steps):
        if n_steps > 0 and not progress.any(active):
            # the recurrence's residual has met the tolerance; where the true one has not, it starts anew
            r = shadow = p = product(q) + b - q
            rho, n_products = dot(r, r), n_products + 1
            active = progress.above(sample_norm(r), sample_norm(q))
        if not progress.any(active):
            break
        progress.steps = progress.steps + active
        a_p = p - product(p)
        alpha = _ratio(rho, dot(shadow, a_p))
        s = r - alpha * a_p
        a_s = s - product(s)
        n_products += 2
        omega = _ratio(dot(a_s, s), dot(a_s, a_s))
        q = choose(active, q + alpha * p + omega * s, q)
        r_next = s - omega * a_s
        rho_next = dot(shadow, r_next)
        beta = _ratio(rho_next * alpha, rho * omega)
        broken = (rho_next.abs() <= eps * norm(shadow) * norm(r_next)) | (omega == 0) | (alpha == 0)
        p = torch.where(broken, r_next, r_next + beta * (p - omega * a_p))
        shadow = torch.where(broken, r_next, shadow)
        rho = torch.where(broken, dot(r_next, r_next), rho_next)
        r = r_next
        active = active & progress.see(sample_norm(r), sample_norm(q))
    return KrylovSolution(q, n_products, progress.steps, progress.trace)
