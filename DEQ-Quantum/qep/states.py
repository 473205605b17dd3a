"""What a solved system can answer, whatever holds its state: a dense vector, a Gaussian, or something else.

Estimators and measurements ask a `State` and know nothing of what it is made of. `state_vectors.py` has the dense
vectors of spins, `gaussian.py` the Gaussians of oscillators.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor


class State(ABC):
    """The ground states of a batch of B systems with K observables; a subclass provides what is listed here.

    Attributes:
        energy, gap: of the ground state, and to the next one, (B,).
        gap_tol: smaller gaps count as degenerate.
        bases: measurement settings: positions of the observables that are measured together, (K_p,), by the setting's
            name. Every observable is in one of them.
    """

    energy: Tensor
    gap: Tensor
    gap_tol: float
    bases: Mapping[str, Tensor]

    @property
    @abstractmethod
    def expectations(self) -> Tensor:
        """<O_k> of every observable, (B, K)."""

    @abstractmethod
    def sample(self, basis: str, shots: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Measure the observables of one setting, each sample `shots` times.

        Returns:
            Means over the shots and unbiased variances of a single shot, (B, K_p) each, in the order of
            `bases[basis]`.
        """

    @abstractmethod
    def __getitem__(self, chosen: Tensor) -> "State":
        """The states of some samples.

        Args:
            chosen: a mask (B,) or positions (B',).
        """

    @property
    def usable(self) -> Tensor:
        """Which samples have a single ground state, whose response to a nudge is defined: (B,)."""
        return self.gap >= self.gap_tol
