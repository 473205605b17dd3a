"""Theorem 3: L different layers are one weight-tied block network.

Stack the states of the L layers, z = (z_1, ..., z_L), and let one layer map them all at once:

    F(z; x) = (f_1(0; x), f_2(z_1; x), ..., f_L(z_{L-1}; x)).

F is weight-tied: applied again and again, it is the same F. From z = 0 its l-th block is right after l applications
and stays so, so after L of them z_L = f_L(... f_2(f_1(0; x); x) ...; x), the untied network's output, and
z = F(z; x): the untied network is an equilibrium of a single layer. Its Jacobian has blocks below the diagonal only, so
its L-th power is zero. Each f_l acts on registers of its own, so F is one circuit of L n_wires qubits with the unitary
U_1 x ... x U_L, whose readouts are wired to the encoding of the next register.
"""

import torch
from torch import Tensor, nn

from deq import SolverSettings, batch_jacobian, solve
from models.circuit import build_circuit
from models.classical_layers import TanhLayer
from models.quantum_layer import QuantumLayer


class BlockNetwork:
    """F(z; x) for one batch.

    Args:
        layers: f_1 to f_L, each of the same width D.
        x: (B, D) features.
    """

    def __init__(self, layers: list[nn.Module], x: Tensor):
        self.bound = [layer.compile().bind(x) for layer in layers]
        self.width = layers[0].n_units * layers[0].copies

    def __call__(self, z: Tensor) -> Tensor:
        """(B, L D) to itself."""
        blocks = z.split(self.width, dim=1)
        before = (torch.zeros_like(blocks[0]), *blocks[:-1])
        return torch.cat([f(block) for f, block in zip(self.bound, before)], dim=1)

    def untied(self, z0: Tensor) -> list[Tensor]:
        """Outputs of every layer of the untied network, (B, D) each, from z0 of that shape."""
        outputs = []
        for f in self.bound:
            z0 = f(z0)
            outputs.append(z0)
        return outputs


def tanh_blocks(layers: list[TanhLayer]) -> TanhLayer:
    """L tanh layers as one TanhLayer with a block matrix W below the diagonal and the stacked U."""
    n, n_inputs = layers[0].n_units, layers[0].n_inputs
    block = TanhLayer(n_inputs, n * len(layers)).double()
    with torch.no_grad():
        block.w.zero_()
        for position, layer in enumerate(layers[1:], start=1):
            block.w[position * n : (position + 1) * n, (position - 1) * n : position * n] = layer.w
        block.u.copy_(torch.cat([layer.u for layer in layers]))
    return block


@torch.no_grad()
def measure(n_layers: int, kind: str, n_wires: int, n_samples: int, generator: torch.Generator) -> dict:
    """Build L layers with parameters of their own and compare both networks on random features.

    Args:
        n_layers: L.
        kind: "amplitude", "angle" or "tanh".
        n_wires: qubits; D = n_wires^2, also for tanh.
        n_samples: features drawn from a normal distribution.
        generator: of features; parameters come from torch's global one.
    """
    if kind == "tanh":
        layers = [TanhLayer(n_wires**2, n_wires**2).double() for _ in range(n_layers)]
    else:
        layers = [QuantumLayer(build_circuit(n_wires, kind)).double() for _ in range(n_layers)]
    x = torch.randn(n_samples, n_wires**2, generator=generator, dtype=torch.float64)
    network = BlockNetwork(layers, x)
    untied = network.untied(torch.zeros_like(x))
    f = tanh_blocks(layers).bind(x) if kind == "tanh" else network
    z = start = torch.zeros(n_samples, n_layers * x.shape[1], dtype=torch.float64)
    for _ in range(n_layers):
        z = f(z)
    solved = solve(f, start, SolverSettings("fixed_point", n_layers + 1, 1e-15))
    jacobian = batch_jacobian(f, z)
    return {
        "layers": kind,
        "n_wires": n_wires,
        "n_layers": n_layers,
        "output_difference": (z[:, -x.shape[1] :] - untied[-1]).abs().max().item(),
        "all_blocks_difference": (z - torch.cat(untied, dim=1)).abs().max().item(),
        "residual_after_L": (f(z) - z).abs().max().item(),
        "solver_steps": int(solved.steps.max()),
        "jacobian_power_L": torch.linalg.matrix_power(jacobian, n_layers).abs().max().item(),
        "jacobian_power_L_minus_1": torch.linalg.matrix_power(jacobian, n_layers - 1).abs().max().item(),
    }
