"""The classifier: what it computes, its losses' gradients, and the equivalence of solving for readouts or for z."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from circuits.circuit import build_circuit
from deq import SolverSettings, batch_jacobian, solve, spectral_radius
from engines.amplitude import CompiledAmplitude
from models.depth import Equilibrium, Stack
from models.layer import BoundCircuit
from models.lift import make_lift
from models.qdeq_model import QDEQModel, residual_measures
from models.quantum_layer import QuantumLayer
from runs.meter import Meter
from test_any_circuit import numbers
from utils.seeds import generator

TIGHT = Equilibrium(SolverSettings("newton", 30, 1e-12), SolverSettings("exact", 1))


def make_model(n_wires: int = 4, n_classes: int = 4, encoding: str = "amplitude", **options) -> QDEQModel:
    torch.manual_seed(3)
    return QDEQModel(QuantumLayer(build_circuit(n_wires, encoding)), n_classes, **options).double()


def make_batch(n_wires: int = 4, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(5)
    x = torch.randn(size, n_wires**2, generator=draw, dtype=torch.float64)
    return x, torch.randint(4, (size,), generator=draw)


def flat_gradient(loss: torch.Tensor, model: QDEQModel) -> torch.Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
def test_logits_are_the_head_of_the_equilibrium(encoding):
    model = make_model(encoding=encoding).eval()
    x, _ = make_batch()
    depth = Equilibrium(SolverSettings("broyden", 100, 1e-12), SolverSettings("broyden", 100, 1e-12))
    p = model(x, depth)
    f = model.layer.bind(x)
    assert torch.allclose(f(p.z), p.z, atol=1e-10)
    assert torch.allclose(p.logits, model.head(p.z.relu()))
    assert p.solver.converged.all() and p.res_rel.max() < 1e-11


def test_direct_is_the_layer_applied_again_and_again():
    model = make_model().eval()
    x, _ = make_batch()
    f = model.layer.bind(x)
    z = torch.zeros_like(x)
    for n_layer in range(1, 4):
        z = f(z)
        p = model(x, Stack(n_layer))
        assert torch.allclose(p.z, z) and p.solver is None
        assert torch.allclose(p.res_rel, (f(z) - z).norm(dim=1) / z.norm(dim=1))
        assert torch.allclose(p.res, ((f(z) - z) / z).abs().mean(1))


@pytest.mark.parametrize("name", ["broyden", "anderson", "fixed_point"])
@pytest.mark.parametrize("stop_mode", ["rel", "abs"])
def test_solving_for_readouts_takes_the_iterates_of_solving_for_z(name, stop_mode):
    model = make_model().eval()
    x, _ = make_batch()
    # a window of more differences than there are readouts leaves Anderson's combination undetermined
    options = {"memory": 3} if name == "anderson" else {}
    settings = SolverSettings(name, 8, 1e-4, stop_mode, options)
    p = model(x, Equilibrium(settings, settings))
    direct = solve(model.layer.bind(x), torch.zeros_like(x), settings)
    assert torch.allclose(p.z, direct.z, atol=1e-9)
    assert torch.equal(p.solver.steps, direct.steps)


@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
@pytest.mark.parametrize("backward", ["exact", "broyden", "anderson"])
def test_parameter_gradients_against_finite_differences(encoding, backward):
    """The whole loss, equilibrium included, differentiated by moving every parameter."""
    model = make_model(encoding=encoding).eval()
    x, y = make_batch(size=3)
    depth = Equilibrium(TIGHT.forward, SolverSettings(backward, 1 if backward == "exact" else 100, 1e-12))
    gradient = flat_gradient(cross_entropy(model(x, depth).logits, y), model)
    parameters = list(model.parameters())
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(5):
            directions = [torch.randn(p.shape, generator=draw, dtype=p.dtype) for p in parameters]
            losses = []
            for sign in (1, -1):
                for p, d in zip(parameters, directions):
                    p += sign * 1e-5 * d
                losses.append(cross_entropy(model(x, TIGHT).logits, y))
                for p, d in zip(parameters, directions):
                    p -= sign * 1e-5 * d
            slope = (losses[0] - losses[1]) / 2e-5
            assert gradient @ torch.cat([d.flatten() for d in directions]) == pytest.approx(slope.item(), rel=1e-6)


def test_many_layers_have_the_equilibriums_gradient():
    model = make_model().eval()
    x, y = make_batch()
    implicit = flat_gradient(cross_entropy(model(x, TIGHT).logits, y), model)
    unrolled = flat_gradient(cross_entropy(model(x, Stack(60)).logits, y), model)
    assert torch.allclose(implicit, unrolled, atol=1e-8)


def test_gradients_of_the_two_losses_add():
    model = make_model().eval()
    x, y = make_batch()

    def losses():
        p = model(x, TIGHT, with_jac_loss=True, generator=torch.Generator().manual_seed(1))
        return cross_entropy(p.logits, y), p.jac_loss

    total = flat_gradient(losses()[0] + 0.8 * losses()[1], model)
    first = flat_gradient(losses()[0], model)
    jac_loss = losses()[1]
    (second,) = torch.autograd.grad(jac_loss, [model.layer.theta])
    assert jac_loss > 0 and second.abs().max() > 0
    padded = torch.zeros_like(first)
    padded[: len(second)] = second  # theta comes first; the head does not enter the Jacobian
    assert torch.allclose(total, first + 0.8 * padded, atol=1e-10)


@pytest.mark.slow
def test_jacobian_loss_expects_the_frobenius_norm():
    model = make_model().eval()
    x, _ = make_batch(size=2)
    p = model(x, TIGHT)
    f = model.layer.bind(x)
    jacobians = torch.autograd.functional.jacobian(lambda z: f(z).sum(0), p.z.detach()).permute(1, 0, 2)
    exact = jacobians.square().sum() / p.z.numel()
    draws = torch.stack(
        [model(x, TIGHT, with_jac_loss=True, generator=generator(0, "v", i)).jac_loss.detach() for i in range(600)]
    )
    error = draws.std() / math.sqrt(len(draws))
    assert abs(draws.mean() - exact) < 4 * error


@pytest.mark.parametrize("encoding, readout, gain", [
    ("amplitude", "z", 1.0), ("angle", "z", 1.0), ("amplitude", "zz", 3.0), ("angle", "zz", 3.0), ("amplitude", "marginal", 1.0),
    ("amplitude", "pauli2", 0.5), ("angle", "pauli2", 1.0),
])  # fmt: skip
def test_spectral_radius_is_the_largest_eigenvalue(encoding, readout, gain):
    torch.manual_seed(3)
    model = QDEQModel(QuantumLayer(build_circuit(4, encoding, readout=readout), z_gain=gain), 4).double().eval()
    x, _ = make_batch(size=4)
    p = model(x, TIGHT)
    f = model.layer.bind(x)
    jacobians = torch.autograd.functional.jacobian(lambda z: f(z).sum(0), p.z.detach()).permute(1, 0, 2)
    exact = torch.linalg.eigvals(jacobians).abs().amax(-1)
    assert torch.allclose(model.spectral_radius(f, p.z, generator(0, "v", 0)), exact, rtol=1e-6)


@pytest.mark.parametrize("gain", [1.0, 3.0])
@pytest.mark.parametrize("name", ["projections", "z_strings", "pauli2", "zz"])
def test_many_samples_have_their_jacobians_from_observables(name, gain, monkeypatch):
    """Values, slopes (of a vector of zeros too) and spectral radius are those of autograd; none where they are too large."""
    circuit = build_circuit(4, readout=name, n_random_operations=12)
    x, theta, _ = numbers(circuit, 2)
    layer = QuantumLayer(circuit, "compiled", theta, z_gain=gain)
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[0], z[0] = 0, 0
    f = layer.bind(x)
    many = f.for_many()
    assert f.jacobian is None and many.jacobian is not None
    torch.testing.assert_close(many(z), f(z), rtol=0, atol=1e-13)
    torch.testing.assert_close(many.jacobian(z), batch_jacobian(f, z), rtol=0, atol=1e-12)
    start = torch.randn(z.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    radii = [spectral_radius(one, z, start=start) for one in (many, f)]
    assert not radii[0][0] and radii[0][1:].all()
    torch.testing.assert_close(*radii, rtol=1e-9, atol=0)
    monkeypatch.setattr("engines.measured.MOST_NUMBERS", 16**3 - 1)
    assert f.for_many() is f


def test_lifted_observables_of_z_apart_have_a_jacobian():
    """v = [x, g z]: its slope in z is that of z's entries of v."""
    draw = torch.Generator().manual_seed(1)
    observables = torch.randn(7, 8, 8, generator=draw, dtype=torch.float64)
    circuit, lift = CompiledAmplitude(observables + observables.mT), make_lift("projection", 7, 4).double()
    x, z = (torch.randn(3, 4, generator=draw, dtype=torch.float64) for _ in range(2))
    f = BoundCircuit(circuit, lift, x, 0.5, True, circuit.lifted(lift))
    torch.testing.assert_close(f.jacobian(z), batch_jacobian(BoundCircuit(circuit, lift, x, 0.5, True), z), rtol=0, atol=1e-13)


