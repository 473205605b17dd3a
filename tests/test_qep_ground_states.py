"""Pauli strings against Kronecker products; ground states against scipy and closed forms; gaps that close are seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import eigsh

from qep import Diagonalisation, GroundStateError, PauliHamiltonian, TransverseFieldIsing, couplings
from qep.ground_states import dense_ground_states, krylov_ground_states
from qep.operators import PauliStrings
from qep.response import first_order_response
from qep_reference import ising, ising_matrix, pauli_matrix, spin_problems

STRINGS = st.integers(1, 6).flatmap(
    lambda n: st.lists(st.text("IXYZ", min_size=n, max_size=n), min_size=1, max_size=7, unique=True)
)


def random_states(n_samples: int, dim: int, dtype=torch.complex128) -> torch.Tensor:
    return torch.randn(n_samples, dim, dtype=dtype, generator=torch.Generator().manual_seed(dim))


# strings


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(STRINGS, st.integers(0, 2**31))
def test_sums_of_strings_are_sums_of_kronecker_products(strings, seed):
    pauli = PauliStrings(strings)
    generator = torch.Generator().manual_seed(seed)
    coefficients = torch.randn(3, len(strings), dtype=torch.float64, generator=generator)
    coefficients[:, 0] = 0.5  # shared by the samples, the others not
    matrices = np.stack([pauli_matrix(s) for s in strings])
    expected = torch.from_numpy(np.einsum("bk,kij->bij", coefficients.numpy(), matrices))
    bound = pauli.bind(coefficients)
    assert torch.allclose(bound.dense().to(expected.dtype), expected)
    psi = torch.randn(3, 2, pauli.dim, dtype=torch.complex128, generator=generator)
    assert torch.allclose(bound.apply(psi), (expected.to(psi.dtype) @ psi.mT).mT)
    one, other = psi[:, 0], psi[:, 1]
    found = pauli.sandwich(one, other)
    for k, matrix in enumerate(matrices):
        sandwich = (one.conj() * (other @ torch.from_numpy(matrix).to(psi.dtype).mT)).sum(-1)
        assert torch.allclose(found[:, k], sandwich)


@pytest.mark.parametrize("n", [5, 9, 10])
def test_strings_across_blocks_of_spins(n):
    """Beyond four spins, one string within each block, one across, one block shared and one not."""
    strings = ["".join("X" if j == spin else "I" for j in range(n)) for spin in range(n)]
    strings += ["X" * n, "Y" + "I" * (n - 2) + "Y", "Z" * n]
    coefficients = torch.randn(2, len(strings), dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    coefficients[:, :4] = coefficients[:1, :4]
    matrix = sum(c * pauli_matrix(s) for c, s in zip(coefficients[1].tolist(), strings))
    psi = random_states(2, 2**n, torch.float64).unsqueeze(1)
    found = PauliStrings(strings).bind(coefficients).apply(psi)[1, 0]
    assert np.allclose(found.numpy(), matrix.real @ psi[1, 0].numpy())


@pytest.mark.parametrize("strings", [[], [""], ["XA"], ["XX", "X"], ["XX", "XX"]])
def test_what_are_no_strings_is_refused(strings):
    with pytest.raises(ValueError, match="string"):
        PauliStrings(strings)


@pytest.mark.parametrize("graph, expected", [
    ("all", [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]),
    ("layered", [(0, 2), (0, 3), (1, 2), (1, 3)]), ("chain", [(0, 1), (1, 2), (2, 3)]),
])  # fmt: skip
def test_graphs(graph, expected):
    assert couplings(graph, 4, 2) == expected
    with pytest.raises(ValueError, match="graph"):
        couplings("ring of fire", 4, 2)


# ground states


@pytest.mark.parametrize("graph", ["all", "layered", "chain"])
def test_ising_hamiltonian_is_the_docstrings(graph):
    system = ising(4, graph, 2, seed=1)
    x = torch.tensor([[0.3, -1.2], [2.0, 0.1]], dtype=torch.float64)
    for sample, dense in zip(x, system.pauli.bind(system.coefficients(x).detach()).dense()):
        assert np.allclose(dense.numpy(), ising_matrix(system, couplings(graph, 4, 2), sample))


@pytest.mark.parametrize("n, g", [(8, 0.5), (8, 1.0), (11, 1.0), (16, 1.7)])
def test_open_chain_has_the_energy_of_free_fermions(n, g):
    """The chain's energy is minus the sum of singular values of a bidiagonal matrix, its gap twice the smallest."""
    system = TransverseFieldIsing(n, couplings("chain", n, 1), 0, (), (0,), Diagonalisation("krylov", 1e-12, 1e-9))
    with torch.no_grad():
        system.coupling.fill_(1.0)
        system.transverse.fill_(g)
        system.bias.zero_()
    modes = np.linalg.svd(np.diag([g] * n) + np.diag([1.0] * (n - 1), 1), compute_uv=False)
    found = system.equilibrium(torch.zeros(1, 0, dtype=torch.float64))
    assert found.energy.item() == pytest.approx(-modes.sum(), rel=1e-12)
    assert found.gap.item() == pytest.approx(2 * modes.min(), rel=1e-4)


