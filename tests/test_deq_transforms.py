"""torch.func, forward mode and torch.compile of a whole solve, against implicit gradients and finite differences."""

from __future__ import annotations

import pytest
import torch

from deq import EquilibriumLayer, SolverSettings, equilibrium, solve
from problems import ALL, layer_and_input, normal, tight

W, X, C = 0.3 * normal(3, 3, seed=1), normal(2, 3, seed=2), normal(2, 3, seed=3)


def z_star(w, x, solver="broyden", grad_order=1):
    settings = SolverSettings(solver, 60 if solver == "fixed_point" else 25, 1e-13)
    return equilibrium(lambda z: torch.tanh(z @ w + x), torch.zeros_like(x), settings, tight("exact"), grad_order)[0]


def loss(w, x=X, solver="broyden", grad_order=1):
    return (z_star(w, x, solver, grad_order).square() * C).sum()


def plain_gradient(w, x=X):
    w = w.clone().requires_grad_()
    return torch.autograd.grad(loss(w, x), w)[0]


@pytest.mark.parametrize("solver", ALL)
def test_grad_jacrev_and_jacfwd(solver):
    for transform in (torch.func.grad, torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(transform(loss)(W, X, solver), plain_gradient(W))


@pytest.mark.parametrize("solver", ALL)
def test_vmap_over_parameters(solver):
    ws = torch.stack([W, 0.5 * W, -W])
    values = torch.func.vmap(lambda w: z_star(w, X, solver))(ws)
    gradients = torch.func.vmap(torch.func.grad(lambda w: loss(w, X, solver)))(ws)
    for w, value, gradient in zip(ws, values, gradients):
        torch.testing.assert_close(value, z_star(w, X, solver))
        torch.testing.assert_close(gradient, plain_gradient(w))
    # over the inputs as well, and over both
    per_sample = torch.func.vmap(lambda x: z_star(W, x.unsqueeze(0), solver).squeeze(0))(X)
    torch.testing.assert_close(per_sample, z_star(W, X))
    both = torch.func.vmap(lambda w, x: z_star(w, x.unsqueeze(0), solver).squeeze(0))(ws[:2], X)
    torch.testing.assert_close(both[1], z_star(ws[1], X)[1])


@pytest.mark.parametrize("solver", ALL)
def test_jvp_against_central_differences(solver):
    direction = normal(3, 3, seed=4)
    value, slope = torch.func.jvp(lambda w: z_star(w, X, solver), (W,), (direction,))
    h = 1e-6
    expected = (z_star(W + h * direction, X) - z_star(W - h * direction, X)) / (2 * h)
    torch.testing.assert_close(value, z_star(W, X))
    torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-8)


def test_forward_mode_passes_gradcheck():
    leaves = (W.clone().requires_grad_(), X.clone().requires_grad_())
    assert torch.autograd.gradcheck(z_star, leaves, check_forward_ad=True, check_backward_ad=False)


def test_hessian_with_grad_order_2():
    expected = torch.autograd.functional.hessian(lambda w: loss(w, X, grad_order=2), W)
    torch.testing.assert_close(
        torch.func.hessian(lambda w: loss(w, X, grad_order=2))(W), expected, rtol=1e-6, atol=1e-9
    )
    reverse = torch.func.jacrev(torch.func.jacrev(lambda w: loss(w, X, grad_order=2)))(W)
    torch.testing.assert_close(reverse, expected, rtol=1e-6, atol=1e-9)


def test_functional_call_of_a_layer_and_a_jacobian_of_fs_own():
    layer, x = layer_and_input()
    module = EquilibriumLayer(lambda z, x: layer.bind(x, offers_jacobian=True)(z))
    module.cell = layer
    parameters = dict(module.named_parameters())
    gradients = torch.func.grad(lambda p: torch.func.functional_call(module, p, (x,)).square().sum())(parameters)
    module(x).square().sum().backward()
    torch.testing.assert_close(gradients["cell.w"], layer.w.grad, rtol=1e-4, atol=1e-6)


def test_states_of_several_tensors_and_failed_samples():
    def value(w, x):
        z, _ = equilibrium(lambda z: {"a": torch.tanh(z["b"] @ w + x), "b": 0.5 * z["a"]},
                           {"a": torch.zeros_like(x), "b": torch.zeros_like(x)}, SolverSettings("newton", 20, 1e-13))  # fmt: skip
        return z["a"]

    ws = torch.stack([W, -W])
    found = torch.func.vmap(lambda w: value(w, X))(ws)
    torch.testing.assert_close(found[1], value(-W, X))
    spoilt = X.clone()
    spoilt[0, 0] = torch.nan
    assert torch.func.vmap(lambda w: value(w, spoilt))(ws).isnan().any(dim=2).tolist() == [[True, False]] * 2


@pytest.mark.slow
@pytest.mark.parametrize("solver, backend", [*((solver, "aot_eager") for solver in ALL), ("newton", "eager")])
def test_compile_of_the_whole_is_one_graph(solver, backend):
    torch._dynamo.reset()

    def step(w):
        z, result = equilibrium(
            lambda z: torch.tanh(z @ w + X), torch.zeros_like(X), SolverSettings(solver, 4, 0.0), tight("exact")
        )
        return (z.square() * C).sum(), result.residual

    compiled = torch.compile(step, fullgraph=True, backend=backend)
    w = W.clone().requires_grad_()
    (value, residual), (expected, expected_residual) = compiled(w), step(w)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(residual, expected_residual, rtol=1e-6, atol=1e-15)
    torch.testing.assert_close(torch.autograd.grad(value, w), torch.autograd.grad(expected, w))
    torch._dynamo.reset()
    found = torch.compile(
        lambda z0: solve(torch.cos, z0, SolverSettings(solver, 4, 0.0)).z, fullgraph=True, backend=backend
    )
    torch.testing.assert_close(
        found(torch.zeros(2, 3)), solve(torch.cos, torch.zeros(2, 3), SolverSettings(solver, 4, 0.0)).z
    )
