"""f(z; x) = E r(z + x): inject, encode and apply the circuit, read out, lift. Written once, for every layer.

A layer is compiled for its present parameters and bound to a batch, `f = layer.bind(x)`; solvers see f(z). Every value
of f is a lifted readout, so an equilibrium is z* = E r* with r* = h(r*), and the solve runs in the space of r:
h = f.reduced(). Layers without a circuit (`classical_layers.py`) have the same face.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

from engines.protocol import CompiledCircuit, ReadoutMap
from models.lift import Repeat


class Bound(Protocol):
    """f(z) = f(z; x) for a fixed batch x.

    Attributes:
        vjp: (z, v) -> v^T df/dz, (B, D) twice to (B, D), differentiable in all that f closes over, as
            `deq.hutchinson_jacobian_loss` uses it; None where autograd is the only way.
    """

    vjp: Callable[[Tensor, Tensor], Tensor] | None

    def __call__(self, z: Tensor) -> Tensor:
        """(B, D) to itself."""

    def reduced(self) -> ReadoutMap:
        """h(r) with f(E r) = E h(r): (B, n_units) to itself."""


class Compiled(Protocol):
    """A layer at its present parameters, under autograd."""

    def bind(self, x: Tensor) -> Bound:
        """f for one batch of features."""


class Layer(nn.Module, ABC):
    """A map f(z; x) whose values are lifted readouts.

        layer = QuantumLayer(build_circuit(4))
        x = torch.randn(8, 16)
        z = layer(torch.zeros_like(x), x)      # one application of f
        f = layer.bind(x); z = f(f(z))         # compiled once, applied as often as you like

    Args:
        n_inputs: features of x.
        lift: E, from readouts to the state.
    """

    def __init__(self, n_inputs: int, lift: Repeat):
        super().__init__()
        self.n_inputs = n_inputs
        self.lift = lift

    @property
    def n_units(self) -> int:
        """Numbers in the reduced state r."""
        return self.lift.n

    @property
    def width(self) -> int:
        """Numbers in the state z."""
        return self.lift.width

    @abstractmethod
    def compile(self) -> Compiled:
        """The layer at its present parameters, to bind to any number of batches."""

    def bind(self, x: Tensor) -> Bound:
        """f(z) for one batch x of shape (B, n_inputs).

        Raises:
            ValueError: x has another shape.
        """
        return self.compile().bind(x)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """f(z; x): (B, width) and (B, n_inputs) to (B, width)."""
        return self.bind(x)(z)

    def check(self, x: Tensor) -> None:
        """Refuse features of another shape than (B, n_inputs), or of another dtype than the layer's parameters."""
        if x.dim() != 2 or x.shape[1] != self.n_inputs:
            raise ValueError(f"x must have shape (B, {self.n_inputs}), got {tuple(x.shape)}")
        wanted = next((p.dtype for p in self.parameters()), x.dtype)
        if x.dtype != wanted or not x.is_floating_point():
            raise ValueError(f"x is {x.dtype}, the layer {wanted}: convert one of them, as with x.to(torch.float32)")


class BoundCircuit:
    """f(z) = E r(z + x) of a compiled circuit and one batch x."""

    def __init__(self, circuit: CompiledCircuit, lift: Repeat, x: Tensor):
        self.circuit, self.lift, self.x = circuit, lift, x

    def inject(self, z: Tensor) -> Tensor:
        """v = z + x, what the circuit encodes."""
        return z + self.x

    def __call__(self, z: Tensor) -> Tensor:
        return self.lift(self.circuit.readouts(self.inject(z)))

    @property
    def vjp(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        return None if self.circuit.vjp is None else self._vjp

    def _vjp(self, z: Tensor, v: Tensor) -> Tensor:
        return self.circuit.vjp(self.inject(z), self.lift.transpose(v))

    def reduced(self) -> ReadoutMap:
        """The engine's closed form of h where it has one, else h by way of f."""
        if self.circuit.along is not None:
            return self.circuit.along(self.x, self.lift)
        return _Reduced(self)


class _Reduced(ReadoutMap):
    """h(r) = r(x + E r) by the circuit itself."""

    def __init__(self, f: BoundCircuit):
        self.f = f

    def __call__(self, r: Tensor) -> Tensor:
        return self.f.circuit.readouts(self.f.inject(self.f.lift(r)))

    @property
    def vjp(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        return None if self.f.circuit.vjp is None else self._vjp

    def _vjp(self, r: Tensor, weights: Tensor) -> Tensor:
        return self.f.circuit.vjp(self.f.inject(self.f.lift(r)), weights)


class AtReadouts:
    """f at z = E r alone: v^T df/dz = (E^T v)^T dr/dv by way of h, which has most of it already.

    Args:
        f: a bound layer whose h offers `vjp`.
        h: f.reduced().
        lift: E.
        r: (B, n_units).
    """

    def __init__(self, f: Bound, h: ReadoutMap, lift: Repeat, r: Tensor):
        self.f, self.h, self.lift, self.r = f, h, lift, r

    def __call__(self, z: Tensor) -> Tensor:
        return self.f(z)

    def vjp(self, z: Tensor, v: Tensor) -> Tensor:
        """(B, width), the same z, and (B, width) to (B, width)."""
        return self.h.vjp(self.r, self.lift.transpose(v))
