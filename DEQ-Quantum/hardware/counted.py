"""Readouts read by counting, with the derivatives of the exact expectation values: training with shots, simulated.

A solver sees counts, so an equilibrium is as noisy as on a machine; the implicit gradient is then exact at that noisy
equilibrium, as infinitely many shots of shift rules would measure it there. What counts are drawn in a call is a function
of (seed, stream, step, call).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from engines.protocol import CompiledCircuit, Engine, Lift, ReadoutMap
from hardware.shots import CompiledShots, ShotEngine


class CountedEngine(Engine):
    """A circuit whose values are counted and whose derivatives are exact.

        layer.engine = CountedEngine(ShotEngine(circuit, 1024, noise), NoisyEngine(circuit, noise))

    Args:
        counting: what is drawn.
        exact: the same circuit and noise, differentiable.
    """

    def __init__(self, counting: ShotEngine, exact: Engine):
        super().__init__(exact.circuit)
        self.counting, self.exact = counting, exact

    @property
    def shots(self) -> int:
        return self.counting.shots

    def draw_for(self, stream: str, step: int) -> None:
        """Name what the coming compilations draw for, each anew from its first call."""
        self.counting.stream, self.counting.step = stream, step

    def compile(self, theta: Tensor) -> "CompiledCounted":
        """The circuit at the parameters theta (n_parameters,), under autograd."""
        with torch.no_grad():
            counted = self.counting.compile(theta)
        return CompiledCounted(counted, self.exact.compile(theta))


class CompiledCounted(CompiledCircuit):
    """A circuit at given parameters, counted at every call.

    Args:
        counted: its values.
        exact: its derivatives.
    """

    def __init__(self, counted: CompiledShots, exact: CompiledCircuit):
        self.counted, self.exact = counted, exact
        self.vjp = exact.vjp

    def readouts(self, v: Tensor) -> Tensor:
        """(B, n_inputs) to (B, K)."""
        return with_slope_of(self.exact.readouts, v, self.counted.readouts(v))

    def along(self, x: Tensor, lift: Lift) -> "CountedReadouts":
        """r -> readouts at x + E r for a batch x of shape (B, n_inputs)."""
        return CountedReadouts(self, x, lift)


class CountedReadouts(ReadoutMap):
    """The readouts as a function of the K readouts that went in, for one batch.

    Args:
        circuit: counted.
        x: (B, n_inputs).
        lift: E.
    """

    def __init__(self, circuit: CompiledCounted, x: Tensor, lift: Lift):
        self.circuit, self.x, self.lift = circuit, x, lift
        exact = circuit.exact
        self.noise = lambda r, h_r: circuit.counted.noise(h_r)
        self._exact: Callable[[Tensor], Tensor] = lambda r: exact.readouts(self._injected(r))
        if exact.vjp is not None:
            self.vjp = lambda r, weights: exact.vjp(self._injected(r), weights)
        closed = None if exact.along is None else exact.along(x, lift)
        if closed is not None:
            self._exact, self.jacobian, self.vjp = closed, closed.jacobian, closed.vjp or self.vjp

    def _injected(self, r: Tensor) -> Tensor:
        return self.x + self.lift(r)

    def __call__(self, r: Tensor) -> Tensor:
        """(B, K) to (B, K), counted anew."""
        return with_slope_of(self._exact, r, self.circuit.counted.readouts(self._injected(r)))

    measured_again = __call__


def with_slope_of(exact: Callable[[Tensor], Tensor], at: Tensor, value: Tensor) -> Tensor:
    """A value, with the derivatives of a function there where autograd records them."""
    if not torch.is_grad_enabled():
        return value
    smooth = exact(at)
    return smooth + (value - smooth).detach()
