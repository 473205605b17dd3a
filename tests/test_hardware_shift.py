"""Measured gradients without shots: equal to autograd's, in every depth and under noise; circuits counted; refusals."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from circuits.ansatz import Ansatz, from_gates
from circuits.circuit import Circuit, build_circuit
from circuits.encodings import AmplitudeEncoding, AngleEncoding
from circuits.operations import Operation
from circuits.readout import z_on
from deq import SolverSettings
from engines import make_engine
from engines.protocol import CompiledCircuit, Engine, UnsupportedCircuit
from hardware.cost import CircuitCost, Counter, count_implicit_gradient, count_layers, count_solve
from hardware.engine import NoisyEngine
from hardware.noise import parse_noise
from hardware.shift import CONTROLLED, ROTATION, parameter_rules, rule_of, shots_of
from hardware.shift_engine import ShiftEngine
from hardware.surrogate import SurrogateEngine
from models.depth import Equilibrium, Stack
from models.qdeq_model import QDEQModel
from models.quantum_layer import QuantumLayer

NOISE = "depolarizing:1e-2,damping:50,30,readout:0.02,0.06,coherent:0.05"
EXACT = Equilibrium(SolverSettings("broyden", 30, 1e-13), SolverSettings("exact"))
NEWTON_NEUMANN = Equilibrium(SolverSettings("newton", 20, 1e-13), SolverSettings("fixed_point", 3, 0))


def problem(encoding="amplitude", n_wires=4, batch=3, **more):
    torch.manual_seed(0)
    circuit = build_circuit(n_wires, encoding, **more.pop("circuit", {}))
    theta = torch.empty(circuit.n_parameters, dtype=torch.float64).uniform_(-math.pi, math.pi)
    model = QDEQModel(QuantumLayer(circuit, theta=theta, **more), 4, 0.0).double()
    return model, torch.randn(batch, circuit.n_inputs, dtype=torch.float64), torch.arange(batch) % 4


def gradients(model, x, y, depth):
    model.zero_grad()
    cross_entropy(model(x, depth).logits, y).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def assert_equal(model, x, y, depth, engine):
    model.layer.engine = engine
    wanted = gradients(model, x, y, depth)
    model.layer.engine = ShiftEngine(engine)
    found = gradients(model, x, y, depth)
    assert list(found) == ["layer.theta", "head.weight", "head.bias"]
    for name in wanted:
        assert wanted[name].abs().max() > 1e-4
        assert torch.allclose(found[name], wanted[name], rtol=0, atol=1e-10), name


@pytest.mark.parametrize("noise", ("none", NOISE))
@pytest.mark.parametrize("encoding", ("amplitude", "angle"))
@pytest.mark.parametrize("depth", (Stack(1), Stack(3), EXACT, NEWTON_NEUMANN), ids=("1", "3", "exact", "neumann"))
def test_they_are_those_of_autograd(encoding, depth, noise):
    model, x, y = problem(encoding)
    assert_equal(model, x, y, depth, NoisyEngine(model.layer.circuit, parse_noise(noise)))


@pytest.mark.parametrize("choices", (
    {"z_gain": 0.4}, {"lift": "projection", "circuit": {"readout": "zz"}}, {"circuit": {"trainable_gates": "released"}},
), ids=("gain", "readouts", "released"))  # fmt: skip
def test_they_are_those_of_autograd_for_other_layers(choices):
    model, x, y = problem(**choices)
    assert_equal(model, x, y, EXACT, make_engine("compiled", model.layer.circuit).double())


def test_noise_of_angles_is_noise_of_one_function():
    model, x, y = problem("angle", batch=2)
    noise = parse_noise("device:quito")
    assert_equal(model, x, y, Stack(2), NoisyEngine(model.layer.circuit, noise, noise))


def test_jacobian_free_takes_it_for_zero():
    model, x, y = problem()
    engine = NoisyEngine(model.layer.circuit, parse_noise("none"))
    without = Equilibrium(EXACT.forward, SolverSettings("fixed_point", 0, 0))
    model.layer.engine = engine
    wanted = gradients(model, x, y, without)
    model.layer.engine = ShiftEngine(engine, jacobian_free=True)
    found = gradients(model, x, y, EXACT)
    assert all(torch.allclose(found[name], wanted[name], rtol=0, atol=1e-10) for name in wanted)
    radius = model.spectral_radius(model.layer.bind(x), x)  # is measured all the same
    model.layer.engine = engine
    assert torch.allclose(radius, model.spectral_radius(model.layer.bind(x), x))


@pytest.mark.parametrize("length", (0.1, 1.0, 5.0))
@pytest.mark.parametrize("noise", ("none", NOISE))
def test_two_circuits_give_a_slope_for_steps_of_any_length(length, noise):
    model, x, _ = problem()
    layer = model.layer
    layer.engine = NoisyEngine(layer.circuit, parse_noise(noise))
    r = torch.randn(len(x), 4, dtype=torch.float64)
    wanted = layer.bind(x).reduced().jacobian(r)
    layer.engine = ShiftEngine(layer.engine, length)
    assert torch.allclose(layer.bind(x).reduced().jacobian(r), wanted, rtol=0, atol=1e-12)


def test_vectors_along_a_direction_and_without_one_have_no_slope_there():
    model, x, _ = problem()
    layer = model.layer
    layer.engine = ShiftEngine(NoisyEngine(layer.circuit, parse_noise("none")))
    r = torch.tensor([[2.0, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.float64)
    slopes = layer.bind(torch.zeros(2, 16, dtype=torch.float64)).reduced().jacobian(r)
    assert slopes.isfinite().all() and not slopes[1].any()
    assert slopes[0, :, 0].abs().max() < 1e-12 < slopes[0, :, 1:].abs().max()


def test_slopes_in_all_inputs():
    for encoding in ("amplitude", "angle"):
        model, x, _ = problem(encoding)
        exact = make_engine("compiled", model.layer.circuit).double()
        weights = torch.randn(3, 4, dtype=torch.float64)
        slopes = []
        for engine in (exact, ShiftEngine(exact)):
            v = x.clone().requires_grad_()
            (slope,) = torch.autograd.grad(engine.compile(model.layer.theta).readouts(v), v, weights)
            slopes.append(slope)
        assert torch.allclose(*slopes, rtol=0, atol=1e-12)


class Silent(Engine):
    """Readouts are arbitrary: circuits are counted, not evaluated."""

    def compile(self, theta):
        class Arbitrary(CompiledCircuit):
            def readouts(_, v):
                return torch.rand(len(v), self.circuit.n_readouts)

        return Arbitrary()


IMPLICIT = Equilibrium(SolverSettings("broyden", 10, 0), SolverSettings("exact"))


def counted(n_wires, depth, encoding="amplitude", jacobian_free=False):
    """Of one sample's training step."""
    circuit, counter = build_circuit(n_wires, encoding), Counter()
    engine = ShiftEngine(Silent(circuit), counter=counter, jacobian_free=jacobian_free)
    model = QDEQModel(QuantumLayer(circuit, engine), n_wires, 0.0)
    x, y = torch.randn(1, n_wires**2), torch.zeros(1, dtype=torch.long)
    cross_entropy(model(x, depth).logits, y).backward()
    return {name: tally.circuits for name, tally in counter.by_purpose.items() if tally.circuits}, counter.rounds


