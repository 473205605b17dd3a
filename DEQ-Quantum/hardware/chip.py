"""A circuit as a chip lets one see it: values of readouts, in calls that each draw shots of their own, and are counted.

What derivatives are made of. Factors that are multiplied come from different calls, so their errors are independent.
"""

import torch
from torch import Tensor

from circuits.encodings import AmplitudeEncoding
from engines.protocol import CompiledCircuit, Engine, UnsupportedCircuit
from hardware.aer import AerEngine
from hardware.cost import Counter
from hardware.engine import NoisyEngine
from hardware.shift import input_rules, parameter_rules, shots_of
from hardware.shots import ShotEngine
from hardware.surrogate import SurrogateEngine
from hardware.tree import refuse_other_states
from utils import seeds


class Chip:
    """Measures values and slopes of a circuit.

    Args:
        engine: a `ShotEngine`; or one with exact values, as many shots as one likes.
        step: |u| / |v| of the steps along which amplitudes are differentiated; any is exact, 1 needs the fewest shots.
        counter: of what is run; None: nobody counts. Exact values take circuits and no shots.

    Attributes:
        calls: so far, of what the engine's stream and step name.

    Raises:
        UnsupportedCircuit: a parameter without a shift rule, or an engine whose shots are its own affair.
        ValueError: a step that is not above 0.
    """

    def __init__(self, engine: Engine, step: float = 1.0, counter: Counter | None = None):
        if isinstance(engine, AerEngine | SurrogateEngine):
            raise UnsupportedCircuit(
                f"shift rules share out shots among circuits, and {type(engine).__name__} has as many for each: "
                "use ShotEngine"
            )
        refuse_other_states(engine.circuit)
        if not step > 0:
            raise ValueError(f"amplitudes are differentiated along steps longer than 0, got {step}")
        self.engine, self.circuit, self.step_length, self.counter = engine, engine.circuit, step, counter
        self.rules = parameter_rules(self.circuit)
        self.amplitudes = isinstance(self.circuit.encoding, AmplitudeEncoding)
        self.input_rules = {} if self.amplitudes else input_rules(self.circuit.encoding)
        self.shots = engine.shots if isinstance(engine, ShotEngine) else 0
        self.calls = 0

    @torch.no_grad()
    def compile(self, theta: Tensor) -> CompiledCircuit:
        """The circuit at theta (n_parameters,)."""
        return self.engine.compile(theta.detach())

    @torch.no_grad()
    def read(self, compiled: CompiledCircuit, v: Tensor, purpose: str, rounds: int, shots: int | None = None) -> Tensor:
        """(B, n_inputs) to (B, K) readouts, from shots that no other call has.

        Args:
            compiled: by `compile`.
            v: inputs.
            purpose, rounds: for the counter.
            shots: of each circuit; None: as many as the engine says. Exact values take none.
        """
        shots = self.shots if shots is None or not self.shots else shots
        if self.counter is not None:
            settings = len(self.circuit.readout.settings())
            self.counter.count(purpose, settings * len(v), settings * len(v) * shots, rounds)
        if not shots:
            return compiled.readouts(v)
        stream = f"{self.engine.stream}, shifts {self.calls}"
        generator = seeds.generator(self.engine.seed, stream, self.engine.step, v.device)
        self.calls += 1
        return compiled.counted(v, shots, generator)

    def slopes(self, theta: Tensor, v: Tensor, weights: Tensor, rounds: int = 0) -> Tensor:
        """weights^T dr/dtheta of every sample, (B, n_parameters), zero for parameters that do not train.

        Args:
            theta: (n_parameters,).
            v: (B, n_inputs).
            weights: (B, K).
            rounds: 1 where one had to wait for this, 0 where it runs beside other circuits.
        """
        found = v.new_zeros(len(v), len(theta))
        for position, rule in self.rules.items():
            for term, shots in zip(rule, shots_of(rule, self.shots)):
                for sign in (1, -1):
                    shifted = theta.detach().clone()
                    shifted[position] += sign * term.shift
                    readouts = self.read(self.compile(shifted), v, "shift", rounds, shots)
                    found[:, position] += sign * term.coefficient * (weights * readouts).sum(1)
                    rounds = 0
        return found

    def along(self, compiled: CompiledCircuit, v: Tensor, directions: Tensor, rounds: int = 0) -> Tensor:
        """dr/dv u for all directions u, of every sample: (B, K, number of directions).

        Args:
            compiled: the circuit.
            v: (B, n_inputs).
            directions: (number of directions, n_inputs).
            rounds: as of `slopes`.
        """
        if self.amplitudes:
            return self._along_amplitudes(compiled, v, directions, rounds)
        slopes = v.new_zeros(len(v), self.circuit.n_readouts, v.shape[1])
        for position, rule in self.input_rules.items():
            for term, shots in zip(rule, shots_of(rule, self.shots)):
                for sign in (1, -1):
                    shifted = v.clone()
                    shifted[:, position] += sign * term.shift
                    readouts = self.read(compiled, shifted, "jacobian", rounds, shots)
                    slopes[:, :, position] += sign * term.coefficient * readouts
                    rounds = 0
        return slopes @ directions.T

    def _along_amplitudes(self, compiled: CompiledCircuit, v: Tensor, directions: Tensor, rounds: int) -> Tensor:
        """Two circuits for each direction, exact for every step length t.

        N(v) = |v|^2 r(v) is quadratic, so dN/dv w = (N(v + w) - N(v - w)) / 2 for any w. Readouts do not depend on |v|,
        so u counts only by its part across v, and for w across v of length t |v| both norms are the same and dN/dv w
        is |v|^2 dr/dv w, which leaves

            dr/dv w = (1 + t^2) / 2 (r(v + w) - r(v - w)).

        In the state's space that is a rotation by arctan t to either side: with t = 1 the shift rule of a rotation.
        """
        noisy = self.engine.exact if isinstance(self.engine, ShotEngine) else self.engine
        if isinstance(noisy, NoisyEngine) and noisy.tree is not None:
            raise UnsupportedCircuit(
                "with --encoding_noise readouts are no quadratic form of the amplitudes, and two circuits do not give "
                "their slope: leave --encoding_noise out, use angle encoding, or take an equilibrium's Jacobian "
                "for zero (--b_solver identity)"
            )
        t, n, tiny = self.step_length, len(directions), torch.finfo(v.dtype).tiny
        length = torch.linalg.vector_norm(v, dim=1, keepdim=True).unsqueeze(1)  # (B, 1, 1)
        unit = v.unsqueeze(1) / length.clamp_min(tiny)
        across = directions - (directions * unit).sum(2, keepdim=True) * unit  # (B, n, n_inputs)
        size = torch.linalg.vector_norm(across, dim=2, keepdim=True)
        steps = across / size.clamp_min(tiny) * (t * length)
        both = torch.stack([v.unsqueeze(1) + steps, v.unsqueeze(1) - steps])
        readouts = self.read(compiled, both.flatten(0, 2), "jacobian", rounds).view(2, len(v), n, -1)
        factor = torch.where(length > tiny**0.5, (1 + t**2) / 2 * size / (t * length), 0.0)
        return (factor * (readouts[0] - readouts[1])).transpose(1, 2)
