"""How a setting's readouts follow from the probabilities of its outcomes: W p, with W as a table or as a fast transform.

Strings of Z are rows of a Walsh-Hadamard matrix H, in the setting's basis: r_k = sum_b (-1)^(bits of b on its wires) p_b. With
H = H_a (x) H_b over the first half of the bits and the second, all 2^n of them cost 2^n (2^a + 2^b) multiplications, so
that many strings cost less together than row by row.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from circuits.readout import PauliReadout, Readout

DEARER = 2  # a multiplication of the transform's small matrices costs so many of a table's


class Table(nn.Module):
    """W itself.

    Args:
        readout: whose weights they are.
        basis: one of its settings.
        wires: of the outcomes' bits, the most significant first.
    """

    def __init__(self, readout: Readout, basis: str, wires: Sequence[int]):
        super().__init__()
        n = readout.n_wires
        weights = torch.as_tensor(readout.weights(basis), dtype=torch.get_default_dtype())
        weights = weights.view(len(weights), *(2,) * n).permute(0, *[1 + wire for wire in wires]).reshape(len(weights), -1)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, outcomes: Tensor) -> Tensor:
        """W p: (2^n, B) to (number of readouts, B)."""
        return self.weights @ outcomes

    def transposed(self, weights: Tensor) -> Tensor:
        """W^T w: (number of readouts, B) to (2^n, B)."""
        return self.weights.T @ weights


class Transform(nn.Module):
    """Rows of H, for the strings of a setting; arguments as for `Table`.

    Args:
        readout: Pauli strings.
    """

    def __init__(self, readout: PauliReadout, basis: str, wires: Sequence[int]):
        super().__init__()
        supports = readout.supports()
        bits = {wire: 1 << len(wires) - 1 - place for place, wire in enumerate(wires)}
        rows = [sum(bits[wire] for wire in supports[k]) for k in readout.settings()[basis]]
        self.register_buffer("rows", torch.tensor(rows), persistent=False)
        places = torch.full((1 << len(wires),), len(rows))  # of each row of H among the strings; after them where it is none
        places[self.rows] = torch.arange(len(rows))
        self.register_buffer("places", places, persistent=False)

    def forward(self, outcomes: Tensor) -> Tensor:
        """W p: (2^n, B) to (number of readouts, B)."""
        return walsh_hadamard(outcomes).index_select(0, self.rows)

    def transposed(self, weights: Tensor) -> Tensor:
        """W^T w: (number of readouts, B) to (2^n, B); H is symmetric."""
        return walsh_hadamard(pad(weights, (0, 0, 0, 1)).index_select(0, self.places))


def walsh_hadamard(values: Tensor) -> Tensor:
    """H times values: sum_s (-1)^(b . s) values_s for every b, (2^n, B) to itself."""
    n, batch = len(values).bit_length() - 1, values.shape[1]
    left, right = (_matrix(bits, values.dtype, values.device) for bits in (n // 2, (n + 1) // 2))
    by_left = left @ values.reshape(len(left), len(right) * batch)
    return (right @ by_left.view(len(left), len(right), batch)).flatten(0, 1)


@lru_cache
@torch.inference_mode(False)  # what is kept serves training too, whoever asks first
def _matrix(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """H of n bits, (2^n, 2^n): entries 1 and -1."""
    matrix = torch.ones(1, 1, dtype=dtype, device=device)
    for _ in range(n):
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix


def table_of(readout: Readout, basis: str, wires: Sequence[int]) -> Table | Transform:
    """W of one setting, in the form that costs less."""
    n, n_read = readout.n_wires, len(readout.settings()[basis])
    fast = isinstance(readout, PauliReadout) and n_read > DEARER * (2 ** (n // 2) + 2 ** ((n + 1) // 2))
    return (Transform if fast else Table)(readout, basis, wires)
