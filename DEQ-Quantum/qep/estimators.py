"""Estimators of a cost's gradient, comparable one to one: two equilibria, many, or none.

Quantum equilibrium propagation (Scellier, arXiv 2406.00879): for the nudged H^beta = H + beta C,

    d<C>/dtheta = d/dbeta <dH/dtheta> in the ground state of H^beta, at beta = 0,

because the ground state makes <H^beta> stationary, so that its mixed second derivatives are the answers of either
to the other. The estimators of this file differ in how they take the derivative over beta; those of `oracles.py`
compute the left side, to compare.
"""

import cmath
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qep.costs import Cost
from qep.ground_states import DegenerateGroundStateError
from qep.measurement import Exact, Measured, Measurement
from qep.system import Equilibrium, QuantumSystem

ON_DEGENERATE = ("error", "skip")
# nudges in units of beta, and the weights of their measurements in units of 1 / beta
STENCILS = {
    "positive": ((1.0, 1.0), (0.0, -1.0)),
    "negative": ((0.0, 1.0), (-1.0, -1.0)),
    "centred": ((1.0, 0.5), (-1.0, -0.5)),
}


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
        if on_degenerate not in ON_DEGENERATE:
            raise ValueError(f"on_degenerate is {on_degenerate!r}; choose one of {', '.join(ON_DEGENERATE)}")
        self.on_degenerate = on_degenerate

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
            DegenerateGroundStateError: a gap below the system's gap_tol, with on_degenerate "error".
            GroundStateError: a ground state was not found.
        """
        free = system.equilibrium(x)
        used = self.check_gaps(system, free)
        if used.all():
            return self.estimate(system, x, targets, cost, free, generator)
        skipped = int((~used).sum())
        if not used.any():
            nothing = free.gap[used]
            return GradientEstimate(zeros(system), nothing, free.expectations[used], nothing, targets[used], skipped)
        x, targets = x[used], targets[used]
        found = self.estimate(system, x, targets, cost, system.equilibrium(x), generator)
        return replace(found, skipped=found.skipped + skipped)

    @abstractmethod
    def estimate(
        self,
        system: QuantumSystem,
        x: Tensor,
        targets: Tensor,
        cost: Cost,
        free: Equilibrium,
        generator: torch.Generator | None,
    ) -> GradientEstimate:
        """The same for samples whose free equilibrium is known, and unique."""

    def check_gaps(self, system: QuantumSystem, *equilibria: Equilibrium) -> Tensor:
        """Which samples can be used, (B,).

        Raises:
            DegenerateGroundStateError: not all of them, with on_degenerate "error".
        """
        gaps = torch.stack([equilibrium.gap for equilibrium in equilibria]).amin(0)
        used = gaps >= system.gap_tol
        if self.on_degenerate == "error" and not used.all():
            raise DegenerateGroundStateError(
                f"{int((~used).sum())} of {len(used)} samples have a (nearly) degenerate ground state: the gap is "
                f"{gaps.min().item():.1e}, below {system.gap_tol:g}; leave them out with --on_degenerate skip, lower "
                "--beta, or set --gap_tol"
            )
        return used


class ResponseEstimator(GradientEstimator):
    """Free equilibrium, nudge, answer of the observables, local update: an estimator says how the answer is taken.

    Args:
        measurement: how expectation values are read off.
        on_degenerate: see `GradientEstimator`.
    """

    def __init__(self, measurement: Measurement | None = None, on_degenerate: str = "error"):
        super().__init__(on_degenerate)
        self.measurement = measurement or Exact()

    @abstractmethod
    def answers(
        self,
        system: QuantumSystem,
        x: Tensor,
        free: Equilibrium,
        measured: Measured,
        nudge: Tensor,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, list[Equilibrium]]:
        """How every observable answers to the nudge.

        Args:
            system, x, generator: as in the call.
            free: the free equilibrium, and what was measured there.
            measured: of the free equilibrium: the outputs, and all observables if `needs_free`.
            nudge: coefficients of C in the outputs, (B, n_outputs).

        Returns:
            d<O_k>/dbeta, (B, K), and the nudged equilibria.
        """

    @property
    def needs_free(self) -> bool:
        """Whether observables other than the outputs are measured at the free equilibrium."""
        return False

    def estimate(
        self,
        system: QuantumSystem,
        x: Tensor,
        targets: Tensor,
        cost: Cost,
        free: Equilibrium,
        generator: torch.Generator | None,
    ) -> GradientEstimate:
        wanted = everything(system) if self.needs_free else system.output_index
        measured = self.measurement.measure(system, free, wanted, generator)
        outputs = system.outputs(measured.means)
        nudge = cost.nudge(outputs, targets)
        answers, nudged = self.answers(system, x, free, measured, nudge, generator)
        used = self.check_gaps(system, free, *nudged)
        gradients = system.local_gradient(answers[used], x[used]) if used.any() else zeros(system)
        value = cost.value(outputs, targets)
        return GradientEstimate(gradients, value, outputs, free.gap, targets, int((~used).sum()))


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

    def answers(
        self,
        system: QuantumSystem,
        x: Tensor,
        free: Equilibrium,
        measured: Measured,
        nudge: Tensor,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, list[Equilibrium]]:
        answer: Tensor | float = 0.0
        nudged = []
        for shift, weight in STENCILS[self.kind]:
            means = measured.means
            if shift:
                nudged.append(system.equilibrium(x, shift * self.beta * nudge, start=free))
                means = self.measurement.measure(system, nudged[-1], everything(system), generator).means
            answer = answer + weight / self.beta * means
        return answer, nudged


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

    def answers(
        self,
        system: QuantumSystem,
        x: Tensor,
        free: Equilibrium,
        measured: Measured,
        nudge: Tensor,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, list[Equilibrium]]:
        answer: Tensor | float = 0.0
        for m in range(self.points):
            beta = self.beta * cmath.exp(2j * cmath.pi * m / self.points)
            answer = answer + system.continued_expectations(x, free, beta * nudge) / (self.points * beta)
        return answer.real, []


class ExactResponse(ResponseEstimator):
    """The answer to an infinitely weak nudge: first-order perturbation theory, no beta and no error."""

    def answers(
        self,
        system: QuantumSystem,
        x: Tensor,
        free: Equilibrium,
        measured: Measured,
        nudge: Tensor,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, list[Equilibrium]]:
        return system.response(x, free, nudge), []


def zeros(system: QuantumSystem) -> dict[str, Tensor]:
    """No gradient, by parameter name."""
    return {name: torch.zeros_like(parameter) for name, parameter in system.named_parameters()}


def everything(system: QuantumSystem) -> Tensor:
    """Positions of all observables, (K,)."""
    return torch.arange(len(system.observables), device=system.output_index.device)