@pytest.mark.parametrize("n_layers, four, ten", [(1, 81, 121), (2, 170, 262), (5, 437, 685), (10, 882, 1390)])
def test_circuits_of_layers(n_layers, four, ten):
    """L (1 + P) + (L - 1) J, and one more for the residual."""
    for n_wires, circuits in ((4, four), (10, ten)):
        found, rounds = counted(n_wires, Stack(n_layers))
        assert found.pop("residual") == 1 and rounds == n_layers + 1
        wanted = Counter()
        count_layers(wanted, CircuitCost.of(build_circuit(n_wires)), n_layers, 1, 0, with_gradient=True)
        assert sum(found.values()) == circuits == wanted.circuits


@pytest.mark.parametrize("encoding, jacobian_free, four, ten", [
    ("amplitude", False, 99, 151), ("amplitude", True, 91, 131), ("angle", False, 123, 331), ("angle", True, 91, 131),
])  # fmt: skip
def test_circuits_of_an_equilibrium(encoding, jacobian_free, four, ten):
    """K + J + P, K = 11: the state that was found is not measured again to be differentiated."""
    for n_wires, circuits in ((4, four), (10, ten)):
        found, rounds = counted(n_wires, IMPLICIT, encoding, jacobian_free)
        wanted, cost = Counter(), CircuitCost.of(build_circuit(n_wires, encoding))
        count_solve(wanted, cost, 11, 1, 0)
        count_implicit_gradient(wanted, cost, 1, 0, with_jacobian=not jacobian_free)
        assert found == {name: tally.circuits for name, tally in wanted.by_purpose.items() if tally.circuits}
        assert sum(found.values()) == circuits and rounds == wanted.rounds == 12


