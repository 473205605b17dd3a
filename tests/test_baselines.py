"""Baselines: what each computes against formulas written here, its gradient, and its way through the command."""

import json
import math

import numpy as np
import pytest
import torch
from torch.autograd.functional import jacobian
from torch.nn.functional import cross_entropy

import evaluate_qdeq
import reference
from circuits import Circuit, ProbabilityReadout
from circuits.circuit import build_circuit
from conftest import train_here
from deq import SolverSettings, solve
from engines.statevector import StatevectorEngine
from models.baselines import LinearReadoutClassifier, OutcomeClassifier, ReadoutClassifier, SingleCopyCeiling
from models.classical_layers import FeatureLayer, TanhLayer
from models.depth import Equilibrium, Stack
from models.quantum_layer import QuantumLayer
from models.table import MODELS, build_model
from runs import checkpoint
from test_models_table import N_INPUTS, settings_of

BASELINES = [name for name in MODELS if name != "qdeq"]
TIGHT = Equilibrium(SolverSettings("newton", 40, 1e-13), SolverSettings("exact", 1))
DIGITS = ("--dataset", "digits", "--num_classes", 4, "--n_wires", 4, "--batch_size", 64, "--device", "cpu",
          "--tensorboard", "False")  # fmt: skip


def build(name: str, *flags: str, seed: int = 0):
    """A baseline for four wires and four classes in float64, in eval mode."""
    torch.manual_seed(seed)
    return build_model(settings_of(name, *flags)).double().eval()


