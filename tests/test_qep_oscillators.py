"""The oscillator network's closed forms against a truncated Fock space, and where it has no ground state."""

import numpy as np
import pytest
import torch

from qep import QEP, GroundStateError, OscillatorNetwork, SquaredPositions
from qep_reference import fock_operators

LEVELS = 26
EDGES = [(0, 1)]


def network() -> OscillatorNetwork:
    """Two oscillators near the basis' own mass, frequency and origin, so that the truncated space holds them."""
    masses = torch.tensor([1.0, 1.4], dtype=torch.float64)
    system = OscillatorNetwork(2, EDGES, 2, [0, 1], [1], masses)
    with torch.no_grad():
        system.stiffness.copy_(torch.tensor([0.8, 1.3]))
        system.spring.fill_(0.4)
        system.bias.copy_(torch.tensor([0.3, -0.5]))
        system.input_weights.copy_(torch.tensor([[0.2, 0.1], [-0.3, 0.4]]))
    return system


INPUT = torch.tensor([[0.7, -0.2]], dtype=torch.float64)


class Fock:
    """The docstring's Hamiltonian in a truncated Fock space, term by term."""

    def __init__(self, system: OscillatorNetwork, nudge=(0.0, 0.0)):
        (self.r0, self.r1), (p0, p1) = fock_operators(2, LEVELS)
        m0, m1 = (system.inverse_root_mass**-2).tolist()
        kappa, (spring,) = system.stiffness.tolist(), system.spring.tolist()
        b = (system.bias + system.input_weights @ INPUT[0]).tolist()
        difference = self.r0 - self.r1
        hamiltonian = (
            p0 @ p0 / (2 * m0) + p1 @ p1 / (2 * m1) + 0.5 * spring * difference @ difference
            + 0.5 * (kappa[0] * self.r0 @ self.r0 + kappa[1] * self.r1 @ self.r1) - b[0] * self.r0 - b[1] * self.r1
            + nudge[0] * self.r1 + nudge[1] * self.r1 @ self.r1
        )  # fmt: skip
        self.energies, states = np.linalg.eigh(hamiltonian.real)
        self.psi = states[:, 0]
        squares = [self.r0 @ self.r0, self.r1 @ self.r1, difference @ difference]
        self.expectations = [self.psi @ o @ self.psi for o in (self.r0, self.r1, *squares)]


def test_ground_state_equals_the_truncated_fock_spaces():
    system = network()
    found, fock = system.equilibrium(INPUT), Fock(system)
    assert found.energy.item() == pytest.approx(fock.energies[0], abs=1e-8)
    assert found.gap.item() == pytest.approx(fock.energies[1] - fock.energies[0], abs=1e-6)
    assert system.observables == ["r0", "r1", "r0^2", "r1^2", "(r0-r1)^2"]
    assert np.allclose(found.expectations[0].numpy(), fock.expectations, atol=1e-7)
    r = [fock.r0, fock.r1]
    second = np.array([[fock.psi @ r[j] @ r[k] @ fock.psi for k in range(2)] for j in range(2)])
    mean = np.array(fock.expectations[:2])
    assert np.allclose(found.state.covariance[0].numpy(), second - np.outer(mean, mean), atol=1e-7)


@pytest.mark.parametrize("nudge", [(0.2, 0.0), (0.0, 0.3), (-0.4, 0.15)])
def test_nudged_ground_state_equals_the_truncated_fock_spaces(nudge):
    system = network()
    found = system.equilibrium(INPUT, torch.tensor([nudge], dtype=torch.float64))
    fock = Fock(system, nudge)
    assert found.energy.item() == pytest.approx(fock.energies[0], abs=1e-7)
    assert np.allclose(found.expectations[0].numpy(), fock.expectations, atol=1e-6)


def test_response_equals_differences_in_the_fock_space():
    system = network()
    nudge, step = np.array([0.6, 0.25]), 1e-3
    above, below = (np.array(Fock(system, s * step * nudge).expectations) for s in (1, -1))
    found = system.response(system.equilibrium(INPUT), torch.from_numpy(nudge).unsqueeze(0))
    assert np.allclose(found[0].numpy(), (above - below) / (2 * step), atol=1e-5)


def test_means_and_covariance_by_hand():
    """One oscillator: mean b / kappa, variance 1 / (2 sqrt(m kappa)), gap sqrt(kappa / m)."""
    system = OscillatorNetwork(1, [], 0, [], [0], torch.tensor([2.0]))
    with torch.no_grad():
        system.stiffness.fill_(8.0)
        system.bias.fill_(4.0)
    found = system.equilibrium(torch.zeros(1, 0, dtype=torch.float64))
    assert found.expectations[0].tolist() == pytest.approx([0.5, 0.25 + 1 / 8])
    assert found.gap.item() == pytest.approx(2.0) and found.energy.item() == pytest.approx(1.0 - 1.0)


def test_a_network_without_ground_state_is_refused():
    system = network()
    with pytest.raises(GroundStateError, match="lower --lr or --beta"):
        system.equilibrium(INPUT, torch.tensor([[0.0, -5.0]], dtype=torch.float64))
    with pytest.raises(GroundStateError):
        QEP("negative", 6.0)(system, INPUT, torch.zeros(1, 1, dtype=torch.float64), SquaredPositions())


def test_constraint_restores_a_ground_state():
    system = network()
    with torch.no_grad():
        system.stiffness.copy_(torch.tensor([-1.0, 0.75]))
        system.spring.fill_(-3.0)
    system.constrain()
    assert system.stiffness.tolist() == [1e-3, 0.75] and system.spring.tolist() == [0.0]
    assert system.equilibrium(INPUT).gap.item() > 0
