"""When the host may look at a value, and when every value must stay where it is."""

from __future__ import annotations

import torch
from torch import Tensor


def transformed() -> bool:
    """Whether a transform of torch.func is at work."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def traced() -> bool:
    """Whether values cannot be looked at whatever the device: under torch.compile or a transform of torch.func."""
    return torch.compiler.is_compiling() or transformed()


def host_may_look(z: Tensor) -> bool:
    """Whether reading a value on the host is free; on a GPU it would stall the queue of kernels."""
    return z.device.type == "cpu" and not traced()
