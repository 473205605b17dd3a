"""f(z; x) = E r(v), v = g z + x or [x, g z]: inject, encode and apply the circuit, read out, lift. Written once, for every layer.

A layer is compiled for its present parameters and bound to a batch, `f = layer.bind(x)`; solvers see f(z). Every value
of f is a lifted readout, so an equilibrium is z* = E r* with r* = h(r*), and the solve runs in the space of r, h = f.reduced(),
or in that of z where r has more numbers. Layers without a circuit (`classical_layers.py`) have the same face.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from engines.protocol import CompiledCircuit, ReadoutMap
from models.lift import Lift


class Bound(Protocol):
    """f(z) = f(z; x) for a fixed batch x.

    Attributes:
        vjp: (z, v) -> v^T df/dz, (B, D) twice to (B, D), differentiable in all that f closes over, as
            `deq.hutchinson_jacobian_loss` uses it; None where autograd is the only way.

    Besides, f may offer `jacobian` and `for_many`, as `BoundCircuit` does.
    """

    vjp: Callable[[Tensor, Tensor], Tensor] | None

    def __call__(self, z: Tensor) -> Tensor:
        """(B, D) to itself."""

    def read(self, z: Tensor) -> Tensor:
        """r with f(z) = E r, (B, D) to (B, n_units): asked of layers with more units than numbers in z."""

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

    Samples do not mix: a batch may be empty, and one with a NaN or an inf among its features has values of NaN alone.

    Args:
        n_inputs: features of x.
        lift: E, from readouts to the state.

    Attributes:
        compile_several: S layers of this kind -> them side by side: a batch is S equally long runs of samples, each for its
            own layer. None where one after another costs no more.
        learns: whether anything in f may need a gradient beside x; where not, none is looked for.
    """

    compile_several: Callable[[Sequence["Layer"]], Compiled] | None = None
    learns: bool = True

    def __init__(self, n_inputs: int, lift: Lift):
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
            ValueError: see `check`.
        """
        return self.compile().bind(x)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """f(z; x): (B, width) and (B, n_inputs) to (B, width).

        Raises:
            ValueError: see `check`; z is of another shape, dtype or device.
        """
        return self.bind(x)(z)

    def check(self, x: Tensor) -> None:
        """Refuse features that are no tensor (B, n_inputs) of the layer's dtype on its device.

        Raises:
            ValueError: one line with what x is and what to do.
        """
        check_batch("x", x, self.n_inputs, next(self.parameters(), None))


def check_batch(name: str, values: Tensor, width: int, like: Tensor | None, size: int | None = None) -> None:
    """Refuse what is no real tensor (B, width) of the dtype and on the device of another.

    Args:
        name: of the values, for the message.
        values: to be checked.
        width: of a sample.
        like: parameters or values that they meet; None where there are none.
        size: B; None: any.

    Raises:
        ValueError: one line with what they are and what to do.
    """
    if not isinstance(values, Tensor):
        raise ValueError(f"{name} must be a tensor, got {type(values).__name__}: convert it, as with torch.as_tensor")
    shape = tuple(values.shape)
    if len(shape) != 2 or shape[1] != width or size not in (None, shape[0]):
        remedy = f"; of a single sample, {name}.unsqueeze(0)" if shape == (width,) and size in (None, 1) else ""
        raise ValueError(f"{name} must have shape ({'B' if size is None else size}, {width}), got {shape}{remedy}")
    wanted = (values.dtype if values.is_floating_point() else torch.float32) if like is None else like.dtype
    if values.dtype != wanted:
        remedy = "one of them" if values.is_floating_point() else "the real numbers or pixels in it"
        raise ValueError(f"{name} is {values.dtype}, the layer {wanted}: convert {remedy} ({name}.to({wanted}))")
    if like is not None and values.device != like.device:
        raise ValueError(
            f"{name} is on {values.device}, the layer on {like.device}: move one of them "
            f'({name}.to("{like.device}"))'
        )


class BoundCircuit:
    """f(z) = E r(v) of a compiled circuit and one batch x, v = g z + x, or [x, g z] apart; the gain g of the paper is 1.

    Args:
        circuit: whose readouts r are.
        lift: E.
        x, gain, apart: as above.
        lifted: the circuit whose readouts are E r, where they cost less than r; else None.
    """

    def __init__(
        self, circuit: CompiledCircuit, lift: Lift, x: Tensor, gain: float = 1.0, apart: bool = False,
        lifted: CompiledCircuit | None = None,
    ):  # fmt: skip
        self.circuit, self.lift, self.x, self.gain, self.lifted = circuit, lift, x, gain, lifted
        self.n_data = x.shape[1] if apart else 0

    def inject(self, z: Tensor) -> Tensor:
        """v, what the circuit encodes."""
        if self.n_data:
            return torch.cat([self.x, self.gain * z], 1)
        return z + self.x if self.gain == 1 else torch.add(self.x, z, alpha=self.gain)

    def __call__(self, z: Tensor) -> Tensor:
        check_batch("z", z, self.lift.width, self.x, len(self.x))
        return self.lift(self.read(z)) if self.lifted is None else self.lifted.readouts(self.inject(z))

    def read(self, z: Tensor) -> Tensor:
        """r(v): (B, width) to (B, n_units)."""
        return self.circuit.readouts(self.inject(z))

    @property
    def vjp(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        return None if self.circuit.vjp is None else self._vjp

    def _vjp(self, z: Tensor, v: Tensor) -> Tensor:
        if self.lifted is None:
            product = self.circuit.vjp(self.inject(z), self.lift.transpose(v))
        else:
            product = self.lifted.vjp(self.inject(z), v)
        return product if self._as_in_the_paper else self.gain * product[:, self.n_data :]

    @property
    def jacobian(self) -> Callable[[Tensor], Tensor] | None:
        """z -> df/dz, (B, width) to (B, width, width), where E r are readouts of their own that offer it."""
        return None if self.lifted is None or self.lifted.jacobian is None else self._jacobian

    def _jacobian(self, z: Tensor) -> Tensor:
        slope = self.lifted.jacobian(self.inject(z))
        return slope if self._as_in_the_paper else self.gain * slope[:, :, self.n_data :]

    def for_many(self) -> "BoundCircuit":
        """The same f, with `jacobian` where it can have it: dear to make, for many products with many samples' Jacobians."""
        lifted = None if self.circuit.for_many is None else self.circuit.for_many(self.lift)
        return self if lifted is None else BoundCircuit(self.circuit, self.lift, self.x, self.gain, bool(self.n_data), lifted)

    @property
    def _as_in_the_paper(self) -> bool:
        return self.gain == 1 and not self.n_data

    def reduced(self) -> ReadoutMap:
        """The engine's closed form of h where it has one, else h by way of f."""
        h = None
        if self.circuit.along is not None:
            # [x, g z] = [x, 0] + [0, g E r]
            x = pad(self.x, (0, self.lift.width)) if self.n_data else self.x
            h = self.circuit.along(x, self.lift if self._as_in_the_paper else _Seen(self.lift, self.gain, self.n_data))
        h = _Reduced(self) if h is None else h
        return h if self._as_in_the_paper else _SlopeInZ(h, self.gain, self.n_data)


