"""Equilibria with implicit gradient (Eqs. 2 and 3 of the paper) and the explicit weight-tied stack.

The gradient is that of one Newton step, N(z) = z + (I - J)^-1 (f(z) - z), taken at the solution: its value is
z, its derivative in z vanishes, and its derivative in the parameters is (I - J)^-1 df/dtheta, the implicit
function theorem. It is one `autograd.Function`, without tensor hooks, so forwards and backwards may come in
any order, and f is met once more after the solver: work that f did beforehand is differentiated once, not
once per step.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deq.adjoint import BACKWARD_SOLVERS, Adjoint, offers_jacobian, solve_adjoint
from deq.functional import attach_by_newton, needs_plain_operations
from deq.host import host_may_look
from deq.jacobian import fresh_variable
from deq.quarantine import finite_graph, silence
from deq.result import SolverResult, SolverStatus, report
from deq.settings import SolverSettings
from deq.solvers import as_settings, iterate, with_nan, with_states
from deq.state import Layer, State, as_one

NON_FINITE_ONLY = (SolverStatus.NON_FINITE,)


def equilibrium(
    f: Layer,
    z0: State,
    forward: SolverSettings = SolverSettings(),
    backward: SolverSettings = SolverSettings(),
    grad_order: int = 1,
    throw: bool = False,
    without_gradient: Sequence[SolverStatus] = NON_FINITE_ONLY,
) -> tuple[State, SolverResult]:
    """The equilibrium z* = f(z*), differentiable in everything that f closes over.

    Invariant: z* - f(z*) = 0 for all theta and x, hence dz* = (I - J)^-1 df and
    dl/dtheta = q^T df/dtheta, where q = J^T q + dl/dz*. The backward solver finds q from vector-Jacobian
    products.

    Args:
        f: map of (B, ...) to (B, ...), acting on every sample alone; parameters and inputs are what it closes
            over. Solver `newton` and all backward solvers use its `jacobian(z)` -> (B, d, d) if it offers one.
        z0: (B, ...) starting points, or a tuple, list or dict of such (see `deq.solve`); z* does not depend on them,
            so they receive no gradient.
        forward: how z* is found.
        backward: how q is found, starting at dl/dz*: `broyden`, `anderson`, `fixed_point` (k steps are the
            Neumann series to order k; 0 steps take J for zero), `exact` (one dense solve per sample; where
            I - J is singular, the shortest least-squares solution, on a GPU to half of the digits), `gmres` or
            `bicgstab` (no matrix), or `phantom`, which does not look for q: it is the gradient of max_steps damped
            steps z <- (1 - tau) z + tau f(z) taken at z*.
        grad_order: highest derivative that will be taken, 1, 2 or 3; beyond it autograd raises. Each order
            costs one more evaluation of f and one more backward solve, whose right-hand side is what the
            solve before left over: `stop_mode="abs"` for `backward` ends those at once, `rel` refines to the
            same digits.
        throw: raise if a sample does not converge, forward or backward.
        without_gradient: samples that end in one of these statuses give zero gradient to all that f closes over; so
            do samples whose q is not finite, whatever this says.

    Returns:
        z* shaped as z0, with gradient if grad mode is on, its value being exactly `result.z`, NaN for samples without
        a finite iterate; and the SolverResult of the forward solve, whose `backward` is filled by each backward
        pass.

    Raises:
        ValueError: grad_order or a solver out of range, or as `solve` does.
        ConvergenceError: `throw`, and a sample did not converge.

    Under torch.func and torch.compile, and in forward mode, `backward` is not asked: the derivative is then a dense
    solve per sample in plain operations (see `deq.functional`), all max_steps run, and failed samples are NaN
    throughout.

    Warns:
        ConvergenceWarning: no sample of the batch converged, forward or backward.

    Source: Bai, Kolter, Koltun, "Deep Equilibrium Models", NeurIPS 2019, Theorem 1.
    """
    (z_star,), result = _solve_and_attach(f, z0, (), forward, backward, grad_order, throw, without_gradient)
    return z_star, result


def trajectory(
    f: Layer,
    z0: State,
    record: Sequence[int],
    forward: SolverSettings = SolverSettings(),
    backward: SolverSettings = SolverSettings(),
    throw: bool = False,
    without_gradient: Sequence[SolverStatus] = NON_FINITE_ONLY,
) -> tuple[list[State], SolverResult]:
    """The solver's states on the way, each with the gradient that it would have as an equilibrium.

    For losses that correct the path, as sum_k w_k loss(z_k): every state costs one evaluation of f and one backward
    solve (`SolverSettings("phantom", k)` is the cheap choice).

    Args:
        record: after which steps; the equilibrium itself comes last, without being named.
        f, z0, forward, backward, throw, without_gradient: as `equilibrium` takes them.

    Returns:
        len(record) + 1 states, and the SolverResult, whose `backward` is the equilibrium's.

    Source: Bai, Geng, Savani, Kolter, "Deep equilibrium optical flow estimation", CVPR 2022.
    """
    return _solve_and_attach(f, z0, record, forward, backward, 1, throw, without_gradient)


def _solve_and_attach(
    f: Layer,
    z0: State,
    record: Sequence[int],
    forward: SolverSettings,
    backward: SolverSettings,
    order: int,
    throw: bool,
    without_gradient: Sequence[SolverStatus],
) -> tuple[list[State], SolverResult]:
    forward, backward = as_settings(forward), as_settings(backward)
    _check(backward, order)
    layer, start, unpack = as_one(f, z0)
    found, had_finite = iterate(layer, start, forward, record)
    result = with_states(with_nan(found, had_finite), unpack)
    report(result, forward, "the equilibrium", throw, depth=3)
    if not torch.is_grad_enabled():
        return [*result.states, result.z], result
    if needs_plain_operations():
        attached = [attach_by_newton(layer, z, order) for z in (*found.states, found.z)]
        answered = _per_sample(had_finite, found.z)
        return [unpack(torch.where(answered, z, math.nan)) for z in attached], result
    failed = None
    for status in without_gradient:
        samples = found.status == status
        failed = samples if failed is None else failed | samples
    failed = None if failed is None else _any(failed)
    no_answer = _any(~had_finite)
    attached = []
    for z in (*found.states, found.z):
        # the equilibrium, which comes last, is whose backward solve the result reports
        step = _Step(layer, backward, order, failed, throw, result if z is found.z else None)
        z = step.attach(z)
        attached.append(unpack(z if no_answer is None else torch.where(_per_sample(no_answer, z), math.nan, z)))
    return attached, result


def _check(backward: SolverSettings, order: int) -> None:
    if isinstance(backward.name, str) and backward.name not in BACKWARD_SOLVERS:
        raise ValueError(f"{backward.name!r} cannot solve the backward pass; known: {', '.join(BACKWARD_SOLVERS)}")
    if order not in (1, 2, 3):
        raise ValueError(f"grad_order must be 1, 2 or 3, not {order!r}")
    if backward.name == "phantom" and (order > 1 or backward.max_steps < 1):
        raise ValueError("phantom takes max_steps >= 1 and grad_order 1; unroll(f, z, k, tau) has all derivatives")


def _any(samples: Tensor) -> Tensor | None:
    """The samples (B,), or None where the host sees that there are none."""
    return samples if not host_may_look(samples) or samples.any() else None


def _per_sample(samples: Tensor, z: Tensor) -> Tensor:
    return samples.view(-1, *[1] * (z.dim() - 1))


def unroll(f: Layer, z0: State, n_layers: int, tau: float = 1.0) -> State:
    """The explicit weight-tied stack z_{k+1} = f(z_k), differentiated by plain autograd.

    Args:
        f: map of (B, ...) to (B, ...).
        z0: (B, ...) input of the first layer, or a tuple, list or dict of such.
        n_layers: number of times f is applied.
        tau: share of each step that is taken, z_{k+1} = (1 - tau) z_k + tau f(z_k).

    Returns:
        (B, ...) output of the last layer.

    Raises:
        ValueError: n_layers < 1, or tau outside (0, 1].
    """
    if n_layers < 1:
        raise ValueError(f"n_layers must be >= 1, not {n_layers}")
    if not 0 < tau <= 1:
        raise ValueError(f"tau must be > 0 and <= 1, not {tau}")
    layer, z, unpack = as_one(f, z0)
    # f may write into what it is given; z0 is the caller's
    z = z.clone()
    for _ in range(n_layers):
        z = layer(z) if tau == 1 else torch.lerp(z, layer(z.clone()), tau)
    return unpack(z)


class _Step:
    """Joins a solution of z = f(z) to the graph of what f closes over.

    Args:
        f: the layer.
        settings: of the linear solve.
        order: highest derivative that will be taken.
        failed: (B,) samples that must give no gradient, or None.
        throw: raise where the linear solve does not converge.
        result: whose `backward` is filled, or None.
    """

    def __init__(
        self, f: Layer, settings: SolverSettings, order: int, failed: Tensor | None, throw: bool = False,
        result: SolverResult | None = None,
    ) -> None:  # fmt: skip
        self.f, self.settings, self.order, self.failed = f, settings, order, failed
        self.throw, self.result = throw, result

    def attach(self, z: Tensor) -> Tensor:
        """z with its graph.

        Invariant: after k steps the derivatives up to order k are those of the solution. Each step takes the one
        before as its point, so the k-th sees a z that is already right to order k - 1.
        """
        z = fresh_variable(z)
        # where f offers its Jacobian, nobody asks the graph for it
        exact = self.order == 1 and offers_jacobian(self.f)
        for number in range(self.order):
            with contextlib.nullcontext() if self.failed is None else finite_graph():
                f_z = self.f(z.detach().clone() if exact else z.clone()).to(z.dtype)
            if not f_z.requires_grad and not exact:
                return z.detach()
            z = _ImplicitStep.apply(z, f_z, self, number == self.order - 1)
        return z

    def solve(self, z: Tensor, f_z: Tensor, grad: Tensor, reports: bool) -> tuple[Tensor, Tensor, Adjoint]:
        """q of the incoming gradient, with zeros for samples that failed; that gradient, likewise; and their map."""
        if self.failed is not None:
            grad = torch.where(_per_sample(self.failed, grad), 0.0, grad)
        adjoint = Adjoint(self.f, z, f_z, grad)
        outcome = solve_adjoint(adjoint, self.settings)
        if reports and self.result is not None:
            self.result.backward = outcome
            if self.settings.name != "phantom":
                report(outcome, self.settings, "the implicit gradient", self.throw)
        q, failed = outcome.z, _any(outcome.status == SolverStatus.NON_FINITE)
        if failed is not None:
            grad, q = (torch.where(_per_sample(failed, q), 0.0, value) for value in (grad, q))
            adjoint.grad = grad
        failed = failed if self.failed is None else self.failed if failed is None else self.failed | failed
        if failed is not None:
            silence(f_z, z, failed)
        return q, grad, adjoint


class _ImplicitStep(torch.autograd.Function):
    """z -> z + (I - J)^-1 (f(z) - z) at a solution: its value is z, its gradient that of Newton's step.

    Invariant: q = J^T q + grad. The engine carries q through f_z's graph to parameters and inputs, and there
    also to z, as J^T q; with the direct share, grad - q, what z receives adds up to zero.
    """

    @staticmethod
    def forward(ctx, z, f_z, step, reports):
        # inputs only: saving the output, or the caller's result with it, would tie the graph to itself
        ctx.save_for_backward(z, f_z)
        ctx.step, ctx.reports = step, reports
        return z.clone()

    @staticmethod
    def backward(ctx, grad):
        z, f_z = ctx.saved_tensors
        step = ctx.step
        q, grad, adjoint = step.solve(z, f_z, grad, ctx.reports)
        if torch.is_grad_enabled():
            if step.order > 1:
                q = _Step(adjoint, step.settings, step.order - 1, step.failed).attach(q)
            else:
                q = _LastOrder.apply(q, f_z)
        return grad - q, q, None, None


class _LastOrder(torch.autograd.Function):
    """A value that depends on f_z in a way that is no longer followed: differentiating it is an error."""

    @staticmethod
    def forward(ctx, value, f_z):
        return value.clone()

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError("this derivative of the equilibrium needs a larger grad_order (see deq.equilibrium)")
