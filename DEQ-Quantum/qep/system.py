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

from qep.inputs import check_tensor
from qep.states import State


@dataclass(frozen=True)
class Equilibrium:
    """Where a batch of B systems settled.

    Attributes:
        x: the inputs, (B, n_inputs).
        state: the ground states; what can be asked of them.
    """

    x: Tensor
    state: State

    @property
    def expectations(self) -> Tensor:
        """<O_k> of every observable, (B, K)."""
        return self.state.expectations

    @property
    def energy(self) -> Tensor:
        """Of the ground state, (B,)."""
        return self.state.energy

    @property
    def gap(self) -> Tensor:
        """To the next state, (B,)."""
        return self.state.gap

    def __getitem__(self, chosen: Tensor) -> "Equilibrium":
        """The equilibria of some samples, by a mask (B,) or positions (B',), without solving them again."""
        return Equilibrium(self.x[chosen], self.state[chosen])


class QuantumSystem(nn.Module, ABC):
    """A system with trainable parameters that settles in its ground state.

    Attributes:
        n_inputs: numbers of an input.
        observables: names of the K observables.
        output_index: which of them are the outputs, (n_outputs,).
        bases: measurement settings: positions of the observables that are measured together, (K_p,), by the setting's
            name.
        gap_tol: lowest gap at which a ground state counts as the only one.
    """

    n_inputs: int
    observables: list[str]
    output_index: Tensor
    bases: dict[str, Tensor]
    gap_tol: float

    @abstractmethod
    def equilibrium(self, x: Tensor, nudge: Tensor | None = None, start: Equilibrium | None = None) -> Equilibrium:
        """Solve for the ground states of H(theta, x) + sum_o nudge_o O_o, without autograd.

        Args:
            x: inputs, (B, n_inputs), float64.
            nudge: (B, n_outputs); None leaves the system free.
            start: an equilibrium nearby, to start from.

        Raises:
            ValueError: x or nudge of another shape or dtype, or with numbers that are not finite.
            GroundStateError: there is none, or it was not found. A small gap is reported, not raised.
        """

    @abstractmethod
    def local_observables(self) -> dict[str, list[str]]:
        """The observable that each parameter is trained from: by parameter name, one per row of the parameter."""

    @abstractmethod
    def local_gradient(self, derivatives: Tensor, x: Tensor) -> dict[str, Tensor]:
        """The gradient of the mean cost: each parameter from its own observable's response to the nudge.

        Args:
            derivatives: d<O_k>/dbeta, (B, K).
            x: inputs, (B, n_inputs).

        Returns:
            mean over the batch of d/dbeta <dH/dtheta>, by parameter name, in the parameter's shape.
        """

    @abstractmethod
    def response(self, free: Equilibrium, nudge: Tensor) -> Tensor:
        """d<O_k>/dbeta at beta = 0 for the nudge beta * sum_o nudge_o O_o (B, n_outputs), exactly: (B, K)."""

    @abstractmethod
    def differentiable_expectations(self, x: Tensor) -> Tensor:
        """<O_k> of the free ground state, (B, K), with autograd through its diagonalisation: an oracle for tests."""

    @abstractmethod
    def continued_expectations(self, free: Equilibrium, nudge: Tensor) -> Tensor:
        """<O_k> at a complex nudge (B, n_outputs), by analytic continuation from the free equilibrium: (B, K)."""

    def check_inputs(self, x: Tensor) -> None:
        """Refuse inputs that are not float64 (B, n_inputs), B at least 1, and finite.

        Raises:
            ValueError: one line that names both shapes, or the samples that are not finite.
        """
        device = next(self.parameters()).device
        check_tensor("x", x, ("B", self.n_inputs), f"{self.n_inputs} inputs", torch.float64, device)
        if not len(x):
            raise ValueError(f"x must have at least one sample, got shape {tuple(x.shape)}")

    def check_nudge(self, nudge: Tensor, x: Tensor, dtype: torch.dtype = torch.float64) -> None:
        """Refuse a nudge that is not (B, n_outputs), as many samples as x has, and finite.

        Raises:
            ValueError: as above.
        """
        n_outputs = len(self.output_index)
        of = f"x {tuple(x.shape)} and {n_outputs} outputs"
        check_tensor("nudge", nudge, (len(x), n_outputs), of, dtype, x.device)

    def check_derivatives(self, derivatives: Tensor, x: Tensor) -> None:
        """Refuse derivatives that are not (B, K) for inputs x (B, n_inputs).

        Raises:
            ValueError: as above.
        """
        self.check_inputs(x)
        shape = (len(x), len(self.observables))
        of = f"x {tuple(x.shape)} and {shape[1]} observables"
        check_tensor("derivatives", derivatives, shape, of, torch.float64, x.device)

    def constrain(self) -> None:
        """Bring the parameters back to where a ground state exists, after an update. Nothing to do by default."""

    def outputs(self, expectations: Tensor) -> Tensor:
        """The outputs' part of expectation values: (B, K) -> (B, n_outputs)."""
        return expectations[:, self.output_index]
