"""Amplitude encoding: the circuit as observables of the inputs, found once per optimiser step.

After amplitude encoding the circuit does not depend on the data, so with v = z + x in R^D,

    r_k(v) = <P_k> = v^T M_k v / v^T v,    M_k = Re(E^+ U^+ P_k U E),   E = the first D basis states

for strings P_k of Z. U(theta) acts on D basis columns once, and every later call is a small dense product. Where the
state is a lift of readouts, z = E r, numerator and denominator are quadratics in r with coefficients that are fixed
once x is known (`ReducedReadout`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from circuits.circuit import Circuit
from engines.propagation import BasisPropagation
from engines.protocol import CompiledCircuit, Lift, ReadoutMap


def z_signs(n_bits: int) -> Tensor:
    """+1 or -1 for bit 0 or 1: (n_bits, 2^n_bits), the first bit the most significant."""
    bits = torch.arange(2**n_bits) >> torch.arange(n_bits - 1, -1, -1).unsqueeze(1) & 1
    return 1.0 - 2.0 * bits


def string_signs(supports: Sequence[Sequence[int]], wires: Sequence[int]) -> Tensor:
    """Eigenvalues of strings of Z in every basis state: (n_strings, 2^n).

    Args:
        supports: the wires of each string's Zs.
        wires: of the basis states' bits, the most significant first.
    """
    of_wire = z_signs(len(wires))
    return torch.stack([of_wire[[wires.index(wire) for wire in support]].prod(0) for support in supports])


class ObservableBuilder(nn.Module):
    """The observables M_k from the fused blocks.

    Rows of U E that agree on one half of the wires share the signs of a string that lies in that half. So Gram matrices
    per group of rows, added with signs, give all strings of that half: two passes over the rows serve the n_wires
    strings of the paper. A string across both halves takes one product of its own.

    Args:
        circuit: with amplitude encoding and a readout of strings of Z.
        wires: of each fused block.

    Attributes:
        across: supports of the strings that lie in neither half.
    """

    def __init__(self, circuit: Circuit, wires: Sequence[Sequence[int]]):
        super().__init__()
        n = self.n_wires = circuit.n_wires
        self.n_inputs, self.n_readouts = circuit.n_inputs, circuit.n_readouts
        self.propagation = BasisPropagation(wires, n, circuit.n_inputs)
        axes = [1 + self.propagation.wire_order.index(wire) for wire in range(n)]
        supports = circuit.readout.supports()
        halves = (range(n // 2), range(n // 2, n))
        inside: list[list[int]] = [[], []]
        across: list[int] = []
        for k, support in enumerate(supports):
            home = next((half for half in (0, 1) if set(support) <= set(halves[half])), None)
            (across if home is None else inside[home]).append(k)
        # of each half that has strings: its axes, those of the other wires, and the strings' signs
        self.halves: list[tuple[list[int], list[int], str]] = []
        for half, members in enumerate(inside):
            if members:
                own, others = ([axes[wire] for wire in halves[h]] for h in (half, 1 - half))
                self.halves.append((own, others, f"signs_{half}"))
                self.register_buffer(
                    f"signs_{half}", string_signs([supports[k] for k in members], halves[half]), persistent=False
                )
        order = [*inside[0], *inside[1], *across]
        self.places = None if order == sorted(order) else [order.index(k) for k in range(len(order))]
        self.across = [supports[k] for k in across]
        signs = string_signs(self.across, self.propagation.wire_order) if across else None
        self.register_buffer("signs_across", signs, persistent=False)

    def compile(self, matrices: Tensor) -> "CompiledAmplitude":
        """The circuit of these fused blocks, (n_blocks, dim, dim), under autograd."""
        return CompiledAmplitude(self._observables(matrices))

    def signs(self) -> list[tuple[int, Tensor]]:
        """Of each half that has strings: its number and the strings' signs, (n_strings, 2^wires of the half)."""
        return [(half, signs) for half in (0, 1) if (signs := getattr(self, f"signs_{half}", None)) is not None]

    def in_order(self, observables: Tensor) -> Tensor:
        """(K, D, D) observables, those of the first half, of the second and across, in the readout's order."""
        return observables if self.places is None else observables[self.places]

    def _observables(self, matrices: Tensor) -> Tensor:
        """M_k for every readout, (K, D, D)."""
        n, n_inputs = self.n_wires, self.n_inputs
        columns = self.propagation(matrices).view((2,) * (1 + n) + (n_inputs,))
        found = []
        for own, others, signs in self.halves:
            rows = columns.permute(*own, 0, *others, 1 + n).reshape(2 ** len(own), -1, n_inputs)
            found.append(SignedGram.apply(rows, getattr(self, signs)))
        if self.signs_across is not None:
            rows = columns.reshape(2, -1, n_inputs)  # real and imaginary parts, basis states
            signed = rows * self.signs_across[:, None, :, None]
            found.append(signed.flatten(1, 2).transpose(1, 2) @ rows.flatten(0, 1))
        return self.in_order(torch.cat(found))


class SignedGram(torch.autograd.Function):
    """sum_g signs[k, g] rows_g^T rows_g: (G, R, D) rows and (K, G) signs to (K, D, D).

    The backward pass uses the symmetry that autograd does not see: one product in place of two.
    """

    @staticmethod
    def forward(ctx, rows: Tensor, signs: Tensor) -> Tensor:
        ctx.save_for_backward(rows, signs)
        gram = torch.bmm(rows.transpose(1, 2), rows)
        return (signs @ gram.flatten(1)).unflatten(1, gram.shape[1:])

    @staticmethod
    def backward(ctx, grad: Tensor):
        rows, signs = ctx.saved_tensors
        symmetric = grad + grad.transpose(1, 2)
        return torch.bmm(rows, (signs.T @ symmetric.flatten(1)).unflatten(1, grad.shape[1:])), None


