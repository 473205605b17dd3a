"""The observables M_k of an amplitude-encoded circuit, found by several processes together.

The circuit acts on D basis columns once a step, whatever the batch. Each process sends its columns through the circuit,
then the columns are exchanged for rows: each gets all columns of its groups of basis states, those that agree on the
first half of the wires, and adds up its part of every M_k over them. Circuit and Gram matrices thus cost a process its
share of the time and of the memory, and it sends its columns once, 2^(n_wires + 1) D / size numbers. Knows how to divide
the work, not how anything is sent.
"""

import torch
from torch import Tensor, nn

from engines.amplitude import CompiledAmplitude, ObservableBuilder, SignedGram, string_signs
from engines.protocol import Team


class SharedObservables(nn.Module):
    """The same as an `ObservableBuilder`, whose work the team shares out.

    Args:
        builder: of the circuit.
        team: the processes, all of which compile the same circuits in the same order.
    """

    def __init__(self, builder: ObservableBuilder, team: Team):
        super().__init__()
        self.builder, self.team = builder, team
        n, half = builder.n_wires, builder.n_wires // 2
        self.columns, self.groups = team.bounds(builder.n_inputs), team.bounds(2**half)
        self.own_groups = slice(*self.groups[team.rank : team.rank + 2])
        axes = [1 + builder.propagation.wire_order.index(wire) for wire in range(n)]
        self.order = [*axes[:half], 0, *axes[half:], 1 + n]  # groups, real and imaginary part, the other wires, columns
        signs = None
        if builder.across:
            signs = string_signs(builder.across, range(n)).unflatten(1, (2**half, -1))[:, self.own_groups]
            signs = signs.to(builder.signs_across)
        self.register_buffer("signs_across", signs, persistent=False)

    def compile(self, matrices: Tensor) -> CompiledAmplitude:
        """The circuit of these fused blocks, (n_blocks, dim, dim), under autograd."""
        return CompiledAmplitude(self.team.total(self._part(matrices)))

    def _part(self, matrices: Tensor) -> Tensor:
        """This process's part of M_k for every readout, (K, D, D)."""
        builder, n = self.builder, self.builder.n_wires
        own_columns = slice(*self.columns[self.team.rank : self.team.rank + 2])
        sent = builder.propagation(matrices, own_columns)
        sent = sent.view((2,) * (1 + n) + (sent.shape[-1],)).permute(self.order)
        rows = sent.reshape(self.groups[-1], 2, -1, sent.shape[-1])
        rows = self.team.gather_columns(rows, self.groups, self.columns)  # (own groups, 2, other wires, D)
        found = []
        for half, signs in builder.signs():
            if half == 0:
                found.append(SignedGram.apply(rows.flatten(1, 2), signs[:, self.own_groups]))
            else:
                found.append(SignedGram.apply(rows.permute(2, 1, 0, 3).flatten(1, 2), signs))
        if self.signs_across is not None:
            signed = rows * self.signs_across[:, :, None, :, None]
            found.append(signed.flatten(1, 3).transpose(1, 2) @ rows.flatten(0, 2))
        return builder.in_order(torch.cat(found))
