"""Finds the observables M_k of an amplitude-encoded circuit from its fused blocks, once per optimiser step.

    M_k = Re(E^+ U^+ P_k U E),   E = the first D basis states, P_k strings of Z

Each part of the circuit (`parts.py`) sends the columns that differ on its wires. Rows of the result on which all its strings
have the same signs form a class, and the Gram matrices of the classes, added with signs, give all its M_k. On wires
outside the part the M_k are the identity. Knows nothing of the batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from circuits.circuit import Circuit
from engines.amplitude import CompiledAmplitude, string_signs
from engines.cones import data_wires
from engines.parts import Part


class ObservableBuilder(nn.Module):
    """The observables M_k from the fused blocks.

    Args:
        circuit: with amplitude encoding and a readout of strings of Z.
        parts: of the circuit. The M_k of readouts that they do not have are 0.
    """

    def __init__(self, circuit: Circuit, parts: Sequence[Part]):
        super().__init__()
        self.parts = nn.ModuleList(_PartObservables(part) for part in parts)
        self.n_blocks = [len(part.blocks) for part in parts]
        readouts = [k for part in parts for k in part.readouts]
        in_order = readouts == list(range(circuit.n_readouts)) and parts[0].propagation.columns == list(range(circuit.n_inputs))
        self.assembly = None if len(parts) == 1 and in_order else _Assembly(circuit, parts)

    def compile(self, matrices: Tensor) -> CompiledAmplitude:
        """The circuit of these fused blocks, (n_blocks, dim, dim), part after part, under autograd."""
        return CompiledAmplitude(self.observables(matrices))

    def observables(self, matrices: Tensor) -> Tensor:
        """M_k, (K, D, D), from the blocks."""
        found = [part(own) for part, own in zip(self.parts, matrices.split(self.n_blocks))]
        return found[0] if self.assembly is None else self.assembly(found)


class _PartObservables(nn.Module):
    """What the observables of a part are on its wires.

    As U is unitary, the Gram matrices of all classes add up to 1. So that of the class where all signs are + is not needed:
    M_k = 1 - 2 sum of those where string k's sign is -.
    """

    def __init__(self, part: Part):
        super().__init__()
        self.propagation = part.propagation
        n_states = 2**part.propagation.n_wires
        self.n_sums = len(part.supports)
        self.register_buffer("identity", torch.eye(part.propagation.n_columns), persistent=False)
        for number, supports in enumerate(part.supports):
            minus = (string_signs(supports, part.propagation.wire_order) < 0).long()
            codes, code_of_state = (minus << torch.arange(len(minus)).unsqueeze(1)).sum(0).unique(return_inverse=True)
            states = code_of_state.argsort(stable=True).view(len(codes), -1)  # class by class; all + is the first
            order = torch.cat([states, n_states + states], dim=1)  # the real part's rows and the imaginary part's
            weights = -2.0 * (codes[1:] >> torch.arange(len(minus)).unsqueeze(1) & 1)
            self.register_buffer(f"kept_{number}", order[1:].flatten().int(), persistent=False)
            self.register_buffer(f"places_{number}", order.flatten().argsort().int(), persistent=False)
            self.register_buffer(f"weights_{number}", weights.to(torch.get_default_dtype()), persistent=False)

    def forward(self, matrices: Tensor) -> Tensor:
        """(n_blocks, dim, dim) to (K, C, C) for the part's readouts and columns."""
        states = self.propagation(matrices).flatten(0, 1)
        found = []
        for number in range(self.n_sums):
            kept, places, weights = (getattr(self, f"{name}_{number}") for name in ("kept", "places", "weights"))
            classes = weights.shape[1]
            rows = _Rows.apply(states, kept, places).view(classes, len(states) // (1 + classes), states.shape[1])
            found.append(SignedGram.apply(rows, weights))
        return torch.cat(found) + self.identity


class _Rows(torch.autograd.Function):
    """Some rows of a matrix in another order; the places are those of all rows, when the others come first."""

    @staticmethod
    def forward(ctx, matrix: Tensor, kept: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        return matrix.index_select(0, kept)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (places,) = ctx.saved_tensors
        others = grad.new_zeros(len(places) - len(grad), grad.shape[1])
        return torch.cat([others, grad]).index_select(0, places), None, None


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


class _Assembly(nn.Module):
    """M_k of all readouts, (K, D, D), from those of the parts, which are the identity on the data's other wires
    and have their columns in another order."""

    def __init__(self, circuit: Circuit, parts: Sequence[Part]):
        super().__init__()
        data, size = list(data_wires(circuit)), circuit.n_inputs
        entries = sum(len(part.readouts) * part.propagation.n_columns**2 for part in parts)  # and a zero behind them
        index = torch.full((circuit.n_readouts, size, size), entries)
        begin = 0
        for number, part in enumerate(parts):
            columns = part.propagation.n_columns
            inside, outside = (_number([w for w in data if (w in part.wires) == known], circuit) for known in (True, False))
            inside = torch.tensor(part.propagation.columns).argsort()[inside]
            equal = outside == outside.unsqueeze(1)
            entry = torch.where(equal, inside.unsqueeze(1) * columns + inside, entries)
            ends = begin + len(part.readouts) * columns**2
            # of every entry, where it is in M: once for each state of the other wires, or nowhere
            places = torch.full((1 + int(outside.max()), ends - begin), index.numel())
            for place, readout in enumerate(part.readouts):
                start = begin + place * columns**2
                index[readout] = torch.where(equal, entry + start, entries)
                here = torch.arange(size**2).view(size, size)[equal]
                places[outside.unsqueeze(1).expand(size, size)[equal], (entry[equal] + start - begin)] = here + readout * size**2
            self.register_buffer(f"places_{number}", places.int(), persistent=False)
            begin = ends
        self.register_buffer("index", index.flatten().int(), persistent=False)
        self.shape, self.n_parts = index.shape, len(parts)

    def forward(self, found: Sequence[Tensor]) -> Tensor:
        places = [getattr(self, f"places_{number}") for number in range(self.n_parts)]
        return _Assembled.apply(self.index, places, *found).view(self.shape)


def _number(wires: Sequence[int], circuit: Circuit) -> Tensor:
    """What every input's basis state reads on some wires, the first the most significant: (D,)."""
    inputs, number = torch.arange(circuit.n_inputs), torch.zeros(circuit.n_inputs, dtype=torch.int64)
    for wire in wires:
        number = 2 * number + (inputs >> circuit.n_wires - 1 - wire & 1)
    return number


class _Assembled(torch.autograd.Function):
    """The entries of some tensors at an index, with one zero behind all entries.

    Args:
        index: (N,).
        places: of every tensor, (copies, its size): where in the index its entries are, N for nowhere.
        found: the tensors.
    """

    @staticmethod
    def forward(ctx, index: Tensor, places: Sequence[Tensor], *found: Tensor) -> Tensor:
        ctx.places, ctx.shapes = places, [tensor.shape for tensor in found]
        return torch.cat([*(tensor.flatten() for tensor in found), found[0].new_zeros(1)]).index_select(0, index)

    @staticmethod
    def backward(ctx, grad: Tensor):
        grad = torch.cat([grad, grad.new_zeros(1)])
        return None, None, *(
            grad.index_select(0, places.flatten()).view(len(places), *shape).sum(0)
            for places, shape in zip(ctx.places, ctx.shapes)
        )
