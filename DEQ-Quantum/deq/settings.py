"""How an equilibrium is sought: the choice of solver, its cap on steps, its tolerance and its options.

Settings validate themselves when they are made, so a misspelt option stops a run before it starts and the
message lists the known ones. Torch-free plain data: `dataclasses.asdict` of a setting can be saved with a
run (a solver of one's own is saved as that object).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it imports torch, and this file
    from deq.proposals import Proposal, Solver

STOP_MODES = ("rel", "abs")


@dataclass(frozen=True)
class Option:
    """One option of a solver: its default, the test a value must pass, and that test in words."""

    default: Any
    accepts: Callable[[Any], bool]
    needs: str


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


# the share of the proposed step that is taken
DAMPING = Option(1.0, lambda share: _is_number(share) and 0 < share <= 1, "a number > 0 and <= 1")


@dataclass(frozen=True)
class SolverKind:
    """A solver by name: its class in `proposals.py`, empty for those of the linear system only, and its options."""

    proposal: str
    options: dict[str, Option] = field(default_factory=dict)


SOLVERS = {
    "broyden": SolverKind("Broyden", {
        # rank of the inverse Jacobian's estimate; when it is full the estimate restarts at -I
        "memory": Option(100, _is_count, "an integer >= 1"),
        "damping": DAMPING,
    }),
    "anderson": SolverKind("Anderson", {
        # number of past differences that are combined
        "memory": Option(5, _is_count, "an integer >= 1"),
        # added to the normal equations of unit diagonal; at least one machine epsilon; None is ten
        "ridge": Option(None, lambda r: r is None or (_is_number(r) and r >= 0), "a number >= 0, or None"),
        # the share of the residual that a step takes
        "mixing": Option(1.0, lambda m: _is_number(m) and m > 0, "a number > 0"),
    }),
    "fixed_point": SolverKind("Picard", {"damping": DAMPING}),
    "averaged": SolverKind("Averaged", {
        # the step's share of f(z) - z: damping / k^power in step k; Robbins and Monro need a power in (1/2, 1]
        "damping": DAMPING,
        "power": Option(0.0, lambda p: _is_number(p) and 0 <= p <= 1, "a number >= 0 and <= 1"),
        # the share of max_steps before the average begins
        "burn_in": Option(0.4, lambda share: _is_number(share) and 0 <= share < 1, "a number >= 0 and < 1"),
    }),
    "newton": SolverKind("Newton", {
        # how many Jacobians are formed; the last one serves all further steps; None: every step has its own
        "jacobians": Option(None, lambda n: n is None or _is_count(n), "an integer >= 1, or None"),
    }),
    "exact": SolverKind(""),
    # vectors of the Krylov space before a restart
    "gmres": SolverKind("", {"memory": Option(30, _is_count, "an integer >= 1")}),
    "bicgstab": SolverKind(""),
    # the share of each of the max_steps damped steps
    "phantom": SolverKind("", {"tau": DAMPING}),
}  # fmt: skip
FORWARD_SOLVERS = tuple(name for name, kind in SOLVERS.items() if kind.proposal)


class _NamedArguments(type):
    """Answers an unknown keyword with the known ones."""

    def __call__(cls, *args: Any, **kwargs: Any):
        known = list(cls.__annotations__)
        for name in kwargs:
            if name not in known:
                raise TypeError(f"{cls.__name__} has no argument {name!r}; known: {', '.join(known)}")
        return super().__call__(*args, **kwargs)


@dataclass(frozen=True)
class SolverSettings(metaclass=_NamedArguments):
    """How to look for z = f(z).

    Args:
        name: `broyden`, `anderson`, `fixed_point` (Picard), `averaged` or `newton`; the linear system of the implicit
            gradient is solved by `broyden`, `anderson`, `fixed_point`, `exact`, `gmres`, `bicgstab` or `phantom` (see
            `deq.equilibrium`). Or a solver of one's own (see `deq.Solver` and `deq.Proposal`).
        max_steps: cap on the steps of every sample; 0 evaluates the starting point and no more.
        tol: a sample has converged once its residual is at most this; 0 asks for all steps.
        stop_mode: what the residual of a sample is: `rel`, ||f(z) - z|| / ||z||, or `abs`, ||f(z) - z||.
        options: options of that solver (`SOLVERS`); those left out take their defaults.
        patience: a sample stops once its residual has not fallen for so many steps, as at the floor that rounding
            sets; None: it goes on to max_steps.
        wait_for_all: samples that have converged go on being improved until the last one has.
        polish: the answer is f of the iterate found, which is known already: closer to the solution by the factor
            of contraction, farther where the spectral radius is above 1. The residuals stay those of the iterate. For
            solvers that iterate z = f(z) only.
        noise: sqrt(E ||error||^2) of one evaluation of f of a sample, where it is measured with an error that is new
            at every call; None: as f offers it, by `noise(z, f_z)` -> (B,), else f is exact; 0: exact. Then `broyden`
            learns nothing from differences that the errors may have made, `anderson` the less, a sample also stops at
            the floor that they set (`SolverStatus.AT_FLOOR`), and residuals are of one more evaluation, at the answer.

    Raises:
        ValueError: a value out of range, an unknown solver or an unknown option; it names the known ones.
        TypeError: an unknown argument; it names the known ones.
    """

    name: str | Proposal | Solver = "broyden"
    max_steps: int = 50
    tol: float = 1e-6
    stop_mode: str = "rel"
    options: Mapping[str, Any] = field(default_factory=dict)
    patience: int | None = None
    wait_for_all: bool = False
    polish: bool = False
    noise: float | None = None

    def __post_init__(self) -> None:
        if self.stop_mode not in STOP_MODES:
            raise ValueError(f"unknown stop_mode {self.stop_mode!r}; known: {', '.join(STOP_MODES)}")
        if self.max_steps != 0 and not _is_count(self.max_steps):
            raise ValueError(f"max_steps must be an integer >= 0, not {self.max_steps!r}")
        if not (_is_number(self.tol) and self.tol >= 0):
            raise ValueError(f"tol must be a number >= 0, not {self.tol!r}")
        if self.patience is not None and not _is_count(self.patience):
            raise ValueError(f"patience must be an integer >= 1, or None, not {self.patience!r}")
        if self.noise is not None and not (_is_number(self.noise) and self.noise >= 0):
            raise ValueError(f"noise must be a number >= 0, or None, not {self.noise!r}")
        for name in ("wait_for_all", "polish"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, not {getattr(self, name)!r}")
        if not isinstance(self.name, str):
            self._check_own_solver()
            return
        if self.name not in SOLVERS:
            raise ValueError(f"unknown solver {self.name!r}; known: {', '.join(SOLVERS)}")
        for name in ("polish", "noise"):
            if getattr(self, name) and not SOLVERS[self.name].proposal:
                iterating = ", ".join(FORWARD_SOLVERS)
                raise ValueError(f"{name} is for solvers that iterate z = f(z), {iterating}; not {self.name}")
        if self.polish and self.name == "averaged":
            raise ValueError("polish would answer with one evaluation of f in place of the mean that averaged finds")
        known = SOLVERS[self.name].options
        for option, value in self.options.items():
            if option not in known:
                raise ValueError(f"{self.name} has no option {option!r}; known: {', '.join(known) or 'none'}")
            if not known[option].accepts(value):
                raise ValueError(f"{self.name}: {option} must be {known[option].needs}, not {value!r}")

    def _check_own_solver(self) -> None:
        if not callable(self.name) and not callable(getattr(self.name, "start", None)):
            raise ValueError(
                f"a solver is a name ({', '.join(SOLVERS)}), a step (z, f_z) -> z, or an object with start(), "
                f"not {self.name!r}"
            )
        if self.options:
            raise ValueError("a solver of one's own takes no options here; give them to it when it is made")

    @property
    def label(self) -> str:
        """The solver's name for messages."""
        return self.name if isinstance(self.name, str) else getattr(self.name, "__name__", type(self.name).__name__)

    def all_options(self) -> dict[str, Any]:
        """The options of this solver, defaults included."""
        if not isinstance(self.name, str):
            return {}
        return {
            name: self.options.get(name, option.default) for name, option in SOLVERS[self.name].options.items()
        }
