"""Gates and operations: the words in which encodings and ansätze are written.

A gate is known by its name, the wires it takes and whether it takes an angle. What it does to a state is an engine's
to know; all follow the textbook: RX(t) = exp(-i t X / 2) and alike, the control is the first wire, SX squared is X.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """How many wires a gate takes, and whether it takes an angle."""

    n_wires: int
    has_angle: bool


GATES = {
    "rx": Gate(1, True),
    "ry": Gate(1, True),
    "rz": Gate(1, True),
    "h": Gate(1, False),
    "sx": Gate(1, False),
    "crx": Gate(2, True),
    "cnot": Gate(2, False),
}


@dataclass(frozen=True)
class Operation:
    """A gate at its place.

    Attributes:
        gate: one of `GATES`.
        wires: where, the control first.
        parameter: of which entry of theta (in an ansatz) or of the inputs (in an encoding) the angle is; None: no angle.
        part: what it belongs to, as "random" or "block" in the paper's ansatz.
    """

    gate: str
    wires: tuple[int, ...]
    parameter: int | None = None
    part: str = ""

    def __post_init__(self):
        object.__setattr__(self, "wires", tuple(self.wires))  # a list would equal no other operation's wires

    def __str__(self) -> str:
        return f"{self.gate}({', '.join(map(str, self.wires))})"


def check_operations(operations: Sequence[Operation], n_wires: int, where: str) -> None:
    """Refuse operations that no engine can apply.

    Args:
        operations: of an encoding or an ansatz.
        n_wires: of the circuit.
        where: "encoding" or "ansatz", for the message.

    Raises:
        ValueError: an unknown gate, wires that are too many, repeated or not there, an angle missing or too much.
    """
    for operation in operations:
        gate, wires = GATES.get(operation.gate), operation.wires
        if gate is None:
            raise ValueError(f"{where}: unknown gate {operation.gate!r}; known: {', '.join(GATES)}")
        if len(wires) != gate.n_wires or len(set(wires)) < len(wires) or not set(wires) <= set(range(n_wires)):
            raise ValueError(f"{where}: {operation} needs {gate.n_wires} different wires of 0 to {n_wires - 1}")
        if gate.has_angle != (operation.parameter is not None) or (operation.parameter or 0) < 0:
            needs = "the index of an angle" if gate.has_angle else "no angle"
            raise ValueError(f"{where}: {operation} takes {needs}, got parameter {operation.parameter}")
