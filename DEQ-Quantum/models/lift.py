"""From readouts r to the state z = E r, and back: repeated as the paper's up-sampling does, or by a fixed matrix.

E is written here and nowhere else: whoever needs E^T, E^T E or r itself asks the lift.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from models.table import LIFTS

PROJECTION_SEED = 1111


class Repeat:
    """E: each of n readouts `copies` times in a row, so that ||E r|| = sqrt(copies) ||r||.

    Section 3.2 of Schleich et al. (arXiv 2410.23940): n_wires readouts become n_wires^2 numbers. The released code takes
    the factor from the number of classes, and so works for 4 / 4 and 10 / 10 only.

    Args:
        n: readouts.
        copies: of each.

    Attributes:
        sees_state: whether heads read z, as in the paper, or else r.
    """

    sees_state = True

    def __init__(self, n: int, copies: int):
        self.n, self.copies = n, copies

    @property
    def width(self) -> int:
        """Length of z."""
        return self.n * self.copies

    @property
    def shrinking(self) -> float:
        """||r|| / ||E r||."""
        return self.copies**-0.5

    def __call__(self, r: Tensor) -> Tensor:
        """E r: (..., n) to (..., n * copies)."""
        return r.repeat_interleave(self.copies, dim=-1)

    def transpose(self, values: Tensor, dim: int = -1) -> Tensor:
        """E^T, sums of neighbours, along a dimension of length n * copies, which becomes n."""
        dim %= values.dim()
        return values.unflatten(dim, (self.n, self.copies)).sum(dim + 1)

    def gram(self, r: Tensor) -> Tensor:
        """E^T E r: (..., n) to itself."""
        return self.copies * r

    def readouts(self, z: Tensor) -> Tensor:
        """r of a state z = E r: (..., n * copies) to (..., n)."""
        return z[..., :: self.copies]

    def nearest(self, z: Tensor) -> Tensor:
        """r whose E r is nearest to any z, by least squares means of neighbours: (..., n * copies) to (..., n)."""
        return self.transpose(z) / self.copies


class MatrixLift(nn.Module):
    """E as a fixed matrix of full rank, which need not be taller than wide. Heads read r, of which nothing is lost.

    Args:
        matrix: (width, n), in float64.

    Raises:
        ValueError: it is no such matrix.
    """

    sees_state = False

    def __init__(self, matrix: Tensor):
        super().__init__()
        if matrix.dim() != 2 or torch.linalg.matrix_rank(matrix) < min(matrix.shape):
            raise ValueError(f"a lift is a matrix of full rank, got {tuple(matrix.shape)}")
        self.width, self.n = matrix.shape
        # ||E d|| <= tol wherever ||d|| <= shrinking tol
        self.shrinking = 1 / float(torch.linalg.matrix_norm(matrix, 2))
        self.register_buffer("matrix", matrix.clone())
        self.register_buffer("inverse", torch.linalg.pinv(matrix), persistent=False)

    def forward(self, r: Tensor) -> Tensor:
        """E r: (..., n) to (..., width)."""
        return r @ self.matrix.T

    def transpose(self, values: Tensor, dim: int = -1) -> Tensor:
        """E^T along a dimension of length width, which becomes n."""
        return (values.movedim(dim, -1) @ self.matrix).movedim(-1, dim)

    def gram(self, r: Tensor) -> Tensor:
        """E^T E r: (..., n) to itself."""
        return self(r) @ self.matrix

    def readouts(self, z: Tensor) -> Tensor:
        """r of a state z = E r; where n exceeds the width the shortest such r: (..., width) to (..., n)."""
        return z @ self.inverse.T

    def nearest(self, z: Tensor) -> Tensor:
        """r whose E r is nearest to any z, the shortest of them: (..., width) to (..., n)."""
        return self.readouts(z)


Lift = Repeat | MatrixLift


def interpolation(n: int, width: int) -> MatrixLift:
    """The readouts as equally spaced points of a polygon, which is read off at `width` points, ends at ends."""
    points = interpolate(torch.eye(n, dtype=torch.float64).unsqueeze(0), width, mode="linear", align_corners=True)
    return MatrixLift(points[0].T)


def projection(n: int, width: int) -> MatrixLift:
    """A random matrix whose shorter side is orthogonal, scaled so that entries of z are as large as readouts on average."""
    normal = torch.randn(
        max(n, width), min(n, width), generator=torch.Generator().manual_seed(PROJECTION_SEED), dtype=torch.float64
    )
    q, upper = torch.linalg.qr(normal)
    q = q * upper.diagonal().sign()  # one matrix, whatever signs the library gives
    return MatrixLift(max(1.0, width / n) ** 0.5 * (q if width >= n else q.T))


def make_lift(name: str, n: int, width: int) -> Lift:
    """A lift of n readouts to `width` numbers.

    Args:
        name: "repeat", "interpolate" or "projection"; "auto": each readout repeated, as in the paper, where that comes out
            even, else a projection.

    Raises:
        ValueError: another name, or "repeat" where it does not come out even.
    """
    if name not in LIFTS:
        raise ValueError(f"lift must be one of {', '.join(LIFTS)}, got {name!r}")
    if name == "repeat" and width % n:
        raise ValueError(f"{n} readouts cannot be repeated to the {width} inputs of the encoding: use another lift")
    if name in ("auto", "repeat") and not width % n:
        return Repeat(n, width // n)
    return interpolation(n, width) if name == "interpolate" else projection(n, width)
