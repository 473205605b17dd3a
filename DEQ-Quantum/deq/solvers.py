"""Root finders for z = f(z), batched: one loop, in which the solvers differ only by the iterate they propose.

Every sample is solved for itself: it stops on its own residual, keeps its own best iterate, is frozen once it
has stopped, and can neither speed up, slow down nor spoil its batch mates. This departs from the paper's
released code, which stops on the norm of the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from deq.proposals import Anderson, Broyden, Newton, Picard, host_may_look
from deq.result import SolverResult, SolverStatus, relative, residuals, sample_norm
from deq.settings import SolverSettings

# a sample whose ||f(z) - z|| exceeds its least one by this factor is given up
DIVERGENCE_FACTOR = 1e6


class _Watch:
    """Per-sample bookkeeping of the loop: best iterate, reason to stop, steps, trace. States are (B, d).

    Relies on the loop freezing a sample that has stopped at its best iterate: its residual then repeats
    itself, so it neither improves nor changes its reason.
    """

    def __init__(self, z: Tensor, f_z: Tensor, settings: SolverSettings) -> None:
        self.settings = settings
        self.best_z, self.best_f_z = z, f_z
        self.least = self.least_abs = z.new_full((len(z),), math.inf)
        self.diverged = self.non_finite = torch.zeros(len(z), dtype=torch.bool, device=z.device)
        self.steps = torch.zeros(len(z), dtype=torch.long, device=z.device)
        self.trace: list[Tensor] = []
        self.see(z, f_z)

    def see(self, z: Tensor, f_z: Tensor) -> None:
        """Take in the current iterate: update the best ones and stop the samples that have to stop."""
        abs_residual = sample_norm(f_z - z)
        residual = relative(abs_residual, z) if self.settings.stop_mode == "rel" else abs_residual
        self.trace.append(residual)
        # a NaN is never less, and fmin passes it over
        better = (residual < self.least).unsqueeze(1)
        self.best_z = torch.where(better, z, self.best_z)
        self.best_f_z = torch.where(better, f_z, self.best_f_z)
        self.least = torch.fmin(self.least, residual)
        self.least_abs = torch.fmin(self.least_abs, abs_residual)
        self.converged = residual <= self.settings.tol
        self.diverged = self.diverged | (abs_residual > DIVERGENCE_FACTOR * self.least_abs)
        # z or f(z) with an inf or a NaN shows in the norm of their difference
        self.non_finite = self.non_finite | ~abs_residual.isfinite()
        self.active = ~(self.converged | self.diverged | self.non_finite)

    def status(self) -> Tensor:
        """(B,) values of `SolverStatus`."""
        status = torch.full_like(self.steps, SolverStatus.MAX_STEPS)
        status = torch.where(self.diverged, int(SolverStatus.DIVERGED), status)
        status = torch.where(self.non_finite, int(SolverStatus.NON_FINITE), status)
        return torch.where(self.converged, int(SolverStatus.CONVERGED), status)


@torch.no_grad()
def solve(
    f: Callable[[Tensor], Tensor], z0: Tensor, settings: SolverSettings = SolverSettings()
) -> SolverResult:
    """Solve z = f(z) for every sample of a batch, without gradient.

    Args:
        f: map of (B, ...) to (B, ...), acting on every sample alone. `newton` calls its `jacobian(z)`
            -> (B, d, d) where it offers one.
        z0: (B, ...) starting points; dtype and device of the answer follow it.
        settings: solver, cap on steps, tolerance, stop mode, options.

    Returns:
        SolverResult; failures are statuses of samples, not exceptions. On a GPU all max_steps run, since
        asking whether a sample is still active would make the host wait at every step.

    Raises:
        ValueError: z0 has no batch dimension or is no real floating-point tensor, f changes the shape, or the
            solver is `exact`, which is for the linear system of the implicit gradient only.
    """
    if z0.dim() == 0 or not z0.is_floating_point():
        raise ValueError(f"z0 must be a real (B, ...) tensor, not {tuple(z0.shape)} of {z0.dtype}")
    shape = z0.shape
    flat = (shape[0], math.prod(shape[1:]))

    def evaluate(z: Tensor) -> Tensor:
        f_z = f(z.reshape(shape))
        if f_z.shape != shape:
            raise ValueError(f"f must keep the shape of z: it made {tuple(f_z.shape)} of {tuple(shape)}")
        return f_z.to(z.dtype).reshape(flat)

    propose = _proposal(f, shape, settings)
    z = z0.detach().reshape(flat)
    f_z = evaluate(z)
    watch = _Watch(z, f_z, settings)
    n_steps = 0
    while n_steps < settings.max_steps:
        if host_may_look(z) and not watch.active.any():
            break
        active = watch.active.unsqueeze(1)
        watch.steps = watch.steps + watch.active
        z = torch.where(active, propose(z, f_z), watch.best_z)
        f_z = torch.where(active, evaluate(z), watch.best_f_z)
        watch.see(z, f_z)
        n_steps += 1
    return _result(watch, shape, n_steps + 1, propose.n_jacobians)


def _proposal(f: Callable[[Tensor], Tensor], shape: torch.Size, settings: SolverSettings):
    """The proposal that the settings name."""
    options = settings.all_options()
    if settings.name == "broyden":
        return Broyden(settings.max_steps, **options)
    if settings.name == "anderson":
        return Anderson(settings.max_steps, **options)
    if settings.name == "newton":
        return Newton(f, shape)
    if settings.name == "fixed_point":
        return Picard()
    raise ValueError(f"{settings.name!r} solves linear systems only; for z = f(z) newton is its like")


def _result(watch: _Watch, shape: torch.Size, n_f_evals: int, n_jacobians: int) -> SolverResult:
    """The loop's bookkeeping as a SolverResult."""
    z, f_z = watch.best_z, watch.best_f_z
    residual, abs_residual, rel_residual = residuals(z, f_z, watch.settings.stop_mode)
    return SolverResult(
        z=z.reshape(shape),
        f_z=f_z.reshape(shape),
        status=watch.status(),
        residual=residual,
        abs_residual=abs_residual,
        rel_residual=rel_residual,
        steps=watch.steps,
        n_f_evals=n_f_evals,
        n_jacobians=n_jacobians,
        trace=torch.stack(watch.trace),
    )
