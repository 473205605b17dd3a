"""What is read off the circuit's state: expectation values of Pauli strings, or probabilities of outcomes.

Every readout is measured in a few settings, a letter X, Y or Z a wire, and is linear in the probabilities of a setting's
outcomes; `weights` says how. Section 2.3 of Schleich et al. (arXiv 2410.23940) names both kinds; the last four wires'
probabilities are read by Kiwit et al. (arXiv 2505.03399).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

from circuits.paulis import check_strings, is_diagonal, measurement_settings, place, z_string


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

    def settings(self) -> dict[str, list[int]]:
        """Positions of the readouts that one measurement setting gives, by its basis, a letter X, Y or Z per wire."""
        return measurement_settings(self.strings)

    def weights(self, basis: str):
        """How the readouts of a setting follow from the probabilities of its outcomes: numpy (n, 2^n_wires).

        Args:
            basis: one of `settings()`; an outcome's first bit is wire 0's.
        """
        import numpy as np  # here: whoever only asks for names, as --help does, does not wait for it

        signs = 1.0 - 2.0 * (np.arange(2**self.n_wires) >> np.arange(self.n_wires - 1, -1, -1)[:, None] & 1)
        supports = self.supports()
        return np.stack([signs[list(supports[k])].prod(0) for k in self.settings()[basis]])

    def letters(self, wire: int) -> str:
        """What is measured on a wire, for drawings: "X, Z"; empty: nothing."""
        return ", ".join(sorted({string[wire] for string in self.strings} - {"I"}))


@dataclass(frozen=True)
class ProbabilityReadout:
    """Probabilities that some wires read 0...00, 0...01, ..., times 2^(number of these wires): 1 where all are alike.

    Attributes:
        n_wires: of the circuit.
        wires: which are read, the first one the most significant bit.
        n: how many outcomes, the first ones.

    Raises:
        ValueError: wires that are not there or named twice, or more outcomes than there are.
    """

    n_wires: int
    wires: tuple[int, ...]
    n: int

    def __post_init__(self):
        object.__setattr__(self, "wires", tuple(self.wires))
        if not self.wires or len(set(self.wires)) < len(self.wires) or not set(self.wires) <= set(range(self.n_wires)):
            raise ValueError(f"probabilities are read on different wires of 0 to {self.n_wires - 1}, got {self.wires}")
        if not 1 <= self.n <= 2 ** len(self.wires):
            raise ValueError(f"{len(self.wires)} wires have {2 ** len(self.wires)} outcomes, not {self.n}")

    def __len__(self) -> int:
        return self.n

    @property
    def is_diagonal(self) -> bool:
        """Outcomes are read in the computational basis."""
        return True

    def supports(self) -> list[tuple[int, ...]]:
        """The wires that each readout depends on."""
        return [self.wires] * self.n

    def settings(self) -> dict[str, list[int]]:
        """One: Z on every wire."""
        return {"Z" * self.n_wires: list(range(self.n))}

    def weights(self, basis: str):
        """As `PauliReadout.weights`: 2^(number of wires) where an outcome has these bits, else 0."""
        import numpy as np  # here: as above

        bits = np.arange(2**self.n_wires) >> self.n_wires - 1 - np.array(self.wires)[:, None] & 1
        read = (bits << np.arange(len(self.wires) - 1, -1, -1)[:, None]).sum(0)
        return 2.0 ** len(self.wires) * (read == np.arange(self.n)[:, None])

    def letters(self, wire: int) -> str:
        """What is measured on a wire, for drawings: a probability."""
        return "p" if wire in self.wires else ""


Readout = PauliReadout | ProbabilityReadout


def z_on(n_wires: int, wires: Sequence[int]) -> PauliReadout:
    """Z on each of some wires, one string a wire."""
    return PauliReadout(tuple(z_string(n_wires, wire) for wire in wires))


def pauli_strings(n_wires: int, letters: str, with_pairs: bool) -> PauliReadout:
    """Of each letter its strings of weight 1 and, if asked for, of weight 2: the letter on one wire, on two wires."""
    single = [{wire: letter} for letter in letters for wire in range(n_wires)]
    pairs = [{a: letter, b: letter} for letter in letters for b in range(n_wires) for a in range(b)] if with_pairs else []
    return PauliReadout(tuple(place(n_wires, on) for on in [*single, *pairs]))


def whole_strings(n_wires: int, letters: str) -> PauliReadout:
    """Of each letter its 2^n_wires - 1 strings, the shortest first: all that one measurement a letter tells."""
    wires = range(n_wires)
    supports = [*chain.from_iterable(combinations(wires, weight) for weight in range(1, n_wires + 1))]
    return PauliReadout(tuple(place(n_wires, dict.fromkeys(on, letter)) for letter in letters for on in supports))


def probabilities_of(n_wires: int, wires: Sequence[int], most: int) -> ProbabilityReadout:
    """The first outcomes of some wires, at most so many."""
    return ProbabilityReadout(n_wires, tuple(wires), min(most, 2 ** len(wires)))


# the choices of `build_circuit`
READOUTS: dict[str, Callable[[int], Readout]] = {
    "z": lambda n: z_on(n, range(n)),
    "zz": lambda n: pauli_strings(n, "Z", True),
    "z_strings": lambda n: whole_strings(n, "Z"),
    "pauli1": lambda n: pauli_strings(n, "XYZ", False),
    "pauli2": lambda n: pauli_strings(n, "XYZ", True),
    "xyz_strings": lambda n: whole_strings(n, "XYZ"),
    "projections": lambda n: probabilities_of(n, range(n), n**2),
    "marginal": lambda n: probabilities_of(n, range(max(0, n - 4), n), 16),
}


def build_readout(name: str, n_wires: int) -> Readout:
    """One of `READOUTS`, or the Pauli strings of a list such as "ZIII,XXII".

    Raises:
        ValueError: neither, or strings of another number of wires.
    """
    if name in READOUTS:
        return READOUTS[name](n_wires)
    strings = tuple(name.split(","))
    if set(name) - set("IXYZ,"):
        raise ValueError(f"readout must be one of {', '.join(READOUTS)}, or Pauli strings with commas between, got {name!r}")
    if other := [string for string in strings if len(string) != n_wires]:
        raise ValueError(f"a Pauli string has a letter for each of the {n_wires} wires, got {other[0]!r}")
    return PauliReadout(strings)
