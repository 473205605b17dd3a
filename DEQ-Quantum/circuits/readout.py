"""What is read off the circuit's state: expectation values of Pauli strings, today Z on every wire."""

from collections.abc import Sequence
from dataclasses import dataclass

from circuits.paulis import check_strings, is_diagonal, z_string


@dataclass(frozen=True)
class PauliReadout:
    """Expectation values of a list of Pauli strings, numbers in [-1, 1].

    Attributes:
        strings: letters I, X, Y, Z, one per wire, wire 0 first; distinct.

    Raises:
        ValueError: no strings, other letters, different lengths, or a string twice.
    """

    strings: tuple[str, ...]

    def __post_init__(self):
        object.__setattr__(self, "strings", tuple(self.strings))
        check_strings(self.strings)

    def __len__(self) -> int:
        return len(self.strings)

    @property
    def n_wires(self) -> int:
        return len(self.strings[0])

    @property
    def is_diagonal(self) -> bool:
        """Whether all strings are of I and Z, so that one measurement in the computational basis gives them all."""
        return all(map(is_diagonal, self.strings))

    def supports(self) -> list[tuple[int, ...]]:
        """The wires on which each string is not the identity."""
        return [tuple(wire for wire, letter in enumerate(string) if letter != "I") for string in self.strings]


def z_on(n_wires: int, wires: Sequence[int]) -> PauliReadout:
    """Z on each of some wires, one string a wire."""
    return PauliReadout(tuple(z_string(n_wires, wire) for wire in wires))


# the choices of `build_circuit`
READOUTS = {"z": lambda n_wires: z_on(n_wires, range(n_wires))}
