"""Estimators of a cost's gradient, comparable one to one: two equilibria, many, or none.

Quantum equilibrium propagation (Scellier, arXiv 2406.00879): for the nudged H^beta = H + beta C,

    d<C>/dtheta = d/dbeta <dH/dtheta> in the ground state of H^beta, at beta = 0,

because the ground state makes <H^beta> stationary, so that its mixed second derivatives are the responses of either
to the other. The estimators of this file differ in how they take the derivative over beta; those of `oracles.py`
compute the left side, to compare.
"""

import cmath
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qep.costs import Cost
from qep.degeneracy import DegeneracyCheck
from qep.measurement import Exact, Measured, Measurement
from qep.system import Equilibrium, QuantumSystem

# nudges in units of beta, and the weights of their measurements in units of 1 / beta
STENCILS = {
    "positive": ((1.0, 1.0), (0.0, -1.0)),
    "negative": ((0.0, 1.0), (-1.0, -1.0)),
    "centred": ((1.0, 0.5), (-1.0, -0.5)),
}


@dataclass(frozen=True)
class Batch:
    """What a gradient is estimated of: a cost of a system's outputs on B samples, whose free equilibrium is known.

    Attributes:
        system: whose parameters the gradient is of.
        free: the system's equilibrium without a nudge.
        targets: of the cost, (B, ...).
        cost: of the outputs.
        generator: of the shots, where there are any.
    """

    system: QuantumSystem
    free: Equilibrium
    targets: Tensor
    cost: Cost
    generator: torch.Generator | None = None

    @property
    def x(self) -> Tensor:
        """The inputs, (B, n_inputs)."""
        return self.free.x

    def __getitem__(self, chosen: Tensor) -> "Batch":
        """The same for some samples, by a mask (B,) or positions (B',); nothing is solved again."""
        return replace(self, free=self.free[chosen], targets=self.targets[chosen])

    def nudged(self, nudge: Tensor) -> Equilibrium:
        """The equilibrium under a nudge (B, n_outputs), started from the free one."""
        return self.system.equilibrium(self.x, nudge, start=self.free)


@dataclass(frozen=True)
class GradientEstimate:
    """A gradient and what was seen on the way.

    Attributes:
        gradients: of the mean cost over the B' samples that have one ground state, by parameter name.
        cost: of each of these samples, as measured, (B',).
        outputs: as measured at the free equilibrium, (B', n_outputs).
        gap: of the free ground states, (B',).
        targets: of the same samples, (B', ...).
        skipped: samples left out of the gradient because a ground state was not the only one.
    """

    gradients: dict[str, Tensor]
    cost: Tensor
    outputs: Tensor
    gap: Tensor
    targets: Tensor
    skipped: int = 0

    @property
    def flat(self) -> Tensor:
        """The whole gradient as one vector."""
        return torch.cat([gradient.flatten() for gradient in self.gradients.values()])


class GradientEstimator(ABC):
    """Estimates the gradient of the mean cost of a batch.

    Args:
        on_degenerate: what to do about samples without a single ground state: "error" refuses the batch, "skip"
            leaves them out and counts them.
    """

    def __init__(self, on_degenerate: str = "error"):
        self.usable = DegeneracyCheck(on_degenerate)

    def __call__(
        self,
        system: QuantumSystem,
        x: Tensor,
        targets: Tensor,
        cost: Cost,
        generator: torch.Generator | None = None,
    ) -> GradientEstimate:
        """Estimate.

        Args:
            system: whose parameters the gradient is of.
            x: inputs, (B, n_inputs).
            targets: of the cost, (B, ...).
            cost: of the outputs.
            generator: of the shots, where there are any.

        Raises:
            ValueError: x or targets of another shape or dtype, or with numbers that are not finite.
            DegenerateGroundStateError: a gap below the system's gap_tol, with on_degenerate "error".
            GroundStateError: a ground state was not found.
        """
        free = system.equilibrium(x)
        cost.check(x.new_empty(len(x), len(system.output_index)), targets)
        batch = Batch(system, free, targets, cost, generator)
        used = self.usable(batch.free.state)
        if used.all():
            return self.estimate(batch)
        skipped = int((~used).sum())
        batch = batch[used]
        if not used.any():
            outputs = system.outputs(batch.free.expectations)
            return GradientEstimate(zeros(system), batch.free.gap, outputs, batch.free.gap, batch.targets, skipped)
        found = self.estimate(batch)
        return replace(found, skipped=found.skipped + skipped)

    @abstractmethod
    def estimate(self, batch: Batch) -> GradientEstimate:
        """The same for samples whose free ground states are all usable."""


