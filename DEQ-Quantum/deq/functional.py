"""The implicit function theorem in plain differentiable operations, for torch.func, forward mode and torch.compile.

A custom backward pass that solves with f's graph is none of their business: they rewrite operations, and f closes
over what they rewrite. Here the Newton step z + (I - J)^-1 (f(z) - z) itself is the operation, with J a constant:
f(z) - z is zero to the order that z is right to, so no derivative of J counts. J is dense, (B, d, d), which is
the price: d products per order and a dense solve per sample.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd import forward_ad

from deq.call import working_dtype
from deq.host import traced
from deq.jacobian import Layer, offered_jacobian, plain_jacobian


def needs_plain_operations() -> bool:
    """Whether a custom backward pass does not serve: in torch.compile, torch.func, or with dual numbers about."""
    return traced() or forward_ad._current_level >= 0


def attach_by_newton(f: Layer, z: Tensor, order: int) -> Tensor:
    """z, a solution of z = f(z), with the derivatives up to `order` of what f closes over; its value stays."""
    shape, dtype = z.shape, working_dtype(z.dtype)
    flat = (shape[0], math.prod(shape[1:]))
    z = z.detach()
    eye = torch.eye(flat[1], dtype=dtype, device=z.device)
    for _ in range(order):
        jacobian = offered_jacobian(f, z.detach())
        if jacobian is None:
            jacobian = plain_jacobian(f, z.detach())
        system = eye - jacobian.detach().to(dtype)
        gap = (f(z).to(z.dtype) - z).reshape(flat).to(dtype)
        step = torch.linalg.solve_ex(system, gap.unsqueeze(2))[0].squeeze(2).to(z.dtype).reshape(shape)
        z = z + (step - step.detach())
    return z
