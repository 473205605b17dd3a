"""Jacobian tools against closed forms, dense linear algebra and finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from deq import batch_jacobian, hutchinson_jacobian_loss, spectral_radius
from problems import BoundTanh, TanhLayer, normal


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rotation(angle: float, radius: float) -> torch.Tensor:
    c, s = radius * math.cos(angle), radius * math.sin(angle)
    return torch.tensor([[c, -s], [s, c]], dtype=torch.float64)


class Doubled(torch.autograd.Function):
    """2 z, by an operation that autograd cannot batch."""

    @staticmethod
    def forward(ctx, z):
        return 2 * z

    @staticmethod
    def backward(ctx, grad):
        return torch.from_numpy(2 * grad.numpy())


def test_batch_jacobian_is_the_closed_form():
    layer, x, z = TanhLayer(4, seed=1), normal(3, 4, seed=2), normal(3, 4, seed=3)
    expected = BoundTanh(layer.w, layer.b, x).jacobian(z)
    jacobian = batch_jacobian(layer.bind(x), z)
    torch.testing.assert_close(jacobian, expected.detach())
    assert not jacobian.requires_grad


def test_batch_jacobian_keeps_row_major_order_of_trailing_shapes():
    a = normal(6, 6, seed=4)
    z = normal(2, 2, 3, seed=5)
    jacobian = batch_jacobian(lambda z: (z.reshape(2, 6) @ a.T).reshape(2, 2, 3), z)
    torch.testing.assert_close(jacobian, a.expand(2, 6, 6))


def test_batch_jacobian_of_operations_that_cannot_be_batched():
    jacobian = batch_jacobian(Doubled.apply, normal(3, 2, seed=6))
    torch.testing.assert_close(jacobian, 2 * torch.eye(2, dtype=torch.float64).expand(3, 2, 2))


@pytest.mark.parametrize("f", [lambda z: torch.ones_like(z), lambda z: 0 * z], ids=["constant", "zero"])
def test_maps_without_slope(f):
    z = normal(3, 4, seed=7)
    assert torch.equal(batch_jacobian(f, z), torch.zeros(3, 4, 4, dtype=torch.float64))
    assert float(hutchinson_jacobian_loss(f, z)) == 0.0
    assert torch.equal(spectral_radius(f, z), torch.zeros(3, dtype=torch.float64))


def test_empty_batch():
    assert batch_jacobian(torch.cos, torch.zeros(0, 4)).shape == (0, 4, 4)
    assert spectral_radius(torch.cos, torch.zeros(0, 4)).shape == (0,)


def test_works_under_no_grad_and_leaves_z_alone():
    z = normal(2, 3, seed=8).requires_grad_()
    with torch.no_grad():
        assert not hutchinson_jacobian_loss(torch.cos, z, generator=seeded(0)).requires_grad
        torch.testing.assert_close(batch_jacobian(torch.cos, z), torch.diag_embed(-z.sin()))
    assert z.grad is None


def test_hutchinson_expects_the_squared_frobenius_norm():
    layer, x, z = TanhLayer(5, seed=9, scale=1.5), normal(4, 5, seed=10), normal(4, 5, seed=11)
    f = layer.bind(x)
    exact = float(batch_jacobian(f, z).square().sum()) / z.numel()
    with torch.no_grad():
        draws = torch.stack([hutchinson_jacobian_loss(f, z, generator=seeded(s)) for s in range(3000)])
    standard_error = float(draws.std()) / math.sqrt(len(draws))
    assert standard_error < 0.02 * exact
    assert abs(float(draws.mean()) - exact) < 4 * standard_error


def test_hutchinson_averages_its_vectors():
    z = normal(3, 4, seed=12)
    together = hutchinson_jacobian_loss(torch.cos, z, n_vectors=3, generator=seeded(5))
    stream = seeded(5)
    apart = [hutchinson_jacobian_loss(torch.cos, z, generator=stream) for _ in range(3)]
    torch.testing.assert_close(together, sum(apart) / 3)


def test_hutchinson_gradient_against_finite_differences():
    z = normal(3, 4, seed=13).requires_grad_()
    layer = TanhLayer(4, seed=14)
    x = normal(3, 4, seed=15).requires_grad_()

    def loss(w, b, x):
        return hutchinson_jacobian_loss(BoundTanh(w, b, x), z, n_vectors=2, generator=seeded(3))

    assert torch.autograd.gradcheck(loss, (layer.w, layer.b, x))
    loss(layer.w, layer.b, x).backward()
    assert z.grad is None and layer.w.grad.abs().sum() > 0


def test_spectral_radius_of_dense_matrices():
    a = normal(4, 6, 6, seed=16)
    expected = torch.linalg.eigvals(a).abs().amax(dim=1)
    radius = spectral_radius(
        lambda z: torch.einsum("bij,bj->bi", a, z), normal(4, 6, seed=17), 2000, seeded(1)
    )
    torch.testing.assert_close(radius, expected, rtol=5e-3, atol=0)


def test_spectral_radius_of_a_dominant_complex_pair():
    # a skewed rotation: ||J v|| / ||v|| oscillates between far more than 0.9 and far less
    skew = torch.diag(torch.tensor([1.0, 6.0], dtype=torch.float64))
    a = torch.block_diag(
        skew @ rotation(0.7, 0.9) @ skew.inverse(), torch.tensor([[0.3]], dtype=torch.float64)
    )
    assert torch.linalg.eigvals(a).is_complex() and float(
        torch.linalg.eigvals(a).abs().max()
    ) == pytest.approx(0.9)
    radius = spectral_radius(lambda z: z @ a.T, normal(5, 3, seed=18), 400, seeded(2))
    torch.testing.assert_close(radius, torch.full_like(radius, 0.9), rtol=0.02, atol=0)


def test_spectral_radius_of_real_dominance_needs_few_steps():
    a = torch.diag(torch.tensor([-1.7, 0.6, 0.2], dtype=torch.float64))
    radius = spectral_radius(lambda z: z @ a, normal(2, 3, seed=19), 40, seeded(3))
    torch.testing.assert_close(radius, torch.full_like(radius, 1.7), rtol=1e-6, atol=0)


def test_spectral_radius_of_a_nilpotent_jacobian_is_zero():
    a = torch.triu(normal(3, 3, seed=20), diagonal=1)
    assert torch.equal(
        spectral_radius(lambda z: z @ a, normal(2, 3, seed=21)), torch.zeros(2, dtype=torch.float64)
    )


@pytest.mark.parametrize("shape", [(3,), (2, 3, 2)])
def test_spectral_radius_of_any_trailing_shape(shape):
    radius = spectral_radius(lambda z: 0.4 * z, torch.zeros(shape), generator=seeded(4))
    torch.testing.assert_close(radius, torch.full(shape[:1], 0.4))


def test_wrong_counts_are_refused():
    with pytest.raises(ValueError, match="n_vectors must be >= 1"):
        hutchinson_jacobian_loss(torch.cos, torch.zeros(1, 1), n_vectors=0)
    with pytest.raises(ValueError, match="n_steps must be >= 1"):
        spectral_radius(torch.cos, torch.zeros(1, 1), n_steps=0)
