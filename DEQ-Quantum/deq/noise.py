"""Equilibria of a map that is measured: f(z) comes with an error that is new at every call, as from finitely many shots.

No residual can be trusted below the floor that these errors make, sqrt(E ||error||^2), and the least of several noisy
residuals is less than any of them deserves. So nothing here is a minimum: a sample is answered with where it stands, or
with an average, and its residual is measured by an evaluation that no step has seen.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deq.result import SolverStatus, relative
from deq.settings import SolverSettings
from deq.watch import Watch

Noise = Callable[[Tensor, Tensor], Tensor]  # (z, f(z)), (B, d) each, to sqrt(E ||error of f(z)||^2), (B,)
# a residual of so many floors is one that an exact solution may show
FLOORS = 1.5


def noise_of(f: Callable[[Tensor], Tensor], settings: SolverSettings) -> Noise | None:
    """The error of f as the settings say it, else as f offers it; None where f is exact."""
    if settings.noise is None:
        return getattr(f, "noise", None)
    return constant(settings.noise) if settings.noise > 0 else None


def constant(length: float) -> Noise:
    """The same error everywhere."""
    return lambda z, f_z: z.new_full((len(z),), length)


class NoisyWatch(Watch):
    """The loop's books for a noisy f: a sample stops within `FLOORS` of its floor, and stands where it is then.

    Args:
        averages_after: steps after which iterates are averaged; a sample then stops once the average's own error, the floor
            over the root of how many iterates it has, meets the tolerance. None: the last iterate is the answer.
    """

    def __init__(
        self, z: Tensor, f_z: Tensor, settings: SolverSettings, noise: Noise, averages_after: int | None
    ) -> None:
        self.noise, self.averages_after = noise, averages_after
        self.total = torch.zeros_like(z)
        self.n_averaged = z.new_zeros(len(z))
        super().__init__(z, f_z, settings)

    def floor(self, z: Tensor, f_z: Tensor) -> Tensor:
        """(B,) floors of the residual at z (B, d), in the measure of the stop mode."""
        floor = self.noise(z, f_z).to(z.dtype)
        return relative(floor, z) if self.relatively else floor

    def see(self, z: Tensor, f_z: Tensor) -> None:
        if self.trace:
            self.steps = self.steps + self.active
            if self.averages_after is not None and len(self.trace) > self.averages_after:
                self.total = self.total + torch.where(self.active.unsqueeze(1), z, 0.0)
                self.n_averaged = self.n_averaged + self.active
        abs_residual, residual = self._measure(z, f_z)
        better = residual < self.least
        self.z, self.f_z = z, f_z
        self.least = torch.fmin(self.least, residual)
        self.least_abs = torch.fmin(self.least_abs, abs_residual)
        floor = self.floor(z, f_z)
        met = residual <= (FLOORS * floor).clamp_min(self.settings.tol)
        if self.averages_after is not None:
            met = torch.where(floor > 0, floor <= self.settings.tol * self.n_averaged.sqrt(), met)
        self.converged = self.converged | (met & residual.isfinite())
        self.trace.append(residual)
        self.abs_trace.append(abs_residual)
        self.stopped = self._stopped(self._lost(abs_residual, better))
        self.active = ~self.stopped
        self.none_frozen = self._all(self.active)

    def answer_before_measuring(self) -> Tensor:
        """What every sample is answered with, (B, d): where it stands, or the mean of its iterates.

        Where f is exact and a sample has converged, a mean would take it away again.
        """
        exact = self.converged & (self.noise(self.z, self.f_z) == 0)
        averaged = (self.n_averaged > 0) & ~exact
        return torch.where(averaged.unsqueeze(1), self.total / self.n_averaged.clamp_min(1).unsqueeze(1), self.z)

    def measure_again(self, z: Tensor, f_z: Tensor) -> Tensor:
        """The answer and a fresh f there, (B, d) each: what the statuses are about. Returns the floors, (B,)."""
        self.z, self.f_z = z, f_z
        _, residual = self._measure(z, f_z)
        floor = self.floor(z, f_z)
        self.at_floor = (residual <= FLOORS * floor) & residual.isfinite()
        self.met = residual <= self.settings.tol
        return floor

    def best(self) -> tuple[Tensor, Tensor]:
        return self.z, self.f_z

    def answer(self) -> tuple[Tensor, Tensor]:
        return self.z, self.f_z

    def status(self) -> Tensor:
        status = torch.full_like(self.steps, int(SolverStatus.MAX_STEPS))
        for samples, code in (
            (self.stagnated, SolverStatus.STAGNATED),
            (self.converged | self.at_floor, SolverStatus.AT_FLOOR),
            (self.met, SolverStatus.CONVERGED),
            (self.diverged | self._far_above_least(), SolverStatus.DIVERGED),
            (self.non_finite, SolverStatus.NON_FINITE),
        ):
            status = torch.where(samples, int(code), status)
        return status