def test_rules_of_cosines():
    def derivative(rule, f, t):
        return sum(term.coefficient * (f(t + term.shift) - f(t - term.shift)) for term in rule)

    for t in (-2.0, 0.3, 5.0):
        assert derivative(ROTATION, math.cos, t) == pytest.approx(-math.sin(t), abs=1e-15)
        for frequency in (0.5, 1.0):
            slope = -frequency * math.sin(frequency * t)
            assert derivative(CONTROLLED, lambda u, w=frequency: math.cos(w * u), t) == pytest.approx(slope, abs=1e-14)


@pytest.mark.parametrize("shots", (1, 2, 3, 100, 1024))
def test_shots_follow_coefficients(shots):
    assert shots_of(ROTATION, shots) == (shots,)
    many, few = shots_of(CONTROLLED, shots)
    assert many + few == 2 * shots and few >= 1
    if shots > 10:
        assert many / few == pytest.approx(3 + math.sqrt(8), rel=0.02)


def test_what_has_no_rule_is_refused_by_name():
    with pytest.raises(UnsupportedCircuit, match=r"angle of iswap\(0, 1\); known: rx, ry, rz, crx"):
        rule_of(Operation("iswap", (0, 1), 0))
    twice = Ansatz(2, (Operation("rx", (0,), 0), Operation("ry", (1,), 0)), ("a",))
    circuit = Circuit(AmplitudeEncoding(2, 4), twice, z_on(2, (0, 1)))
    with pytest.raises(UnsupportedCircuit, match=r"parameter a turns rx\(0\) and ry\(1\)"):
        ShiftEngine(make_engine("compiled", circuit))
    untrained = Circuit(circuit.encoding, twice, circuit.readout, trained=())
    assert parameter_rules(untrained) == {}
    repeated = AngleEncoding(2, (Operation("rx", (0,), 0), Operation("ry", (1,), 0)))
    with pytest.raises(UnsupportedCircuit, match=r"input 0 turns rx\(0\) and ry\(1\)"):
        ShiftEngine(NoisyEngine(Circuit(repeated, from_gates(2, [("rx", (0,))]), circuit.readout), parse_noise("none")))
    with pytest.raises(UnsupportedCircuit, match="SurrogateEngine has as many for each: use ShotEngine"):
        ShiftEngine(SurrogateEngine(build_circuit(4), 10))
    with pytest.raises(ValueError, match="longer than 0, got 0"):
        ShiftEngine(make_engine("compiled", build_circuit(4)), 0.0)


def test_noise_of_the_encoding_of_amplitudes_leaves_no_quadratic_form():
    model, x, y = problem(batch=1)
    noise = parse_noise("depolarizing:1e-2")
    engine = NoisyEngine(model.layer.circuit, noise, noise)
    assert_equal(model, x, y, Stack(1), engine)  # needs no slope in the inputs
    with pytest.raises(UnsupportedCircuit, match="leave --encoding_noise out"):
        gradients(model, x, y, Stack(2))


def test_the_jacobian_loss_is_refused():
    model, x, _ = problem()
    model.layer.engine = ShiftEngine(model.layer.engine)
    with pytest.raises(UnsupportedCircuit, match="--jac_loss_freq 0"):
        model(x, EXACT, with_jac_loss=True).jac_loss.backward()
