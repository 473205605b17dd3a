"""Readouts as what measurements say: states turned into each setting's basis, probabilities, and tables of weights.

For readouts that are many or not of Z alone this costs less than a matrix for each. With A the circuit's columns
(`BasisPropagation`) in a setting's basis, real and imaginary parts below each other, and W its table of weights (`outcomes.py`),

    r = W |A v|^2 / v^T v,    w^T dr/dv = 2 (A^T (W^T w * A v) - w^T r v) / v^T v

where |.|^2 adds the squares of the two parts. Where the state is a lift, v = x + E r, A x and A E are found once.
"""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from circuits.circuit import Circuit
from engines.amplitude import CompiledAmplitude, nonzero, slope_in_v
from engines.basis import BasisPropagation
from engines.outcomes import Table, Transform, table_of
from engines.propagation import Propagation
from engines.protocol import CompiledCircuit, Lift, ReadoutMap

WIDTH = 5  # most wires of a block of turns
MOST_NUMBERS = 2**23  # of the observables that serve many samples
# what brings a letter's eigenvectors to |0> and |1>, times sqrt 2: H, and H S^+; exact in every dtype
TURNS = {"X": [[1, 1], [1, -1]], "Y": [[1, -1j], [1, 1j]], "Z": [[1, 0], [0, 1]]}


class Measurement(nn.Module):
    """One measurement setting, for states of any number as `Propagation` has them.

    Args:
        circuit: whose readout it belongs to.
        basis: a letter X, Y or Z a wire.
        order: the wires in the order of the bits of the states that come in.
    """

    def __init__(self, circuit: Circuit, basis: str, order: Sequence[int]):
        super().__init__()
        n = circuit.n_wires
        turned = [wire for wire, letter in enumerate(basis) if letter != "Z"]
        blocks = [turned[start : start + WIDTH] for start in range(0, len(turned), WIDTH)]
        width = len(blocks[0]) if blocks else 0
        # blocks are equally wide: the last one also has wires that are turned already, or not at all, and leaves them
        spare = [wire for wire in range(n) if not blocks or wire not in blocks[-1]]
        padded = [block + spare[: width - len(block)] for block in blocks]
        self.turn = Propagation(padded, n, order) if blocks else None
        self.back = self.turn.inverse() if blocks else None
        kept = [[TURNS[basis[w] if w in block else "Z"] for w in wires] for block, wires in zip(blocks, padded)]
        self.register_buffer("_matrices", _real(kept) if blocks else None, persistent=False)
        self._scales = [0.5 ** (len(block) / 2) for block in blocks]
        self.wire_order = list(self.turn.wire_order if blocks else order)
        self.table = table_of(circuit.readout, basis, self.wire_order)
        self.order = list(order)

    @property
    def matrices(self) -> Tensor:
        """The turns of all blocks, orthogonal."""
        return torch.stack([matrix * scale for matrix, scale in zip(self._matrices, self._scales)])

    def turned(self, states: Tensor) -> Tensor:
        """States (2, 2^n, C) in this basis."""
        return states if self.turn is None else self.turn(self.matrices, states)

    def read(self, states: Tensor) -> Tensor:
        """Readouts (n, B) of states in this basis, (2, 2^n, B), which need not be normalised."""
        return _Read.apply(states, self.table)

    def weighted(self, states: Tensor, weights: Tensor) -> Tensor:
        """sum_k w_k P_k |s>: states (2, 2^n, B) and weights (n, B), both in this basis, to (2, 2^n, B)."""
        return states * self.table.transposed(weights)

    def turned_back(self, states: Tensor) -> Tensor:
        """The inverse of `turned`, and its transpose."""
        if self.back is None:
            return states
        back, n = self.back(self.matrices.flip(0).mT, states), len(self.order)
        axes = [1 + self.back.wire_order.index(wire) for wire in self.order]
        return back.view((2,) * (1 + n) + (back.shape[-1],)).permute(0, *axes, 1 + n).reshape(states.shape)


