"""Both engines against the float64 dense reference, against TorchQuantum itself, and against each other.

The compiled engine is met in float64, where it agrees to rounding; TorchQuantum's is complex64 throughout.
"""

import math

import numpy as np
import pytest
import reference
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.functional import jacobian, jvp

from models.circuit import ENCODINGS, build_circuit
from models.compiled_engine import CompiledEngine

ENGINES = ("compiled", "torchquantum")
WIRES = (4, 6, 10)
PAIRS = [(n, encoding) for n in WIRES for encoding in ENCODINGS]


def compiled_float64(n_wires: int, encoding: str) -> CompiledEngine:
    return CompiledEngine(build_circuit(n_wires, encoding)).double()


def make_engine(name: str, n_wires: int, encoding: str):
    if name == "compiled":
        return CompiledEngine(build_circuit(n_wires, encoding))
    pytest.importorskip("torchquantum")
    from models.torchquantum_engine import TorchQuantumEngine  # seconds: only where it is tested

    return TorchQuantumEngine(build_circuit(n_wires, encoding))


def draw(n_wires: int, batch: int = 2, dtype=torch.float64, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """z in [-1, 1] as readouts are, x like standardised pixels, theta anywhere on the circle."""
    generator = torch.Generator().manual_seed(seed)
    z = 2 * torch.rand(batch, n_wires**2, generator=generator, dtype=dtype) - 1
    x = torch.randn(batch, n_wires**2, generator=generator, dtype=dtype)
    theta = math.pi * (2 * torch.rand(reference.n_parameters(n_wires), generator=generator, dtype=dtype) - 1)
    return z, x, theta


def unit(shape: tuple[int, ...], seed: int, dtype=torch.float64) -> torch.Tensor:
    direction = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (direction / direction.norm()).to(dtype)


def reference_readouts(z, x, theta, n_wires: int, encoding: str) -> np.ndarray:
    return reference.readouts(z.numpy() + x.numpy(), theta.numpy(), n_wires, encoding)


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

    readouts = compiled_float64(n_wires, encoding).prepare(theta).readouts(z + x)

    expected = reference_readouts(z, x, theta, n_wires, encoding)
    np.testing.assert_allclose(readouts.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_wires, encoding", PAIRS)
@pytest.mark.parametrize("name", ENGINES)
def test_values_in_float32(name, n_wires, encoding):
    z, x, theta = draw(n_wires, batch=4, dtype=torch.float32)

    readouts = make_engine(name, n_wires, encoding).prepare(theta).readouts(z + x)

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
            readouts = make_engine(name, n_wires, encoding).prepare(theta).readouts(v)
            torch.testing.assert_close(readouts, expected, rtol=0, atol=5e-6, msg=name)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ENGINES)
def test_a_readout_does_not_depend_on_batch_mates(name, encoding):
    z, x, theta = draw(4, batch=5, dtype=torch.float32)
    readout = make_engine(name, 4, encoding).prepare(theta)

    together = readout.readouts(z + x)

    assert together.shape == (5, 4)
    for i in range(5):
        alone = readout.readouts((z + x)[i : i + 1])
        assert alone.shape == (1, 4)
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=2e-6)


# ---------------------------------------------------------------------------------------- first derivatives


def as_function(engine):
    """The readouts as a function of all three arguments."""
    return lambda z, x, theta: engine.prepare(theta).readouts(z + x)