@pytest.mark.parametrize("n", [6, 8, 9])
def test_krylov_agrees_with_dense(n):
    system = ising(n, "all", 2, seed=n)
    x = torch.randn(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    hamiltonian = system.pauli.bind(system.coefficients(x).detach())
    dense, krylov = dense_ground_states(hamiltonian), krylov_ground_states(hamiltonian, 1e-11)
    assert torch.allclose(dense.energy, krylov.energy, rtol=1e-13)
    assert torch.allclose(dense.gap, krylov.gap, rtol=1e-4)
    assert torch.allclose((dense.psi * krylov.psi).sum(-1).abs(), torch.ones(7, dtype=torch.float64), atol=1e-14)
    assert torch.allclose(system.pauli.expectations(dense.psi), system.pauli.expectations(krylov.psi), atol=1e-8)


def test_krylov_agrees_with_scipy_at_twelve_spins():
    system = ising(12, "layered", 4, seed=3, method="krylov")
    x = torch.randn(2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    hamiltonian = system.pauli.bind(system.coefficients(x).detach())

    class Sample:
        """One sample's operator as scipy wants it."""

        shape, dtype = (2**12, 2**12), np.dtype(float)

        def __init__(self, row: int):
            self.row = row

        def matvec(self, vector: np.ndarray) -> np.ndarray:
            psi = torch.from_numpy(vector.reshape(1, 1, -1).copy()).expand(2, 1, -1)
            return hamiltonian.apply(psi)[self.row, 0].numpy()

    found = system.equilibrium(x)
    for row in range(2):
        energies, states = eigsh(Sample(row), k=2, which="SA", tol=1e-12)
        assert found.energy[row].item() == pytest.approx(energies.min(), rel=1e-12)
        assert found.gap[row].item() == pytest.approx(np.ptp(energies), rel=1e-4)
        assert abs(states[:, energies.argmin()] @ found.state.psi[row].numpy()) == pytest.approx(1, abs=1e-12)


def test_krylov_takes_complex_hamiltonians():
    terms = {"YIIIII": 0.7, "ZZIIII": 0.4, "IIXYZI": -0.8, "IIIIZZ": 0.5, "IXIIII": 0.6, "IIIXII": 0.9, "IIIIIY": 0.5,
             "IIYIII": 0.45, "IIIIXI": 0.77}  # fmt: skip
    system = PauliHamiltonian(terms, ["ZIIIII"])
    hamiltonian = system.pauli.bind(system.all_coefficients(torch.zeros(1, 0, dtype=torch.float64)).detach())
    dense, krylov = dense_ground_states(hamiltonian), krylov_ground_states(hamiltonian, 1e-11)
    assert krylov.energy.item() == pytest.approx(dense.energy.item(), rel=1e-12)
    assert (krylov.psi.conj() * dense.psi).sum().abs().item() == pytest.approx(1, abs=1e-12)


def test_warm_start_finds_a_level_of_another_symmetry():
    """Free and nudged ground states of different parity: the old states do not contain the new one."""
    n = 6
    terms = {"ZZ" + "I" * 4: -1.0, "XX" + "I" * 4: -0.2} | {
        "".join("Z" if j == k else "I" for j in range(n)): -0.5 - 0.1 * k for k in range(2, n)
    }
    system = PauliHamiltonian(terms, ["XX" + "I" * 4, "ZZ" + "I" * 4], diagonalisation=Diagonalisation("krylov", 1e-10))
    x = torch.zeros(1, 0, dtype=torch.float64)
    free = system.equilibrium(x)
    nudge = torch.tensor([[0.0, 3.0]], dtype=torch.float64)
    warm, cold = system.equilibrium(x, nudge, free), system.equilibrium(x, nudge)
    assert warm.energy.item() == pytest.approx(cold.energy.item(), rel=1e-10)
    system.diagonalisation = Diagonalisation("dense")
    assert warm.energy.item() == pytest.approx(system.equilibrium(x, nudge).energy.item(), rel=1e-10)


@pytest.mark.parametrize("method", ["dense", "krylov"])
@pytest.mark.parametrize("coefficient", [0.0, 2.0])
def test_degeneracy_shows_as_no_gap(method, coefficient):
    """A Hamiltonian that is a number: every state is a ground state, and Krylov's space is the start alone."""
    system = PauliHamiltonian({"I" * 6: coefficient}, ["Z" + "I" * 5], diagonalisation=Diagonalisation(method))
    found = system.equilibrium(torch.zeros(2, 0, dtype=torch.float64))
    assert torch.allclose(found.energy, torch.tensor(coefficient).double()) and (found.gap.abs() < 1e-12).all()


@pytest.mark.parametrize("method", ["dense", "krylov"])
def test_two_ferromagnetic_ground_states_show_as_no_gap(method):
    n = 7
    system = TransverseFieldIsing(n, couplings("chain", n, 1), 0, (), (0,), Diagonalisation(method))
    with torch.no_grad():
        system.coupling.fill_(1.0)
        system.transverse.fill_(0.05)
        system.bias.zero_()
    assert system.equilibrium(torch.zeros(1, 0, dtype=torch.float64)).gap.item() < 1e-6


def test_dense_ends_at_twelve_spins_and_settings_are_checked():
    system = PauliHamiltonian({"Z" * 13: 1.0}, ["Z" * 13], diagonalisation=Diagonalisation("dense"))
    with pytest.raises(GroundStateError, match="--solver krylov"):
        system.equilibrium(torch.zeros(1, 0, dtype=torch.float64))
    for wrong in ({"method": "magic"}, {"tol": 0.0}, {"gap_tol": -1.0}):
        with pytest.raises(ValueError):
            Diagonalisation(**wrong)


def test_krylov_that_does_not_converge_says_so(monkeypatch):
    monkeypatch.setattr("qep.ground_states.MAX_RESTARTS", 1)
    system = ising(8, "all", 1, seed=0, method="krylov")
    with pytest.raises(GroundStateError, match="--tol"):
        system.equilibrium(torch.zeros(1, 2, dtype=torch.float64))


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(spin_problems())
def test_both_forms_of_the_first_order_response_agree(problem):
    system, x, _, _ = problem
    free = system.equilibrium(x)
    if free.gap.min() < 0.05:
        return
    hamiltonian = system.pauli.bind(system.all_coefficients(x).detach())
    c_psi = random_states(len(x), system.pauli.dim, free.state.psi.dtype)
    ground = free.state.ground
    by_sum = first_order_response(hamiltonian, ground, c_psi)
    solved = first_order_response(hamiltonian, replace(ground, spectrum=None), c_psi)
    assert torch.allclose(by_sum, solved, atol=1e-6)
    assert (free.state.psi.conj() * by_sum).sum(-1).abs().max() < 1e-12
