"""Fuses a list of gates into a few wide unitaries and applies them to many columns at once.

Gates that act within `BLOCK_WIRES` wires are multiplied into one matrix before they meet the state, so a circuit
of 78 gates on 10 wires becomes a handful of 32x32 products. Every gate is linear in (1, cos t/2, sin t/2), so all
embedded gates come out of one batched product with constants, and the blocks out of a tree of batched products:
no Python per gate at run time, and plain autograd through all of it.

Knows the gate list, not what the columns mean. States are kept as real arrays (real and imaginary part are one
more axis of length 2, in front), the column index last.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.circuit import Operation

BLOCK_WIRES = 5

_I = np.eye(2)
_X = np.array([[0, 1], [1, 0]], dtype=complex)
_Y = np.array([[0, -1j], [1j, 0]])
_Z = np.diag([1.0, -1.0]).astype(complex)
_ON = np.diag([0.0, 1.0])
_OFF = np.diag([1.0, 0.0])
_NOTHING = np.zeros((2, 2))


def _gate_terms(gate: str) -> np.ndarray:
    """The three matrices (constant, times cos t/2, times sin t/2) whose sum is the gate; control wire first."""
    if gate in ("rx", "ry", "rz"):
        return np.stack([_NOTHING, _I, -1j * {"rx": _X, "ry": _Y, "rz": _Z}[gate]])
    if gate == "crx":
        return np.stack([np.kron(_OFF, _I), np.kron(_ON, _I), np.kron(_ON, -1j * _X)])
    if gate == "h":  # (X + Z) / sqrt 2, exact in every dtype at the fixed angle pi / 2
        return np.stack([_NOTHING, _Z, _X])
    fixed = {
        "sx": np.array([[1 + 1j, 1 - 1j], [1 - 1j, 1 + 1j]]) / 2,
        "cnot": np.kron(_OFF, _I) + np.kron(_ON, _X),
    }
    if gate not in fixed:
        raise ValueError(f"the compiled engine does not know the gate {gate!r}")
    matrix = fixed[gate]
    return np.stack([matrix, np.zeros_like(matrix), np.zeros_like(matrix)])


def _embed(matrix: np.ndarray, wires: tuple[int, ...], block_wires: tuple[int, ...]) -> np.ndarray:
    """`matrix` on `wires` as a matrix on `block_wires`, whose first wire is the most significant bit."""
    n = len(block_wires)
    others = [w for w in block_wires if w not in wires]
    order = [*wires, *others]
    axes = [order.index(w) for w in block_wires]
    full = np.kron(matrix, np.eye(2 ** len(others))).reshape((2,) * (2 * n))
    return full.transpose(axes + [n + a for a in axes]).reshape(2**n, 2**n)


@dataclass
class Block:
    """Wires of one fused unitary and the positions of its operations in the circuit, in order."""

    wires: list[int]
    operations: list[int]


def partition(operations: tuple[Operation, ...], width: int) -> list[Block]:
    """Group operations into blocks of at most `width` wires, keeping the order on every wire.

    Greedy: an operation may join any block that is not before the last block touching one of its wires; it joins
    the first where it adds fewest wires, or opens a new block.
    """
    blocks: list[Block] = []
    last_block: dict[int, int] = {}
    for position, operation in enumerate(operations):
        earliest = max((last_block.get(w, 0) for w in operation.wires), default=0)
        candidates = []
        for index in range(earliest, len(blocks)):
            added = [w for w in operation.wires if w not in blocks[index].wires]
            if len(blocks[index].wires) + len(added) <= width:
                candidates.append((len(added), index))
        index = min(candidates)[1] if candidates else len(blocks)
        if index == len(blocks):
            blocks.append(Block([], []))
        blocks[index].wires += [w for w in operation.wires if w not in blocks[index].wires]
        blocks[index].operations.append(position)
        last_block.update({w: index for w in operation.wires})
    return blocks


class FusedCircuit(nn.Module):
    """U(theta) of a gate list, as a few dense blocks.

    Args:
        operations: the gates, in order of application.
        n_wires: number of qubits.

    Attributes:
        wire_order: the wires in the order in which `apply` leaves the axes of the state.
    """

    def __init__(self, operations: tuple[Operation, ...], n_wires: int):
        super().__init__()
        self.n_wires = n_wires
        self.width = min(BLOCK_WIRES, n_wires)
        self.blocks = partition(operations, self.width)
        for block in self.blocks:  # every block gets the same size, so that they are built in one batch
            block.wires += [w for w in range(n_wires) if w not in block.wires][: self.width - len(block.wires)]

        dim = 2**self.width
        length = max(len(block.operations) for block in self.blocks)
        terms = np.zeros((len(self.blocks), length, 3, dim, dim), dtype=complex)
        terms[:, :, 0] = np.eye(dim)
        parameter = np.zeros((len(self.blocks), length), dtype=np.int64)
        for b, block in enumerate(self.blocks):
            for position, index in enumerate(block.operations):
                operation = operations[index]
                for t, matrix in enumerate(_gate_terms(operation.gate)):
                    terms[b, position, t] = _embed(matrix, operation.wires, tuple(block.wires))
                parameter[b, position] = -1 if operation.parameter is None else operation.parameter
        flat = np.stack([terms.real, terms.imag], axis=-1).reshape(-1, 3, 2 * dim * dim)
        self.register_buffer("terms", torch.tensor(flat, dtype=torch.get_default_dtype()), persistent=False)
        self.register_buffer("parameter", torch.tensor(parameter.reshape(-1)), persistent=False)
        self._shape = (len(self.blocks), length, dim, dim)
        self._plan_axes()

    def _plan_axes(self) -> None:
        """The permutation before each block; axes are never put back, the order is only remembered."""
        order = list(range(self.n_wires))
        self.permutations = []
        for block in self.blocks:
            new_order = block.wires + [w for w in order if w not in block.wires]
            self.permutations.append([0, *(1 + order.index(w) for w in new_order), 1 + self.n_wires])
            order = new_order
        self.wire_order = order

    def matrices(self, theta: Tensor) -> Tensor:
        """The blocks' unitaries as real matrices [[Re, -Im], [Im, Re]], shape (n_blocks, 2*dim, 2*dim)."""
        half = torch.cat([theta, theta.new_full((1,), math.pi / 2)])[self.parameter] / 2
        weights = torch.stack([torch.ones_like(half), half.cos(), half.sin()], dim=-1)
        gates = torch.bmm(weights.unsqueeze(1), self.terms).view(*self._shape, 2)
        gates = torch.view_as_complex(gates)
        while gates.shape[1] > 1:  # later gates stand on the left
            if gates.shape[1] % 2:
                gates, odd = gates[:, :-1], gates[:, -1:]
                gates = torch.cat([gates[:, 1::2] @ gates[:, 0::2], odd], dim=1)
            else:
                gates = gates[:, 1::2] @ gates[:, 0::2]
        unitary = gates[:, 0]
        real, imag = unitary.real, unitary.imag
        return torch.cat([torch.cat([real, -imag], -1), torch.cat([imag, real], -1)], -2)

    def apply_blocks(self, matrices: Tensor, columns: Tensor) -> Tensor:
        """Send columns through the circuit.

        Args:
            matrices: from `matrices(theta)`.
            columns: (2, 2^n_wires, C), real and imaginary part of C states, wire 0 the most significant bit.

        Returns:
            (2, 2, ..., 2, C): real/imaginary, then one axis per wire in `wire_order`, then columns.
        """
        n_columns = columns.shape[-1]
        state = columns.reshape((2,) * (1 + self.n_wires) + (n_columns,))
        dim = 2 ** (self.width + 1)
        for matrix, permutation in zip(matrices, self.permutations):
            shape = (2,) * (1 + self.n_wires) + (n_columns,)
            state = (matrix @ state.permute(permutation).reshape(dim, -1)).view(shape)
        return state
