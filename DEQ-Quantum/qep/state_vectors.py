"""The ground states of spins as dense vectors of 2^n amplitudes: exact expectation values, and shots drawn from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from circuits.paulis import mask
from qep.ground_states import GroundStates
from qep.operators import PauliStrings, parity
from qep.states import State

# columns: the eigenvectors of X and Y to the eigenvalues 1 and -1
EIGENVECTORS = {"X": ((1, 1), (1, -1)), "Y": ((1, 1), (1j, -1j))}
CHUNK = 2**22  # shots drawn at once


@dataclass(frozen=True)
class StateVectors(State):
    """Ground states as vectors.

    Attributes:
        observables: the K strings that can be asked for.
        ground: the lowest states of B samples.
        gap_tol: see `State`.
    """

    observables: PauliStrings
    ground: GroundStates
    gap_tol: float

    @property
    def energy(self) -> Tensor:
        return self.ground.energy

    @property
    def gap(self) -> Tensor:
        return self.ground.gap

    @property
    def bases(self) -> Mapping[str, Tensor]:
        return self.observables.bases

    @property
    def psi(self) -> Tensor:
        """The ground states, (B, D)."""
        return self.ground.psi

    @cached_property
    def expectations(self) -> Tensor:
        return self.observables.expectations(self.psi)

    def sample(self, basis: str, shots: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        strings = [self.observables.strings[k] for k in self.bases[basis].tolist()]
        return sample_strings(self.psi, basis, strings, shots, generator)

    def __getitem__(self, chosen: Tensor) -> "StateVectors":
        return replace(self, ground=self.ground[chosen])


def sample_strings(
    psi: Tensor, basis: str, strings: Sequence[str], shots: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Measure every spin along its letter of the basis, `shots` times, and average the products of signs.

    Args:
        psi: states, (B, D).
        basis: a letter X, Y or Z per spin.
        strings: that the basis measures.
        shots: per sample, from 2.
        generator: of the shots.

    Returns:
        Mean of each string and unbiased variance of one shot, (B, len(strings)) each.
    """
    for spin, letter in enumerate(basis):
        if letter != "Z":
            rotation = torch.tensor(EIGENVECTORS[letter], device=psi.device).mH / 2**0.5
            dtype = torch.promote_types(psi.dtype, rotation.dtype)
            parts = psi.to(dtype).view(len(psi), 2**spin, 2, -1)
            psi = (rotation.to(dtype) @ parts).view(len(psi), -1)
    counts = _counts(psi.abs().square(), shots, generator)
    states = torch.arange(psi.shape[1], device=psi.device)
    signs = torch.stack([1.0 - 2.0 * parity(states & mask(string, "XYZ")).double() for string in strings], 1)
    mean = counts.double() @ signs / shots
    return mean, (1 - mean.square()) * shots / (shots - 1)


def _counts(probabilities: Tensor, shots: int, generator: torch.Generator) -> Tensor:
    """How often each basis state came up: (B, D) -> (B, D)."""
    counts = torch.zeros(probabilities.shape, dtype=torch.int64, device=probabilities.device)
    at_once = max(1, CHUNK // len(probabilities))
    for start in range(0, shots, at_once):
        n = min(at_once, shots - start)
        drawn = torch.multinomial(probabilities, n, replacement=True, generator=generator)
        counts.scatter_add_(1, drawn, torch.ones_like(drawn))
    return counts
