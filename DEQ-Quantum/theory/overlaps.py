"""Fig. 4: how much encoded states overlap, against the distance of what is encoded; 3000 random pairs in R^4.

Angle encoding: the four angles of one qubit (RY, RZ, RX, RY), uniform in [-pi, pi]. Amplitude encoding: four amplitudes
of two qubits, of normal direction and a norm uniform in [0.5, 3]. The second vector lies in a random direction from the
first, at a distance uniform in [0, 1]. States are simulated gate by gate, nothing of the bounds goes into them.
"""

import math

import torch
from torch import Tensor

from circuits.encodings import AXES
from theory import bounds

DIMENSION = 4
SHORTEST, LONGEST = 0.5, 3.0  # norms of amplitude-encoded vectors
ROUND_OFF = 1e-13  # of an overlap
PAPERS_BOUND = "1 - sin(d^2), the paper's"


def angle_states(angles: Tensor) -> Tensor:
    """One qubit from |0>, turned by each angle in order about y, z, x, y, ...: (N, L) to complex (N, 2)."""
    state = torch.zeros(len(angles), 2, dtype=torch.complex128)
    state[:, 0] = 1
    for layer in range(angles.shape[1]):
        gates = _rotations(AXES[layer % len(AXES)], angles[:, layer])
        state = (gates @ state.unsqueeze(-1)).squeeze(-1)
    return state


def _rotations(gate: str, angles: Tensor) -> Tensor:
    """exp(-i t P / 2) for every angle t: (N, 2, 2)."""
    paulis = {"rx": [[0, 1], [1, 0]], "ry": [[0, -1j], [1j, 0]], "rz": [[1, 0], [0, -1]]}
    pauli = torch.tensor(paulis[gate], dtype=torch.complex128)
    half = angles.double().view(-1, 1, 1) / 2
    return half.cos() * torch.eye(2) - 1j * half.sin() * pauli


def amplitude_states(vectors: Tensor) -> Tensor:
    """Normalised vectors as states: (N, D) to (N, D)."""
    return vectors / vectors.norm(dim=-1, keepdim=True)


def fidelity(states: Tensor, others: Tensor) -> Tensor:
    """|<psi|psi'>|^2 of pairs: (N, D) each to (N,)."""
    return (states.conj() * others).sum(-1).abs().square()


def random_pairs(n_pairs: int, encoding: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pairs as the module's text says: two (n_pairs, 4) in float64."""

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)

    def directions() -> Tensor:
        return amplitude_states(torch.randn(n_pairs, DIMENSION, generator=generator, dtype=torch.float64))

    if encoding == "angle":
        first = uniform(n_pairs, DIMENSION, low=-math.pi, high=math.pi)
    else:
        first = directions() * uniform(n_pairs, 1, low=SHORTEST, high=LONGEST)
    return first, first + directions() * uniform(n_pairs, 1)


def measure(n_pairs: int, generator: torch.Generator) -> dict:
    """Overlaps of random pairs and the bounds on them.

    Returns:
        By encoding: "distance_squared", "longest" (norm of the longer vector) and "overlap", a number per pair;
        "bounds": for each lower bound its name, how many pairs lie below it, and the least overlap minus bound.
    """
    result = {}
    for encoding, encode in (("angle", angle_states), ("amplitude", amplitude_states)):
        first, second = random_pairs(n_pairs, encoding, generator)
        overlap = fidelity(encode(first), encode(second))
        distance = (first - second).norm(dim=1)
        lower = {PAPERS_BOUND: bounds.fidelity_bound_of_the_paper(distance)}
        if encoding == "angle":
            lower["cos^2 of half the summed turns"] = bounds.angle_fidelity_bound(first - second)
            lower["cos^2(d)"] = torch.cos(distance).square()
        else:
            lower["1 - d^2 / R^2, R the longer norm"] = bounds.amplitude_fidelity_bound(first, second)
        result[encoding] = {
            "n_pairs": n_pairs,
            "bounds": [
                {
                    "bound": name,
                    "pairs_below": int((overlap < bound - ROUND_OFF).sum()),
                    "least_margin": (overlap - bound).min().item(),
                }
                for name, bound in lower.items()
            ],
            "distance_squared": _short(distance.square()),
            "longest": _short(torch.maximum(first.norm(dim=1), second.norm(dim=1))),
            "overlap": _short(overlap),
        }
    return result


def _short(values: Tensor) -> list[float]:
    return [round(value, 5) for value in values.tolist()]
