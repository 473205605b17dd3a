"""Amplitude encoding: the circuit as observables of the inputs, found once per optimiser step.

After amplitude encoding the circuit does not depend on the data, so with v = z + x in R^D,

    r_k(v) = <P_k> = v^T M_k v / v^T v,    M_k = Re(E^+ U^+ P_k U E),   E = the first D basis states

for strings P_k of Z. `observables.py` finds the M_k once, and every later call is a small dense product. Where the state
is a lift of readouts, z = E r, numerator and denominator are quadratics in r with coefficients that are fixed once x is
known (`ReducedReadout`).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from engines.protocol import CompiledCircuit, Lift, ReadoutMap
from engines.side_by_side import add_times_own, times_own


def string_signs(supports: Sequence[Sequence[int]], wires: Sequence[int]) -> Tensor:
    """Eigenvalues of strings of Z in every basis state: (n_strings, 2^n).

    Args:
        supports: the wires of each string's Zs.
        wires: of the basis states' bits, the most significant first.
    """
    states = torch.arange(2 ** len(wires))
    signs = torch.ones(len(supports), len(states))
    for of_string, support in zip(signs, supports):
        for wire in support:
            of_string *= 1 - 2 * (states >> len(wires) - 1 - wires.index(wire) & 1)
    return signs


def nonzero(squared_norm: Tensor) -> Tensor:
    """The squared norm to divide by: inf for a vector without direction, which so reads 0, with zero slope."""
    return torch.threshold(squared_norm, torch.finfo(squared_norm.dtype).tiny, math.inf)  # a NaN stays one


class CompiledAmplitude(CompiledCircuit):
    """r_k(v) = v^T M_k v / v^T v.

    Args:
        observables: M_k, (K, D, D), symmetric; or (S, K, D, D), for batches of S runs of samples (`side_by_side`).
    """

    def __init__(self, observables: Tensor):
        self.observables = observables

    def _times_observables(self, v: Tensor) -> Tensor:
        """M_k v for every k, in one product: (B, D) to (B, K, D)."""
        return times_own(v, self.observables.flatten(-3, -2).mT).unflatten(-1, (-1, v.shape[1]))

    def readouts(self, v: Tensor) -> Tensor:
        """(B, D) vectors to (B, K) expectation values; a zero vector reads 0."""
        numerator = (self._times_observables(v) @ v.unsqueeze(-1)).flatten(1)
        return numerator / nonzero(v.square().sum(-1, keepdim=True))

    def vjp(self, v: Tensor, weights: Tensor) -> Tensor:
        """weights^T dr/dv at v, 2 sum_k w_k (M_k v - r_k v) / v^T v: (B, D) and (B, K) to (B, D)."""
        rows = self._times_observables(v)
        squared_norm = nonzero(v.square().sum(-1, keepdim=True))
        readouts = (rows @ v.unsqueeze(-1)).flatten(1) / squared_norm
        return slope_in_v((weights.unsqueeze(1) @ rows).squeeze(1), weights, readouts, v, squared_norm)

    def jacobian(self, v: Tensor) -> Tensor:
        """dr/dv, 2 (M_k v - r_k v) / v^T v: (B, D) to (B, K, D)."""
        rows = self._times_observables(v)
        squared_norm = nonzero(v.square().sum(-1)).view(-1, 1, 1)
        readouts = (rows @ v.unsqueeze(-1)) / squared_norm
        return torch.addcmul(rows, readouts, v.unsqueeze(1), value=-1) / (0.5 * squared_norm)

    def along(self, x: Tensor, lift: Lift) -> "ReducedReadout | None":
        """r -> readouts at x + E r for a batch x of shape (B, D); None where r has more numbers than x, and no form is cheaper."""
        if self.observables.shape[-3] > x.shape[1]:
            return None
        return ReducedReadout(self.observables, self._times_observables(x), x, lift)

    def lifted(self, lift: Lift) -> "CompiledAmplitude | None":
        """E r as readouts of their own, sum_k E_ik M_k; None where z has no fewer numbers than r."""
        if self.observables.shape[-3] <= lift.width:
            return None
        return CompiledAmplitude(lift(self.observables.movedim(-3, -1)).movedim(-1, -3))


def slope_in_v(weighted_rows: Tensor, weights: Tensor, readouts: Tensor, v: Tensor, squared_norm: Tensor) -> Tensor:
    """2 (sum_k w_k M_k v - w.r v) / v^T v, (B, D), from its first sum."""
    along_v = (weights * readouts).sum(-1, keepdim=True)
    return torch.addcmul(weighted_rows, along_v, v, value=-1) / (0.5 * squared_norm)


class ReducedReadout(ReadoutMap):
    """The readouts as a function of the K readouts that went in, for one batch.

        h_k(r) = q_k(r) / q_K(r),    q_k(r) = a_k + 2 b_k.r + r^T C_k r

    with a_k = x^T M_k x, b_k = E^T M_k x, C_k = E^T M_k E; the last form is the squared norm |x + E r|^2, whose M is 1.
    Same values as `readouts(x + E r)`, to a round-off of the order of eps |x|^2 / |x + E r|^2 (both quadratics are sums
    of terms of size |x|^2).

    Args:
        observables: M_k, (K, D, D) or (S, K, D, D).
        rows: M_k x, (B, K, D).
        x: (B, D).
        lift: E.
    """

    def __init__(self, observables: Tensor, rows: Tensor, x: Tensor, lift: Lift):
        self.x, self.rows, self.lift = x, rows, lift
        n = observables.shape[-3]
        self._shape, self._parts = (len(x), n + 1, n), [n, 1]
        self.lifted_columns = lift.transpose(observables, -2)  # E^T M_k: (..., K, K, D), the readout that went in second
        gram = lift.gram(torch.eye(n, dtype=x.dtype, device=x.device))
        gram = gram.expand(*observables.shape[:-3], 1, n, n)
        forms = torch.cat([lift.transpose(self.lifted_columns), gram], dim=-3)  # C_k: (..., K + 1, K, K)
        self._forms = forms.flatten(-3, -2).mT  # r @ this has all C_k r
        # a_k, (B, K + 1, 1), and 2 b_k, (B, (K + 1) K)
        self._constant = torch.cat([torch.bmm(rows, x.unsqueeze(2)), x.square().sum(1).view(-1, 1, 1)], dim=1)
        self._slope_at_0 = 2 * torch.cat([lift.transpose(rows), lift.transpose(x).unsqueeze(1)], dim=1).flatten(1)

    def _value(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """h(r), (B, K), and the squared norm to divide by, (B, 1)."""
        slope = add_times_own(self._slope_at_0, r, self._forms).view(self._shape)
        quadratics = torch.baddbmm(self._constant, slope, r.unsqueeze(2)).squeeze(2)
        numerator, squared_norm = torch.split_with_sizes(quadratics, self._parts, dim=1)
        squared_norm = nonzero(squared_norm)
        return numerator / squared_norm, squared_norm

    def __call__(self, r: Tensor) -> Tensor:
        """(B, K) to (B, K)."""
        return self._value(r)[0]

    def jacobian(self, r: Tensor) -> Tensor:
        """dh_k/dr_j, exact, (B, K, K)."""
        return self.value_and_jacobian(r)[1]

    def value_and_jacobian(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """h(r), (B, K), and dh_k/dr_j, (B, K, K)."""
        value, squared_norm = self._value(r)
        slope = add_times_own(self._slope_at_0, r, self._forms, alpha=2).view(self._shape)
        of_numerator, of_norm = torch.split_with_sizes(slope, self._parts, dim=1)
        slope = torch.addcmul(of_numerator, value.unsqueeze(2), of_norm, value=-1)
        return value, slope / squared_norm.unsqueeze(2)

    def vjp(self, r: Tensor, weights: Tensor) -> Tensor:
        """weights^T dr/dv at v = x + E r, in R^D: (B, K) twice to (B, D).

        `CompiledAmplitude.vjp` there, with M_k v = M_k x + M_k E r from what is known already.
        """
        value, squared_norm = self._value(r)
        weighted_rows = torch.bmm(weights.unsqueeze(1), self.rows).squeeze(1)
        pairs = (weights.unsqueeze(2) * r.unsqueeze(1)).flatten(1)
        weighted_rows = add_times_own(weighted_rows, pairs, self.lifted_columns.flatten(-3, -2))
        return slope_in_v(weighted_rows, weights, value, self.x + self.lift(r), squared_norm)
