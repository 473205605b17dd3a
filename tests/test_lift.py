"""E, its transpose and its inverse on lifted states, against the matrix they stand for."""

import numpy as np
import pytest
import torch

from models.lift import MatrixLift, Repeat, make_lift


def matrix(n: int, copies: int) -> torch.Tensor:
    """(n * copies, n): entry k of r appears `copies` times in a row."""
    e = torch.zeros(n * copies, n, dtype=torch.float64)
    for row in range(n * copies):
        e[row, row // copies] = 1
    return e


@pytest.mark.parametrize("n, copies", [(4, 4), (3, 1), (1, 5), (5, 2)])
def test_the_lift_is_its_matrix(n, copies):
    lift, e = Repeat(n, copies), matrix(n, copies)
    generator = torch.Generator().manual_seed(0)
    r = torch.randn(3, n, generator=generator, dtype=torch.float64)
    values = torch.randn(2, n * copies, 3, generator=generator, dtype=torch.float64)

    torch.testing.assert_close(lift(r), r @ e.T)
    torch.testing.assert_close(lift.transpose(values, 1), torch.einsum("bdc,dk->bkc", values, e))
    torch.testing.assert_close(lift.transpose(values.mT), values.mT @ e)
    torch.testing.assert_close(lift.gram(r), r @ e.T @ e)
    torch.testing.assert_close(lift.readouts(lift(r)), r)
    any_z = values[..., 0]
    torch.testing.assert_close(lift.nearest(any_z), torch.linalg.lstsq(e, any_z.T).solution.T)
    assert lift.width == n * copies
    torch.testing.assert_close(lift.shrinking * lift(r).norm(dim=1), r.norm(dim=1))


SIZES = [(55, 100), (165, 100), (3, 16), (16, 16), (30, 16), (1, 4)]


@pytest.mark.parametrize("n, width", SIZES)
@pytest.mark.parametrize("name", ["interpolate", "projection"])
def test_any_number_of_readouts_is_lifted_by_a_matrix(name, n, width):
    lift = make_lift(name, n, width)
    e, generator = lift.matrix, torch.Generator().manual_seed(0)
    assert e.shape == (width, n) and (lift.width, lift.n) == (width, n) and not list(lift.parameters())
    r, values = (torch.randn(2, *shape, generator=generator, dtype=torch.float64) for shape in ((n,), (width, 3)))
    torch.testing.assert_close(lift(r), torch.einsum("dk,bk->bd", e, r))
    torch.testing.assert_close(lift.transpose(values, 1), torch.einsum("bdc,dk->bkc", values, e))
    torch.testing.assert_close(lift.gram(r), torch.einsum("dj,dk,bk->bj", e, e, r))
    inverse = torch.linalg.lstsq(e, lift(r).T, driver="gelsd").solution.T  # the shortest solution
    torch.testing.assert_close(lift.readouts(lift(r)), inverse)
    torch.testing.assert_close(lift(lift.readouts(lift(r))), lift(r))
    shortest = torch.linalg.lstsq(e, values[..., 0].T, driver="gelsd").solution.T
    torch.testing.assert_close(lift.nearest(values[..., 0]), shortest)
    worst = torch.linalg.svd(e).Vh[0]  # the direction that E stretches most
    assert float(lift(worst).norm()) * lift.shrinking == pytest.approx(1) and (lift(r) * lift.shrinking).norm() <= r.norm()


@pytest.mark.parametrize("n, width", SIZES)
def test_a_projection_keeps_sizes_and_angles(n, width):
    e = make_lift("projection", n, width).matrix.numpy()
    gram = e.T @ e if n <= width else e @ e.T
    np.testing.assert_allclose(gram, max(1, width / n) * np.eye(len(gram)), atol=1e-12)
    assert (e**2).sum() / width == pytest.approx(1)  # E z_i^2 of readouts with mean square 1
    assert torch.equal(make_lift("projection", n, width).matrix, torch.from_numpy(e))


@pytest.mark.parametrize("n, width", [(4, 16), (16, 7)])
def test_interpolation_reads_a_polygon(n, width):
    r = np.random.default_rng(0).normal(size=n)
    expected = np.interp(np.linspace(0, n - 1, width), np.arange(n), r)
    np.testing.assert_allclose(make_lift("interpolate", n, width)(torch.from_numpy(r)), expected, atol=1e-12)


def test_a_default_for_every_number_of_readouts():
    for n in range(1, 40):
        lift = make_lift("auto", n, 16)
        assert isinstance(lift, Repeat if 16 % n == 0 else MatrixLift) and (lift.n, lift.width) == (n, 16)
        assert lift.sees_state == (16 % n == 0)
    with pytest.raises(ValueError, match="lift must be one of auto, repeat, interpolate, projection, got 'pad'"):
        make_lift("pad", 3, 16)
    with pytest.raises(ValueError, match="3 readouts cannot be repeated to the 16 inputs"):
        make_lift("repeat", 3, 16)
    with pytest.raises(ValueError, match="a lift is a matrix of full rank"):
        MatrixLift(torch.ones(4, 2, dtype=torch.float64))
