"""E, its transpose and its inverse on lifted states, against the matrix they stand for."""

import pytest
import torch

from models.lift import Repeat


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
    assert lift.width == n * copies
    torch.testing.assert_close(lift.shrinking * lift(r).norm(dim=1), r.norm(dim=1))