def test_dropout_keeps_the_mean_and_only_in_training():
    model = make_model(dropout=0.3)
    z = torch.ones(400, 16, dtype=torch.float64)
    model.train()
    dropped = model._drop(z, torch.Generator().manual_seed(0))
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert (dropped == 0).double().mean() == pytest.approx(0.3, abs=0.03)
    model.eval()
    assert model._drop(z, None) is z


@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
@pytest.mark.parametrize("depth", [TIGHT, Stack(2), Equilibrium(SolverSettings("broyden", 20, 1e-8))],
                         ids=["newton", "stack", "broyden"])  # fmt: skip
def test_an_image_that_is_not_finite_spoils_nobody(depth, encoding):
    """Its logits, state and residuals are NaN; values and the gradient of the others' loss are those without it."""
    model = make_model(encoding=encoding).eval()
    x, y = make_batch()
    poisoned = x.clone()
    poisoned[2, 5] = math.nan
    others = [i for i in range(len(x)) if i != 2]
    generator = torch.Generator().manual_seed(0)
    spoilt = model(poisoned, depth, with_jac_loss=True, generator=generator)
    clean = model(x[others], depth)
    assert spoilt.failed.tolist() == [i == 2 for i in range(len(x))] and clean.failed is None
    for values in (spoilt.logits, spoilt.z, spoilt.res, spoilt.res_rel):
        assert values[2].isnan().all() and values[others].isfinite().all()
    assert torch.allclose(clean.logits, spoilt.logits[others], atol=1e-10) and spoilt.jac_loss.isfinite()
    loss = torch.where(spoilt.failed, 0.0, cross_entropy(spoilt.logits, y, reduction="none")).sum()
    gradient = flat_gradient(loss, model)
    expected = flat_gradient(cross_entropy(clean.logits, y[others], reduction="sum"), model)
    assert torch.allclose(gradient, expected, atol=1e-7)


