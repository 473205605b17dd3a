"""The quantum layer's parameters: names, start, freezing, and the engines that share them."""

import importlib
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import reference
from circuits.circuit import build_circuit
from models.quantum_layer import QuantumLayer
from small_layers import ENGINES, FACES, draw, make_layer


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("n_wires, count", [(4, 39), (10, 56)])
def test_every_gate_is_a_registered_parameter(n_wires, count, engine):
    layer = make_layer(n_wires, engine)

    assert [(name, p.shape) for name, p in layer.named_parameters()] == [("theta", (count,))]
    assert all(p.requires_grad for p in layer.parameters())
    assert layer.parameter_names == layer.circuit.parameter_names
    assert len(layer.parameter_names) == layer.full_theta().numel() == count


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("n_wires", (4, 6, 10))
def test_parameters_start_as_torchquantums_do(n_wires, engine):
    """The same draws under the same seed: the random layer's rotations, then each block's gates."""
    tq = pytest.importorskip("torchquantum")
    saved = np.random.get_state()
    torch.manual_seed(11)
    modules = [tq.RandomLayer(n_ops=50, wires=list(range(n_wires)), seed=1111)]
    for _ in range(0, n_wires - 3, 2):
        modules += [kind(has_params=True, trainable=True) for kind in (tq.RX, tq.RY, tq.RZ, tq.CRX)]
    np.random.set_state(saved)
    theirs = torch.cat([p.detach().flatten() for module in modules for p in module.parameters()])

    ours = make_layer(n_wires, engine, seed=11).full_theta().detach()

    assert torch.equal(ours, theirs)


def test_parameters_start_uniform_on_the_circle():
    theta = torch.cat([make_layer(10, seed=seed).theta.detach() for seed in range(20)]) / math.pi

    assert theta.min() >= -1 and theta.max() < 1
    # 1120 draws: five standard deviations of the mean and of the second moment
    assert abs(theta.mean()) < 5 * (1 / 3 / len(theta)) ** 0.5
    assert abs(theta.square().mean() - 1 / 3) < 5 * (4 / 45 / len(theta)) ** 0.5


def test_parameters_start_anew_under_another_seed():
    assert torch.equal(make_layer(seed=1).theta, make_layer(seed=1).theta)
    assert not torch.equal(make_layer(seed=1).theta, make_layer(seed=2).theta)


@pytest.mark.parametrize("engine", ENGINES)
def test_each_entry_of_theta_turns_its_own_gate(engine):
    """Turned by 1, one after the other, every angle moves f by as much as it moves the reference."""
    layer = make_layer(engine=engine, encoding="angle")
    z, x = draw()
    theta = layer.theta.detach().clone()

    def expected(angles: torch.Tensor) -> np.ndarray:
        return reference.f(z.double().numpy(), x.double().numpy(), angles.double().numpy(), 4, "angle")

    n_moving = 0
    for i in range(39):
        turned = theta + torch.eye(39)[i]
        with torch.no_grad():
            layer.theta.copy_(turned)
            value = layer.bind(x)(z)
        np.testing.assert_allclose(value.numpy(), expected(turned), rtol=0, atol=1e-5)
        n_moving += abs(expected(turned) - expected(theta)).max() > 1e-3
    assert n_moving > 30


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("n_wires, frozen", [(4, 4), (6, 8), (10, 16)])
def test_released_freezes_the_gates_of_the_blocks(n_wires, frozen, engine):
    everything = make_layer(n_wires, engine, seed=5)
    released = make_layer(n_wires, engine, trainable_gates="released", seed=5)

    n_trained, n_all = (sum(p.numel() for p in layer.parameters()) for layer in (released, everything))
    assert n_all - n_trained == frozen
    assert released.frozen_theta.shape == (frozen,)
    assert torch.equal(released.full_theta(), everything.full_theta())  # frozen where they started
    z, x = draw(n_wires)
    torch.testing.assert_close(released.bind(x)(z), everything.bind(x)(z), rtol=0, atol=0)


@pytest.mark.parametrize("engine, encoding", FACES)
def test_a_circuit_whose_gates_do_not_train_leaves_its_start_and_what_it_draws_as_they_were(engine, encoding):
    everything = make_layer(engine=engine, encoding=encoding, seed=5)
    none = make_layer(engine=engine, encoding=encoding, trainable_gates="none", seed=5)
    assert none.theta.shape == (0,) and torch.equal(none.full_theta(), everything.full_theta())
    z, x = draw()
    torch.testing.assert_close(none.bind(x)(z), everything.bind(x)(z), rtol=0, atol=0)


