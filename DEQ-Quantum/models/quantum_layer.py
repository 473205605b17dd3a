"""f(z; x): inject (z + x), encode, apply the circuit, read Z on every wire, repeat to n_wires^2 values.

One face for both engines. The layer owns the parameters, one tensor theta with one name per entry; binding it to
a batch gives the f(z) that solvers see. Section 3.2 of Schleich et al. (arXiv 2410.23940). The up-sampling factor
is n_wires for any number of classes (the released code derives it from the classes and works for 4/4 and 10/10).
"""

import math

import torch
from torch import Tensor, nn

from circuits.circuit import Circuit
from engines.compiled import CompiledEngine

ENGINES = ("compiled", "torchquantum")
TRAINABLE_GATES = ("all", "released")


def _make_engine(name: str, circuit: Circuit) -> nn.Module:
    if name == "compiled":
        return CompiledEngine(circuit)
    if name == "torchquantum":
        # imported where it is asked for: it takes seconds, and the compiled engine runs without it
        from engines.torchquantum import TorchQuantumEngine

        return TorchQuantumEngine(circuit)
    raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {name!r}")


class QuantumLayer(nn.Module):
    """A parametrised circuit as a layer.

    Args:
        circuit: the circuit, as data.
        engine: "compiled" or "torchquantum" (the reference).
        trainable_gates: "all", or "released" to freeze the blocks' gates as the released code does by accident.

    Parameters start uniform in [-pi, pi) from torch's global generator, as TorchQuantum's gates do.

    Raises:
        ValueError: unknown engine or choice of gates.
        ImportError: engine "torchquantum" where that cannot be imported.
    """

    def __init__(self, circuit: Circuit, engine: str = "compiled", trainable_gates: str = "all"):
        super().__init__()
        if trainable_gates not in TRAINABLE_GATES:
            raise ValueError(f"trainable_gates must be one of {', '.join(TRAINABLE_GATES)}, got {trainable_gates!r}")
        self.circuit = circuit
        self.engine = _make_engine(engine, circuit)
        theta = torch.empty(circuit.n_parameters).uniform_(-math.pi, math.pi)
        frozen = circuit.block_parameters if trainable_gates == "released" else ()
        # the blocks' parameters are the circuit's last
        n_trained = circuit.n_parameters - len(frozen)
        self.theta = nn.Parameter(theta[:n_trained].clone())
        self.register_buffer("frozen_theta", theta[n_trained:].clone())

    @property
    def n_units(self) -> int:
        """Numbers in the reduced state r: the readouts."""
        return self.circuit.n_wires

    @property
    def copies(self) -> int:
        """How often z = lift(r) repeats each of them."""
        return self.circuit.n_wires

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """One name per entry of the full theta."""
        return self.circuit.parameter_names

    def full_theta(self) -> Tensor:
        """All circuit parameters, trained and frozen, in the circuit's order: (n_parameters,)."""
        if not self.frozen_theta.numel():
            return self.theta
        return torch.cat([self.theta, self.frozen_theta])

    def lift(self, readouts: Tensor) -> Tensor:
        """Repeat each of the n_wires readouts n_wires times in a row: (B, n_wires) to (B, n_wires^2)."""
        return readouts.repeat_interleave(self.copies, dim=-1)

    def compile(self) -> "CompiledLayer":
        """Meet the circuit at the present parameters, once, to bind it to any number of batches."""
        return CompiledLayer(self, self.engine.prepare(self.full_theta()))

    def bind(self, x: Tensor) -> "BoundLayer":
        """f(z) for one batch x of shape (B, n_wires^2)."""
        return self.compile().bind(x)


class CompiledLayer:
    """A layer at fixed parameters, under autograd."""

    def __init__(self, layer: QuantumLayer, readout):
        self.layer = layer
        self.readout = readout

    def bind(self, x: Tensor) -> "BoundLayer":
        """f(z) for one batch x of shape (B, n_wires^2).

        Raises:
            ValueError: x has another number of columns.
        """
        expected = self.layer.n_units * self.layer.copies
        if x.dim() != 2 or x.shape[1] != expected:
            raise ValueError(f"x must have shape (B, {expected}), got {tuple(x.shape)}")
        return BoundLayer(self.layer, self.readout, x)


class BoundLayer:
    """f(z) = f(z; x) for a fixed batch x: (B, D) to (B, D), D = n_wires^2."""

    def __init__(self, layer: QuantumLayer, readout, x: Tensor):
        self.layer = layer
        self.readout = readout
        self.x = x
        if hasattr(readout, "vjp"):
            self.vjp = self._vjp

    def __call__(self, z: Tensor) -> Tensor:
        return self.layer.lift(self.readout.readouts(z + self.x))

    def _vjp(self, z: Tensor, v: Tensor) -> Tensor:
        """v^T df/dz in closed form, differentiable in parameters and x: (B, D)."""
        n, copies = self.layer.n_units, self.layer.copies
        return self.readout.vjp(z + self.x, v.unflatten(-1, (n, copies)).sum(-1))

    def reduced(self):
        """The same map in the space of readouts, h(r) with f(lift(r)) = lift(h(r)): (B, n_wires) to itself.

        Every value of f is a lifted readout, so an equilibrium is z* = lift(r*), r* = h(r*). The compiled amplitude
        engine offers coefficients that make h cheap and its Jacobian exact (`h.jacobian`).
        """
        if hasattr(self.readout, "reduced"):
            return self.readout.reduced(self.x)
        if hasattr(self.readout, "vjp"):
            return _Reduced(self)
        return lambda r: self.readout.readouts(self.layer.lift(r) + self.x)


class _Reduced:
    """r -> r(x + lift(r)) for a readout with `vjp`."""

    def __init__(self, f: BoundLayer):
        self.layer, self.readout, self.x = f.layer, f.readout, f.x

    def __call__(self, r: Tensor) -> Tensor:
        """(B, n_wires) to (B, n_wires)."""
        return self.readout.readouts(self._inputs(r))

    def vjp(self, r: Tensor, weights: Tensor) -> Tensor:
        """weights^T dr/dv at v = x + lift(r): (B, n_wires) twice to (B, n_wires * copies)."""
        return self.readout.vjp(self._inputs(r), weights)

    def _inputs(self, r: Tensor) -> Tensor:
        return self.layer.lift(r) + self.x
