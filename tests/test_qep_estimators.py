"""Gradients: every estimator against oracles that know nothing of nudges, their order in beta, their locality."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings

from qep import (
    QEP,
    AutogradEigh,
    CrossEntropy,
    DegenerateGroundStateError,
    Diagonalisation,
    Exact,
    ExactResponse,
    FiniteDifferences,
    GroundStateError,
    Holomorphic,
    LinearObservable,
    OscillatorNetwork,
    Shots,
    SquaredError,
    SquaredPositions,
    SquaredSpins,
    TransverseFieldIsing,
    couplings,
)
from qep.measurement import Measured
from qep_reference import COSTS, ising, samples, spin_problems

KINDS = ("positive", "negative", "centred")


def oscillators(seed: int) -> OscillatorNetwork:
    generator = torch.Generator().manual_seed(seed)
    masses = 0.5 + torch.rand(4, dtype=torch.float64, generator=generator)
    return OscillatorNetwork(4, [(0, 1), (1, 2), (2, 3), (0, 3)], 3, [0, 1], [2, 3], masses, generator=generator)


def closeness(estimate, reference) -> float:
    scale = reference.flat.abs().max().clamp_min(1e-3)
    return ((estimate.flat - reference.flat).abs().max() / scale).item()


# against the exact gradient


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(spin_problems())
def test_gradients_equal_autograd_through_the_diagonalisation(problem):
    system, x, targets, cost = problem
    free = system.equilibrium(x)
    energies = free.state.ground.spectrum[0]
    # the oracle, not the estimators, breaks where excited states meet
    assume(free.gap.min() > 0.3 and (energies.diff(dim=-1) > 1e-6).all())
    nudge = cost.nudge(system.outputs(free.expectations), targets).abs().sum(-1).max().item()
    assume(nudge > 1e-3)
    oracle = AutogradEigh()(system, x, targets, cost)
    assert closeness(ExactResponse()(system, x, targets, cost), oracle) < 1e-9
    # beta small against gap over nudge
    weak = 1e-2 * free.gap.min().item() / nudge
    assert closeness(Holomorphic(weak * 4, 8)(system, x, targets, cost), oracle) < 1e-6
    assert closeness(QEP("centred", weak * 1e-2)(system, x, targets, cost), oracle) < 1e-6
    positive, negative, centred = (
        QEP(kind, weak * 1e-3)(system, x, targets, cost) for kind in ("positive", "negative", "centred")
    )
    # their errors of first order are opposite, and vanish with beta (see the test of orders)
    assert max(closeness(positive, oracle), closeness(negative, oracle)) < 1e-2
    halfway = {name: (g + negative.gradients[name]) / 2 for name, g in positive.gradients.items()}
    assert closeness(replace(centred, gradients=halfway), centred) < 1e-7


@pytest.mark.parametrize("cost", COSTS)
def test_autograd_equals_finite_differences(cost):
    system = ising(4, "layered", 2, seed=5)
    problem = samples(3, 2, 2, cost, seed=6)
    oracle = AutogradEigh()(system, *problem)
    differences = FiniteDifferences(1e-5)(system, *problem)
    assert closeness(differences, oracle) < 1e-7
    assert torch.allclose(differences.cost, oracle.cost) and torch.allclose(differences.outputs, oracle.outputs)


@pytest.mark.parametrize("cost", [SquaredError(), SquaredPositions()], ids=["means", "observable"])
def test_oscillator_gradients_equal_autograd(cost):
    system = oscillators(3)
    x, targets, _ = samples(5, 3, 2, "squared error", seed=4)
    oracle = AutogradEigh()(system, x, targets, cost)
    assert closeness(FiniteDifferences(1e-5)(system, x, targets, cost), oracle) < 1e-8
    assert closeness(ExactResponse()(system, x, targets, cost), oracle) < 1e-12
    assert closeness(Holomorphic(0.05, 8)(system, x, targets, cost), oracle) < 1e-9
    assert closeness(QEP("centred", 1e-4)(system, x, targets, cost), oracle) < 1e-7


@pytest.mark.parametrize("cost", ["cross-entropy", "squared error"])
def test_krylov_gradients_equal_dense_ones(cost):
    problem = samples(6, 2, 3, cost, seed=1)
    dense, krylov = (ising(8, "all", 3, seed=2, method=method) for method in ("dense", "krylov"))
    exact = ExactResponse()(dense, *problem)
    assert closeness(ExactResponse()(krylov, *problem), exact) < 1e-7
    one, other = (QEP("centred", 0.02)(system, *problem) for system in (dense, krylov))
    assert closeness(one, other) < 1e-7
    assert torch.allclose(one.gap, other.gap, rtol=1e-3)


@pytest.mark.parametrize("cost", [CrossEntropy(2.5), SquaredError(), SquaredSpins(), LinearObservable()])
def test_nudges_are_derivatives_of_costs(cost):
    outputs = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 2, 1, 1]) if isinstance(cost, CrossEntropy) else torch.randn(4, 3).double()
    (gradient,) = torch.autograd.grad(cost.value(outputs, targets).sum(), outputs)
    assert torch.allclose(cost.nudge(outputs.detach(), targets), gradient)


def test_squared_spins_is_the_observable_of_the_docstring():
    """<(Z - y)^2> summed over the spectrum of Z, whose probabilities are (1 +- <Z>) / 2."""
    outputs, y = torch.tensor([[0.2, -0.7]]), torch.tensor([[1.0, -0.5]])
    expected = (((1 - y) ** 2 * (1 + outputs) + (-1 - y) ** 2 * (1 - outputs)) / 2).sum(-1)
    assert torch.allclose(SquaredSpins().value(outputs, y), expected)


# order in beta


def slope(errors: list[float], betas: list[float]) -> float:
    return float(np.polyfit(np.log(betas), np.log(errors), 1)[0])


@pytest.mark.parametrize("kind, order", [("positive", 1), ("negative", 1), ("centred", 2)])
@pytest.mark.parametrize("system", [ising(4, "all", 2, seed=8), oscillators(2)], ids=["spins", "oscillators"])
def test_error_order_of_two_equilibria(kind, order, system):
    x, targets, _ = samples(3, system.input_weights.shape[1], 2, "squared error", seed=9)
    cost = SquaredError() if hasattr(system, "pauli") else SquaredPositions()
    exact = ExactResponse()(system, x, targets, cost)
    betas = [1e-3, 2e-3, 4e-3, 8e-3]
    errors = [closeness(QEP(kind, beta)(system, x, targets, cost), exact) for beta in betas]
    assert slope(errors, betas) == pytest.approx(order, abs=0.05)


@pytest.mark.parametrize("points", [2, 4, 6])
def test_error_order_of_the_holomorphic_estimator(points):
    system = ising(4, "all", 2, seed=8)
    problem = samples(3, 2, 2, "squared error", seed=9)
    exact = ExactResponse()(system, *problem)
    betas = [0.02, 0.03, 0.045]
    errors = [closeness(Holomorphic(beta, points)(system, *problem), exact) for beta in betas]
    assert slope(errors, betas) == pytest.approx(points, abs=0.3)


# locality


class Disturbed(Exact):
    """Adds a number to one observable wherever it is measured after the free equilibrium."""

    def __init__(self, which: int):
        self.which = which
        self.calls = 0

    def measure(self, state, generator=None, wanted=None):
        measured = super().measure(state, generator, wanted)
        means = measured.means.clone()
        self.calls += 1
        if self.calls > 1:
            means[:, self.which] += 0.37 * self.calls
        return Measured(means, measured.standard_error)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("system", [ising(4, "all", 2, seed=1), oscillators(1)], ids=["spins", "oscillators"])
def test_an_update_needs_its_own_observable_only(kind, system):
    x, targets, cost = samples(3, system.input_weights.shape[1], 2, "squared error", seed=2)
    honest = QEP(kind, 0.05)(system, x, targets, cost).gradients
    seen = {}
    for which, observable in enumerate(system.observables):
        disturbed = QEP(kind, 0.05, Disturbed(which))(system, x, targets, cost).gradients
        for name, gradient in disturbed.items():
            changed = (gradient != honest[name]).reshape(len(gradient), -1)
            for row in changed.any(1).nonzero().flatten().tolist():
                seen.setdefault((name, row), []).append(observable)
    declared = system.local_observables()
    assert {name: len(observables) for name, observables in declared.items()} == {
        name: len(parameter) for name, parameter in system.named_parameters()
    }
    assert seen == {(name, row): [own] for name, observables in declared.items() for row, own in enumerate(observables)}


# degenerate ground states


def ferromagnet(method: str = "dense") -> TransverseFieldIsing:
    """Seven spins whose two ground states only the input tells apart; no two excited states have the same energy."""
    system = TransverseFieldIsing(7, couplings("chain", 7, 1), 1, range(7), (6,), Diagonalisation(method))
    with torch.no_grad():
        system.coupling.copy_(torch.linspace(1.0, 1.2, 6))
        system.transverse.copy_(torch.linspace(0.05, 0.06, 7))
        system.bias.zero_()
        system.input_weights.fill_(1.0)
    return system


ESTIMATORS = {"QEP": QEP, "response": ExactResponse, "holomorphic": Holomorphic, "autograd": AutogradEigh,
              "differences": FiniteDifferences}  # fmt: skip


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_degenerate_ground_states_are_refused(estimator):
    x = torch.tensor([[0.5], [0.0], [-0.5]], dtype=torch.float64)
    targets = torch.ones(3, 1, dtype=torch.float64)
    with pytest.raises(DegenerateGroundStateError, match=r"1 of 3 samples .*--on_degenerate skip"):
        ESTIMATORS[estimator]()(ferromagnet(), x, targets, SquaredError())


SKIPPING = {
    **{kind: lambda on, kind=kind: QEP(kind, on_degenerate=on) for kind in KINDS},
    "shots": lambda on: QEP("centred", 0.3, Shots(50), on),
    "response": lambda on: ExactResponse(on_degenerate=on),
    "holomorphic": lambda on: Holomorphic(on_degenerate=on),
    "autograd": lambda on: AutogradEigh(on),
}


@pytest.mark.parametrize("estimator", SKIPPING)
def test_degenerate_samples_are_left_out_and_counted(estimator):
    """The gradient, its cost and its outputs are those of the other samples alone."""
    x = torch.tensor([[0.5], [0.0], [-0.5]], dtype=torch.float64)
    targets = torch.tensor([[1.0], [0.3], [0.5]], dtype=torch.float64)
    make, system = SKIPPING[estimator], ferromagnet()
    skipping = make("skip")(system, x, targets, SquaredError(), torch.Generator().manual_seed(1))
    alone = make("error")(system, x[::2], targets[::2], SquaredError(), torch.Generator().manual_seed(1))
    assert skipping.skipped == 1 and alone.skipped == 0
    assert closeness(skipping, alone) < 1e-10
    for name in ("cost", "outputs", "gap", "targets"):
        assert torch.allclose(getattr(skipping, name), getattr(alone, name), rtol=1e-10, atol=1e-10)
    nothing = make("skip")(system, x[1:2], targets[1:2], SquaredError(), torch.Generator())
    assert nothing.skipped == 1 and not nothing.flat.any()
    assert len(nothing.cost) == len(nothing.gap) == 0 and nothing.outputs.shape == (0, 1)


def test_autograd_refuses_excited_states_of_one_energy():
    """Two free spins: |01> and |10> have the same energy to the last bit, and the derivative of `eigh` is 0/0."""
    system = TransverseFieldIsing(2, couplings("chain", 2, 1), 1, range(2), (1,), Diagonalisation("dense"))
    with torch.no_grad():
        for parameter in system.parameters():
            parameter.zero_()
        system.bias.fill_(1.0)
    x, targets = torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    with pytest.raises(GroundStateError, match="two excited states have the same energy"):
        AutogradEigh()(system, x, targets, SquaredError())


@pytest.mark.parametrize("estimator", ["centred", "response"])
def test_degenerate_samples_are_left_out_with_krylov(estimator):
    x = torch.tensor([[0.5], [0.0], [-0.5]], dtype=torch.float64)
    targets = torch.ones(3, 1, dtype=torch.float64)
    make, system = SKIPPING[estimator], ferromagnet("krylov")
    skipping = make("skip")(system, x, targets, SquaredError())
    alone = make("error")(system, x[::2], targets[::2], SquaredError())
    assert skipping.skipped == 1 and torch.allclose(skipping.flat, alone.flat, atol=1e-8)


def test_the_free_system_is_solved_once_though_samples_are_left_out(monkeypatch):
    system, solved = ferromagnet(), []
    solve = system.equilibrium

    def counting(x, nudge=None, start=None):
        solved.append((len(x), nudge is None))
        return solve(x, nudge, start)

    monkeypatch.setattr(system, "equilibrium", counting)
    x = torch.tensor([[0.5], [0.0], [-0.5]], dtype=torch.float64)
    QEP("centred", on_degenerate="skip")(system, x, torch.ones(3, 1, dtype=torch.float64), SquaredError())
    assert solved == [(3, True), (2, False), (2, False)]


def test_a_nudge_that_closes_the_gap_is_seen():
    """The free ground state points up alone; the nudge pulls it down until up and down meet."""
    system = ferromagnet()
    x = torch.tensor([[0.1]], dtype=torch.float64)
    target = torch.tensor([[1.0]], dtype=torch.float64)  # C = Z_6
    up = system.equilibrium(x).expectations[:, system.output_index].item()
    assert up > 0.9
    # seven spins in a field of 0.1 gain 0.7 by pointing up; 0.7 Z_6 takes it back
    balance = min(torch.linspace(0.66, 0.74, 801).tolist(),
                  key=lambda beta: system.equilibrium(x, beta * target).gap.item())  # fmt: skip
    with pytest.raises(DegenerateGroundStateError, match="lower --beta"):
        QEP("positive", balance)(system, x, target, LinearObservable())
    skipped = QEP("positive", balance, on_degenerate="skip")(system, x, target, LinearObservable())
    assert skipped.skipped == 1 and not skipped.flat.any()


def test_what_cannot_work_is_refused():
    for make in (lambda: QEP("sideways"), lambda: QEP(beta=0.0), lambda: QEP(on_degenerate="ignore"),
                 lambda: Holomorphic(beta=-1.0), lambda: Holomorphic(points=1),
                 lambda: FiniteDifferences(0.0)):  # fmt: skip
        with pytest.raises(ValueError):
            make()
