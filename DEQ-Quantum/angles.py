"""Features that are angles: each divided by the largest modulus that it has in the training split, as Alam et al. do.

ICCAD 2021, arXiv 2109.02862: columns are divided by their largest modulus and used as radians, without a factor of pi.
"""

from collections.abc import Callable

import numpy as np
from torch import Tensor


class Angles:
    """Features of a kind, each in [-scale, scale] over the images given here.

    Args:
        reduce: images to features, float32 (N, D).
        images: the training split and no other.
        scale: in radians, the largest angle in modulus.
    """

    def __init__(self, reduce: Callable[[np.ndarray], Tensor], images: np.ndarray, scale: float):
        self.reduce = reduce
        self.factors = scale / reduce(images).abs().amax(0)

    def __call__(self, images: np.ndarray) -> Tensor:
        """As many images as you like to (N, D) in radians; those of other splits may be somewhat larger."""
        return self.reduce(images) * self.factors
