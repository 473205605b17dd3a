"""What the outputs should be, as an energy that nudges the system.

Two kinds (Scellier, arXiv 2406.00879, has the first). (a) The cost is the expectation value of an observable C: the
nudge is C itself. (b) The cost is a function l of expectation values: the nudge is its linearisation at the free
equilibrium, C = sum_o (dl/d<O_o>) O_o, and since dl = sum_o (dl/d<O_o>) d<O_o> this gives the exact gradient of l.
Either way C is a sum of output observables, with coefficients that are given per sample.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from qep.inputs import check_shape, check_tensor


class Cost(ABC):
    """A cost of a batch; outputs are expectation values, (B, n_outputs).

    Outputs and targets that do not fit together are a ValueError with both shapes: nothing is broadcast.
    """

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Refuse what does not fit together.

        Raises:
            ValueError: another shape or device, or numbers that are not finite; one line.
        """
        check_shape("outputs", outputs, ("B", "n_outputs"))
        if not outputs.is_floating_point():
            raise ValueError(f"outputs must be expectation values, floating point numbers, got {outputs.dtype}")
        self.check_targets(targets, outputs.shape[1], len(outputs), outputs.device)

    def check_targets(self, targets: Tensor, n_outputs: int, n_samples: int, device: torch.device) -> None:
        """Refuse targets that do not fit outputs (n_samples, n_outputs); here: one number for each output."""
        check_tensor("targets", targets, (n_samples, n_outputs), _of(n_samples, n_outputs), device=device)

    @abstractmethod
    def value(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The cost of each sample, (B,)."""

    @abstractmethod
    def nudge(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The coefficients of C in the output observables, (B, n_outputs)."""


class LinearObservable(Cost):
    """Kind (a): C = sum_o c_o O_o with coefficients that are the targets, (B, n_outputs)."""

    def value(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.check(outputs, targets)
        return (outputs * targets).sum(-1)

    def nudge(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.check(outputs, targets)
        return targets.to(outputs.dtype)


class SquaredSpins(Cost):
    """Kind (a): C = sum_o (Z_o - y_o)^2 for targets y (B, n_outputs).

    Z^2 = 1, so C = sum_o (1 + y_o^2 - 2 y_o Z_o) is linear in Z: it rewards the sign of a target and never asks for
    a value between. Targets of one class against n - 1 others, 1 and -1, reward "all outputs -1" almost as much.
    """

    def value(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.check(outputs, targets)
        return (1 + targets.square() - 2 * targets * outputs).sum(-1)

    def nudge(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.check(outputs, targets)
        return -2 * targets.to(outputs.dtype)


class SquaredPositions(Cost):
    """Kind (a): C = 1/2 sum_o (r_o - y_o)^2, with the outputs r_o first and r_o^2 after them; targets y (B, n).

    Its expectation value is half the squared error of the means plus half their quantum variance.
    """

    def check_targets(self, targets: Tensor, n_outputs: int, n_samples: int, device: torch.device) -> None:
        if n_outputs % 2:
            raise ValueError(f"outputs must be the r_o and then the r_o^2, an even number, got {n_outputs}")
        check_tensor("targets", targets, (n_samples, n_outputs // 2), _of(n_samples, n_outputs), device=device)

    def value(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.check(outputs, targets)
        means, squares = outputs.chunk(2, -1)
        return 0.5 * (squares - 2 * targets * means + targets.square()).sum(-1)

    def nudge(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.check(outputs, targets)
        targets = targets.to(outputs.dtype)
        return torch.cat([-targets, torch.full_like(targets, 0.5)], -1)


class SquaredError(Cost):
    """Kind (b): l = 1/2 sum_o (<O_o> - y_o)^2 over the first outputs, as many as there are targets y (B, n)."""

    def check_targets(self, targets: Tensor, n_outputs: int, n_samples: int, device: torch.device) -> None:
        of = f"{_of(n_samples, n_outputs)}, n from 1 to {n_outputs}"
        check_tensor("targets", targets, (n_samples, "n"), of, device=device)
        if not 1 <= targets.shape[1] <= n_outputs:
            raise ValueError(f"targets must have shape ({n_samples}, n) for {of}, got {tuple(targets.shape)}")

    def value(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.check(outputs, targets)
        return 0.5 * (outputs[:, : targets.shape[-1]] - targets).square().sum(-1)

    def nudge(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.check(outputs, targets)
        nudge = torch.zeros_like(outputs)
        nudge[:, : targets.shape[-1]] = outputs[:, : targets.shape[-1]] - targets
        return nudge


class CrossEntropy(Cost):
    """Kind (b): cross-entropy of the logits scale * <O_o> with labels (B,).

    Args:
        scale: expectation values of Z end at 1, logits at this.
    """

    def __init__(self, scale: float = 4.0):
        self.scale = scale

    def check_targets(self, targets: Tensor, n_outputs: int, n_samples: int, device: torch.device) -> None:
        check_tensor("targets", targets, (n_samples,), _of(n_samples, n_outputs), torch.int64, device)
        if ((targets < 0) | (targets >= n_outputs)).any():
            raise ValueError(f"targets must be labels from 0 to {n_outputs - 1}, the outputs, got {targets.tolist()}")

    def value(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.check(outputs, targets)
        return cross_entropy(self.scale * outputs, targets, reduction="none")

    def nudge(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.check(outputs, targets)
        probabilities = torch.softmax(self.scale * outputs, -1)
        return self.scale * (probabilities - one_hot(targets, outputs.shape[-1]))


def _of(n_samples: int, n_outputs: int) -> str:
    return f"outputs ({n_samples}, {n_outputs})"