def _ratio(numerator: Tensor, squared_norm: Tensor) -> Tensor:
    """numerator / squared_norm per sample; a vector without direction reads 0, with zero slope."""
    has_direction = ~(squared_norm <= torch.finfo(squared_norm.dtype).tiny)  # a NaN stays one
    return torch.where(has_direction, numerator / torch.where(has_direction, squared_norm, 1.0), 0.0 * numerator)


class CompiledAmplitude(CompiledCircuit):
    """r_k(v) = v^T M_k v / v^T v.

    Args:
        observables: M_k, (K, D, D), symmetric.
    """

    def __init__(self, observables: Tensor):
        self.observables = observables

    def _times_observables(self, v: Tensor) -> Tensor:
        """M_k v for every k, in one product: (B, D) to (B, K, D)."""
        return (v @ self.observables.flatten(0, 1).T).unflatten(-1, (-1, v.shape[1]))

    def readouts(self, v: Tensor) -> Tensor:
        """(B, D) vectors to (B, K) expectation values; a zero vector reads 0."""
        numerator = (self._times_observables(v) @ v.unsqueeze(-1)).flatten(1)
        return _ratio(numerator, v.square().sum(-1, keepdim=True))

    def vjp(self, v: Tensor, weights: Tensor) -> Tensor:
        """weights^T dr/dv at v, 2 sum_k w_k (M_k v - r_k v) / v^T v: (B, D) and (B, K) to (B, D)."""
        rows = self._times_observables(v)
        squared_norm = v.square().sum(-1, keepdim=True)
        readouts = _ratio((rows @ v.unsqueeze(-1)).flatten(1), squared_norm)
        weighted_rows = (weights.unsqueeze(1) @ rows).squeeze(1)
        return _ratio(2 * (weighted_rows - (weights * readouts).sum(-1, keepdim=True) * v), squared_norm)

    def along(self, x: Tensor, lift: Lift) -> "ReducedReadout":
        """r -> readouts at x + E r for a batch x of shape (B, D)."""
        return ReducedReadout(self.observables, self._times_observables(x), x, lift)


class ReducedReadout(ReadoutMap):
    """The readouts as a function of the K readouts that went in, for one batch.

        h_k(r) = (a_k + 2 b_k.r + r^T C_k r) / (|x|^2 + 2 s.r + r^T E^T E r)

    with a_k = x^T M_k x, b_k = E^T M_k x, C_k = E^T M_k E, s = E^T x. Same values as `readouts(x + E r)`, to a
    round-off of the order of eps |x|^2 / |x + E r|^2 (both quadratics are sums of terms of size |x|^2).

    Args:
        observables: M_k, (K, D, D).
        rows: M_k x, (B, K, D).
        x: (B, D).
        lift: E.
    """

    def __init__(self, observables: Tensor, rows: Tensor, x: Tensor, lift: Lift):
        self.x, self.rows, self.lift = x, rows, lift
        self.lifted_columns = lift.transpose(observables, 1)  # E^T M_k: (K, K, D), second index the readout that went in
        quadratic = lift.transpose(self.lifted_columns)  # (K, K, K)
        self._quadratic_rows = quadratic.transpose(0, 1).reshape(quadratic.shape[1], -1)
        self.constant = (rows @ x.unsqueeze(-1)).flatten(1)  # (B, K)
        self.linear = lift.transpose(rows)  # (B, K, K), second index the observable's
        self.x_squared = x.square().sum(-1, keepdim=True)  # (B, 1)
        self.x_sums = lift.transpose(x)  # (B, K)

    def _parts(self, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        quadratic_r = (r @ self._quadratic_rows).view(self.linear.shape)
        half_slope = self.linear + quadratic_r
        numerator = self.constant + ((self.linear + half_slope) @ r.unsqueeze(-1)).squeeze(-1)
        squared_norm = self.x_squared + ((2 * self.x_sums + self.lift.gram(r)) * r).sum(-1, keepdim=True)
        return numerator, squared_norm, half_slope

    def __call__(self, r: Tensor) -> Tensor:
        """(B, K) to (B, K)."""
        numerator, squared_norm, _ = self._parts(r)
        return _ratio(numerator, squared_norm)

    def jacobian(self, r: Tensor) -> Tensor:
        """dh_k/dr_j, exact, (B, K, K)."""
        numerator, squared_norm, half_slope = self._parts(r)
        value = _ratio(numerator, squared_norm)
        norm_half_slope = self.x_sums + self.lift.gram(r)
        slope = 2 * (half_slope - value.unsqueeze(-1) * norm_half_slope.unsqueeze(1))
        return _ratio(slope, squared_norm.unsqueeze(-1))

    def vjp(self, r: Tensor, weights: Tensor) -> Tensor:
        """weights^T dr/dv at v = x + E r, in R^D: (B, K) twice to (B, D).

        `CompiledAmplitude.vjp` there, with M_k v = M_k x + M_k E r from what is known already.
        """
        numerator, squared_norm, _ = self._parts(r)
        readouts = _ratio(numerator, squared_norm)
        weighted_rows = (weights.unsqueeze(1) @ self.rows).squeeze(1)
        pairs = (weights.unsqueeze(2) * r.unsqueeze(1)).flatten(1)
        weighted_rows = weighted_rows + pairs @ self.lifted_columns.flatten(0, 1)
        v = self.x + self.lift(r)
        return _ratio(2 * (weighted_rows - (weights * readouts).sum(-1, keepdim=True) * v), squared_norm)
