"""Per-sample bookkeeping of the loop: best iterate, reason to stop, steps, trace. States are (B, d)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deq.host import host_may_look
from deq.result import SolverStatus, relative, sample_norm
from deq.rows import WIDE, choose
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

    Narrow states (d < WIDE) cost little to keep and to choose between, and looks at them as much as either: all iterates
    are kept, and the host asks once a step whether to go on. Of wide ones only the best are kept, and nothing is copied
    that need not be.

    Relies on the loop freezing a sample that has stopped at its best iterate: its residual then repeats
    itself, so it neither improves nor changes its reason.
    """

    def __init__(self, z: Tensor, f_z: Tensor, settings: SolverSettings) -> None:
        self.settings = settings
        self.looks, self.narrow = host_may_look(z), z.shape[1] < WIDE
        self.relatively = settings.stop_mode == "rel"
        self.best_z, self.best_f_z = self.calm_z, self.calm_f_z = z, f_z
        self.least = self.least_abs = z.new_full((len(z),), math.inf)
        none = torch.zeros(len(z), dtype=torch.bool, device=z.device)
        self.converged = self.lost = self.stopped = self.diverged = self.non_finite = self.stagnated = none
        self.steps = torch.zeros(len(z), dtype=torch.long, device=z.device)
        self.without_gain = torch.zeros_like(self.steps)
        self.calm_is_best = True
        self.largest_abs: Tensor | None = None
        self.iterates: list[tuple[Tensor, Tensor]] = []
        self.trace: list[Tensor] = []
        self.abs_trace: list[Tensor] = []
        self.see(z, f_z)

    def see(self, z: Tensor, f_z: Tensor) -> None:
        """Take in the current iterate: update the best ones and stop the samples that have to stop."""
        abs_residual = sample_norm(f_z - z)
        residual = relative(abs_residual, z) if self.relatively else abs_residual
        # a NaN is never less, and fmin passes it over
        better = residual < self.least
        # a sample that has stopped stands at its best iterate
        in_all = not self.narrow and (self._all(better) or self._all(better | self.stopped))
        if self.narrow:
            rows = better.unsqueeze(1)
            self.best_z, self.best_f_z = torch.where(rows, z, self.best_z), torch.where(rows, f_z, self.best_f_z)
        else:
            self.best_z = choose(better, z, self.best_z, in_all)
            self.best_f_z = choose(better, f_z, self.best_f_z, in_all)
        self.least = torch.where(better, residual, self.least)
        if self.relatively:
            self._see_calm(z, f_z, abs_residual < self.least_abs, better)
        self.least_abs = torch.fmin(self.least_abs, abs_residual)
        self._converge(better & (residual <= self.settings.tol), abs_residual)
        self.trace.append(residual)
        self.abs_trace.append(abs_residual)
        self._lose(abs_residual, better)
        self.stopped = self.converged | self.lost
        if self.settings.wait_for_all:
            self.stopped = self.lost | self.stopped.all()
        self.active = ~self.stopped
        self.none_frozen = not self.narrow and self._all(self.active)

    def _see_calm(self, z: Tensor, f_z: Tensor, calmer: Tensor, better: Tensor) -> None:
        """Keep the iterates of least ||f(z) - z||, as long as they are the best ones without a copy."""
        if self.narrow:
            self.iterates.append((z, f_z))
            return
        if self.calm_is_best and (not self.trace or self.looks and torch.equal(calmer, better)):
            self.calm_z, self.calm_f_z = self.best_z, self.best_f_z
            return
        self.calm_is_best = False
        in_all = self._all(calmer) or self._all(calmer | self.converged)
        self.calm_z = choose(calmer, z, self.calm_z, in_all)
        self.calm_f_z = choose(calmer, f_z, self.calm_f_z, in_all)

    def _all(self, samples: Tensor) -> bool:
        """Whether the host sees that it is all samples."""
        return self.looks and bool(samples.all())

    def _converge(self, met: Tensor, abs_residual: Tensor) -> None:
        """Take the samples whose residual has met the tolerance for converged.

        Relatively nothing has, but at the start, whose ||f(z) - z|| never fell: ||z|| has grown.
        """
        if self.narrow:
            if self.relatively:
                met = met if self.largest_abs is None else met & (abs_residual < FALLEN * self.largest_abs)
                self.largest_abs = abs_residual if self.largest_abs is None else self.largest_abs.fmax(abs_residual)
            self.converged = self.converged | met
            return
        if self.looks and not (met.any() and (met := met & ~self.converged).any()):
            return
        if self.relatively and self.abs_trace:
            met = met & (abs_residual < FALLEN * torch.stack(self.abs_trace).nan_to_num(nan=0.0).amax(dim=0))
        self.converged = self.converged | met

    def _lose(self, abs_residual: Tensor, better: Tensor) -> None:
        """Give up the samples that diverge, are not finite or make no headway."""
        limit = DIVERGENCE_FACTOR * self.least_abs
        # z or f(z) with an inf or a NaN shows in the norm of their difference
        if not self.looks or not (abs_residual <= limit.clamp_max(torch.finfo(limit.dtype).max)).all():
            self.diverged = self.diverged | (abs_residual > limit)
            self.non_finite = self.non_finite | ~abs_residual.isfinite()
            self.lost = self.lost | self.diverged | self.non_finite
        if self.settings.patience is not None:
            self.without_gain = torch.where(better, 0, self.without_gain + 1)
            self.stagnated = self.stagnated | (self.without_gain >= self.settings.patience)
            self.lost = self.lost | self.stagnated

    def goes_on(self) -> bool:
        """Whether a sample is still active, as far as the host may know."""
        return self.none_frozen or not self.looks or bool(self.active.any())

    def answer(self) -> tuple[Tensor, Tensor]:
        """The best iterate of every sample and f there, (B, d) each.

        Where ||z|| grows without bound, any relative residual falls. So a sample that did not converge is answered by
        the iterate of least ||f(z) - z|| where the one of least residual is much longer, and has gained less in the
        relative residual than it has lost in the absolute one.
        """
        if self.settings.stop_mode == "abs" or self._all(self.converged):
            return self.best_z, self.best_f_z
        if self.narrow:
            self.calm_z, self.calm_f_z = self._calmest()
        length, calm_length = sample_norm(self.best_z), torch.fmax(sample_norm(self.calm_z), sample_norm(self.calm_f_z))
        loss, calm_loss = sample_norm(self.best_f_z - self.best_z), self.least_abs
        grown = (length > GROWTH * calm_length) & (loss * (loss / length) > calm_loss * (calm_loss / calm_length))
        kept = ~grown | self.converged
        in_all = self._all(kept)
        return choose(kept, self.best_z, self.calm_z, in_all), choose(kept, self.best_f_z, self.calm_f_z, in_all)

    def _calmest(self) -> tuple[Tensor, Tensor]:
        """Of the iterates that were kept, those of least ||f(z) - z||, and f there: (B, d) each."""
        least = torch.stack(self.abs_trace).nan_to_num(nan=math.inf).argmin(dim=0)
        at = least.view(1, -1, 1).expand(1, -1, self.best_z.shape[1])
        z, f_z = (torch.stack(states).gather(0, at).squeeze(0) for states in zip(*self.iterates))
        return z, f_z

    def had_finite(self) -> Tensor:
        """(B,) samples with a finite iterate that had a finite f."""
        return self.least_abs.isfinite()

    def status(self) -> Tensor:
        """(B,) values of `SolverStatus`."""
        diverged = self.diverged | (self.abs_trace[-1] > DIVERGENCE_FACTOR_AT_END * self.least_abs)
        status = torch.full_like(self.steps, int(SolverStatus.MAX_STEPS))
        for samples, code in (
            (self.stagnated, SolverStatus.STAGNATED),
            (diverged, SolverStatus.DIVERGED),
            (self.non_finite, SolverStatus.NON_FINITE),
            (self.converged, SolverStatus.CONVERGED),
        ):
            status = torch.where(samples, int(code), status)
        return status
