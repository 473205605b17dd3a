"""The Jacobian of a layer f(z), seen only through vector-Jacobian products.

Holds the exact batch Jacobian, the Hutchinson estimate of ||J||_F^2 that regularises training (Bai, Koltun,
Kolter, "Stabilizing Equilibrium Models by Jacobian Regularization", ICML 2021), and the spectral
radius. All treat f as acting on every sample alone: J is block diagonal over the batch, and one product with
a batch of vectors serves all its blocks at once.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from deq.host import host_may_look, traced
from deq.state import Layer, State, as_one


def offered_jacobian(f: Layer, z: Tensor) -> Tensor | None:
    """f's own `jacobian(z)` (B, d, d), or None where f offers no such method.

    Raises:
        ValueError: the method's answer does not have that shape.
    """
    method = getattr(f, "jacobian", None)
    if method is None:
        return None
    return check_jacobian(method(z), z)


def check_jacobian(jacobian: Tensor, z: Tensor) -> Tensor:
    """The Jacobian that f offers at z.

    Raises:
        ValueError: it does not have the shape (B, d, d).
    """
    n, d = z.shape[0], z.shape[1:].numel()
    if jacobian.shape != (n, d, d):
        raise ValueError(f"f.jacobian(z) must have shape {(n, d, d)}, not {tuple(jacobian.shape)}")
    return jacobian


class _Source(torch.autograd.Function):
    """Identity whose input receives nothing: gradients can be asked for its output and end there.

    A plain leaf would collect them in `.grad`, and one that carries a graph would keep itself alive.
    """

    @staticmethod
    def forward(ctx, z):
        return z.clone()

    @staticmethod
    def backward(ctx, grad):
        return None


def fresh_variable(z: Tensor) -> Tensor:
    """z's value as a variable of its own, joined to no graph, whatever the grad mode."""
    with torch.enable_grad():
        z = z.detach()
        # a tensor of torch.inference_mode can be copied into one that records, but not become one
        return _Source.apply((z.clone() if z.is_inference() else z).requires_grad_())


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """Autograd records whatever the mode outside, torch.inference_mode included."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def _graph(f: Layer, z: Tensor) -> tuple[Tensor, Tensor]:
    """A fresh variable of z's value and f at it, with the graph between them whatever the grad mode.

    Raises:
        RuntimeError: f depends on z, but its graph does not say so, or cannot be recorded.
    """
    with recording():
        z = fresh_variable(z)
        try:
            f_z = f(z.clone()).to(z.dtype)
        except RuntimeError as error:
            if "nference tensor" not in str(error):
                raise
            raise RuntimeError(
                "f closes over tensors made in torch.inference_mode, which cannot be differentiated: make them under "
                "torch.no_grad instead"
            ) from error
        if not f_z.requires_grad:
            _refuse_hidden_dependence(f, z, f_z)
        return z, f_z


def _refuse_hidden_dependence(f: Layer, z: Tensor, f_z: Tensor) -> None:
    """No graph means no dependence on z, unless f itself switches recording off: then its slope is not zero.

    Raises:
        RuntimeError: another z has another f.
    """
    if not host_may_look(z):
        return
    with torch.no_grad():
        moved = f((z + 1e-3 * (1 + z.abs())).detach()).to(z.dtype)
    if not torch.equal(moved.nan_to_num(), f_z.nan_to_num()):
        raise RuntimeError(
            "f depends on z but records no gradient (it runs under no_grad, inference_mode or detach): its Jacobian is "
            "not zero, and cannot be had"
        )


def vjp(f_z: Tensor, z: Tensor, v: Tensor, create_graph: bool = False) -> Tensor:
    """v^T J for the graph that leads from z to f_z; zero where f does not depend on z. Keeps the graph."""
    if not f_z.requires_grad:
        return torch.zeros_like(z)
    (product,) = torch.autograd.grad(
        f_z, z, v, retain_graph=True, create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
    return product


def graph_jacobian(f_z: Tensor, z: Tensor) -> Tensor:
    """(B, d, d) Jacobian of the graph that leads from z to f_z, both (B, ...) of d entries per sample.

    One product per row i, with the i-th unit vector in all samples; all rows at once where every operation of
    the graph can be batched, else one after the other.
    """
    d = z.shape[1:].numel()
    zeros = z.new_zeros(len(z), d, d)
    if not f_z.requires_grad:
        return zeros
    units = torch.eye(d, dtype=z.dtype, device=z.device).view(d, 1, *z.shape[1:]).expand(d, *z.shape)
    try:
        (rows,) = torch.autograd.grad(
            f_z, z, units, retain_graph=True, is_grads_batched=True, allow_unused=True
        )
    except RuntimeError:
        # an operation without a batching rule, as custom autograd Functions are
        rows = torch.stack([vjp(f_z, z, unit) for unit in units])
    return zeros if rows is None else rows.reshape(d, len(z), d).transpose(0, 1)


def plain_jacobian(f: Layer, z: Tensor) -> Tensor:
    """(B, d, d) Jacobian of f at z by torch.func, which composes with its transforms and with torch.compile."""
    d = math.prod(z.shape[1:])
    pull = torch.func.vjp(lambda z: f(z.clone()).to(z.dtype), z)[1]
    units = torch.eye(d, dtype=z.dtype, device=z.device).reshape(d, 1, *z.shape[1:]).expand(d, *z.shape)
    (rows,) = torch.func.vmap(pull)(units)
    return rows.reshape(d, z.shape[0], d).transpose(0, 1)


def batch_jacobian(f: Layer, z: State) -> Tensor:
    """Exact Jacobian of f at z, sample by sample, by d vector-Jacobian products.

    Args:
        f: map of (B, ...) to (B, ...), acting on every sample alone.
        z: (B, ...) with d entries per sample; or a tuple, list or dict of such tensors, with d entries together.

    Returns:
        (B, d, d): [b, i, j] = d f(z)[b, i] / d z[b, j], entries of a sample in row-major order (those of several
        tensors one tensor after the other); no graph.

    Raises:
        RuntimeError: f depends on z but records no gradient, or closes over tensors of torch.inference_mode.
    """
    f, z, _ = as_one(f, z)
    if traced():
        return plain_jacobian(f, z).detach()
    with recording():
        return graph_jacobian(*reversed(_graph(f, z))).detach()


def hutchinson_jacobian_loss(
    f: Layer,
    z: State,
    n_vectors: int = 1,
    generator: torch.Generator | None = None,
    vectors: Tensor | None = None,
    groups: int | None = None,
) -> Tensor:
    """Estimate of ||J_f(z)||_F^2 / (number of entries of z): the mean of ||v^T J||^2 over normal vectors v.

    Unbiased, since E[v v^T] = I. Differentiable (twice through f) in all that f closes over; z is a constant.

    Args:
        f: map of (B, ...) to (B, ...). Where it offers `vjp(z, v)` -> v^T J (B, ...), differentiable in all that
            f closes over, that is used in place of a second pass through its graph.
        z: (B, ...), the point, usually the equilibrium, or a tuple, list or dict of such; detached here.
        n_vectors: number of random vectors, each one further vector-Jacobian product.
        generator: source of the vectors, on z's device; torch's default one if None.
        vectors: (n_vectors, B, ...), those to use in place of drawn ones.
        groups: the batch is so many equally long runs of samples, each with a loss of its own.

    Returns:
        scalar loss; with groups one for each, (groups,).

    Raises:
        ValueError: n_vectors < 1.
        RuntimeError: as `batch_jacobian` does.

    Source: Bai, Koltun, Kolter 2021; M. F. Hutchinson, Commun. Stat. 19 (1990).
    """
    if n_vectors < 1:
        raise ValueError(f"n_vectors must be >= 1, not {n_vectors}")
    f, z, _ = as_one(f, z)
    product = _differentiable_vjp(f, z)
    total = z.new_zeros(() if groups is None else (groups,))
    for number in range(n_vectors):
        if vectors is None:
            v = torch.randn(z.shape, generator=generator, dtype=z.dtype, device=z.device)
        else:
            v = vectors[number]
        squares = product(v).square()
        total = total + (squares.sum() if groups is None else squares.reshape(groups, -1).sum(1))
    return total / (n_vectors * z.numel() // (groups or 1))


def _differentiable_vjp(f: Layer, z: Tensor) -> Callable[[Tensor], Tensor]:
    """v -> v^T J at z, differentiable in what f closes over: f's own, else by autograd."""
    offered = getattr(f, "vjp", None)
    if offered is not None:
        z = z.detach()
        return lambda v: offered(z, v)
    z, f_z = _graph(f, z)
    return lambda v: vjp(f_z, z, v, create_graph=torch.is_grad_enabled())


