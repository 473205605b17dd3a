"""Parameters, gradients and optimiser state of several runs in one storage, so that one operation serves all.

Each run keeps its model and its optimiser; what they hold are views of rows of that storage. Knows torch's optimisers,
not what is trained.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

COUNTER = "step"  # of an optimiser's state; all else that it keeps has its parameter's shape


class StackedParameters:
    """The parameters of S models of one kind.

    Args:
        models: their parameters become views of `values`; those without an entry, which have no gradient, are left alone.
        optimizers: of one kind, one for each model's parameters, in one group each.

    Attributes:
        values, gradients: (S, P).
    """

    def __init__(self, models: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer]):
        self.optimizers = optimizers
        self.parameters = [[p for p in model.parameters() if p.numel()] for model in models]
        self.values = nn.Parameter(torch.stack([_flat(own) for own in self.parameters]))
        self.gradients = self.values.grad = torch.zeros_like(self.values)
        for own, values, gradients in zip(self.parameters, self.values.detach(), self.gradients):
            for parameter, value, gradient in zip(own, _views(values, own), _views(gradients, own)):
                parameter.data, parameter.grad = value, gradient
        self.optimizer = type(optimizers[0])([self.values], **optimizers[0].defaults)
        self.joined = False

    def clip(self, limit: float) -> Tensor:
        """Scale each run's gradient to a norm of at most `limit`; (S,) norms as they were."""
        norms = torch.linalg.vector_norm(self.gradients, dim=1)
        # as torch.nn.utils.clip_grad_norm_ does
        self.gradients *= (limit / (norms + 1e-6)).clamp(max=1.0).unsqueeze(1)
        return norms

    def step(self, chosen: Sequence[bool]) -> None:
        """One step of the chosen runs' optimisers, at once where all take it alike."""
        rates = {optimizer.param_groups[0]["lr"] for optimizer in self.optimizers}
        if all(chosen) and len(rates) == 1 and (self.joined or self._join()):
            self.optimizer.param_groups[0]["lr"] = rates.pop()
            self.optimizer.step()
            if self.joined:
                torch._foreach_add_(self.counters, 1)
            else:
                self._share()
            return
        self.joined = False
        for optimizer, is_chosen in zip(self.optimizers, chosen):
            if is_chosen:
                optimizer.step()

    def _join(self) -> bool:
        """Gather the optimisers' states, unless they have counted different numbers of steps."""
        states = [[optimizer.state.get(p, {}) for p in own] for optimizer, own in zip(self.optimizers, self.parameters)]
        first = states[0][0]
        counted = [float(state.get(COUNTER, 0)) for of_run in states for state in of_run]
        if any(state.keys() != first.keys() for of_run in states for state in of_run) or len(set(counted)) > 1:
            return False
        joint = {}
        for name, value in first.items():
            of_runs = [[state[name] for state in of_run] for of_run in states]
            joint[name] = value.clone() if name == COUNTER else torch.stack([_flat(of_run) for of_run in of_runs])
        self.optimizer.state.clear()
        if joint:
            self.optimizer.state[self.values] = joint
            self._share()
        return True

    def _share(self) -> None:
        """Give each optimiser its part of the state, as views, and counters of its own."""
        self.counters: list[Tensor] = []
        for name, value in self.optimizer.state.get(self.values, {}).items():
            for row, (optimizer, own) in enumerate(zip(self.optimizers, self.parameters)):
                parts = [value.clone() for _ in own] if name == COUNTER else _views(value[row], own)
                self.counters += parts if name == COUNTER else []
                for parameter, part in zip(own, parts):
                    optimizer.state[parameter][name] = part
        self.joined = bool(self.counters)


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def _views(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """(P,) as tensors of these shapes, which share its memory."""
    return [part.view(tensor.shape) for part, tensor in zip(flat.split([t.numel() for t in like]), like)]
