"""Observables as sums of Pauli strings, found once per optimiser step by sending the readouts back through the circuit.

The gates on single wires before a wire's first gate on two act on the data's qubits alone, as rotations R_w of their Bloch
vectors. With U the other gates,

    U^+ P_k U = sum_s c_ks s,    s strings of I, X, Y, Z

Each atom, the gates on two wires that follow each other, mixes the letters on its wires by a 16 x 16 matrix (its Pauli
transfer matrix). Which strings can come up depends on the circuit alone: in the paper's circuit of 10 wires 4,000 of ten
million. Knows gates and strings, not data (Heisenberg picture; Nielsen and Chuang, section 10.5.1).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from circuits.circuit import Circuit
from circuits.operations import Operation
from circuits.paulis import LETTERS
from engines.fusion import ATOM_WIRES, Atoms, Block, partition

SIZE = 4**ATOM_WIRES
MOST_ATOMS = 64  # they follow each other, one small product each
MOST_STRINGS = 2**16  # over all readouts
LEAST = 1e-9  # of an entry that is not zero whatever the angles; entries are of the order of 1

_PAULIS = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])


class TooManyStrings(Exception):
    """The circuit is too deep for its observables to be written as strings."""


class PauliSums(nn.Module):
    """The strings of every observable, and their coefficients as a function of theta.

    Args:
        circuit: any ansatz and readout.

    Attributes:
        letters: (S, n_wires), 0 to 3 for I, X, Y, Z.
        readout: (S,), of which P_k each string is a part; sorted.

    Raises:
        TooManyStrings: there are more than MOST_STRINGS, or MOST_ATOMS.
    """

    def __init__(self, circuit: Circuit):
        super().__init__()
        n = circuit.n_wires
        operations = circuit.ansatz.operations
        leading, others = _leading(operations, n)
        blocks = partition([operations[p] for p in others], ATOM_WIRES, range(n)) if others else []
        if len(blocks) > MOST_ATOMS:
            raise TooManyStrings
        atoms = [Block(block.wires, [others[m] for m in block.members]) for block in blocks]
        pairs = [(min(w, n - ATOM_WIRES), min(w, n - ATOM_WIRES) + 1) for w in range(0, n, ATOM_WIRES)]
        before = [Block(pair, [p for p in leading if operations[p].wires[0] in pair]) for pair in pairs]
        self.n_before = len(before)
        self.atoms = Atoms(operations, [*before, *atoms])
        self.register_buffer("transfer", _transfer_constants(), persistent=False)
        # where each wire's rotation stands among the matrices of the pairs
        home = [(next(i for i, pair in enumerate(pairs) if w in pair), w) for w in range(n)]
        xyz = np.arange(1, 4)
        places = [i * SIZE**2 + (4 if pairs[i][0] == w else 1) * (xyz[:, None] * SIZE + xyz) for i, w in home]
        self.register_buffer("rotation_places", torch.tensor(np.stack(places).reshape(-1)), persistent=False)
        self._propagate(circuit, [atom.wires for atom in atoms])

    def _propagate(self, circuit: Circuit, wires: list[tuple[int, ...]]) -> None:
        """Which strings come up, and how each atom finds its letters in front."""
        possible = self._possible()[self.n_before :]
        letters = np.array([[LETTERS.index(letter) for letter in string] for string in circuit.readout.strings])
        readout = np.arange(len(letters))
        # where each string stands in the values of the step before, and how many these are; the last is always 0
        at, size = np.arange(len(letters)), len(letters) + 1
        self.register_buffer("start", torch.tensor([1.0] * len(letters) + [0.0]), persistent=False)
        for step, index in enumerate(reversed(range(len(wires)))):
            own = list(wires[index])
            local = letters[:, own] @ (4 ** np.arange(len(own))[::-1])
            rest = letters.copy()
            rest[:, own] = 0
            groups, first, group = _distinct(rest, readout)
            places = group * SIZE + local
            self._add_take(f"take_{step}", at, size, places, (groups + 1) * SIZE)
            present = np.zeros((groups, SIZE), dtype=np.int32)
            present.reshape(-1)[places] = 1
            at = np.flatnonzero(present @ possible[index])
            if len(at) > MOST_STRINGS:
                raise TooManyStrings
            size = (groups + 1) * SIZE
            letters, readout = rest[first][at // SIZE], readout[first][at // SIZE]
            letters[:, own] = at[:, None] % SIZE // 4 ** np.arange(len(own))[::-1] % 4
        order = np.argsort(readout, kind="stable")
        self.letters, self.readout, self._at, self._size = letters[order], readout[order], at[order], size

    def _possible(self) -> np.ndarray:
        """(n_atoms, 16, 16): entries of the transfer matrices that are not zero whatever the angles, found at random ones."""
        draw = torch.Generator().manual_seed(0)
        n_angles = 1 + int(self.atoms.parameter.max())
        with torch.no_grad():
            found = sum(
                self.double().transfers(6 * torch.rand(n_angles, generator=draw, dtype=torch.float64)).abs()
                for _ in range(2)
            )
        self.to(torch.get_default_dtype())
        return (found > LEAST).numpy().astype(np.int32)

    def lay_out(self, name: str, places: np.ndarray, size: int) -> None:
        """From now on `forward` gives the coefficients also as a table of that name.

        Args:
            places: (S,) of the strings' coefficients in it; zero elsewhere.
            size: of the table.
        """
        self._add_take(name, self._at, self._size, places, size + 1)

    def _add_take(self, name: str, sources: np.ndarray, n_sources: int, places: np.ndarray, size: int) -> None:
        # what is not taken comes from the last value, which is 0, and passes its gradient to the last place
        index, inverse = np.full(size, n_sources - 1), np.full(n_sources, size - 1)
        index[places], inverse[sources] = sources, places
        self.register_buffer(name, torch.tensor(index), persistent=False)
        self.register_buffer(f"{name}_inverse", torch.tensor(inverse), persistent=False)

    def transfers(self, theta: Tensor) -> Tensor:
        """Transfer matrices R_ij = tr(s_i A s_j A^+) / 4 of the pairs' leading gates and of the atoms A: (N, 16, 16)."""
        atoms = self.atoms(theta)
        squares = atoms[:, :, None, :, None] * atoms.conj()[:, None, :, None, :]
        return (torch.view_as_real(squares).reshape(len(atoms), -1) @ self.transfer).view(-1, SIZE, SIZE)

    def forward(self, theta: Tensor, *names: str) -> tuple[Tensor, list[Tensor]]:
        """The rotations R_w (n_wires, 3, 3), and the tables of those names, as vectors."""
        transfers = self.transfers(theta)
        rotations = transfers.flatten().index_select(0, self.rotation_places).view(-1, 3, 3)
        values = self.start
        for step, transfer in enumerate(transfers[self.n_before :].flip(0).unbind()):
            values = (self._take(f"take_{step}", values).view(-1, SIZE) @ transfer).flatten()
        return rotations, [self._take(name, values)[:-1] for name in names]

    def _take(self, name: str, values: Tensor) -> Tensor:
        return _Take.apply(values, getattr(self, name), getattr(self, f"{name}_inverse"))


