"""Which iterate to try next: Picard, Broyden, Anderson and Newton proposals for z = f(z), and one's own.

A proposal is called once per step with the current iterate and f at it, both (B, d), and answers with the
next iterate, (B, d). It keeps what history it needs; stopping, guards and freezing are the loop's business
(`solvers.py`). Samples never mix: every inner product is within a sample, so an answer does not depend on its
batch mates. Throughout, g(z) = f(z) - z is the function whose root is sought.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from deq.host import host_may_look
from deq.jacobian import batch_jacobian, check_jacobian, offered_jacobian
from deq.result import sample_norm
from deq.rows import (
    WIDE,
    add_combination,
    dot,
    history_dots,
    norm,
    rounding,
    rounding_of,
    squared_rounding_of,
    zero_unless,
)
from deq.settings import SOLVERS, SolverSettings
from deq.state import Layer

Noise = Callable[[Tensor, Tensor], Tensor]  # see `noise.py`
DOUBTS = 3.0  # a difference is believed from so many standard deviations of its error
RIDGE_RETRIES = (1.0, 1e3, 1e6)
# entries of a state up to which Broyden's matrix may be kept whole
WHOLE_WIDTH = 8


class Proposal(Protocol):
    """A step: (z, f_z) to the next iterate, all (B, d), in the dtype that the solver computes in.

    It may keep what it is given, and must not write into it. If it has a `n_jacobians`, that is reported; if it has an
    `evaluate`, that is called for f; if it has a `noise`, that is set to the error of an f that is measured, (z, f_z)
    to (B,); if it has an `averages_after`, the mean of the iterates after so many steps is the answer.
    """

    def __call__(self, z: Tensor, f_z: Tensor) -> Tensor: ...


@runtime_checkable
class Solver(Protocol):
    """What makes a proposal with a fresh history for one solve.

    Args of `start`:
        f: the layer, of states shaped `shape`.
        shape: (B, ...) of the state, whose samples the proposal sees as rows (B, d).
        max_steps: how often the proposal will be called at most.
    """

    def start(self, f: Layer, shape: torch.Size, max_steps: int) -> Proposal: ...


def proposal_of(settings: SolverSettings, f: Layer, shape: torch.Size) -> Proposal:
    """The proposal that the settings name, or one's own: a `Solver` is started, a bare step is taken as it is.

    Raises:
        ValueError: a solver for linear systems.
    """
    solver = settings.name
    if not isinstance(solver, str):
        return solver.start(f, shape, settings.max_steps) if isinstance(solver, Solver) else solver
    if not SOLVERS[solver].proposal:
        raise ValueError(f"{solver!r} solves linear systems only; for z = f(z) newton is its like")
    return _BY_NAME[solver](f, shape, settings.max_steps, **settings.all_options())


class Picard:
    """z <- z + damping (f(z) - z), without damping z <- f(z)."""

    def __init__(self, f: Layer, shape: torch.Size, max_steps: int, damping: float) -> None:
        self.damping = damping

    def __call__(self, z: Tensor, f_z: Tensor) -> Tensor:
        return f_z if self.damping == 1 else torch.lerp(z, f_z, self.damping)


class Averaged:
    """z <- z + damping / k^power (f(z) - z) in step k, answered with the mean of the iterates after the burn-in.

    Where f is measured with an error that is new at every call, an iterate is no better than one error lets it be; the
    mean of n has an error of about 1 / sqrt(n) of that, where f is as good as linear within the errors.
    Source: H. Robbins, S. Monro, Ann. Math. Statist. 22 (1951); B. T. Polyak, A. B. Juditsky, SIAM J. Control Optim. 30
    (1992).
    """

    def __init__(
        self, f: Layer, shape: torch.Size, max_steps: int, damping: float, power: float, burn_in: float
    ) -> None:
        self.damping, self.power = damping, power
        self.averages_after = int(burn_in * max_steps)
        self.n_steps = 0

    def __call__(self, z: Tensor, f_z: Tensor) -> Tensor:
        self.n_steps += 1
        share = self.damping / self.n_steps**self.power
        return f_z if share == 1 else torch.lerp(z, f_z, share)


class Broyden:
    """Good Broyden: z <- z - damping H g, where H estimates the inverse Jacobian of g.

    H starts at -I, so the first step is Picard's. After a step dz that changed g by dg, H <- H + u v^T with
    u = (dz - H dg) / (dz^T H dg) and v = H^T dz make H dg = dz hold. A sample whose denominator is lost in rounding, or
    in the errors of an f that is measured, skips its update. H is kept as its pairs (u, v), or whole where the state is
    narrow.
    Source: C. G. Broyden, Math. Comp. 19 (1965).
    """

    def __init__(self, f: Layer, shape: torch.Size, max_steps: int, memory: int, damping: float) -> None:
        # whatever max_steps is: fewer steps are the first ones of more, bit by bit
        whole = math.prod(shape[1:]) <= min(memory, WHOLE_WIDTH)
        self.inverse = (_WholeInverse if whole else _PairedInverse)(max(1, min(memory, max_steps)))
        self.damping = damping
        self.noise: Noise | None = None

    def __call__(self, z: Tensor, f_z: Tensor) -> Tensor:
        if self.noise is not None:
            self.inverse.doubt = DOUBTS * 2**0.5 * self.noise(z, f_z)
        h_g = self.inverse.times(f_z - z, z)
        return z - h_g if self.damping == 1 else z - self.damping * h_g


class _PairedInverse:
    """Broyden's H as -I + sum_k u_k v_k^T.

    Attributes:
        doubt: (B,) length up to which H dg, along dz, may be made of errors; None where f is exact.
    """

    doubt: Tensor | None = None

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.rank = 0
        self.z: Tensor | None = None
        self.h_g: Tensor

    def times(self, g: Tensor, z: Tensor) -> Tensor:
        """H g, g at z, with the H that the step to z has made, all (B, d)."""
        if self.z is None:
            # history first: a step's pair is one contiguous block, and a sum over history stays per sample
            self.u = z.new_empty(self.memory, *z.shape)
            self.v = torch.empty_like(self.u)
            h_g = -g
        elif self.rank == self.memory:
            self.rank = 0
            h_g = -g
        else:
            h_g = self._update(z, z - self.z, g)
        self.z, self.h_g = z, h_g
        return h_g

    def _update(self, z: Tensor, dz: Tensor, g: Tensor) -> Tensor:
        """Add the pair of the step dz that led to z with g, all (B, d); returns H g with the new H."""
        k = self.rank
        h_g = self._low_rank(self.u[:k], self.v[:k], g)
        h_dg = h_g - self.h_g
        v = self._low_rank(self.v[:k], self.u[:k], dz)
        denominator = dot(dz, h_dg)
        least = rounding(z, h_g, self.h_g)
        if self.doubt is not None:
            least = torch.maximum(least, self.doubt.unsqueeze(1) / dz.shape[1] ** 0.5)
        usable = denominator.abs() > norm(dz) * least
        u = zero_unless(usable, (dz - h_dg) / denominator)
        self.u[k], self.v[k] = u, v
        self.rank = k + 1
        return h_g + u * dot(v, g)

    @staticmethod
    def _low_rank(left: Tensor, right: Tensor, vector: Tensor) -> Tensor:
        """(-I + sum_k left_k right_k^T) vector, for left and right (k, B, d) and vector (B, d)."""
        if len(left) == 0:
            return -vector
        if vector.shape[1] < WIDE:
            weights = (right * vector).sum(dim=2, keepdim=True)
            return (left * weights).sum(dim=0) - vector
        (weights,) = history_dots(right, vector)
        return add_combination(-vector, left, weights)


class _WholeInverse:
    """Broyden's H as a matrix: fewer operations, each of which runs along the samples, which come last here.

    Attributes:
        doubt: as above.
    """

    doubt: Tensor | None = None

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.rank = 0
        self.z: Tensor | None = None
        self.h: Tensor
        self.h_g: Tensor

    def times(self, g: Tensor, z: Tensor) -> Tensor:
        """H g, g at z, with the H that the step to z has made, all (B, d)."""
        z, g = z.T.contiguous(), g.T.contiguous()
        if self.z is None or self.rank == self.memory:
            eye = torch.eye(len(z), dtype=z.dtype, device=z.device)
            self.h, self.rank = -eye.unsqueeze(2).expand(*eye.shape, z.shape[1]), 0
            h_g = -g
        else:
            h_g = self._update(z, z - self.z, g)
        self.z, self.h_g = z, h_g
        return h_g.T

    def _update(self, z: Tensor, dz: Tensor, g: Tensor) -> Tensor:
        """H <- H + u v^T for the step dz that led to z with g, all (d, B); returns H g with the new H."""
        h_g = (self.h * g).sum(1)
        v = (self.h * dz.unsqueeze(1)).sum(0)
        vectors = torch.stack([z, h_g, self.h_g, dz])
        _, along_h_g, along_before, along_dz = (vectors * dz).sum(1).unbind()
        denominator = along_h_g - along_before
        # the share of H dg along dz against the rounding of what it is made of, both squared
        least = squared_rounding_of(vectors.square().sum((0, 1)))
        if self.doubt is not None:
            least = torch.maximum(least, self.doubt.square() / len(z))
        usable = denominator * (denominator / along_dz) > least
        u = torch.where(usable, (dz - h_g + self.h_g) / denominator, 0.0)
        self.h = torch.addcmul(self.h, u.unsqueeze(1), v)
        self.rank += 1
        return torch.addcmul(h_g, u, along_h_g)


class Anderson:
    """Anderson acceleration: the last differences of z and g, combined to cancel g by least squares.

    gamma minimises ||g - sum_i gamma_i dg_i||, and z <- z + mixing * g - sum_i gamma_i (dz_i + mixing *
    dg_i). The normal equations are those of the dg_i scaled to unit length, so that the ridge is relative to their
    trace and old, long differences do not drown new, short ones. Where f is measured, what its errors make of a
    difference's squared length is added on the diagonal: the larger its share, the less is learnt from it, and
    combinations of many are means of a kind. (Leaving such differences out, as Broyden does, has larger errors.) A
    sample whose factorisation fails is tried again with a larger ridge and at last takes the Picard step (gamma = 0).
    Source: D. G. Anderson, J. ACM 12 (1965); H. F. Walker, P. Ni, SIAM J. Numer. Anal. 49 (2011).
    """

    def __init__(
        self, f: Layer, shape: torch.Size, max_steps: int, memory: int, ridge: float | None, mixing: float
    ) -> None:
        self.memory = max(1, min(memory, max_steps))
        self.ridge = ridge
        self.mixing = mixing
        self.n_differences = 0
        self.z: Tensor | None = None
        self.g: Tensor
        self.g_norm: Tensor
        self.noise: Noise | None = None

    def __call__(self, z: Tensor, f_z: Tensor) -> Tensor:
        g = f_z - z
        z_norm, g_norm = sample_norm(z), sample_norm(g)
        proposal = z + self._mixed(g)
        if self.z is None:
            self._make_room(z)
        else:
            slot = self.n_differences % self.memory
            dg = g - self.g
            self.dg[slot] = dg
            self.moves[slot] = (z - self.z).add_(self._mixed(dg))
            row, target = history_dots(self.dg, dg, g, room=self.room)
            length = row[:, slot].sqrt()
            usable = length > rounding_of(z_norm + g_norm + self.g_norm)
            if self.noise is not None:
                errors = 2 * (self.noise(z, f_z) / length).square()
                self.errors[:, slot] = torch.where(usable, errors, 0.0)
            self.inverse_length[:, slot] = inverse = torch.where(usable, 1 / length, 0.0)
            # the one row and column of the normal equations that this step changes
            self.gram[:, slot] = self.gram[:, :, slot] = row * self.inverse_length * inverse.unsqueeze(1)
            self.n_differences += 1
            proposal = add_combination(proposal, self.moves, self._weights(target), sign=-1)
        self.z, self.g, self.g_norm = z, g, g_norm
        return proposal

    def _mixed(self, g: Tensor) -> Tensor:
        return g if self.mixing == 1 else self.mixing * g

    def _make_room(self, z: Tensor) -> None:
        """Slots that are not filled, or hold rounding error, have an inverse length of zero, and so has their gamma."""
        self.dg = z.new_zeros(self.memory, *z.shape)
        self.moves = torch.zeros_like(self.dg)
        self.room = z.new_empty(len(z), 2, z.shape[1]) if z.shape[1] >= WIDE else None
        self.inverse_length = z.new_zeros(len(z), self.memory)
        self.errors = torch.zeros_like(self.inverse_length)
        self.gram = z.new_zeros(len(z), self.memory, self.memory)
        eps = torch.finfo(z.dtype).eps
        ridge = 10 * eps if self.ridge is None else max(self.ridge, eps)
        eye = torch.eye(self.memory, dtype=z.dtype, device=z.device)
        self.ridges = [ridge * factor * eye for factor in RIDGE_RETRIES]

    def _weights(self, target: Tensor) -> Tensor:
        """gamma (B, memory) for the inner products of the slots with the current g, (B, memory)."""
        scaled = (target * self.inverse_length).unsqueeze(2)
        gram = self.gram if self.noise is None else self.gram + torch.diag_embed(self.errors)
        gamma, failed = scaled, None
        for ridge in self.ridges:
            # on an empty slot's diagonal stands the ridge alone, so it is never zero
            lower, info = torch.linalg.cholesky_ex(gram + ridge)
            candidate = torch.cholesky_solve(scaled, lower)
            if failed is None and host_may_look(target) and not info.any() and math.isfinite(candidate.sum()):
                return candidate.squeeze(2) * self.inverse_length
            solved = (info == 0).view(-1, 1, 1) & candidate.isfinite().all(dim=1, keepdim=True)
            if failed is None:
                gamma, failed = torch.zeros_like(scaled), torch.ones_like(solved)
            gamma = torch.where(failed & solved, candidate, gamma)
            failed = failed & ~solved
            if host_may_look(target) and not failed.any():
                break
        return gamma.squeeze(2) * self.inverse_length


class Newton:
    """z <- z + (I - J)^-1 (f(z) - z) with the exact Jacobian J of f, sample by sample.

    J is f's own `jacobian(z)` (B, d, d) where f offers one, else autograd's (d vector-Jacobian products). Where f
    offers `value_and_jacobian(z)`, one pass serves both: then the loop has f's value from `evaluate`.
    A sample whose I - J is singular takes the Picard step instead. After so many `jacobians` the last one is kept (the
    chord method): where it is measured, each costs many calls of f, and its error only slows the steps down.
    """

    evaluate: Callable[[Tensor], Tensor] | None = None

    def __init__(self, f: Layer, shape: torch.Size, max_steps: int, jacobians: int | None = None) -> None:
        self.f = f
        self.shape = shape
        self.n_jacobians = 0
        self.jacobians = math.inf if jacobians is None else jacobians
        self.jacobian: Tensor | None = None
        self.system: Tensor
        self.eye: Tensor | None = None
        if getattr(f, "value_and_jacobian", None) is not None:
            self.evaluate = self._evaluate

    def _evaluate(self, z: Tensor) -> Tensor:
        if self.n_jacobians >= self.jacobians:
            return self.f(z)
        value, jacobian = self.f.value_and_jacobian(z)
        self.jacobian = check_jacobian(jacobian, z)
        return value

    def __call__(self, z: Tensor, f_z: Tensor) -> Tensor:
        if self.eye is None:
            self.eye, self.looks = torch.eye(z.shape[1], dtype=z.dtype, device=z.device), host_may_look(z)
        if self.n_jacobians < self.jacobians:
            self.system = self.eye - (self._jacobian_at(z) if self.jacobian is None else self.jacobian)
            self.n_jacobians += 1
        step, info = torch.linalg.solve_ex(self.system, (f_z - z).unsqueeze(2))
        step = step.squeeze(2)
        # division by a pivot of zero has left an inf or a NaN
        if self.looks and math.isfinite(step.sum()):
            return z + step
        solved = (info == 0).unsqueeze(1) & step.isfinite().all(dim=1, keepdim=True)
        return torch.where(solved, z + step, f_z)

    def _jacobian_at(self, z: Tensor) -> Tensor:
        state = z.reshape(self.shape)
        jacobian = offered_jacobian(self.f, state)
        return batch_jacobian(self.f, state) if jacobian is None else jacobian


# a plain table, which torch.compile can follow
_BY_NAME = {name: globals()[kind.proposal] for name, kind in SOLVERS.items() if kind.proposal}
