"""Angle encoding in the compiled engine: product states, sent through the fused blocks and back.

The encoding acts on |0...0> wire by wire, so it makes product states. With p(v) what they are after the first blocks, and
U the others,

    r_k(v) = s^T P_k s,    s = U p(v),    w^T dr/dv = 2 (U^T sum_k w_k P_k s)^T dp/dv

in real arithmetic, where every P_k is diagonal in a measurement setting (`measured.py`). The Jacobian loss thus goes
back through the blocks once and is differentiated
once, where autograd would differentiate twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from circuits.circuit import Circuit
from circuits.encodings import AngleEncoding
from circuits.operations import Operation
from engines.measured import Measurements
from engines.propagation import ProductPropagation, Propagation
from engines.protocol import CompiledCircuit

KNOWN_GATES = ("rx", "ry", "rz", "h", "sx")  # what `_turned` has a branch for


class ProductStates(nn.Module):
    """Sends encoded product states through fused blocks.

    Args:
        circuit: with gates on single wires as encoding, and any readout.
        wires: of each fused block.
    """

    def __init__(self, circuit: Circuit, wires: Sequence[Sequence[int]]):
        super().__init__()
        self.n_wires = circuit.n_wires
        self.qubits = QubitEncoder(circuit.encoding)
        self.joining = ProductPropagation(wires, circuit.n_wires)
        self.propagation = self.joining.rest
        self.inverse = self.propagation.inverse()
        self.measurements = Measurements(circuit, self.propagation.wire_order)

    def compile(self, matrices: Tensor) -> "CompiledStates":
        """The circuit of these fused blocks, (n_blocks, dim, dim), under autograd."""
        return CompiledStates(self, matrices)

    def begun(self, matrices: Tensor, v: Tensor) -> Tensor:
        """What enters `propagation`: (B, n_inputs) to (2, 2^n_wires, B)."""
        return self.joining.begin(matrices, self.qubits(v))

    def remaining(self, matrices: Tensor) -> Tensor:
        """The blocks of `propagation`."""
        return self.joining.remaining(matrices)


class States(Protocol):
    """How the samples' states begin, and the blocks that they are sent through: as `ProductStates`."""

    propagation: Propagation
    inverse: Propagation
    measurements: Measurements

    def begun(self, matrices: Tensor, v: Tensor) -> Tensor: ...

    def remaining(self, matrices: Tensor) -> Tensor: ...


class CompiledStates(CompiledCircuit):
    """r(v) for one set of parameters, sample by sample."""

    def __init__(self, states: States, matrices: Tensor):
        self.states, self.matrices = states, matrices
        self.propagation, self.inverse, self.measurements = states.propagation, states.inverse, states.measurements
        self.rest = states.remaining(matrices)

    def readouts(self, v: Tensor) -> Tensor:
        """(B, n_inputs), angles in radians, to (B, K) expectation values."""
        states = self.propagation(self.rest, self.states.begun(self.matrices, v))
        return self.measurements.join([one.read(one.turned(states)) for one in self.measurements]).T

    def vjp(self, v: Tensor, weights: Tensor) -> Tensor:
        """weights^T dr/dv at v, under autograd: (B, n_inputs) and (B, K) to (B, n_inputs)."""
        v = v if v.requires_grad else v.detach().requires_grad_()
        with torch.enable_grad():
            begun = self.states.begun(self.matrices, v)
        states = self.propagation(self.rest, begun)
        shares = zip(self.measurements, self.measurements.share(weights.T))
        weighted = sum(one.turned_back(one.weighted(one.turned(states), share)) for one, share in shares)
        returned = self.inverse(self.rest.flip(0).transpose(1, 2), weighted)
        n, order = self.propagation.n_wires, self.propagation.order
        axes = [1 + self.inverse.wire_order.index(wire) for wire in order]
        returned = returned.view((2,) * (1 + n) + (len(v),)).permute(0, *axes, 1 + n).reshape(begun.shape)
        (slope,) = torch.autograd.grad(begun, v, 2 * returned, create_graph=torch.is_grad_enabled())
        return slope


@dataclass(frozen=True)
class Layer:
    """At most one gate a wire, of one kind or several.

    Attributes:
        inputs: position of each wire's angle among the inputs, 0 for a wire without one.
        gates: names, each with the name of the buffer that says on which wires it acts; None: on all.
    """

    inputs: tuple[int, ...]
    gates: tuple[tuple[str, str | None], ...]


