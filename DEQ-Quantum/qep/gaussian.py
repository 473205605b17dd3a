"""The ground states of coupled oscillators as Gaussians, and the observables of positions that they answer for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from qep.inputs import check_shape
from qep.states import State

POSITION = "position"  # the only measurement setting: positions commute


class PositionObservables:
    """Of n oscillators: every r_j, every r_j^2, and (r_j - r_k)^2 of every edge.

    Args:
        n: number of oscillators.
        edges: pairs (j, k).
        device: where states live.

    Attributes:
        names: of the K observables, in this order.
        parts: how many there are of each kind.
        differences: rows r_j - r_k of every edge, (E, n).
        bases: see `State`.
    """

    def __init__(self, n: int, edges: Sequence[tuple[int, int]], device: torch.device | str = "cpu"):
        self.names = [
            *(f"r{j}" for j in range(n)),
            *(f"r{j}^2" for j in range(n)),
            *(f"(r{j}-r{k})^2" for j, k in edges),
        ]
        self.parts = (n, n, len(edges))
        self.differences = torch.zeros(len(edges), n, dtype=torch.float64, device=device)
        for row, (j, k) in zip(self.differences, edges):
            row[j], row[k] = 1.0, -1.0
        self.bases = {POSITION: torch.arange(len(self.names), device=device)}

    def expectations(self, mean: Tensor, covariance: Tensor) -> Tensor:
        """<O_k>, linear in the second moments: (B, n), (B, n, n) -> (B, K); differentiable, real or complex.

        Raises:
            ValueError: other shapes.
        """
        n = self.parts[0]
        check_shape("mean", mean, ("B", n), f"{n} oscillators")
        check_shape("covariance", covariance, (len(mean), n, n), f"mean {tuple(mean.shape)}")
        second = covariance + mean.unsqueeze(-1) * mean.unsqueeze(-2)
        squares = second.diagonal(dim1=-2, dim2=-1)
        rows = self.differences.to(second.dtype)
        return torch.cat([mean, squares, ((rows @ second) * rows).sum(-1)], -1)

    def values(self, r: Tensor) -> Tensor:
        """The observables at given positions: (..., n) -> (..., K)."""
        return torch.cat([r, r.square(), (r @ self.differences.mT).square()], -1)


@dataclass(frozen=True)
class Gaussian(State):
    """Ground states as Gaussians of the positions.

    Attributes:
        observables: that can be asked for.
        mean, covariance: of the positions, (B, n) and (B, n, n).
        energy, gap, gap_tol: see `State`.
    """

    observables: PositionObservables
    mean: Tensor
    covariance: Tensor
    energy: Tensor
    gap: Tensor
    gap_tol: float

    @property
    def bases(self) -> Mapping[str, Tensor]:
        return self.observables.bases

    @cached_property
    def expectations(self) -> Tensor:
        return self.observables.expectations(self.mean, self.covariance)

    def sample(self, basis: str, shots: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        mean, (n_samples, n) = self.mean, self.mean.shape
        root = torch.linalg.cholesky(self.covariance)
        normal = torch.randn(n_samples, shots, n, dtype=mean.dtype, device=mean.device, generator=generator)
        values = self.observables.values(mean.unsqueeze(1) + normal @ root.mT)
        return values.mean(1), values.var(1)

    def __getitem__(self, chosen: Tensor) -> "Gaussian":
        return replace(
            self,
            mean=self.mean[chosen],
            covariance=self.covariance[chosen],
            energy=self.energy[chosen],
            gap=self.gap[chosen],
        )