def draw(size: int, n_features: int = 16, seed: int = 1) -> torch.Tensor:
    return torch.randn(size, n_features, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def features_of(name: str) -> int:
    return N_INPUTS[MODELS[name].features]


# the classical equilibrium model


def tanh_layer(n_inputs: int = 16, n_units: int = 5, seed: int = 0) -> TanhLayer:
    torch.manual_seed(seed)
    return TanhLayer(n_inputs, n_units).double()


def test_tanh_layer_is_its_formula():
    layer, x, z = tanh_layer(), draw(3), draw(3, 5)
    w, u = layer.w.detach().numpy(), layer.u.detach().numpy()
    for value, one_x, one_z in zip(layer.bind(x)(z), x.numpy(), z.numpy()):
        expected = [math.tanh(w[k] @ one_z + u[k] @ one_x) for k in range(5)]
        assert value.tolist() == pytest.approx(expected, abs=1e-14)


def test_tanh_layers_derivatives_are_autograds():
    layer, x, z, v = tanh_layer(), draw(3), draw(3, 5), draw(3, 5, seed=2)
    f = layer.bind(x)
    full = jacobian(lambda z: f(z).sum(0), z).permute(1, 0, 2)
    torch.testing.assert_close(f.jacobian(z), full)
    torch.testing.assert_close(f.vjp(z, v), (v.unsqueeze(1) @ full).squeeze(1))

    def product(w, u):
        layer.w, layer.u = w, u
        return layer.bind(x).vjp(z, v)

    parameters = [p.detach().clone().requires_grad_() for p in (layer.w, layer.u)]
    del layer.w, layer.u
    assert torch.autograd.gradcheck(product, parameters)


@pytest.mark.parametrize("n_units", [4, 16])
def test_tanh_layer_starts_as_a_contraction(n_units):
    """|tanh'| <= 1, so ||f(z) - f(z')|| <= ||W|| ||z - z'||: one equilibrium, wherever the solve starts."""
    layer = tanh_layer(n_units=n_units)
    assert torch.linalg.matrix_norm(layer.w, 2).item() == pytest.approx(0.5)
    f = layer.bind(draw(50))
    z, other = 3 * draw(50, n_units, seed=3), 3 * draw(50, n_units, seed=4)
    assert ((f(z) - f(other)).norm(dim=1) <= 0.5 * (z - other).norm(dim=1) + 1e-12).all()
    ends = [solve(f, start, SolverSettings("fixed_point", 80, 1e-14)).z for start in (z, other)]
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize("name, count", [("classical", 16 * 16 + 16 * 16 + 16 * 4 + 4),
                                         ("classical_narrow", 4 * 4 + 4 * 16 + 4 * 4 + 4), ("linear", 16 * 4 + 4), ("single_copy", 136 * 4 + 4),
                                         ("wang2022", 39), ("alam2021", 39 + 4 * 4 + 4)])  # fmt: skip
def test_number_of_parameters(name, count):
    assert sum(p.numel() for p in build(name).parameters()) == count


# the linear classifier


def test_linear_classifier_is_the_same_at_every_depth():
    model, x = build("linear"), draw(6)
    expected = x @ model.head.weight.T + model.head.bias
    for depth in (Equilibrium(), TIGHT, Stack(1), Stack(5)):
        for training in (False, True):
            p = model.train(training)(x, depth, with_jac_loss=True)
            assert torch.equal(p.logits, expected)
            assert p.res.eq(0).all() and p.res_rel.eq(0).all() and p.jac_loss == 0
    assert model.spectral_radius(model.layer.compile().bind(x), x).eq(0).all()


def test_linear_classifiers_gradient_is_that_of_multinomial_regression():
    model, x = build("linear"), draw(6)
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    cross_entropy(model(x, Equilibrium()).logits, y).backward()
    with torch.no_grad():
        error = torch.softmax(x @ model.head.weight.T + model.head.bias, 1)
    error[torch.arange(6), y] -= 1
    torch.testing.assert_close(model.head.weight.grad, error.T @ x / 6)


# the single-copy ceiling


@pytest.mark.parametrize("n_wires", [4, 6])
def test_some_weights_of_the_ceiling_are_a_circuit_with_a_linear_head(n_wires):
    """sum_k w_k r_k = a^T (sum_k w_k M_k) a, with M_k = Re U^+ Z_k U from the gates' textbook matrices; black images too."""
    torch.manual_seed(0)
    model = LinearReadoutClassifier(QuantumLayer(build_circuit(n_wires)), 3).double()
    d, theta = n_wires**2, model.layer.full_theta().detach().numpy()
    columns = reference.run(reference.circuit(n_wires), theta, np.eye(2**n_wires, dtype=complex)[:, :d])
    observables = [(columns.conj().T @ (sign[:, None] * columns)).real for sign in reference.readout_signs(n_wires)]
    forms = np.einsum("ck,kij->cij", model.head.weight.detach().numpy(), observables)
    i, j = np.triu_indices(d)
    ceiling = SingleCopyCeiling(d, 3).double()
    ceiling.load_state_dict({"head.weight": torch.from_numpy(np.where(i == j, 1, 2) * forms[:, i, j] / d),
                             "head.bias": model.head.bias.detach()})  # fmt: skip
    x = torch.cat([draw(5, d), torch.zeros(1, d)])
    for depth in (Stack(1), Stack(3), TIGHT):
        torch.testing.assert_close(ceiling(x, depth).logits, model(x, Stack(1)).logits, rtol=0, atol=1e-13)
    torch.testing.assert_close(ceiling(3e4 * x, Stack(1)).logits, ceiling(x, Stack(1)).logits, rtol=0, atol=1e-13)


# Wang et al.


@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
@pytest.mark.parametrize("n_classes", [4, 2])
def test_readouts_are_the_logits(encoding, n_classes):
    torch.manual_seed(0)
    model = ReadoutClassifier(QuantumLayer(build_circuit(4, encoding)), n_classes).double()
    x, theta = draw(5), model.layer.full_theta().detach().numpy()
    expected = reference.readouts(x.numpy(), theta, 4, encoding)
    if n_classes == 2:
        expected = np.stack([expected[:, 0] + expected[:, 1], expected[:, 2] + expected[:, 3]], axis=1)
    np.testing.assert_allclose(model(x, Stack(1)).logits.detach().numpy(), expected, atol=1e-12)
    p = model(x, TIGHT)
    at_equilibrium = reference.readouts(p.z.detach().numpy() + x.numpy(), theta, 4, encoding)
    sums = p.z.detach().numpy()[:, ::4].reshape(5, n_classes, -1).sum(2)
    np.testing.assert_allclose(p.logits.detach().numpy(), sums, atol=1e-14)
    np.testing.assert_allclose(sums, at_equilibrium.reshape(5, n_classes, -1).sum(2), atol=1e-10)


def test_readouts_that_cannot_be_shared_out():
    with pytest.raises(ValueError, match="10 readouts cannot be shared out among 4 classes"):
        ReadoutClassifier(QuantumLayer(build_circuit(10)), 4)


# Dilip et al.


def test_probabilities_of_outcomes_are_the_logits():
    model, x = build("dilip2022"), draw(5, 8)
    readout, theta = ProbabilityReadout(4, (0, 1, 2, 3), 16), model.layer.full_theta()
    circuit = Circuit(model.layer.circuit.encoding, model.layer.circuit.ansatz, readout)
    probabilities = StatevectorEngine(circuit).compile(theta).readouts(x) / 16
    torch.testing.assert_close(probabilities.sum(1), torch.ones(5, dtype=x.dtype))
    torch.testing.assert_close(model(x, Stack(1)).logits, 128 * probabilities[:, :4])
    with pytest.raises(ValueError, match="16 outcomes cannot be 17 classes"):
        OutcomeClassifier(model.layer, 17, 16, 128.0)
    scaled = build("dilip2022", "--logit_scale", "300")
    scaled.load_state_dict(model.state_dict())
    torch.testing.assert_close(scaled(x, Stack(1)).logits, 300 * probabilities[:, :4])


def test_a_head_on_probabilities_is_tempered():
    model, x = build("kiwit2025"), draw(5, 8)
    circuit = model.layer.circuit
    probabilities = StatevectorEngine(circuit).compile(model.layer.full_theta()).readouts(x) / 16
    torch.testing.assert_close(probabilities.sum(1), torch.ones(5, dtype=x.dtype))
    expected = probabilities @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(x, Stack(1)).logits, 128 * expected)
    scaled = build("kiwit2025", "--logit_scale", "5")
    scaled.load_state_dict(model.state_dict())
    torch.testing.assert_close(scaled(x, Stack(1)).logits, 5 * expected)


