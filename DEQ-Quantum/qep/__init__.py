"""Quantum equilibrium propagation (Scellier, arXiv 2406.00879): gradients of a ground state, from two of them.

A system (`hamiltonians.py`, `oscillators.py`) settles in its ground state (`states.py`: what can be asked of it); a
cost (`costs.py`) nudges it; an estimator (`estimators.py`) takes the gradient from the observables' responses, measured
exactly or in shots (`measurement.py`); `oracles.py` has gradients to compare with. `learning/` trains systems on tasks.
"""

from importlib import import_module

_HOME = {
    "costs": ("Cost", "CrossEntropy", "LinearObservable", "SquaredError", "SquaredPositions", "SquaredSpins"),
    "estimators": ("QEP", "Batch", "ExactResponse", "GradientEstimate", "GradientEstimator", "Holomorphic"),
    "ground_states": ("DegenerateGroundStateError", "Diagonalisation", "GroundStateError"),
    "hamiltonians": ("PauliHamiltonian", "SpinSystem", "TransverseFieldIsing", "couplings"),
    "measurement": ("Exact", "Measurement", "Shots"),
    "oracles": ("AutogradEigh", "FiniteDifferences"),
    "oscillators": ("OscillatorNetwork",),
    "states": ("State",),
    "system": ("Equilibrium", "QuantumSystem"),
}
_MODULES = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str):
    # on demand: the command line imports qep.settings, and --help does not wait for torch
    if name not in _MODULES:
        raise AttributeError(f"module 'qep' has no attribute {name!r}")
    return getattr(import_module(f"qep.{_MODULES[name]}"), name)
