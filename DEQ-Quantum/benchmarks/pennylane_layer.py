"""The same circuit in PennyLane: `default.qubit`, torch interface, backpropagation, broadcast over the batch.

For comparison only; `requirements-benchmark.txt` installs it. The only module that imports pennylane.
"""

import pennylane
import torch
from torch import Tensor

from circuits.circuit import Circuit
from circuits.encodings import AmplitudeEncoding
from circuits.operations import Operation
from models.lift import Repeat

GATES = {
    "rx": pennylane.RX,
    "ry": pennylane.RY,
    "rz": pennylane.RZ,
    "crx": pennylane.CRX,
    "cnot": pennylane.CNOT,
    "h": pennylane.Hadamard,
    "sx": pennylane.SX,
}
VERSION = pennylane.__version__


class PennyLaneLayer:
    """f(z; x) as `models.quantum_layer` defines it, for any circuit.

    Args:
        circuit: what to evaluate.
        theta: (n_parameters,); gradients reach it.
    """

    def __init__(self, circuit: Circuit, theta: Tensor):
        self.circuit = circuit
        self.lift = Repeat(circuit.n_readouts, circuit.n_inputs // circuit.n_readouts)
        self.theta = theta
        device = pennylane.device("default.qubit", wires=circuit.n_wires)
        self._readouts = pennylane.QNode(self._program, device, interface="torch", diff_method="backprop")

    def __call__(self, z: Tensor, x: Tensor) -> Tensor:
        """(B, n_wires^2) and (B, n_wires^2) to (B, n_wires^2), in z's dtype."""
        readouts = torch.stack(tuple(self._readouts(z + x)), dim=-1).to(z.dtype)
        return self.lift(readouts)

    def _program(self, v: Tensor) -> list:
        """The quantum function: encoding, ansatz, readouts; v: (B, n_wires^2)."""
        wires = range(self.circuit.n_wires)
        if isinstance(self.circuit.encoding, AmplitudeEncoding):
            pennylane.AmplitudeEmbedding(v, wires=wires, pad_with=0.0, normalize=True)
        for operation in self.circuit.encoding.operations:
            _apply(operation, v.T)
        for operation in self.circuit.ansatz.operations:
            _apply(operation, self.theta)
        return [pennylane.expval(pennylane.pauli.string_to_pauli_word(string)) for string in self.circuit.readout.strings]


def _apply(operation: Operation, parameters: Tensor) -> None:
    """Queue one gate; its parameter is an entry of `parameters`, for an encoder a row (B,)."""
    angles = [] if operation.parameter is None else [parameters[operation.parameter]]
    GATES[operation.gate](*angles, wires=list(operation.wires))
