"""Slopes of readouts in every parameter, for each sample apart, by running the circuit backwards.

Behind gate p, exp(-i theta_p G_p / 2), let |s_p> be the state and |l_p> = U^+ O |s> what the observable O makes of
the final state |s>, taken back through all later gates. Then

    d<O> / d theta_p = Im <l_p| G_p |s_p>

(adjoint differentiation; Jones and Gacon, arXiv 2009.02823). States are undone gate by gate and not kept, so a circuit
of any length takes the memory of a few states a sample. Autograd has sums over the samples only, or one pass for each.
"""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from circuits.circuit import Circuit
from circuits.operations import Operation
from circuits.readout import Readout
from engines.statevector import FIXED, GENERATORS, encoded

CHUNK = 2**20  # amplitudes at a time
# what brings a letter's eigenvectors to |0> and |1>: H, and H S^+ = H diag(1, -i)
TURNS = {"X": FIXED["h"], "Y": FIXED["h"] @ torch.diag(torch.tensor([1, -1j], dtype=torch.complex128))}

Matrix = list[list[complex]]


@torch.no_grad()
def parameter_slopes(circuit: Circuit, theta: Tensor, v: Tensor, weights: Tensor) -> Tensor:
    """d (sum_k w_k r_k(v_b)) / d theta_p of sums of the readouts, of every sample b.

    Args:
        circuit: any.
        theta: (P,) parameters, in radians.
        v: (B, n_inputs), of an amplitude encoding no zero vectors.
        weights: (M, K), w of M sums.

    Returns:
        (M, B, P) in theta's dtype, in which states are computed.
    """
    at_once = max(1, CHUNK // (2**circuit.n_wires * (1 + len(weights))))
    return torch.cat([_of_some(circuit, theta, part, weights) for part in v.split(at_once)], 1)


def _of_some(circuit: Circuit, theta: Tensor, v: Tensor, weights: Tensor) -> Tensor:
    operations = circuit.ansatz.operations
    gates = [_matrix(operation, theta) for operation in operations]
    state = encoded(circuit, v.double()).movedim(0, -1).to(theta.dtype.to_complex()).contiguous()
    for operation, gate in zip(operations, gates):
        _multiply(gate, _parts(state, operation.wires))
    # beside the state the sums' observables times the state: (2, ..., 2, 1 + M, B)
    both = torch.cat([state.unsqueeze(-2), _observed(circuit.readout, state, weights)], -2)
    slopes = theta.new_zeros(len(weights), len(v), len(theta))
    for operation, gate in zip(reversed(operations), reversed(gates)):
        parts = _parts(both, operation.wires)
        if operation.parameter is not None:
            generator = GENERATORS[operation.gate].tolist()
            slopes[..., operation.parameter] += sum(
                (entry * (left[..., 1:, :].conj() * right[..., :1, :]).reshape(-1, *slopes.shape[:2]).sum(0)).imag
                for row, left in zip(generator, parts)
                for entry, right in zip(row, parts)
                if entry
            )
        _multiply(_dagger(gate), parts)
    return slopes


def _observed(readout: Readout, state: Tensor, weights: Tensor) -> Tensor:
    """(sum_k w_k P_k) |s>: (2, ..., 2, B) and (M, K) to (2, ..., 2, M, B)."""
    n, total = readout.n_wires, 0
    for basis, members in readout.settings().items():
        turned = state.clone()
        turns = [(TURNS[letter].tolist(), wire) for wire, letter in enumerate(basis) if letter != "Z"]
        for turn, wire in turns:
            _multiply(turn, _parts(turned, (wire,)))
        of_outcomes = weights[:, members].double() @ torch.as_tensor(readout.weights(basis), dtype=torch.float64)
        of_outcomes = of_outcomes.T.to(weights.dtype).view(*(2,) * n, len(weights), 1)
        weighted = of_outcomes * turned.unsqueeze(-2)
        for turn, wire in turns:
            _multiply(_dagger(turn), _parts(weighted, (wire,)))
        total = total + weighted
    return total


def _matrix(operation: Operation, theta: Tensor) -> Matrix:
    if operation.parameter is None:
        return FIXED[operation.gate].tolist()
    return torch.linalg.matrix_exp(-0.5j * theta[operation.parameter].double() * GENERATORS[operation.gate]).tolist()


def _dagger(matrix: Matrix) -> Matrix:
    return [[entry.conjugate() for entry in column] for column in zip(*matrix)]


def _parts(state: Tensor, wires: Sequence[int]) -> list[Tensor]:
    """Views of a state (2, ..., 2, ...), one for all that some wires' bits may be, the first the most significant."""
    parts = []
    for bits in product((0, 1), repeat=len(wires)):
        at = dict(zip(wires, bits))
        parts.append(state[tuple(at.get(wire, slice(None)) for wire in range(1 + max(wires)))])
    return parts


def _multiply(matrix: Matrix, parts: list[Tensor]) -> None:
    """A matrix on the parts of a state, in place; rows of the identity cost nothing."""
    changed = {}
    for k, row in enumerate(matrix):
        (first, entry), *others = [(j, entry) for j, entry in enumerate(row) if entry]
        if others or (first, entry) != (k, 1):
            changed[k] = parts[first] * entry
            for j, other in others:
                changed[k].add_(parts[j], alpha=other)
    for k, part in changed.items():
        parts[k].copy_(part)