def test_names_of_the_frozen_gates():
    layer = make_layer(trainable_gates="released")
    layer.full_theta().sum().backward()  # reaches the trained ones
    assert layer.theta.grad.shape == (35,)

    frozen = [layer.parameter_names[i] for i in layer.circuit.frozen]

    assert frozen == ["block.0.rx[0]", "block.0.ry[1]", "block.0.rz[3]", "block.0.crx[0,2]"]
    torch.testing.assert_close(layer.full_theta()[list(layer.circuit.frozen)], layer.frozen_theta)


@pytest.mark.parametrize("engine, encoding", FACES)
def test_an_optimiser_with_weight_decay_leaves_frozen_gates_alone(engine, encoding):
    layer = make_layer(engine=engine, encoding=encoding, trainable_gates="released")
    before = layer.full_theta().detach().clone()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1, weight_decay=0.1)
    z, x = draw()
    for _ in range(2):
        optimizer.zero_grad()
        layer.bind(x)(z).square().sum().backward()
        optimizer.step()

    moved = layer.full_theta().detach() != before

    assert [name for name, m in zip(layer.parameter_names, moved) if not m] == [
        "block.0.rx[0]", "block.0.ry[1]", "block.0.rz[3]", "block.0.crx[0,2]"
    ]  # fmt: skip


def test_released_gradient_is_that_of_all_gates_less_the_frozen_ones():
    z, x = draw()
    gradients = []
    for choice in ("all", "released"):
        layer = make_layer(trainable_gates=choice)
        layer.bind(x)(z).square().sum().backward()
        gradients.append(layer.theta.grad)

    torch.testing.assert_close(gradients[0][:35], gradients[1])


@pytest.mark.parametrize("options, message", [
    ({"engine": "qiskit"}, "engine must be one of compiled, torchquantum, statevector, got 'qiskit'"),
    ({"theta": torch.zeros(38)}, r"theta must have shape \(39,\), got \(38,\)"),
    ({"theta": torch.zeros(39, dtype=torch.int64)}, "theta must be of floating point, got torch.int64"),
])  # fmt: skip
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        QuantumLayer(build_circuit(4), **options)


def test_starting_parameters_are_an_argument():
    theta = torch.linspace(-1, 1, 39)
    before = torch.get_rng_state()

    layer = QuantumLayer(build_circuit(4, trainable_gates="released"), theta=theta)

    assert torch.equal(layer.full_theta(), theta) and torch.equal(layer.theta, theta[:35])
    assert torch.equal(torch.get_rng_state(), before)  # nothing is drawn
    layer.full_theta().sum().backward()
    assert theta.grad is None


@pytest.mark.parametrize("encoding", ("amplitude", "angle"))
def test_a_layer_has_the_dtype_of_its_starting_parameters(encoding):
    theta = torch.linspace(-1, 1, 39, dtype=torch.float64)
    x = torch.linspace(0.1, 1, 32, dtype=torch.float64).view(2, 16)
    found, expected = (
        QuantumLayer(build_circuit(4, encoding), engine, theta)(torch.zeros_like(x), x)
        for engine in ("compiled", "statevector")
    )

    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_any_parameters_can_be_frozen():
    """Trained ones in rising order, the others where they stand: full_theta is in the circuit's order."""
    circuit = build_circuit(4)
    chosen = replace(circuit, trained=(0, 3, 38))
    theta = torch.randn(39, generator=torch.Generator().manual_seed(0))
    layer = QuantumLayer(chosen, theta=theta)
    z, x = draw()

    assert layer.theta.tolist() == theta[[0, 3, 38]].tolist() and layer.frozen_theta.shape == (36,)
    assert torch.equal(layer.full_theta(), theta)
    layer(z, x).square().sum().backward()
    everything = QuantumLayer(circuit, theta=theta)
    everything(z, x).square().sum().backward()
    torch.testing.assert_close(layer.theta.grad, everything.theta.grad[[0, 3, 38]])


@pytest.fixture
def without_torchquantum(monkeypatch):
    """The package of the layer, imported afresh where torchquantum cannot be."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("models", "engines")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchquantum", None)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in ("models", "engines")]:
        del sys.modules[name]


def test_the_compiled_engine_runs_without_torchquantum(without_torchquantum):
    fresh = importlib.import_module("models.quantum_layer")
    z, x = draw()

    assert fresh.QuantumLayer is not QuantumLayer
    assert fresh.QuantumLayer(build_circuit(4)).bind(x)(z).shape == (3, 16)


def test_the_torchquantum_engine_says_what_to_do_without_it(without_torchquantum):
    fresh = importlib.import_module("models.quantum_layer")

    with pytest.raises(ImportError, match="setup.sh.*or use --engine compiled"):
        fresh.QuantumLayer(build_circuit(4), "torchquantum")