class _Read(torch.autograd.Function):
    """W (re^2 + im^2) of states (2, 2^n, B) and a table W, with one pass over the states a direction."""

    @staticmethod
    def forward(ctx, states: Tensor, table: Table | Transform) -> Tensor:
        ctx.save_for_backward(states)
        ctx.table = table
        real, imag = states
        return table(real.square().addcmul_(imag, imag))

    @staticmethod
    def backward(ctx, grad: Tensor):
        (states,) = ctx.saved_tensors
        return states * ctx.table.transposed(2 * grad), None


def _real(blocks: list) -> Tensor:
    """Products of single-wire matrices as [[Re, -Im], [Im, Re]]: (n_blocks, dim, dim)."""
    unitaries = [reduce(torch.kron, [torch.tensor(m, dtype=torch.complex128) for m in block]) for block in blocks]
    real = [torch.cat([torch.cat([u.real, -u.imag], 1), torch.cat([u.imag, u.real], 1)], 0) for u in unitaries]
    return torch.stack(real).to(torch.get_default_dtype())


class Measurements(nn.ModuleList):
    """All settings of a circuit's readout.

    Args:
        circuit: any readout.
        order: as for `Measurement`.
    """

    def __init__(self, circuit: Circuit, order: Sequence[int]):
        settings = circuit.readout.settings()
        super().__init__(Measurement(circuit, basis, order) for basis in settings)
        positions = [k for members in settings.values() for k in members]
        # where each readout stands among those of the first setting, the second, ...
        self.places = None if positions == sorted(positions) else [positions.index(k) for k in range(len(positions))]
        self.after = None if self.places is None else positions
        self.sizes = [len(members) for members in settings.values()]

    def join(self, parts: list[Tensor]) -> Tensor:
        """Readouts of the settings, (n, B) each, to (K, B)."""
        joined = parts[0] if len(parts) == 1 else torch.cat(parts)
        return joined if self.places is None else joined[self.places]

    def share(self, weights: Tensor) -> tuple[Tensor, ...]:
        """(K, B) numbers for the readouts to those of every setting, (n, B) each."""
        return (weights if self.after is None else weights[self.after]).split(self.sizes)


class ColumnMeasurement(nn.Module):
    """The circuit's columns, and the settings in which its states are measured.

    Args:
        circuit: with amplitude encoding and any readout.
        wires: of each fused block.
    """

    def __init__(self, circuit: Circuit, wires: Sequence[Sequence[int]]):
        super().__init__()
        self.propagation = BasisPropagation(wires, circuit.n_wires, circuit.n_inputs)
        self.measurements = Measurements(circuit, self.propagation.wire_order)
        order = self.propagation.columns
        places = None if order == sorted(order) else torch.tensor(order).argsort()
        self.register_buffer("places", places, persistent=False)

    def compile(self, matrices: Tensor) -> "CompiledMeasurement":
        """The circuit of these fused blocks, (n_blocks, dim, dim), under autograd."""
        columns = self.propagation(matrices)
        columns = columns if self.places is None else columns.index_select(-1, self.places)
        return CompiledMeasurement(self.measurements, [one.turned(columns).flatten(0, 1) for one in self.measurements])


