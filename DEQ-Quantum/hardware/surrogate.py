"""The circuit measured once and for all: after amplitude encoding a readout is a quadratic form, v^T M_k v / v^T v.

M_k is symmetric, so its values at D basis vectors and at the D (D - 1) / 2 sums of two of them say all of it:

    M_ii = r(e_i),    M_ij = r(e_i + e_j) - (M_ii + M_jj) / 2

With these D (D + 1) / 2 circuits measured, every image, every layer and every step of a solver is classical. Such a
state needs fewer gates than a full vector (at most n - 1 CX); they count as prepared without error here.
"""

import torch
from torch import Tensor

from circuits.circuit import Circuit
from circuits.encodings import AmplitudeEncoding
from engines.amplitude import CompiledAmplitude
from engines.protocol import CompiledCircuit, Engine, UnsupportedCircuit
from hardware.engine import NO_NOISE
from hardware.noise import Noise
from hardware.shots import ShotEngine


class SurrogateEngine(Engine):
    """Measures a circuit's observables by counting, then evaluates them without it.

    Args:
        circuit: with amplitude encoding.
        shots: of each of the `n_circuits` circuits.
        noise: of the ansatz and the bits.
        seed: of what is drawn.

    Raises:
        UnsupportedCircuit: another encoding, or see `ShotEngine`.
    """

    def __init__(self, circuit: Circuit, shots: int, noise: Noise = NO_NOISE, seed: int = 0):
        super().__init__(circuit)
        if not isinstance(circuit.encoding, AmplitudeEncoding):
            raise UnsupportedCircuit(
                "readouts are a quadratic form of amplitudes, not of angles: no surrogate measures them"
            )
        self.machine = ShotEngine(circuit, shots, noise, seed=seed)
        self.n_circuits = circuit.n_inputs * (circuit.n_inputs + 1) // 2

    def compile(self, theta: Tensor) -> CompiledAmplitude:
        """The measured observables at theta (n_parameters,)."""
        return CompiledAmplitude(measured_observables(self.machine.compile(theta), self.circuit.n_inputs, theta))


def measured_observables(compiled: CompiledCircuit, n_inputs: int, like: Tensor) -> Tensor:
    """M_k from readouts alone, those of basis vectors and of sums of two: (K, n_inputs, n_inputs).

    Args:
        compiled: whose readouts are a quadratic form.
        n_inputs: D.
        like: dtype and device.
    """
    basis = torch.eye(n_inputs).to(like)
    first, second = torch.triu_indices(n_inputs, n_inputs, offset=1)
    read = compiled.readouts(torch.cat([basis, basis[first] + basis[second]]))
    diagonal, pairs = read[:n_inputs], read[n_inputs:]
    beside = pairs - (diagonal[first] + diagonal[second]) / 2
    observables = torch.diag_embed(diagonal.T)
    observables[:, first, second] = beside.T
    observables[:, second, first] = beside.T
    return observables
