"""The response of a ground state to a weak nudge, exactly to first order.

With H^beta = H + beta C the ground state moves by beta times

    dpsi = - sum_{n>0} |n> <n|C|0> / (E_n - E_0),    that is  (H - E_0) dpsi = -(C - <C>) psi  with  <psi|dpsi> = 0.

The sum needs the whole spectrum; conjugate gradients solve the equation without it, because H - E_0 is positive
definite on the complement of psi.
"""

import torch
from torch import Tensor

from qep.ground_states import GroundStateError, GroundStates
from qep.operators import PauliSum

CG_TOLERANCE = 1e-9
CG_STEPS = 2000


def first_order_response(hamiltonian: PauliSum, ground: GroundStates, nudged_psi: Tensor) -> Tensor:
    """The first-order change of a ground state per unit of beta.

    Args:
        hamiltonian: of B samples, not nudged.
        ground: its lowest states; with their spectrum the sum is taken, else the equation is solved.
        nudged_psi: C psi, (B, D).

    Returns:
        dpsi, (B, D), orthogonal to psi.

    Raises:
        GroundStateError: the equation could not be solved to 1e-9.
    """
    if ground.spectrum is None:
        return _conjugate_gradient(hamiltonian, ground, nudged_psi)
    energies, states = ground.spectrum
    amplitudes = (states[:, :, 1:].mH @ nudged_psi.to(states.dtype).unsqueeze(-1)).squeeze(-1)
    amplitudes = amplitudes / (energies[:, 1:] - energies[:, :1])
    return -(states[:, :, 1:] @ amplitudes.unsqueeze(-1)).squeeze(-1)


def _conjugate_gradient(hamiltonian: PauliSum, ground: GroundStates, nudged_psi: Tensor) -> Tensor:
    psi = ground.psi

    def outside(vector: Tensor) -> Tensor:
        return vector - (psi.conj() * vector).sum(-1, keepdim=True) * psi

    def apply(vector: Tensor) -> Tensor:
        product = hamiltonian.apply(vector.unsqueeze(1)).squeeze(1)
        return outside(product - ground.energy.unsqueeze(-1) * vector)

    residual = -outside(nudged_psi.to(psi.dtype))
    target = CG_TOLERANCE * residual.norm(dim=-1)
    solution, direction = torch.zeros_like(residual), residual
    square = _square(residual)
    for _ in range(CG_STEPS):
        if (square.sqrt() <= target).all():
            return solution
        image = apply(direction)
        # a converged sample has nothing left to divide by
        step = _ratio(square, (direction.conj() * image).sum(-1).real).unsqueeze(-1)
        solution = solution + step * direction
        residual = residual - step * image
        square, previous = _square(residual), square
        direction = outside(residual + _ratio(square, previous).unsqueeze(-1) * direction)
    raise GroundStateError(
        f"the first-order response did not converge in {CG_STEPS} steps; a gap of {ground.gap.min().item():.1e} "
        "is too small for --solver krylov, use --solver dense"
    )


def _square(vector: Tensor) -> Tensor:
    return vector.abs().square().sum(-1)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b > 0, a / b.clamp_min(torch.finfo(b.dtype).tiny), 0.0)