def _leading(operations: Sequence[Operation], n_wires: int) -> tuple[list[int], list[int]]:
    """Positions of the gates on single wires that no gate on two wires precedes there, and of the others."""
    joined: set[int] = set()
    leading, others = [], []
    for position, operation in enumerate(operations):
        if len(operation.wires) == 1 and operation.wires[0] not in joined:
            leading.append(position)
        else:
            joined.update(operation.wires)
            others.append(position)
    return leading, others


def _distinct(rows: np.ndarray, labels: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """How many (row, label) there are; where each comes first; which of them every row is."""
    codes = rows.astype(np.int64) @ (4 ** np.arange(rows.shape[1], dtype=np.int64))
    _, codes = np.unique(codes, return_inverse=True)
    _, first, which = np.unique(labels * (codes.max() + 1) + codes, return_index=True, return_inverse=True)
    return len(first), first, which


def _transfer_constants() -> Tensor:
    """(512, 256): from the entries of A x A*, real and imaginary, to those of A's transfer matrix."""
    strings = np.einsum("iab,jcd->ijacbd", _PAULIS, _PAULIS).reshape(SIZE, 4, 4)
    # tr(s_i A s_j A^+) / 4 = sum of conj(s_i[a, b]) A[a, c] A*[b, d] s_j[c, d] / 4
    complex_constants = np.einsum("iab,jcd->abcdij", strings.conj(), strings).reshape(SIZE**2, SIZE**2) / 4
    both = np.stack([complex_constants.real, -complex_constants.imag], axis=1).reshape(2 * SIZE**2, SIZE**2)
    return torch.tensor(both, dtype=torch.get_default_dtype())


class _Take(torch.autograd.Function):
    """values[index], of values that are taken once or never, to where `inverse` says; but for the last ones, which are 0."""

    @staticmethod
    def forward(ctx, values: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(index, inverse)
        return values.index_select(0, index)

    @staticmethod
    def backward(ctx, grad: Tensor):
        index, inverse = ctx.saved_tensors
        return _Take.apply(grad, inverse, index), None, None
