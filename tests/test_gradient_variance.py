"""Variances of gradients at the start: slopes by running backwards, closed forms, two-designs, training's own models."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch.nn.functional import cross_entropy

import engines.adjoint
import reference
from circuits import AngleEncoding, Circuit, Operation, PauliReadout, build_circuit, from_gates
from dataset import load_features
from deq import SolverSettings
from engines.adjoint import parameter_slopes
from engines.statevector import StatevectorEngine
from models.depth import Equilibrium, Stack
from models.table import build_model
from test_any_circuit import circuits, numbers, readouts_by_matrices
from theory.gradient_variance import DEPTHS, N_IMAGES, between_two_designs, first_test_images, gradient_variance
from theory.subjects import TIGHT
from training.settings import Settings
from utils.seeds import seed_everything


def random_images(n_features: int, n_images: int = N_IMAGES, n_classes: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """Normal vectors of length 1, (n_images, n_features), and labels in turns."""
    x = torch.randn(n_images, n_features, generator=torch.Generator().manual_seed(0))
    return x / x.norm(dim=1, keepdim=True), torch.arange(n_images) % n_classes


# slopes of every sample


@settings(max_examples=25, deadline=None)
@given(st.one_of(circuits(letters="IXYZ"), circuits(entangling=True)), st.integers(0, 2**32))
def test_slopes_are_those_of_dense_matrices(circuit, seed):
    v, theta, _ = numbers(circuit, seed)
    weights = torch.randn(2, circuit.n_readouts, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    direction = torch.randn(len(theta), generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def along(t: float) -> np.ndarray:
        return weights.numpy() @ readouts_by_matrices(circuit, v.numpy(), (theta + t * direction).numpy()).T

    slopes = parameter_slopes(circuit, theta, v, weights)
    assert slopes.shape == (2, len(v), circuit.n_parameters)
    np.testing.assert_allclose((slopes @ direction).numpy(), reference.slope(along, 1e-3), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("readout", ["z", "pauli2", "marginal"])
@pytest.mark.parametrize("encoding, injection", [("amplitude", "add"), ("amplitude", "concatenate"), ("angle", "add")])
def test_slopes_are_autograds_in_chunks_too(encoding, injection, readout, monkeypatch):
    circuit = build_circuit(4, encoding, readout=readout, injection=injection, n_random_operations=8)
    v, theta, _ = numbers(circuit, 1)
    weights = torch.randn(3, circuit.n_readouts, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    engine = StatevectorEngine(circuit)
    expected = torch.autograd.functional.jacobian(lambda theta: weights @ engine.compile(theta).readouts(v).T, theta)
    torch.testing.assert_close(parameter_slopes(circuit, theta, v, weights), expected, rtol=0, atol=1e-11)
    monkeypatch.setattr(engines.adjoint, "CHUNK", 1)
    torch.testing.assert_close(parameter_slopes(circuit, theta, v, weights), expected, rtol=0, atol=1e-11)
    single = parameter_slopes(circuit, theta.float(), v.float(), weights.float())
    torch.testing.assert_close(single, expected.float(), rtol=0, atol=1e-4)


# closed forms


def rotated(n_wires: int, *strings: str) -> dict[str, float]:
    """Of one RX a wire on |0...0>: <Z_a Z_b ...> = cos theta_a cos theta_b ..., without the loss."""
    encoding = AngleEncoding(n_wires, tuple(Operation("ry", (wire,), wire) for wire in range(n_wires)))
    ansatz = from_gates(n_wires, [("rx", (wire,)) for wire in range(n_wires)])
    circuit = Circuit(encoding, ansatz, PauliReadout(strings))
    return gradient_variance(circuit, torch.zeros(1, n_wires), torch.zeros(1).long(), n_draws=400, n_loss_draws=0)


def within(found: dict[str, float], name: str, expected: float) -> bool:
    """To four standard errors, which are below a quarter of what is expected."""
    assert 0 < found[f"{name}_error"] < expected / 4
    return abs(found[name] - expected) < 4 * found[f"{name}_error"]


def test_one_rotation_has_one_half():
    found = rotated(1, "Z")
    assert within(found, "first_readout", 1 / 2) and found["first_readout_share"] == 1
    assert found["mean_readout"] == found["first_readout"] and "direct_1" not in found


@pytest.mark.parametrize("n", [2, 4])
def test_a_global_readout_of_a_product_loses_a_half_a_wire(n):
    assert within(rotated(n, "Z" * n), "first_readout", 0.5**n)


def test_local_readouts_of_a_product_keep_theirs():
    found = rotated(4, "ZIII", "IZII", "IIZI", "IIIZ")
    assert within(found, "first_readout", 1 / 2 / 4) and found["first_readout_share"] == 1 / 4
    assert found["first_readout_largest"] == pytest.approx(1 / 2, rel=0.15) and found["first_readout_median"] < 1e-12
    assert within(found, "mean_readout", 1 / 2 / 4**2) and found["mean_readout_share"] == 1


def test_between_two_designs_are_unitaries_of_the_haar_measure():
    """<[G, A]>^2 / 4 of two wires by random unitaries: QR of normal matrices."""
    draw, values = np.random.default_rng(0), []
    x, z = reference.kron([reference.X, reference.I2]), reference.kron([reference.I2, reference.Z])
    for _ in range(4000):
        q, r = np.linalg.qr(draw.normal(size=(4, 4)) + 1j * draw.normal(size=(4, 4)))
        u = q * (np.diag(r) / abs(np.diag(r)))
        a = u.conj().T @ z @ u
        state = draw.normal(size=4) + 1j * draw.normal(size=4)
        values.append((0.5j * state.conj() @ (x @ a - a @ x) @ state / np.vdot(state, state)).real)
    assert np.var(values) == pytest.approx(between_two_designs(2), rel=0.08)
    assert between_two_designs(10) == pytest.approx(2**-11, rel=1e-3)


def test_many_random_operations_are_two_designs():
    """What the paper's ansatz of 4 wires ends in when it is long; the mean over readouts has a quarter."""
    x, labels = random_images(16)
    circuit = build_circuit(4, n_random_operations=300)
    found = gradient_variance(circuit, x, labels, n_draws=10, n_loss_draws=0)
    assert found["first_readout"] / found["first_readout_share"] == pytest.approx(found["two_designs"], rel=0.1)
    assert found["mean_readout"] == pytest.approx(found["two_designs"] / 4, rel=0.2)


