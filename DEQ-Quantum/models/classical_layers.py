"""Layers without a circuit, with the same face as the quantum one: what the quantum layer is compared with.

`TanhLayer` is the textbook deep equilibrium layer. `FeatureLayer` gives the features themselves, whatever z is, so
that a linear classifier goes through the same loop. Their values do not repeat (r = z), they need no compiling, and both
state their Jacobians in closed form: bound to a batch, one object is f and h alike.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from engines.protocol import ReadoutMap
from engines.side_by_side import add_times_own, times_own
from models.layer import Layer, check_batch
from models.lift import Repeat

START_NORM = 0.5  # spectral norm of W at the start; any below 1 makes f a contraction, since tanh's slope is at most 1


class _DenseLayer(Layer):
    """A layer that binds batches itself."""

    def __init__(self, n_inputs: int, n_units: int):
        super().__init__(n_inputs, Repeat(n_units, 1))

    def compile(self) -> "_DenseLayer":
        """Nothing to prepare."""
        return self


class _BoundDense(ReadoutMap):
    """f and h of a dense layer."""

    def reduced(self) -> "_BoundDense":
        """The same map: its values do not repeat."""
        return self


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
            ValueError: see `Layer.check`.
        """
        self.check(x)
        return BoundTanh(self.w, x @ self.u.T)

    def compile_several(self, layers: Sequence["TanhLayer"]) -> "SeveralTanh":
        """S layers of this size."""
        return SeveralTanh(layers)


class SeveralTanh:
    """Layers side by side.

    Args:
        layers: of one size.
    """

    def __init__(self, layers: Sequence[TanhLayer]):
        self.w, self.u = (torch.stack([getattr(layer, name) for layer in layers]) for name in ("w", "u"))

    def bind(self, x: Tensor) -> "BoundTanh":
        """f(z) for S runs of samples, (S B, n_inputs)."""
        return BoundTanh(self.w, times_own(x, self.u.mT))


class BoundTanh(_BoundDense):
    """z -> tanh(W z + injection) for a batch: (B, n_units) to itself; W is one of all, or one of each run of samples."""

    def __init__(self, w: Tensor, injection: Tensor):
        self.w = w
        self.injection = injection

    def __call__(self, z: Tensor) -> Tensor:
        check_batch("z", z, self.w.shape[-1], self.injection, len(self.injection))
        return torch.tanh(add_times_own(self.injection, z, self.w.mT))

    def jacobian(self, z: Tensor) -> Tensor:
        """diag(1 - f(z)^2) W per sample: (B, n_units, n_units)."""
        slope = (1 - self(z).square()).unsqueeze(-1)
        if self.w.dim() == 2:
            return slope * self.w
        return (slope.unflatten(0, (len(self.w), -1)) * self.w.unsqueeze(1)).flatten(0, 1)

    def vjp(self, z: Tensor, v: Tensor) -> Tensor:
        """v^T df/dz, differentiable in W and U: (B, n_units)."""
        return times_own(v * (1 - self(z).square()), self.w)


class FeatureLayer(_DenseLayer):
    """f(z; x) = x: one layer, many layers and the equilibrium are all x."""

    def __init__(self, n_inputs: int):
        super().__init__(n_inputs, n_inputs)

    def compile_several(self, layers: Sequence["FeatureLayer"]) -> "FeatureLayer":
        """One is as good as several."""
        return self

    def bind(self, x: Tensor) -> "BoundFeatures":
        """f(z) for one batch x of shape (B, n_inputs).

        Raises:
            ValueError: see `Layer.check`.
        """
        self.check(x)
        return BoundFeatures(x)


class BoundFeatures(_BoundDense):
    """z -> x for a batch: (B, n_inputs) to itself."""

    def __init__(self, x: Tensor):
        self.x = x

    def __call__(self, z: Tensor) -> Tensor:
        check_batch("z", z, self.x.shape[1], self.x, len(self.x))
        return self.x

    def jacobian(self, z: Tensor) -> Tensor:
        """Zero: (B, n_inputs, n_inputs)."""
        return z.new_zeros(*z.shape, z.shape[1])

    def vjp(self, z: Tensor, v: Tensor) -> Tensor:
        """Zero: (B, n_inputs)."""
        return torch.zeros_like(v)
