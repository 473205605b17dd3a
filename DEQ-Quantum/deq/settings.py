"""How an equilibrium is sought: the choice of solver, its cap on steps, its tolerance and its options.

Settings validate themselves when they are made, so a misspelt option stops a run before it starts and the
message lists the known ones. Torch-free plain data: `dataclasses.asdict` of a setting can be saved with a
run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

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


SOLVER_OPTIONS: dict[str, dict[str, Option]] = {
    "broyden": {
        # rank of the inverse Jacobian's estimate; when it is full the estimate restarts at -I
        "memory": Option(100, _is_count, "an integer >= 1"),
    },
    "anderson": {
        # number of past differences that are combined
        "memory": Option(5, _is_count, "an integer >= 1"),
        # added to the normal equations of unit diagonal; at least one machine epsilon; None is ten
        "ridge": Option(None, lambda r: r is None or (_is_number(r) and r >= 0), "a number >= 0, or None"),
        # the share of the residual that a step takes
        "mixing": Option(1.0, lambda m: _is_number(m) and m > 0, "a number > 0"),
    },
    "fixed_point": {},
    "newton": {},
    "exact": {},
}


@dataclass(frozen=True)
class SolverSettings:
    """How to look for z = f(z).

    Args:
        name: `broyden`, `anderson`, `fixed_point` (Picard) or `newton`; the linear system of the implicit
            gradient is solved by `broyden`, `anderson`, `fixed_point` or `exact`.
        max_steps: cap on the steps of every sample; 0 evaluates the starting point and no more.
        tol: a sample has converged once its residual is at most this.
        stop_mode: what the residual of a sample is: `rel`, ||f(z) - z|| / ||z||, or `abs`, ||f(z) - z||.
        options: options of that solver (`SOLVER_OPTIONS`); those left out take their defaults.

    Raises:
        ValueError: a value out of range, an unknown solver or an unknown option; it names the known ones.
    """

    name: str = "broyden"
    max_steps: int = 50
    tol: float = 1e-6
    stop_mode: str = "rel"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in SOLVER_OPTIONS:
            raise ValueError(f"unknown solver {self.name!r}; known: {', '.join(SOLVER_OPTIONS)}")
        if self.stop_mode not in STOP_MODES:
            raise ValueError(f"unknown stop_mode {self.stop_mode!r}; known: {', '.join(STOP_MODES)}")
        if self.max_steps != 0 and not _is_count(self.max_steps):
            raise ValueError(f"max_steps must be an integer >= 0, not {self.max_steps!r}")
        if not (_is_number(self.tol) and self.tol >= 0):
            raise ValueError(f"tol must be a number >= 0, not {self.tol!r}")
        known = SOLVER_OPTIONS[self.name]
        for option, value in self.options.items():
            if option not in known:
                raise ValueError(f"{self.name} has no option {option!r}; known: {', '.join(known) or 'none'}")
            if not known[option].accepts(value):
                raise ValueError(f"{self.name}: {option} must be {known[option].needs}, not {value!r}")

    def all_options(self) -> dict[str, Any]:
        """The options of this solver, defaults included."""
        return {
            name: self.options.get(name, option.default) for name, option in SOLVER_OPTIONS[self.name].items()
        }
