"""The quantum layer: a circuit as data, the engine that evaluates it, and its parameters.

One tensor theta of trained parameters with one name per entry. Section 3.2 of Schleich et al. (arXiv 2410.23940).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from circuits.circuit import Circuit
from engines import make_engine
from engines.protocol import CompiledCircuit, Engine
from models.layer import BoundCircuit, Layer
from models.lift import Lift, make_lift


class QuantumLayer(Layer):
    """A parametrised circuit as a layer f(z; x).

        circuit = build_circuit(4)
        layer = QuantumLayer(circuit)
        x = torch.randn(8, circuit.n_features)
        value = layer(torch.zeros(8, circuit.n_fed_back), x)

    Args:
        circuit: the circuit, as data; it says which parameters train.
        engine: "compiled", "torchquantum" (the reference) or "statevector", or an engine of your own for this circuit.
        theta: starting values of all parameters, (n_parameters,), in radians; None: uniform in [-pi, pi) from torch's
            global generator, as TorchQuantum's gates start. The layer has their dtype.
        lift: E, from the readouts to a state of as many numbers as the circuit has inputs for z, with the methods of
            `Repeat`, or the name of one (`make_lift`).
        z_gain: g of v = g z + x, or of v = [x, g z] where the encoding has data and z apart, from 0; 1 in the paper.

    Raises:
        ValueError: unknown engine or one of another circuit, theta of another shape or of integers, a lift of another
            size or of no known name, or readouts that "repeat" cannot repeat to as many inputs.
        engines.protocol.UnsupportedCircuit: a circuit that the engine cannot do.
        ImportError: engine "torchquantum" where that cannot be imported.
    """

    def __init__(
        self,
        circuit: Circuit,
        engine: str | Engine = "compiled",
        theta: Tensor | None = None,
        lift: Lift | str = "auto",
        z_gain: float = 1.0,
    ):
        if isinstance(lift, str):
            lift = make_lift(lift, circuit.n_readouts, circuit.n_fed_back)
        if (lift.n, lift.width) != (circuit.n_readouts, circuit.n_fed_back):
            raise ValueError(
                f"the lift takes {lift.n} numbers to {lift.width}, the circuit has {circuit.n_readouts} readouts and "
                f"{circuit.n_fed_back} inputs"
            )
        super().__init__(circuit.n_features, lift)
        self.circuit, self.z_gain = circuit, z_gain
        self.engine = make_engine(engine, circuit) if isinstance(engine, str) else engine
        if self.engine.circuit != circuit:
            raise ValueError("the engine is of another circuit than the layer")
        if theta is None:
            theta = torch.empty(circuit.n_parameters).uniform_(-math.pi, math.pi)
        elif theta.shape != (circuit.n_parameters,):
            raise ValueError(f"theta must have shape ({circuit.n_parameters},), got {tuple(theta.shape)}")
        elif not theta.is_floating_point():
            raise ValueError(f"theta must be of floating point, got {theta.dtype}")
        self.engine.to(theta.dtype)
        if isinstance(lift, nn.Module):
            lift.to(theta.dtype)
        frozen = circuit.frozen
        self.theta = nn.Parameter(theta.detach()[list(circuit.trained)].clone())
        self.register_buffer("frozen_theta", theta.detach()[list(frozen)].clone())
        # where the entries of [theta, frozen_theta] stand in the circuit's order
        order = sorted(range(circuit.n_parameters), key=[*circuit.trained, *frozen].__getitem__)
        places = None if order == sorted(order) else torch.tensor(order)
        self.register_buffer("_places", places, persistent=False)

    @property
    def learns(self) -> bool:
        """Whether any gate trains."""
        return bool(self.theta.numel())

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """One name per entry of the full theta."""
        return self.circuit.parameter_names

    def full_theta(self) -> Tensor:
        """All circuit parameters, trained and frozen, in the circuit's order: (n_parameters,)."""
        if not self.frozen_theta.numel():
            return self.theta
        if not self.learns:
            return self.frozen_theta
        joined = torch.cat([self.theta, self.frozen_theta])
        return joined if self._places is None else joined[self._places]

    def compile(self) -> "CompiledLayer":
        """The circuit compiled at the present parameters, to bind to any number of batches."""
        return CompiledLayer(self, self.engine.compile(self.full_theta()))

    @property
    def compile_several(self) -> Callable[[Sequence["QuantumLayer"]], "CompiledLayer"] | None:
        return None if self.engine.compile_several is None else self._several

    def _several(self, layers: Sequence["QuantumLayer"]) -> "CompiledLayer":
        """Layers of this circuit and engine, each at its present parameters."""
        return CompiledLayer(self, self.engine.compile_several(torch.stack([layer.full_theta() for layer in layers])))


class CompiledLayer:
    """A quantum layer at fixed parameters, under autograd."""

    def __init__(self, layer: QuantumLayer, circuit: CompiledCircuit):
        self.layer, self.circuit = layer, circuit
        self.lifted = None if circuit.lifted is None else circuit.lifted(layer.lift)

    def bind(self, x: Tensor) -> BoundCircuit:
        """f(z) for one batch x of shape (B, n_inputs).

        Raises:
            ValueError: see `Layer.check`.
        """
        self.layer.check(x)
        apart = self.layer.circuit.encoding.n_data is not None
        return BoundCircuit(self.circuit, self.layer.lift, x, self.layer.z_gain, apart, self.lifted)
