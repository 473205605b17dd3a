"""The paper's circuit once more, in float64 numpy and from its text alone: what both engines are held to.

Nothing here comes from `models/`. Gates are textbook matrices (RX(t) = exp(-i t X / 2), the rest alike),
wire 0 is the most significant bit of a basis state's number, states are dense vectors of 2^n amplitudes,
and a gate is applied by listing the basis states whose bits on its wires spell each row of its matrix.
`dense_gate` says the same a second way, by Kronecker products; `test_engines.py` holds the two equal.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

I2 = np.eye(2)
X = np.array([[0, 1], [1, 0]])
Y = np.array([[0, -1j], [1j, 0]])
Z = np.diag([1, -1])
H = np.array([[1, 1], [1, -1]]) / np.sqrt(2)
SX = np.array([[1 + 1j, 1 - 1j], [1 - 1j, 1 + 1j]]) / 2
ZERO, ONE = np.diag([1, 0]), np.diag([0, 1])

# (gate, wires, which entry of theta it takes or None)
Operation = tuple[str, tuple[int, ...], int | None]


def rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    """exp(-i angle axis / 2) = cos(angle / 2) 1 - i sin(angle / 2) axis, since axis^2 = 1."""
    return np.cos(angle / 2) * I2 - 1j * np.sin(angle / 2) * axis


def controlled(target: np.ndarray) -> np.ndarray:
    """|0><0| (x) 1 + |1><1| (x) target; the control is the first wire."""
    return np.kron(ZERO, I2) + np.kron(ONE, target)


def gate_matrix(gate: str, angle: float | None = None) -> np.ndarray:
    """The textbook matrix of a gate, 2 x 2 or 4 x 4."""
    if gate in ("rx", "ry", "rz"):
        return rotation({"rx": X, "ry": Y, "rz": Z}[gate], angle)
    if gate == "crx":
        return controlled(rotation(X, angle))
    return {"h": H, "sx": SX, "cnot": controlled(X)}[gate]


# --------------------------------------------------------------------------------------------------- states


@cache
def basis_by_bits(wires: tuple[int, ...], n_wires: int) -> np.ndarray:
    """(2^k, 2^(n - k)) numbers of basis states: rows by what `wires` spell, columns by the rest."""
    rest = [w for w in range(n_wires) if w not in wires]
    place = [2 ** (n_wires - 1 - w) for w in (*wires, *rest)]
    bits = np.indices((2,) * n_wires).reshape(n_wires, -1)
    return (np.array(place) @ bits).reshape(2 ** len(wires), -1)


def apply(matrix: np.ndarray, wires: tuple[int, ...], states: np.ndarray) -> np.ndarray:
    """A gate on `wires` of the columns of `states`, (2^n, B)."""
    order = basis_by_bits(wires, len(states).bit_length() - 1)
    new = np.empty_like(states, dtype=complex)
    new[order] = np.einsum("ij,jrb->irb", matrix, states[order])
    return new


def run(operations: tuple[Operation, ...], theta: np.ndarray, states: np.ndarray) -> np.ndarray:
    """The operations in order on the columns of `states`, (2^n, B)."""
    for gate, wires, index in operations:
        states = apply(gate_matrix(gate, None if index is None else theta[index]), wires, states)
    return states


def unitary(operations: tuple[Operation, ...], theta: np.ndarray, n_wires: int) -> np.ndarray:
    """The 2^n x 2^n matrix of the operations."""
    return run(operations, theta, np.eye(2**n_wires, dtype=complex))


def dense_gate(matrix: np.ndarray, wires: tuple[int, ...], n_wires: int) -> np.ndarray:
    """A gate's 2^n x 2^n matrix from its expansion in |i><j|, one Kronecker product per matrix entry."""
    total = np.zeros((2**n_wires, 2**n_wires), dtype=complex)
    for row in range(len(matrix)):
        for column in range(len(matrix)):
            factors = [I2] * n_wires
            for place, wire in enumerate(wires):
                shift = len(wires) - 1 - place
                factors[wire] = np.outer(I2[(row >> shift) & 1], I2[(column >> shift) & 1])
            total += matrix[row, column] * kron(factors)
    return total


def kron(factors: list[np.ndarray]) -> np.ndarray:
    """The Kronecker product of the factors, the first one for wire 0."""
    product = factors[0]
    for factor in factors[1:]:
        product = np.kron(product, factor)
    return product


@cache
def readout_signs(n_wires: int) -> np.ndarray:
    """(n, 2^n): the eigenvalue of Z on each wire in each basis state, the diagonal of 1 (x) .. Z .. (x) 1."""
    diagonals = np.ones(2), np.array([1, -1])
    return np.stack([kron([diagonals[w == k] for w in range(n_wires)]) for k in range(n_wires)])


