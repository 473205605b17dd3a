"""Implicit gradients as they are used: reports, graphs, memory, faults of samples, errors."""

from __future__ import annotations

import gc
import math
import weakref

import pytest
import torch

from deq import SolverSettings, SolverStatus, equilibrium, unroll
from problems import BACKWARD, NEWTON, layer_and_input, normal, tight


@pytest.mark.parametrize("grad_order", [1, 2, 3])
def test_value_is_the_solvers_and_f_is_met_once_more_per_order(grad_order):
    layer, x = layer_and_input()
    f, calls = layer.bind(x), []

    def counted(z):
        calls.append(1)
        return f(z)

    z_star, result = equilibrium(counted, torch.zeros_like(x), grad_order=grad_order)
    assert torch.equal(z_star, result.z) and z_star.requires_grad and not result.z.requires_grad
    assert len(calls) == result.n_f_evals + grad_order
    z_star.sum().backward()
    assert len(calls) == result.n_f_evals + grad_order


@pytest.mark.parametrize("backward", BACKWARD)
def test_backward_report_is_filled_by_the_backward_pass(backward):
    layer, x = layer_and_input()
    settings = SolverSettings(backward, 40, 1e-8)
    z_star, result = equilibrium(layer.bind(x), torch.zeros_like(x), NEWTON, settings)
    assert result.backward is None
    grad = normal(2, 3, seed=13)
    z_star.backward(grad)
    report = result.backward
    assert report.converged.all() and report.z.shape == x.shape and report.residual.max() <= 1e-8
    # dl/db is the batch sum of diag(1 - z*^2) q
    torch.testing.assert_close(layer.b.grad, ((1 - result.z**2) * report.z).sum(dim=0), rtol=1e-6, atol=1e-8)
    if backward in ("gmres", "bicgstab"):  # products for the first and for the last residual besides
        assert report.n_jacobians == 0 and report.n_f_evals > len(report.trace)
    else:
        assert (report.n_jacobians, report.n_f_evals) == (
            (1, 0) if backward == "exact" else (0, len(report.trace))
        )


def test_exact_uses_the_jacobian_that_f_offers():
    layer, x = layer_and_input()
    f = layer.bind(x, offers_jacobian=True)
    z_star, result = equilibrium(f, torch.zeros_like(x), SolverSettings("broyden", 60, 1e-13), tight("exact"))
    assert f.n_jacobians == 0
    z_star.sum().backward()
    assert f.n_jacobians == 1 and result.backward.converged.all()


