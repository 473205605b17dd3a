"""Implicit gradients against finite differences, against unrolling, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from deq import SolverSettings, equilibrium, unroll
from problems import BACKWARD, NEWTON, BoundTanh, layer_and_input, normal, tight


def equilibrium_of(backward: SolverSettings, grad_order: int = 1, offers_jacobian: bool = False):
    """(w, b, x) -> z*, for gradcheck."""

    def z_star(w, b, x):
        f = BoundTanh(w, b, x)
        bound = f if offers_jacobian else lambda z: f(z)
        return equilibrium(bound, torch.zeros_like(x), NEWTON, backward, grad_order)[0]

    return z_star


@pytest.mark.parametrize("backward", BACKWARD)
@pytest.mark.parametrize("grad_order", [1, 2])
def test_gradient_against_finite_differences(backward, grad_order):
    layer, x = layer_and_input()
    z_star = equilibrium_of(tight(backward), grad_order, offers_jacobian=backward == "exact")
    assert torch.autograd.gradcheck(z_star, (layer.w, layer.b, x))


@pytest.mark.parametrize("backward", ["broyden", "anderson", "exact"])
def test_second_derivatives_against_finite_differences(backward):
    layer, x = layer_and_input(n_dims=2)
    assert torch.autograd.gradgradcheck(equilibrium_of(tight(backward), 2), (layer.w, layer.b, x))


def test_second_derivatives_with_a_detached_jacobian_of_fs_own():
    layer, x = layer_and_input(n_dims=2)
    assert torch.autograd.gradgradcheck(equilibrium_of(tight("exact"), 2, True), (layer.w, layer.b, x))


def test_third_derivatives_against_finite_differences():
    def second_derivative(a, x):
        z_star, _ = equilibrium(
            lambda z: torch.tanh(a * z + x), torch.zeros_like(x), NEWTON, tight("exact"), grad_order=3
        )
        (first,) = torch.autograd.grad(z_star.sum(), a, create_graph=True)
        return torch.autograd.grad(first, a, create_graph=True)[0]

    a = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    x = normal(2, 1, seed=5).requires_grad_()
    assert torch.autograd.gradcheck(second_derivative, (a, x))


def test_derivatives_of_the_square_root_in_closed_form():
    # z = sqrt(a) solves z = c z + (1 - c) (0.4 z + 0.6 a / z) for any c, and J does not vanish there
    a = torch.tensor([[2.0], [9.0]], dtype=torch.float64, requires_grad=True)
    z_star, _ = equilibrium(
        lambda z: 0.3 * z + 0.7 * (0.4 * z + 0.6 * a / z),
        torch.ones_like(a),
        NEWTON,
        tight("exact"),
        grad_order=2,
    )
    (first,) = torch.autograd.grad(z_star.sum(), a, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), a)
    torch.testing.assert_close(z_star, a.sqrt())
    torch.testing.assert_close(first, 0.5 * a**-0.5)
    torch.testing.assert_close(second, -0.25 * a**-1.5)


@pytest.mark.parametrize("backward", BACKWARD)
def test_gradient_of_an_affine_map_is_the_transposed_solve(backward):
    # not contractive in norm and far from symmetric, so a lost transpose shows
    a = torch.tensor([[0.2, 2.0, 0.0], [0.0, -0.3, 1.5], [0.0, 0.0, 0.4]], dtype=torch.float64)
    x = normal(4, 3, seed=6).requires_grad_()
    c = normal(4, 3, seed=7)
    z_star, _ = equilibrium(lambda z: z @ a.T + x, torch.zeros_like(x), NEWTON, tight(backward))
    (z_star * c).sum().backward()
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(x.grad, torch.linalg.solve((eye - a).T, c.T).T)


def test_gradient_agrees_with_the_unrolled_loop():
    layer, x = layer_and_input(5, 4)
    weights = normal(4, 5, seed=8)
    z0 = torch.zeros_like(x)
    implicit, _ = equilibrium(layer.bind(x), z0, NEWTON, tight("broyden"))
    unrolled = unroll(layer.bind(x), z0, 200)
    torch.testing.assert_close(implicit, unrolled)
    leaves = (layer.w, layer.b, x)
    gradients = [torch.autograd.grad((z**2 * weights).sum(), leaves) for z in (implicit, unrolled)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("n_steps", [0, 1, 4])
def test_picard_backward_is_the_truncated_neumann_series(n_steps):
    a = 0.5 * normal(3, 3, seed=9) / math.sqrt(3)
    x = normal(2, 3, seed=10).requires_grad_()
    c = normal(2, 3, seed=11)
    z_star, _ = equilibrium(
        lambda z: z @ a.T + x, torch.zeros_like(x), NEWTON, SolverSettings("fixed_point", n_steps, 0.0)
    )
    (z_star * c).sum().backward()
    series = sum(c @ torch.linalg.matrix_power(a, k) for k in range(n_steps + 1))
    torch.testing.assert_close(x.grad, series)


def test_gradient_flows_into_work_done_before_the_solve_once():
    # w is expensive work of f's; the solver and both gradients meet its graph once
    theta = normal(3, 3, seed=12).requires_grad_()
    visits = []

    class Expensive(torch.autograd.Function):
        @staticmethod
        def forward(ctx, t):
            return 0.1 * t

        @staticmethod
        def backward(ctx, grad):
            visits.append(1)
            return 0.1 * grad

    w = Expensive.apply(theta)
    z_star, result = equilibrium(lambda z: torch.tanh(z @ w.T + 1), torch.zeros(2, 3, dtype=torch.float64))
    z_star.sum().backward()
    assert len(visits) == 1 and result.backward.n_f_evals > 2 and theta.grad.abs().sum() > 0
