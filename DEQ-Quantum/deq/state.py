"""A state z of several tensors as one: what the solvers see is always (B, d), one row per sample.

A state is a tensor (B, ...), or a tuple, list or dict of states, whose tensors share B and device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

State = Any
Layer = Callable[[State], State]


class Packing:
    """How the tensors of a state lie side by side in one tensor (B, d).

    Args:
        z: the state; its structure, shapes and dtypes are what f must keep.

    Raises:
        ValueError: no tensors, no batch dimension, several batch sizes, or an entry that is no real floating-point
            tensor.
    """

    def __init__(self, z: State) -> None:
        self.example = map_state(lambda t: t, z)
        leaves = _leaves(z)
        if not leaves:
            raise ValueError("z0 must hold at least one tensor")
        for leaf in leaves:
            _check_start(leaf)
        sizes = {len(leaf) for leaf in leaves}
        if len(sizes) > 1:
            raise ValueError(f"all tensors of z0 must have one batch size, not {sorted(sizes)}")
        self.shapes = [leaf.shape for leaf in leaves]
        self.dtypes = [leaf.dtype for leaf in leaves]
        self.widths = [math.prod(shape[1:]) for shape in self.shapes]
        self.dtype = leaves[0].dtype
        for leaf in leaves:
            self.dtype = torch.promote_types(self.dtype, leaf.dtype)

    def pack(self, z: State) -> Tensor:
        """The state as (B, d) of one dtype.

        Raises:
            ValueError: the structure or a shape is not that of z0.
        """
        leaves = _leaves_like(z, self.example, "f")
        for leaf, shape in zip(leaves, self.shapes):
            check_value(leaf, shape)
        flat = [leaf.to(self.dtype).reshape(shape[0], width)
                for leaf, shape, width in zip(leaves, self.shapes, self.widths)]  # fmt: skip
        return torch.cat(flat, dim=1)

    def unpack(self, flat: Tensor) -> State:
        """The inverse of `pack`; differentiable."""
        parts = flat.split(self.widths, dim=1)
        leaves = iter([part.reshape(shape).to(dtype) for part, shape, dtype in zip(parts, self.shapes, self.dtypes)])
        return map_state(lambda _: next(leaves), self.example)


class PackedLayer:
    """f of a state as a map of (B, d), with f's own `jacobian`, `noise` and `vjp` where it offers them."""

    def __init__(self, f: Layer, packing: Packing) -> None:
        self.f, self.packing = f, packing
        if getattr(f, "jacobian", None) is not None:
            self.jacobian = lambda flat: f.jacobian(packing.unpack(flat))
        if getattr(f, "noise", None) is not None:
            self.noise = _noise_of_states(f.noise, packing)
        if getattr(f, "vjp", None) is not None:
            self.vjp = lambda flat, v: packing.pack(f.vjp(packing.unpack(flat), packing.unpack(v)))

    def __call__(self, flat: Tensor) -> Tensor:
        return self.packing.pack(self.f(self.packing.unpack(flat)))


def _noise_of_states(noise: Any, packing: Packing) -> Any:
    """A `noise(z, f_z)` of states as one of (B, d); what is no function stays what it is."""
    return (lambda z, f_z: noise(packing.unpack(z), packing.unpack(f_z))) if callable(noise) else noise


def as_one(f: Layer, z: State) -> tuple[Layer, Tensor, Callable[[Tensor], State]]:
    """f and z as they are where z is one tensor, else of one tensor (B, d); and the way back.

    Raises:
        ValueError: z is no state.
    """
    if isinstance(z, Tensor):
        _check_start(z)
        return f, z, lambda flat: flat
    packing = Packing(z)
    return PackedLayer(f, packing), packing.pack(z), packing.unpack


def check_value(f_z: Any, shape: torch.Size) -> Tensor:
    """f's answer, if it is one.

    Raises:
        ValueError: f made no real floating-point tensor of that shape.
    """
    if not isinstance(f_z, Tensor):
        raise ValueError(f"f must return a tensor of the shape of z, {tuple(shape)}, not {type(f_z).__name__}")
    if not f_z.is_floating_point():
        raise ValueError(f"f must return real floating-point values, not {f_z.dtype}")
    if f_z.shape != shape:
        raise ValueError(f"f must keep the shape of z: it made {tuple(f_z.shape)} of {tuple(shape)}")
    return f_z


def _check_start(z0: Any) -> None:
    if not isinstance(z0, Tensor):
        raise ValueError(f"z0 must be a tensor, or a tuple, list or dict of them, not {type(z0).__name__}")
    if z0.dim() == 0 or not z0.is_floating_point():
        raise ValueError(f"z0 must be a real (B, ...) tensor, not {tuple(z0.shape)} of {z0.dtype}")


def _leaves(z: State) -> list:
    if isinstance(z, dict):
        return [leaf for value in z.values() for leaf in _leaves(value)]
    if isinstance(z, (tuple, list)):
        return [leaf for value in z for leaf in _leaves(value)]
    return [z]


def _leaves_like(z: State, example: State, who: str) -> list:
    """The leaves of z in the order of the example's.

    Raises:
        ValueError: z is built otherwise.
    """
    if isinstance(example, dict):
        if not isinstance(z, dict) or set(z) != set(example):
            raise ValueError(f"{who} must keep the structure of z: a dict of {', '.join(map(str, example))}")
        return [leaf for key in example for leaf in _leaves_like(z[key], example[key], who)]
    if isinstance(example, (tuple, list)):
        if not isinstance(z, (tuple, list)) or len(z) != len(example):
            raise ValueError(f"{who} must keep the structure of z: {len(example)} entries")
        return [leaf for a, b in zip(z, example) for leaf in _leaves_like(a, b, who)]
    return [z]


def map_states(function: Callable, z: State, other: State) -> State:
    """function(a, b) for the tensors a of z and b of another state of its structure; z where it has none."""
    leaves, others = _leaves(z), _leaves(other)
    if len(leaves) != len(others):
        return z
    pairs = iter(zip(leaves, others))
    return map_state(lambda _: function(*next(pairs)), z)


def map_state(function: Callable, z: State) -> State:
    """The state with every tensor replaced; named tuples stay what they are."""
    if isinstance(z, dict):
        return type(z)((key, map_state(function, value)) for key, value in z.items())
    if isinstance(z, tuple) and hasattr(z, "_fields"):
        return type(z)(*(map_state(function, value) for value in z))
    if isinstance(z, (tuple, list)):
        return type(z)(map_state(function, value) for value in z)
    return function(z)
