"""The circuit measured once and for all: after amplitude encoding a readout is a quadratic form, v^T M_k v / v^T v.

M_k is symmetric: its D (D + 1) / 2 numbers are read off D basis vectors, and sums and differences of two of them,

    M_ii = r(e_i),    M_ij = (r(e_i + e_j) - r(e_i - e_j)) / 2

With these D^2 circuits measured, every image, every layer and every step of a solver is classical. The differences could
be had from the diagonal, r(e_i + e_j) - (M_ii + M_jj) / 2; but then errors of the diagonal add up over all pairs, and the
variance of v^T M v, for |v| = 1, grows with (sum_i v_i)^2, up to D times that of one circuit. So it is at most that of one:
sum_i v_i^4 + 4 sum_(i<j) v_i^2 v_j^2 / 2 = 1 in units of the largest, 1 / S. Such a state needs fewer gates than a full vector
(at most n - 1 CX); they count as prepared without error here.
"""

import torch
from torch import Tensor

from circuits.circuit import Circuit
from circuits.encodings import AmplitudeEncoding
from engines.amplitude import CompiledAmplitude
from engines.protocol import CompiledCircuit, Engine, UnsupportedCircuit
from hardware.cost import n_surrogate
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
        self.n_circuits = n_surrogate(circuit)

    def compile(self, theta: Tensor) -> CompiledAmplitude:
        """The measured observables at theta (n_parameters,)."""
        return CompiledAmplitude(measured_observables(self.machine.compile(theta), self.circuit.n_inputs, theta))


def measured_observables(compiled: CompiledCircuit, n_inputs: int, like: Tensor) -> Tensor:
    """M_k from readouts alone, of basis vectors, and of sums and differences of two: (K, n_inputs, n_inputs).

    Args:
        compiled: whose readouts are a quadratic form.
        n_inputs: D.
        like: dtype and device.
    """
    basis = torch.eye(n_inputs).to(like)
    first, second = torch.triu_indices(n_inputs, n_inputs, offset=1)
    sums, differences = basis[first] + basis[second], basis[first] - basis[second]
    diagonal, of_sums, of_differences = compiled.readouts(torch.cat([basis, sums, differences])).split(
        [n_inputs, len(sums), len(sums)]
    )
    beside = (of_sums - of_differences) / 2
    observables = torch.diag_embed(diagonal.T)
    observables[:, first, second] = beside.T
    observables[:, second, first] = beside.T
    return observables
