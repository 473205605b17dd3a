"""An equilibrium as a module, and a dropout that leaves f one and the same map within a solve."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from deq.implicit import NON_FINITE_ONLY, equilibrium
from deq.result import SolverResult, SolverStatus
from deq.settings import SolverSettings
from deq.state import State, map_state, map_states


class SolveDropout(nn.Module):
    """Dropout whose mask is drawn once per solve: an f that changes from call to call has no equilibrium.

    Inside an `EquilibriumLayer` every forward pass draws a new mask; elsewhere call `redraw()`. One module is one
    mask: put one at each place.

    Args:
        p: probability of dropping an entry.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p must be >= 0 and < 1, not {p}")
        self.p = p
        self._mask: Tensor | None = None

    def redraw(self) -> None:
        """Forget the mask; the next call draws one."""
        self._mask = None

    def forward(self, z: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return z
        if self._mask is None or self._mask.shape != z.shape:
            with torch.inference_mode(False), torch.no_grad():
                self._mask = (torch.rand_like(z) >= self.p).to(z.dtype) / (1 - self.p)
        return z * self._mask

    def extra_repr(self) -> str:
        return f"p={self.p}"


class EquilibriumLayer(nn.Module):
    """The equilibrium z* = f(z*, x) as a layer.

        layer = EquilibriumLayer(Cell(), start=lambda x: x.new_zeros(len(x), 64))
        z = layer(x)
        layer.last.describe()

    Weights under `torch.nn.utils.parametrizations` (weight_norm, spectral_norm, orthogonal) are computed once per
    forward pass, before the solve, and differentiated once: f does not change within a solve.

    Args:
        f: module (or function) of (z, x), acting on every sample alone; x is whatever `forward` is given. One that is
            measured is told of by `SolverSettings(noise=...)`.
        start: x to z0; None: zeros like x.
        forward_settings: how z* is found in training.
        backward_settings: how its gradient is found.
        evaluation_settings: how z* is found in evaluation; None: as in training.
        grad_order, throw, without_gradient: as `deq.equilibrium` takes them.

    Attributes:
        last: the SolverResult of the last forward pass (and of its backward pass), without graph; None before.
    """

    def __init__(
        self,
        f: Callable[..., State],
        start: Callable[..., State] | None = None,
        forward_settings: SolverSettings = SolverSettings(),
        backward_settings: SolverSettings = SolverSettings(),
        evaluation_settings: SolverSettings | None = None,
        grad_order: int = 1,
        throw: bool = False,
        without_gradient: Sequence[SolverStatus] = NON_FINITE_ONLY,
    ) -> None:
        super().__init__()
        self.f = f
        self.start = start
        self.forward_settings, self.backward_settings = forward_settings, backward_settings
        self.evaluation_settings = evaluation_settings
        self.grad_order, self.throw, self.without_gradient = grad_order, throw, tuple(without_gradient)
        self.last: SolverResult | None = None

    def forward(self, *x, z0: State | None = None, warm_start: bool = False) -> State:
        """z* for the inputs x, which f gets behind z.

        Args:
            x: tensors, or whatever f and start take.
            z0: where to start; None: `start(*x)`.
            warm_start: start at the last pass's z* where that has the same shapes; samples whose last one is not
                finite start at z0.
        """
        if z0 is None:
            z0 = map_state(torch.zeros_like, x[0]) if self.start is None else self.start(*x)
        if warm_start and self.last is not None:
            z0 = _warm(z0, self.last.z)
        settings = self.forward_settings
        if not self.training and self.evaluation_settings is not None:
            settings = self.evaluation_settings
        for module in self.modules():
            if isinstance(module, SolveDropout):
                module.redraw()
        with parametrize.cached():
            self._compute_parametrized()
            z_star, self.last = equilibrium(
                lambda z: self.f(z, *x), z0, settings, self.backward_settings,
                self.grad_order, self.throw, self.without_gradient,
            )  # fmt: skip
        return z_star

    def _compute_parametrized(self) -> None:
        """Fill torch's cache with grad mode as it is here; within the solve it is off, and would leave no graph."""
        for module in self.modules():
            if parametrize.is_parametrized(module):
                for name, _ in module.parametrizations.named_children():  # type: ignore[union-attr, operator]
                    getattr(module, name)

    def __getstate__(self) -> dict:
        # a result is not part of a model that is saved or copied
        return {**self.__dict__, "last": None}

    def extra_repr(self) -> str:
        return f"forward={self.forward_settings.label}, backward={self.backward_settings.label}"


def _warm(z0: State, last: State) -> State:
    """The last equilibrium where it is of z0's shapes and finite, else z0."""

    def pick(cold: Tensor, warm: Tensor) -> Tensor:
        if cold.shape != warm.shape:
            return cold
        finite = warm.flatten(1).isfinite().all(dim=1) if warm.dim() > 1 else warm.isfinite()
        return torch.where(finite.view(-1, *[1] * (cold.dim() - 1)), warm.to(cold), cold)

    return map_states(pick, z0, last)
