"""Theorem 3: L different layers are one weight-tied block network.

Stack the states of the L layers, z = (z_1, ..., z_L), and let one layer map them all at once:

    F(z; x) = (f_1(0; x), f_2(z_1; x), ..., f_L(z_{L-1}; x)).

F is weight-tied: applied again and again, it is the same F. From z = 0 its l-th block is right after l applications
and stays so, so after L of them z_L = f_L(... f_2(f_1(0; x); x) ...; x), the untied network's output, and
z = F(z; x): the untied network is an equilibrium of a single layer. Its Jacobian has blocks below the diagonal only, so
its L-th power is zero. Each f_l acts on registers of its own, so F is one circuit of L n_wires qubits with the unitary
U_1 x ... x U_L, whose readouts are wired to the encoding of the next register.

F of quantum layers is built from the engine's layers (`BlockNetwork`), so comparing it with those same layers would
only compare them with themselves. The untied network is therefore simulated gate by gate (`engines/statevector.py`), and
F once more, as that one circuit, where its state vector is small. F of tanh layers is a single layer with a block
matrix, and the untied network their formula.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from circuits.circuit import build_circuit
from deq import SolverSettings, batch_jacobian, solve
from engines.statevector import applied, encoded, expectation
from models.classical_layers import TanhLayer
from models.quantum_layer import QuantumLayer

MOST_QUBITS = 12  # of a state vector for every sample


class BlockNetwork:
    """F(z; x) for one batch.

    Args:
        layers: f_1 to f_L, each of the same width D.
        x: (B, D) features.
    """

    def __init__(self, layers: list[nn.Module], x: Tensor):
        self.bound = [layer.compile().bind(x) for layer in layers]
        self.width = layers[0].width

    def __call__(self, z: Tensor) -> Tensor:
        """(B, L D) to itself."""
        blocks = z.split(self.width, dim=1)
        before = (torch.zeros_like(blocks[0]), *blocks[:-1])
        return torch.cat([f(block) for f, block in zip(self.bound, before)], dim=1)


def untied(layers: list[nn.Module], x: Tensor) -> Tensor:
    """(z_1, ..., z_L) of the untied network from z_0 = 0, without its layers' own code: (B, D) to (B, L D)."""
    z, outputs = torch.zeros_like(x), []
    for layer in layers:
        if isinstance(layer, TanhLayer):
            z = torch.tanh(z @ layer.w.T + x @ layer.u.T)
        else:
            z = _simulated([layer], (z + x).unsqueeze(1))
        outputs.append(z)
    return torch.cat(outputs, dim=1)


def one_circuit(layers: list[QuantumLayer], x: Tensor, z: Tensor) -> Tensor:
    """F(z; x) by a single circuit of L n_wires qubits: (B, D) and (B, L D) to (B, L D)."""
    blocks = z.view(len(x), len(layers), -1)
    before = torch.cat([torch.zeros_like(blocks[:, :1]), blocks[:, :-1]], dim=1)
    return _simulated(layers, before + x.unsqueeze(1))


def _simulated(layers: list[QuantumLayer], inputs: Tensor) -> Tensor:
    """Registers side by side on one state vector, gate by gate: the readouts of all, each repeated as in f.

    Args:
        layers: one for each register, of as many wires and readouts.
        inputs: (B, L, D) what each register encodes, no zero vectors.
    """
    n, n_qubits = layers[0].circuit.n_wires, len(layers) * layers[0].circuit.n_wires
    state = torch.ones(len(inputs), 1, dtype=torch.complex128)
    for layer, v in zip(layers, inputs.unbind(1)):
        state = (state.unsqueeze(2) * encoded(layer.circuit, v).flatten(1).unsqueeze(1)).flatten(1)
    state = state.view(len(inputs), *(2,) * n_qubits)
    for number, layer in enumerate(layers):
        state = applied(layer.circuit.ansatz.operations, layer.full_theta(), state, first_wire=number * n)
    readouts = [
        expectation("I" * (number * n) + string + "I" * (n_qubits - (number + 1) * n), state)
        for number, layer in enumerate(layers)
        for string in layer.circuit.readout.strings
    ]
    return torch.stack([readout for readout in readouts for _ in range(n)], dim=1)


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

    F is applied L times from z = 0; the untied network, and F as one circuit (None beyond MOST_QUBITS and for tanh),
    are computed independently of it.

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
    f = tanh_blocks(layers).bind(x) if kind == "tanh" else BlockNetwork(layers, x)
    start = torch.zeros(n_samples, n_layers * x.shape[1], dtype=torch.float64)
    z = _applied(f, start, n_layers)
    difference = (z - untied(layers, x)).abs()
    circuit_difference = None
    if kind != "tanh" and n_layers * n_wires <= MOST_QUBITS:
        by_one_circuit = _applied(lambda z: one_circuit(layers, x, z), start, n_layers)
        circuit_difference = (z - by_one_circuit).abs().max().item()
    solved = solve(f, start, SolverSettings("fixed_point", n_layers + 1, 1e-15))
    jacobian = batch_jacobian(f, z)
    return {
        "layers": kind,
        "n_wires": n_wires,
        "n_layers": n_layers,
        "output_difference": difference[:, -x.shape[1] :].max().item(),
        "all_blocks_difference": difference.max().item(),
        "one_circuit_difference": circuit_difference,
        "residual_after_L": (f(z) - z).abs().max().item(),
        "solver_steps": int(solved.steps.max()),
        "jacobian_power_L": torch.linalg.matrix_power(jacobian, n_layers).abs().max().item(),
        "jacobian_power_L_minus_1": torch.linalg.matrix_power(jacobian, n_layers - 1).abs().max().item(),
    }


def _applied(f: Callable[[Tensor], Tensor], z: Tensor, times: int) -> Tensor:
    for _ in range(times):
        z = f(z)
    return z
