"""Optimisers by name, the gradient's clip and the learning rate over time."""

import functools
import inspect
import math
from collections.abc import Iterable

import torch
from torch import nn

from runs.settings import OptimisationSettings


@functools.cache
def eager(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """The same optimiser without what torch wraps around its methods for `torch.compile`, hooks and its profiler.

    None of these is used here; the first imports torch._dynamo, which takes longer than torch itself. Without them the
    steps are the same.
    """
    names = ("add_param_group", "state_dict", "load_state_dict", "step")
    plain = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    plain["step"] = torch.no_grad()(plain["step"])
    plain["step"].hooked = True  # so that torch does not wrap it
    plain["zero_grad"] = _forget_gradients
    return type(kind.__name__, (kind,), plain)


def _forget_gradients(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def make_optimizer(
    model: nn.Module, settings: OptimisationSettings, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """The optimiser --optim names, with torch's own defaults for what has no flag.

    On a CPU it moves all parameters in one operation where torch has that.
    """
    kind = eager(getattr(torch.optim, settings.optim))
    parameters = list(model.parameters())
    fused = "fused" in inspect.signature(kind).parameters and all(p.device.type == "cpu" for p in parameters)
    options = {"fused": True} if fused else {}
    return kind(parameters, lr=settings.lr, weight_decay=weight_decay, **options)


def clip_gradient(parameters: Iterable[nn.Parameter], limit: float) -> float:
    """Scale a gradient down to length `limit` where it is longer.

    Args:
        parameters: all on one device; those without a gradient are passed over.
        limit: inf for none.

    Returns:
        The gradient's Euclidean norm before, which is inf or NaN where an entry is. The host waits for it.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.cat([gradient.flatten() for gradient in gradients])).item()
    # as torch.nn.utils.clip_grad_norm_ has it
    scale = limit / (norm + 1e-6)
    if math.isfinite(norm) and scale < 1:
        torch._foreach_mul_(gradients, scale)
    return norm


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Load a state_dict of an optimiser of the same kind and parameters.

    Raises:
        ValueError: it is of another kind, or of parameters of other shapes.
    """
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    example = type(optimizer)([parameter], **optimizer.defaults)
    example.step()
    try:
        # how a step is computed is this process's choice: the state may come from another device, or an older version
        own = {"fused": optimizer.defaults["fused"]} if "fused" in optimizer.defaults else {}
        groups = [{**group, **own} for group in state["param_groups"]]
        optimizer.load_state_dict({**state, "param_groups": groups})
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"no state of an optimiser: {error!r}") from error
    for group in optimizer.param_groups:
        if missing := example.param_groups[0].keys() - group.keys():
            raise ValueError(f"its groups lack {', '.join(sorted(missing))}")
    for parameter, of_parameter in optimizer.state.items():
        if missing := example.state[example.param_groups[0]["params"][0]].keys() - of_parameter.keys():
            raise ValueError(f"its parameters lack {', '.join(sorted(missing))}")
        for name, value in of_parameter.items():
            if isinstance(value, torch.Tensor) and value.numel() != 1 and value.shape != parameter.shape:
                raise ValueError(f"{name} has shape {tuple(value.shape)}, its parameter {tuple(parameter.shape)}")


class LearningRate:
    """Sets the optimiser's learning rate before each step.

    A linear ramp over warmup_step steps, then constant: lr; cosine: from lr to eta_min over the run; inv_sqrt: lr
    times sqrt(warmup_step / step); dev_perf: times decay_rate after more than `patience` validations without a
    lower val_loss, not below lr_min.

    Args:
        optimizer: whose parameter groups are set.
        settings: scheduler, lr, warmup_step, eta_min; of `PlateauSettings` where validations are told of.
        max_step: length of the run.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, settings: OptimisationSettings, max_step: int):
        self.optimizer = optimizer
        self.settings = settings
        self.max_step = max_step
        self.best_loss = float("inf")
        self.stalled = 0
        self.decay = 1.0

    @property
    def depends_on_length(self) -> bool:
        """Whether runs of two lengths have different learning rates at one step."""
        return self.settings.scheduler == "cosine"

    def at(self, step: int) -> float:
        """The learning rate of the step-th step, counted from 1."""
        s = self.settings
        if step < s.warmup_step:
            return s.lr * step / s.warmup_step
        if s.scheduler == "inv_sqrt":
            return s.lr * (s.warmup_step / step) ** 0.5
        if s.scheduler == "cosine":
            done = (step - s.warmup_step) / max(1, self.max_step - s.warmup_step)
            return s.eta_min + (s.lr - s.eta_min) * (1 + math.cos(math.pi * done)) / 2
        return max(s.lr * self.decay, min(s.lr_min, s.lr)) if s.scheduler == "dev_perf" else s.lr

    def apply(self, step: int) -> float:
        """Set and return the learning rate of the step-th step."""
        rate = self.at(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def after_validation(self, val_loss: float) -> None:
        """Tell dev_perf how validation went."""
        if val_loss < self.best_loss:
            self.best_loss, self.stalled = val_loss, 0
            return
        self.stalled += 1
        if self.stalled > self.settings.patience:
            self.decay *= self.settings.decay_rate
            self.stalled = 0

    def state_dict(self) -> dict:
        return {"best_loss": self.best_loss, "stalled": self.stalled, "decay": self.decay}

    def load_state_dict(self, state: dict) -> None:
        self.best_loss, self.stalled, self.decay = state["best_loss"], state["stalled"], state["decay"]