class CompiledMeasurement(CompiledCircuit):
    """r(v) for one set of parameters.

    Args:
        measurements: S settings.
        columns: A of each, (2 2^n, D).
    """

    def __init__(self, measurements: Measurements, columns: list[Tensor]):
        self.measurements, self.columns = measurements, columns

    def states(self, v: Tensor) -> list[Tensor]:
        """A v of each setting, (2, 2^n, B), from v (B, D)."""
        v = v.T.contiguous()  # so that autograd's products with the columns are the faster ones
        return [(columns @ v).unflatten(0, (2, -1)) for columns in self.columns]

    def read(self, states: list[Tensor], v: Tensor) -> Tensor:
        """Readouts, (B, K), from v (B, D) and A v of each setting; a zero vector reads 0."""
        read = self.measurements.join([one.read(own) for one, own in zip(self.measurements, states)])
        return read.T / nonzero(v.square().sum(-1, keepdim=True))

    def slope(self, states: list[Tensor], v: Tensor, weights: Tensor) -> Tensor:
        """weights^T dr/dv, (B, D), from the same."""
        of_settings = zip(self.measurements, self.columns, states, self.measurements.share(weights.T))
        weighted = sum(columns.T @ one.weighted(own, share).flatten(0, 1) for one, columns, own, share in of_settings).T
        return slope_in_v(weighted, weights, self.read(states, v), v, nonzero(v.square().sum(-1, keepdim=True)))

    def readouts(self, v: Tensor) -> Tensor:
        """(B, D) vectors to (B, K); a zero vector reads 0."""
        return self.read(self.states(v), v)

    def vjp(self, v: Tensor, weights: Tensor) -> Tensor:
        """weights^T dr/dv at v: (B, D) and (B, K) to (B, D)."""
        return self.slope(self.states(v), v, weights)

    def for_many(self, lift: Lift) -> CompiledAmplitude | None:
        """E r by an observable of the inputs for each of its entries, L_i = A^T diag((E W)_i) A; None where they are too large."""
        width = lift.width
        if width * self.columns[0].shape[1] ** 2 > MOST_NUMBERS:
            return None
        unit = torch.eye(sum(self.measurements.sizes), dtype=self.columns[0].dtype, device=self.columns[0].device)
        shares = self.measurements.share(lift(unit))  # E^T: a row each readout, a column each entry of E r
        weights = [one.table.transposed(share).repeat(2, 1) for one, share in zip(self.measurements, shares)]
        return CompiledAmplitude(torch.stack([
            sum(columns.T @ (of_setting[:, i : i + 1] * columns) for of_setting, columns in zip(weights, self.columns))
            for i in range(width)
        ]))  # fmt: skip

    def along(self, x: Tensor, lift: Lift) -> "ReducedMeasurement":
        """r -> readouts at x + E r for a batch x of shape (B, D)."""
        return ReducedMeasurement(self, x, lift)


class ReducedMeasurement(ReadoutMap):
    """The readouts as a function of the K readouts that went in, for one batch.

    A (x + E r) is A x + (A E) r where there are fewer readouts than numbers in x, else the product with the sum. The
    Jacobian is not offered: its K^2 numbers a sample would each cost a sum over all outcomes.

    Args:
        circuit: at given parameters.
        x: (B, D).
        lift: E.
    """

    def __init__(self, circuit: CompiledMeasurement, x: Tensor, lift: Lift):
        self.circuit, self.x, self.lift = circuit, x, lift
        self.lifted = None
        if sum(circuit.measurements.sizes) < x.shape[1]:
            self.lifted = [lift.transpose(columns) for columns in circuit.columns]  # A E of each setting, (2 2^n, K)
            self.of_x = [columns @ x.T for columns in circuit.columns]

    def _states(self, r: Tensor) -> tuple[list[Tensor], Tensor]:
        """A v of each setting, (2, 2^n, B), and v = x + E r, (B, D)."""
        v = self.x + self.lift(r)
        if self.lifted is None:
            return self.circuit.states(v), v
        r = r.T.contiguous()
        return [torch.addmm(of_x, lifted, r).unflatten(0, (2, -1)) for of_x, lifted in zip(self.of_x, self.lifted)], v

    def __call__(self, r: Tensor) -> Tensor:
        """(B, K) to (B, K)."""
        return self.circuit.read(*self._states(r))

    def vjp(self, r: Tensor, weights: Tensor) -> Tensor:
        """weights^T dr/dv at v = x + E r, in R^D: (B, K) twice to (B, D)."""
        return self.circuit.slope(*self._states(r), weights)
