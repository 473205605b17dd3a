"""Native circuits and noise in Qiskit Aer, put together from Aer's own constructors: what `hardware/` is held to.

Wire w is qubit w. Qiskit counts qubit 0 as the least significant bit, we wire 0 as the most significant, so states go
over with their axes reversed. Aer drops terms of a channel whose chance is below 1e-8: what it is to say to 1e-10 has
none such.
"""

from functools import cache

import numpy as np
import pytest

from hardware.channels import Coherent, Damping, Depolarizing
from hardware.devices import Device

qiskit = pytest.importorskip("qiskit", reason="Aer needs Python < 3.13")
pytest.importorskip("qiskit_aer", reason="Aer needs Python < 3.13")
from qiskit.circuit import Delay, Measure, Parameter  # noqa: E402
from qiskit.circuit.library import CXGate, CZGate, ECRGate, RZGate, SXGate, XGate  # noqa: E402
from qiskit.providers import QubitProperties  # noqa: E402
from qiskit.transpiler import InstructionProperties, Target  # noqa: E402
from qiskit_aer import AerSimulator  # noqa: E402
from qiskit_aer.noise import (  # noqa: E402
    NoiseModel,
    coherent_unitary_error,
    depolarizing_error,
    thermal_relaxation_error,
)  # fmt: skip
from qiskit_aer.noise.device import basic_device_gate_errors  # noqa: E402

TWO = {"cx": CXGate, "cz": CZGate, "ecr": ECRGate}
P = {"X": np.array([[0, 1], [1, 0]]), "Z": np.diag([1, -1])}


def circuit_of(gates, theta, n_wires, n_bits=0, t1_t2=None):
    """A QuantumCircuit of native gates with their angles, and room for n_bits results; t1_t2 (us) act on delays."""
    circuit = qiskit.QuantumCircuit(n_wires, n_bits)
    for gate in gates:
        if gate.name == "rz":
            angle = gate.angle + (0 if gate.parameter is None else gate.scale * float(theta[gate.parameter]))
            circuit.rz(angle, gate.wires[0])
        elif gate.name == "delay":
            circuit.append(thermal_relaxation_error(*(1e3 * t for t in t1_t2), gate.time).to_instruction(), gate.wires)
        else:
            getattr(circuit, gate.name)(*gate.wires)
    return circuit


def density_matrix(gates, theta, state, noise_model, t1_t2=None):
    """What Aer makes of a state vector (wire 0 most significant): (2^n, 2^n) in the same order of wires."""
    n = len(state).bit_length() - 1
    circuit = qiskit.QuantumCircuit(n)
    circuit.set_statevector(_reversed(state))
    circuit = circuit.compose(circuit_of(gates, theta, n, t1_t2=t1_t2))
    circuit.save_density_matrix()
    simulator = AerSimulator(
        method="density_matrix", noise_model=noise_model, zero_threshold=1e-16, max_parallel_threads=1
    )
    rho = np.asarray(simulator.run(circuit, shots=1).result().data()["density_matrix"])
    return rho.reshape((2,) * 2 * n).transpose(*range(n)[::-1], *range(n, 2 * n)[::-1]).reshape(2**n, 2**n)


def _reversed(state):
    n = len(state).bit_length() - 1
    return np.asarray(state, dtype=complex).reshape((2,) * n).transpose().reshape(-1)


def noise_model_of(channels, n_wires, two_wires):
    """Aer's noise model of these channels, without their readout errors."""
    model = NoiseModel()
    pairs = [(a, b) for a in range(n_wires) for b in range(n_wires) if a != b]
    for name, wires in [(name, (w,)) for name in ("sx", "x") for w in range(n_wires)] + [(two_wires, p) for p in pairs]:
        error = None
        for channel in channels:
            own = _error(channel, name, wires, two_wires)
            if own is not None:
                error = own if error is None else error.compose(own)
        if error is not None:
            model.add_quantum_error(error, name, wires)
    return model


def _error(channel, name, wires, two_wires):
    if isinstance(channel, Depolarizing):
        return depolarizing_error(channel.one_wire if len(wires) == 1 else channel.two_wires, len(wires))
    if isinstance(channel, Damping):
        time = channel.one_wire if len(wires) == 1 else channel.two_wires
        of_wire = thermal_relaxation_error(1e3 * channel.t1, 1e3 * channel.t2, time)
        return of_wire if len(wires) == 1 else of_wire.tensor(of_wire)
    if isinstance(channel, Coherent):
        generator = (
            P["X"] if len(wires) == 1 else np.kron(P["Z"] if name == "cz" else P["X"], P["Z"])
        )  # first qubit last
        values, vectors = np.linalg.eigh(generator)
        return coherent_unitary_error(
            vectors @ np.diag(np.exp(-0.5j * channel.angle(wires) * values)) @ vectors.conj().T
        )
    if isinstance(channel, Device):
        return _device_errors(channel, two_wires)[name]
    return None


@cache
def _device_errors(device, two_wires):
    """By gate, of any wires."""
    return {
        gate: error for gate, _, error in basic_device_gate_errors(target=_target(device, two_wires), temperature=0)
    }


def _target(device, two_wires):
    """A machine of two qubits with the device's numbers, in Qiskit's words."""
    s = device.strength
    qubits = [QubitProperties(t1=1e-6 * device.T1_us / s, t2=1e-6 * device.T2_us / s)] * 2
    target = Target(qubit_properties=qubits, dt=1e-9)
    one = InstructionProperties(1e-9 * device.sx_ns, s * device.sx_error)
    two = InstructionProperties(1e-9 * device.two_wires_ns, s * device.two_wires_error)
    target.add_instruction(SXGate(), {(0,): one, (1,): one})
    target.add_instruction(XGate(), {(0,): one, (1,): one})
    target.add_instruction(RZGate(Parameter("t")), {(w,): InstructionProperties(0.0, 0.0) for w in range(2)})
    target.add_instruction(TWO[two_wires](), {(0, 1): two, (1, 0): two})
    target.add_instruction(Measure(), {(w,): InstructionProperties(1e-6, 0.0) for w in range(2)})
    target.add_instruction(Delay(Parameter("d")), {(w,): None for w in range(2)})
    return target
