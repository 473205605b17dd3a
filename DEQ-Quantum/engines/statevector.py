"""Gate by gate on dense state vectors, in float64: any circuit, any readout, nothing fused.

Textbook matrices in complex128, one tensor axis of length two for each qubit, plain autograd. It shares the list of
gates (`circuits/`) with the other engines and nothing else, so it is what they are held to where TorchQuantum cannot be;
its functions also simulate several registers side by side (Theorem 3 of arXiv 2410.23940, `theory/construction.py`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from circuits.circuit import Circuit
from circuits.encodings import AmplitudeEncoding, ComplexAmplitudeEncoding, FRQIEncoding, StateEncoding
from circuits.operations import Operation
from circuits.readout import PauliReadout, ProbabilityReadout
from engines.protocol import CompiledCircuit, Engine

X = torch.tensor([[0, 1], [1, 0]], dtype=torch.complex128)
Y = torch.tensor([[0, -1j], [1j, 0]], dtype=torch.complex128)
Z = torch.tensor([[1, 0], [0, -1]], dtype=torch.complex128)
ZERO, ONE = (torch.diag(torch.tensor(d, dtype=torch.complex128)) for d in ([1, 0], [0, 1]))
PAULIS = {"X": X, "Y": Y, "Z": Z}
# exp(-i t G / 2) is the gate at angle t; the first wire of two is the control
GENERATORS = {"rx": X, "ry": Y, "rz": Z, "crx": torch.kron(ONE, X)}
FIXED = {
    "h": (X + Z) / 2**0.5,
    "sx": torch.tensor([[1 + 1j, 1 - 1j], [1 - 1j, 1 + 1j]], dtype=torch.complex128) / 2,
    "cnot": torch.kron(ZERO, torch.eye(2)) + torch.kron(ONE, X),
}


class StatevectorEngine(Engine):
    """Simulates the whole circuit at every call, whatever it is."""

    def compile(self, theta: Tensor) -> "CompiledStatevector":
        """The circuit at the parameters theta (n_parameters,)."""
        return CompiledStatevector(self.circuit, theta)


class CompiledStatevector(CompiledCircuit):
    """Readouts for one set of parameters, one simulation per call."""

    def __init__(self, circuit: Circuit, theta: Tensor):
        self.circuit = circuit
        self.theta = theta.clone()  # as it is now: an optimiser changes parameters in place

    def readouts(self, v: Tensor) -> Tensor:
        """(B, n_inputs) to (B, K) in v's dtype; a zero vector in amplitudes has no direction and reads 0."""
        circuit, inputs = self.circuit, v.double()
        has_direction = None
        if isinstance(circuit.encoding, AmplitudeEncoding | ComplexAmplitudeEncoding | StateEncoding):
            squared_norm = inputs[:, : circuit.n_features].square().sum(-1, keepdim=True)
            has_direction = ~(squared_norm <= torch.finfo(inputs.dtype).tiny)
            inputs = torch.where(has_direction, inputs, torch.eye(1, inputs.shape[1]).to(inputs))
        state = encoded(circuit, inputs)
        state = applied(circuit.ansatz.operations, self.theta.double(), state)
        if isinstance(circuit.readout, PauliReadout):
            readouts = torch.stack([expectation(string, state) for string in circuit.readout.strings], dim=1)
        else:
            readouts = probabilities(circuit.readout, state)
        if has_direction is not None:
            readouts = torch.where(has_direction, readouts, 0.0 * readouts)
        return readouts.to(v.dtype)


