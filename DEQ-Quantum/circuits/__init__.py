"""Circuits as data: operations, encodings, ansätze, readouts, and the Pauli strings they are read in.

    circuit = build_circuit(10)                        # the paper's, amplitude encoding
    Circuit(AmplitudeEncoding(4, 16), from_gates(4, [("ry", (0,)), ("cnot", (0, 1))]), z_on(4, range(4)))

Nothing here simulates; numpy draws the random operations, no other library is needed.
"""

from circuits.ansatz import Ansatz, from_gates, paper_ansatz
from circuits.circuit import Circuit, build_circuit
from circuits.encodings import (
    AmplitudeEncoding,
    AngleEncoding,
    ComplexAmplitudeEncoding,
    FRQIEncoding,
    StateEncoding,
    rotation_layers,
)
from circuits.operations import GATES, Gate, Operation
from circuits.readout import PauliReadout, ProbabilityReadout, z_on

__all__ = [
    "GATES",
    "AmplitudeEncoding",
    "AngleEncoding",
    "Ansatz",
    "Circuit",
    "ComplexAmplitudeEncoding",
    "FRQIEncoding",
    "Gate",
    "Operation",
    "PauliReadout",
    "ProbabilityReadout",
    "StateEncoding",
    "build_circuit",
    "from_gates",
    "paper_ansatz",
    "rotation_layers",
    "z_on",
]