@pytest.mark.parametrize("n_wires, encoding", PAIRS)
@pytest.mark.parametrize("argument", (0, 1, 2), ids=("dz", "dx", "dtheta"))
def test_directional_derivatives_in_float64(n_wires, encoding, argument):
    arguments = draw(n_wires)
    direction = unit(arguments[argument].shape, seed=5)

    def along(t: float) -> np.ndarray:
        moved = [a + t * direction if i == argument else a for i, a in enumerate(arguments)]
        return reference_readouts(*moved, n_wires, encoding)

    f = as_function(compiled_float64(n_wires, encoding))
    _, slope = jvp(
        lambda a: f(*(a if i == argument else b for i, b in enumerate(arguments))),
        arguments[argument],
        direction,
    )

    assert slope.abs().max() > 1e-3
    np.testing.assert_allclose(slope.numpy(), reference.slope(along), rtol=0, atol=1e-10)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_entry_of_the_jacobians_in_float64(encoding):
    z, x, theta = draw(4, batch=1)
    f = as_function(compiled_float64(4, encoding))

    over_z, over_x, over_theta = jacobian(f, (z, x, theta))

    torch.testing.assert_close(over_z, over_x, rtol=0, atol=0)
    for analytic, argument in ((over_z[0, :, 0], 0), (over_theta[0], 2)):
        for j in range(analytic.shape[1]):

            def along(t: float) -> np.ndarray:
                moved = [z.clone(), x, theta.clone()]
                moved[argument].view(-1)[j] += t
                return reference_readouts(*moved, 4, encoding)[0]

            np.testing.assert_allclose(analytic[:, j].numpy(), reference.slope(along), rtol=0, atol=1e-10)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_gradcheck_and_gradgradcheck(encoding):
    z, x, theta = (a.requires_grad_() for a in draw(4, batch=1))
    f = as_function(compiled_float64(4, encoding))

    assert gradcheck(f, (z, x, theta), fast_mode=False)
    assert gradgradcheck(f, (z, x, theta), fast_mode=False)


# --------------------------------------------------------------------------------------- second derivatives


@pytest.mark.parametrize("n_wires, encoding", PAIRS)
@pytest.mark.parametrize("first, second", [(0, 0), (0, 1), (0, 2), (2, 2)], ids=("zz", "zx", "zt", "tt"))
def test_mixed_second_derivatives_in_float64(n_wires, encoding, first, second):
    arguments = draw(n_wires)
    a, b = unit(arguments[first].shape, seed=6), unit(arguments[second].shape, seed=7)
    u = unit((2, n_wires), seed=8)

    def along(s: float, t: float) -> np.ndarray:
        moved = [v.clone() for v in arguments]
        moved[first] += s * a
        moved[second] += t * b
        return (reference_readouts(*moved, n_wires, encoding) * u.numpy()).sum()

    leaves = [v.clone().requires_grad_() for v in arguments]
    value = (as_function(compiled_float64(n_wires, encoding))(*leaves) * u).sum()
    (slope,) = torch.autograd.grad(value, leaves[first], create_graph=True)
    (bend,) = torch.autograd.grad((slope * a).sum(), leaves[second])

    np.testing.assert_allclose((bend * b).sum().item(), reference.mixed_slope(along), rtol=0, atol=1e-8)


