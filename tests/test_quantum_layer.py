"""f(z; x): its values, shapes and binding, with one face for both engines."""

import copy
import io
from dataclasses import replace

import numpy as np
import pytest
import torch

import reference
from circuits import build_circuit, z_on
from engines.statevector import StatevectorEngine
from models.layer import Layer
from models.lift import MatrixLift, Repeat
from models.quantum_layer import QuantumLayer
from small_layers import ENCODINGS, ENGINES, FACES, draw, make_layer


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
    readouts = layer.engine.compile(layer.full_theta()).readouts(z + x)

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
def test_a_compiled_layer_keeps_the_parameters_it_was_compiled_for(engine, encoding):
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


@pytest.mark.parametrize("engine, encoding", FACES)
def test_a_layer_can_be_called(engine, encoding):
    layer = make_layer(engine=engine, encoding=encoding)
    z, x = draw()

    torch.testing.assert_close(layer(z, x), layer.bind(x)(z), rtol=0, atol=0)


@pytest.mark.parametrize("kind", (Layer, QuantumLayer))
def test_the_docstrings_lines_run(kind):
    lines = [line.strip() for line in kind.__doc__.splitlines() if line.startswith(" " * 8) and "=" in line]
    names = {"torch": torch, "QuantumLayer": QuantumLayer, "build_circuit": build_circuit}

    exec("\n".join(lines[:4]), names)

    assert len(lines) >= 4 and names["layer"](torch.zeros(8, 16), names["x"]).shape == (8, 16)


def test_an_engine_of_ones_own():
    """Here one that depolarises: every readout shrinks by the same factor."""

    class Depolarised(StatevectorEngine):
        def compile(self, theta):
            compiled = super().compile(theta)
            pure = compiled.readouts
            compiled.readouts = lambda v: 0.9 * pure(v)
            return compiled

    circuit, theta = build_circuit(4), torch.linspace(-1, 1, 39)
    x = torch.linspace(0.1, 1, 32).view(2, 16)
    z = torch.zeros_like(x)
    own = QuantumLayer(circuit, Depolarised(circuit), theta)(z, x)

    torch.testing.assert_close(own, 0.9 * QuantumLayer(circuit, "statevector", theta)(z, x))
    with pytest.raises(ValueError, match="the engine is of another circuit than the layer"):
        QuantumLayer(build_circuit(4, "angle"), Depolarised(circuit), theta)


def test_readouts_that_cannot_be_repeated_to_the_inputs_are_refused():
    circuit = replace(build_circuit(4), readout=z_on(4, range(3)))

    with pytest.raises(ValueError, match="3 readouts cannot be repeated to the 16 inputs of the encoding"):
        QuantumLayer(circuit, lift="repeat")
    assert isinstance(QuantumLayer(circuit).lift, MatrixLift)


@pytest.mark.parametrize("engine", ENGINES)
def test_fewer_readouts_are_repeated_more_often(engine):
    """Z on two of four wires: each value eight times, those of the same wires in the whole layer."""
    if engine == "torchquantum":
        pytest.importorskip("torchquantum")
    whole = make_layer(engine=engine)
    half = QuantumLayer(replace(whole.circuit, readout=z_on(4, (1, 3))), engine, whole.full_theta())
    z, x = draw()

    torch.testing.assert_close(half(z, x), whole(z, x)[:, [4, 12]].repeat_interleave(8, dim=1), rtol=0, atol=2e-6)
    h = half.bind(x).reduced()
    torch.testing.assert_close(half.lift(h(z[:, :2])), half(half.lift(z[:, :2]), x), rtol=1e-4, atol=2e-5)


class Matrix(Repeat):
    """Any matrix E with orthonormal columns as a lift."""

    def __init__(self, e: torch.Tensor):
        super().__init__(e.shape[1], 1)
        self.e = e

    @property
    def width(self) -> int:
        return len(self.e)

    def __call__(self, r):
        return r @ self.e.T

    def transpose(self, values, dim=-1):
        return (values.movedim(dim, -1) @ self.e).movedim(-1, dim)

    def gram(self, r):
        return r

    def readouts(self, z):
        return z @ self.e


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_lift_of_ones_own(encoding):
    """Three readouts to sixteen inputs by a matrix: h, its slopes and those of f, against gate-by-gate simulation."""
    e, _ = torch.linalg.qr(torch.randn(16, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64))
    circuit = replace(build_circuit(4, encoding), readout=z_on(4, (0, 1, 3)))
    theta = torch.randn(39, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    z, x = draw(dtype=torch.float64)
    r, weights = z[:, :3], x[:, 3:6]
    found = []
    for engine in ("compiled", "statevector"):
        layer = QuantumLayer(circuit, engine, theta, Matrix(e))
        f, h = layer.bind(x), layer.bind(x).reduced()
        leaf = r.clone().requires_grad_()
        value = h(leaf)
        slope, of_theta = torch.autograd.grad((value * weights).sum(), (leaf, layer.theta))
        found.append([f(z).detach(), value.detach(), slope, of_theta])
        torch.testing.assert_close(layer.lift(value), f(layer.lift(leaf)), rtol=0, atol=1e-12)
        if h.jacobian is not None:
            torch.testing.assert_close((weights.unsqueeze(1) @ h.jacobian(r)).squeeze(1), slope, rtol=0, atol=1e-12)
        if h.vjp is not None:
            torch.testing.assert_close(h.vjp(r, weights) @ e, slope, rtol=0, atol=1e-12)
    for compiled, simulated in zip(*found):
        torch.testing.assert_close(compiled, simulated, rtol=0, atol=1e-11)


def test_a_lift_of_another_size_is_refused():
    with pytest.raises(ValueError, match="the lift takes 4 numbers to 8, the circuit has 4 readouts and 16 inputs"):
        QuantumLayer(build_circuit(4), lift=Repeat(4, 2))


@pytest.mark.parametrize("dtype", (torch.float64, torch.uint8))
def test_inputs_of_another_dtype_are_refused(dtype):
    with pytest.raises(ValueError, match=f"x is {dtype}, the layer torch.float32: convert"):
        make_layer().bind(torch.zeros(2, 16, dtype=dtype))
