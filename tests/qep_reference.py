"""Quantum mechanics built the slow way, for the tests of qep/: Kronecker products, Fock spaces, random systems."""

from functools import reduce
from math import sqrt

import numpy as np
import torch
from hypothesis import strategies as st

from qep import (
    CrossEntropy,
    Diagonalisation,
    LinearObservable,
    PauliHamiltonian,
    SquaredError,
    SquaredSpins,
    TransverseFieldIsing,
    couplings,
)

PAULI = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.array([[1, 0], [0, -1]]),
}
COSTS = ("linear", "squared spins", "squared error", "cross-entropy")


def pauli_matrix(string: str) -> np.ndarray:
    """The string's matrix as a Kronecker product, spin 0 first."""
    return reduce(np.kron, [PAULI[letter] for letter in string])


def ising_matrix(system: TransverseFieldIsing, edges, x: torch.Tensor) -> np.ndarray:
    """The docstring's Hamiltonian of one input, term by term."""
    n = system.n_spins

    def on(spins, letter: str) -> np.ndarray:
        return pauli_matrix("".join(letter if spin in spins else "I" for spin in range(n)))

    field = system.bias.detach().numpy().copy()
    field[system.input_spins.numpy()] += system.input_weights.detach().numpy() @ x.numpy()
    h = sum(-J * on(edge, "Z") for J, edge in zip(system.coupling.tolist(), edges))
    h = h - sum(g * on([j], "X") for j, g in enumerate(system.transverse.tolist()))
    return h - sum(b * on([j], "Z") for j, b in enumerate(field))


def fock_operators(n_modes: int, levels: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Positions and momenta of unit mass and frequency in a truncated Fock space, hbar = 1."""
    lower = np.diag([sqrt(k) for k in range(1, levels)], 1)
    r, p = (lower + lower.T) / sqrt(2), (lower - lower.T) / (1j * sqrt(2))

    def on(mode: int, matrix: np.ndarray) -> np.ndarray:
        return reduce(np.kron, [matrix if m == mode else np.eye(levels) for m in range(n_modes)])

    return [on(m, r) for m in range(n_modes)], [on(m, p) for m in range(n_modes)]


def ising(n: int, graph: str, n_outputs: int, seed: int, n_inputs: int = 2, method: str = "dense", tol: float = 1e-11):
    """A random Ising model with every spin driven, the last n_outputs read."""
    generator = torch.Generator().manual_seed(seed)
    edges = couplings(graph, n, n_outputs)
    return TransverseFieldIsing(n, edges, n_inputs, range(n), range(n - n_outputs, n),
                                Diagonalisation(method, tol), generator=generator, spread=0.5)  # fmt: skip


def samples(n: int, n_inputs: int, n_outputs: int, cost: str, seed: int):
    """Random inputs, and targets and the cost of a kind."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, n_inputs, dtype=torch.float64, generator=generator)
    if cost == "cross-entropy":
        return x, torch.randint(n_outputs, (n,), generator=generator), CrossEntropy(3.0)
    targets = torch.randn(n, n_outputs, dtype=torch.float64, generator=generator)
    kinds = {"linear": LinearObservable, "squared spins": SquaredSpins, "squared error": SquaredError}
    return x, targets, kinds[cost]()


@st.composite
def spin_problems(draw):
    """A spin system, inputs, targets and a cost: sizes, graphs, strings and costs at random."""
    seed = draw(st.integers(0, 2**31))
    cost = draw(st.sampled_from(COSTS))
    n = draw(st.integers(2, 5))
    n_outputs = draw(st.integers(1, n - 1))
    if draw(st.booleans()):
        system = ising(n, draw(st.sampled_from(("all", "layered", "chain"))), n_outputs, seed)
        return system, *samples(3, 2, n_outputs, cost, seed)
    letters = st.text("IXYZ", min_size=n, max_size=n).filter(lambda s: set(s) != {"I"})
    strings = draw(st.lists(letters, min_size=2, max_size=6, unique=True))
    generator = torch.Generator().manual_seed(seed)
    strength = torch.randn(len(strings), dtype=torch.float64, generator=generator).tolist()
    outputs = ["".join("Z" if j == o else "I" for j in range(n)) for o in range(n_outputs)]
    free = [s for s in outputs if s not in strings]
    system = PauliHamiltonian(dict(zip(strings, strength)), outputs, free[:1])
    return system, *samples(3, len(free[:1]), n_outputs, cost, seed)