class _Seen:
    """The lift to what the circuit sees of z: g E below n_data rows of zeros."""

    def __init__(self, lift: Lift, gain: float, n_data: int):
        self.lift, self.gain, self.n_data = lift, gain, n_data

    def __call__(self, r: Tensor) -> Tensor:
        return pad(self.gain * self.lift(r), (self.n_data, 0))

    def transpose(self, values: Tensor, dim: int = -1) -> Tensor:
        return self.gain * self.lift.transpose(values.narrow(dim, self.n_data, self.lift.width), dim)

    def gram(self, r: Tensor) -> Tensor:
        return self.gain**2 * self.lift.gram(r)


class _SlopeInZ(ReadoutMap):
    """h of v = x + g E r, or [x, g E r], whose `vjp` is that in z, g times that in z's part of v."""

    def __init__(self, h: ReadoutMap, gain: float, n_data: int):
        self.h, self.gain, self.n_data = h, gain, n_data
        self.jacobian, self.value_and_jacobian = h.jacobian, h.value_and_jacobian
        self.measured_again, self.noise = h.measured_again, h.noise

    def __call__(self, r: Tensor) -> Tensor:
        return self.h(r)

    @property
    def vjp(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        return None if self.h.vjp is None else self._vjp

    def _vjp(self, r: Tensor, weights: Tensor) -> Tensor:
        return self.gain * self.h.vjp(r, weights)[:, self.n_data :]


class _Reduced(ReadoutMap):
    """h(r) = r(v) at z = E r by the circuit itself."""

    def __init__(self, f: BoundCircuit):
        self.f = f
        if f.circuit.noise is not None:
            self.noise = lambda r, h_r: f.circuit.noise(h_r)

    def __call__(self, r: Tensor) -> Tensor:
        return self.f.read(self.f.lift(r))

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

    def __init__(self, f: Bound, h: ReadoutMap, lift: Lift, r: Tensor):
        self.f, self.h, self.lift, self.r = f, h, lift, r

    def __call__(self, z: Tensor) -> Tensor:
        return self.f(z)

    def vjp(self, z: Tensor, v: Tensor) -> Tensor:
        """(B, width), the same z, and (B, width) to (B, width)."""
        return self.h.vjp(self.r, self.lift.transpose(v))
