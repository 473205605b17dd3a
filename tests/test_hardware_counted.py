"""Values that are counted with derivatives that are exact: against autograd of the exact engines, and moments of counts."""

import pytest
import torch

from circuits.circuit import build_circuit
from deq import ConvergenceWarning, SolverSettings, hutchinson_jacobian_loss
from engines.compiled import CompiledEngine
from hardware.counted import CountedEngine
from hardware.engine import NoisyEngine
from hardware.noise import parse_noise
from hardware.shots import ShotEngine
from models.depth import Equilibrium, Stack
from models.quantum_layer import QuantumLayer

NOISE = parse_noise("depolarizing:1e-2,readout:0.02,0.05")
EXACT = {"noisy": lambda circuit: NoisyEngine(circuit, NOISE), "compiled": CompiledEngine}
CASES = [(encoding, exact) for encoding in ("amplitude", "angle") for exact in EXACT]


def counted_layer(encoding="amplitude", exact="noisy", shots=100, batch=3):
    """A layer in float64 that counts, its exact engine, and a batch."""
    circuit = build_circuit(4, encoding)
    engine = CountedEngine(ShotEngine(circuit, shots, *([NOISE] if exact == "noisy" else [])), EXACT[exact](circuit))
    theta = torch.linspace(-3, 3, circuit.n_parameters, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    return QuantumLayer(circuit, engine, theta), torch.randn(batch, 16, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("encoding, exact", CASES)
def test_the_slope_is_that_of_the_exact_engine_and_the_value_is_counted(encoding, exact):
    layer, x = counted_layer(encoding, exact)
    r = torch.linspace(-0.5, 0.5, 12, dtype=torch.float64).view(3, 4)
    weights = torch.linspace(1, 2, 12, dtype=torch.float64).view(3, 4)

    def slopes(engine):
        layer.engine = engine
        h, at = layer.bind(x).reduced(), r.clone().requires_grad_()
        value = h(at)
        return value.detach(), torch.autograd.grad((weights * value).sum(), [at, layer.theta]), h

    own = layer.engine
    counted, found, h = slopes(own)
    smooth, wanted, _ = slopes(own.exact)
    for slope, other in zip(found, wanted):
        assert torch.allclose(slope, other, rtol=0, atol=1e-12)
    assert torch.allclose(50 * (counted + 1), (50 * (counted + 1)).round(), rtol=0, atol=1e-9)  # of 100 shots
    assert 0 < (counted - smooth).abs().max() < 0.5
    if h.jacobian is not None:
        by_autograd = torch.autograd.functional.jacobian(lambda r: own.exact.compile(layer.full_theta()).readouts(
            x + layer.lift(r)).sum(0), r).transpose(0, 1)  # fmt: skip
        assert torch.allclose(h.jacobian(r), by_autograd, rtol=0, atol=1e-12)


@pytest.mark.parametrize("encoding", ("amplitude", "angle"))
@pytest.mark.parametrize("b_solver", ("exact", "fixed_point"))
def test_the_implicit_gradient_is_exact_at_the_counted_equilibrium(encoding, b_solver):
    """q = (I - J^T)^-1 w and dl/dtheta = q^T dh/dtheta, J and dh/dtheta of the exact engine there."""
    layer, x = counted_layer(encoding)
    weights = torch.linspace(1, 2, 12, dtype=torch.float64).view(3, 4)
    depth = Equilibrium(SolverSettings("anderson", 6, 1e-3), SolverSettings(b_solver, 200, 1e-13))
    found = depth.run(layer.bind(x).reduced(), x.new_zeros(3, 4))
    (gradient,) = torch.autograd.grad((weights * found.r).sum(), layer.theta)

    exact, at = layer.engine.exact.compile(layer.full_theta()), found.r.detach().requires_grad_()
    value = exact.readouts(x + layer.lift(at))
    rows = [torch.autograd.grad(value[:, k].sum(), at, retain_graph=True)[0] for k in range(4)]
    system = torch.eye(4, dtype=torch.float64) - torch.stack(rows, 1).mT
    q = torch.linalg.solve(system, weights)
    (wanted,) = torch.autograd.grad((q * value).sum(), layer.theta)
    assert torch.allclose(gradient, wanted, rtol=1e-9, atol=1e-10)
    assert not torch.allclose(found.r, value, atol=1e-3)  # noisy: not an equilibrium of the exact engine


def test_residuals_are_measured_with_shots_of_their_own():
    layer, x = counted_layer(batch=300)
    for depth in (Equilibrium(SolverSettings("broyden", 10, 1e-3)), Stack(2)):
        with torch.no_grad():
            found = depth.run(layer.bind(x).reduced(), x.new_zeros(300, 4))
            exact = layer.engine.exact.compile(layer.full_theta()).readouts(x + layer.lift(found.r))
        z = (found.h_r - exact) / ((1 - exact**2) / 100).sqrt()
        # of what a solver has chosen the mean square would be less; 1200 squares of unit variance
        assert abs(float(z.square().mean()) - 1) < 5 * (2 / 1200) ** 0.5
        assert abs(float(z.mean())) < 5 / 1200**0.5


def test_the_jacobian_loss_is_the_exact_one():
    layer, x = counted_layer()
    z = x.new_zeros(3, 16)
    vectors = torch.linspace(-1, 1, 48, dtype=torch.float64).view(1, 3, 16)
    own = layer.engine
    loss = hutchinson_jacobian_loss(layer.bind(x), z, vectors=vectors)
    layer.engine = own.exact
    assert torch.allclose(loss, hutchinson_jacobian_loss(layer.bind(x), z, vectors=vectors), rtol=1e-12)


def test_draws_are_those_of_stream_step_and_call():
    layer, x = counted_layer()
    h = {}
    for key in (("step 0", 1), ("step 0", 2), ("step 1", 1), ("again", 0)):
        layer.engine.draw_for(*(key if key[0] != "again" else ("step 0", 1)))
        of_key = layer.bind(x).reduced()
        h[key] = torch.stack([of_key(x.new_zeros(3, 4)).detach() for _ in range(2)])
    assert torch.equal(h["step 0", 1], h["again", 0])
    values = [h[key][call] for key in (("step 0", 1), ("step 0", 2), ("step 1", 1)) for call in range(2)]
    assert all(not torch.equal(a, b) for i, a in enumerate(values) for b in values[:i])


def test_the_gain_of_z_keeps_the_residual_measured_anew():
    layer, x = counted_layer()
    layer.z_gain = 0.5
    h = layer.bind(x).reduced()
    assert h.measured_again is not None
    r = x.new_zeros(3, 4)
    assert not torch.equal(h.measured_again(r), h.measured_again(r))


def test_an_equilibrium_does_not_warn_of_what_shots_leave(recwarn):
    layer, x = counted_layer()
    found = Equilibrium(SolverSettings("fixed_point", 5, 1e-9)).run(layer.bind(x).reduced(), x.new_zeros(3, 4))
    assert not found.solver.converged.any() and not [w for w in recwarn if issubclass(w.category, ConvergenceWarning)]
