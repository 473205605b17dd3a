"""f(z; x) and its parameters: names, start, freezing, state, and one face for both engines."""

import copy
import importlib
import io
import math
import sys

import numpy as np
import pytest
import reference
import torch
from torch.autograd.functional import jacobian

from models.circuit import ENCODINGS, build_circuit
from models.quantum_layer import QuantumLayer

ENGINES = ("compiled", "torchquantum")
FACES = [(engine, encoding) for engine in ENGINES for encoding in ENCODINGS]


def make_layer(n_wires=4, engine="compiled", encoding="amplitude", trainable_gates="all", seed=0):
    if engine == "torchquantum":
        pytest.importorskip("torchquantum")
    torch.manual_seed(seed)
    return QuantumLayer(build_circuit(n_wires, encoding), engine, trainable_gates)


def draw(n_wires=4, batch=3, dtype=torch.float32, seed=0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = 2 * torch.rand(batch, n_wires**2, generator=generator, dtype=dtype) - 1
    return z, torch.randn(batch, n_wires**2, generator=generator, dtype=dtype)


# ------------------------------------------------------------------------------------------------- f itself


@pytest.mark.parametrize("engine, encoding", FACES)
@pytest.mark.parametrize("n_wires", (4, 10))
def test_f_is_that_of_the_reference(n_wires, engine, encoding):
    layer = make_layer(n_wires, engine, encoding)
    z, x = draw(n_wires)

    value = layer.bind(x)(z).detach()

    theta = layer.full_theta().detach().double().numpy()
    expected = reference.f(z.double().numpy(), x.double().numpy(), theta, n_wires, encoding)
    assert value.shape == z.shape
    np.testing.assert_allclose(value.numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("trainable_gates", ("all", "released"))
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("n_wires", (4, 10))
def test_f_in_float64(n_wires, encoding, trainable_gates):
    layer = make_layer(n_wires, encoding=encoding, trainable_gates=trainable_gates).double()
    z, x = draw(n_wires, dtype=torch.float64)

    value = layer.bind(x)(z).detach()

    expected = reference.f(z.numpy(), x.numpy(), layer.full_theta().detach().numpy(), n_wires, encoding)
    assert value.dtype == torch.float64
    np.testing.assert_allclose(value.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("engine, encoding", FACES)
def test_each_readout_is_repeated_n_wires_times_in_a_row(engine, encoding):
    layer = make_layer(engine=engine, encoding=encoding)
    z, x = draw()
    readouts = layer.engine.prepare(layer.full_theta()).readouts(z + x)

    value = layer.bind(x)(z)

    for k in range(4):
        for entry in range(4 * k, 4 * k + 4):
            torch.testing.assert_close(value[:, entry], readouts[:, k], rtol=0, atol=0)
    lifted = layer.lift(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert lifted.tolist() == [[1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4]]


@pytest.mark.parametrize("engine, encoding", FACES)
def test_the_injection_is_added_to_the_state(engine, encoding):
    layer = make_layer(engine=engine, encoding=encoding)
    z, x = draw()

    torch.testing.assert_close(layer.bind(x)(z), layer.bind(z + x)(torch.zeros_like(z)), rtol=0, atol=1e-6)
    torch.testing.assert_close(layer.bind(x)(z), layer.bind(z)(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("engine, encoding", FACES)
@pytest.mark.parametrize("batch", (0, 1, 7))
def test_any_batch_size(batch, engine, encoding):
    layer = make_layer(engine=engine, encoding=encoding)
    z, x = draw(batch=batch)
    f = layer.bind(x)

    assert f(z).shape == (batch, 16)
    assert f.reduced()(z[:, :4]).shape == (batch, 4)


@pytest.mark.parametrize("shape", [(16,), (2, 15), (2, 100), (2, 4, 4)])
def test_a_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"x must have shape \(B, 16\), got \("):
        make_layer().bind(torch.zeros(shape))


# ----------------------------------------------------------------------------------------------- parameters


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


def test_names_of_the_frozen_gates():
    layer = make_layer(trainable_gates="released")
    layer.full_theta().sum().backward()  # reaches the trained ones
    assert layer.theta.grad.shape == (35,)

    frozen = [layer.parameter_names[i] for i in layer.circuit.block_parameters]

    assert frozen == ["block.0.rx[0]", "block.0.ry[1]", "block.0.rz[3]", "block.0.crx[0,2]"]
    torch.testing.assert_close(layer.full_theta()[list(layer.circuit.block_parameters)], layer.frozen_theta)


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
    ({"engine": "qiskit"}, "engine must be one of compiled, torchquantum, got 'qiskit'"),
    ({"trainable_gates": "some"}, "trainable_gates must be one of all, released, got 'some'"),
])  # fmt: skip
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        QuantumLayer(build_circuit(4), **options)


@pytest.fixture
def without_torchquantum(monkeypatch):
    """The package of the layer, imported afresh where torchquantum cannot be."""
    for name in [name for name in sys.modules if name.split(".")[0] == "models"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchquantum", None)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "models"]:
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


# -------------------------------------------------------------------------------------------- statelessness


@pytest.mark.parametrize("engine, encoding", FACES)
@pytest.mark.parametrize("trainable_gates, n_frozen", [("all", 0), ("released", 4)])
def test_state_dict_holds_the_angles_only(engine, encoding, trainable_gates, n_frozen):
    layer = make_layer(engine=engine, encoding=encoding, trainable_gates=trainable_gates)
    z, x = draw(batch=5)
    layer.bind(x)(z).sum().backward()

    shapes = {key: tuple(value.shape) for key, value in layer.state_dict().items()}

    assert shapes == {"theta": (39 - n_frozen,), "frozen_theta": (n_frozen,)}


@pytest.mark.parametrize("saved_by", ENGINES)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("trainable_gates", ("all", "released"))
def test_strict_load_between_batch_sizes_and_engines(saved_by, encoding, trainable_gates):
    layer = make_layer(6, saved_by, encoding, trainable_gates)
    z, x = draw(6, batch=5)
    expected = layer.bind(x)(z).detach()
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)

    for engine in ENGINES:
        other = make_layer(6, engine, encoding, trainable_gates, seed=99)
        other.bind(x[:2])(z[:2])
        file.seek(0)
        other.load_state_dict(torch.load(file, weights_only=True), strict=True)
        atol = 0 if engine == saved_by else 5e-6
        torch.testing.assert_close(other.bind(x)(z).detach(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("engine, encoding", FACES)
def test_two_bindings_interleaved_give_their_own_answers(engine, encoding):
    layer = make_layer(engine=engine, encoding=encoding)
    (z1, x1), (z2, x2) = draw(batch=3, seed=1), draw(batch=5, seed=2)

    def alone(z, x):
        z = z.clone().requires_grad_()
        value = layer.bind(x)(z)
        return value.detach(), torch.autograd.grad(value.square().sum(), (z, layer.theta))

    expected_1, expected_2 = alone(z1, x1), alone(z2, x2)

    compiled = layer.compile()
    f1, f2 = compiled.bind(x1), compiled.bind(x2)
    z1.requires_grad_(), z2.requires_grad_()
    value_1, value_2, again_1 = f1(z1), f2(z2), f1(z1)
    slopes_1 = torch.autograd.grad(value_1.square().sum(), (z1, layer.theta), retain_graph=True)
    slopes_2 = torch.autograd.grad(value_2.square().sum(), (z2, layer.theta), retain_graph=True)

    torch.testing.assert_close(again_1, value_1, rtol=0, atol=0)
    for value, slopes, expected in ((value_1, slopes_1, expected_1), (value_2, slopes_2, expected_2)):
        torch.testing.assert_close(value.detach(), expected[0], rtol=0, atol=0)
        torch.testing.assert_close(slopes, expected[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("engine, encoding", FACES)
def test_a_used_layer_can_be_copied(engine, encoding):
    """Nothing of a forward pass stays in the layer: neither graph nor states."""
    layer = make_layer(engine=engine, encoding=encoding)
    z, x = draw()
    expected = layer.bind(x)(z).detach()

    torch.testing.assert_close(copy.deepcopy(layer).bind(x)(z).detach(), expected, rtol=0, atol=0)


@pytest.mark.parametrize("engine, encoding", FACES)
def test_a_compiled_layer_keeps_the_parameters_it_met(engine, encoding):
    layer = make_layer(engine=engine, encoding=encoding)
    z, x = draw()
    with torch.no_grad():
        compiled = layer.compile()
        before = compiled.bind(x)(z)
        layer.theta.add_(0.5)

        torch.testing.assert_close(compiled.bind(x)(z), before, rtol=0, atol=0)
        assert not torch.allclose(layer.bind(x)(z), before, atol=1e-2)


@pytest.mark.parametrize("engine, encoding", FACES)
def test_compiled_under_no_grad_f_still_has_a_slope_in_z(engine, encoding):
    layer = make_layer(engine=engine, encoding=encoding)
    z, x = draw()
    with torch.no_grad():
        f = layer.bind(x)
    z.requires_grad_()

    value = f(z)
    value.square().sum().backward()

    assert layer.theta.grad is None
    frozen = layer.requires_grad_(False).bind(x)
    leaf = z.detach().clone().requires_grad_()
    frozen(leaf).square().sum().backward()
    assert z.grad.abs().max() > 1e-3
    torch.testing.assert_close(z.grad, leaf.grad, rtol=0, atol=1e-6)


# ------------------------------------------------------------------------------------ the space of readouts


@pytest.mark.parametrize("engine, encoding", FACES)
@pytest.mark.parametrize("n_wires", (4, 10))
def test_reduced_map_lifts_to_f(n_wires, engine, encoding):
    """lift(h(r)) = f(lift(r)), and its slopes in r, x and theta."""
    layer = make_layer(n_wires, engine, encoding)
    z, x = draw(n_wires)
    results = []
    for evaluate in (
        lambda r, x: layer.lift(layer.bind(x).reduced()(r)),
        lambda r, x: layer.bind(x)(layer.lift(r)),
    ):
        r_leaf, x_leaf = z[:, :n_wires].clone().requires_grad_(), x.clone().requires_grad_()
        value = evaluate(r_leaf, x_leaf)
        slopes = torch.autograd.grad(value.square().sum(), (r_leaf, x_leaf, layer.theta))
        results.append((value.detach(), *slopes))

    for reduced, full in zip(*results):
        torch.testing.assert_close(reduced, full, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("n_wires", (4, 6, 10))
def test_reduced_map_in_float64(n_wires):
    layer = make_layer(n_wires).double()
    z, x = draw(n_wires, dtype=torch.float64)
    r = z[:, :n_wires]
    h = layer.bind(x).reduced()

    torch.testing.assert_close(layer.lift(h(r)), layer.bind(x)(layer.lift(r)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_wires", (4, 10))
def test_exact_jacobian_of_the_reduced_map(n_wires):
    layer = make_layer(n_wires).double()
    z, x = draw(n_wires, dtype=torch.float64)
    h = layer.bind(x).reduced()
    r = z[:, :n_wires].clone()

    exact = h.jacobian(r).detach()

    by_autograd = torch.stack([jacobian(h, r)[i, :, i] for i in range(len(r))])
    through_f = torch.stack([
        jacobian(lambda r: layer.bind(x)(layer.lift(r)), r)[i, :: n_wires, i] for i in range(len(r))
    ])  # fmt: skip
    torch.testing.assert_close(exact, by_autograd, rtol=0, atol=1e-12)
    torch.testing.assert_close(exact, through_f, rtol=0, atol=1e-12)


def test_reduced_map_of_a_zero_vector_is_zero_with_zero_slope():
    """x = -lift(r) in one sample of three: no direction, so h and its Jacobian vanish, and nothing is NaN."""
    layer = make_layer()
    z, x = draw()
    r = z[:, :4].clone()
    r[1] = 0.5
    x[1] = -0.5
    h = layer.bind(x).reduced()
    r.requires_grad_()

    value = h(r)
    (slope,) = torch.autograd.grad(value.sum(), r)

    assert (value[1] == 0).all() and (slope[1] == 0).all() and (h.jacobian(r)[1] == 0).all()
    assert value.isfinite().all() and slope.isfinite().all() and h.jacobian(r).isfinite().all()


@pytest.mark.parametrize("distance", (1.0, 1e-1, 1e-2))
def test_reduced_map_near_a_zero_vector_loses_only_what_cancels(distance):
    """|x + lift(r)|^2 comes as a sum of terms of the size of |x|^2: rounding grows with the ratio."""
    layer = make_layer()
    z, _ = draw(batch=50)
    r = z[:, :4]
    v = distance * torch.randn(50, 16, generator=torch.Generator().manual_seed(3))
    x = v - layer.lift(r)
    exact = copy.deepcopy(layer).double()

    error = (layer.bind(x).reduced()(r) - exact.bind(x.double()).reduced()(r.double())).abs().amax(1)

    cancellation = x.square().sum(1) / v.square().sum(1)
    assert (error <= 30 * torch.finfo(torch.float32).eps * (1 + cancellation)).all()
