"""Both engines against the float64 dense reference, against TorchQuantum itself, and against each other.

The compiled engine is compared in float64, where it agrees to rounding; TorchQuantum's is complex64 throughout.
"""

import math

import numpy as np
import pytest
import torch
from torch.autograd.functional import jacobian

import reference
from small_engines import ENCODINGS, ENGINES, PAIRS, WIRES, compiled_float64, draw, make_engine, reference_readouts

# ------------------------------------------------------------------------------- the reference holds itself


@pytest.mark.parametrize("gate, wires", [
    ("rx", (0,)), ("ry", (2,)), ("rz", (3,)), ("h", (1,)), ("sx", (0,)), ("cnot", (0, 1)), ("cnot", (3, 0)),
    ("cnot", (2, 1)), ("crx", (0, 2)), ("crx", (3, 1)),
])  # fmt: skip
def test_reference_applies_a_gate_as_its_dense_matrix_does(gate, wires):
    matrix = reference.gate_matrix(gate, 0.7)
    full = reference.dense_gate(matrix, wires, 4)

    np.testing.assert_allclose(reference.apply(matrix, wires, np.eye(16, dtype=complex)), full, atol=1e-15)
    np.testing.assert_allclose(full @ full.conj().T, np.eye(16), atol=1e-15)


def test_reference_conventions():
    """Wire 0 leads, the control comes first, exp(-i t P / 2), and SX squared is X."""
    one_on_wire_0 = np.eye(16)[:, 0b1000, None]
    flipped = reference.apply(reference.gate_matrix("cnot"), (0, 3), one_on_wire_0)
    assert np.argmax(abs(flipped)) == 0b1001
    for gate, pauli in (("rx", reference.X), ("ry", reference.Y), ("rz", reference.Z)):
        exponential = torch.matrix_exp(torch.tensor(-0.35j * pauli.astype(complex)))
        np.testing.assert_allclose(reference.gate_matrix(gate, 0.7), exponential.numpy(), atol=1e-15)
    np.testing.assert_allclose(reference.SX @ reference.SX, reference.X, atol=1e-15)
    np.testing.assert_array_equal(reference.readout_signs(2), [[1, 1, -1, -1], [1, -1, 1, -1]])


