"""The operations that carry parameters: any list of them, the paper's, and two that the field compares with.

Section 3.2, Figs 2 and 3 of Schleich et al. (arXiv 2410.23940): 50 random operations, then four-qubit blocks in a
staircase. Departs from the released code in that every gate's parameter has a name and can be trained. The others:
strongly entangling layers (Schuld et al., arXiv 1804.00633), with an open chain in place of the ring as West et al. (arXiv
2309.09424) use them, and sequential two-qubit gates (Dilip et al., arXiv 2204.11170; Kiwit et al., arXiv 2505.03399).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from circuits.operations import GATES, Operation, check_operations

RANDOM_GATES = ("rx", "ry", "rz", "cnot")
N_RANDOM_OPERATIONS = 50
RANDOM_SEED = 1111
RANDOM, BLOCK = "random", "block"  # the parts of the paper's ansatz


@dataclass(frozen=True)
class Ansatz:
    """A parametrised unitary as a list of operations.

    Attributes:
        n_wires: qubits.
        operations: in order of application; `parameter` is the position of the angle in theta.
        parameter_names: one per entry of theta, e.g. "random.07.rz[5]" or "block.0.crx[0,2]".

    Raises:
        ValueError: operations that cannot be applied, an entry of theta without a name, or a name twice.
    """

    n_wires: int
    operations: tuple[Operation, ...]
    parameter_names: tuple[str, ...]

    def __post_init__(self):
        object.__setattr__(self, "operations", tuple(self.operations))
        object.__setattr__(self, "parameter_names", tuple(self.parameter_names))
        check_operations(self.operations, self.n_wires, "ansatz")
        used = {operation.parameter for operation in self.operations} - {None}
        if used != set(range(len(self.parameter_names))):
            raise ValueError(f"ansatz: {len(self.parameter_names)} parameters are named, those of {sorted(used)} are used")
        if len(set(self.parameter_names)) < len(self.parameter_names):
            raise ValueError("ansatz: two parameters have one name")

    @property
    def n_parameters(self) -> int:
        return len(self.parameter_names)

    def parameters_of(self, part: str) -> tuple[int, ...]:
        """Positions in theta of the parameters of one part, in rising order."""
        return tuple(sorted({o.parameter for o in self.operations if o.part == part and o.parameter is not None}))


def from_gates(n_wires: int, gates: Sequence[tuple], part: str = "") -> Ansatz:
    """An ansatz in which every gate that takes an angle has a parameter of its own.

    Args:
        n_wires: qubits.
        gates: (gate, wires), or (gate, wires, part, place) of each; a parameter is called "part.place.gate[wires]",
            where the place is the gate's position in the list unless it is given.
        part: of gates that name none.

    Raises:
        ValueError: as `Ansatz`.
    """
    operations: list[Operation] = []
    names: list[str] = []
    for position, (gate, wires, *rest) in enumerate(gates):
        own_part, place = rest or (part, str(position))
        parameter = None
        if gate in GATES and GATES[gate].has_angle:
            parameter = len(names)
            label = f"{gate}[{','.join(map(str, wires))}]"
            names.append(".".join(filter(None, (own_part, place, label))))
        operations.append(Operation(gate, tuple(wires), parameter, own_part))
    return Ansatz(n_wires, tuple(operations), tuple(names))


def paper_ansatz(
    n_wires: int, n_random_operations: int = N_RANDOM_OPERATIONS, seed: int = RANDOM_SEED, n_blocks: int = 1
) -> Ansatz:
    """Random operations, then the staircase of four-qubit blocks.

    Args:
        n_wires: qubits, even, from 4.
        n_random_operations: 50 in the paper.
        seed: of the random part's structure (1111 in the released code), not of its parameters.
        n_blocks: how often the staircase follows, with parameters of its own each time; once in the paper.

    Raises:
        ValueError: odd or too few wires, or n_blocks below 1.
    """
    check_wires(n_wires)
    _check_blocks(n_blocks)
    random = [
        (gate, wires, RANDOM, f"{position:02d}")
        for position, (gate, wires) in enumerate(random_operations(n_wires, n_random_operations, seed))
    ]
    return from_gates(n_wires, random + [gate for block in range(n_blocks) for gate in _staircase(n_wires, block)])


def check_wires(n_wires: int) -> None:
    """Refuse wires that blocks of four, half a block apart, do not cover.

    Raises:
        ValueError: odd or too few.
    """
    if n_wires < 4 or n_wires % 2:
        raise ValueError(f"n_wires must be an even number from 4, got {n_wires}")


def strongly_entangling(n_wires: int, n_blocks: int = 1) -> Ansatz:
    """Layers of a general rotation RZ RY RZ of every wire and a ring of CNOTs.

    The ring of layer l joins wire w with wire w + 1 + l mod (n_wires - 1): neighbours first, then further ones.

    Args:
        n_wires: qubits, from 2.
        n_blocks: layers, of 3 n_wires parameters each.

    Raises:
        ValueError: too few wires, or n_blocks below 1.
    """
    _check_blocks(n_blocks, n_wires)
    gates = []
    for layer in range(n_blocks):
        reach = 1 + layer % (n_wires - 1)
        gates += [(axis, (wire,)) for wire in range(n_wires) for axis in ("rz", "ry", "rz")]
        gates += [("cnot", (wire, (wire + reach) % n_wires)) for wire in range(n_wires)]
    return from_gates(n_wires, gates, "strongly_entangling")


def rotation_chain(n_wires: int, n_blocks: int = 1) -> Ansatz:
    """Layers of a general rotation RZ RY RZ of every wire and CNOTs from wire 0 to 1, 1 to 2, and so on to the last.

    Args:
        n_wires: qubits, from 2.
        n_blocks: layers, of 3 n_wires parameters each.

    Raises:
        ValueError: too few wires, or n_blocks below 1.
    """
    _check_blocks(n_blocks, n_wires)
    rotations = [(axis, (wire,)) for wire in range(n_wires) for axis in ("rz", "ry", "rz")]
    chain = [("cnot", (wire, wire + 1)) for wire in range(n_wires - 1)]
    return from_gates(n_wires, n_blocks * (rotations + chain), "rotation_chain")


def su4(n_wires: int, n_blocks: int = 1) -> Ansatz:
    """Sweeps of general two-qubit gates over the pairs (0, 1), (1, 2), ..., (n_wires - 2, n_wires - 1).

    Each gate has 15 parameters, as SU(4) has dimensions: general rotations of both wires, the three-CNOT circuit of
    Vatan and Williams (arXiv quant-ph/0308006), and general rotations again.

    Args:
        n_wires: qubits, from 2.
        n_blocks: sweeps, of 15 (n_wires - 1) parameters each.

    Raises:
        ValueError: too few wires, or n_blocks below 1.
    """
    _check_blocks(n_blocks, n_wires)
    return from_gates(n_wires, _general_gates(n_blocks * _neighbours(n_wires)), "su4")


def su4_last_four(n_wires: int, n_blocks: int = 1) -> Ansatz:
    """The sweeps of `su4`, then one more over the last four wires, as Dilip et al. (arXiv 2204.11170) measure these.

    Args:
        n_wires: qubits, from 2.
        n_blocks: sweeps over all wires, of 15 (n_wires - 1) parameters each; the last has at most 45.

    Raises:
        ValueError: too few wires, or n_blocks below 1.
    """
    _check_blocks(n_blocks, n_wires)
    pairs = _neighbours(n_wires)
    return from_gates(n_wires, _general_gates(n_blocks * pairs + pairs[-3:]), "su4_last_four")


def sim14(n_wires: int, n_blocks: int = 1) -> Ansatz:
    """Circuit 14 of Sim et al. (arXiv 1905.10876), as Alam et al. (arXiv 2109.02862) order its gates.

    Each layer: RY of every wire; CRX of wire w on w - 1, w = 0, 1, ...; RY of every wire; CRX of w on w + 1, w = 0, then
    n_wires - 1 down to 1. Both rings close.

    Args:
        n_wires: qubits, from 2.
        n_blocks: layers, of 4 n_wires parameters each.

    Raises:
        ValueError: too few wires, or n_blocks below 1.
    """
    _check_blocks(n_blocks, n_wires)
    turns = [("ry", (wire,)) for wire in range(n_wires)]
    down = [("crx", (wire, (wire - 1) % n_wires)) for wire in range(n_wires)]
    up = [("crx", (wire, (wire + 1) % n_wires)) for wire in (0, *range(n_wires - 1, 0, -1))]
    return from_gates(n_wires, n_blocks * (turns + down + turns + up), "sim14")


def _neighbours(n_wires: int) -> list[tuple[int, int]]:
    return list(zip(range(n_wires - 1), range(1, n_wires)))


def _general_gates(pairs: Sequence[tuple[int, int]]) -> list[tuple[str, tuple[int, ...]]]:
    """A gate of SU(4) on each pair of wires."""
    gates = []
    for a, b in pairs:
        turns = [(axis, (wire,)) for wire in (a, b) for axis in ("rz", "ry", "rz")]
        core = [("cnot", (b, a)), ("rz", (a,)), ("ry", (b,)), ("cnot", (a, b)), ("ry", (b,)), ("cnot", (b, a))]
        gates += [*turns, *core, *turns]
    return gates


def _check_blocks(n_blocks: int, n_wires: int = 2) -> None:
    if n_blocks < 1 or n_wires < 2:
        raise ValueError(f"an ansatz has one block or more on two wires or more, got {n_blocks} on {n_wires}")


def random_operations(n_wires: int, n_operations: int, seed: int) -> list[tuple[str, tuple[int, ...]]]:
    """The gates and wires that TorchQuantum's RandomLayer(n_ops, range(n_wires), seed=seed) draws.

    RandomLayer reseeds numpy's global generator; a private one with the same seed makes the same draws.
    """
    import numpy as np  # here: whoever only asks for names, as --help does, does not wait for it

    draw = np.random.RandomState(seed)
    ratios = np.ones(len(RANDOM_GATES)) / len(RANDOM_GATES)
    operations = []
    for _ in range(n_operations):
        gate = str(draw.choice(RANDOM_GATES, p=ratios))
        wires = draw.choice(n_wires, size=2 if gate == "cnot" else 1, replace=False)
        operations.append((gate, tuple(int(w) for w in wires)))
    return operations


def _staircase(n_wires: int, repetition: int) -> list[tuple[str, tuple[int, ...], str, str]]:
    """Blocks on wires 2i..2i+3: first every group with parameters, then every fixed one; numbered on from repetition to
    repetition."""
    starts = range(0, n_wires - 3, 2)
    with_angles = [("rx", (0,)), ("ry", (1,)), ("rz", (3,)), ("crx", (0, 2))]
    fixed = [("h", (3,)), ("sx", (2,)), ("cnot", (3, 0))]
    return [
        (gate, tuple(start + w for w in wires), BLOCK, str(number))
        for group in (with_angles, fixed)
        for number, start in enumerate(starts, repetition * len(starts))
        for gate, wires in group
    ]


# the choices of `build_circuit`: called with n_wires, n_blocks and what else `build_circuit` is given for the ansatz
ANSATZE = {
    "paper": paper_ansatz,
    "strongly_entangling": strongly_entangling,
    "rotation_chain": rotation_chain,
    "su4": su4,
    "su4_last_four": su4_last_four,
    "sim14": sim14,
}
