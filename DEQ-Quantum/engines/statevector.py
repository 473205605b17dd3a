"""Registers of qubits side by side on one dense state vector, gate by gate: what Theorem 3's construction is held to.

Textbook matrices in complex128, one tensor axis of length two for each qubit. This shares the list of gates
(`circuits/circuit.py`) with the engines and nothing else: no fused gates, no observables, no product states.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from circuits.circuit import Circuit, Operation

X = torch.tensor([[0, 1], [1, 0]], dtype=torch.complex128)
Y = torch.tensor([[0, -1j], [1j, 0]], dtype=torch.complex128)
Z = torch.tensor([[1, 0], [0, -1]], dtype=torch.complex128)
ZERO, ONE = (torch.diag(torch.tensor(d, dtype=torch.complex128)) for d in ([1, 0], [0, 1]))
# exp(-i t G / 2) is the gate at angle t; the first wire of two is the control
GENERATORS = {"rx": X, "ry": Y, "rz": Z, "crx": torch.kron(ONE, X)}
FIXED = {
    "h": (X + Z) / 2**0.5,
    "sx": torch.tensor([[1 + 1j, 1 - 1j], [1 - 1j, 1 + 1j]], dtype=torch.complex128) / 2,
    "cnot": torch.kron(ZERO, torch.eye(2)) + torch.kron(ONE, X),
}


def readouts(circuits: Sequence[Circuit], thetas: Sequence[Tensor], inputs: Tensor) -> Tensor:
    """<Z> of every qubit after U_1 x ... x U_L on the product of the encoded registers.

    Args:
        circuits: one for each register, L of n_wires qubits each.
        thetas: (n_parameters,) of each, float64.
        inputs: (B, L, n_wires^2) what each register encodes, float64, no zero vectors.

    Returns:
        (B, L n_wires), register by register. The state takes B 2^(L n_wires) complex numbers.
    """
    n_wires = circuits[0].n_wires
    n_qubits = len(circuits) * n_wires
    state = torch.ones(len(inputs), 1, dtype=torch.complex128)
    for circuit, v in zip(circuits, inputs.unbind(1)):
        state = (state.unsqueeze(2) * _encoded(circuit, v).unsqueeze(1)).flatten(1)
    state = state.view(len(inputs), *(2,) * n_qubits)
    for number, (circuit, theta) in enumerate(zip(circuits, thetas)):
        for operation in circuit.ansatz:
            angle = None if operation.parameter is None else theta[operation.parameter]
            state = _apply(operation, angle, state, first_qubit=number * n_wires)
    probabilities = state.abs().square()
    halves = [probabilities.movedim(1 + qubit, 1).flatten(2).sum(2) for qubit in range(n_qubits)]
    return torch.stack([half[:, 0] - half[:, 1] for half in halves], dim=1)


def _encoded(circuit: Circuit, v: Tensor) -> Tensor:
    """One register's state: (B, n_wires^2) to (B, 2^n_wires)."""
    size = 2**circuit.n_wires
    if circuit.encoding == "amplitude":
        return pad(v / v.norm(dim=1, keepdim=True), (0, size - v.shape[1])).to(torch.complex128)
    state = torch.zeros(len(v), size, dtype=torch.complex128)
    state[:, 0] = 1
    state = state.view(len(v), *(2,) * circuit.n_wires)
    for operation in circuit.encoder:
        state = _apply(operation, v[:, operation.parameter].view(-1, 1, 1), state, first_qubit=0)
    return state.flatten(1)


def _apply(operation: Operation, angle: Tensor | None, state: Tensor, first_qubit: int) -> Tensor:
    """A gate on a register that begins at `first_qubit`; angle: one for all samples, or (B, 1, 1)."""
    if angle is None:
        matrix = FIXED[operation.gate]
    else:
        matrix = torch.linalg.matrix_exp(-0.5j * angle * GENERATORS[operation.gate])
    axes = [1 + first_qubit + wire for wire in operation.wires]
    front = list(range(1, 1 + len(axes)))
    moved = state.movedim(axes, front)
    rows = moved.reshape(len(state), 2 ** len(axes), -1)
    return (matrix @ rows).view(moved.shape).movedim(front, axes)
