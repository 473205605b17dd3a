"""From images to the few numbers that a circuit takes: pooled pixels, or principal components.

Section 3.2 of the QDEQ paper: pixels scaled to [0, 1], normalised with MNIST's constants for every data set, pooled to
n_wires x n_wires. Principal components are for the baseline of Alam et al. 2021. Everything is computed on the CPU, so
that every device sees the same numbers.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data_settings import SIDE

MEAN, STD = 0.1307, 0.3081  # MNIST's, of pixels in [0, 1]
PAPER_POOLING = {4: {"kernel_size": 6}, 10: {"kernel_size": 5, "stride": 3, "padding": 2}}
CHUNK = 4096  # images: bounds the memory of float images
LEAST_VARIANCE = 1e-9  # of a component, as a share of the first one's
ROUND_OFF = 1e-13  # of a variance, as a share of the mean squared norm of the images that it is a difference of


def pool_images(images: np.ndarray, n_wires: int) -> Tensor:
    """Normalise images and pool them to n_wires x n_wires features, as section 3.2 of the paper does.

    Images of another size are first resized to 28x28 (bilinear, antialiased). 4 qubits: mean of 6x6 pixels,
    the last 4 rows and columns unused. 10 qubits: mean of 5x5 pixels at stride 3 with a border of 2 zeros,
    which count and are zeros of the normalised image. Any other number: adaptive average pooling.

    Args:
        images: uint8 (N, S, S), grey.
        n_wires: qubits, 1..28.

    Returns:
        float32 (N, n_wires^2), row by row.
    """
    features = torch.empty(len(images), n_wires**2)
    for rows, pixels in _normalised(images):
        if n_wires in PAPER_POOLING:
            pooled = F.avg_pool2d(pixels, **PAPER_POOLING[n_wires])
        else:
            pooled = F.adaptive_avg_pool2d(pixels, n_wires)
        features[rows] = pooled.flatten(1)
    return features


def pad_vectors(vectors: np.ndarray, width: int) -> Tensor:
    """Vectors as they are, and zeros: (N, D) to float32 (N, width), D <= width."""
    return F.pad(torch.from_numpy(vectors), (0, width - vectors.shape[1]))


def parts_of_states(states: np.ndarray) -> Tensor:
    """Real parts, then imaginary parts of all amplitudes: complex64 (N, D) to float32 (N, 2 D)."""
    return torch.view_as_real(torch.from_numpy(states)).mT.flatten(1)


class PrincipalComponents:
    """The first principal components of a set of images or vectors, each divided by its standard deviation over that set.

    With component i of direction u_i and variance s_i^2 over the images given here, an image p has the features
    u_i^T (p - mean) / s_i: mean 0 and standard deviation 1 over this set. The entry of u_i largest in modulus is
    positive, which settles its sign.

    Args:
        images: uint8 (N, S, S), grey, or float32 vectors (N, D): the training split and no other, so that nothing is
            learnt from the rest.
        n_components: how many.

    Raises:
        ValueError: the images vary in fewer directions, as images that are all alike do.
    """

    def __init__(self, images: np.ndarray, n_components: int):
        size = SIDE**2 if images.ndim == 3 else images.shape[-1]
        total = torch.zeros(size, dtype=torch.float64)
        products = torch.zeros(size, size, dtype=torch.float64)
        for _, flat in _flattened(images):
            total += flat.sum(0)
            products += flat.T @ flat
        self.mean = total / len(images)
        variances, directions = torch.linalg.eigh(products / len(images) - torch.outer(self.mean, self.mean))
        variances, directions = variances.flip(0)[:n_components], directions.flip(1)[:, :n_components]
        least = max(LEAST_VARIANCE * variances[0], ROUND_OFF * products.trace() / len(images))
        if not (variances > least).sum() == n_components:
            alike = "are all alike" if not variances[0] > least else f"vary in fewer than {n_components} directions"
            raise ValueError(f"{len(images)} images {alike}")
        largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
        self.directions = directions * largest.sign() / variances.sqrt()

    def __call__(self, images: np.ndarray) -> Tensor:
        """As many images or vectors as you like, of that size, to float32 (N, n_components)."""
        features = torch.empty(len(images), self.directions.shape[1])
        for rows, flat in _flattened(images):
            features[rows] = ((flat - self.mean) @ self.directions).float()
        return features


def _flattened(images: np.ndarray) -> Iterator[tuple[slice, Tensor]]:
    """Normalised pixels of images, or vectors as they are, in float64 (n, D), in chunks with their rows."""
    if images.ndim == 2 and images.dtype == np.float32:
        for start in range(0, len(images), CHUNK):
            rows = slice(start, min(start + CHUNK, len(images)))
            yield rows, torch.from_numpy(images[rows]).double()
        return
    for rows, pixels in _normalised(images):
        yield rows, pixels.flatten(1).double()


def _normalised(images: np.ndarray) -> Iterator[tuple[slice, Tensor]]:
    """Normalised images of 28x28 in chunks: the rows of the array, and float32 (n, 1, 28, 28).

    Raises:
        ValueError: images of another kind than uint8 (N, S, S); floats would be scaled twice.
    """
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise ValueError(f"images must be uint8 (N, S, S), got {images.dtype} {images.shape}")
    for start in range(0, len(images), CHUNK):
        rows = slice(start, min(start + CHUNK, len(images)))
        pixels = torch.from_numpy(images[rows]).unsqueeze(1).float() / 255
        if pixels.shape[-1] != SIDE:
            pixels = F.interpolate(pixels, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        yield rows, (pixels - MEAN) / STD
