"""What the classifier asks of a layer f(z; x), quantum or not.

A layer is compiled once for its present parameters and bound to any number of batches; solvers see the bound
f(z). Where values of f repeat, z = lift(r), the solve runs in the space of the reduced state r.
"""

from typing import Protocol

from torch import Tensor


class BoundLayer(Protocol):
    """f(z) = f(z; x) for a fixed batch x. May offer `vjp(z, v)`, as `deq.hutchinson_jacobian_loss` uses it."""

    def __call__(self, z: Tensor) -> Tensor:
        """(B, n_units * copies) to itself."""

    def reduced(self):
        """h(r) with f(lift(r)) = lift(h(r)): (B, n_units) to itself.

        May offer `jacobian(r)`, and `vjp(r, w)`: w^T dh/dz at z = lift(r), (B, n_units) twice to
        (B, n_units * copies), differentiable in all that f closes over.
        """


class CompiledLayer(Protocol):
    """A layer at its present parameters, under autograd."""

    def bind(self, x: Tensor) -> BoundLayer:
        """f for one batch of features."""


class Layer(Protocol):
    """What the classifier asks of a layer, which is a torch module besides.

    Attributes:
        n_units: numbers in the reduced state r.
        copies: how often z = lift(r) repeats each of them in a row.
    """

    n_units: int
    copies: int

    def compile(self) -> CompiledLayer:
        """Meet the parameters, once for any number of batches."""

    def lift(self, r: Tensor) -> Tensor:
        """(B, n_units) to (B, n_units * copies)."""
