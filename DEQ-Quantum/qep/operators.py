"""Pauli strings as operators: weighted sums of them acting on batches of state vectors.

With x the bits of the spins that a string flips (X or Y) and z of those that it signs (Z or Y), it maps a basis state
|s> to i^#Y (-1)^|s & z| |s ^ x>. So no matrix of the whole space is built: strings of I and Z are signs, summed into
one diagonal; strings within four neighbouring spins are summed into one 16x16 matrix; only what is left over permutes
the state. Spin 0 is the highest bit of s, as in a Kronecker product. The strings themselves, as text, are
`circuits/paulis.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from circuits.paulis import check_strings, mask, measurement_settings
from qep.inputs import check_shape

BLOCK = 4  # spins whose strings are summed into one small matrix


@dataclass(frozen=True)
class _Group:
    """Strings that flip the same spins: (P_k psi)[t] = phases[k, t] psi[index[t]].

    Attributes:
        members: positions in the list of strings, (K_g,).
        index: t ^ x, (D,).
        phases: i^#Y (-1)^|(t ^ x) & z|, (K_g, D).
    """

    members: Tensor
    index: Tensor
    phases: Tensor


@dataclass(frozen=True)
class _Block:
    """Flipping strings within neighbouring spins: a state seen as (left, size, right) is multiplied in the middle.

    Attributes:
        members: positions in the list of strings, (K_b,).
        matrices: of the strings on the block alone, (K_b, size, size).
        left, right: dimensions of the spins before and after the block.
    """

    members: Tensor
    matrices: Tensor
    left: int
    right: int


class PauliStrings:
    """A list of distinct Pauli strings on the same spins.

    Args:
        strings: letters I, X, Y, Z, one per spin.
        device: where states live.

    Attributes:
        n_spins, dim: number of spins, 2^n_spins.
        dtype: float64, or complex128 if a string has an odd number of Y.

    Raises:
        ValueError: see `circuits.paulis.check_strings`.
    """

    def __init__(self, strings: Sequence[str], device: torch.device | str = "cpu"):
        check_strings(strings)
        self.strings = tuple(strings)
        self.n_spins = len(strings[0])
        self.dim = 2**self.n_spins
        self.device = torch.device(device)
        self.dtype = torch.complex128 if any(s.count("Y") % 2 for s in strings) else torch.float64
        flips = [mask(s, "XY") for s in strings]
        groups = {x: [k for k, flip in enumerate(flips) if flip == x] for x in dict.fromkeys(flips)}
        diagonal = groups.pop(0, [])
        self._diagonal = self._group(0, diagonal)
        self._groups = [self._group(x, members) for x, members in groups.items()]
        blocks = [range(start, min(start + BLOCK, self.n_spins)) for start in range(0, self.n_spins, BLOCK)]
        inside: dict[range, list[int]] = {block: [] for block in blocks}
        loose: dict[int, list[int]] = {}
        for k, string in enumerate(strings):
            support = {spin for spin, letter in enumerate(string) if letter != "I"}
            home = next((block for block in blocks if support <= set(block)), None)
            if flips[k] and home is not None:
                inside[home].append(k)
            elif flips[k]:
                loose.setdefault(flips[k], []).append(k)
        self._blocks = [self._block(block, members) for block, members in inside.items() if members]
        self._loose = [self._group(x, members) for x, members in loose.items()]

    def __len__(self) -> int:
        return len(self.strings)

    @cached_property
    def bases(self) -> dict[str, Tensor]:
        """Measurement settings: positions of the strings that are measured together, by the letters of their basis."""
        settings = measurement_settings(self.strings)
        return {basis: torch.tensor(members, device=self.device) for basis, members in settings.items()}

    def _group(self, x: int, members: list[int]) -> _Group:
        index = torch.arange(self.dim, device=self.device) ^ x
        phases = torch.empty(len(members), self.dim, dtype=self.dtype, device=self.device)
        for row, k in zip(phases, members):
            row.copy_(_phases(self.strings[k], index, self.dtype))
        return _Group(torch.tensor(members, dtype=torch.int64, device=self.device), index, phases)

    def _block(self, spins: range, members: list[int]) -> _Block:
        size = 2 ** len(spins)
        rows = torch.arange(size, device=self.device)
        matrices = torch.zeros(len(members), size, size, dtype=self.dtype, device=self.device)
        for matrix, k in zip(matrices, members):
            string = self.strings[k][spins.start : spins.stop]
            columns = rows ^ mask(string, "XY")
            matrix[rows, columns] = _phases(string, columns, self.dtype)
        left, right = 2**spins.start, 2 ** (self.n_spins - spins.stop)
        return _Block(torch.tensor(members, device=self.device), matrices, left, right)

    def bind(self, coefficients: Tensor) -> "PauliSum":
        """The operators sum_k c_k P_k of a batch.

        Args:
            coefficients: (B, K), real, or complex for the analytic continuation; autograd goes through.

        Raises:
            ValueError: another shape.
        """
        check_shape("coefficients", coefficients, ("B", len(self)), f"{len(self)} strings")
        diagonal = _product(coefficients[:, self._diagonal.members], self._diagonal.phases)
        blocks = []
        for block in self._blocks:
            own = coefficients[:, block.members]
            # one matrix serves all samples where they agree, as transverse fields do
            own = own[:1] if bool((own == own[:1]).all()) else own
            matrix = _product(own, block.matrices.flatten(1)).unflatten(1, block.matrices.shape[1:])
            blocks.append((matrix, block))
        loose = [(_product(coefficients[:, group.members], group.phases), group.index) for group in self._loose]
        return PauliSum(diagonal, blocks, loose)

    def sandwich(self, phi: Tensor, psi: Tensor) -> Tensor:
        """<phi| P_k |psi> for every string: (B, D), (B, D) -> (B, K).

        Raises:
            ValueError: other shapes.
        """
        check_shape("psi", psi, ("B", self.dim), f"{self.n_spins} spins")
        check_shape("phi", phi, tuple(psi.shape), f"psi {tuple(psi.shape)}")
        values = psi.new_empty(len(psi), len(self), dtype=_common(phi, psi, self._diagonal.phases))
        for group in (self._diagonal, *self._groups):
            values[:, group.members] = _product(phi.conj() * psi[:, group.index], group.phases.mT)
        return values

    def expectations(self, psi: Tensor) -> Tensor:
        """<psi| P_k |psi> for every string, real: (B, D) -> (B, K)."""
        return self.sandwich(psi, psi).real


class PauliSum:
    """sum_k c_k P_k for a batch of coefficients, made by `PauliStrings.bind`."""

    def __init__(self, diagonal: Tensor, blocks: list[tuple[Tensor, _Block]], loose: list[tuple[Tensor, Tensor]]):
        self.diagonal = diagonal
        self._blocks, self._loose = blocks, loose

    @property
    def dtype(self) -> torch.dtype:
        return _common(self.diagonal, *(matrix for matrix, _ in self._blocks), *(factor for factor, _ in self._loose))

    def apply(self, psi: Tensor) -> Tensor:
        """Each sample's operator on m vectors of its own: (B, m, D) -> (B, m, D)."""
        n_samples, m, dim = psi.shape
        psi = psi.to(torch.promote_types(psi.dtype, self.dtype))
        out = self.diagonal.unsqueeze(1) * psi
        for matrix, block in self._blocks:
            matrix = matrix.to(psi.dtype)
            parts = psi.reshape(n_samples, m * block.left, -1, block.right)
            if len(matrix) > 1:
                product = matrix.unsqueeze(1) @ parts
            elif block.right == 1:
                product = parts.squeeze(-1) @ matrix[0].mT  # one large product instead of many small ones
            else:
                product = matrix[0] @ parts
            out += product.reshape(n_samples, m, dim)
        for factor, index in self._loose:
            out += factor.unsqueeze(1) * psi[..., index]
        return out

    def dense(self) -> Tensor:
        """The matrices themselves, (B, D, D)."""
        n_samples, dim = self.diagonal.shape
        eye = torch.eye(dim, dtype=self.dtype, device=self.diagonal.device)
        return self.apply(eye.expand(n_samples, dim, dim)).mT


def parity(bits: Tensor) -> Tensor:
    """Number of set bits modulo 2, elementwise, for integers below 2^32."""
    for shift in (16, 8, 4, 2, 1):
        bits = bits ^ (bits >> shift)
    return bits & 1


def _phases(string: str, states: Tensor, dtype: torch.dtype) -> Tensor:
    """i^#Y (-1)^|s & z| for basis states s: (D,) -> (D,)."""
    power = 1j ** string.count("Y")
    return (power if dtype.is_complex else power.real) * (1 - 2 * parity(states & mask(string, "ZY"))).to(dtype)


def _common(*tensors: Tensor) -> torch.dtype:
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _product(a: Tensor, b: Tensor) -> Tensor:
    dtype = _common(a, b)
    return a.to(dtype) @ b.to(dtype)