# Alam et al.


def component_layer(n_wires: int, engine: str = "compiled") -> QuantumLayer:
    return QuantumLayer(build_circuit(n_wires, "components"), engine)


@pytest.mark.parametrize("n_wires", [4, 10])
@pytest.mark.parametrize("engine", ["compiled", "torchquantum", "statevector"])
def test_components_turn_each_wire_about_y(n_wires, engine):
    if engine == "torchquantum":
        pytest.importorskip("torchquantum")
    torch.manual_seed(0)
    layer = component_layer(n_wires, engine)
    z, x = draw(3, n_wires).tanh().float(), draw(3, n_wires, seed=2).float()
    columns = [
        reference.kron([np.array([math.cos(angle / 2), math.sin(angle / 2)], dtype=complex) for angle in sample])
        for sample in (z + x).double().tolist()
    ]
    theta = layer.full_theta().detach().double().numpy()
    states = reference.run(reference.circuit(n_wires), theta, np.stack(columns, axis=1))
    expected = (reference.readout_signs(n_wires) @ np.abs(states) ** 2).T
    f = layer.bind(x)
    np.testing.assert_allclose(f(z).detach().numpy(), expected, atol=1e-5)
    torch.testing.assert_close(f.reduced()(z), f(z))
    assert [(o.gate, o.wires) for o in layer.circuit.encoding.operations] == [("ry", (wire,)) for wire in range(n_wires)]


def test_components_jacobian_is_that_of_parameter_shifts():
    """For RY, dr/dt = (r(t + pi/2) - r(t - pi/2)) / 2 exactly (Mitarai et al., arXiv 1803.00745)."""
    layer = component_layer(4).double()
    z, x, v = draw(3, 4).tanh(), draw(3, 4, seed=2), draw(3, 4, seed=3)
    f = layer.bind(x)
    with torch.no_grad():
        shifts = torch.eye(4, dtype=z.dtype) * math.pi / 2
        expected = torch.stack([(f(z + shift) - f(z - shift)) / 2 for shift in shifts], dim=-1)
    for slopes in (f, f.reduced()):
        product = slopes.vjp(z, v).detach()
        torch.testing.assert_close(product, (v.unsqueeze(1) @ expected).squeeze(1), rtol=0, atol=1e-13)


