"""Sends many states through fused blocks, and differentiates by running the circuit backwards.

States are real arrays: real and imaginary part are one more axis of length 2 in front, one axis per wire, the column
index innermost. The backward pass keeps the states that enter the last `KEPT` blocks and finds those before by undoing
blocks (the transpose is the inverse), so memory does not grow with the number of blocks (reverse-unitary or adjoint
differentiation; Jones and Gacon, arXiv 2009.02823). Knows matrices and wires, not gates or parameters.
"""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

KEPT = 3
CHUNK = 2**19  # complex amplitudes sent at a time: bounds what is held beside the states themselves
FEWEST = 16  # columns at a time all the same: what lies side by side in memory when axes are permuted


class Propagation:
    """The way of a state through blocks on given wires.

    Args:
        wires: of each block, in the order of its matrix's bits, the first the most significant; all as many.
        n_wires: number of qubits.
        order: the wires in the order of the axes of the state that comes in; ascending if None.

    Attributes:
        order: the wires in the order of the axes of the state that comes in.
        wire_order: the wires in the order in which the axes of the state come out. Axes are never put back in
            place between blocks, their order is only remembered.
    """

    def __init__(self, wires: Sequence[Sequence[int]], n_wires: int, order: Sequence[int] | None = None):
        self.wires = list(wires)
        self.n_wires = n_wires
        self.dim = 2 ** (1 + len(wires[0])) if wires else 1
        self.order = order = list(range(n_wires) if order is None else order)
        self.permutations: list[list[int]] = []
        for block in wires:
            new_order = [*block, *(w for w in order if w not in block)]
            self.permutations.append([0, *(1 + order.index(w) for w in new_order), 1 + n_wires])
            order = new_order
        self.wire_order = order
        self.inverses = [sorted(range(n_wires + 2), key=p.__getitem__) for p in self.permutations]

    def inverse(self) -> "Propagation":
        """The way back, for the blocks' transposes in reverse order and states as they come out here."""
        return Propagation(self.wires[::-1], self.n_wires, self.wire_order)

    def __call__(self, matrices: Tensor, columns: Tensor) -> Tensor:
        """Apply the blocks.

        Args:
            matrices: (n_blocks, dim, dim), orthogonal: unitaries as [[Re, -Im], [Im, Re]].
            columns: (2, 2^n_wires, C), real and imaginary part of C states, wire 0 the most significant bit.

        Returns:
            (2, 2^n_wires, C), the wires' bits in `wire_order`.
        """
        if not len(matrices):
            return columns.contiguous()
        size = max(FEWEST, CHUNK // columns.shape[1])
        if columns.shape[-1] <= size:
            return _ReversedPropagation.apply(matrices, columns.contiguous(), self)
        parts = [_ReversedPropagation.apply(matrices, part.contiguous(), self) for part in columns.split(size, dim=-1)]
        return torch.cat(parts, dim=-1)

    def forward(self, matrices: Tensor, columns: Tensor, entering: list[Tensor] | None = None) -> Tensor:
        """The same by plain operations, which autograd can follow; `entering` collects the inputs of the last blocks.

        The first block's input, the columns, is there anyway and left out.
        """
        state = columns
        for index, matrix in enumerate(matrices):
            state = self._before(index, state)
            if entering is not None and index >= max(1, len(matrices) - KEPT):
                entering.append(state)
            state = (matrix @ state).view(columns.shape)
        return state

    def backward(
        self, matrices: Tensor, columns: Tensor, kept: Sequence[Tensor], grad: Tensor, for_columns: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Gradients with respect to matrices and, if asked for, columns.

        Args:
            matrices, columns: as went in.
            kept: the inputs of the last blocks; those of earlier ones are found by undoing.
            grad: (2, 2^n_wires, C), the gradient of what came out.
            for_columns: whether the columns' gradient is wanted.
        """
        grad_matrices = torch.empty_like(matrices)
        first_kept = len(matrices) - len(kept)
        before = None
        for index in reversed(range(len(matrices))):
            grad = grad.reshape(self.dim, -1)
            if index >= first_kept:
                before = kept[index - first_kept]
            elif index:
                before = matrices[index].T @ self._after(index + 1, before, columns.shape).view(self.dim, -1)
            else:
                before = self._before(0, columns)
            torch.mm(grad, before.T, out=grad_matrices[index])
            if index or for_columns:
                grad = self._after(index, matrices[index].T @ grad, columns.shape)
        return grad_matrices, grad if for_columns else None

    def _before(self, index: int, state: Tensor) -> Tensor:
        """A state as the input of block `index`: its wires in front, (dim, rest)."""
        return self._axes(state).permute(self.permutations[index]).reshape(self.dim, -1)

    def _after(self, index: int, state: Tensor, shape: torch.Size) -> Tensor:
        """The inverse of `_before`: a state as the block before left it."""
        return self._axes(state.view(shape)).permute(self.inverses[index]).reshape(shape)

    def _axes(self, state: Tensor) -> Tensor:
        return state.reshape((2,) * (1 + self.n_wires) + (state.shape[-1],))


class ProductPropagation:
    """The same for product states: a wire joins the state with the first block that acts on it.

    Until all have joined, the state is small, its blocks are plain operations that autograd follows, and at most
    n_wires of them are kept; `rest` has the other blocks.

    Args:
        wires, n_wires: as for `Propagation`.
    """

    def __init__(self, wires: Sequence[Sequence[int]], n_wires: int):
        order: list[int] = []
        # of each block in which wires join: these wires, and how it finds its own in front
        self.joins: list[tuple[list[int], list[int]]] = []
        for block in wires:
            if len(order) == n_wires:
                break
            joining = [w for w in block if w not in order]
            joined = joining + order
            order = [*block, *(w for w in joined if w not in block)]
            self.joins.append((joining, [joined.index(w) for w in order]))
        self.late = [w for w in range(n_wires) if w not in order]  # no block acts on them
        self.rest = Propagation(wires[len(self.joins) :], n_wires, order=self.late + order)

    def begin(self, matrices: Tensor, qubits: Tensor) -> Tensor:
        """The input of `rest`.

        Args:
            matrices: (n_blocks, dim, dim), all blocks.
            qubits: (2, n_wires, B), complex, the amplitudes of every wire.

        Returns:
            (2, 2^n_wires, B), the wires' bits as `rest` takes them.
        """
        half, batch = matrices.shape[-1] // 2, qubits.shape[-1]
        state = qubits.new_ones(1, batch)
        for matrix, (joining, permutation) in zip(matrices, self.joins):
            state = _outer([*(qubits[:, w] for w in joining), state])
            axes = state.view((2,) * len(permutation) + (batch,)).permute(*permutation, len(permutation))
            unitary = torch.complex(matrix[:half, :half], matrix[half:, :half])
            state = (unitary @ axes.reshape(half, len(state) // half * batch)).view(len(state), batch)
        state = _outer([*(qubits[:, w] for w in self.late), state])
        return torch.stack([state.real, state.imag])

    def remaining(self, matrices: Tensor) -> Tensor:
        """The blocks of `rest`."""
        return matrices[len(self.joins) :]


def _outer(factors: Sequence[Tensor]) -> Tensor:
    """Outer product along the first dimension, from the left: (d_i, B) each to (d_1 d_2 ..., B)."""
    return reduce(lambda product, factor: (product.unsqueeze(1) * factor).flatten(0, 1), factors)


class _ReversedPropagation(torch.autograd.Function):
    """Propagation with the adjoint backward pass; second derivatives fall back to plain operations."""

    @staticmethod
    def forward(ctx, matrices: Tensor, columns: Tensor, propagation: Propagation) -> Tensor:
        entering: list[Tensor] = []
        out = propagation.forward(matrices, columns, entering)
        ctx.save_for_backward(matrices, columns, *entering)
        ctx.propagation = propagation
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        matrices, columns, *kept = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return *ctx.propagation.backward(matrices, columns, kept, grad, columns.requires_grad), None
        inputs = [t for t in (matrices, columns) if t.requires_grad]
        grads = iter(
            torch.autograd.grad(ctx.propagation.forward(matrices, columns), inputs, grad, create_graph=True)
        )
        return *(next(grads) if t.requires_grad else None for t in (matrices, columns)), None