def test_answers_do_not_depend_on_batch_mates():
    model = make_model().eval()
    x, _ = make_batch(size=9)
    depth = Equilibrium(SolverSettings("broyden", 10, 1e-3), SolverSettings("broyden", 10, 1e-3))
    together = model(x, depth).logits
    alone = torch.cat([model(row.unsqueeze(0), depth).logits for row in x])
    assert torch.allclose(together, alone, atol=1e-12)


def test_residual_measures():
    r = torch.tensor([[1.0, -2.0], [0.0, 0.0], [0.0, 4.0]])
    h_r = torch.tensor([[1.5, -2.0], [0.0, 0.0], [0.0, 3.0]])
    res, res_rel = residual_measures(r, h_r)
    assert res.tolist() == pytest.approx([0.25, 0.0, 0.125])
    assert res_rel.tolist() == pytest.approx([0.5 / math.sqrt(5), 0.0, 0.25])


def test_meter_gives_means_and_survives_a_checkpoint():
    meter = Meter()
    meter.add("loss", torch.tensor([1.0, 3.0]))
    again = Meter(meter.state())
    again.add("loss", torch.tensor([8.0]))
    assert again.means() == {"loss": 4.0} and meter.means() == {"loss": 2.0}


def test_equilibrium_reports_its_backward_solve():
    model = make_model().eval()
    x, y = make_batch()
    p = model(x, Equilibrium(SolverSettings("broyden", 30, 1e-8), SolverSettings("broyden", 30, 1e-8)))
    assert p.solver.backward is None
    cross_entropy(p.logits, y).backward()
    assert p.solver.backward.converged.all()


@pytest.mark.parametrize("depth", [TIGHT, Stack(3)])
def test_where_no_gate_trains_the_head_and_the_images_have_the_gradient_they_had(depth):
    x, y = make_batch()
    found = []
    for trained in ("all", "none"):
        torch.manual_seed(3)
        model = QDEQModel(QuantumLayer(build_circuit(4, trainable_gates=trained)), 4, dropout=0.0).double()
        p = model(x, depth, with_jac_loss=True, generator=torch.Generator().manual_seed(0))
        of_head = torch.autograd.grad(cross_entropy(p.logits, y), list(model.head.parameters()))
        assert p.z.requires_grad == (trained == "all")  # no solve looks for what nothing would take
        of_images = x.clone().requires_grad_()
        loss = cross_entropy(model(of_images, depth).logits, y)
        found.append((p.logits, p.jac_loss, *of_head, *torch.autograd.grad(loss, of_images)))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("depth", [TIGHT, Stack(3)])
def test_where_no_gate_trains_forward_mode_still_follows_the_images(depth):
    found, (x, _) = [], make_batch()
    for trained in ("all", "none"):
        torch.manual_seed(3)
        model = QDEQModel(QuantumLayer(build_circuit(4, trainable_gates=trained), "statevector"), 4).double().eval()
        found.append(torch.func.jvp(lambda x: model(x, depth).logits, (x,), (torch.ones_like(x),))[1])
    torch.testing.assert_close(*found, rtol=0, atol=1e-12)
    assert found[0].abs().max() > 0.1