# models


def test_gradients_are_finite_differences_of_the_models_that_training_begins_with(monkeypatch):
    """Of both losses, in float64."""
    in_float32 = Equilibrium(SolverSettings("newton", 20, 1e-5), SolverSettings("exact", 1))
    monkeypatch.setitem(DEPTHS, "implicit", in_float32)
    x, labels = random_images(16, 6, 4)
    circuit = build_circuit(4, n_random_operations=10)
    found = gradient_variance(circuit, x, labels, n_classes=4, n_draws=2, n_loss_draws=3, seed=5)
    slopes = {name: [] for name in ("direct_1", "implicit")}
    for seed in (5, 6, 7):
        seed_everything(seed)
        model = build_model(Settings(n_wires=4, num_classes=4, n_random_operations=10)).double().eval()
        theta = model.layer.theta
        start = theta.detach().clone()
        for name, depth in (("direct_1", Stack(1)), ("implicit", TIGHT)):
            of_seed = []
            for unit in torch.eye(len(theta), dtype=torch.float64):
                with torch.no_grad():
                    losses = []
                    for step in (1e-4, -1e-4):
                        theta.copy_(start + step * unit)
                        losses.append(cross_entropy(model(x.double(), depth).logits, labels).item())
                of_seed.append((losses[0] - losses[1]) / 2e-4)
            with torch.no_grad():
                theta.copy_(start)
            slopes[name].append(of_seed)
    for name, values in slopes.items():
        of_parameters = np.var(values, axis=0, ddof=1)
        assert found[name] == pytest.approx(of_parameters.mean(), rel=2e-3), name
        assert found[f"{name}_largest"] == pytest.approx(of_parameters.max(), rel=2e-3)
        assert found[f"{name}_median"] == pytest.approx(sorted(of_parameters)[(len(of_parameters) - 1) // 2], rel=2e-2)
    assert found["implicit_converged"] == 1 and (found["n_draws"], found["n_loss_draws"]) == (2, 3)
    assert all(isinstance(value, int | float) and math.isfinite(value) for value in found.values())


def test_nothing_random_is_moved_and_one_draw_is_refused():
    x, labels = random_images(16, 4, 4)
    circuit = build_circuit(4, n_random_operations=4)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, second = (gradient_variance(circuit, x, labels, 4, n_draws=2) for _ in range(2))
    assert torch.rand(1) == expected and first == second
    for counts in ({"n_draws": 1}, {"n_loss_draws": 1}):
        with pytest.raises(ValueError, match="two draws or more"):
            gradient_variance(circuit, x, labels, **counts)


def test_images_are_the_first_of_the_test_split():
    x, labels = first_test_images("digits", 4, "", 12, (0, 3, 6, 9))
    test = load_features("digits", 4, 4, 0, "", "cpu").test
    torch.testing.assert_close(x, test.features[:12], rtol=0, atol=0)
    assert labels.tolist() == test.labels[:12].tolist()
