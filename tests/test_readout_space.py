"""The space of readouts: the reduced map h(r), its slopes, and products with the Jacobian by way of it."""

import copy

import pytest
import torch
from torch.autograd.functional import jacobian

from small_layers import ENCODINGS, FACES, draw, make_layer


@pytest.mark.parametrize("engine, encoding", FACES)
@pytest.mark.parametrize("n_wires", (4, 10))
def test_reduced_map_lifts_to_f(n_wires, engine, encoding):
    """lift(h(r)) = f(lift(r)), and its slopes in r, x and theta."""
    layer = make_layer(n_wires, engine, encoding)
    z, x = draw(n_wires)
    results = []
    for evaluate in (
        lambda r, x: layer.lift(layer.bind(x).reduced()(r)),
        lambda r, x: layer.bind(x)(layer.lift(r)),
    ):
        r_leaf, x_leaf = z[:, :n_wires].clone().requires_grad_(), x.clone().requires_grad_()
        value = evaluate(r_leaf, x_leaf)
        slopes = torch.autograd.grad(value.square().sum(), (r_leaf, x_leaf, layer.theta))
        results.append((value.detach(), *slopes))

    for reduced, full in zip(*results):
        torch.testing.assert_close(reduced, full, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("n_wires", (4, 6, 10))
def test_reduced_map_in_float64(n_wires):
    layer = make_layer(n_wires).double()
    z, x = draw(n_wires, dtype=torch.float64)
    r = z[:, :n_wires]
    h = layer.bind(x).reduced()

    torch.testing.assert_close(layer.lift(h(r)), layer.bind(x)(layer.lift(r)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("n_wires", (4, 10))
def test_product_with_the_jacobian_at_lifted_points(n_wires, encoding):
    """By way of the reduced map: the value that autograd finds for f, and the same gradient of a function of it."""
    layer = make_layer(n_wires, encoding=encoding).double()
    (start, x), (v, weights) = draw(n_wires, dtype=torch.float64), draw(n_wires, dtype=torch.float64, seed=1)
    z = layer.lift(start[:, :n_wires]).requires_grad_()
    f = layer.bind(x)

    product = f.reduced().vjp(start[:, :n_wires], v.unflatten(-1, (n_wires, n_wires)).sum(-1))

    (expected,) = torch.autograd.grad(f(z), z, v, create_graph=True)
    torch.testing.assert_close(product, expected, rtol=1e-9, atol=1e-12)
    slope, expected = (
        torch.autograd.grad((p * weights).sum(), layer.theta, retain_graph=True)[0] for p in (product, expected)
    )
    torch.testing.assert_close(slope, expected, rtol=1e-9, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(f.vjp(z, v), product)


@pytest.mark.parametrize("n_wires", (4, 10))
def test_exact_jacobian_of_the_reduced_map(n_wires):
    layer = make_layer(n_wires).double()
    z, x = draw(n_wires, dtype=torch.float64)
    h = layer.bind(x).reduced()
    r = z[:, :n_wires].clone()

    exact = h.jacobian(r).detach()

    by_autograd = torch.stack([jacobian(h, r)[i, :, i] for i in range(len(r))])
    through_f = torch.stack([
        jacobian(lambda r: layer.bind(x)(layer.lift(r)), r)[i, :: n_wires, i] for i in range(len(r))
    ])  # fmt: skip
    torch.testing.assert_close(exact, by_autograd, rtol=0, atol=1e-12)
    torch.testing.assert_close(exact, through_f, rtol=0, atol=1e-12)


def test_reduced_map_of_a_zero_vector_is_zero_with_zero_slope():
    """x = -lift(r) in one sample of three: no direction, so h and its Jacobian vanish, and nothing is NaN."""
    layer = make_layer()
    z, x = draw()
    r = z[:, :4].clone()
    r[1] = 0.5
    x[1] = -0.5
    h = layer.bind(x).reduced()
    r.requires_grad_()

    value = h(r)
    (slope,) = torch.autograd.grad(value.sum(), r)

    assert (value[1] == 0).all() and (slope[1] == 0).all() and (h.jacobian(r)[1] == 0).all()
    assert value.isfinite().all() and slope.isfinite().all() and h.jacobian(r).isfinite().all()


@pytest.mark.parametrize("distance", (1.0, 1e-1, 1e-2))
def test_reduced_map_near_a_zero_vector_loses_only_what_cancels(distance):
    """|x + lift(r)|^2 comes as a sum of terms of the size of |x|^2: rounding grows with the ratio."""
    layer = make_layer()
    z, _ = draw(batch=50)
    r = z[:, :4]
    v = distance * torch.randn(50, 16, generator=torch.Generator().manual_seed(3))
    x = v - layer.lift(r)
    exact = copy.deepcopy(layer).double()

    error = (layer.bind(x).reduced()(r) - exact.bind(x.double()).reduced()(r.double())).abs().amax(1)

    cancellation = x.square().sum(1) / v.square().sum(1)
    assert (error <= 30 * torch.finfo(torch.float32).eps * (1 + cancellation)).all()
