"""Per-sample bookkeeping of the loop: best iterate, reason to stop, steps, trace. States are (B, d).

There are two, alike in what they answer. `HostWatch` is for narrow states on a CPU, where an operation costs more than
what it computes: it keeps all iterates, asks the host two questions a step, and works out the rest when a sample stops.
`Watch` is for wide states, of which only the best are kept, and for values that the host may not look at.
"""

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
# entries of a state up to which all iterates are kept
KEPT_WIDTH = 1024


class Watch:
    """What the loop has seen of every sample; of the iterates it keeps the best ones only.

    Relies on the loop freezing a sample that has stopped where `z` and `f_z` say: its residual then repeats itself, so
    it neither improves nor changes its reason.

    Attributes:
        z, f_z: (B, d) best iterate so far and f there, where a sample that has stopped stands.
        active: (B,) samples that go on.
        none_frozen: the host knows that all do.
        steps: (B,) steps that each sample has taken.
        trace: (B,) residuals of all iterates.
    """

    def __init__(self, z: Tensor, f_z: Tensor, settings: SolverSettings) -> None:
        self.settings = settings
        self.looks = host_may_look(z)
        self.relatively = settings.stop_mode == "rel"
        self.z = self.calm_z = z
        self.f_z = self.calm_f_z = f_z
        self.least = self.least_abs = z.new_full((len(z),), math.inf)
        self.active = torch.ones(len(z), dtype=torch.bool, device=z.device)
        self.converged = self.stopped = self.diverged = self.non_finite = self.stagnated = ~self.active
        self.steps = self.without_gain = torch.zeros(len(z), dtype=torch.long, device=z.device)
        self.calm_is_best = True
        self.trace: list[Tensor] = []
        self.abs_trace: list[Tensor] = []
        self.see(z, f_z)

    def see(self, z: Tensor, f_z: Tensor) -> None:
        """Take in the current iterate: update the best ones and stop the samples that have to stop."""
        if self.trace:
            self.steps = self.steps + self.active
        abs_residual, residual = self._measure(z, f_z)
        # a NaN is never less, and fmin passes it over
        better = residual < self.least
        # a sample that has stopped stands at its best iterate
        in_all = self._all(better) or self._all(better | self.stopped)
        self.z = choose(better, z, self.z, in_all)
        self.f_z = choose(better, f_z, self.f_z, in_all)
        self.least = torch.where(better, residual, self.least)
        if self.relatively:
            self._see_calm(z, f_z, abs_residual < self.least_abs, better)
        self.least_abs = torch.fmin(self.least_abs, abs_residual)
        met = better & (residual <= self.settings.tol)
        if not self.looks or met.any():
            self.converged = self.converged | (met & self._has_fallen(abs_residual))
        self.trace.append(residual)
        self.abs_trace.append(abs_residual)
        lost = self._lost(abs_residual, better)
        self.stopped = self._stopped(lost)
        self.active = ~self.stopped
        self.none_frozen = self._all(self.active)

    def _measure(self, z: Tensor, f_z: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) absolute residuals, and those in the measure of the stop mode."""
        abs_residual = sample_norm(f_z - z)
        return abs_residual, relative(abs_residual, z) if self.relatively else abs_residual

    def _see_calm(self, z: Tensor, f_z: Tensor, calmer: Tensor, better: Tensor) -> None:
        """Keep the iterates of least ||f(z) - z||, as long as they are the best ones without a copy."""
        if self.calm_is_best and (not self.trace or self.looks and torch.equal(calmer, better)):
            self.calm_z, self.calm_f_z = self.z, self.f_z
            return
        self.calm_is_best = False
        in_all = self._all(calmer) or self._all(calmer | self.converged)
        self.calm_z = choose(calmer, z, self.calm_z, in_all)
        self.calm_f_z = choose(calmer, f_z, self.calm_f_z, in_all)

    def _all(self, samples: Tensor) -> bool:
        """Whether the host sees that it is all samples."""
        return self.looks and bool(samples.all())

    def _has_fallen(self, abs_residual: Tensor) -> Tensor:
        """Samples whose relative residual may be believed: ||f(z) - z|| has fallen, it is not ||z|| that has grown.

        The start has nothing to fall from. The traces hold the iterates before this one.
        """
        if not (self.relatively and self.abs_trace):
            return torch.ones_like(self.converged)
        return abs_residual < FALLEN * torch.stack(self.abs_trace).nan_to_num(nan=0.0).amax(dim=0)

    def _lost(self, abs_residual: Tensor, better: Tensor) -> Tensor:
        """(B,) samples to be given up: those that diverge, are not finite or make no headway."""
        if not self.looks or not self._none_lost(abs_residual, self.least_abs):
            self.diverged = self.diverged | (abs_residual > DIVERGENCE_FACTOR * self.least_abs)
            self.non_finite = self.non_finite | ~abs_residual.isfinite()
        if self.settings.patience is not None:
            self.without_gain = torch.where(better, 0, self.without_gain + 1)
            self.stagnated = self.stagnated | (self.without_gain >= self.settings.patience)
        return self.diverged | self.non_finite | self.stagnated

    def _none_lost(self, abs_residual: Tensor, least_abs: Tensor) -> bool:
        """Whether the host sees that all residuals are finite, and none far above its least one."""
        limit = DIVERGENCE_FACTOR * least_abs
        # z or f(z) with an inf or a NaN shows in the norm of their difference
        return bool((abs_residual <= limit.clamp_max(torch.finfo(limit.dtype).max)).all())

    def _stopped(self, lost: Tensor) -> Tensor:
        """(B,) samples that have stopped."""
        stopped = self.converged | lost
        return lost | stopped.all() if self.settings.wait_for_all else stopped

    def goes_on(self) -> bool:
        """Whether a sample is still active, as far as the host may know."""
        return self.none_frozen or not self.looks or bool(self.active.any())

    def close(self) -> None:
        """The loop has ended: work out what was left for later."""

    def best(self) -> tuple[Tensor, Tensor]:
        """The iterate of least residual of every sample and f there, (B, d) each."""
        return self.z, self.f_z

    def calmest(self) -> tuple[Tensor, Tensor]:
        """The iterate of least ||f(z) - z|| of every sample and f there, (B, d) each."""
        return self.calm_z, self.calm_f_z

    def answer(self) -> tuple[Tensor, Tensor]:
        """What every sample is answered with and f there, (B, d) each.

        Where ||z|| grows without bound, any relative residual falls. So a sample that did not converge is answered by
        the iterate of least ||f(z) - z|| where the one of least residual is much longer, and has gained less in the
        relative residual than it has lost in the absolute one.
        """
        if self.settings.stop_mode == "abs" or self._all(self.converged):
            return self.best()
        return self._without_growth(self.best(), self.calmest())

    def _without_growth(self, best: tuple[Tensor, Tensor], calmest: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        (best_z, best_f_z), (calm_z, calm_f_z) = best, calmest
        length, calm_length = sample_norm(best_z), torch.fmax(sample_norm(calm_z), sample_norm(calm_f_z))
        loss, calm_loss = sample_norm(best_f_z - best_z), self.least_abs
        grown = (length > GROWTH * calm_length) & (loss * (loss / length) > calm_loss * (calm_loss / calm_length))
        kept = ~grown | self.converged
        in_all = self._all(kept)
        return choose(kept, best_z, calm_z, in_all), choose(kept, best_f_z, calm_f_z, in_all)

    def had_finite(self) -> Tensor:
        """(B,) samples with a finite iterate that had a finite f."""
        return self.least_abs.isfinite()

    def status(self) -> Tensor:
        """(B,) values of `SolverStatus`."""
        if self._all(self.converged):
            return torch.zeros_like(self.steps)
        diverged = self.diverged | self._far_above_least()
        status = torch.full_like(self.steps, int(SolverStatus.MAX_STEPS))
        for samples, code in (
            (self.stagnated, SolverStatus.STAGNATED),
            (diverged, SolverStatus.DIVERGED),
            (self.non_finite, SolverStatus.NON_FINITE),
            (self.converged, SolverStatus.CONVERGED),
        ):
            status = torch.where(samples, int(code), status)
        return status

    def _far_above_least(self) -> Tensor:
        """(B,) samples that end with ||f(z) - z|| far above its least."""
        return self.abs_trace[-1] > DIVERGENCE_FACTOR_AT_END * self.least_abs


class HostWatch(Watch):
    """The same for narrow states that the host may look at: all iterates are kept, the rest is worked out when needed.

    `z` and `f_z` are where the samples are now: one that has converged stands at its best iterate anyway.
    """

    def __init__(self, z: Tensor, f_z: Tensor, settings: SolverSettings) -> None:
        self.iterates: list[tuple[Tensor, Tensor]] = []
        self.active_trace: list[Tensor] = []
        self.n_samples = self.n_active = len(z)
        self.none_frozen = True
        # whether samples stop for nothing but a residual that meets the tolerance, as far as is known: then those that
        # have stopped are those that have converged
        self.plain = settings.patience is None and not settings.wait_for_all
        super().__init__(z, f_z, settings)

    def see(self, z: Tensor, f_z: Tensor) -> None:
        self.z, self.f_z = z, f_z
        self.active_trace.append(self.active)
        abs_residual, residual = self._measure(z, f_z)
        self.least_abs = torch.fmin(self.least_abs, abs_residual)
        if not (self.plain and self._only_converge(residual, abs_residual)):
            self._stop_some(residual, abs_residual)
        self.none_frozen = self.n_active == self.n_samples
        self.iterates.append((z, f_z))
        self.trace.append(residual)
        self.abs_trace.append(abs_residual)

    def _only_converge(self, residual: Tensor, abs_residual: Tensor) -> bool:
        """Stop the samples whose residual meets the tolerance; False where one stops or may stop for another reason."""
        # a residual that is not finite makes a NaN of this
        if not torch.sub(abs_residual, self.least_abs, alpha=DIVERGENCE_FACTOR).max().item() <= 0:
            return False
        active = self.active & (residual > self.settings.tol)
        n_active = int(active.count_nonzero())
        if n_active < self.n_active and self.relatively and self.abs_trace:
            # below the start's is below the largest
            doubtful = abs_residual >= FALLEN * self.abs_trace[0]
            if (self.active & doubtful & ~active).any():
                return False
        self.active, self.n_active = active, n_active
        return True

    def _stop_some(self, residual: Tensor, abs_residual: Tensor) -> None:
        """Find the samples that stop at the current iterate, for whatever reason; the traces do not hold it yet."""
        if self.plain:
            self.converged = ~self.active
        seen = torch.stack([*self.trace, torch.full_like(residual, math.inf)])
        better = residual < seen.nan_to_num(nan=math.inf).amin(0)
        met = better & self.active & (residual <= self.settings.tol)
        believed = met & self._has_fallen(abs_residual)
        self.plain = self.plain and torch.equal(met, believed)
        self.converged = self.converged | believed
        lost = self._lost(abs_residual, better)
        self.active = ~self._stopped(lost)
        self.n_active = int(self.active.count_nonzero())
        if lost.any():
            self.plain = False
            at = self._at(_first_least([*self.trace, residual]), [*self.iterates, (self.z, self.f_z)])
            self.z, self.f_z = (choose(lost, best, now) for best, now in zip(at, (self.z, self.f_z)))

    def goes_on(self) -> bool:
        return self.n_active > 0

    def close(self) -> None:
        # before the first iterate nothing has been a step
        self.steps = torch.stack(self.active_trace).sum(dim=0) - 1
        if self.plain:
            self.converged = ~self.active

    def best(self) -> tuple[Tensor, Tensor]:
        if not (self.n_active or self.settings.wait_for_all):
            return self.z, self.f_z
        return self._at(_first_least(self.trace), self.iterates)

    def calmest(self) -> tuple[Tensor, Tensor]:
        return self._at(_first_least(self.abs_trace), self.iterates)

    def answer(self) -> tuple[Tensor, Tensor]:
        if self.settings.stop_mode == "abs" or self._all(self.converged):
            return self.best()
        best, calmest = _first_least(self.trace), _first_least(self.abs_trace)
        at_best = self._at(best, self.iterates)
        if self._all((best == calmest) | self.converged):
            return at_best
        return self._without_growth(at_best, self._at(calmest, self.iterates))

    def status(self) -> Tensor:
        if self.plain and not (self.active & self._far_above_least()).any():
            return torch.where(self.converged, int(SolverStatus.CONVERGED), int(SolverStatus.MAX_STEPS))
        return super().status()

    @staticmethod
    def _at(steps: Tensor, iterates: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Every sample's iterate after so many steps (B,) and f there, (B, d) each."""
        at = steps.view(1, -1, 1).expand(1, -1, iterates[0][0].shape[1])
        z, f_z = (torch.stack(states).gather(0, at).squeeze(0) for states in zip(*iterates))
        return z, f_z


def _first_least(measures: list[Tensor]) -> Tensor:
    """(B,) where the least values come first; a NaN is passed over."""
    return torch.stack(measures).nan_to_num(nan=math.inf, posinf=math.inf).argmin(dim=0)


def watch_of(z: Tensor, f_z: Tensor, settings: SolverSettings) -> Watch:
    """The watch for such states, which has seen the first."""
    kind = HostWatch if host_may_look(z) and z.shape[1] <= KEPT_WIDTH and len(z) > 0 else Watch
    return kind(z, f_z, settings)
