"""The circuit of the paper as data: what is applied, where, with which parameter.

Section 3.2, Figs 2 and 3 of Schleich et al. (arXiv 2410.23940): an encoding of n_wires^2 numbers, 50 random
operations, a staircase of four-qubit blocks, Pauli-Z on every wire. Engines, drawings and counts all read this
one description; nothing here simulates anything or knows of equilibria.

Departs from the released code in two places: every gate's parameter has a name and can be trained, and the
angle encoding of more than 4 wires cycles the axes, since ten rotations about one axis are a single one.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

ENCODINGS = ("amplitude", "angle")
RANDOM_GATES = ("rx", "ry", "rz", "cnot")
ENCODING_AXES = ("ry", "rz", "rx")
N_RANDOM_OPERATIONS = 50
RANDOM_SEED = 1111


@dataclass(frozen=True)
class Operation:
    """One gate. `parameter` indexes theta (in the ansatz) or the input vector (in the encoder); None: fixed."""

    gate: str
    wires: tuple[int, ...]
    parameter: int | None = None


@dataclass(frozen=True)
class Circuit:
    """An encoder, an ansatz, and Z on every wire.

    Attributes:
        n_wires: number of qubits; the input vector has n_wires^2 entries.
        encoding: "amplitude" (the normalised vector is the state, padded with zeros) or "angle".
        encoder: rotations of the angle encoding, empty for amplitude encoding.
        ansatz: the operations that carry parameters, in order of application.
        parameter_names: one per entry of theta, e.g. "random.07.rz[5]" or "block.0.crx[0,2]".
    """

    n_wires: int
    encoding: str
    encoder: tuple[Operation, ...]
    ansatz: tuple[Operation, ...]
    parameter_names: tuple[str, ...]

    @property
    def n_inputs(self) -> int:
        return self.n_wires**2

    @property
    def n_parameters(self) -> int:
        return len(self.parameter_names)

    @cached_property
    def block_parameters(self) -> tuple[int, ...]:
        """Indices of the parameters of the four-qubit blocks, the ones the released code never trains."""
        return tuple(i for i, name in enumerate(self.parameter_names) if name.startswith("block."))


def random_operations(n_wires: int, n_operations: int, seed: int) -> list[tuple[str, tuple[int, ...]]]:
    """The gates and wires that TorchQuantum's RandomLayer(n_ops, range(n_wires), seed=seed) draws.

    RandomLayer reseeds numpy's global generator; a private one with the same seed makes the same draws.
    """
    draw = np.random.RandomState(seed)
    ratios = np.ones(len(RANDOM_GATES)) / len(RANDOM_GATES)
    operations = []
    for _ in range(n_operations):
        gate = str(draw.choice(RANDOM_GATES, p=ratios))
        wires = draw.choice(n_wires, size=2 if gate == "cnot" else 1, replace=False)
        operations.append((gate, tuple(int(w) for w in wires)))
    return operations


def _staircase(n_wires: int) -> list[tuple[str, tuple[int, ...], int]]:
    """Blocks on wires 2i..2i+3: (gate, wires, block), first every trainable group, then every fixed one."""
    starts = range(0, n_wires - 3, 2)
    trainable = [("rx", (0,)), ("ry", (1,)), ("rz", (3,)), ("crx", (0, 2))]
    fixed = [("h", (3,)), ("sx", (2,)), ("cnot", (3, 0))]
    return [
        (gate, tuple(start + w for w in wires), block)
        for group in (trainable, fixed)
        for block, start in enumerate(starts)
        for gate, wires in group
    ]


def _angle_encoder(n_wires: int, n_layers: int) -> tuple[Operation, ...]:
    """Layers of one rotation a wire; entry `layer * n_wires + wire` is that rotation's angle."""
    return tuple(
        Operation(ENCODING_AXES[layer % len(ENCODING_AXES)], (wire,), layer * n_wires + wire)
        for layer in range(n_layers)
        for wire in range(n_wires)
    )


def build_circuit(
    n_wires: int,
    encoding: str = "amplitude",
    n_random_operations: int = N_RANDOM_OPERATIONS,
    seed: int = RANDOM_SEED,
    n_encoding_layers: int | None = None,
) -> Circuit:
    """The paper's circuit for any even number of wires from 4.

    Args:
        n_wires: number of qubits Q; inputs are vectors of Q^2 numbers.
        encoding: "amplitude" or "angle".
        n_random_operations: length of the random part (50 in the paper).
        seed: of the random part's structure (1111 in the released code), not of its parameters.
        n_encoding_layers: layers of the angle encoding, Q angles each; None for Q layers, which take all inputs.

    Raises:
        ValueError: odd or too few wires, unknown encoding.
    """
    if n_wires < 4 or n_wires % 2:
        raise ValueError(f"n_wires must be an even number from 4, got {n_wires}")
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding must be one of {', '.join(ENCODINGS)}, got {encoding!r}")

    ansatz: list[Operation] = []
    names: list[str] = []

    def append(gate: str, wires: tuple[int, ...], prefix: str) -> None:
        parameter = None
        if gate in ("rx", "ry", "rz", "crx"):
            parameter = len(names)
            names.append(f"{prefix}.{gate}[{','.join(map(str, wires))}]")
        ansatz.append(Operation(gate, wires, parameter))

    for position, (gate, wires) in enumerate(random_operations(n_wires, n_random_operations, seed)):
        append(gate, wires, f"random.{position:02d}")
    for gate, wires, block in _staircase(n_wires):
        append(gate, wires, f"block.{block}")

    encoder = _angle_encoder(n_wires, n_encoding_layers or n_wires) if encoding == "angle" else ()
    return Circuit(n_wires, encoding, encoder, tuple(ansatz), tuple(names))
