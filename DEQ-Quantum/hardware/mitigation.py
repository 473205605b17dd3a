"""Error mitigation as sums of circuits: what a machine's numbers are put together to, so that less of the noise is left.

Readout inversion, zero-noise extrapolation and a rescaling of every readout are linear in the expectation values. After
amplitude encoding they are therefore linear in the observables, and a mitigated circuit is one more quadratic form that
solvers meet inside f like any other. What they need of the machine is counted: see `MitigatedEngine.n_circuits`.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from circuits.circuit import Circuit
from engines.amplitude import CompiledAmplitude
from engines.protocol import CompiledCircuit, Engine, UnsupportedCircuit
from hardware.engine import NO_NOISE, NoisyEngine
from hardware.noise import Noise

FOLDED = (0, 1)  # foldings of zero-noise extrapolation: the circuit once and three times, a straight line
IMAGES = 20  # of the calibration of `rescaled`
LEAST_SPREAD = 1e-6  # of a readout over the calibration images, below which no slope can be told from it


class MitigatedEngine(Engine):
    """r_k = a_k sum_p c_p r_k^(p) + b_k, of the readouts r^(p) of several engines.

    Args:
        parts: weights c_p, and engines of the same circuit.
        slope, offset: a_k and b_k, (K,); None: 1 and 0.

    Attributes:
        n_circuits: of one evaluation, one measurement setting.
    """

    def __init__(self, parts: Sequence[tuple[float, Engine]], slope: Tensor | None = None, offset: Tensor | None = None):
        circuit = parts[0][1].circuit
        super().__init__(circuit)
        self.weights = [weight for weight, _ in parts]
        self.engines = torch.nn.ModuleList(engine for _, engine in parts)
        ones = torch.ones(circuit.n_readouts, dtype=torch.float64)
        self.register_buffer("slope", ones if slope is None else slope, persistent=False)
        self.register_buffer("offset", 0 * ones if offset is None else offset, persistent=False)
        self.n_circuits = len(parts)

    def compile(self, theta: Tensor) -> CompiledCircuit:
        """The sum at the parameters theta (n_parameters,), under autograd."""
        compiled = [engine.compile(theta) for engine in self.engines]
        slope, offset = self.slope.to(theta), self.offset.to(theta)
        if not all(isinstance(part, CompiledAmplitude) for part in compiled):
            return CompiledSum(self.weights, compiled, slope, offset)
        total = sum(weight * part.observables for weight, part in zip(self.weights, compiled))
        identity = torch.eye(total.shape[-1]).to(theta)
        return CompiledAmplitude(slope.view(-1, 1, 1) * total + offset.view(-1, 1, 1) * identity)


class CompiledSum(CompiledCircuit):
    """The readouts of several compiled circuits, put together."""

    def __init__(self, weights: Sequence[float], compiled: Sequence[CompiledCircuit], slope: Tensor, offset: Tensor):
        self.weights, self.compiled, self.slope, self.offset = weights, compiled, slope, offset

    def readouts(self, v: Tensor) -> Tensor:
        """(B, n_inputs) to (B, K); an input that the circuits cannot encode reads b_k."""
        total = sum(weight * part.readouts(v) for weight, part in zip(self.weights, self.compiled))
        return self.slope * total + self.offset


def mitigated(circuit: Circuit, noise: Noise, encoding_noise: Noise = NO_NOISE, *, inverted: bool = False,
              extrapolated: bool = False) -> MitigatedEngine:  # fmt: skip
    """Exact expectation values with the mitigations that need no images.

    Args:
        circuit, noise, encoding_noise: see `NoisyEngine`.
        inverted: the confusion of every bit is known and undone.
        extrapolated: to no noise of the ansatz's gates, from U and U U^+ U.

    Raises:
        UnsupportedCircuit: extrapolation with noise in the encoding, which is not folded; and see `NoisyEngine`.
        NoiseError: bits that say nothing, which no inversion can mend.
    """
    if extrapolated and encoding_noise.channels:
        raise UnsupportedCircuit("zne folds the ansatz alone and would leave --encoding_noise: take one of them")
    foldings = FOLDED if extrapolated else (0,)
    engines = [NoisyEngine(circuit, noise, encoding_noise, folds=folds, inverted=inverted) for folds in foldings]
    return MitigatedEngine(list(zip(to_zero([1 + 2 * folds for folds in foldings]), engines)))


def to_zero(scales: Sequence[float]) -> list[float]:
    """Richardson's weights: sum_p c_p g(s_p) = g(0) for polynomials g of degree len(scales) - 1."""
    return [prod(other / (other - scale) for other in scales if other != scale) for scale in scales]


def rescaled(engine: MitigatedEngine, noisy: Tensor, ideal: Tensor) -> MitigatedEngine:
    """The engine with every readout brought back to the scale of the circuit without noise, by least squares.

    What QuantumNAT (Wang et al., DAC 2022, arXiv 2110.11331) does by normalising a batch, with a line of its own for
    every readout; here it acts inside f, since after the solve the equilibrium has moved already.

    Args:
        engine: mitigated or not.
        noisy, ideal: (N, K) its readouts and the simulated ones of the same N inputs, two or more.
    """
    if len(noisy) < 2:
        raise ValueError(f"a line through readouts needs two images or more, got {len(noisy)}")
    noisy, ideal = noisy.double(), ideal.double()
    spread = noisy.var(0, correction=0)
    covariance = ((noisy - noisy.mean(0)) * (ideal - ideal.mean(0))).mean(0)
    slope = torch.where(spread > LEAST_SPREAD**2, covariance / spread.clamp_min(LEAST_SPREAD**2), 1.0)
    offset = ideal.mean(0) - slope * noisy.mean(0)
    parts = list(zip(engine.weights, engine.engines))
    return MitigatedEngine(parts, slope * engine.slope.to(slope), slope * engine.offset.to(slope) + offset)
