"""Shots: which strings share a setting, that means are unbiased and errors honest, and what is left unmeasured."""

import pytest
import torch

from qep import QEP, Diagonalisation, Exact, ExactResponse, OscillatorNetwork, PauliHamiltonian, Shots
from qep_reference import ising, samples

SEED = 20


def seeded(seed: int = SEED) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixed_strings() -> PauliHamiltonian:
    terms = {"XYI": 0.3, "ZZY": 0.5, "IXX": -0.4, "YII": 0.2, "IIZ": 1.1, "IZI": 0.7, "IIX": 0.6}
    return PauliHamiltonian(terms, ["ZII", "IXZ"])


def oscillators() -> OscillatorNetwork:
    return OscillatorNetwork(3, [(0, 1), (1, 2)], 2, [0, 1], [2], generator=seeded(1))


SYSTEMS = {"ising": lambda: ising(4, "all", 2, seed=1), "strings": mixed_strings, "oscillators": oscillators}


def state(system, n_samples: int = 2):
    n_inputs = 0 if isinstance(system, PauliHamiltonian) else 2
    return system.equilibrium(torch.randn(n_samples, n_inputs, dtype=torch.float64, generator=seeded(3))).state


def test_an_ising_model_takes_two_settings():
    system = ising(5, "layered", 2, seed=0)
    assert set(system.bases) == {"ZZZZZ", "XXXXX"}
    assert [system.observables[k] for k in system.bases["XXXXX"]] == ["XIIII", "IXIII", "IIXII", "IIIXI", "IIIIX"]


@pytest.mark.parametrize("name", SYSTEMS)
def test_means_are_unbiased_within_their_standard_error(name):
    """Hundreds of measurements of 50 shots: deviations in units of the stated error have mean 0 and variance 1."""
    system = SYSTEMS[name]()
    found, generator = state(system), seeded()
    n = 600
    measured = [Shots(50).measure(found, generator) for _ in range(n)]
    means = torch.stack([m.means for m in measured])
    errors = torch.stack([m.standard_error for m in measured])
    spread = means.std(0)
    pull = (means.mean(0) - found.expectations) / (spread / n**0.5)
    random = spread > 0
    assert random.float().mean() > 0.9
    assert pull[random].abs().max() < 4.5 and pull[random].square().mean() < 2
    assert torch.allclose(errors.square().mean(0)[random].sqrt(), spread[random], rtol=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_averages_are_as_good_as_their_shots_together(name):
    system = SYSTEMS[name]()
    found, generator = state(system), seeded()
    few, many = (
        torch.stack([how.measure(found, generator).means for _ in range(300)]).std(0)
        for how in (Shots(40), Shots(40, averages=9))
    )
    assert (many[few > 0] / few[few > 0]).median().item() == pytest.approx(1 / 3, rel=0.1)
    stated = Shots(40, averages=9).measure(found, generator).standard_error
    assert (stated[few > 0] / many[few > 0]).median().item() == pytest.approx(1, rel=0.15)


def test_each_basis_has_its_own_budget():
    system = ising(3, "chain", 1, seed=4)
    found, generator = state(system), seeded()
    how = Shots(20, {"XXX": 2000})
    errors = torch.stack([how.measure(found, generator).standard_error for _ in range(50)]).mean((0, 1))
    exact = (1 - found.expectations.square()).mean(0).sqrt()
    x, z = system.bases["XXX"], system.bases["ZZZ"]
    assert torch.allclose(errors[x], exact[x] / 2000**0.5, rtol=0.1)
    assert torch.allclose(errors[z], exact[z] / 20**0.5, rtol=0.15)


def test_what_is_not_wanted_is_not_measured():
    system = ising(3, "chain", 1, seed=4)
    measured = Shots(10).measure(state(system), seeded(), system.output_index)
    assert measured.means[:, system.bases["XXX"]].isnan().all()
    assert not measured.means[:, system.bases["ZZZ"]].isnan().any()


def test_one_shot_measures_commuting_strings_together():
    """In the ground state of -ZZ with a weak field both spins agree in every single shot."""
    system = PauliHamiltonian({"ZZ": -1.0, "ZI": -0.01}, ["IZ"], diagonalisation=Diagonalisation(gap_tol=1e-6))
    measured = Shots(30).measure(state(system), seeded())
    assert torch.equal(measured.means[:, 1], measured.means[:, 2]) and (measured.means[:, 0] == 1).all()


@pytest.mark.parametrize("shots", [3, 2**22 + 3])
def test_many_shots_are_drawn_in_parts(shots):
    system = ising(2, "all", 1, seed=0)
    found = state(system, 1)
    mean, _ = found.sample("ZZ", shots, seeded())
    total = (mean + 1) * shots / 2
    assert torch.allclose(total, total.round(), atol=1e-6)  # no shot is missing
    if shots > 1000:
        assert torch.allclose(mean, found.expectations[:, system.bases["ZZ"]], atol=4 / shots**0.5)


@pytest.mark.parametrize("kind", ["positive", "negative", "centred"])
def test_gradients_from_shots_are_unbiased_for_an_observable(kind):
    """A cost of kind (a): the nudge does not depend on what was measured, so only the shots err."""
    system = ising(3, "all", 1, seed=2)
    x, targets, cost = samples(2, 2, 1, "linear", seed=3)
    expected = QEP(kind, 0.2)(system, x, targets, cost).flat
    estimator, generator = QEP(kind, 0.2, Shots(400)), seeded()
    found = torch.stack([estimator(system, x, targets, cost, generator).flat for _ in range(250)])
    pull = (found.mean(0) - expected) / (found.std(0) / len(found) ** 0.5)
    assert pull.abs().max() < 4 and pull.square().mean() < 2


def test_gradient_error_falls_with_shots():
    system = ising(3, "all", 1, seed=2)
    x, targets, cost = samples(2, 2, 1, "squared error", seed=3)
    exact = ExactResponse()(system, x, targets, cost).flat
    generator = seeded()
    errors = []
    for shots in (100, 10_000):
        estimator = QEP("centred", 0.2, Shots(shots))
        errors.append(torch.stack([estimator(system, x, targets, cost, generator).flat - exact for _ in range(40)]))
    assert errors[0].norm() / errors[1].norm() == pytest.approx(10, rel=0.25)


def test_same_generator_same_shots():
    system = ising(3, "all", 1, seed=2)
    problem = samples(2, 2, 1, "squared error", seed=3)
    one, same, other = (QEP("centred", 0.2, Shots(50))(system, *problem, seeded(s)).flat for s in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_exact_is_the_expectation_value_and_misuse_is_refused():
    system = ising(3, "all", 1, seed=2)
    found = state(system)
    measured = Exact().measure(found, None)
    assert torch.equal(measured.means, found.expectations) and not measured.standard_error.any()
    with pytest.raises(ValueError, match="generator"):
        Shots(10).measure(found, None)
    for wrong in (lambda: Shots(1), lambda: Shots(5, {"XXX": 0}), lambda: Shots(5, averages=0)):
        with pytest.raises(ValueError, match="at least 2 shots"):
            wrong()