class EncodingLayers(nn.Module):
    """An encoding's gates in layers.

    Args:
        encoding: of gates on single wires. The k-th gates of all wires make a layer, which is computed for all wires at
            once, one time for each kind of gate that it has.
    """

    def __init__(self, encoding: AngleEncoding):
        super().__init__()
        self.n_wires = encoding.n_wires
        of_wire = [[o for o in encoding.operations if o.wires == (wire,)] for wire in range(self.n_wires)]
        self.layers: list[Layer] = [
            self._layer([own[depth] if depth < len(own) else None for own in of_wire], depth)
            for depth in range(max(map(len, of_wire)))
        ]

    def _layer(self, operations: list[Operation | None], depth: int) -> Layer:
        kinds = dict.fromkeys(o.gate for o in operations if o is not None)
        gates = []
        for gate in kinds:
            mask = torch.tensor([o is not None and o.gate == gate for o in operations]).unsqueeze(1)
            name = None
            if not mask.all():
                name = f"mask_{depth}_{gate}"
                self.register_buffer(name, mask, persistent=False)
            gates.append((gate, name))
        return Layer(tuple((o and o.parameter) or 0 for o in operations), tuple(gates))


class QubitEncoder(EncodingLayers):
    """Amplitudes of every wire after its own gates."""

    def forward(self, v: Tensor) -> Tensor:
        """(B, n_inputs) angles to (2, n_wires, B), complex: the amplitudes of |0> and |1> of every wire."""
        return self.of_bit(v, 0)

    def of_bit(self, v: Tensor, bit: int) -> Tensor:
        """The same for wires that begin in |bit>."""
        halves = v.T / 2
        cosines, sines = halves.cos(), halves.sin()
        zero = torch.zeros_like(halves[:1]).expand(self.n_wires, -1)
        one = torch.ones_like(zero)
        real, imag = [zero, one] if bit else [one, zero], [zero, zero]
        for layer in self.layers:
            c, s = _rows(cosines, layer.inputs), _rows(sines, layer.inputs)
            before = real, imag
            for gate, mask in layer.gates:
                after = _turned(gate, c, s, *before)
                real, imag = after if mask is None else _where(getattr(self, mask), after, (real, imag))
        return torch.complex(torch.stack(real), torch.stack(imag))


def _rows(values: Tensor, positions: tuple[int, ...]) -> Tensor:
    """Rows of (n, B) values, as a view where they follow each other."""
    first = positions[0]
    if positions == tuple(range(first, first + len(positions))):
        return values[first : first + len(positions)]
    return torch.stack([values[position] for position in positions])


Amplitudes = tuple[list[Tensor], list[Tensor]]  # real and imaginary parts of the two amplitudes, (n_wires, B) each


def _where(mask: Tensor, after: Amplitudes, before: Amplitudes) -> Amplitudes:
    """What is after a gate on the wires where it acts, and before it on the others."""
    real, imag = ([torch.where(mask, a, b) for a, b in zip(news, olds)] for news, olds in zip(after, before))
    return real, imag


def _turned(gate: str, c: Tensor, s: Tensor, real: list[Tensor], imag: list[Tensor]) -> Amplitudes:
    """A gate on one qubit's two amplitudes, in real arithmetic; c = cos t/2, s = sin t/2 of a rotation exp(-i t/2 P)."""
    (r0, r1), (i0, i1) = real, imag
    if gate == "rx":
        return [c * r0 + s * i1, c * r1 + s * i0], [c * i0 - s * r1, c * i1 - s * r0]
    if gate == "ry":
        return [c * r0 - s * r1, s * r0 + c * r1], [c * i0 - s * i1, s * i0 + c * i1]
    if gate == "rz":
        return [c * r0 + s * i0, c * r1 - s * i1], [c * i0 - s * r0, c * i1 + s * r1]
    if gate == "h":
        root = 0.5**0.5
        return [root * (r0 + r1), root * (r0 - r1)], [root * (i0 + i1), root * (i0 - i1)]
    # sx: (1 + i)/2 on the diagonal, (1 - i)/2 beside it
    plus, minus = (r0 + r1, i0 + i1), (r0 - r1, i0 - i1)
    return (
        [0.5 * (plus[0] - minus[1]), 0.5 * (plus[0] + minus[1])],
        [0.5 * (plus[1] + minus[0]), 0.5 * (plus[1] - minus[0])],
    )
