"""What solved systems answer: picked samples as if solved alone, and states that are no dense vectors serve as well."""

import re
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from qep import (
    QEP,
    DegenerateGroundStateError,
    Equilibrium,
    Exact,
    OscillatorNetwork,
    PauliHamiltonian,
    QuantumSystem,
    Shots,
    SquaredError,
    State,
)
from qep.degeneracy import DegeneracyCheck
from qep_reference import ising, samples


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


SYSTEMS = {
    "dense": lambda: ising(4, "all", 2, seed=1),
    "krylov": lambda: ising(6, "all", 2, seed=1, method="krylov"),
    "oscillators": lambda: OscillatorNetwork(3, [(0, 1), (1, 2)], 2, [0, 1], [2], generator=seeded(1)),
}


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("chosen", [torch.tensor([True, False, True, False, True]), torch.tensor([4, 0])])
def test_picked_samples_are_those_solved_alone(name, chosen):
    system = SYSTEMS[name]()
    x = torch.randn(5, 2, dtype=torch.float64, generator=seeded(2))
    picked, alone = system.equilibrium(x)[chosen], system.equilibrium(x[chosen])
    assert torch.equal(picked.x, x[chosen])
    for value in ("energy", "expectations"):
        assert torch.allclose(getattr(picked, value), getattr(alone, value), atol=1e-9)
    assert torch.allclose(picked.gap, alone.gap, rtol=1e-4)  # Krylov's excited state is a rough one
    nudge = torch.randn(len(alone.x), len(system.output_index), dtype=torch.float64, generator=seeded(3))
    assert torch.allclose(system.response(picked, nudge), system.response(alone, nudge), atol=1e-7)
    for basis, members in system.bases.items():
        found, expected = (e.state.sample(basis, 20, seeded(4)) for e in (picked, alone))
        assert found[0].shape == (len(alone.x), len(members))
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, expected))


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_state_measures_every_observable_in_one_setting(name):
    system = SYSTEMS[name]()
    state = system.equilibrium(torch.zeros(1, 2, dtype=torch.float64)).state
    members = torch.cat(list(state.bases.values())).tolist()
    assert sorted(members) == list(range(len(system.observables)))


# a state that is no dense vector


