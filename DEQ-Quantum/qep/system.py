"""What a physical system shows to the learning rule, whatever it is made of.

Section 2 of Scellier (arXiv 2406.00879): a system with Hamiltonian H(theta, x) settles in its ground state, and a
parameter is trained from its own observable dH/dtheta_k alone. So a system is: trainable parameters; a list of
observables, with which parameter each belongs to; and the ground state, free or nudged, with their expectation
values. Costs and nudges are made of some of the observables, the outputs.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Equilibrium:
    """The ground states of a batch of B systems.

    Attributes:
        expectations: <O_k> of every observable, (B, K).
        energy, gap: of the ground state, and to the next one, (B,).
        state: what the system itself needs of it (wave functions, or a mean and a covariance).
    """

    expectations: Tensor
    energy: Tensor
    gap: Tensor
    state: object


class QuantumSystem(nn.Module, ABC):
    """A system with trainable parameters that settles in its ground state.

    Attributes:
        observables: names of the K observables.
        output_index: which of them are the outputs, (n_outputs,).
        bases: observables that one preparation can measure together, by the preparation's name: positions (K_p,).
        gap_tol: lowest gap at which a ground state counts as the only one.
    """

    observables: list[str]
    output_index: Tensor
    bases: dict[str, Tensor]
    gap_tol: float

    @abstractmethod
    def equilibrium(self, x: Tensor, nudge: Tensor | None = None, start: Equilibrium | None = None) -> Equilibrium:
        """The ground states of H(theta, x) + sum_o nudge_o O_o, without autograd.

        Args:
            x: inputs, (B, n_inputs), float64.
            nudge: (B, n_outputs); None leaves the system free.
            start: an equilibrium nearby, to start from.

        Raises:
            GroundStateError: there is none, or it was not found. A small gap is reported, not raised.
        """

    @abstractmethod
    def sample(self, equilibrium: Equilibrium, basis: str, shots: int, generator: torch.Generator) -> tuple:
        """Measure the observables of one preparation, each sample `shots` times.

        Returns:
            Means over the shots and unbiased variances of a single shot, (B, K_p) each, in the order of
            `bases[basis]`.
        """

    @abstractmethod
    def local_observables(self) -> dict[str, list[str]]:
        """The observable that each parameter is trained from: by parameter name, one per row of the parameter."""

    @abstractmethod
    def local_gradient(self, derivatives: Tensor, x: Tensor) -> dict[str, Tensor]:
        """The gradient of the mean cost: each parameter from its own observable's answer to the nudge.

        Args:
            derivatives: d<O_k>/dbeta, (B, K).
            x: inputs, (B, n_inputs).

        Returns:
            mean over the batch of d/dbeta <dH/dtheta>, by parameter name, in the parameter's shape.
        """

    @abstractmethod
    def response(self, x: Tensor, free: Equilibrium, nudge: Tensor) -> Tensor:
        """d<O_k>/dbeta at beta = 0 for the nudge beta * sum_o nudge_o O_o, exactly: (B, K)."""

    @abstractmethod
    def differentiable_expectations(self, x: Tensor) -> Tensor:
        """<O_k> of the free ground state, (B, K), with autograd through its diagonalisation: an oracle for tests."""

    @abstractmethod
    def continued_expectations(self, x: Tensor, free: Equilibrium, nudge: Tensor) -> Tensor:
        """<O_k> at a complex nudge (B, n_outputs), by analytic continuation from the free equilibrium: (B, K)."""

    def constrain(self) -> None:
        """Bring the parameters back to where a ground state exists, after an update. Nothing to do by default."""

    def outputs(self, expectations: Tensor) -> Tensor:
        """The outputs' part of expectation values: (B, K) -> (B, n_outputs)."""
        return expectations[:, self.output_index]
