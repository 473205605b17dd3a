"""The observables M_k of an amplitude-encoded circuit, found by several processes together.

Where light cones are cheaper, each process takes some of the circuit's parts. Otherwise the circuit acts on D basis columns
once a step, whatever the batch: each process sends its columns through the circuit, then the columns are exchanged for
rows: each gets all columns of its groups of basis states, those that agree on the first half of the wires, and adds up
its part of every M_k over them. Circuit and Gram matrices thus cost a process its share of the time and of the memory, and
it sends its columns once, 2^(n_wires + 1) D / size numbers. Knows how to divide the work, not how anything is sent.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from circuits.circuit import Circuit
from engines.amplitude import CompiledAmplitude, string_signs
from engines.observables import ObservableBuilder, SignedGram
from engines.parts import Part
from engines.protocol import Team


def dealt(parts: Sequence[Part], n_shares: int) -> list[list[Part]]:
    """Parts in shares of about the same work: from the largest, each goes where least has gone."""
    shares: list[list[Part]] = [[] for _ in range(n_shares)]
    for part in sorted(parts, key=lambda part: -part.macs):
        min(shares, key=work).append(part)
    return shares


def work(parts: Sequence[Part]) -> float:
    """About how many multiplications some parts take."""
    return sum(part.macs for part in parts)


class SharedParts(nn.Module):
    """The observables M_k, each found by one process of a team.

    Args:
        circuit: with amplitude encoding and a readout of strings of Z.
        own: this process's parts of it.
        team: the processes, which together have all parts.
    """

    def __init__(self, circuit: Circuit, own: Sequence[Part], team: Team):
        super().__init__()
        self.builder, self.team = ObservableBuilder(circuit, own), team

    def compile(self, matrices: Tensor) -> CompiledAmplitude:
        """The circuit of these fused blocks, (n_blocks, dim, dim), those of the own parts, under autograd."""
        return CompiledAmplitude(self.team.total(self.builder.observables(matrices)))


class SharedObservables(nn.Module):
    """The observables M_k, whose columns a team shares out.

    Rows of U E that agree on one half of the wires share the signs of a string that lies in that half. So Gram matrices
    per group of rows, added with signs, give all strings of that half. A string across both halves takes one product of
    its own.

    Args:
        circuit: with amplitude encoding and a readout of strings of Z.
        part: all of the circuit.
        team: the processes, all of which compile the same circuits in the same order.
    """

    def __init__(self, circuit: Circuit, part: Part, team: Team):
        super().__init__()
        self.propagation, self.team = part.propagation, team
        n = self.n_wires = circuit.n_wires
        halves = (range(n // 2), range(n // 2, n))
        self.register_buffer("in_order", torch.tensor(self.propagation.columns).argsort(), persistent=False)
        self.columns, self.groups = team.bounds(circuit.n_inputs), team.bounds(2 ** (n // 2))
        self.own_groups = slice(*self.groups[team.rank : team.rank + 2])
        axes = [1 + self.propagation.wire_order.index(wire) for wire in range(n)]
        # groups, real and imaginary part, the other wires, columns
        self.order = [*axes[: n // 2], 0, *axes[n // 2 :], 1 + n]
        supports = circuit.readout.supports()
        homes = [next((h for h in (0, 1) if set(support) <= set(halves[h])), 2) for support in supports]
        members = [[k for k, home in enumerate(homes) if home == h] for h in (0, 1, 2)]
        order = [k for some in members for k in some]
        self.places = [order.index(k) for k in range(len(order))]
        for home, wires in enumerate((*halves, range(n))):
            signs = string_signs([supports[k] for k in members[home]], wires)
            if home != 1:
                signs = signs.unflatten(1, (2 ** (n // 2), signs.shape[1] >> n // 2))[:, self.own_groups]
            self.register_buffer(f"signs_{home}", signs.to(torch.get_default_dtype()), persistent=False)

    def compile(self, matrices: Tensor) -> CompiledAmplitude:
        """The circuit of these fused blocks, (n_blocks, dim, dim), under autograd."""
        observables = self.team.total(self._part(matrices))
        return CompiledAmplitude(observables[:, self.in_order[:, None], self.in_order])

    def _part(self, matrices: Tensor) -> Tensor:
        """This process's part of M_k for every readout, (K, D, D)."""
        n = self.n_wires
        sent = self.propagation(matrices, slice(*self.columns[self.team.rank : self.team.rank + 2]))
        sent = sent.view((2,) * (1 + n) + (sent.shape[-1],)).permute(self.order)
        rows = sent.reshape(self.groups[-1], 2, -1, sent.shape[-1])
        rows = self.team.gather_columns(rows, self.groups, self.columns)  # (own groups, 2, other wires, D)
        found = []
        if len(self.signs_0):
            found.append(SignedGram.apply(rows.flatten(1, 2), self.signs_0.flatten(1)))
        if len(self.signs_1):
            found.append(SignedGram.apply(rows.permute(2, 1, 0, 3).flatten(1, 2), self.signs_1))
        if len(self.signs_2):
            signed = rows * self.signs_2[:, :, None, :, None]
            found.append(signed.flatten(1, 3).transpose(1, 2) @ rows.flatten(0, 2))
        return torch.cat(found)[self.places]