# -------------------------------------------------------------------------------------- the paper's circuit


def random_layer(n_wires: int, n_ops: int = 50, seed: int = 1111) -> list[tuple[str, tuple[int, ...]]]:
    """TorchQuantum's RandomLayer(seed): a gate drawn evenly from four, then its wires without replacement."""
    draw = np.random.RandomState(seed)
    layer = []
    for _ in range(n_ops):
        gate = ("rx", "ry", "rz", "cnot")[draw.choice(4, p=[0.25] * 4)]
        wires = draw.choice(n_wires, size=2 if gate == "cnot" else 1, replace=False)
        layer.append((gate, tuple(int(w) for w in wires)))
    return layer


@cache
def circuit(n_wires: int) -> tuple[Operation, ...]:
    """Figs 2 and 3: the random layer, the trainable groups of every block, then all their fixed groups."""
    gates = random_layer(n_wires)
    starts = range(0, n_wires - 3, 2)
    for a in starts:
        gates += [("rx", (a,)), ("ry", (a + 1,)), ("rz", (a + 3,)), ("crx", (a, a + 2))]
    for a in starts:
        gates += [("h", (a + 3,)), ("sx", (a + 2,)), ("cnot", (a + 3, a))]
    operations, n_parameters = [], 0
    for gate, wires in gates:
        takes_angle = gate in ("rx", "ry", "rz", "crx")
        operations.append((gate, wires, n_parameters if takes_angle else None))
        n_parameters += takes_angle
    return tuple(operations)


def n_parameters(n_wires: int) -> int:
    """How many operations of the circuit take an angle."""
    return sum(index is not None for _, _, index in circuit(n_wires))


def encode(v: np.ndarray, n_wires: int, encoding: str) -> np.ndarray:
    """(B, n^2) inputs to (2^n, B) states: amplitudes, or layers of ry, rz, rx, ry, ... from |0...0>."""
    if encoding == "amplitude":
        states = np.zeros((2**n_wires, len(v)), dtype=complex)
        norm = np.linalg.norm(v, axis=1)
        states[: v.shape[1]] = (v / np.where(norm == 0, 1, norm)[:, None]).T
        return states
    columns = []
    for sample in v.reshape(len(v), n_wires, n_wires):  # [layer, wire]
        qubits = []
        for wire in range(n_wires):
            qubit = np.array([1, 0], dtype=complex)
            for layer in range(n_wires):
                qubit = rotation((Y, Z, X)[layer % 3], sample[layer, wire]) @ qubit
            qubits.append(qubit)
        columns.append(kron(qubits))
    return np.stack(columns, axis=1)


def readouts(v: np.ndarray, theta: np.ndarray, n_wires: int, encoding: str) -> np.ndarray:
    """(B, n^2) inputs to the (B, n) expectations <Z_k>; a zero vector in amplitudes reads 0."""
    states = run(circuit(n_wires), theta, encode(v, n_wires, encoding))
    return (readout_signs(n_wires) @ np.abs(states) ** 2).T


def f(z: np.ndarray, x: np.ndarray, theta: np.ndarray, n_wires: int, encoding: str) -> np.ndarray:
    """f(z; x): inject, encode, circuit, read, each readout repeated n_wires times in a row."""
    return np.repeat(readouts(z + x, theta, n_wires, encoding), n_wires, axis=1)


def readout_matrices(theta: np.ndarray, n_wires: int) -> np.ndarray:
    """(n, D, D): M_k = Re(P U^+ Z_k U P), D = n^2, from the unitary's first D columns."""
    dim = n_wires**2
    first = run(circuit(n_wires), theta, np.eye(2**n_wires, dtype=complex)[:, :dim])
    return np.stack([(first.conj().T @ (sign[:, None] * first)).real for sign in readout_signs(n_wires)])


# --------------------------------------------------------------------------------------- finite differences


def slope(g: Callable[[float], np.ndarray], step: float = 1e-3) -> np.ndarray:
    """g'(0) by the five-point rule: error of order step^4 and of rounding / step."""
    return (8 * (g(step) - g(-step)) - (g(2 * step) - g(-2 * step))) / (12 * step)


def mixed_slope(g: Callable[[float, float], np.ndarray], step: float = 1e-2) -> np.ndarray:
    """d^2 g / ds dt at (0, 0), the five-point rule in each."""
    return slope(lambda s: slope(lambda t: g(s, t), step), step)
