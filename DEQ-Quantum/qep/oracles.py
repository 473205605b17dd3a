"""Gradients that know nothing of nudges, to hold the estimators against: autograd, and finite differences.

Both see the cost as a function of the parameters and nothing else. They are for tests and figures: autograd through
`eigh` needs the whole spectrum and breaks where any two energies meet; differences need two equilibria per parameter.
"""

import torch
from torch import Tensor

from qep.estimators import Batch, GradientEstimate, GradientEstimator, zeros
from qep.ground_states import GroundStateError


class AutogradEigh(GradientEstimator):
    """Backpropagation through the dense diagonalisation.

    Raises:
        GroundStateError: where two excited states have the same energy to the last bit.
    """

    def estimate(self, batch: Batch) -> GradientEstimate:
        system, targets = batch.system, batch.targets
        parameters = dict(system.named_parameters())
        outputs = system.outputs(system.differentiable_expectations(batch.x))
        value = batch.cost.value(outputs, targets)
        found = torch.autograd.grad(value.mean(), list(parameters.values()), allow_unused=True, materialize_grads=True)
        if torch.stack([gradient.isnan().any() for gradient in found]).any():
            raise GroundStateError(
                "two excited states have the same energy, there the derivative of a diagonalisation is 0/0; "
                "choose ExactResponse"
            )
        gradients = dict(zip(parameters, found))
        return GradientEstimate(gradients, value.detach(), outputs.detach(), batch.free.gap, targets)


class FiniteDifferences(GradientEstimator):
    """Central differences of the mean cost, parameter by parameter: error O(step^2) and round-off over step.

    Args:
        step: change of a parameter.
        on_degenerate: see `GradientEstimator`.
    """

    def __init__(self, step: float = 1e-5, on_degenerate: str = "error"):
        super().__init__(on_degenerate)
        if not step > 0:
            raise ValueError(f"the step must be positive, got {step}")
        self.step = step

    @torch.no_grad()
    def estimate(self, batch: Batch) -> GradientEstimate:
        system, cost, targets = batch.system, batch.cost, batch.targets

        def mean_cost() -> Tensor:
            return cost.value(system.outputs(system.equilibrium(batch.x).expectations), targets).mean()

        gradients = zeros(system)
        for name, parameter in system.named_parameters():
            values, gradient = parameter.view(-1), gradients[name].view(-1)
            for i in range(len(values)):
                before = values[i].item()
                values[i] = before + self.step
                above = mean_cost()
                values[i] = before - self.step
                gradient[i] = (above - mean_cost()) / (2 * self.step)
                values[i] = before
        outputs = system.outputs(batch.free.expectations)
        return GradientEstimate(gradients, cost.value(outputs, targets), outputs, batch.free.gap, targets)
