"""States that the inputs give as a whole, each sent through the fused blocks and back.

For encodings that are no quadratic form of few inputs: complex amplitudes, FRQI, and amplitudes of so many inputs that a
batch has fewer states than they have columns. With p(v) the encoded state, U the circuit and P_k diagonal in a measurement
setting,

    r_k(v) = s^T P_k s,    s = U p(v),    w^T dr/dv = 2 (U^T sum_k w_k P_k s)^T dp/dv

in real arithmetic. `angle.py` has the same of product states.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from circuits.circuit import Circuit
from circuits.encodings import ComplexAmplitudeEncoding, Encoding, FRQIEncoding
from engines.amplitude import nonzero
from engines.angle import CompiledStates
from engines.measured import Measurements
from engines.propagation import Propagation


def states_of(encoding: Encoding, v: Tensor) -> Tensor:
    """Real and imaginary parts of the encoded states, differentiable.

    Args:
        encoding: amplitudes, complex amplitudes or FRQI.
        v: (B, n_inputs).

    Returns:
        (2, 2^n_wires, B), wire 0 the most significant bit; zeros for a zero vector of amplitudes.
    """
    size = 2**encoding.n_wires
    if isinstance(encoding, FRQIEncoding):
        angles = math.pi / 2 * v.T
        parts = torch.stack([angles.cos(), angles.sin()], dim=0 if encoding.colour == 0 else 1).flatten(0, 1)
        states = (parts / encoding.n_inputs**0.5).unsqueeze(0)
    else:
        unit = v * nonzero(v.square().sum(-1, keepdim=True)).rsqrt()
        if isinstance(encoding, ComplexAmplitudeEncoding):
            return pad(unit, (0, 2 * size - v.shape[1])).unflatten(1, (size, 2)).permute(2, 1, 0)
        states = pad(unit, (0, size - v.shape[1])).T.unsqueeze(0)
    return torch.cat([states, torch.zeros_like(states)])


class GivenStates(nn.Module):
    """Sends encoded states through fused blocks.

    Args:
        circuit: with an encoding that `states_of` has, and any readout.
        wires: of each fused block.
    """

    def __init__(self, circuit: Circuit, wires: Sequence[Sequence[int]]):
        super().__init__()
        self.encoding = circuit.encoding
        self.propagation = Propagation(wires, circuit.n_wires)
        self.inverse = self.propagation.inverse()
        self.measurements = Measurements(circuit, self.propagation.wire_order)

    def compile(self, matrices: Tensor) -> CompiledStates:
        """The circuit of these fused blocks, (n_blocks, dim, dim), under autograd."""
        return CompiledStates(self, matrices)

    def begun(self, matrices: Tensor, v: Tensor) -> Tensor:
        """The encoded states: (B, n_inputs) to (2, 2^n_wires, B)."""
        return states_of(self.encoding, v)

    def remaining(self, matrices: Tensor) -> Tensor:
        """All blocks."""
        return matrices
