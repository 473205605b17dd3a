"""Fuses a list of gates into a few wide unitaries, the blocks that are applied to states.

Gates are multiplied in two levels before any state is touched: those on the same two wires into a 4x4 matrix, those
into 32x32 blocks on five wires, so 78 gates on 10 wires become five products. Every gate is linear in
(1, cos t/2, sin t/2), so all gates come out of one batched product with constants and all blocks out of trees of
batched products: no Python per gate at run time, and plain autograd through all of it. Circuits of very many gates
are built in groups of blocks that are rebuilt in the backward pass, so that memory does not grow with the gates.

Knows the gate list, not what the states mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from circuits.operations import Operation

ATOM_WIRES, BLOCK_WIRES = 2, 5
GROUP = 8  # blocks built at a time

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
    """Wires of one fused unitary and the positions of its members in their list, in order."""

    wires: tuple[int, ...]
    members: list[int]


def partition(operations: Sequence[Operation], width: int, available: Sequence[int]) -> list[Block]:
    """Group operations into blocks of `width` of the available wires, keeping the order on every wire.

    Greedy. Start a block on the wires of the first remaining operation. Add the wires of one operation at a time,
    whichever lets the block absorb most, until the block has its width. A block absorbs the operations on its wires
    that no operation outside it has to precede.
    """
    left = list(range(len(operations)))
    blocks = []

    def absorbed(wires: set[int]) -> list[int]:
        taken, blocked = [], set()
        for position in left:
            own = operations[position].wires
            if wires.issuperset(own) and blocked.isdisjoint(own):
                taken.append(position)
            else:
                blocked.update(own)
                if blocked.issuperset(wires):
                    break
        return taken

    while left:
        wires = set(operations[left[0]].wires)
        while len(wires) < width:
            new = {frozenset(operations[p].wires) - wires for p in left} | {frozenset([w]) for w in available}
            fitting = [w for w in new - {frozenset()} if w - wires and len(wires | w) <= width]
            wires |= max(fitting, key=lambda w: (len(absorbed(wires | w)) - len(w) / 2, sorted(w)))
        blocks.append(Block(tuple(sorted(wires)), absorbed(wires)))
        gone = set(blocks[-1].members)
        left = [position for position in left if position not in gone]
    return blocks


def _product(matrices: Tensor) -> Tensor:
    """Ordered product along dimension 1, the last factor on the left: (N, L, d, d) to (N, d, d)."""
    while (length := matrices.shape[1]) > 1:
        paired = matrices if length % 2 == 0 else matrices[:, :-1]
        right, left = paired.reshape(-1, 2, *matrices.shape[2:]).unbind(1)
        products = torch.bmm(left, right).view(len(matrices), length // 2, *matrices.shape[2:])
        matrices = products if length % 2 == 0 else torch.cat([products, matrices[:, -1:]], dim=1)
    return matrices[:, 0]


class FusedBlocks(nn.Module):
    """The unitaries of a gate list's blocks, as a function of theta.

    Args:
        operations: the gates, in order of application.
        n_wires: number of qubits.
        n_parameters: of theta; needed where there are copies.
        copies: so many thetas side by side, (copies * n_parameters,), each with blocks of its own.
        blocks: what to fuse, blocks of `min(BLOCK_WIRES, n_wires)` wires each; None: all the gates.

    Attributes:
        width: wires of every block.
        wires: those wires, in the order of the bits of its matrix (first the most significant), block by block.
        multiplications: of real numbers, to send one state through them.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        n_wires: int,
        n_parameters: int = 0,
        copies: int = 1,
        blocks: list[Block] | None = None,
    ):
        super().__init__()
        self.width = min(BLOCK_WIRES, n_wires)
        if blocks is None:
            blocks = partition(operations, self.width, range(n_wires))
        self.wires = [block.wires for block in blocks]
        self.multiplications = len(blocks) * 2 ** (n_wires + self.width + 2)
        operations, blocks = _copied(operations, blocks, n_parameters, copies)
        group = GROUP * copies
        self.groups = nn.ModuleList(
            _Group(operations, blocks[start : start + group]) for start in range(0, len(blocks), group)
        )

    def forward(self, theta: Tensor) -> Tensor:
        """The blocks as real matrices [[Re, -Im], [Im, Re]], shape (copies * n_blocks, 2 * 2^width, 2 * 2^width)."""
        if len(self.groups) == 1:
            return self.groups[0](theta)
        return torch.cat([checkpoint(group, theta, use_reentrant=False) for group in self.groups])


