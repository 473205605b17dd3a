"""From readouts r to the state z = E r, and back: each readout is repeated, as the paper's up-sampling does.

E is written here and nowhere else: whoever needs E^T, E^T E or r itself asks the lift.
"""

from torch import Tensor


class Repeat:
    """E: each of n readouts `copies` times in a row, so that ||E r|| = sqrt(copies) ||r||.

    Section 3.2 of Schleich et al. (arXiv 2410.23940): n_wires readouts become n_wires^2 numbers. The released code takes
    the factor from the number of classes, and so works for 4 / 4 and 10 / 10 only.

    Args:
        n: readouts.
        copies: of each.
    """

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
