"""Sums of products sum_s c_ks prod_w b_w[s_w] over strings s, and their slopes, with few multiplications.

The wires are joined two groups at a time, those first that have the fewest different strings between them, until two
groups A and B are left. A string's product over a group is that over its two parts, found once for all strings that share
it, and the sum is r_k = sum_b (C_k a)_b b_b with the products a, b of both groups and a table C of coefficients. The
slopes run the same way back: along the two groups they are C_k a and C_k^T b, along a part those times the product over
the other part. All are plain operations that autograd follows. Knows strings, not what b is.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn


class Contraction(nn.Module):
    """The plan of such a sum; factors are rows (4 n_wires, B), letter l of wire w at 4 w + l, with ones for the letters 0.

    Args:
        letters: (S, n_wires) from 0 to 3, different strings for each k.
        readout: (S,) k of each string.
        n_readouts: K.

    Attributes:
        a, b: rows of both groups' products among the last.
        n_rows: of the table C, one a string of B and k; its columns are the strings of A.
        places: (S,) of the coefficients in C.
        n_rows_back, places_back: the same of C^T, one row a string of A and k, columns the strings of B.
    """

    def __init__(self, letters: np.ndarray, readout: np.ndarray, n_readouts: int):
        super().__init__()
        n_wires = letters.shape[1]
        self.n_readouts, self.n_factors = n_readouts, 4 * n_wires
        groups = [_Group(letters[:, w], np.arange(4) > 0, 4 * w) for w in range(n_wires)]
        self.n_joins = 0
        while len(groups) > 2:
            groups = _joined(groups)
            # row 0 of every round is ones, that of the letters 0
            left, right = (np.concatenate([[0], *(group.factors[side] for group in groups)]) for side in (0, 1))
            self._register(f"join_{self.n_joins}", left=left, right=right)
            self.n_joins += 1
        tops = [(group, *_distinct(group.of, readout)) for group in groups]
        if tops[0][0].size * len(tops[1][1]) > tops[1][0].size * len(tops[0][1]):
            tops.reverse()
        (a, a_first, a_row), (b, b_first, b_row) = tops
        self.a, self.b, self.n_rows, self.n_rows_back = a.rows, b.rows, len(b_first), len(a_first)
        self.places, self.places_back = b_row * a.size + a.of, a_row * b.size + b.of
        b_of_row = b.of[b_first]
        self._register("top", factor=b.rows.start + b_of_row, b=b_of_row, readout=readout[b_first])
        apart = [(a, a.of[a_first], readout[a_first]), (b, b_of_row, readout[b_first])]
        together = [(group, np.arange(group.size), np.zeros(group.size, dtype=int)) for group in (a, b)]
        self.sizes = {}
        for name, entries, n_labels in (("apart", apart, n_readouts), ("together", together, 1)):
            steps = _descent(entries, self.n_joins, n_labels * self.n_factors, self.n_factors)
            self.sizes[name] = [size for _, size in steps]
            for step, (indices, _) in enumerate(steps):
                self._register(f"{name}_{step}", **indices)

    def _register(self, name: str, **indices: np.ndarray) -> None:
        for key, index in indices.items():
            self.register_buffer(f"{name}_{key}", torch.as_tensor(index), persistent=False)

    def products(self, factors: Tensor) -> list[Tensor]:
        """(4 n_wires, B) factors, and what the groups have after every round of joins: the last holds A's and B's."""
        levels = [factors]
        for step in range(self.n_joins):
            left, right = (levels[-1].index_select(0, getattr(self, f"join_{step}_{side}")) for side in ("left", "right"))
            levels.append(left * right)
        return levels

    def sums(self, table: Tensor, levels: list[Tensor]) -> Tensor:
        """r_k of the table C: (K, B)."""
        return self._sums(table @ levels[-1][self.a], levels)

    def _sums(self, along_b: Tensor, levels: list[Tensor]) -> Tensor:
        terms = along_b * levels[-1].index_select(0, self.top_factor)
        return terms.new_zeros(self.n_readouts, terms.shape[1]).index_add(0, self.top_readout, terms)

    def with_slopes(self, table: Tensor, table_back: Tensor, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        """r_k (K, B), and dr_k/db of every factor, (K, 4 n_wires, B); 0 along the ones."""
        along_b = table @ levels[-1][self.a]
        slopes = self._descend("apart", torch.cat([table_back @ levels[-1][self.b], along_b]), levels)
        return self._sums(along_b, levels), slopes.view(self.n_readouts, self.n_factors, -1)

    def weighted_slopes(self, table: Tensor, levels: list[Tensor], weights: Tensor) -> Tensor:
        """sum_k w_k dr_k/db of every factor: weights (K, B) to (4 n_wires, B); 0 along the ones."""
        weights = weights.index_select(0, self.top_readout)
        along_a = table.T @ (levels[-1].index_select(0, self.top_factor) * weights)
        rows = (table @ levels[-1][self.a]) * weights
        along_b = rows.new_zeros(self.b.stop - self.b.start, rows.shape[1]).index_add(0, self.top_b, rows)
        return self._descend("together", torch.cat([along_a, along_b]), levels)

    def _descend(self, name: str, slopes: Tensor, levels: list[Tensor]) -> Tensor:
        """From slopes along the products of A and B to those along the factors."""
        for step, size in enumerate(self.sizes[name]):
            source, partner, target = (getattr(self, f"{name}_{step}_{key}") for key in ("source", "partner", "target"))
            # the products of the round before; without any round the groups are single wires, the partners ones
            products = levels[max(len(levels) - 2 - step, 0)]
            slopes = slopes.index_select(0, source) * products.index_select(0, partner)
            slopes = slopes.new_zeros(size, slopes.shape[1]).index_add(0, target, slopes)
        return slopes


class _Group:
    """Wires that have been joined.

    Args:
        of: (S,) which of the group's strings each string has on them.
        acts: (size,) whether these have a letter other than 0.
        start: where their products begin among those of all groups.
        parts: the one or two groups it was joined of, each with (size,) which of that one's strings they have there.

    Attributes:
        rows: of their products.
        factors: rows of both parts' products in the round before; row 0, of ones, where there is one part.
    """

    def __init__(self, of: np.ndarray, acts: np.ndarray, start: int, parts: Sequence[tuple["_Group", np.ndarray]] = ()):
        self.of, self.acts, self.parts = of, acts, parts
        self.size = len(acts)
        self.rows = slice(start, start + self.size)
        self.factors = [part.rows.start + own for part, own in parts] + [np.zeros(self.size, dtype=int)] * (2 - len(parts))


def _joined(groups: list[_Group]) -> list[_Group]:
    """Joins every group with another, pairs of few different strings first; of an odd number one is left over."""
    pairs = {pair: _distinct(*(groups[i].of for i in pair)) for pair in combinations(range(len(groups)), 2)}
    left, joined, start = set(range(len(groups))), [], 1
    for pair in sorted(pairs, key=lambda pair: (len(pairs[pair][0]), pair)):
        if left.issuperset(pair):
            left -= set(pair)
            first, of = pairs[pair]
            parts = [(groups[i], groups[i].of[first]) for i in pair]
            joined.append(_Group(of, np.logical_or(*(part.acts[own] for part, own in parts)), start, parts))
            start += joined[-1].size
    for group in (groups[i] for i in left):
        joined.append(_Group(group.of, group.acts, start, [(group, np.arange(group.size))]))
    return joined


Entry = tuple[_Group, np.ndarray, np.ndarray]  # a group, and of each row which of its strings and for which k


def _descent(entries: list[Entry], n_joins: int, n_ends: int, n_factors: int) -> list[tuple[dict[str, np.ndarray], int]]:
    """Steps from slopes along both groups' products to those along the factors, row k n_factors + 4 w + l.

    Returns:
        Of each step: rows to take, the products they are multiplied with in the round before, the rows that they are
        added to; and how many of these there are.
    """
    steps = []
    for left in reversed(range(max(n_joins, 1))):
        sources, partners, targets, start, size, following = [], [], [], 0, 0, []
        for group, own, of_k in entries:
            places = start + np.arange(len(own))
            start += len(own)
            parts = group.parts or [(group, np.arange(group.size))]
            for side, (part, part_of) in enumerate(parts):
                string = part_of[own]
                kept = part.acts[string]
                sources.append(places[kept])
                partners.append(group.factors[1 - side][own][kept])
                if left:
                    first, which = _distinct(string[kept], of_k[kept])
                    following.append((part, string[kept][first], of_k[kept][first]))
                    targets.append(size + which)
                    size += len(first)
                else:
                    targets.append((of_k * n_factors + part.rows.start + string)[kept])
        joined = {"source": sources, "partner": partners, "target": targets}
        steps.append(({key: np.concatenate(values) for key, values in joined.items()}, size if left else n_ends))
        entries = following
    return steps


def _distinct(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the distinct pairs of numbers, in rising order of the second: where each comes first; which every entry is."""
    _, first, which = np.unique(other * (one.max(initial=0) + 1) + one, return_index=True, return_inverse=True)
    return first, which
