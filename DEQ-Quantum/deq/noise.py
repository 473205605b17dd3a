"""Equilibria of a map that is measured: f(z) has an error that is new at every call, as from finitely many shots.

No residual can be trusted below the floor that these errors make, sqrt(E ||error||^2), and the least of several noisy
residuals is less than any of them deserves. So none counts as less than its floor: a sample is answered with where it
stands, or with an average, and its residual is measured by an evaluation that no step has seen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deq.call import FlatCall
from deq.proposals import DOUBTS, Noise
from deq.result import SolverStatus, relative
from deq.rows import choose
from deq.settings import SolverSettings
from deq.watch import Watch

# a residual of so many floors is one that an exact solution may show
FLOORS = 1.5
# and so many where the iterate has an error of its own, as the value of an earlier call
TWICE = DOUBTS * 2**0.5
# ||f(z) - z|| has fallen if by so many errors: the largest and the least of many are further apart than two of them
FALL = 8


def noise_of(call: FlatCall, settings: SolverSettings) -> Noise | None:
    """The error of f as the settings say it, else as f offers it for its states; None where f is exact."""
    if settings.noise is not None:
        return constant(settings.noise) if settings.noise > 0 else None
    offered = getattr(call.f, "noise", None)
    if offered is None:
        return None

    def noise(z: Tensor, f_z: Tensor) -> Tensor:
        length = offered(call.back(z), call.back(f_z)) if callable(offered) else offered
        if not isinstance(length, Tensor) or length.shape != z.shape[:1]:
            raise ValueError(
                f"f.noise(z, f_z) must return {len(z)} numbers, one for each sample; an f whose `noise` is "
                "something else takes SolverSettings(noise=0)"
            )
        return length.to(z.dtype)

    return noise


def constant(length: float) -> Noise:
    """The same error everywhere."""
    return lambda z, f_z: z.new_full((len(z),), length)


class NoisyWatch(Watch):
    """The loop's books for a noisy f: a sample stops within `FLOORS` of its floor, and stands where it is then.

    One that diverges or is not finite goes back to the first iterate of least residual, none being less than the floor.

    Args:
        averages_after: steps after which iterates are averaged; a sample then stops once the average's own error, the
            floor over the root of how many iterates it has, meets the tolerance. None: the last iterate is the answer.
    """

    def __init__(
        self, z: Tensor, f_z: Tensor, settings: SolverSettings, noise: Noise, averages_after: int | None
    ) -> None:
        self.noise, self.averages_after = noise, averages_after
        self.total = torch.zeros_like(z)
        self.n_averaged = z.new_zeros(len(z))
        super().__init__(z, f_z, settings)

    def see(self, z: Tensor, f_z: Tensor) -> None:
        abs_residual, residual = self._measure(z, f_z)
        finite = abs_residual.isfinite()
        if self.trace:
            self.steps = self.steps + self.active
            if self.averages_after is not None and len(self.trace) > self.averages_after:
                counts = self.active & finite
                self.total = self.total + torch.where(counts.unsqueeze(1), z, 0.0)
                self.n_averaged = self.n_averaged + counts
        better = residual < self.least
        self.least = torch.fmin(self.least, residual)
        errors = self.noise(z, f_z)
        at_least = torch.maximum(abs_residual, errors)
        calmer = at_least < self.least_abs
        self.calm_z, self.calm_f_z = choose(calmer, z, self.calm_z), choose(calmer, f_z, self.calm_f_z)
        self.least_abs = torch.fmin(self.least_abs, at_least)
        met = (residual <= self.settings.tol) & self._believed(abs_residual, errors)
        self.converged = self.converged | (self._may_stop(met, residual, self._floor(errors, z)) & residual.isfinite())
        self.trace.append(residual)
        self.abs_trace.append(abs_residual)
        self.stopped = self._stopped(self._lost(abs_residual, better))
        given_up = self.diverged | self.non_finite
        self.z, self.f_z = choose(given_up, self.calm_z, z), choose(given_up, self.calm_f_z, f_z)
        self.active = ~self.stopped
        self.none_frozen = self._all(self.active)

    def _believed(self, abs_residual: Tensor, errors: Tensor) -> Tensor:
        """(B,) samples whose ||f(z) - z|| has fallen from its largest by more than errors can have made of it."""
        return self._has_fallen(abs_residual + FALL * errors)

    def _floor(self, errors: Tensor, z: Tensor) -> Tensor:
        """(B,) floors of the residual at z (B, d), in the measure of the stop mode."""
        return relative(errors, z) if self.relatively else errors

    def _may_stop(self, met: Tensor, residual: Tensor, floor: Tensor) -> Tensor:
        """(B,) samples that met the tolerance, or that no further step would show to be better."""
        if self.averages_after is None:
            return met | (residual <= FLOORS * floor)
        # iterates that still move by more than their errors have no mean that means anything
        settled = met | (residual <= TWICE * floor)
        return torch.where(floor > 0, settled & (floor <= self.settings.tol * self.n_averaged.sqrt()), met)

    def answer_before_measuring(self) -> Tensor:
        """What every sample is answered with, (B, d): where it stands, or the mean of its iterates.

        Where f is exact and a sample has converged, a mean would take it away again.
        """
        failed = self._has_diverged() | self.non_finite
        exact = self.converged & (self.noise(self.z, self.f_z) == 0)
        averaged = (self.n_averaged > 0) & ~exact & ~failed
        mean = self.total / self.n_averaged.clamp_min(1).unsqueeze(1)
        return choose(averaged, mean, choose(failed, self.calm_z, self.z))

    def measure_again(self, z: Tensor, f_z: Tensor) -> Tensor:
        """The answer and a fresh f there, (B, d) each: what the statuses are about. Returns the floors, (B,)."""
        self.z, self.f_z = z, f_z
        abs_residual, residual = self._measure(z, f_z)
        errors, tol = self.noise(z, f_z), self.settings.tol
        floor = self._floor(errors, z)
        self.met = (residual <= tol) & (self.converged | self._believed(abs_residual, errors))
        near = (residual <= FLOORS * floor) | (self.converged & (residual <= tol + TWICE * floor))
        self.at_floor = near & residual.isfinite()
        return floor

    def best(self) -> tuple[Tensor, Tensor]:
        return self.z, self.f_z

    def answer(self) -> tuple[Tensor, Tensor]:
        return self.z, self.f_z

    def _has_diverged(self) -> Tensor:
        return self.diverged | (self._far_above_least() & ~self.converged)

    def status(self) -> Tensor:
        status = torch.full_like(self.steps, int(SolverStatus.MAX_STEPS))
        for samples, code in (
            (self.stagnated, SolverStatus.STAGNATED),
            (self.at_floor, SolverStatus.AT_FLOOR),
            (self.met, SolverStatus.CONVERGED),
            (self._has_diverged(), SolverStatus.DIVERGED),
            (self.non_finite, SolverStatus.NON_FINITE),
        ):
            status = torch.where(samples, int(code), status)
        return status
