"""Shift rules: derivatives of readouts as differences of readouts of one circuit at other angles, exact at any noise.

A rotation's angle t enters with cos t and sin t, whatever follows its gate, so two values half a turn apart give the
slope; a controlled rotation adds cos t/2 and sin t/2 and takes four:

    rotation     r' = (r(t + pi/2) - r(t - pi/2)) / 2
    controlled   r' = c (r(t + pi/2) - r(t - pi/2)) - d (r(t + 3 pi/2) - r(t - 3 pi/2))

with c, d = (sqrt 2 +- 1) / (4 sqrt 2).

Source: Schuld et al., arXiv 1811.11184; Anselmetti et al., New J. Phys. 23, 113010 (2021), appendix F.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, sqrt

from circuits.circuit import Circuit
from circuits.encodings import Encoding
from circuits.operations import Operation
from engines.protocol import UnsupportedCircuit


@dataclass(frozen=True)
class Term:
    """coefficient * (r(t + shift) - r(t - shift)), the shift in radians."""

    shift: float
    coefficient: float


ROTATION = (Term(pi / 2, 0.5),)
CONTROLLED = (Term(pi / 2, (sqrt(2) + 1) / (4 * sqrt(2))), Term(3 * pi / 2, -(sqrt(2) - 1) / (4 * sqrt(2))))
RULES = {"rx": ROTATION, "ry": ROTATION, "rz": ROTATION, "crx": CONTROLLED}

Rule = tuple[Term, ...]


def rule_of(operation: Operation) -> Rule:
    """The rule for the angle of a gate.

    Raises:
        UnsupportedCircuit: a gate without one.
    """
    if operation.gate not in RULES:
        raise UnsupportedCircuit(f"no shift rule is known for the angle of {operation}; known: {', '.join(RULES)}")
    return RULES[operation.gate]


def parameter_rules(circuit: Circuit) -> dict[int, Rule]:
    """Rules of the trained parameters, by position in theta.

    Raises:
        UnsupportedCircuit: see `rule_of`; a parameter that turns several gates, with its name.
    """
    found = _rules(circuit.ansatz.operations, circuit.trained, lambda p: f"parameter {circuit.parameter_names[p]}")
    return {position: found[position] for position in circuit.trained}


def input_rules(encoding: Encoding) -> dict[int, Rule]:
    """Rules of the inputs that are angles, by position; those that turn no gate have none.

    Raises:
        UnsupportedCircuit: see `rule_of`; an input that turns several gates.
    """
    return _rules(encoding.operations, range(encoding.n_inputs), lambda p: f"input {p}")


def _rules(operations: Sequence[Operation], positions: Sequence[int], name) -> dict[int, Rule]:
    found: dict[int, tuple[Operation, Rule]] = {}
    for operation in operations:
        if operation.parameter is None or operation.parameter not in positions:
            continue
        if operation.parameter in found:
            raise UnsupportedCircuit(
                f"a shift rule shifts one gate, and {name(operation.parameter)} turns {found[operation.parameter][0]} "
                f"and {operation}: give each gate a parameter of its own"
            )
        found[operation.parameter] = operation, rule_of(operation)
    return {position: rule for position, (_, rule) in found.items()}


def shots_of(rule: Rule, shots: int) -> tuple[int, ...]:
    """Shots of each of the two circuits of every term, in proportion to the coefficients; `shots` each on average.

    The variance is then least: that of a difference of two circuits with all these shots. No circuit has none.
    """
    weights = [abs(term.coefficient) for term in rule]
    others = [max(1, round(shots * len(rule) * weight / sum(weights))) for weight in weights[1:]]
    return (shots * len(rule) - sum(others), *others)
