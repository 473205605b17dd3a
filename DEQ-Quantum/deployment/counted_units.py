"""A layer without a circuit whose units are read as qubits are: each value the mean of S outcomes +1 and -1.

The control of every statement about shots: noise of the same size and law in a classical equilibrium. Outcomes of
different units are independent, where those of a circuit's wires come from one state.
"""

import torch
from torch import Tensor

from engines.protocol import ReadoutMap
from hardware.shots import counting_error
from models.classical_layers import TanhLayer
from utils import seeds


class CountedUnits:
    """A `TanhLayer`, compiled; what is random in a call is a function of (seed, call).

    Args:
        layer: its values lie in [-1, 1].
        shots: of each unit, one or more.
        seed: of all that is drawn.

    Attributes:
        calls: so far, of batches.
    """

    def __init__(self, layer: TanhLayer, shots: int, seed: int):
        self.layer, self.shots, self.seed = layer, shots, seed
        self.calls = 0

    def bind(self, x: Tensor) -> "BoundCounted":
        """f(z) for one batch x of shape (B, n_inputs).

        Raises:
            ValueError: see `Layer.check`.
        """
        return BoundCounted(self, self.layer.bind(x))

    @torch.no_grad()
    def counted(self, values: Tensor) -> Tensor:
        """Means over the shots of outcomes whose means are these, (B, n_units) each; of a NaN NaN."""
        generator = seeds.generator(self.seed, f"units {self.calls}", 0, values.device)
        self.calls += 1
        failed = values.isnan()
        chance = (0.5 + 0.5 * torch.where(failed, 0.0, values.double())).clamp(0, 1)
        ones = torch.binomial(torch.full_like(chance, self.shots), chance, generator=generator)
        return torch.where(failed, torch.nan, 2 * ones / self.shots - 1).to(values)


class BoundCounted(ReadoutMap):
    """f and h of a batch, new at every call; without derivatives."""

    def __init__(self, units: CountedUnits, exact: ReadoutMap):
        self.units, self.exact = units, exact

    def reduced(self) -> "BoundCounted":
        """The same map: its values do not repeat."""
        return self

    def __call__(self, z: Tensor) -> Tensor:
        return self.units.counted(self.exact(z))

    def noise(self, z: Tensor, f_z: Tensor) -> Tensor:
        """How wrong f(z) (B, n_units) is: (B,), as `deq.solve` asks it."""
        return counting_error(f_z, self.units.shots)
