"""Equilibria with implicit gradient (Eqs. 2 and 3 of the paper) and the explicit weight-tied stack.

The gradient is that of one Newton step, N(z) = z + (I - J)^-1 (f(z) - z), taken at the solution: its value is
z, its derivative in z vanishes, and its derivative in the parameters is (I - J)^-1 df/dtheta, the implicit
function theorem. It is one `autograd.Function`, without tensor hooks, so forwards and backwards may come in
any order, and f is met once more after the solver: work that f did beforehand is differentiated once, not
once per step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from deq.jacobian import fresh_variable, graph_jacobian, offered_jacobian, vjp
from deq.proposals import host_may_look
from deq.result import SolverResult, SolverStatus, residuals
from deq.settings import SolverSettings
from deq.solvers import solve

Layer = Callable[[Tensor], Tensor]
BACKWARD_SOLVERS = ("broyden", "anderson", "fixed_point", "exact")


def equilibrium(
    f: Layer,
    z0: Tensor,
    forward: SolverSettings = SolverSettings(),
    backward: SolverSettings = SolverSettings(),
    grad_order: int = 1,
) -> tuple[Tensor, SolverResult]:
    """The equilibrium z* = f(z*), differentiable in everything that f closes over.

    Invariant: z* - f(z*) = 0 for all theta and x, hence dz* = (I - J)^-1 df and
    dl/dtheta = q^T df/dtheta, where q = J^T q + dl/dz*. The backward solver finds q from vector-Jacobian
    products.

    Args:
        f: map of (B, ...) to (B, ...), acting on every sample alone; parameters and inputs are what it closes
            over. Solver `newton` and all backward solvers use its `jacobian(z)` -> (B, d, d) if it offers one.
        z0: (B, ...) starting points; z* does not depend on them, so they receive no gradient.
        forward: how z* is found.
        backward: how q is found, starting at dl/dz*: `broyden`, `anderson`, `fixed_point` (k steps are the
            Neumann series to order k; 0 steps take J for zero) or `exact` (one dense solve per sample; where
            I - J is singular, the shortest least-squares solution, on a GPU to half of the digits).
        grad_order: highest derivative that will be taken, 1, 2 or 3; beyond it autograd raises. Each order
            costs one more evaluation of f and one more backward solve, whose right-hand side is what the
            solve before left over: `stop_mode="abs"` for `backward` ends those at once, `rel` refines to the
            same digits.

    Returns:
        z* (B, ...), with gradient if grad mode is on, its value being exactly `result.z`; and the
        SolverResult of the forward solve, whose `backward` is filled by each backward pass.

    Raises:
        ValueError: grad_order or a solver out of range, or as `solve` does.

    Source: Bai, Kolter, Koltun, "Deep Equilibrium Models", NeurIPS 2019, Theorem 1.
    """
    if backward.name not in BACKWARD_SOLVERS:
        raise ValueError(
            f"{backward.name!r} cannot solve the backward pass; known: {', '.join(BACKWARD_SOLVERS)}"
        )
    if grad_order not in (1, 2, 3):
        raise ValueError(f"grad_order must be 1, 2 or 3, not {grad_order!r}")
    result = solve(f, z0, forward)
    if not torch.is_grad_enabled():
        return result.z, result
    return _attach(f, result.z, backward, grad_order, result), result


def unroll(f: Layer, z0: Tensor, n_layers: int) -> Tensor:
    """The explicit weight-tied stack z_{k+1} = f(z_k), differentiated by plain autograd.

    Args:
        f: map of (B, ...) to (B, ...).
        z0: (B, ...) input of the first layer.
        n_layers: number of times f is applied.

    Returns:
        (B, ...) output of the last layer.

    Raises:
        ValueError: n_layers < 1.
    """
    if n_layers < 1:
        raise ValueError(f"n_layers must be >= 1, not {n_layers}")
    z = z0
    for _ in range(n_layers):
        z = f(z)
    return z


def _attach(
    f: Layer, z: Tensor, settings: SolverSettings, order: int, report: SolverResult | None = None
) -> Tensor:
    """z, a solution of z = f(z), joined to the graph of what f closes over.

    Invariant: after k steps the derivatives up to order k are those of the solution. Each step takes the one
    before as its point, so the k-th sees a z that is already right to order k - 1.
    """
    z = fresh_variable(z)
    for step in range(order):
        f_z = f(z).to(z.dtype)
        if not f_z.requires_grad:
            return z.detach()
        z = _ImplicitStep.apply(z, f_z, f, settings, order, report if step == order - 1 else None)
    return z


class _ImplicitStep(torch.autograd.Function):
    """z -> z + (I - J)^-1 (f(z) - z) at a solution: its value is z, its gradient that of Newton's step.

    Invariant: q = J^T q + grad. The engine carries q through f_z's graph to parameters and inputs, and there
    also to z, as J^T q; with the direct share, grad - q, what z receives adds up to zero.
    """

    @staticmethod
    def forward(ctx, z, f_z, f, settings, order, report):
        # inputs only: saving the output, or the caller's result with it, would tie the graph to itself
        ctx.save_for_backward(z, f_z)
        ctx.f, ctx.settings, ctx.order, ctx.report = f, settings, order, report
        return z.clone()

    @staticmethod
    def backward(ctx, grad):
        z, f_z = ctx.saved_tensors
        adjoint = _Adjoint(ctx.f, z, f_z, grad)
        outcome = _solve_adjoint(adjoint, ctx.settings)
        if ctx.report is not None:
            ctx.report.backward = outcome
        q = outcome.z
        if torch.is_grad_enabled():
            if ctx.order > 1:
                q = _attach(adjoint, q, ctx.settings, ctx.order - 1)
            else:
                q = _LastOrder.apply(q, f_z)
        return grad - q, q, None, None, None, None


class _LastOrder(torch.autograd.Function):
    """A value that depends on f_z in a way that is no longer followed: differentiating it is an error."""

    @staticmethod
    def forward(ctx, value, f_z):
        return value.clone()

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError(
            "this derivative of the equilibrium needs a larger grad_order (see deq.equilibrium)"
        )


class _Adjoint:
    """The linear map q -> J^T q + grad, whose fixed point is (I - J^T)^-1 grad; J is f's Jacobian at z.

    A layer like any other: it is solved by the same solvers and joined to the graph by the same step.
    """

    def __init__(self, f: Layer, z: Tensor, f_z: Tensor, grad: Tensor) -> None:
        self.f, self.z, self.f_z, self.grad = f, z, f_z, grad

    def __call__(self, q: Tensor) -> Tensor:
        return vjp(self.f_z, self.z, q, create_graph=torch.is_grad_enabled()) + self.grad

    def jacobian(self, q: Tensor) -> Tensor:
        """(B, d, d): J^T, the same for every q."""
        jacobian = offered_jacobian(self.f, self.z)
        return (graph_jacobian(self.f_z, self.z) if jacobian is None else jacobian).transpose(1, 2)


@torch.no_grad()
def _solve_adjoint(adjoint: _Adjoint, settings: SolverSettings) -> SolverResult:
    """q = J^T q + grad without gradient, by the solver that the settings name."""
    grad = adjoint.grad.detach()
    flat_grad = grad.reshape(len(grad), -1)
    if settings.name != "exact":
        # a product with a Jacobian at hand is cheaper than a pass through f's graph
        jacobian = None if isinstance(adjoint.f, _Adjoint) else offered_jacobian(adjoint.f, adjoint.z)
        if jacobian is None:
            return solve(adjoint, grad, settings)
        result = solve(lambda q: torch.baddbmm(flat_grad.unsqueeze(1), q.unsqueeze(1), jacobian).squeeze(1),
                       flat_grad, settings)  # fmt: skip
        return replace(result, z=result.z.view(grad.shape), f_z=result.f_z.view(grad.shape))
    transposed = adjoint.jacobian(grad)
    system = torch.eye(flat_grad.shape[1], dtype=grad.dtype, device=grad.device) - transposed
    q, info = torch.linalg.solve_ex(system, flat_grad.unsqueeze(2))
    finite = system.isfinite().all(dim=(1, 2)) & flat_grad.isfinite().all(dim=1)
    singular = finite & ((info != 0) | ~q.isfinite().all(dim=(1, 2)))
    if not host_may_look(q):
        # picking the singular samples out, or an SVD of all, would make the host wait
        q = torch.where(singular.view(-1, 1, 1), _ridge_least_squares(system, flat_grad.unsqueeze(2)), q)
    elif singular.any():
        q[singular] = torch.linalg.pinv(system[singular]) @ flat_grad[singular].unsqueeze(2)
    q = torch.where(finite.unsqueeze(1), q.flatten(1), flat_grad)
    h_q = torch.bmm(transposed, q.unsqueeze(2)).flatten(1) + flat_grad
    return _direct_result(q, h_q, grad.shape, settings, finite, singular)


def _ridge_least_squares(a: Tensor, b: Tensor) -> Tensor:
    """(B, d, 1) least-squares solutions of a q = b, the shortest ones, to about half of the digits.

    The ridge is sqrt(eps) of the normal equations' trace: larger than their rounding, smaller than what counts.
    """
    gram = a.mT @ a
    limits, diagonal = torch.finfo(a.dtype), gram.diagonal(dim1=1, dim2=2)
    # a matrix of zeros has a ridge as well
    ridge = (limits.eps**0.5 * diagonal.sum(dim=1, keepdim=True)).clamp_min(limits.tiny)
    diagonal += ridge
    lower, _ = torch.linalg.cholesky_ex(gram)
    return torch.cholesky_solve(a.mT @ b, lower)


def _direct_result(
    q: Tensor, h_q: Tensor, shape: torch.Size, settings: SolverSettings, finite: Tensor, singular: Tensor
) -> SolverResult:
    """The SolverResult of a direct solve, which has one step and no loop."""
    residual, abs_residual, rel_residual = residuals(q, h_q, settings.stop_mode)
    status = torch.where(residual <= settings.tol, int(SolverStatus.CONVERGED), int(SolverStatus.MAX_STEPS))
    status = torch.where(singular, int(SolverStatus.SINGULAR), status)
    status = torch.where(finite, status, int(SolverStatus.NON_FINITE))
    return SolverResult(
        z=q.reshape(shape),
        f_z=h_q.reshape(shape),
        status=status,
        residual=residual,
        abs_residual=abs_residual,
        rel_residual=rel_residual,
        steps=torch.ones_like(status),
        n_f_evals=0,
        n_jacobians=1,
        trace=residual.unsqueeze(0),
    )
