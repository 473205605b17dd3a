"""What several ranks add up or exchange under autograd.

Every rank differentiates its own part of a loss that is the sum over the ranks. So what all ranks hold alike gets the sum
of their gradients, and what a rank sends gets its gradient back from where it went. Summed over the ranks, as a step
sums them, the parameters' gradients are then those of the whole loss. All ranks must make the same calls, and go
backwards through each of them. Knows torch.distributed, not what is sent.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor


class RankLost(RuntimeError):
    """Another process of the run has ended; the message is one line for the user."""


@contextmanager
def noticing() -> Iterator[None]:
    """A block that sends; what it raises where another rank has ended becomes one line."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost(
            "another process of this run has ended, see what it said; --restart continues from the last checkpoint"
        ) from error


class Total(torch.autograd.Function):
    """The sum over the ranks, on all of them; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        with noticing():
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return Total.apply(grad)


class GatherColumns(torch.autograd.Function):
    """Each rank gives its columns of all rows, and gets all columns of its rows.

    Args:
        own: (rows, ..., own columns).
        rows, columns: where each rank's begin, and how many there are: (size + 1,).

    Returns:
        (own rows, ..., columns).
    """

    @staticmethod
    def forward(ctx, own: Tensor, rows: Sequence[int], columns: Sequence[int], rank: int) -> Tensor:
        ctx.bounds = rows, columns, rank
        n_rows, n_columns, between = _sizes(rows), _sizes(columns), own.shape[1:-1]
        depth = between.numel()
        received = own.new_empty(n_rows[rank] * depth * columns[-1])
        sent, sizes = [n * depth * n_columns[rank] for n in n_rows], [n_rows[rank] * depth * n for n in n_columns]
        with noticing():
            dist.all_to_all_single(received, own.contiguous().flatten(), sizes, sent)
        blocks = received.split(sizes)
        return torch.cat([block.view(n_rows[rank], *between, n) for block, n in zip(blocks, n_columns)], dim=-1)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return ScatterColumns.apply(grad, *ctx.bounds), None, None, None


class ScatterColumns(torch.autograd.Function):
    """The way back: each rank gives all columns of its rows, and gets its columns of all rows."""

    @staticmethod
    def forward(ctx, own: Tensor, rows: Sequence[int], columns: Sequence[int], rank: int) -> Tensor:
        ctx.bounds = rows, columns, rank
        n_rows, n_columns, between = _sizes(rows), _sizes(columns), own.shape[1:-1]
        depth = between.numel()
        received = own.new_empty(rows[-1] * depth * n_columns[rank])
        blocks = torch.cat([block.flatten() for block in own.split(n_columns, dim=-1)])
        sent, sizes = [n_rows[rank] * depth * n for n in n_columns], [n * depth * n_columns[rank] for n in n_rows]
        with noticing():
            dist.all_to_all_single(received, blocks, sizes, sent)
        return received.view(rows[-1], *between, n_columns[rank])

    @staticmethod
    def backward(ctx, grad: Tensor):
        return GatherColumns.apply(grad, *ctx.bounds), None, None, None


def _sizes(bounds: Sequence[int]) -> list[int]:
    return [end - begin for begin, end in zip(bounds, bounds[1:])]
