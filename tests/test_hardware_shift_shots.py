"""Measured gradients with shots: unbiased where they can be, a bias that falls as 1 / shots where not, and streams."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from circuits.ansatz import from_gates
from circuits.circuit import Circuit
from circuits.encodings import AmplitudeEncoding, rotation_layers
from circuits.readout import z_on
from deq import SolverSettings
from hardware.cost import Counter
from hardware.engine import NoisyEngine
from hardware.noise import parse_noise
from hardware.shift_engine import ShiftEngine
from hardware.shots import ShotEngine
from models.depth import Equilibrium, Stack
from models.qdeq_model import QDEQModel
from models.quantum_layer import QuantumLayer

NOISE = parse_noise("depolarizing:1e-2,readout:0.02,0.06")
GATES = [("ry", (0,)), ("crx", (0, 1)), ("rz", (1,)), ("ry", (1,)), ("cnot", (1, 0)), ("rx", (0,)), ("ry", (1,))]
IMPLICIT = Equilibrium(SolverSettings("fixed_point", 6, 0), SolverSettings("exact"))


def problem(batch, encoding=AmplitudeEncoding(2, 4)):
    """The same sample so many times: as many independent draws."""
    torch.manual_seed(0)
    circuit = Circuit(encoding, from_gates(2, GATES), z_on(2, (0, 1)))
    theta = torch.tensor([0.9, -1.4, -0.8, -1.1, -1.4, 2.1], dtype=torch.float64)
    model = QDEQModel(QuantumLayer(circuit, theta=theta), 2, 0.0).double()
    with torch.no_grad():
        model.head.weight.mul_(2)
    return model, torch.tensor([[0.9, -0.5, 0.7, 1.2]], dtype=torch.float64).repeat(batch, 1)


def h_of(model, x, shots, seed=0):
    model.layer.engine = ShiftEngine(ShotEngine(model.layer.circuit, shots, NOISE, seed=seed))
    return model.layer.bind(x).reduced()


def far(draws, exact):
    """The largest distance of the mean of draws (N, ...) from the exact value, in its standard errors."""
    return float(((draws.mean(0) - exact).abs() / (draws.std(0) / len(draws) ** 0.5)).max())


def exact_h(model, x):
    model.layer.engine = NoisyEngine(model.layer.circuit, NOISE)
    return model.layer.bind(x[:1]).reduced()


@pytest.mark.parametrize("encoding", (AmplitudeEncoding(2, 4), rotation_layers(2, 2)), ids=("amplitude", "angle"))
def test_slopes_are_unbiased(encoding):
    """Of a linear functional of one layer's readouts in the parameters, and of readouts in what f feeds back."""
    model, x = problem(400, encoding)
    r = torch.tensor([[0.3, -0.4]], dtype=torch.float64)
    exact, weights = exact_h(model, x), torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    wanted = torch.autograd.grad(exact(r), model.layer.theta, weights)[0]
    wanted_jacobian = torch.autograd.functional.jacobian(exact, r)[0, :, 0]
    h = h_of(model, x, 8)
    r, weights = r.expand(400, -1), weights.expand(400, -1)
    assert far(h.slopes(r, weights), wanted) < 5
    assert far(h.measured_jacobian(r), wanted_jacobian) < 5


def product_of_factors(h, r):
    """Slopes of |h(r)|^2 / 2, which multiply readouts by their slopes."""
    with torch.no_grad():
        return h.slopes(r, h(r))


def drawn_by_inversion(probabilities, shots, generator):
    """Counts from one uniform number a shot, so that the same numbers give nearly the same shots of circuits alike."""
    uniform = torch.rand(len(probabilities), shots, generator=generator, dtype=torch.float64)
    outcomes = torch.searchsorted(probabilities.cumsum(1), uniform * probabilities.sum(1, keepdim=True))
    return torch.nn.functional.one_hot(outcomes, probabilities.shape[1]).sum(1).double()


