"""How the loop calls f: (B, d) in and out, checked, without gradient, with z safe from what f may do to it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import torch
from torch import Tensor

from deq.host import host_may_look, traced
from deq.state import check_value

HALF = (torch.float16, torch.bfloat16)


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """In which solvers compute: float32 for half precision, else the dtype itself."""
    return torch.float32 if dtype in HALF else dtype


class FlatCall:
    """f of states shaped as z0, called with (B, d).

    f may write into its argument and may reuse its result's memory: the first call gets a copy of z, and if f wrote
    into that, so do all others. An autocast that is on when this is made is on around f and nowhere else.

    Args:
        f: map of (B, ...) to (B, ...).
        z0: (B, ...) where it starts.
    """

    def __init__(self, f: Callable[[Tensor], Tensor], z0: Tensor) -> None:
        self.f, self.shape, self.dtype = f, z0.shape, z0.dtype
        self.flat_shape = (z0.shape[0], math.prod(z0.shape[1:]))
        self.working_dtype = working_dtype(z0.dtype)
        self.flat = z0.dim() == 2 and z0.dtype == self.working_dtype  # (B, d) is what f sees
        self.copied = not host_may_look(z0)
        self.copies = True
        # whether writes into a tensor are counted
        self.counted = not traced() and not torch.is_inference_mode_enabled()
        self.autocast = _autocast_of(z0.device.type)

    def start(self, z0: Tensor) -> Tensor:
        """z0 as (B, d) in the dtype that the solver computes in, sharing no memory with z0."""
        return z0.detach().reshape(self.flat_shape).to(self.working_dtype, copy=True)

    def layer(self) -> Callable[[Tensor], Tensor]:
        """f for solvers that differentiate it: of states in the dtype that they compute in."""
        if self.dtype == self.working_dtype and self.autocast is contextlib.nullcontext:
            return self.f
        return _Recast(self)

    def rounded(self, z: Tensor) -> Tensor:
        """z as f can see it, in the solver's dtype."""
        return z if self.dtype == self.working_dtype else z.to(self.dtype).to(self.working_dtype)

    def __call__(self, z: Tensor, copied_later: bool = False) -> Tensor:
        """f(z), (B, d) to itself, in memory of its own unless the caller says that it copies it."""
        state = z if self.flat else z.to(self.dtype).reshape(self.shape)
        if self.copies or not self.counted:
            state = state.clone()
        before = state._version if self.counted else 0
        with self.autocast():
            f_z = check_value(self.f(state), self.shape)
        wrote = self.counted and state._version != before
        if wrote and not self.copies:
            raise ValueError("f writes into z in place at some calls only: give it z.clone()")
        self.copies = wrote
        made = f_z.detach() if f_z.requires_grad else f_z
        if not self.flat or made.dtype != self.working_dtype:
            made = made.to(self.working_dtype).reshape(self.flat_shape)
        # a result that is kept must not change when f is called again; where the host may not look, the loop copies
        return made if self.copied or copied_later or made.data_ptr() != f_z.data_ptr() else made.clone()

    def back(self, z: Tensor) -> Tensor:
        """(B, d) as a state."""
        return z.to(self.dtype).reshape(self.shape)


class _Recast:
    """f of states in another dtype than its own, under the autocast of its call."""

    def __init__(self, call: FlatCall) -> None:
        self.call = call
        offered = getattr(call.f, "jacobian", None)
        if offered is not None:
            self.jacobian = lambda z: offered(z.to(call.dtype)).to(z.dtype)

    def __call__(self, z: Tensor) -> Tensor:
        with self.call.autocast():
            return self.call.f(z.to(self.call.dtype)).to(z.dtype)


def _autocast_of(device_type: str) -> Callable[[], contextlib.AbstractContextManager]:
    """A maker of the autocast that is on now; it keeps no cast weights, which would lose their gradient later."""
    if traced() or not torch.amp.is_autocast_available(device_type) or not torch.is_autocast_enabled(device_type):
        return contextlib.nullcontext
    dtype = torch.get_autocast_dtype(device_type)
    return lambda: torch.autocast(device_type, dtype, cache_enabled=False)


def without_autocast(device_type: str) -> contextlib.AbstractContextManager:
    """The solvers' own algebra is not for autocast to round."""
    if traced() or not torch.amp.is_autocast_available(device_type) or not torch.is_autocast_enabled(device_type):
        return contextlib.nullcontext()
    return torch.autocast(device_type, enabled=False)