@dataclass(frozen=True)
class ProductState(State):
    """Spins that do not interact, by their Bloch vectors (B, n, 2) in the x-z plane; observables: every X, every Z."""

    bloch: Tensor
    energy: Tensor
    gap: Tensor
    gap_tol: float = 1e-3

    @property
    def bases(self) -> dict[str, Tensor]:
        n = self.bloch.shape[1]
        return {"X": torch.arange(n), "Z": torch.arange(n, 2 * n)}

    @property
    def expectations(self) -> Tensor:
        return self.bloch.mT.flatten(1)

    def sample(self, basis: str, shots: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        up = (1 + self.expectations[:, self.bases[basis]]) / 2
        signs = 2 * torch.bernoulli(up.expand(shots, *up.shape), generator=generator) - 1
        return signs.mean(0), signs.var(0)

    def __getitem__(self, chosen: Tensor) -> "ProductState":
        return ProductState(self.bloch[chosen], self.energy[chosen], self.gap[chosen], self.gap_tol)


class FreeSpins(QuantumSystem):
    """H = sum_j g_j X_j + (h_j + x_j) Z_j with outputs Z_j, solved spin by spin."""

    def __init__(self, g: Tensor, h: Tensor):
        super().__init__()
        n = len(g)
        self.strength = nn.Parameter(torch.cat([g, h]))
        self.observables = [f"X{j}" for j in range(n)] + [f"Z{j}" for j in range(n)]
        self.output_index = torch.arange(n, 2 * n)
        self.gap_tol = 1e-3

    @torch.no_grad()
    def equilibrium(self, x: Tensor, nudge: Tensor | None = None, start: Equilibrium | None = None) -> Equilibrium:
        g, h = self.strength.chunk(2)
        field = torch.stack([g.expand_as(x), h + x + (0 if nudge is None else nudge)], -1)
        length = field.norm(dim=-1)
        return Equilibrium(x, ProductState(-field / length[..., None], -length.sum(-1), 2 * length.amin(-1)))

    def local_observables(self) -> dict[str, list[str]]:
        return {"strength": self.observables}

    def local_gradient(self, derivatives: Tensor, x: Tensor) -> dict[str, Tensor]:
        return {"strength": derivatives.mean(0)}

    def response(self, free: Equilibrium, nudge: Tensor) -> Tensor:
        raise AssertionError("QEP with two equilibria asks for no response")

    continued_expectations = response

    def differentiable_expectations(self, x: Tensor) -> Tensor:
        raise AssertionError("QEP with two equilibria asks for no derivative")


def free_spins() -> tuple[FreeSpins, PauliHamiltonian, Tensor, Tensor]:
    """Two free spins, the same as Pauli strings on dense vectors, inputs and targets."""
    g, h = torch.tensor([0.8, -0.6]).double(), torch.tensor([0.3, -0.2]).double()
    terms = dict(zip(("XI", "IX", "ZI", "IZ"), torch.cat([g, h]).tolist()))
    x = torch.tensor([[0.4, -0.9], [-0.5, 0.6]], dtype=torch.float64)
    return FreeSpins(g, h), PauliHamiltonian(terms, ["ZI", "IZ"]), x, torch.full_like(x, 0.2)


@pytest.mark.parametrize("kind", ["positive", "centred"])
def test_an_estimator_takes_a_state_that_is_no_dense_vector(kind):
    system, dense, x, targets = free_spins()
    found = QEP(kind, 0.1)(system, x[:1], targets[:1], SquaredError())
    with torch.no_grad():  # a PauliHamiltonian takes inputs through strings of their own: here they are in the fields
        dense.strength[2:] += x[0]
    expected = QEP(kind, 0.1)(dense, x[:1, :0], targets[:1], SquaredError())
    assert torch.allclose(found.gradients["strength"], expected.gradients["strength"], atol=1e-12)
    assert torch.allclose(found.gap, expected.gap) and torch.allclose(found.outputs, expected.outputs)


def test_measurements_take_a_state_that_is_no_dense_vector():
    system, _, x, targets = free_spins()
    state = system.equilibrium(x).state
    exact, shots = Exact().measure(state), Shots(20_000).measure(state, seeded(5))
    pull = (shots.means - exact.means) / shots.standard_error
    assert pull.abs().max() < 4
    only = Shots(10).measure(state, seeded(5), system.output_index)
    assert only.means[:, :2].isnan().all() and not only.means[:, 2:].isnan().any()
    rough = QEP("centred", 0.5, Shots(200_000))(system, x, targets, SquaredError(), seeded(6))
    assert torch.allclose(rough.flat, QEP("centred", 0.5)(system, x, targets, SquaredError()).flat, atol=0.02)


# which states are usable


def test_a_sample_is_usable_if_all_its_states_are():
    system = ising(3, "chain", 1, seed=0)
    x, _, _ = samples(3, 2, 1, "squared error", seed=1)
    state = system.equilibrium(x).state
    low, high = state.gap.sort().values[:2].tolist()
    strict = replace(state, gap_tol=(low + high) / 2)
    assert state.usable.all() and (~strict.usable).nonzero().item() == state.gap.argmin()
    assert DegeneracyCheck("skip")(state, strict).equal(strict.usable)
    assert DegeneracyCheck("error")(state, state).all()
    with pytest.raises(DegenerateGroundStateError, match="1 of 3 samples .* " + re.escape(f"{low:.1e}, below")):
        DegeneracyCheck("error")(strict, state)


@pytest.mark.parametrize("shape", [(1, 0), (1, 2), (1,)])
def test_inputs_of_another_number_are_refused(shape):
    """A second column would else be the coefficient of the output, which is no term."""
    system = PauliHamiltonian({"XI": -1.0, "IX": -1.0, "ZZ": -0.5}, ["IZ"], inputs=["ZI"])
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1\) for 1 inputs, got"):
        system.equilibrium(torch.ones(shape, dtype=torch.float64))