def encoded(circuit: Circuit, v: Tensor) -> Tensor:
    """The encoded states: (B, n_inputs) in float64, no zero vectors, to (B, 2, ..., 2), an axis a wire."""
    n, size = circuit.n_wires, 2**circuit.n_wires
    if isinstance(circuit.encoding, AmplitudeEncoding):
        amplitudes = pad(v / v.norm(dim=1, keepdim=True), (0, size - v.shape[1])).to(torch.complex128)
        return amplitudes.view(len(v), *(2,) * n)
    if isinstance(circuit.encoding, ComplexAmplitudeEncoding):
        pairs = pad(v / v.norm(dim=1, keepdim=True), (0, 2 * size - v.shape[1])).view(len(v), *(2,) * n, 2)
        return torch.complex(pairs[..., 0], pairs[..., 1])
    if isinstance(circuit.encoding, FRQIEncoding):
        turned = torch.exp(0.5j * torch.pi * v) / v.shape[1] ** 0.5  # cos + i sin of every pixel
        pixels = torch.stack([turned.real, turned.imag]).to(torch.complex128).view(2, len(v), *(2,) * (n - 1))
        return pixels.movedim(0, 1 + circuit.encoding.colour)
    if isinstance(circuit.encoding, StateEncoding):
        state = prepared(circuit.encoding, v)
    else:
        state = torch.zeros(len(v), size, dtype=torch.complex128, device=v.device)
        state[:, 0] = 1
    return applied(circuit.encoding.operations, v.T.unsqueeze(-1).unsqueeze(-1), state.view(len(v), *(2,) * n))


def prepared(encoding: StateEncoding, v: Tensor) -> Tensor:
    """The data's states with all other wires |0>, before any rotation: (B, n_inputs), no zero data, to (B, 2^n), complex."""
    data = v[:, : encoding.n_data]
    data = torch.complex(*data.chunk(2, 1)) if encoding.is_complex else data.to(v.dtype.to_complex())
    amplitudes = data / data.abs().square().sum(1, keepdim=True).sqrt()
    spread = amplitudes.new_zeros(len(v), 2**encoding.n_state_wires, 2 ** (encoding.n_wires - encoding.n_state_wires))
    spread[:, : encoding.n_amplitudes, 0] = amplitudes
    return spread.flatten(1)


def applied(operations: Sequence[Operation], angles: Tensor, state: Tensor, first_wire: int = 0) -> Tensor:
    """Operations in order on the wires of a register that begins at `first_wire`.

    Args:
        operations: of an encoding or an ansatz.
        angles: what their parameters index: (P,) for all samples, or (P, B, 1, 1).
        state: (B, 2, ..., 2).
        first_wire: axis of the register's wire 0.
    """
    for operation in operations:
        if operation.parameter is None:
            matrix = FIXED[operation.gate].to(state.device)
        else:
            generator = GENERATORS[operation.gate].to(state.device)
            matrix = torch.linalg.matrix_exp(-0.5j * angles[operation.parameter] * generator)
        state = _multiplied(matrix, [first_wire + wire for wire in operation.wires], state)
    return state


def expectation(string: str, state: Tensor) -> Tensor:
    """<psi| P |psi> of a Pauli string, one letter a wire: (B, 2, ..., 2) to (B,)."""
    changed = state
    for wire, letter in enumerate(string):
        if letter != "I":
            changed = _multiplied(PAULIS[letter].to(state.device), [wire], changed)
    return (state.conj() * changed).flatten(1).sum(1).real


def probabilities(readout: ProbabilityReadout, state: Tensor) -> Tensor:
    """Probabilities of a readout's outcomes, in its units: (B, 2, ..., 2) to (B, K)."""
    others = [1 + wire for wire in range(readout.n_wires) if wire not in readout.wires]
    squares = (state.conj() * state).real.permute(0, *(1 + wire for wire in readout.wires), *others)
    of_outcomes = squares.reshape(len(state), 2 ** len(readout.wires), -1).sum(-1)
    return 2 ** len(readout.wires) * of_outcomes[:, : readout.n]


def _multiplied(matrix: Tensor, wires: Sequence[int], state: Tensor) -> Tensor:
    """A matrix (d, d), or (B, d, d), on some wires of (B, 2, ..., 2)."""
    axes = [1 + wire for wire in wires]
    front = list(range(1, 1 + len(axes)))
    moved = state.movedim(axes, front)
    size = 2 ** len(axes)
    rows = moved.reshape(len(state), size, state.shape[1:].numel() // size)
    return (matrix @ rows).view(moved.shape).movedim(front, axes)
