"""Layers without a circuit, with the same face as the quantum one: what the quantum layer is compared with.

`TanhLayer` is the textbook deep equilibrium layer. `FeatureLayer` gives the features themselves, whatever z is, so
that a linear classifier goes through the same loop. Both state their Jacobians in closed form.
"""

import torch
from torch import Tensor, nn

START_NORM = 0.5  # spectral norm of W at the start; any below 1 makes f a contraction, since tanh's slope is at most 1


class _DenseLayer(nn.Module):
    """A layer whose values do not repeat (r = z) and that needs no compiling."""

    copies = 1

    def __init__(self, n_inputs: int, n_units: int):
        super().__init__()
        self.n_inputs = n_inputs
        self.n_units = n_units

    def lift(self, r: Tensor) -> Tensor:
        """The state itself: (B, n_units)."""
        return r

    def compile(self) -> "_DenseLayer":
        """Nothing to prepare: the layer binds batches itself."""
        return self

    def _check(self, x: Tensor) -> None:
        if x.dim() != 2 or x.shape[1] != self.n_inputs:
            raise ValueError(f"x must have shape (B, {self.n_inputs}), got {tuple(x.shape)}")


class TanhLayer(_DenseLayer):
    """f(z; x) = tanh(W z + U x).

    Args:
        n_inputs: features of x.
        n_units: width of z.

    W starts as a random matrix scaled to spectral norm 1/2, so that at the start f is a contraction and every x has
    exactly one equilibrium; nothing holds it there, as nothing holds the quantum layer. U starts uniform in
    +-1/sqrt(n_inputs). Both come from torch's global generator.
    """

    def __init__(self, n_inputs: int, n_units: int):
        super().__init__(n_inputs, n_units)
        w = torch.randn(n_units, n_units)
        self.w = nn.Parameter(w * (START_NORM / torch.linalg.matrix_norm(w, 2)))
        self.u = nn.Parameter(torch.empty(n_units, n_inputs).uniform_(-1, 1) * n_inputs**-0.5)

    def bind(self, x: Tensor) -> "BoundTanh":
        """f(z) for one batch x of shape (B, n_inputs).

        Raises:
            ValueError: x has another number of columns.
        """
        self._check(x)
        return BoundTanh(self.w, x @ self.u.T)


class BoundTanh:
    """z -> tanh(W z + injection) for a batch: (B, n_units) to itself."""

    def __init__(self, w: Tensor, injection: Tensor):
        self.w = w
        self.injection = injection

    def __call__(self, z: Tensor) -> Tensor:
        return torch.tanh(torch.addmm(self.injection, z, self.w.T))

    def reduced(self) -> "BoundTanh":
        """The same map: its values do not repeat."""
        return self

    def jacobian(self, z: Tensor) -> Tensor:
        """diag(1 - f(z)^2) W per sample: (B, n_units, n_units)."""
        return (1 - self(z).square()).unsqueeze(-1) * self.w

    def vjp(self, z: Tensor, v: Tensor) -> Tensor:
        """v^T df/dz, differentiable in W and U: (B, n_units)."""
        return (v * (1 - self(z).square())) @ self.w


class FeatureLayer(_DenseLayer):
    """f(z; x) = x: one layer, many layers and the equilibrium are all x."""

    def __init__(self, n_inputs: int):
        super().__init__(n_inputs, n_inputs)

    def bind(self, x: Tensor) -> "BoundFeatures":
        """f(z) for one batch x of shape (B, n_inputs).

        Raises:
            ValueError: x has another number of columns.
        """
        self._check(x)
        return BoundFeatures(x)


class BoundFeatures:
    """z -> x for a batch: (B, n_inputs) to itself."""

    def __init__(self, x: Tensor):
        self.x = x

    def __call__(self, z: Tensor) -> Tensor:
        return self.x

    def reduced(self) -> "BoundFeatures":
        """The same map: its values do not repeat."""
        return self

    def jacobian(self, z: Tensor) -> Tensor:
        """Zero: (B, n_inputs, n_inputs)."""
        return z.new_zeros(*z.shape, z.shape[1])

    def vjp(self, z: Tensor, v: Tensor) -> Tensor:
        """Zero: (B, n_inputs)."""
        return torch.zeros_like(v)
