"""Quantum equilibrium propagation (Scellier, arXiv 2406.00879): gradients of a ground state, read off two of them.

A system (`hamiltonians.py`, `oscillators.py`) settles in its ground state; a cost (`costs.py`) nudges it; an
estimator (`estimators.py`) reads the gradient off the observables' answers, measured exactly or in shots
(`measurement.py`); `oracles.py` has gradients to compare with. `learning/` trains systems on tasks.
"""

from qep.costs import Cost, CrossEntropy, LinearObservable, SquaredError, SquaredPositions, SquaredSpins
from qep.estimators import QEP, ExactResponse, GradientEstimate, GradientEstimator, Holomorphic
from qep.ground_states import DegenerateGroundStateError, Diagonalisation, GroundStateError
from qep.hamiltonians import PauliHamiltonian, SpinSystem, TransverseFieldIsing, couplings
from qep.measurement import Exact, Measurement, Shots
from qep.oracles import AutogradEigh, FiniteDifferences
from qep.oscillators import OscillatorNetwork
from qep.system import Equilibrium, QuantumSystem

__all__ = [
    "QEP",
    "AutogradEigh",
    "Cost",
    "CrossEntropy",
    "DegenerateGroundStateError",
    "Diagonalisation",
    "Equilibrium",
    "Exact",
    "ExactResponse",
    "FiniteDifferences",
    "GradientEstimate",
    "GradientEstimator",
    "GroundStateError",
    "Holomorphic",
    "LinearObservable",
    "Measurement",
    "OscillatorNetwork",
    "PauliHamiltonian",
    "QuantumSystem",
    "Shots",
    "SpinSystem",
    "SquaredError",
    "SquaredPositions",
    "SquaredSpins",
    "TransverseFieldIsing",
    "couplings",
]
