"""Eqs. 53 to 56: Theorem 3 written out with density matrices, beside the construction in `theory/construction.py`.

`E_z` and `E_x` are tables of maps from a state to a density matrix, None where the paper writes 0; a row of either has
one map at most, so no sums of states arise. The rows of R read blocks one by one. With an injection in every layer,
which the models have and the paper's statement has not, the same table is the map F of `construction.BlockNetwork`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from circuits.circuit import build_circuit
from engines.statevector import encoded
from models.quantum_layer import QuantumLayer
from theory import construction
from theory.equations import Equation, Gaps
from theory.trials import N_WIRES, Trials, density, observables_of, unitary_of

N_LAYERS = 3
Channel = Callable[[Tensor], Tensor]


def channel(layer: QuantumLayer) -> Channel:
    """E_i o S: (B, D) inputs to density matrices after U."""
    unitary = unitary_of(layer)

    def evolved(v: Tensor) -> Tensor:
        return unitary @ density(encoded(layer.circuit, v).flatten(1)) @ unitary.mH

    return evolved


def read(layer: QuantumLayer, rho: Tensor) -> Tensor:
    """R: expectation values of the layer's observables, lifted: to (B, D)."""
    return layer.lift(torch.einsum("kij,nji->nk", observables_of(layer), rho).real)


def sequence(layers: list[QuantumLayer], x: Tensor) -> list[Tensor]:
    """Eq. 53: z^(1), ..., z^(L) from z^(0) = x."""
    states, z = [], x
    for layer in layers:
        z = read(layer, channel(layer)(z))
        states.append(z)
    return states


def tables(layers: list[QuantumLayer]) -> tuple[list[list[Channel | None]], list[Channel | None]]:
    """Eq. 55: E_z, L x L with maps below the diagonal, and E_x, a column."""
    n_layers = len(layers)
    e_z = [[channel(layers[row]) if column == row - 1 else None for column in range(n_layers)]
           for row in range(n_layers)]  # fmt: skip
    return e_z, [channel(layers[0]), *[None] * (n_layers - 1)]


def tied(layers: list[QuantumLayer], z: list[Tensor], x: Tensor, injected: bool = False) -> list[Tensor]:
    """Eq. 54, all blocks at once; injected: every layer sees z + x, as in the models."""
    e_z, e_x = tables(layers)
    blocks = []
    for row, layer in enumerate(layers):
        from_z = [f(block + x if injected else block) for f, block in zip(e_z[row], z) if f is not None]
        from_x = [e_x[row](x)] if e_x[row] is not None else []
        (rho,) = from_z + from_x
        blocks.append(read(layer, rho))
    return blocks


@torch.no_grad()
def _cases(trials: Trials):
    """Layers of each encoding, features, and any start."""
    for encoding in ("amplitude", "angle"):
        layers = [QuantumLayer(build_circuit(N_WIRES, encoding)).double() for _ in range(N_LAYERS)]
        x, start = trials.uniform[:2, : 8 * N_WIRES**2].reshape(2, 8, N_WIRES**2)
        yield layers, 3 * x - 1, [2 * start - 0.5] * N_LAYERS


def _distance(blocks: list[Tensor], others: list[Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(blocks, others, strict=True))


@torch.no_grad()
def equation_53(trials: Trials) -> Gaps:
    """Density matrices against the engine's layers."""
    gaps = []
    for layers, x, _ in _cases(trials):
        z, states = x, []
        for layer in layers:
            z = layer(z, torch.zeros_like(z))
            states.append(z)
        gaps.append(_distance(sequence(layers, x), states))
    return Gaps(max(gaps))


@torch.no_grad()
def equation_54(trials: Trials) -> Gaps:
    """One map, the same at every step; with the injection it is the construction's F."""
    gaps = []
    for layers, x, start in _cases(trials):
        block_network = construction.BlockNetwork(layers, x)(torch.cat(start, dim=1))
        gaps.append(_distance(tied(layers, start, x, injected=True), list(block_network.chunk(N_LAYERS, dim=1))))
    return Gaps(max(gaps))


@torch.no_grad()
def equation_55(trials: Trials) -> Gaps:
    """As printed R_L is a column, which takes one operand: L - 1 too few. As a diagonal it gives Eq. 53's layers."""
    gaps = []
    for layers, x, _ in _cases(trials):
        e_z, e_x = tables(layers)
        states = sequence(layers, x)
        one_each = [sum(f is not None for f in (*row, first)) for row, first in zip(e_z, e_x)]
        gaps += [_distance(tied(layers, states, x), states), float(max(abs(count - 1) for count in one_each))]
    return Gaps(len(e_z) - 1.0, max(gaps), max(gaps))


@torch.no_grad()
def equation_56(trials: Trials) -> Gaps:
    """L applications from any start; as printed the first block is x and there is one more."""
    printed, corrected = [], []
    for layers, x, blocks in _cases(trials):
        for _ in layers:
            blocks = tied(layers, blocks, x)
        corrected += [_distance(blocks, sequence(layers, x)), _distance(tied(layers, blocks, x), blocks)]
        printed.append((blocks[0] - x).abs().max().item())
    return Gaps(max(printed), max(corrected), max(corrected))


def _largest_readout() -> tuple[float, float]:
    """L = 1 of one qubit: E_z = 0 and E_x = S, the output is the readout of x = 2, cos 2 and not 2."""
    return torch.tensor(2.0).double().cos().item(), 2.0


EQUATIONS = (
    Equation("53", "the untied network: z_0 = x, z_l = R(U_{l-1} S(z_{l-1}) U_{l-1}^+)", equation_53,
             remark="no injection; the models' layers see z + x, and their first is the same from z = 0"),
    Equation("54", "the tied one: z <- R_L (E_z z + E_x x), the same at every step", equation_54,
             remark="E_z, E_x are tables of maps, 0 is no map; with z + x in every layer it is the F of "
                    "theory/construction.py"),
    Equation(
        "55", "R_L is a column of R; E_z has E_l o S below its diagonal, E_x has E_0 o S on top", equation_55,
        ("L = 2: a column R_L takes 1 operand, E_z z + E_x x has 2 rows", lambda: (1.0, 2.0)),
        "R_L = diag(R, ..., R); E_z is L x L",
        ("Row 1 of E_z z + E_x x is E_0 S x, row l is E_{l-1} S z_{l-1}: one state each, which R reads.",),
    ),
    Equation(
        "56", "after L steps: (x, z_1, ..., z_L)", equation_56,
        ("L = 1, one qubit, RY(x), Z read, x = 2: the only block is cos 2, not x", _largest_readout),
        "(z_1, ..., z_L), from any start that can be encoded; it is then an equilibrium",
        ("Block 1 is R(E_0 S x) = z_1 after one step, whatever the start; x is no readout, they lie in [-1, 1].",
         "If blocks 1 to l are right, one more step makes block l + 1 R(E_l S z_l) = z_{l+1} and keeps them.",
         "After L steps all are right, and one more changes nothing."),
        "committed in construction.json: to 1e-14 against gates, J^L = 0",
    ),
)  # fmt: skip
