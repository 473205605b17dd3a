"""Data that are a state, in the compiled engine: prepared sample by sample, turned by z, sent through the fused blocks.

    s(v) = U R(z) (psi_x / ||psi_x|| (x) |0...0>),    v = [x, z]

The state's wires come first. Rotations of one wire are multiplied to one matrix a sample before they meet the state, and
wires that begin in |0> meet it as product states, so a rotation costs little where the state has no part in it.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from circuits.circuit import Circuit
from circuits.encodings import AngleEncoding
from engines.amplitude import nonzero
from engines.angle import CompiledStates, QubitEncoder
from engines.measured import Measurements
from engines.propagation import Propagation


class PreparedStates(nn.Module):
    """Sends states of the data, turned by z, through fused blocks.

    Args:
        circuit: with a `StateEncoding` whose operations are on single wires, and any readout.
        wires: of each fused block.
    """

    def __init__(self, circuit: Circuit, wires: Sequence[Sequence[int]]):
        super().__init__()
        self.encoding = encoding = circuit.encoding
        of_z = [o if o.parameter is None else replace(o, parameter=o.parameter - encoding.n_data) for o in encoding.operations]
        self.qubits = QubitEncoder(AngleEncoding(encoding.n_wires, of_z))
        self.turned = sorted({w for o in encoding.operations for w in o.wires if w < encoding.n_state_wires})
        self.propagation = Propagation(wires, circuit.n_wires)
        self.inverse = self.propagation.inverse()
        self.measurements = Measurements(circuit, self.propagation.wire_order)

    def compile(self, matrices: Tensor) -> CompiledStates:
        """The circuit of these fused blocks, (n_blocks, dim, dim), under autograd."""
        return CompiledStates(self, matrices)

    def remaining(self, matrices: Tensor) -> Tensor:
        """All blocks."""
        return matrices

    def begun(self, matrices: Tensor, v: Tensor) -> Tensor:
        """(B, n_inputs) to (2, 2^n_wires, B), real and imaginary parts; data without direction are a state of zeros."""
        state, n = self._of_data(v), self.encoding.n_state_wires
        z = v[:, self.encoding.n_data :]
        from_zero = self.qubits(z)
        if self.turned:
            gates = torch.stack([from_zero, self.qubits.of_bit(z, 1)], 1)  # (2, 2, n_wires, B), a column for each bit
            for wire in self.turned:
                parts = state.view(2**wire, 2, -1, len(v))
                gate = gates[:, :, wire].unsqueeze(2)
                halves = [gate[bit, 0] * parts[:, 0] + gate[bit, 1] * parts[:, 1] for bit in (0, 1)]
                state = torch.stack(halves, 1).view(state.shape)
        for wire in range(n, self.encoding.n_wires):
            state = (state.unsqueeze(1) * from_zero[:, wire]).flatten(0, 1)
        return torch.stack([state.real, state.imag])

    def _of_data(self, v: Tensor) -> Tensor:
        """The data's normalised states: (B, n_inputs) to (2^n_state_wires, B), complex."""
        encoding, data = self.encoding, v[:, : self.encoding.n_data]
        data = data * nonzero(data.square().sum(1, keepdim=True)).rsqrt()
        real, imag = data.chunk(2, 1) if encoding.is_complex else (data, torch.zeros_like(data))
        rest = (0, 2**encoding.n_state_wires - encoding.n_amplitudes)
        return nn.functional.pad(torch.complex(real, imag), rest).T.contiguous()
