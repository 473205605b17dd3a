"""Deep equilibria of any layer f(z): solve z = f(z) per sample, differentiate it, gauge the Jacobian.

Torch only; nothing here knows of quantum circuits. `f` maps (B, ...) to (B, ...) and acts on every sample
alone; what it closes over (parameters, the injected input) receives gradients.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deq.implicit import equilibrium, trajectory, unroll
    from deq.jacobian import batch_jacobian, hutchinson_jacobian_loss, spectral_radius
    from deq.layer import EquilibriumLayer, SolveDropout
    from deq.proposals import Proposal, Solver
    from deq.result import ConvergenceError, ConvergenceWarning, SolverResult, SolverStatus
    from deq.settings import SolverSettings
    from deq.solvers import solve


__all__ = [
    "ConvergenceError",
    "ConvergenceWarning",
    "EquilibriumLayer",
    "Proposal",
    "SolveDropout",
    "Solver",
    "SolverResult",
    "SolverSettings",
    "SolverStatus",
    "batch_jacobian",
    "equilibrium",
    "hutchinson_jacobian_loss",
    "solve",
    "spectral_radius",
    "trajectory",
    "unroll",
]

_HOME = {
    "implicit": ("equilibrium", "trajectory", "unroll"),
    "jacobian": ("batch_jacobian", "hutchinson_jacobian_loss", "spectral_radius"),
    "layer": ("EquilibriumLayer", "SolveDropout"),
    "proposals": ("Proposal", "Solver"),
    "result": ("ConvergenceError", "ConvergenceWarning", "SolverResult", "SolverStatus"),
    "settings": ("SolverSettings",),
    "solvers": ("solve",),
}


def __getattr__(name: str):
    # on demand: whoever only asks for the solvers' names (`deq.settings`), as --help does, does not wait for torch
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"deq.{module}"), name)
    raise AttributeError(f"module 'deq' has no attribute {name!r}")