class ResponseEstimator(GradientEstimator):
    """Free equilibrium, nudge, response of the observables, local update: an estimator says how responses are taken.

    Args:
        measurement: how expectation values are measured.
        on_degenerate: see `GradientEstimator`.
    """

    def __init__(self, measurement: Measurement | None = None, on_degenerate: str = "error"):
        super().__init__(on_degenerate)
        self.measurement = measurement or Exact()

    @abstractmethod
    def responses(self, batch: Batch, measured: Measured, nudge: Tensor) -> tuple[Tensor, list[Equilibrium]]:
        """The response of every observable to the nudge.

        Args:
            batch: of B samples.
            measured: at the free equilibrium: the outputs, and all observables if `needs_free`.
            nudge: coefficients of C in the outputs, (B, n_outputs).

        Returns:
            d<O_k>/dbeta, (B, K), and the nudged equilibria.
        """

    @property
    def needs_free(self) -> bool:
        """Whether observables other than the outputs are measured at the free equilibrium."""
        return False

    def estimate(self, batch: Batch) -> GradientEstimate:
        system, free = batch.system, batch.free
        wanted = None if self.needs_free else system.output_index
        measured = self.measurement.measure(free.state, batch.generator, wanted)
        outputs = system.outputs(measured.means)
        nudge = batch.cost.nudge(outputs, batch.targets)
        responses, nudged = self.responses(batch, measured, nudge)
        used = self.usable(free.state, *(equilibrium.state for equilibrium in nudged))
        gradients = system.local_gradient(responses[used], batch.x[used]) if used.any() else zeros(system)
        value = batch.cost.value(outputs, batch.targets)
        return GradientEstimate(gradients, value, outputs, free.gap, batch.targets, int((~used).sum()))


class QEP(ResponseEstimator):
    """Quantum equilibrium propagation with two equilibria, each nudged by a small real beta or free.

    positive: (<.>_beta - <.>_0) / beta and negative: (<.>_0 - <.>_-beta) / beta err by O(beta);
    centred: (<.>_beta - <.>_-beta) / (2 beta) errs by O(beta^2).

    Args:
        kind: positive, negative or centred.
        beta: strength of the nudge, positive.
        measurement, on_degenerate: see `ResponseEstimator`.

    Source: Scellier, arXiv 2406.00879.
    """

    def __init__(
        self,
        kind: str = "centred",
        beta: float = 0.1,
        measurement: Measurement | None = None,
        on_degenerate: str = "error",
    ):
        super().__init__(measurement, on_degenerate)
        if kind not in STENCILS:
            raise ValueError(f"the kind is {kind!r}; choose one of {', '.join(STENCILS)}")
        if not beta > 0:
            raise ValueError(f"beta must be positive, got {beta}")
        self.kind, self.beta = kind, beta

    @property
    def needs_free(self) -> bool:
        return any(shift == 0 for shift, _ in STENCILS[self.kind])

    def responses(self, batch: Batch, measured: Measured, nudge: Tensor) -> tuple[Tensor, list[Equilibrium]]:
        responses: Tensor | float = 0.0
        nudged = []
        for shift, weight in STENCILS[self.kind]:
            means = measured.means
            if shift:
                nudged.append(batch.nudged(shift * self.beta * nudge))
                means = self.measurement.measure(nudged[-1].state, batch.generator).means
            responses = responses + weight / self.beta * means
        return responses, nudged


class Holomorphic(ResponseEstimator):
    """The derivative over beta by Cauchy's formula, from equilibria at complex nudges: error O(beta^points).

    Expectation values are analytic in beta around 0, as far as the gap stays open, so

        d<O>/dbeta = (1 / (N beta)) sum_m e^{-2 pi i m / N} <O>_{beta e^{2 pi i m / N}}

    up to the N-th order. A complex nudge is no experiment: this is the estimator of high accuracy, for small systems.

    Args:
        beta: radius of the circle, positive.
        points: N, from 2.
        on_degenerate: see `GradientEstimator`.

    Source: Laborieux and Zenke, Holomorphic Equilibrium Propagation, 2022, carried over to ground states.
    """

    def __init__(self, beta: float = 0.1, points: int = 4, on_degenerate: str = "error"):
        super().__init__(None, on_degenerate)
        if not beta > 0 or points < 2:
            raise ValueError(f"beta must be positive and points at least 2, got {beta} and {points}")
        self.beta, self.points = beta, points

    def responses(self, batch: Batch, measured: Measured, nudge: Tensor) -> tuple[Tensor, list[Equilibrium]]:
        responses: Tensor | float = 0.0
        for m in range(self.points):
            beta = self.beta * cmath.exp(2j * cmath.pi * m / self.points)
            means = batch.system.continued_expectations(batch.free, beta * nudge)
            responses = responses + means / (self.points * beta)
        return responses.real, []


class ExactResponse(ResponseEstimator):
    """The response to an infinitely weak nudge: first-order perturbation theory, no beta and no error."""

    def responses(self, batch: Batch, measured: Measured, nudge: Tensor) -> tuple[Tensor, list[Equilibrium]]:
        return batch.system.response(batch.free, nudge), []


def zeros(system: QuantumSystem) -> dict[str, Tensor]:
    """No gradient, by parameter name."""
    return {name: torch.zeros_like(parameter) for name, parameter in system.named_parameters()}
