"""What a solver hands back: one status, residual and number of steps per sample, never one for the batch.

The message of a status is part of the status, so whoever reports a failure has its words at hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor


class SolverStatus(IntEnum):
    """Why a sample stopped; `SolverStatus(code).message` says it in words."""

    message: str

    def __new__(cls, code: int, message: str) -> SolverStatus:
        status = int.__new__(cls, code)
        status._value_ = code
        status.message = message
        return status

    CONVERGED = 0, "converged: the residual met the tolerance"
    MAX_STEPS = 1, "step limit: the tolerance was not met within max_steps; the best iterate is returned"
    DIVERGED = 2, "diverged: the residual grew far beyond its least value; the best iterate is returned"
    NON_FINITE = 3, "not finite: f or the iterate became inf or NaN; the best finite iterate is returned"
    SINGULAR = 4, "singular: I - J has no inverse; the least-squares solution is returned"


@dataclass(eq=False)
class SolverResult:
    """The outcome of a solve of z = f(z) for a batch of B samples.

    Attributes:
        z: best iterate of every sample, shaped as z0: the one with the least residual.
        f_z: f at that iterate.
        status: (B,) integers, values of `SolverStatus`.
        residual: (B,) residual of the best iterate in the measure that `stop_mode` chose.
        abs_residual: (B,) ||f(z) - z||.
        rel_residual: (B,) ||f(z) - z|| / ||z||; 0/0 is 0 and x/0 is inf.
        steps: (B,) steps that each sample took before it stopped.
        n_f_evals: batched calls of f (steps + 1 for all solvers but `exact`, which makes none).
        n_jacobians: batched Jacobians formed besides those calls (newton: one per step; exact: one).
        trace: (n_steps + 1, B) residual of every current iterate, in the measure of `residual`; a sample that
            has stopped repeats its last best value.
        backward: the outcome of the implicit gradient's linear solve, once a backward pass has run.
    """

    z: Tensor
    f_z: Tensor
    status: Tensor
    residual: Tensor
    abs_residual: Tensor
    rel_residual: Tensor
    steps: Tensor
    n_f_evals: int
    n_jacobians: int
    trace: Tensor
    backward: SolverResult | None = None

    @property
    def converged(self) -> Tensor:
        """(B,) bool: which samples met the tolerance."""
        return self.status == SolverStatus.CONVERGED

    def describe(self) -> str:
        """How many samples ended in which status, in words; one line per status that occurs."""
        counts = [(status, int((self.status == status).sum())) for status in SolverStatus]
        return "\n".join(f"{n} of {len(self.status)} samples {s.message}" for s, n in counts if n)


def sample_norm(z: Tensor) -> Tensor:
    """(B,) Euclidean norms of the samples of z (B, d)."""
    return torch.linalg.vector_norm(z, dim=1)


def residuals(z: Tensor, f_z: Tensor, stop_mode: str) -> tuple[Tensor, Tensor, Tensor]:
    """(B,) residuals of z (B, d) in the measure of stop_mode, absolute and relative; inf, never NaN."""
    abs_residual = sample_norm(f_z - z).nan_to_num(nan=math.inf, posinf=math.inf)
    rel_residual = relative(abs_residual, z).nan_to_num(nan=math.inf, posinf=math.inf)
    return (rel_residual if stop_mode == "rel" else abs_residual), abs_residual, rel_residual


def relative(abs_residual: Tensor, z: Tensor) -> Tensor:
    """||f(z) - z|| / ||z|| per sample from (B,) norms and z (B, d); 0/0 is 0 and x/0 is inf."""
    return torch.where(abs_residual == 0, abs_residual, abs_residual / sample_norm(z))
