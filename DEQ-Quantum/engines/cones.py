"""Which part of a circuit a readout depends on: its backward light cone.

In the Heisenberg picture an operation matters to a string of Z only where it does not commute with what the operations
behind it made of the string. Wires that these operations leave alone drop out of the trace. Forwards, a wire of an
amplitude-encoded register that holds none of the data starts in |0>, where RZ is a phase and a control does nothing.

Knows what gates commute with, not their matrices; torch-free.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from circuits.circuit import Circuit
from circuits.encodings import AmplitudeEncoding
from circuits.operations import Operation

ANY = "*"  # of a wire: the operator may be anything there; a letter: it lies in the span of I and that Pauli matrix
AXIS = {"rx": "X", "ry": "Y", "rz": "Z", "sx": "X"}
TURNED = {"h": {"X": "Z", "Y": "Y", "Z": "X"}, "sx": {"Y": "Z", "Z": "Y"}}
MOST_COLUMNS = 1024  # inputs: of more amplitudes a batch has fewer states than there are columns


@dataclass(frozen=True)
class Cone:
    """A part of a circuit.

    Attributes:
        wires: ascending.
        operations: positions in the ansatz, ascending.
    """

    wires: tuple[int, ...]
    operations: tuple[int, ...]

    def __or__(self, other: "Cone") -> "Cone":
        """What two need together: the operations that only one needs commute with the other's operator in their place."""
        wires, operations = ({*a, *b} for a, b in ((self.wires, other.wires), (self.operations, other.operations)))
        return Cone(tuple(sorted(wires)), tuple(sorted(operations)))


def sends_columns(circuit: Circuit) -> bool:
    """Whether the compiled engine sends the inputs' basis states through the circuit, once a step, and not every sample."""
    return isinstance(circuit.encoding, AmplitudeEncoding) and circuit.n_inputs <= MOST_COLUMNS


def data_wires(circuit: Circuit) -> range:
    """The last wires, whose bits number the basis states of the inputs of an amplitude encoding; others start in |0>."""
    return range(circuit.n_wires - (circuit.n_inputs - 1).bit_length(), circuit.n_wires)


def n_columns(circuit: Circuit, wires: Iterable[int]) -> int:
    """In how many basis states the data may leave these wires: with all others 0, the first ones, without a gap."""
    last, value = 0, 0  # the last of them, bit by bit from the top, and the input that it belongs to
    for wire in sorted(set(wires) & set(data_wires(circuit))):
        bit = 1 << circuit.n_wires - 1 - wire
        last *= 2
        if value + bit < circuit.n_inputs:
            last, value = last + 1, value + bit
    return last + 1


def light_cone(circuit: Circuit, support: Sequence[int]) -> Cone:
    """What the expectation value of the string of Z on `support` depends on, after amplitude encoding."""
    letters = dict.fromkeys(support, "Z")
    operations = circuit.ansatz.operations
    needed = [position for position in reversed(_acting(circuit)) if _pulled_back(letters, operations[position])]
    return Cone(tuple(sorted(letters)), tuple(reversed(needed)))


def _acting(circuit: Circuit) -> list[int]:
    """Positions of the operations that do more than a phase, given which wires are still in |0>."""
    zeros = set(range(circuit.n_wires)) - set(data_wires(circuit))
    acting = []
    for position, (gate, wires) in enumerate((o.gate, o.wires) for o in circuit.ansatz.operations):
        if wires[0] in zeros and gate in ("rz", "cnot", "crx"):
            continue
        acting.append(position)
        zeros -= set(wires)
    return acting


def _pulled_back(letters: dict[int, str], operation: Operation) -> bool:
    """Take the operator through the operation, in place; False where they commute."""
    gate, wires = operation.gate, operation.wires
    found = [letters.get(wire) for wire in wires]
    if not any(found):
        return False
    if gate in ("cnot", "crx"):
        control_commutes, target_commutes = found[0] in (None, "Z"), found[1] in (None, "X")
        if control_commutes and target_commutes:
            return False
        letters[wires[0]] = "Z" if control_commutes else found[0] if target_commutes and gate == "cnot" else ANY
        letters[wires[1]] = "X" if target_commutes else found[1] if control_commutes and gate == "cnot" else ANY
        return True
    if len(wires) == 1 and found[0] == AXIS.get(gate):
        return False
    for wire, letter in zip(wires, found):
        letters[wire] = TURNED.get(gate, {}).get(letter, ANY)
    return True
