"""The two lowest states of a batch of Hamiltonians: the ground state, and the gap above it.

Dense: the whole spectrum by `eigh`, to ten spins or so. Krylov: block Lanczos with full orthogonalisation, restarted
from its two lowest Ritz vectors, which needs H only through products and can be started from a nearby ground state.
Both states are sought at once because the second one says whether the first is the only one: where the gap is below
a tolerance the response to a nudge is not defined (`degeneracy.py`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from qep.operators import PauliSum

METHODS = ("auto", "dense", "krylov")
DENSE_LIMIT, AUTO_DENSE = 12, 6  # spins: beyond the first eigh has no memory, beyond the second Krylov is faster
DEPTH = 10  # blocks of two vectors between restarts
MAX_RESTARTS = 200
EXCITED_TOLERANCE = 1e-4  # the excited state's residual; its energy, which is all that is used, errs by the square
PERTURBATION = 1e-3  # of a warm start: opens symmetry sectors that the old states do not have
ROUND_OFF = 1e-13  # of a unit vector: what is left of it below this is no direction
START_SEED = 0


class GroundStateError(RuntimeError):
    """A ground state that cannot be found; the message is one line for the user."""


class DegenerateGroundStateError(GroundStateError):
    """A ground state that is not the only one, to the tolerance that was asked for."""


@dataclass(frozen=True)
class Diagonalisation:
    """How ground states are found.

    Attributes:
        method: dense, krylov, or auto: dense up to 6 spins.
        tol: residual ||H psi - E psi|| of the Krylov ground state, relative to the largest |<u|H|v>| it met.
        gap_tol: lowest gap, in the Hamiltonian's units, at which a ground state counts as the only one.
    """

    method: str = "auto"
    tol: float = 1e-8
    gap_tol: float = 1e-3

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(f"the method is {self.method!r}; choose one of {', '.join(METHODS)}")
        if not (self.tol > 0 and self.gap_tol > 0):
            raise ValueError(f"tol and gap_tol must be positive, got {self.tol} and {self.gap_tol}")

    def solve(self, hamiltonian: PauliSum, start: Tensor | None = None) -> "GroundStates":
        """The two lowest states of each sample's Hamiltonian.

        Args:
            hamiltonian: of B samples on D-dimensional states.
            start: (B, 2, D) states nearby, such as those of a free system before it is nudged; dense ignores them.

        Raises:
            GroundStateError: too many spins for dense; Krylov did not converge.
        """
        dim = hamiltonian.diagonal.shape[-1]
        # a Krylov basis must be smaller than the space
        if self.method == "dense" or (self.method == "auto" and dim <= 2**AUTO_DENSE) or dim <= 4 * DEPTH:
            return dense_ground_states(hamiltonian)
        return krylov_ground_states(hamiltonian, self.tol, start)


@dataclass(frozen=True)
class GroundStates:
    """The lowest states of B Hamiltonians.

    Attributes:
        energy: of the ground state, (B,).
        gap: to the next state, (B,); 0 where there are two ground states.
        vectors: ground and first excited state, (B, 2, D), orthonormal.
        spectrum: all energies (B, D) and states (B, D, D), one a column; None where only two were sought.
    """

    energy: Tensor
    gap: Tensor
    vectors: Tensor
    spectrum: tuple[Tensor, Tensor] | None = None

    @property
    def psi(self) -> Tensor:
        """The ground states, (B, D)."""
        return self.vectors[:, 0]

    def __getitem__(self, chosen: Tensor) -> "GroundStates":
        """Those of some samples, by a mask (B,) or positions (B',)."""
        spectrum = None if self.spectrum is None else (self.spectrum[0][chosen], self.spectrum[1][chosen])
        return GroundStates(self.energy[chosen], self.gap[chosen], self.vectors[chosen], spectrum)


def dense_ground_states(hamiltonian: PauliSum) -> GroundStates:
    """The whole spectrum by `torch.linalg.eigh`.

    Raises:
        GroundStateError: more than 12 spins.
    """
    if hamiltonian.diagonal.shape[-1] > 2**DENSE_LIMIT:
        raise GroundStateError(f"dense diagonalisation ends at {DENSE_LIMIT} spins; use --solver krylov")
    energies, states = torch.linalg.eigh(hamiltonian.dense())
    return GroundStates(
        energy=energies[:, 0],
        gap=energies[:, 1] - energies[:, 0],
        vectors=states[:, :, :2].mT,
        spectrum=(energies, states),
    )


def krylov_ground_states(hamiltonian: PauliSum, tol: float, start: Tensor | None = None) -> GroundStates:
    """Block Lanczos for the two lowest states, restarted until every sample has converged.

    Args:
        hamiltonian: of B samples on D-dimensional states, D > 40.
        tol: residual of the ground state, relative to the largest |<u|H|v>| of the basis.
        start: (B, 2, D) states nearby; None starts at random vectors that are the same at every call.

    Raises:
        GroundStateError: not converged after 200 restarts.

    Source: Golub and Underwood, The Block Lanczos Method for Computing Eigenvalues, 1977, with Rayleigh-Ritz
    restarts and orthogonalisation against the whole basis.
    """
    n_samples, dim = hamiltonian.diagonal.shape
    noise = torch.randn(2, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(START_SEED))
    noise = (noise / dim**0.5).to(hamiltonian.diagonal.device, hamiltonian.dtype).expand(n_samples, 2, dim)
    block = _orthonormal(noise if start is None else start + PERTURBATION * noise)
    basis = noise.new_empty(n_samples, 2 * DEPTH, dim)
    images = torch.empty_like(basis)
    for _ in range(MAX_RESTARTS):
        for first in range(0, 2 * DEPTH, 2):
            if first:
                # the residual direction of the newest block, cleared of everything before it
                block = _orthonormal(images[:, first - 2 : first], basis[:, :first])
            basis[:, first : first + 2] = block
            images[:, first : first + 2] = hamiltonian.apply(block)
        projected = basis.conj() @ images.mT
        scale = projected.abs().amax((-2, -1))
        # directions that an invariant subspace did not have are put above all others
        missing = (basis.norm(dim=-1) < 0.5) * 2 * dim * (1 + scale).unsqueeze(-1)
        ritz, rotation = torch.linalg.eigh((projected + projected.mH) / 2 + torch.diag_embed(missing))
        rotation = rotation[:, :, :2].mT
        block = rotation @ basis
        residual = (rotation @ images - ritz[:, :2, None] * block).norm(dim=-1)
        allowed = scale.unsqueeze(-1) * residual.new_tensor([tol, max(tol, EXCITED_TOLERANCE)])
        if (residual <= allowed).all():
            return GroundStates(energy=ritz[:, 0], gap=ritz[:, 1] - ritz[:, 0], vectors=block)
    raise GroundStateError(
        f"the Krylov solver did not reach a residual of {tol:g}: the worst sample is at "
        f"{(residual[:, 0] / scale).max().item():.1e}; raise --tol, or use --solver dense"
    )


def _orthonormal(pair: Tensor, basis: Tensor | None = None) -> Tensor:
    """Two vectors made orthonormal to each other and to a basis: (B, 2, D), (B, k, D) -> (B, 2, D).

    A vector that has no direction of its own becomes zero.
    """
    pair = _normalised(pair, torch.finfo(torch.float64).tiny)
    # twice: the first pass leaves the round-off of what it took away
    for _ in range(2):
        if basis is not None:
            pair = _normalised(pair - (pair @ basis.mH) @ basis, ROUND_OFF)
        first, second = pair[:, :1], pair[:, 1:]
        pair = torch.cat([first, _normalised(second - (second @ first.mH) * first, ROUND_OFF)], 1)
    return pair


def _normalised(vectors: Tensor, smallest: float) -> Tensor:
    norm = vectors.norm(dim=-1, keepdim=True)
    return torch.where(norm > smallest, vectors / norm.clamp_min(smallest), 0.0)
