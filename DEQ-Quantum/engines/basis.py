"""Sends the first basis states of a register through fused blocks, small at first.

A basis state is a product: until a block acts on a wire, the wire need not be part of the state, nor its bit tell columns
apart. Knows matrices and wires, not gates or parameters.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from engines.propagation import KEPT, Propagation


class _Join:
    """A block on some wires that have joined the state and some that have not: a product of the size of the former.

    The wires that join are in |0>, or their bit numbers the column: what the block makes of either value is a column of
    its own. So the block is a map from the wires that were there to all of its wires and the new columns.

    Args:
        axes: of the state before, without the real and imaginary part: wires, and columns' bits as ~wire.
        wires: of the block.
        numbered: wires whose bits number the columns.

    Attributes:
        new: wires whose bits number the columns from now on.
        axes: of the state afterwards.
        macs: real multiplications.
    """

    def __init__(self, axes: Sequence[int], wires: Sequence[int], numbered: Sequence[int]):
        here, joining = ([w for w in wires if (w in axes) == known] for known in (True, False))
        self.new = [w for w in joining if w in numbered]
        self._inputs = (2,) * (1 + len(wires))  # behind the block's rows: real and imaginary part and the wires
        self._zeros = [2 + place for place, w in enumerate(wires) if w in joining and w not in numbered]
        left = [w for w in wires if w not in joining or w in numbered]
        self._order = [0, *(2 + left.index(w) for w in self.new), 1, *(2 + left.index(w) for w in here)]
        self._n_columns, self._n_here = 2 ** len(self.new), 2 ** (1 + len(here))
        columns = [axis for axis in axes if axis < 0]
        if self.new:  # the columns so far in the order of their numbers, while the state is small
            columns.sort(reverse=True)
        others = [axis for axis in axes if axis >= 0 and axis not in here] + columns
        self._permutation = [0, *(1 + axes.index(axis) for axis in (*here, *others))]
        self.axes = [*wires, *(~w for w in self.new), *others]
        self.macs = 2 ** (1 + len(self.axes)) * self._n_here if axes else 0

    def __call__(self, matrix: Tensor, state: Tensor | None) -> Tensor:
        """A block (dim, dim) and the state before, an axis of length 2 each, to the state afterwards."""
        axes = matrix.view(len(matrix), *self._inputs)
        for place in reversed(self._zeros):
            axes = axes.select(place, 0)
        used = axes.permute(self._order).reshape(len(matrix) * self._n_columns, self._n_here)
        if state is None:  # real
            out = used[:, 0]
        else:
            out = used @ state.permute(self._permutation).reshape(self._n_here, -1)
        return out.reshape((2,) * (1 + len(self.axes)))


class BasisPropagation:
    """`Propagation` for the first basis states: a wire joins the state with the first block that acts on it.

    Until then it is in |0>, or its bit is one of the column's number. So the first blocks act on few wires and few
    columns; they are plain operations that autograd follows. The first of all costs no product.

    Args:
        wires, n_wires: as for `Propagation`.
        n_columns: how many basis states.

    Attributes:
        columns: the basis states in the order in which they come out.
        macs: real multiplications of a pass and its gradient.
    """

    def __init__(self, wires: Sequence[Sequence[int]], n_wires: int, n_columns: int):
        self.n_wires, self.n_columns = n_wires, n_columns
        numbered = range(n_wires - (n_columns - 1).bit_length(), n_wires)
        self.joins: list[_Join] = []
        axes: list[int] = []
        for block in wires:
            if set(axes).issuperset(range(n_wires)):
                break
            self.joins.append(_Join(axes, block, numbered))
            axes = self.joins[-1].axes
        self.n_joining = len(self.joins)
        for wire in sorted(set(range(n_wires)) - set(axes)):  # no block acts on them
            self.joins.append(_Join(axes, [wire], numbered))
            axes = self.joins[-1].axes
        rest = list(wires[self.n_joining :])
        joined = [axis for axis in axes if axis >= 0]
        first = list(rest[0]) if rest else joined
        self.rest = Propagation(rest, n_wires, first + [w for w in joined if w not in first])
        self.wire_order = self.rest.wire_order
        self._order_columns(axes, n_columns)
        products = 3 * len(rest) + max(0, len(rest) - 1 - KEPT)  # there, back twice, and undone
        self.macs = 3 * sum(join.macs for join in self.joins) + products * self.rest.dim * 2 ** (1 + n_wires) * n_columns

    def _order_columns(self, axes: list[int], n_columns: int) -> None:
        """Columns come out by the bits that came last, then by number: for every value of these bits the first ones."""
        last = next((join.new for join in reversed(self.joins) if join.new), [])
        before = [~axis for axis in axes if axis < 0 and ~axis not in last]
        weight = [2 ** (self.n_wires - 1 - wire) for wire in (*last, *before)]
        n = len(weight)
        numbers = [sum(w for place, w in enumerate(weight) if code >> n - 1 - place & 1) for code in range(2**n)]
        groups = [numbers[start : start + 2 ** len(before)] for start in range(0, 2**n, 2 ** len(before))]
        kept = [[number for number in group if number < n_columns] for group in groups]
        self.columns = [number for group in kept for number in group]
        self._counts = [len(group) for group in kept]
        # the last bits are one axis behind each other, and so are those before, innermost
        merged = [axis for axis in axes if axis >= 0 or ~axis in last[:1]]
        self._merged = [2, *(2 ** len(last) if axis < 0 else 2 for axis in merged), 2 ** len(before)]
        if not last:
            merged, self._merged = [*merged, -1], [*self._merged[:-1], 1, 1]
        wires = [1 + merged.index(wire) for wire in self.rest.order]
        (of_last,) = (1 + place for place, axis in enumerate(merged) if axis < 0)
        self._permutation = [0, *wires, of_last, 1 + len(merged)]

    def __call__(self, matrices: Tensor, columns: slice = slice(None)) -> Tensor:
        """(n_blocks, dim, dim) to (2, 2^n_wires, n_columns), or those of `columns`, the wires' bits in `wire_order`."""
        identity = torch.eye(4, dtype=matrices.dtype, device=matrices.device)
        joining, rest = matrices.split([self.n_joining, len(matrices) - self.n_joining])
        state = None
        for index, join in enumerate(self.joins):
            state = join(joining[index] if index < self.n_joining else identity, state)
        state = _FirstOfEach.apply(state.view(self._merged).permute(self._permutation), self._counts)
        return self.rest(rest, state.view(2, 2**self.n_wires, -1)[..., columns])


class _FirstOfEach(torch.autograd.Function):
    """Of each row the first so many, in one row: (..., B, E) and B counts to (..., sum of counts)."""

    @staticmethod
    def forward(ctx, rows: Tensor, counts: Sequence[int]) -> Tensor:
        ctx.counts, ctx.like = counts, (rows.shape, rows.stride())
        return torch.cat([rows[..., number, :count] for number, count in enumerate(counts)], dim=-1)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return _Spread.apply(grad, ctx.counts, *ctx.like), None


class _Spread(torch.autograd.Function):
    """The transpose of `_FirstOfEach`, in the memory order of its input."""

    @staticmethod
    def forward(ctx, row: Tensor, counts: Sequence[int], shape: Sequence[int], strides: Sequence[int]) -> Tensor:
        ctx.counts = counts
        rows = torch.empty_strided(shape, strides, dtype=row.dtype, device=row.device).zero_()
        for number, part in enumerate(row.split(counts, dim=-1)):
            rows[..., number, : part.shape[-1]] = part
        return rows

    @staticmethod
    def backward(ctx, grad: Tensor):
        return _FirstOfEach.apply(grad, ctx.counts), None, None, None