@pytest.mark.parametrize("columns", [3, 16])
def test_features_of_another_width_are_refused(columns):
    for layer in (component_layer(4), TanhLayer(5, 4), FeatureLayer(5)):
        with pytest.raises(ValueError, match=r"x must have shape \(B, [45]\)"):
            layer.compile().bind(torch.zeros(2, columns))


# all of them


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("depth", [TIGHT, Stack(2)], ids=["implicit", "direct"])
def test_gradients_against_finite_differences(name, depth):
    model = build(name)
    x, y = draw(3, features_of(name)), torch.tensor([0, 3, 1])
    parameters = list(model.parameters())
    gradient = torch.autograd.grad(cross_entropy(model(x, depth).logits, y), parameters)
    directions = [draw(1, p.numel(), seed=i).view(p.shape) for i, p in enumerate(parameters)]
    start = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def loss(step: float) -> np.ndarray:
        for p, p0, d in zip(parameters, start, directions):
            p.copy_(p0 + step * d)
        return cross_entropy(model(x, depth).logits, y).numpy()

    slope = sum((g * d).sum() for g, d in zip(gradient, directions)).item()
    assert slope == pytest.approx(float(reference.slope(loss, 1e-5)), rel=1e-6)  # too short to cross ReLU's kink


@pytest.mark.slow
@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("mode", [("--mode", "implicit"), ("--mode", "direct", "--n_layer", 1)])
def test_a_baseline_trains_and_is_evaluated_by_the_same_commands(name, mode, tmp_path, capsys):
    train_here(*DIGITS, *mode, "--model", name, "--epochs", 12, "--eval-interval", 50, "--spectral_radius_mode",
               *(("--readout", "marginal", "--z_gain", 0.05) if name.startswith(("dilip2022", "kiwit2025")) else ()),
               "--name", "run", "--work_dir", tmp_path, pictures="implicit" in mode)  # fmt: skip
    run = tmp_path / "run"
    results = json.loads((run / "results.json").read_text())
    assert results["model"] == results["settings"]["model"] == name
    circuit = MODELS[name].circuit
    assert results["encoding"] == (circuit(settings_of(name)).encoding.name if circuit else "none")
    assert results["test_acc"] > 0.4  # of 73 images in four classes: chance is 0.25 +- 0.05
    assert (run / "circuit.png").exists() == (circuit is not None and "implicit" in mode)
    evaluate_qdeq.main(evaluate_qdeq.parse_command_line([str(run)]))
    evaluation = json.loads((run / "evaluation_test.json").read_text())
    assert evaluation["model"] == name
    assert evaluation["acc"] == results["test_acc"] and evaluation["loss"] == pytest.approx(results["test_loss"])


def test_a_checkpoint_from_before_there_were_baselines_is_evaluated(tmp_path, capsys):
    train_here(*DIGITS, "--max_step", 5, "--name", "run", "--work_dir", tmp_path)
    path = tmp_path / "run" / "checkpoint_best.pt"
    content = checkpoint.load(path)
    del content["settings"]["model"], content["format"]
    checkpoint.save(path, content)
    evaluate_qdeq.main(evaluate_qdeq.parse_command_line([str(tmp_path / "run")]))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    evaluation = json.loads((tmp_path / "run" / "evaluation_test.json").read_text())
    assert evaluation["model"] == "qdeq" and evaluation["acc"] == results["test_acc"]


def test_parameters_of_another_model_are_refused_in_one_line(tmp_path, capsys):
    train_here(*DIGITS, "--max_step", 2, "--model", "classical", "--name", "run", "--work_dir", tmp_path)
    with pytest.raises(SystemExit):
        train_here(*DIGITS, "--max_step", 2, "--load", tmp_path / "run", "--work_dir", tmp_path)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--model" in error
