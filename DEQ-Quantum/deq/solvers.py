"""Root finders for z = f(z), batched: one loop, in which the solvers differ only by the iterate they propose.

Every sample is solved for itself: it stops on its own residual, keeps its own best iterate, is frozen once it
has stopped, and can neither speed up, slow down nor spoil its batch mates. This departs from the paper's
released code, which stops on the norm of the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deq.call import FlatCall, without_autocast
from deq.host import host_may_look, transformed
from deq.noise import NoisyWatch, constant, noise_of
from deq.proposals import Proposal, Solver, proposal_of
from deq.result import SolverResult, report, residuals
from deq.rows import choose
from deq.settings import SolverSettings
from deq.state import Layer, State, as_one
from deq.watch import Watch, watch_of


def solve(
    f: Layer,
    z0: State,
    settings: SolverSettings | Solver | Proposal = SolverSettings(),
    throw: bool = False,
    record: Sequence[int] = (),
) -> SolverResult:
    """Solve z = f(z) for every sample of a batch, without gradient.

    Args:
        f: map of (B, ...) to (B, ...), acting on every sample alone. `newton` calls its `jacobian(z)`
            -> (B, d, d) where it offers one, or `value_and_jacobian(z)` in place of both. Where it is measured, its
            `noise(z, f_z)` -> (B,) says how wrong (see `SolverSettings.noise`). It may write into z.
        z0: (B, ...) starting points; dtype and device of the answer follow it. Or a tuple, list or dict of
            such tensors, which f maps to the like: a sample then has one residual over all of them. Half precision
            is what f sees; the solver computes in float32.
        settings: solver, cap on steps, tolerance, stop mode, options; or a solver of one's own
            (`deq.Solver`, `deq.Proposal`), which takes the other settings' defaults.
        throw: raise if a sample does not converge (on a GPU this waits for the answer).
        record: after which steps to keep the best iterates, in `SolverResult.states`; a step that is not reached
            repeats the last.

    Returns:
        SolverResult; failures are statuses of samples, not exceptions. On a GPU, and under torch.compile and
        torch.func, all max_steps run, since asking whether a sample is still active would make the host wait.

    Raises:
        ValueError: z0 has no batch dimension or is no real floating-point tensor, f returns something else
            than z's shape, or the solver is one for the linear system of the implicit gradient only.
        ConvergenceError: `throw`, and a sample did not converge.
    """
    settings = as_settings(settings)
    layer, start, unpack = as_one(f, z0)
    result, had_finite = iterate(layer, start, settings, record)
    result = with_states(with_nan(result, had_finite), unpack)
    report(result, settings, "the equilibrium", throw)
    return result


def as_settings(settings: SolverSettings | Solver | Proposal) -> SolverSettings:
    """The settings, or the defaults with a solver of one's own."""
    return settings if isinstance(settings, SolverSettings) else SolverSettings(settings)


@torch.no_grad()
def iterate(
    f: Callable[[Tensor], Tensor], z0: Tensor, settings: SolverSettings, record: Sequence[int] = ()
) -> tuple[SolverResult, Tensor]:
    """The loop. Returns the result, z0 standing for what had no finite iterate, and (B,) which samples had one."""
    call = FlatCall(f, z0)
    propose, noise = proposal_of(settings, call.layer(), z0.shape), noise_of(call, settings)
    call.f = getattr(propose, "evaluate", None) or f
    with without_autocast(z0.device.type):
        z = call.start(z0)
        f_z = call(z)
        if transformed():
            # what vmap maps over reaches z by way of f; histories are made in its likeness
            z = torch.where(f_z.isnan(), z, z)
        averages_after = getattr(propose, "averages_after", None)
        if noise is None and averages_after is None:
            watch = watch_of(z, f_z, settings)
        else:
            watch = NoisyWatch(z, f_z, settings, noise or constant(0.0), averages_after)
            if noise is not None and hasattr(propose, "noise"):
                propose.noise = noise
        n_steps = 0
        states = {0: z}
        while n_steps < settings.max_steps and watch.goes_on():
            active, all_active = watch.active, watch.none_frozen
            z = choose(active, call.rounded(propose(z, f_z)), watch.z, all_active)
            f_z = choose(active, call(z, copied_later=not all_active), watch.f_z, all_active)
            watch.see(z, f_z)
            n_steps += 1
            if n_steps in record:
                states[n_steps] = watch.best()[0]
        watch.close()
        recorded = [call.back(states[step] if step in states else watch.best()[0]) for step in record]
        floor = None
        if isinstance(watch, NoisyWatch):
            z = call.rounded(watch.answer_before_measuring())
            floor = watch.measure_again(z, call(z))
            n_steps += 1
        result = _result(watch, call, n_steps + 1, getattr(propose, "n_jacobians", 0))
    return replace(result, states=recorded, floor=floor if noise is not None else None), watch.had_finite()


def with_nan(result: SolverResult, had_finite: Tensor) -> SolverResult:
    """The result with NaN for the samples that had no finite iterate: no starting point passes for an answer."""
    z = result.z
    if host_may_look(z) and had_finite.all():
        return result
    had_finite = had_finite.view(-1, *[1] * (z.dim() - 1))
    states = [torch.where(had_finite, state, math.nan) for state in result.states]
    return replace(result, z=torch.where(had_finite, z, math.nan), states=states)


def with_states(result: SolverResult, unpack: Callable[[Tensor], State]) -> SolverResult:
    """The result with states as the caller has them."""
    states = [unpack(state) for state in result.states]
    return replace(result, z=unpack(result.z), f_z=unpack(result.f_z), states=states)


def _result(watch: Watch, call: FlatCall, n_f_evals: int, n_jacobians: int) -> SolverResult:
    """The loop's bookkeeping as a SolverResult."""
    z, f_z = watch.answer()
    residual, abs_residual, rel_residual = residuals(z, f_z, watch.settings.stop_mode)
    return SolverResult(
        z=call.back(f_z if watch.settings.polish else z),
        f_z=call.back(f_z),
        status=watch.status(),
        residual=residual,
        abs_residual=abs_residual,
        rel_residual=rel_residual,
        steps=watch.steps,
        n_f_evals=n_f_evals,
        n_jacobians=n_jacobians,
        trace=torch.stack(watch.trace),
    )
