"""How far f can move when z moves: inequalities that hold for every circuit, derived here.

States. With U the circuit and rho, rho' the encoded states of z and z', |r_k - r'_k| = |tr(U^+ Z_k U (rho - rho'))|
is at most the trace norm of rho - rho', which for pure states is 2 sqrt(1 - F), F = |<psi|psi'>|^2 (Z has the
eigenvalues +-1).

Amplitude encoding, v = z + x. sqrt(1 - F) is the sine of the angle between v and v', so at most
||z - z'|| / max(||v||, ||v'||): the longer vector's end lies no farther from the other's line than from its end.

Angle encoding, n layers of one rotation a wire. A rotation by d moves a state by at most |d| / 2 in the Fubini-Study
angle arccos sqrt(F), and wires are independent, so arccos sqrt(F) is at most
s = 1/2 sqrt(sum over wires (sum over layers |z - z'|)^2) <= 1/2 sqrt(n) ||z - z'||. Hence sqrt(1 - F) <= sin s for
s <= pi/2. One wire with four rotations: F >= cos^2(||z - z'||) >= 1 - sin(||z - z'||^2) up to distance 1, which is the
bound of Fig. 4 of arXiv 2410.23940.

Norms. f repeats n readouts n times, so ||f - f'||_max = max_k |r_k - r'_k| and ||f - f'||_2 <= n max_k |r_k - r'_k|.

Slopes. The gradient of r_k in v at amplitude encoding is 2 (M_k - r_k) v / ||v||^2, and ||(M_k - r_k) v||^2 <=
(1 - r_k^2) ||v||^2 since M_k is a compression of an observable of norm 1. At angle encoding the derivative of an
expectation of Z along a path of Fubini-Study speed 1 is at most 2 sqrt(1 - r_k^2), and the speed at most sqrt(n) / 2.
"""

import math

import torch
from torch import Tensor

ENCODINGS = ("amplitude", "angle")  # of n^2 inputs, that there are bounds for


def fidelity_bound_of_the_paper(distance: Tensor) -> Tensor:
    """1 - sin(d^2), Fig. 4's lower bound on a qubit's overlap at distance d <= 1 in four angles."""
    return 1 - torch.sin(distance.square())


def angle_fidelity_bound(difference: Tensor) -> Tensor:
    """cos^2(sum |d_l| / 2) of one qubit under rotations by (..., n_layers) angles that differ so, 0 from pi on."""
    return torch.cos((difference.abs().sum(-1) / 2).clamp_max(math.pi / 2)).square()


def amplitude_fidelity_bound(v: Tensor, other: Tensor) -> Tensor:
    """1 - ||v - v'||^2 / max(||v||, ||v'||)^2 for vectors (..., D), 0 where that is negative."""
    longest = torch.maximum(v.norm(dim=-1), other.norm(dim=-1))
    return (1 - ((v - other).norm(dim=-1) / longest).square()).clamp_min(0)


def readout_difference_bound(encoding: str, v: Tensor, other: Tensor) -> Tensor:
    """Most that any readout can differ between inputs v and v': (B, n^2) each to (B,).

    Args:
        encoding: "amplitude" or "angle".
        v, other: z + x and z' + x.
    """
    _check(encoding)
    if encoding == "amplitude":
        return 2 * ((v - other).norm(dim=-1) / torch.maximum(v.norm(dim=-1), other.norm(dim=-1))).clamp_max(1)
    n = math.isqrt(v.shape[-1])
    per_wire = (v - other).abs().unflatten(-1, (n, n)).sum(-2)  # entries are layer by layer
    return 2 * torch.sin((per_wire.norm(dim=-1) / 2).clamp_max(math.pi / 2))


def slope_bounds(encoding: str, v: Tensor, readouts: Tensor) -> Tensor:
    """Largest norm that the gradient of each readout in v can have: (B, n).

    Args:
        encoding: "amplitude" or "angle".
        v: (B, n^2) inputs.
        readouts: (B, n) the readouts there.
    """
    _check(encoding)
    spread = (1 - readouts.square()).clamp_min(0).sqrt()
    if encoding == "amplitude":
        return 2 * spread / v.norm(dim=-1, keepdim=True)
    return math.sqrt(readouts.shape[-1]) * spread


def _check(encoding: str) -> None:
    if encoding not in ENCODINGS:
        raise ValueError(f"there are bounds for the encodings {' and '.join(ENCODINGS)}, none for {encoding}")