@pytest.mark.parametrize("shared", (False, True))
def test_factors_that_are_multiplied_have_shots_of_their_own(shared, monkeypatch):
    """An estimator whose calls share their shots is found out."""
    model, x = problem(400)
    r = torch.zeros(400, 2, dtype=torch.float64)
    wanted = torch.autograd.grad(exact_h(model, x)(r[:1]).square().sum() / 2, model.layer.theta)[0]
    h = h_of(model, x, 2)
    if shared:
        read = h.chip.read

        def from_first_call(*arguments):
            h.chip.calls = 0
            return read(*arguments)

        monkeypatch.setattr(h.chip, "read", from_first_call)
        monkeypatch.setattr("hardware.shots.draw_counts", drawn_by_inversion)
    distance = far(product_of_factors(h, r), wanted)
    assert distance > 5 if shared else distance < 5


def bias(depth, shots, n_steps=8):
    """Of the gradient in theta, (n_parameters,), and its standard error; of independent draws in a batch."""
    model, x = problem(2000)
    exact = depth if isinstance(depth, Stack) else Equilibrium(SolverSettings("newton", 50, 1e-13), depth.backward)

    def gradient(x, depth):
        model.zero_grad()
        cross_entropy(model(x, depth).logits, torch.zeros(len(x), dtype=torch.long)).backward()
        return model.layer.theta.grad.clone()

    model.layer.engine = NoisyEngine(model.layer.circuit, NOISE)
    wanted = gradient(x[:1], exact)
    model.layer.engine = engine = ShiftEngine(ShotEngine(model.layer.circuit, shots, NOISE))
    draws = []
    for number in range(n_steps):
        engine.draw_for("training", number)
        draws.append(gradient(x, depth))
    draws = torch.stack(draws)
    return draws.mean(0) - wanted, draws.std(0) / n_steps**0.5


@pytest.mark.parametrize("depth", (Stack(1), Stack(2), IMPLICIT), ids=("1", "2", "implicit"))
def test_what_is_not_linear_has_a_bias_that_falls_with_shots(depth):
    """The loss, further layers and (I - J)^-1: a quarter of the bias with four times the shots."""
    (few, error), (many, _) = bias(depth, 16), bias(depth, 64)
    assert few.norm() > 5 * error.norm()
    assert 0.12 < float(many @ few / (few @ few)) < 0.45


def step(engine, model, x, number):
    engine.draw_for("training", number)
    model.zero_grad()
    cross_entropy(model(x, IMPLICIT).logits, torch.zeros(len(x), dtype=torch.long)).backward()
    return model.layer.theta.grad.clone()


def test_what_is_random_is_a_function_of_seed_step_and_call():
    model, x = problem(3)
    model.layer.engine = engine = ShiftEngine(ShotEngine(model.layer.circuit, 10, NOISE, seed=5))
    first, second = step(engine, model, x, 1), step(engine, model, x, 2)
    assert not torch.equal(first, second)
    model.layer.engine = resumed = ShiftEngine(ShotEngine(model.layer.circuit, 10, NOISE, seed=5))
    assert torch.equal(step(resumed, model, x, 2), second) and torch.equal(step(resumed, model, x, 1), first)
    model.layer.engine = other = ShiftEngine(ShotEngine(model.layer.circuit, 10, NOISE, seed=6))
    assert not torch.equal(step(other, model, x, 1), first)
    h = model.layer.bind(x).reduced()
    r = torch.zeros(3, 2, dtype=torch.float64)
    with torch.no_grad():
        assert not torch.equal(h(r), h(r))
    assert not torch.equal(h.measured_jacobian(r), h.measured_jacobian(r))


def test_shots_are_those_of_all_circuits():
    """Also of the controlled gate's, which share theirs out; and the residual has shots of its own."""
    model, x = problem(3)
    counter = Counter()
    model.layer.engine = engine = ShiftEngine(ShotEngine(model.layer.circuit, 10, NOISE), counter=counter)
    step(engine, model, x, 1)
    found = {purpose: tally.circuits for purpose, tally in counter.by_purpose.items() if tally.circuits}
    evaluations, rest = divmod(found.pop("solve"), 3)
    assert found == {"residual": 3, "jacobian": 3 * 4, "shift": 3 * (2 * 5 + 4)}
    assert 1 < evaluations <= 7 and rest == 0  # a solve stops at its floor
    assert counter.rounds == evaluations + 1  # the residual's is that of the slopes
    assert all(tally.shots == 10 * tally.circuits for tally in counter.by_purpose.values())
