"""The reference: TorchQuantum simulates the whole circuit at every call of f, as the released code does.

Builds TorchQuantum's own encoders, gates and measurement from `circuits.Circuit`. Parameters come in as a tensor
(the gates hold none), the state device is made per call: nothing here has a batch size. complex64 throughout, as
TorchQuantum is. This is the only module that imports torchquantum, which takes seconds.
"""

import warnings

import torch
from torch import Tensor

try:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "pkg_resources is deprecated")  # of what it imports
        import torchquantum as tq
        from torchquantum.functional import func_name_dict
        from torchquantum.measurement import expval_joint_analytical
except ImportError as error:
    raise ImportError(
        f"--engine torchquantum needs the torchquantum package, which failed to import ({error}). "
        "Run `bash bash_scripts/setup.sh` with Python 3.10 to 3.12, or use --engine compiled."
    ) from error

from circuits.circuit import Circuit
from circuits.encodings import AmplitudeEncoding, ComplexAmplitudeEncoding, StateEncoding
from circuits.readout import PauliReadout, z_on
from engines.protocol import CompiledCircuit, Engine
from engines.statevector import encoded, prepared, probabilities


class TorchQuantumEngine(Engine):
    """Evaluates a circuit with TorchQuantum: every encoding, ansatz and readout.

    Args:
        circuit: what to evaluate.
    """

    def __init__(self, circuit: Circuit):
        super().__init__(circuit)
        if isinstance(circuit.encoding, AmplitudeEncoding):
            self.encoder = tq.StateEncoder()
        elif circuit.encoding.operations:
            self.encoder = tq.GeneralEncoder(
                [
                    {"input_idx": None if o.parameter is None else [o.parameter], "func": o.gate, "wires": list(o.wires)}
                    for o in circuit.encoding.operations
                ]
            )
        self.measures_all = circuit.readout == z_on(circuit.n_wires, range(circuit.n_wires))
        self.measure_all = tq.MeasureAll(tq.PauliZ)

    def compile(self, theta: Tensor) -> "SimulatedCircuit":
        """The circuit at the parameters theta (n_parameters,)."""
        return SimulatedCircuit(self, theta)

    def measure(self, device: tq.QuantumDevice) -> Tensor:
        """The readouts, (B, K)."""
        if self.measures_all:
            return self.measure_all(device)
        if not isinstance(self.circuit.readout, PauliReadout):
            return probabilities(self.circuit.readout, device.states)
        strings = self.circuit.readout.strings
        return torch.stack([expval_joint_analytical(device, string).view(-1) for string in strings], dim=1)


class SimulatedCircuit(CompiledCircuit):
    """Readouts for fixed parameters, one simulation per call."""

    def __init__(self, engine: TorchQuantumEngine, theta: Tensor):
        self.engine = engine
        self.theta = theta.clone()

    def readouts(self, v: Tensor) -> Tensor:
        """(B, n_inputs) to (B, K) expectation values; a zero vector has no direction and reads 0."""
        circuit = self.engine.circuit
        if not len(v):
            return v.new_zeros(0, circuit.n_readouts)
        device = tq.QuantumDevice(n_wires=circuit.n_wires, bsz=v.shape[0], device=v.device)
        has_direction = None
        if isinstance(circuit.encoding, AmplitudeEncoding | ComplexAmplitudeEncoding | StateEncoding):
            squared_norm = v[:, : circuit.n_features].square().sum(-1, keepdim=True)
            has_direction = ~(squared_norm <= torch.finfo(v.dtype).tiny)
            # encoders divide by the norm: give them a unit vector where there is no direction
            v = torch.where(has_direction, v, torch.eye(1, v.shape[1]).to(v))
        if isinstance(circuit.encoding, StateEncoding):
            device.set_states(prepared(circuit.encoding, v).to(device.states.dtype))
        if isinstance(circuit.encoding, AmplitudeEncoding) or circuit.encoding.operations:
            self.engine.encoder(device, v)
        else:  # TorchQuantum has no encoder for these states
            device.states = encoded(circuit, v.double()).to(device.states.dtype)
        for operation in circuit.ansatz.operations:
            params = None if operation.parameter is None else self.theta[operation.parameter].view(1, 1)
            func_name_dict[operation.gate](device, wires=list(operation.wires), params=params)
        readouts = self.engine.measure(device).to(v.dtype)
        return readouts if has_direction is None else torch.where(has_direction, readouts, 0.0 * readouts)
