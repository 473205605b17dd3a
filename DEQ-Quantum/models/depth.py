"""How a layer is made deep: solved for its equilibrium, or applied several times (section 3.3 of arXiv 2410.23940)."""

import warnings
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deq import ConvergenceWarning, SolverResult, SolverSettings, equilibrium, unroll
from engines.protocol import ReadoutMap
from models.layer import Bound
from models.lift import Lift

PAPER_SOLVER = SolverSettings("broyden", 10, 1e-3)


@dataclass(frozen=True)
class Deepened:
    """Where a layer was brought to.

    Attributes:
        r: (B, n_units), with gradient: the equilibrium, or the last layer's output.
        h_r: (B, n_units), without gradient: the layer's value there; measured anew where it is measured.
        solver: the equilibrium's solver result, of r or of z (`run_in_states`); None for a stack.
    """

    r: Tensor
    h_r: Tensor
    solver: SolverResult | None


@dataclass(frozen=True)
class Equilibrium:
    """The equilibrium r* = h(r*), differentiated through the implicit function theorem: IMPLICIT.

    Attributes:
        forward, backward: solvers of the equilibrium and of its gradient.
        from_x: whether the solve begins at the state nearest to x (`start_at`), in place of zero.
    """

    forward: SolverSettings = PAPER_SOLVER
    backward: SolverSettings = PAPER_SOLVER
    from_x: bool = False

    def run(self, h: ReadoutMap, r0: Tensor) -> Deepened:
        """Solve from r0 (B, n_units)."""
        if getattr(h, "measured_again", None) is None:  # any map of states to themselves will do
            r, solver = equilibrium(h, r0, self.forward, self.backward)
            return Deepened(r, solver.f_z, solver)
        with warnings.catch_warnings():  # no solve comes below what errors of measurement leave
            warnings.simplefilter("ignore", ConvergenceWarning)
            r, solver = equilibrium(h, r0, self.forward, self.backward)
        if solver.floor is not None:  # the solver has measured it anew at its answer
            return Deepened(r, solver.f_z, solver)
        with torch.no_grad():
            return Deepened(r, h.measured_again(r.detach()), solver)

    def run_in_states(self, f: Bound, lift: Lift, z0: Tensor) -> Deepened:
        """Solve z* = f(z*) from z0 (B, width) and read once more, r* = h(z*): fewer numbers where units are many."""
        z, solver = equilibrium(f, z0, self.forward, self.backward)
        r = f.read(z)
        with torch.no_grad():
            return Deepened(r, f.read(lift(r)), solver)

    def in_units_of(self, shrinking: float) -> "Equilibrium":
        """The same for states r with ||r|| = shrinking ||z||, which only an absolute tolerance notices."""
        if self.forward.stop_mode == "rel":
            return self
        return replace(self, forward=replace(self.forward, tol=self.forward.tol * shrinking))


@dataclass(frozen=True)
class Stack:
    """n_layers weight-tied layers, differentiated one by one: DIRECT and the warm-up.

    Attributes:
        n_layers: how many.
        from_x: whether the first one has the state nearest to x (`start_at`), in place of zero.

    Raises:
        ValueError: fewer than one.
    """

    n_layers: int
    from_x: bool = False

    def __post_init__(self):
        if self.n_layers < 1:
            raise ValueError(f"a stack has at least one layer, got {self.n_layers}")

    def run(self, h: ReadoutMap, r0: Tensor) -> Deepened:
        """Apply h n_layers times to r0 (B, n_units)."""
        r = unroll(h, r0, self.n_layers)
        with torch.no_grad():
            return Deepened(r, (getattr(h, "measured_again", None) or h)(r), None)

    def in_units_of(self, shrinking: float) -> "Stack":
        """No tolerance, nothing to change."""
        return self


Depth = Equilibrium | Stack


def start_at(depth: Depth, lift: Lift, x: Tensor) -> Tensor:
    """Where a depth begins: zero, or the readouts r whose state E r is nearest to x; (B, width) to (B, n_units).

    With amplitude encoding f(x; x) = f(0; x) whatever the gain g, since (1 + g) x and x normalise to one state. So the
    two differ only in what x has beyond its nearest E r: in nothing where there are as many readouts as numbers in x.
    """
    return lift.nearest(x) if depth.from_x else x.new_zeros(x.shape[0], lift.n)