# --------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("n_wires, encoding", PAIRS)
def test_compiled_values_in_float64(n_wires, encoding):
    z, x, theta = draw(n_wires, batch=4)

    readouts = compiled_float64(n_wires, encoding).compile(theta).readouts(z + x)

    expected = reference_readouts(z, x, theta, n_wires, encoding)
    np.testing.assert_allclose(readouts.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_wires, encoding", PAIRS)
@pytest.mark.parametrize("name", ENGINES)
def test_values_in_float32(name, n_wires, encoding):
    z, x, theta = draw(n_wires, batch=4, dtype=torch.float32)

    readouts = make_engine(name, n_wires, encoding).compile(theta).readouts(z + x)

    assert readouts.dtype == torch.float32
    expected = reference_readouts(z.double(), x.double(), theta.double(), n_wires, encoding)
    np.testing.assert_allclose(readouts.numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("n_wires, encoding", PAIRS)
def test_engines_equal_torchquantums_own_layers(n_wires, encoding):
    """RandomLayer, gates that hold their parameters, encoder and measurement, put together by hand."""
    tq = pytest.importorskip("torchquantum")
    saved = np.random.get_state()
    random_layer = tq.RandomLayer(n_ops=50, wires=list(range(n_wires)), seed=1111)
    np.random.set_state(saved)
    starts = range(0, n_wires - 3, 2)
    trainable = [
        kind(has_params=True, trainable=True, wires=wires)
        for a in starts
        for kind, wires in ((tq.RX, [a]), (tq.RY, [a + 1]), (tq.RZ, [a + 3]), (tq.CRX, [a, a + 2]))
    ]
    fixed = [
        kind(wires=wires)
        for a in starts
        for kind, wires in ((tq.Hadamard, [a + 3]), (tq.SX, [a + 2]), (tq.CNOT, [a + 3, a]))
    ]
    if encoding == "amplitude":
        encoder = tq.StateEncoder()
    else:
        axes = ("ry", "rz", "rx")
        encoder = tq.GeneralEncoder([
            {"input_idx": [i], "func": axes[i // n_wires % 3], "wires": [i % n_wires]}
            for i in range(n_wires**2)
        ])  # fmt: skip
    v = torch.randn(3, n_wires**2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        device = tq.QuantumDevice(n_wires=n_wires, bsz=3)
        encoder(device, v)
        for module in (random_layer, *trainable, *fixed):
            module(device)
        expected = tq.MeasureAll(tq.PauliZ)(device)
        theta = torch.cat([p.flatten() for module in (random_layer, *trainable) for p in module.parameters()])

        for name in ENGINES:
            readouts = make_engine(name, n_wires, encoding).compile(theta).readouts(v)
            torch.testing.assert_close(readouts, expected, rtol=0, atol=5e-6, msg=name)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ENGINES)
def test_a_readout_does_not_depend_on_batch_mates(name, encoding):
    z, x, theta = draw(4, batch=5, dtype=torch.float32)
    readout = make_engine(name, 4, encoding).compile(theta)

    together = readout.readouts(z + x)

    assert together.shape == (5, 4)
    for i in range(5):
        alone = readout.readouts((z + x)[i : i + 1])
        assert alone.shape == (1, 4)
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=2e-6)


# ------------------------------------------------------------------------------------------ observables M_k


@pytest.mark.parametrize("n_wires", WIRES)
def test_observables_are_those_of_the_dense_unitary(n_wires):
    z, x, theta = draw(n_wires, batch=5)
    observables = compiled_float64(n_wires, "amplitude").compile(theta).observables

    assert observables.shape == (n_wires, n_wires**2, n_wires**2)
    np.testing.assert_allclose(
        observables.numpy(), reference.readout_matrices(theta.numpy(), n_wires), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(observables, observables.transpose(1, 2), rtol=0, atol=1e-13)
    eigenvalues = torch.linalg.eigvalsh(observables)
    assert eigenvalues.min() >= -1 - 1e-12 and eigenvalues.max() <= 1 + 1e-12

    v = z + x
    quotients = torch.einsum("bi,kij,bj->bk", v, observables, v) / v.square().sum(1, keepdim=True)
    expected = reference_readouts(z, x, theta, n_wires, "amplitude")
    np.testing.assert_allclose(quotients.numpy(), expected, rtol=0, atol=1e-12)


# ----------------------------------------------------------------------------------------------- identities


@pytest.mark.parametrize("c", (-1.0, 0.01, 300.0))
@pytest.mark.parametrize("name", ENGINES)
def test_amplitude_readouts_see_the_direction_only(name, c):
    z, x, theta = draw(4, dtype=torch.float32)
    readout = make_engine(name, 4, "amplitude").compile(theta)

    torch.testing.assert_close(readout.readouts(c * (z + x)), readout.readouts(z + x), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ENGINES)
def test_jacobian_has_no_slope_along_the_vector_itself(name):
    """f(c v) = f(v) for every c, so J_f (z + x) = 0."""
    z, x, theta = draw(4, batch=1, dtype=torch.float32)
    readout = make_engine(name, 4, "amplitude").compile(theta)

    slopes = jacobian(lambda z: readout.readouts(z + x), z)[0, :, 0]

    assert slopes.abs().max() > 0.05
    torch.testing.assert_close(slopes @ (z + x)[0], torch.zeros(4), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ENGINES)
def test_angle_readouts_repeat_every_full_turn(name):
    z, x, theta = draw(4, dtype=torch.float32)
    readout = make_engine(name, 4, "angle").compile(theta)

    turned = readout.readouts(z + x + 2 * math.pi)

    torch.testing.assert_close(turned, readout.readouts(z + x), rtol=0, atol=5e-6)


@pytest.mark.parametrize("name", ENGINES)
def test_a_zero_vector_reads_zero_with_zero_slope(name):
    z, x, theta = draw(4, batch=3, dtype=torch.float32)
    v = z + x
    v[1] = 0
    engine = make_engine(name, 4, "amplitude")
    v.requires_grad_()
    theta.requires_grad_()

    readouts = engine.compile(theta).readouts(v)
    slope_v, slope_theta = torch.autograd.grad(readouts.sum(), (v, theta), create_graph=True)
    bend_v, bend_theta = torch.autograd.grad(slope_v.square().sum(), (v, theta))

    torch.testing.assert_close(readouts[1], torch.zeros(4), rtol=0, atol=0)
    torch.testing.assert_close(slope_v[1], torch.zeros(16), rtol=0, atol=0)
    for tensor in (readouts, slope_v, slope_theta, bend_v, bend_theta):
        assert tensor.isfinite().all()
    # its batch mates are as they are without it
    mates = v.detach()[[0, 2]].requires_grad_()
    alone = engine.compile(theta).readouts(mates)
    slope_mates, slope_theta_mates = torch.autograd.grad(alone.sum(), (mates, theta))
    torch.testing.assert_close(readouts[[0, 2]], alone, rtol=0, atol=2e-6)
    torch.testing.assert_close(slope_v[[0, 2]], slope_mates, rtol=0, atol=2e-6)
    torch.testing.assert_close(slope_theta, slope_theta_mates, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_a_batch_of_zero_vectors_is_finite(name):
    _, _, theta = draw(4, dtype=torch.float32)
    v = torch.zeros(2, 16, requires_grad=True)

    readouts = make_engine(name, 4, "amplitude").compile(theta).readouts(v)
    (slope,) = torch.autograd.grad(readouts.sum(), v)

    assert (readouts == 0).all() and (slope == 0).all()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ENGINES)
def test_a_nan_shows_in_its_own_sample_only(name, encoding):
    """A solver's guard has to see it: it must not turn into a harmless number."""
    z, x, theta = draw(4, batch=3, dtype=torch.float32)
    z[1, 6] = float("nan")

    readouts = make_engine(name, 4, encoding).compile(theta).readouts(z + x)

    assert readouts[1].isnan().any()
    assert readouts[[0, 2]].isfinite().all()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ENGINES)
def test_dtype_follows_the_input(name, encoding):
    z, x, theta = draw(4)

    assert make_engine(name, 4, encoding).double().compile(theta).readouts(z + x).dtype == torch.float64