@pytest.mark.parametrize("on_a_gpu", [False, True])
def test_exact_flags_singular_samples_and_solves_their_mates(on_a_gpu, monkeypatch):
    monkeypatch.setattr("deq.adjoint.host_may_look", lambda z: not on_a_gpu)
    eye, grad = torch.eye(3, dtype=torch.float64), normal(3, seed=18)
    u, v = torch.tensor([[1.0, 2.0, 4.0], [1.0, -2.0, 2.0]], dtype=eye.dtype)
    jacobians = torch.stack([eye, eye - torch.outer(u, v), 0.5 * eye])
    x = torch.zeros(3, 3, dtype=eye.dtype, requires_grad=True)
    z_star, result = equilibrium(
        lambda z: (jacobians @ z.unsqueeze(2)).squeeze(2) + x, torch.zeros_like(x), NEWTON, tight("exact")
    )
    (z_star * grad).sum().backward()
    assert result.backward.status.tolist() == [SolverStatus.SINGULAR, SolverStatus.SINGULAR, SolverStatus.CONVERGED]
    # the shortest q that solve 0 q = grad and v u^T q = grad best
    shortest = torch.stack([0 * u, u * (v @ grad) / (u @ u) / (v @ v)])
    torch.testing.assert_close(x.grad[:2], shortest, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(x.grad[2], 2 * grad)


def test_two_forwards_before_one_backward():
    layer, x = layer_and_input()
    first, _ = equilibrium(layer.bind(x), torch.zeros_like(x), NEWTON, tight("broyden"))
    second, _ = equilibrium(layer.bind(2 * x), torch.zeros_like(x), NEWTON, tight("broyden"))
    (together,) = torch.autograd.grad((first * second).sum(), layer.w, retain_graph=True)
    (a,) = torch.autograd.grad((first * second.detach()).sum(), layer.w, retain_graph=True)
    (b,) = torch.autograd.grad((first.detach() * second).sum(), layer.w)
    torch.testing.assert_close(together, a + b)


def test_equilibrium_within_an_equilibrium():
    a = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    x = normal(2, 1, seed=14)

    def outer(a):
        def f(z):
            inner, _ = equilibrium(
                lambda y: torch.tanh(a * y + z), torch.zeros_like(z), NEWTON, tight("exact"), 2
            )
            return 0.5 * inner + x

        picard = SolverSettings("fixed_point", 100, 1e-13)
        return equilibrium(f, torch.zeros_like(x), picard, tight("exact"))[0]

    assert torch.autograd.gradcheck(outer, (a,))


def test_backward_twice_with_retained_graph_and_a_clear_error_without():
    layer, x = layer_and_input()
    z_star, _ = equilibrium(layer.bind(x), torch.zeros_like(x))
    z_star.sum().backward(retain_graph=True)
    once = layer.w.grad.clone()
    z_star.sum().backward()
    torch.testing.assert_close(layer.w.grad, 2 * once)
    with pytest.raises(RuntimeError, match="second time"):
        z_star.sum().backward()


def test_no_grad_gives_plain_values():
    layer, x = layer_and_input()
    with torch.no_grad():
        z_star, result = equilibrium(layer.bind(x), torch.zeros_like(x))
    assert not z_star.requires_grad and torch.equal(z_star, result.z) and result.converged.all()


@pytest.mark.parametrize("grad_order", [1, 2])
def test_a_map_without_graph_gives_a_constant(grad_order):
    z_star, _ = equilibrium(lambda z: torch.ones_like(z), torch.zeros(2, 3), grad_order=grad_order)
    assert not z_star.requires_grad and torch.equal(z_star, torch.ones(2, 3))


@pytest.mark.parametrize("backward", BACKWARD)
def test_a_map_that_ignores_z_passes_the_gradient_through(backward):
    x = normal(2, 3, seed=15).requires_grad_()
    z_star, result = equilibrium(lambda z: 3 * x, torch.zeros_like(x), NEWTON, tight(backward))
    z_star.sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 3.0)) and result.backward.converged.all()


def test_starting_point_receives_no_gradient():
    layer, x = layer_and_input()
    z0 = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    z_star, _ = equilibrium(layer.bind(x), z0)
    z_star.sum().backward()
    assert z0.grad is None and x.grad is not None