def spectral_radius(
    f: Layer, z: State, n_steps: int = 100, generator: torch.Generator | None = None, start: Tensor | None = None
) -> Tensor:
    """Largest modulus of J_f(z)'s eigenvalues per sample, by power iteration on J^T.

    The answer is the geometric mean of ||J^T v|| / ||v|| over the later half of the steps: a complex pair
    makes that ratio oscillate for ever, but its logarithm averages to log|lambda| with an error of order 1 /
    n_steps.

    Args:
        f: map of (B, ...) to (B, ...), acting on every sample alone. Where it offers `jacobian` (B, d, d), products are with it.
        z: (B, ...), the point, or a tuple, list or dict of such; detached here.
        n_steps: vector-Jacobian products.
        generator: source of the start vectors, on z's device; torch's default one if None.
        start: (B, ...), the start vectors, in place of drawn ones.

    Returns:
        (B,) spectral radii, no graph; 0 where the Jacobian vanishes or is nilpotent.

    Raises:
        ValueError: n_steps < 1.
        RuntimeError: as `batch_jacobian` does.
    """
    if n_steps < 1:
        raise ValueError(f"n_steps must be >= 1, not {n_steps}")
    f, z, _ = as_one(f, z)
    z = z.detach()
    flat = (len(z), z.shape[1:].numel())
    with torch.no_grad():
        jacobian = offered_jacobian(f, z)
    if jacobian is None:
        z, f_z = _graph(f, z)
    else:
        jacobian = jacobian.to(z.dtype)
    drawn = torch.randn(z.shape, generator=generator, dtype=z.dtype, device=z.device) if start is None else start
    v = drawn.reshape(flat)
    log_growth = []
    for _ in range(n_steps):
        norm = torch.linalg.vector_norm(v, dim=1, keepdim=True)
        # a vector that has vanished stays zero instead of becoming 0/0
        v = v / torch.where(norm > 0, norm, 1.0)
        if jacobian is None:
            v = vjp(f_z, z, v.reshape(z.shape)).reshape(flat)
        else:
            v = torch.bmm(v.unsqueeze(1), jacobian).squeeze(1)
        log_growth.append(torch.linalg.vector_norm(v, dim=1).log())
    return torch.stack(log_growth[n_steps // 2 :]).mean(dim=0).exp()
