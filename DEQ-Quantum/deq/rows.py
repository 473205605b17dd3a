"""Products and choices per sample, for states (B, d) and histories (k, B, d) of k of them.

Samples never mix: every inner product is within a sample. For wide states batched products read the history once
and write nothing in between; for narrow ones elementwise sums are as fast, and their rounding is that of a sum.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deq.host import host_may_look, traced

WIDE = 256


def dot(a: Tensor, b: Tensor) -> Tensor:
    """(B, 1) inner products of the samples of a and b (B, d)."""
    return (a * b).sum(dim=1, keepdim=True)


def norm(a: Tensor) -> Tensor:
    """(B, 1) Euclidean norms of the samples of a (B, d)."""
    return torch.linalg.vector_norm(a, dim=1, keepdim=True)


def history_dots(history: Tensor, *vectors: Tensor, room: Tensor | None = None) -> list[Tensor]:
    """For each of n vectors (B, d), the (B, k) inner products with the history's k states.

    The vectors are laid side by side, so that the history is read once for all; `room`, (B, n, d), is where.
    """
    if len(vectors) == 1:
        return [torch.bmm(vectors[0].unsqueeze(1), history.permute(1, 2, 0)).squeeze(1)]
    room = torch.stack(vectors, dim=1, out=room) if not traced() else torch.stack(vectors, dim=1)
    return list(torch.bmm(room, history.permute(1, 2, 0)).unbind(1))


def add_combination(vector: Tensor, history: Tensor, weights: Tensor, sign: int = 1) -> Tensor:
    """vector + sign * sum_k weights_k history_k: (B, d), (k, B, d), (B, k) to (B, d)."""
    if history.shape[2] < WIDE:
        total = (history * weights.T.unsqueeze(2)).sum(dim=0)
        return vector + total if sign > 0 else vector - total
    product = torch.baddbmm(vector.unsqueeze(1), weights.unsqueeze(1), history.transpose(0, 1), alpha=sign)
    return product.squeeze(1)


def choose(samples: Tensor, a: Tensor, b: Tensor, in_all: bool | None = None) -> Tensor:
    """a (B, d) for those samples (B,), else b (B, d); in_all: whether that is known to be all of them."""
    narrow = a.shape[1] < WIDE
    if in_all is None:
        # where states are narrow, a look costs as much as the choice
        in_all = not narrow and host_may_look(a) and bool(samples.all())
    if in_all:
        return a
    if narrow or not host_may_look(a):
        return torch.where(samples.unsqueeze(1), a, b)
    # a broadcast `where` on a CPU takes ten times as long as a copy
    index = samples.nonzero().flatten()
    return b.index_copy(0, index, a.index_select(0, index))


def zero_unless(samples: Tensor, a: Tensor) -> Tensor:
    """a (B, d) for those samples (B, 1), else zeros."""
    if a.shape[1] >= WIDE and host_may_look(a) and samples.all():
        return a
    return torch.where(samples, a, 0.0)


def rounding(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """(B, 1) length below which a difference made of such vectors (B, d) may be rounding error alone.

    Such a difference holds no slope: trusting it, as where f(z) - z is constant, would make a step of any
    size.
    """
    return rounding_of(norm(a) + norm(b) + norm(c))


def rounding_of(lengths: Tensor) -> Tensor:
    """`rounding` of vectors whose norms add up to `lengths`."""
    return 4 * torch.finfo(lengths.dtype).eps * lengths


def squared_rounding_of(squared_lengths: Tensor) -> Tensor:
    """The square of `rounding` of three vectors, or a little more, from the sum of their squared norms."""
    return 3 * (4 * torch.finfo(squared_lengths.dtype).eps) ** 2 * squared_lengths