@pytest.mark.parametrize("backward", BACKWARD)
def test_a_non_finite_sample_leaves_values_and_gradients_of_its_mates(backward):
    def run(x):
        x = x.clone().requires_grad_()
        # elementwise, so that mates share no sum
        z_star, result = equilibrium(
            lambda z: 0.5 * torch.sin(z) + x,
            torch.zeros_like(x),
            NEWTON,
            SolverSettings(backward, 60, 1e-12),
        )
        z_star.square().sum().backward()
        return z_star.detach(), x.grad, result

    x = normal(3, 2, seed=16)
    spoilt = x.clone()
    spoilt[1, 0] = math.nan
    (z_clean, grad_clean, _), (z_mixed, grad_mixed, result) = run(x), run(spoilt)
    assert result.status.tolist() == [SolverStatus.CONVERGED, SolverStatus.NON_FINITE, SolverStatus.CONVERGED]
    mates = [0, 2]
    assert torch.equal(z_clean[mates], z_mixed[mates]) and torch.equal(grad_clean[mates], grad_mixed[mates])
    assert z_mixed[1].isnan().all() and torch.equal(grad_mixed[1], torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize("grad_order", [1, 2])
def test_derivatives_beyond_grad_order_raise(grad_order):
    layer, x = layer_and_input()
    z_star, _ = equilibrium(layer.bind(x), torch.zeros_like(x), NEWTON, tight("exact"), grad_order=grad_order)
    derivative = z_star.sum()
    for _ in range(grad_order):
        (derivative,) = torch.autograd.grad(derivative.sum(), layer.w, create_graph=True)
    with pytest.raises(RuntimeError, match="larger grad_order"):
        torch.autograd.grad(derivative.sum(), layer.w)


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
@pytest.mark.parametrize("grad_order", [1, 2])
@pytest.mark.parametrize("backward", BACKWARD)
def test_nothing_outlives_the_answer(grad_order, backward):
    class Map:
        def __init__(self, w):
            self.w = w

        def __call__(self, z):
            return torch.tanh(z @ self.w + 1)

    w = (0.1 * normal(3, 3, seed=17)).requires_grad_()
    gc.collect()
    gc.disable()
    try:
        f = Map(w * 1)
        alive = weakref.ref(f), weakref.ref(f.w)
        z_star, result = equilibrium(
            f, torch.zeros(2, 3, dtype=torch.float64), NEWTON, tight(backward), grad_order
        )
        z_star.sum().backward(create_graph=grad_order > 1)
        del f, z_star
        # torch's own cycle: a gradient made with create_graph holds the graph that leads back to w
        w.grad = None
        assert result.backward is not None and [ref() for ref in alive] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("shape", [(1,), (1, 2), (2, 2, 2)])
@pytest.mark.parametrize("backward", BACKWARD)
def test_gradients_of_any_trailing_shape(shape, backward):
    x = torch.full(shape, 0.5, dtype=torch.float64, requires_grad=True)
    z_star, _ = equilibrium(lambda z: 0.5 * z + x, torch.zeros_like(x), NEWTON, tight(backward))
    z_star.sum().backward()
    torch.testing.assert_close(x.grad, torch.full(shape, 2.0, dtype=torch.float64))


def test_float32_stays_float32():
    x = torch.ones(2, 3, requires_grad=True)
    z_star, result = equilibrium(lambda z: 0.5 * torch.cos(z) + x, torch.zeros(2, 3))
    z_star.sum().backward()
    assert z_star.dtype == x.grad.dtype == result.backward.z.dtype == torch.float32


def test_unroll_applies_f_n_times():
    x = torch.tensor([[2.0]], requires_grad=True)
    z = unroll(lambda z: z * x, torch.ones(1, 1), 5)
    z.backward()
    assert z.item() == 32.0 and x.grad.item() == 5 * 2.0**4


def test_wrong_choices_are_refused():
    zeros = torch.zeros(1, 1)
    with pytest.raises(ValueError, match="'newton' cannot solve the backward pass; known: broyden, anderson"):
        equilibrium(torch.cos, zeros, backward=SolverSettings("newton"))
    with pytest.raises(ValueError, match="grad_order must be 1, 2 or 3, not 0"):
        equilibrium(torch.cos, zeros, grad_order=0)
    with pytest.raises(ValueError, match="'exact' solves linear systems only"):
        equilibrium(torch.cos, zeros, forward=SolverSettings("exact"))
    with pytest.raises(ValueError, match="n_layers must be >= 1, not 0"):
        unroll(torch.cos, zeros, 0)
    with pytest.raises(ValueError, match=r"f.jacobian\(z\) must have shape \(1, 1, 1\)"):
        f = torch.nn.Identity()
        f.jacobian = lambda z: torch.zeros(1, 2, 2)
        equilibrium(f, zeros + 1, forward=SolverSettings("newton", 1, 0.0), backward=SolverSettings("exact"))[
            0
        ].sum().backward()
