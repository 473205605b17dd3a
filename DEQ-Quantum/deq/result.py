"""What a solver hands back: one status, residual and number of steps per sample, never one for the batch.

The message of a status is part of the status, so whoever reports a failure has its words at hand.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from enum import IntEnum

import torch
from torch import Tensor

from deq.host import host_may_look, traced
from deq.settings import SolverSettings
from deq.state import State


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
    NON_FINITE = 3, "not finite: f or the iterate became inf or NaN; the best finite iterate, or NaN, is returned"
    SINGULAR = 4, "singular: I - J has no inverse; the least-squares solution is returned"
    STAGNATED = 5, "stagnated: the residual did not fall for `patience` steps; the best iterate is returned"
    AT_FLOOR = 6, "at the noise floor: the residual is within its errors of measurement of the tolerance"


class ConvergenceWarning(UserWarning):
    """No sample of a batch converged."""


class ConvergenceError(RuntimeError):
    """A sample did not converge, and `throw` was asked for.

    Attributes:
        result: the SolverResult.
    """

    def __init__(self, message: str, result: SolverResult) -> None:
        super().__init__(message)
        self.result = result


@dataclass(eq=False)
class SolverResult:
    """The outcome of a solve of z = f(z) for a batch of B samples.

    Attributes:
        z: best iterate of every sample, shaped as z0: the one with the least residual; where growth of z alone has
            made a relative residual small, the one with the least absolute residual. NaN for a sample that had no
            finite iterate. With `polish`, f at that iterate.
        f_z: f at that iterate.
        status: (B,) integers, values of `SolverStatus`.
        residual: (B,) residual of the best iterate in the measure that `stop_mode` chose.
        abs_residual: (B,) ||f(z) - z||.
        rel_residual: (B,) ||f(z) - z|| / ||z||; 0/0 is 0 and x/0 is inf.
        steps: (B,) steps that each sample took before it stopped.
        n_f_evals: batched calls of f, or products with J^T (steps + 1; `exact` makes none).
        n_jacobians: batched Jacobians formed besides those calls (newton: one per step; exact: one).
        trace: (n_steps + 1, B) residual of every current iterate, in the measure of `residual`; a sample that
            has stopped repeats its last best value.
        floor: (B,) residual that the errors of a measured f make at an exact solution, in the measure of `residual`;
            None where f is exact. With it no noisy residual is chosen for being least: z is where a sample stopped, or
            an average (of a failed one the first iterate of least residual, none being less than its floor), and the
            residuals are of an evaluation that no step has seen.
        states: the best iterates after the steps that `record` named, each shaped as z0.
        backward: the outcome of the implicit gradient's linear solve, once a backward pass has run.
    """

    z: State
    f_z: State
    status: Tensor
    residual: Tensor
    abs_residual: Tensor
    rel_residual: Tensor
    steps: Tensor
    n_f_evals: int
    n_jacobians: int
    trace: Tensor
    floor: Tensor | None = None
    states: list[State] = field(default_factory=list)
    backward: SolverResult | None = None

    @property
    def converged(self) -> Tensor:
        """(B,) bool: which samples met the tolerance."""
        return self.status == SolverStatus.CONVERGED

    @property
    def settled(self) -> Tensor:
        """(B,) bool: which samples met the tolerance, or the floor below which a measured f shows nothing."""
        return self.converged | (self.status == SolverStatus.AT_FLOOR)

    def counts(self) -> dict[SolverStatus, int]:
        """How many samples ended in which status; those that do not occur are left out."""
        counts = {status: int((self.status == status).sum()) for status in SolverStatus}
        return {status: n for status, n in counts.items() if n}

    def describe(self) -> str:
        """How many samples ended in which status, in words; one line per status that occurs."""
        return "\n".join(f"{n} of {len(self.status)} samples {s.message}" for s, n in self.counts().items())


def report(result: SolverResult, settings: SolverSettings, what: str, throw: bool, depth: int = 2) -> None:
    """Warn where no sample converged or came to its floor; with `throw`, raise where any did not.

    Python shows a warning once per place and text, so the text holds no numbers. tol = 0 and max_steps = 0 ask for a
    number of steps, not for convergence: then nothing is said. On a GPU only `throw` looks.

    Args:
        what: what was solved, for the message.
        depth: how many calls above this one the user's line is.

    Raises:
        ConvergenceError: `throw`, and a sample did not converge.
    """
    if throw and not traced():
        if not result.settled.all():
            raise ConvergenceError(f"{what} with {settings.label}: {result.describe()}", result)
        return
    asked = settings.tol > 0 and settings.max_steps > 0 and len(result.status) > 0
    if asked and host_may_look(result.status) and not result.settled.any():
        messages = "; ".join(status.message for status in result.counts())
        warnings.warn(
            f"{what} with {settings.label}: no sample of the batch converged ({messages}). SolverResult.describe() "
            "counts them, throw=True makes this an error",
            ConvergenceWarning,
            stacklevel=depth + 1,
        )


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
    # 0, or NaN where it is not finite; fmax passes over the NaN of 0/0
    zero = abs_residual - abs_residual
    return torch.fmax(abs_residual / sample_norm(z), zero)
