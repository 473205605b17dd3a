"""Cost, accuracy and gaps of a system over samples, and what classical models reach on the same data."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from qep.estimators import GradientEstimate
from qep.learning.tasks import Samples, Task
from runs.optim import eager

BATCH = 256  # samples at a time; no result depends on it
LBFGS_STEPS = 500


@dataclass(frozen=True)
class Evaluation:
    """Mean metrics over samples, and the outputs of each, (N, n_outputs)."""

    metrics: dict[str, float]
    outputs: Tensor


def evaluate(task: Task, samples: Samples) -> Evaluation:
    """Outputs of every sample as exact expectation values, and metrics over them.

    Returns:
        Metrics "cost"; "acc" where outputs are right or wrong; "gap", its mean, and "gap_min"; "degenerate", the
        share of samples whose ground state is not the only one, so that their outputs mean little.
    """
    outputs, gaps, usable = [], [], []
    for x in samples.inputs.split(BATCH):
        found = task.system.equilibrium(x)
        outputs.append(task.system.outputs(found.expectations))
        gaps.append(found.gap)
        usable.append(found.state.usable)
    output, gap = torch.cat(outputs), torch.cat(gaps)
    metrics = {"cost": task.cost.value(output, samples.targets).mean().item()}
    if task.correct is not None:
        metrics["acc"] = task.correct(output, samples.targets).double().mean().item()
    metrics |= {
        "gap": gap.mean().item(),
        "gap_min": gap.min().item(),
        "degenerate": (~torch.cat(usable)).double().mean().item(),
    }
    return Evaluation(metrics, output)


def cosine(one: GradientEstimate, other: GradientEstimate) -> Tensor:
    """Cosine of the angle between two gradients, all parameters as one vector; 0 where one is zero."""
    return torch.cosine_similarity(one.flat, other.flat, dim=0)


def linear_classifier(train: Samples, test: Samples, n_classes: int) -> float:
    """Test accuracy of logistic regression on the same inputs, fitted to convergence without penalty.

    Args:
        train, test: targets are labels (N,), or 1 and -1 per class (N, n_classes).
        n_classes: number of classes.
    """

    def labels(samples: Samples) -> Tensor:
        return samples.targets if samples.targets.dim() == 1 else samples.targets.argmax(-1)

    model = nn.Linear(train.inputs.shape[1], n_classes, dtype=torch.float64, device=train.inputs.device)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = eager(torch.optim.LBFGS)(model.parameters(), max_iter=LBFGS_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(model(train.inputs), labels(train))
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    with torch.no_grad():
        return (model(test.inputs).argmax(-1) == labels(test)).double().mean().item()


def least_squares(train: Samples, test: Samples) -> tuple[Tensor, float]:
    """The affine map of least squared error, in closed form.

    Returns:
        Its coefficients, (n_inputs + 1, n_outputs), the constant last, and half its mean squared error on the test
        samples, which is what `SquaredError` measures.
    """

    def affine(inputs: Tensor) -> Tensor:
        return torch.cat([inputs, inputs.new_ones(len(inputs), 1)], -1)

    solution = torch.linalg.lstsq(affine(train.inputs), train.targets).solution
    error = affine(test.inputs) @ solution - test.targets
    return solution, 0.5 * error.square().sum(-1).mean().item()


def affine_map(task: Task) -> Tensor:
    """The affine map from inputs to the mean outputs of an oscillator network, (n_inputs + 1, n_outputs)."""
    n_inputs, n_outputs = task.train.inputs.shape[1], task.train.targets.shape[1]
    probes = torch.cat([torch.eye(n_inputs), torch.zeros(1, n_inputs)]).to(task.train.inputs)
    outputs = task.system.outputs(task.system.equilibrium(probes).expectations)[:, :n_outputs]
    return torch.cat([outputs[:-1] - outputs[-1:], outputs[-1:]])
