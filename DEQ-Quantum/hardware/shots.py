"""Readouts from a finite number of shots: bit strings drawn together from exact, noisy probabilities.

A machine's shot gives the bits of all wires at once, so all strings of Z are read off the same shots and their errors
are correlated. The probabilities of all 2^n bit strings are the Walsh-Hadamard transform of the expectation values of
all 2^n strings of Z, which the noisy engine gives exactly, and the compiled one where there is no noise. Counts are drawn bit by bit, each a binomial of how many of
the shots that agree so far go on with 0: that is multinomial, and its cost does not depend on the shots.
"""

from itertools import product

import torch
from torch import Tensor

from circuits.circuit import Circuit
from circuits.encodings import AmplitudeEncoding
from circuits.readout import PauliReadout
from engines.amplitude import string_signs
from engines.compiled import CompiledEngine
from engines.outcomes import walsh_hadamard
from engines.protocol import CompiledCircuit, Engine, UnsupportedCircuit
from hardware.engine import NO_NOISE, NoisyEngine
from hardware.noise import Noise
from utils import seeds

MOST_BYTES = 2 * 2**30  # of the noisy observables of all bit strings
AT_ONCE = 2**26  # numbers of observables times inputs


class ShotEngine(Engine):
    """A circuit as a machine runs it: noisy, and read by counting.

    What is random in a call is a function of (seed, step, call), so a run that is resumed draws the same numbers and no
    two calls share theirs. Sampled readouts have no gradient.

    Args:
        circuit: as `NoisyEngine` takes it, with strings of Z.
        shots: of each circuit.
        noise, encoding_noise: see `NoisyEngine`.
        seed: of all that is drawn.

    Attributes:
        step: of training, or whatever else numbers compilations; the caller's to set.
        stream: what the draws are for; those of two streams are independent of each other.

    Raises:
        UnsupportedCircuit: also for a readout of X or Y, or where noisy observables of all bit strings are too large.
        ValueError: no shots.
    """

    def __init__(
        self, circuit: Circuit, shots: int, noise: Noise = NO_NOISE, encoding_noise: Noise = NO_NOISE, seed: int = 0
    ):
        super().__init__(circuit)
        if shots < 1:
            raise ValueError(f"a circuit takes one shot or more, got {shots}")
        if not (isinstance(circuit.readout, PauliReadout) and circuit.readout.is_diagonal):
            raise UnsupportedCircuit("shots are drawn of Z on every wire for strings of Z, and the readout has others")
        n = circuit.n_wires
        all_strings = PauliReadout(["".join(letters) for letters in product("IZ", repeat=n)])
        of_all = Circuit(circuit.encoding, circuit.ansatz, all_strings)
        if noise.channels or encoding_noise.channels:
            _refuse_large(circuit, encoding_noise)
            self.exact: Engine = NoisyEngine(of_all, noise, encoding_noise)
        else:
            self.exact = CompiledEngine(of_all)
        self.shots, self.seed, self.step, self.stream = shots, seed, 0, "shots"
        signs = string_signs(circuit.readout.supports(), range(n))
        self.register_buffer("signs", signs, persistent=False)

    def compile(self, theta: Tensor) -> "CompiledShots":
        """The circuit at the parameters theta (n_parameters,); the same draws for every compilation of a step."""
        return CompiledShots(self, self.exact.to(theta).compile(theta.detach()))


def _refuse_large(circuit: Circuit, encoding_noise: Noise) -> None:
    n, amplitudes = circuit.n_wires, isinstance(circuit.encoding, AmplitudeEncoding)
    numbers = circuit.n_inputs**2 if amplitudes else 4**n
    if amplitudes and encoding_noise.channels:
        numbers = 4 ** (circuit.n_inputs - 1).bit_length()
    if (needed := 2**n * numbers * 8) > MOST_BYTES:
        raise UnsupportedCircuit(
            f"noisy shots of {n} wires need {needed / 2**30:.1f} GiB for the observables of all bit strings, more than "
            f"{MOST_BYTES / 2**30:g}: take fewer wires, amplitude encoding without --encoding_noise, or shots without noise"
        )


class CompiledShots(CompiledCircuit):
    """Readouts that are counted, anew at every call.

    Args:
        engine: shots, seed and step.
        exact: expectation values of all 2^n strings of I and Z, in order.

    Attributes:
        calls, circuits: so far.
    """

    def __init__(self, engine: ShotEngine, exact: CompiledCircuit):
        self.engine, self.exact, self.step, self.stream = engine, exact, engine.step, engine.stream
        self.calls = self.circuits = 0

    def probabilities(self, v: Tensor) -> Tensor:
        """Of all bit strings, wire 0 the most significant: (B, n_inputs) to (B, 2^n); of a zero vector 0, of a NaN NaN."""
        n, n_inputs = self.engine.circuit.n_wires, self.engine.circuit.n_inputs
        parts = v.split(max(1, AT_ONCE // (2**n * n_inputs)))
        return torch.cat([walsh_hadamard(self.exact.readouts(part).T).T.clamp_min(0) for part in parts]) / 2**n

    @torch.no_grad()
    def readouts(self, v: Tensor) -> Tensor:
        """(B, n_inputs) to (B, K) means over the shots; a zero vector reads 0, one with a NaN reads NaN."""
        generator = seeds.generator(self.engine.seed, f"{self.stream} {self.calls}", self.step, v.device)
        self.calls, self.circuits = self.calls + 1, self.circuits + len(v)
        return self.counted(v, self.engine.shots, generator)

    @torch.no_grad()
    def counted(self, v: Tensor, shots: int, generator: torch.Generator) -> Tensor:
        """(B, n_inputs) to (B, K) means over so many shots of each circuit."""
        counts = draw_counts(self.probabilities(v), shots, generator)
        return (counts @ self.engine.signs.to(counts).T / shots).to(v)

    def noise(self, r: Tensor) -> Tensor:
        """How wrong counted readouts (B, K) are: (B,)."""
        return counting_error(r, self.engine.shots)


def draw_counts(probabilities: Tensor, shots: int, generator: torch.Generator) -> Tensor:
    """How often each bit string comes up: (B, 2^n) chances to (B, 2^n) counts in float64.

    Chances are relative to their sum; where all are 0 nothing comes up. A row with a NaN has counts of NaN.
    """
    failed = probabilities.isnan().any(1, keepdim=True)
    masses = [torch.where(failed, 0.0, probabilities.double())]
    while masses[-1].shape[1] > 1:
        masses.append(masses[-1].unflatten(1, (-1, 2)).sum(2))
    counts = shots * (masses[-1] > 0).double()
    for whole, parts in zip(masses[::-1], masses[-2::-1]):
        zeros = parts.unflatten(1, (-1, 2))[..., 0]
        chance = torch.where(whole > 0, zeros / whole, 0.0).clamp(0, 1)
        zeros = torch.binomial(counts, chance, generator=generator)
        counts = torch.stack([zeros, counts - zeros], 2).flatten(1)
    return torch.where(failed, torch.nan, counts)


def counting_error(r: Tensor, shots: int) -> Tensor:
    """sqrt(E ||error||^2) of means (B, K) over so many shots, each of +1 and -1: sqrt(sum_k (1 - r_k^2) / S), (B,)."""
    return ((1 - r.square()).sum(1).clamp_min(0) / shots).sqrt()


def residual_floor(r: Tensor, shots: int) -> Tensor:
    """sqrt(sum_k (1 - r_k^2) / S) / |r|, the relative residual that shots show at an exact equilibrium, (B,)."""
    return counting_error(r, shots) / r.norm(dim=1)