def jacobian_loss(f, z: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
    """|e^T J_f|^2 per entry of z, as the regulariser has it, ready to be differentiated."""
    z = z.detach().requires_grad_()
    (row,) = torch.autograd.grad((f(z) * e).sum(), z, create_graph=True)
    return row.square().sum() / z.numel()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_slope_of_the_jacobian_loss_in_float64(encoding):
    z, x, theta = draw(4, batch=1)
    e, direction = unit((1, 4), seed=9), unit(theta.shape, seed=10)

    def loss(t: float) -> float:
        def readouts(s: float) -> np.ndarray:
            """e^T r for each of the 16 vectors z + s times a unit vector."""
            moved = z + s * torch.eye(16, dtype=torch.float64)
            return reference_readouts(moved, x, theta + t * direction, 4, encoding) @ e[0].numpy()

        return np.square(reference.slope(readouts)).sum() / 16

    engine = compiled_float64(4, encoding)
    leaf = theta.clone().requires_grad_()
    ours = jacobian_loss(lambda z: engine.prepare(leaf).readouts(z + x), z, e)
    (gradient,) = torch.autograd.grad(ours, leaf)

    np.testing.assert_allclose(ours.item(), loss(0.0), rtol=1e-8)
    np.testing.assert_allclose((gradient @ direction).item(), reference.slope(loss), rtol=1e-6)


@pytest.mark.parametrize("n_wires, encoding", PAIRS)
def test_engines_agree_on_first_and_second_derivatives(n_wires, encoding):
    z, x, theta = draw(n_wires, batch=3, dtype=torch.float32)
    u = torch.randn(3, n_wires, generator=torch.Generator().manual_seed(2))
    results = []
    for name in ENGINES:
        engine = make_engine(name, n_wires, encoding)
        leaves = [v.clone().requires_grad_() for v in (z, x, theta)]
        first = torch.autograd.grad((as_function(engine)(*leaves) * u).sum(), leaves)
        x_leaf, theta_leaf = leaves[1:]
        loss = jacobian_loss(lambda z: engine.prepare(theta_leaf).readouts(z + x_leaf), z, u)
        second = torch.autograd.grad(loss, (x_leaf, theta_leaf))
        results.append((*first, loss, *second))

    for compiled, simulated in zip(*results):
        scale = simulated.abs().max()
        assert scale > 1e-6
        torch.testing.assert_close(compiled / scale, simulated / scale, rtol=0, atol=1e-4)


# ------------------------------------------------------------------------------------------ observables M_k


@pytest.mark.parametrize("n_wires", WIRES)
def test_observables_are_those_of_the_dense_unitary(n_wires):
    z, x, theta = draw(n_wires, batch=5)
    observables = compiled_float64(n_wires, "amplitude").prepare(theta).observables

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
    readout = make_engine(name, 4, "amplitude").prepare(theta)

    torch.testing.assert_close(readout.readouts(c * (z + x)), readout.readouts(z + x), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ENGINES)
def test_jacobian_has_no_slope_along_the_vector_itself(name):
    """f(c v) = f(v) for every c, so J_f (z + x) = 0."""
    z, x, theta = draw(4, batch=1, dtype=torch.float32)
    readout = make_engine(name, 4, "amplitude").prepare(theta)

    slopes = jacobian(lambda z: readout.readouts(z + x), z)[0, :, 0]

    assert slopes.abs().max() > 0.05
    torch.testing.assert_close(slopes @ (z + x)[0], torch.zeros(4), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ENGINES)
def test_angle_readouts_repeat_every_full_turn(name):
    z, x, theta = draw(4, dtype=torch.float32)
    readout = make_engine(name, 4, "angle").prepare(theta)

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

    readouts = engine.prepare(theta).readouts(v)
    slope_v, slope_theta = torch.autograd.grad(readouts.sum(), (v, theta), create_graph=True)
    bend_v, bend_theta = torch.autograd.grad(slope_v.square().sum(), (v, theta))

    torch.testing.assert_close(readouts[1], torch.zeros(4), rtol=0, atol=0)
    torch.testing.assert_close(slope_v[1], torch.zeros(16), rtol=0, atol=0)
    for tensor in (readouts, slope_v, slope_theta, bend_v, bend_theta):
        assert tensor.isfinite().all()
    # its batch mates are as they are without it
    mates = v.detach()[[0, 2]].requires_grad_()
    alone = engine.prepare(theta).readouts(mates)
    slope_mates, slope_theta_mates = torch.autograd.grad(alone.sum(), (mates, theta))
    torch.testing.assert_close(readouts[[0, 2]], alone, rtol=0, atol=2e-6)
    torch.testing.assert_close(slope_v[[0, 2]], slope_mates, rtol=0, atol=2e-6)
    torch.testing.assert_close(slope_theta, slope_theta_mates, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_a_batch_of_zero_vectors_is_finite(name):
    _, _, theta = draw(4, dtype=torch.float32)
    v = torch.zeros(2, 16, requires_grad=True)

    readouts = make_engine(name, 4, "amplitude").prepare(theta).readouts(v)
    (slope,) = torch.autograd.grad(readouts.sum(), v)

    assert (readouts == 0).all() and (slope == 0).all()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ENGINES)
def test_a_nan_shows_in_its_own_sample_only(name, encoding):
    """A solver's guard has to see it: it must not turn into a harmless number."""
    z, x, theta = draw(4, batch=3, dtype=torch.float32)
    z[1, 6] = float("nan")

    readouts = make_engine(name, 4, encoding).prepare(theta).readouts(z + x)

    assert readouts[1].isnan().any()
    assert readouts[[0, 2]].isfinite().all()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ENGINES)
def test_dtype_follows_the_input(name, encoding):
    z, x, theta = draw(4)

    assert make_engine(name, 4, encoding).double().prepare(theta).readouts(z + x).dtype == torch.float64
