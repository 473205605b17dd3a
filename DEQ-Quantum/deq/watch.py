"""Per-sample bookkeeping of the loop: best iterate, reason to stop, steps, trace. States are (B, d)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deq.host import host_may_look
from deq.result import SolverStatus, relative, sample_norm
from deq.rows import choose
from deq.settings import SolverSettings

# a sample whose ||f(z) - z|| exceeds its least one by this factor is given up
DIVERGENCE_FACTOR = 1e6
# one that exceeds it by this factor when the steps are used up has diverged as well
DIVERGENCE_FACTOR_AT_END = 1e2
# an iterate that is longer than that of least ||f(z) - z|| by this factor is suspected of growth
GROWTH = 10.0
# a relative residual is believed once the absolute one is below this share of its largest value
FALLEN = 0.999


class Watch:
    """What the loop has seen of every sample.

    Relies on the loop freezing a sample that has stopped at its best iterate: its residual then repeats
    itself, so it neither improves nor changes its reason.
    """

    def __init__(self, z: Tensor, f_z: Tensor, settings: SolverSettings) -> None:
        self.settings = settings
        self.best_z, self.best_f_z = self.calm_z, self.calm_f_z = z, f_z
        self.least = self.least_abs = z.new_full((len(z),), math.inf)
        self.largest_abs = self.least
        none = torch.zeros(len(z), dtype=torch.bool, device=z.device)
        self.converged = self.diverged = self.non_finite = self.stagnated = none
        self.steps = torch.zeros(len(z), dtype=torch.long, device=z.device)
        self.without_gain = torch.zeros_like(self.steps)
        self.trace: list[Tensor] = []
        self.see(z, f_z)

    def see(self, z: Tensor, f_z: Tensor) -> None:
        """Take in the current iterate: update the best ones and stop the samples that have to stop."""
        abs_residual = sample_norm(f_z - z)
        relatively = self.settings.stop_mode == "rel"
        residual = relative(abs_residual, z) if relatively else abs_residual
        self.trace.append(residual)
        # a NaN is never less, and fmin passes it over
        better = residual < self.least
        # nothing has converged relatively, but at the start, whose ||f(z) - z|| never fell: ||z|| has grown
        fallen = better & (abs_residual < FALLEN * self.largest_abs) if relatively else better
        if relatively:
            self.largest_abs = abs_residual if len(self.trace) == 1 else torch.fmax(self.largest_abs, abs_residual)
            calmer = (abs_residual < self.least_abs).unsqueeze(1)
            self.calm_z = choose(calmer, z, self.calm_z)
            self.calm_f_z = choose(calmer, f_z, self.calm_f_z)
        self.best_z = choose(better.unsqueeze(1), z, self.best_z)
        self.best_f_z = choose(better.unsqueeze(1), f_z, self.best_f_z)
        self.least = torch.where(better, residual, self.least)
        self.least_abs = torch.fmin(self.least_abs, abs_residual)
        self.abs_residual = abs_residual
        self.converged = self.converged | (fallen & (residual <= self.settings.tol))
        self.diverged = self.diverged | (abs_residual > DIVERGENCE_FACTOR * self.least_abs)
        # z or f(z) with an inf or a NaN shows in the norm of their difference
        self.non_finite = self.non_finite | ~abs_residual.isfinite()
        if self.settings.patience is not None:
            self.without_gain = torch.where(better, 0, self.without_gain + 1)
            self.stagnated = self.stagnated | (self.without_gain >= self.settings.patience)
        lost = self.diverged | self.non_finite | self.stagnated
        self.active = ~(self.converged | lost)
        if self.settings.wait_for_all:
            self.active = ~lost & self.active.any()

    def goes_on(self) -> bool:
        """Whether a sample is still active, as far as the host may know."""
        return not host_may_look(self.active) or bool(self.active.any())

    def answer(self) -> tuple[Tensor, Tensor]:
        """The best iterate of every sample and f there, (B, d) each.

        Where ||z|| grows without bound, any relative residual falls. So a sample that did not converge is answered by
        the iterate of least ||f(z) - z|| where the one of least residual is much longer, and has gained less in the
        relative residual than it has lost in the absolute one.
        """
        if self.settings.stop_mode == "abs":
            return self.best_z, self.best_f_z
        length, calm_length = sample_norm(self.best_z), torch.fmax(sample_norm(self.calm_z), sample_norm(self.calm_f_z))
        loss, calm_loss = sample_norm(self.best_f_z - self.best_z), self.least_abs
        grown = (length > GROWTH * calm_length) & (loss * (loss / length) > calm_loss * (calm_loss / calm_length))
        grown = (grown & ~self.converged).unsqueeze(1)
        return choose(~grown, self.best_z, self.calm_z), choose(~grown, self.best_f_z, self.calm_f_z)

    def had_finite(self) -> Tensor:
        """(B,) samples with a finite iterate that had a finite f."""
        return self.least_abs.isfinite()

    def status(self) -> Tensor:
        """(B,) values of `SolverStatus`."""
        diverged = self.diverged | (self.abs_residual > DIVERGENCE_FACTOR_AT_END * self.least_abs)
        status = torch.full_like(self.steps, int(SolverStatus.MAX_STEPS))
        for samples, code in (
            (self.stagnated, SolverStatus.STAGNATED),
            (diverged, SolverStatus.DIVERGED),
            (self.non_finite, SolverStatus.NON_FINITE),
            (self.converged, SolverStatus.CONVERGED),
        ):
            status = torch.where(samples, int(code), status)
        return status
