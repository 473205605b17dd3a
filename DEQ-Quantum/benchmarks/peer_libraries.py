"""How each library is asked for an equilibrium and its gradient, with the same f, cap on steps and tolerance.

Knows deq, torchdeq, jaxopt and optimistix, the latter three imported only where they are asked; nothing of times.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.peer_problems import PeerProblem
from deq import SolverSettings, equilibrium

MAX_STEPS = 100
SOLVERS = {"fixed_point": "fixed_point_iter", "anderson": "anderson", "broyden": "broyden"}
OURS, WAITING, POLISHED = "deq", "deq, wait_for_all", "deq, wait_for_all, polish"
TORCHDEQ, JAXOPT, OPTIMISTIX = "torchdeq", "jaxopt", "optimistix"
OWN = (OURS, WAITING, POLISHED)
IN_JAX = (JAXOPT, OPTIMISTIX)
SEQUENCE_TOLERANCE, SEQUENCE_CAP = 1e-3, 30


def _ours(problem: PeerProblem, solver: str, waits: bool = False, polishes: bool = False) -> Callable:
    def at(tolerance: float):
        settings = SolverSettings(solver, MAX_STEPS - 1, tolerance, wait_for_all=waits, polish=polishes)

        def run():
            z, _ = equilibrium(problem.bound(), torch.zeros_like(problem.x), settings, settings)
            return z, problem.gradient(z)

        return run

    return at


def _torchdeq(problem: PeerProblem, solver: str) -> Callable:
    def at(tolerance: float):
        layer = _get_deq(SOLVERS[solver], tolerance, MAX_STEPS)

        def run():
            (z,), _ = layer(problem.bound(), torch.zeros_like(problem.x))
            return z, problem.gradient(z)

        return run

    return at


def _get_deq(solver: str, tolerance: float, max_iter: int):
    """torchdeq's layer with the implicit gradient, one solver both ways."""
    from torchdeq import get_deq

    return get_deq(f_solver=solver, b_solver=solver, ift=True, f_tol=tolerance, b_tol=tolerance, f_stop_mode="rel",
                   b_stop_mode="rel", f_max_iter=max_iter, b_max_iter=max_iter)  # fmt: skip


def _in_jax(problem: PeerProblem, found: Callable | None) -> Callable | None:
    """A contestant in JAX: compiled as a whole, mapped over the samples; None for maps that are not written there.

    Args:
        found: (map, tolerance) to a function of (parameter, one sample's x) that gives its z*; None: that
            solver is not there.
    """
    import jax
    import jax.numpy as jnp

    x, weights = jnp.asarray(problem.x.numpy()), jnp.asarray(problem.weights.numpy())
    maps = {
        "affine, d 64": lambda z, p, x: z @ p + x,
        "cosine, d 64": lambda z, p, x: jnp.cos(p * z + 0.3 * x),
        "tanh, d 256": lambda z, p, x: jnp.tanh(z @ p + x),
        "elementwise, d 3136": lambda z, p, x: jnp.tanh(p * z + x),
    }
    if problem.name not in maps or found is None:
        return None
    parameter = jnp.asarray(problem.parameters[0].detach().numpy())

    def at(tolerance: float):
        z_of = found(maps[problem.name], tolerance)

        def loss(p):
            z = jax.vmap(lambda x: z_of(p, x))(x)
            return (z * weights).sum(), z

        step = jax.jit(jax.grad(loss, has_aux=True))

        def run():
            gradient, z = jax.block_until_ready(step(parameter))
            return torch.tensor(jax.device_get(z)), (torch.tensor(jax.device_get(gradient)),)

        return run

    return at


def _jaxopt(problem: PeerProblem, solver: str) -> Callable | None:
    import jax.numpy as jnp
    import jaxopt

    kinds = {"fixed_point": jaxopt.FixedPointIteration, "anderson": jaxopt.AndersonAcceleration}
    # it stops on an absolute norm, which is made relative by the size of x
    scale = problem.x.flatten(1).norm(dim=1).mean().item()

    def found(f, tolerance: float):
        method = kinds[solver](f, maxiter=MAX_STEPS, tol=tolerance * scale, implicit_diff=True)
        return lambda p, x: method.run(jnp.zeros_like(x), p, x).params

    return _in_jax(problem, found if solver in kinds else None)


def _optimistix(problem: PeerProblem, solver: str) -> Callable | None:
    """It has Picard alone; its Newton needs the dense Jacobian."""
    import jax.numpy as jnp
    import optimistix

    def found(f, tolerance: float):
        method = optimistix.FixedPointIteration(tolerance, 0.0, norm=_norm_of_entries)

        def z_of(p, x):
            args = (p, x)
            return optimistix.fixed_point(lambda z, args: f(z, *args), method, jnp.zeros_like(x), args,
                                          max_steps=MAX_STEPS, throw=False).value  # fmt: skip

        return z_of

    return _in_jax(problem, found if solver == "fixed_point" else None)


def _norm_of_entries(relative) -> object:
    """Root mean square of the entries' errors in units of their tolerances."""
    import jax.numpy as jnp

    return jnp.sqrt(jnp.mean(relative**2))


def _ours_waiting(problem: PeerProblem, solver: str) -> Callable:
    return _ours(problem, solver, waits=True)


def _ours_polished(problem: PeerProblem, solver: str) -> Callable:
    """As torchdeq does it: until the worst sample is done, answered with f of the best iterate."""
    return _ours(problem, solver, waits=True, polishes=True)


LIBRARIES = {OURS: _ours, WAITING: _ours_waiting, POLISHED: _ours_polished, TORCHDEQ: _torchdeq, JAXOPT: _jaxopt,
             OPTIMISTIX: _optimistix}  # fmt: skip


def _our_layer() -> Callable[[Callable, Tensor], Tensor]:
    settings = SolverSettings("anderson", SEQUENCE_CAP, SEQUENCE_TOLERANCE)
    return lambda f, z0: equilibrium(f, z0, settings, settings)[0]


def _torchdeq_layer() -> Callable[[Callable, Tensor], Tensor]:
    layer = _get_deq("anderson", SEQUENCE_TOLERANCE, SEQUENCE_CAP + 1)
    return lambda f, z0: layer(f, z0)[0][-1]


# (f, z0) to a differentiable equilibrium, as a model in training has it
SEQUENCE_LAYERS = {OURS: _our_layer, TORCHDEQ: _torchdeq_layer}