def _copied(
    operations: Sequence[Operation], blocks: list[Block], n_parameters: int, copies: int
) -> tuple[list[Operation], list[Block]]:
    """Gates and their blocks so many times, each time with the next n_parameters parameters."""
    all_operations, all_blocks = [], []
    for copy in range(copies):
        first, shift = len(all_operations), copy * n_parameters
        all_operations += [o if o.parameter is None else replace(o, parameter=o.parameter + shift) for o in operations]
        all_blocks += [Block(block.wires, [first + member for member in block.members]) for block in blocks]
    return all_operations, all_blocks


def _atoms(operations: Sequence[Operation], block: Block) -> list[Block]:
    """A block's gates in groups of two wires of that block; members are positions in `operations`."""
    atoms = partition([operations[index] for index in block.members], ATOM_WIRES, block.wires)
    return [Block(atom.wires, [block.members[m] for m in atom.members]) for atom in atoms]


class Atoms(nn.Module):
    """The unitaries of groups of gates on two wires each, as a function of theta.

    Args:
        operations: the gates.
        atoms: wires and positions in `operations` of each group; one without gates is the identity.
    """

    def __init__(self, operations: Sequence[Operation], atoms: Sequence[Block]):
        super().__init__()
        dim, length = 2**ATOM_WIRES, max(len(atom.members) for atom in atoms)
        terms = np.zeros((len(atoms), length, 3, dim, dim), dtype=complex)
        terms[:, :, 0] = np.eye(dim)
        # 0: the constant angle before theta's entries, for gates without a parameter
        parameter = np.zeros((len(atoms), length), dtype=int)
        for a, atom in enumerate(atoms):
            for position, index in enumerate(atom.members):
                operation = operations[index]
                for t, matrix in enumerate(_gate_terms(operation.gate)):
                    terms[a, position, t] = _embed(matrix, operation.wires, atom.wires)
                parameter[a, position] = 0 if operation.parameter is None else 1 + operation.parameter
        constant, *factors = np.stack([terms.real, terms.imag], axis=-1).reshape(-1, 3, 2 * dim * dim).swapaxes(0, 1)
        self.register_buffer("constant", torch.tensor(constant, dtype=torch.get_default_dtype()), persistent=False)
        factors = np.stack(factors, axis=1)
        self.register_buffer("factors", torch.tensor(factors, dtype=torch.get_default_dtype()), persistent=False)
        self.register_buffer("parameter", torch.tensor(parameter.reshape(-1)), persistent=False)
        self.shape = (len(atoms), length, dim, dim)

    def forward(self, theta: Tensor) -> Tensor:
        """(n_parameters,) to (n_atoms, 4, 4), complex."""
        half = torch.cat([theta.new_full((1,), math.pi / 2), theta]).index_select(0, self.parameter) / 2
        weights = torch.stack([half.cos(), half.sin()], dim=-1)
        gates = torch.baddbmm(self.constant.unsqueeze(1), weights.unsqueeze(1), self.factors).view(*self.shape, 2)
        return _product(torch.view_as_complex(gates))


class _Group(nn.Module):
    """Some blocks, built together."""

    def __init__(self, operations: Sequence[Operation], blocks: list[Block]):
        super().__init__()
        atoms_of = [_atoms(operations, block) for block in blocks]
        # behind the atoms comes one of no gate, whose matrix has the entries 1 and 0
        self.atoms = Atoms(operations, [*(atom for atoms in atoms_of for atom in atoms), Block((), [])])

        dim, length, size = 2 ** len(blocks[0].wires), max(map(len, atoms_of)), 4**ATOM_WIRES
        one = sum(map(len, atoms_of)) * size
        zero = one + 1
        entries = np.tile(np.where(np.eye(dim, dtype=bool), one, zero), (len(blocks), length, 1, 1))
        start = 0
        for b, (block, atoms) in enumerate(zip(blocks, atoms_of)):
            for position, atom in enumerate(atoms):
                own = 1 + np.arange(size).reshape(2**ATOM_WIRES, -1)
                spread = _embed(own, atom.wires, block.wires).astype(np.int64) - 1
                entries[b, position] = np.where(spread < 0, zero, spread + start)
                start += size
        self.register_buffer("entries", torch.tensor(entries.reshape(-1), dtype=torch.int32), persistent=False)
        self.shape = entries.shape

    def forward(self, theta: Tensor) -> Tensor:
        table = self.atoms(theta).flatten()
        unitary = _product(table.index_select(0, self.entries).view(self.shape))
        # the columns of U and those of i U, real parts above imaginary ones
        columns = torch.view_as_real(torch.stack([unitary, 1j * unitary], dim=2))
        return columns.permute(0, 4, 1, 2, 3).reshape(len(unitary), 2 * self.shape[2], 2 * self.shape[3])
