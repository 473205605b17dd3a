"""The linear system of the implicit gradient, q = J^T q + grad, and the ways to solve it."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from deq.call import working_dtype
from deq.host import host_may_look
from deq.jacobian import Layer, graph_jacobian, offered_jacobian, vjp
from deq.krylov import bicgstab, gmres
from deq.result import SolverResult, SolverStatus, residuals
from deq.settings import SolverSettings
from deq.solvers import iterate

BACKWARD_SOLVERS = ("broyden", "anderson", "fixed_point", "exact", "gmres", "bicgstab", "phantom")


class Adjoint:
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

    def offered_jacobian(self) -> Tensor | None:
        """(B, d, d): J where f offers it; a product with it is cheaper than a pass through f's graph."""
        return offered_jacobian(self.f, self.z) if offers_jacobian(self.f) else None


def offers_jacobian(f: Layer) -> bool:
    """Whether f has its Jacobian without a graph of its own."""
    return not isinstance(f, Adjoint) and getattr(f, "jacobian", None) is not None


@torch.no_grad()
def solve_adjoint(adjoint: Adjoint, settings: SolverSettings) -> SolverResult:
    """q = J^T q + grad without gradient, by the solver that the settings name."""
    grad = adjoint.grad.detach()
    if settings.name == "exact":
        return _solve_exactly(adjoint, grad, settings)
    if settings.name in ("gmres", "bicgstab", "phantom"):
        return _solve_by_products(adjoint, grad, settings)
    jacobian = adjoint.offered_jacobian()
    if jacobian is None:
        return iterate(adjoint, grad, settings)[0]
    flat_grad = _flat(grad)
    jacobian = jacobian.to(grad.dtype)
    result, _ = iterate(lambda q: torch.baddbmm(flat_grad.unsqueeze(1), q.unsqueeze(1), jacobian).squeeze(1),
                        flat_grad, settings)  # fmt: skip
    return replace(result, z=result.z.view(grad.shape), f_z=result.f_z.view(grad.shape))


def _flat(z: Tensor) -> Tensor:
    return z.reshape(len(z), math.prod(z.shape[1:]))


def _solve_by_products(adjoint: Adjoint, grad: Tensor, settings: SolverSettings) -> SolverResult:
    """By products with J^T alone: Krylov's spaces, or the k damped steps of the phantom gradient."""
    b = _flat(grad).to(working_dtype(grad.dtype))
    jacobian = adjoint.offered_jacobian()

    def product(q: Tensor) -> Tensor:
        if jacobian is not None:
            return torch.bmm(q.unsqueeze(1), jacobian.to(q.dtype)).squeeze(1)
        return _flat(vjp(adjoint.f_z, adjoint.z, q.to(grad.dtype).reshape(grad.shape))).to(q.dtype)

    if settings.name == "phantom":
        return _phantom(product, b, grad, settings)
    krylov = gmres if settings.name == "gmres" else bicgstab
    solution = krylov(product, b, settings, **settings.all_options())
    h_q = product(solution.q) + b
    trace = torch.stack(solution.trace)
    return _result(solution.q, h_q, grad, settings, solution.steps, solution.n_products + 1, trace)


def _phantom(product, b: Tensor, grad: Tensor, settings: SolverSettings) -> SolverResult:
    """q = tau sum_{i<k} ((1 - tau) I + tau J^T)^i grad: the gradient of k damped steps that are taken at the solution.

    Source: Geng, Zhang, Bai, Wang, Lin, "On training implicit models", NeurIPS 2021.
    """
    tau = settings.all_options()["tau"]
    q = tau * b
    for _ in range(settings.max_steps - 1):
        q = (1 - tau) * q + tau * (product(q) + b)
    steps = torch.full((len(b),), settings.max_steps, device=b.device)
    return _result(q, product(q) + b, grad, settings, steps, n_f_evals=settings.max_steps)


def _solve_exactly(adjoint: Adjoint, grad: Tensor, settings: SolverSettings) -> SolverResult:
    """One dense solve per sample; the shortest least-squares solution where I - J is singular."""
    dtype = working_dtype(grad.dtype)
    flat_grad = _flat(grad).to(dtype)
    transposed = adjoint.jacobian(grad).to(dtype)
    system = torch.eye(flat_grad.shape[1], dtype=dtype, device=grad.device) - transposed
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
    steps = torch.ones(len(q), dtype=torch.long, device=q.device)
    return _result(q, h_q, grad, settings, steps, n_jacobians=1, finite=finite, singular=singular)


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


def _result(
    q: Tensor,
    h_q: Tensor,
    grad: Tensor,
    settings: SolverSettings,
    steps: Tensor,
    n_f_evals: int = 0,
    trace: Tensor | None = None,
    n_jacobians: int = 0,
    finite: Tensor | None = None,
    singular: Tensor | None = None,
) -> SolverResult:
    """The SolverResult of a solve that is none of the loop's, shaped and typed as grad."""
    residual, abs_residual, rel_residual = residuals(q, h_q, settings.stop_mode)
    status = torch.where(residual <= settings.tol, int(SolverStatus.CONVERGED), int(SolverStatus.MAX_STEPS))
    if singular is not None:
        status = torch.where(singular, int(SolverStatus.SINGULAR), status)
    status = torch.where(abs_residual.isfinite() if finite is None else finite, status, int(SolverStatus.NON_FINITE))
    return SolverResult(
        z=q.to(grad.dtype).reshape(grad.shape),
        f_z=h_q.to(grad.dtype).reshape(grad.shape),
        status=status,
        residual=residual,
        abs_residual=abs_residual,
        rel_residual=rel_residual,
        steps=steps,
        n_f_evals=n_f_evals,
        n_jacobians=n_jacobians,
        trace=residual.unsqueeze(0) if trace is None else trace,
    )
