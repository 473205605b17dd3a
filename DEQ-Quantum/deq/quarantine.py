"""Keeps samples that have failed out of the gradient of what all samples share.

Zero times NaN is NaN: a sample whose f is NaN spoils the gradient of a shared parameter even if its own incoming
gradient is zero, since a product like z^T grad sums over the batch. Two things keep it out, and neither changes a
bit of the other samples:
    - what f's graph saves for its backward pass has no inf or NaN: they are replaced by a number;
    - what flows through that graph for a failed sample is zero where it would not be finite, as behind a
      derivative that has a pole there.
What a layer computed from a NaN input before f saw it is not f's graph: such inputs are for the caller to replace.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.graph import Node, saved_tensors_hooks

# no pole of the derivatives of log, sqrt, 1/x, acos, atanh
HARMLESS = 0.5


def finite_graph() -> saved_tensors_hooks:
    """A context: graphs that are made in it save finite values only."""

    def pack(saved: Tensor) -> Tensor:
        if saved.requires_grad and saved.is_leaf or not saved.is_floating_point():
            return saved
        return torch.where(saved.detach().isfinite(), saved.detach(), HARMLESS)

    return saved_tensors_hooks(pack, lambda saved: saved)


def silence(f_z: Tensor, z: Tensor, failed: Tensor) -> None:
    """From now on nothing non-finite flows for the failed samples (B,) through the graph that leads from z to f_z."""

    def stop(gradients: tuple) -> tuple:
        return tuple(_without_non_finite(gradient, failed) for gradient in gradients)

    for node in _nodes_between(z, f_z):
        node.register_prehook(stop)


def _without_non_finite(gradient: Tensor | None, failed: Tensor) -> Tensor | None:
    """The gradient (n B, ...), batch first, with zeros for what is not finite in the failed samples."""
    if gradient is None or gradient.dim() == 0 or len(gradient) == 0 or len(gradient) % len(failed):
        return gradient
    rows = failed.repeat_interleave(len(gradient) // len(failed)).view(-1, *[1] * (gradient.dim() - 1))
    return torch.where(rows & ~gradient.isfinite(), 0.0, gradient)


def _nodes_between(z: Tensor, f_z: Tensor) -> list[Node]:
    """The nodes that were made after z on the way to f_z, what f_z depends on besides z included."""
    assert z.grad_fn is not None  # it is the implicit step's, or a variable's own copy
    first = z.grad_fn._sequence_nr()
    found: dict[Node, None] = {}
    open_nodes = [f_z.grad_fn]
    while open_nodes:
        node = open_nodes.pop()
        # the nodes that collect a leaf's gradient say they are the newest of all
        if node is None or node in found or node._sequence_nr() < first or node.name().endswith("AccumulateGrad"):
            continue
        found[node] = None
        open_nodes.extend(next_node for next_node, _ in node.next_functions)
    return list(found)
