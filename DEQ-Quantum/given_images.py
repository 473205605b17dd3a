"""Whole images as what the works compared with encode: pixels in [0, 1], in their order, or compressed states.

West et al. (arXiv 2309.09424) take all pixels as amplitudes; Dilip et al. (arXiv 2204.11170) FRQI of 32 x 32 pixels row by
row, also compressed to matrix product states; Kiwit et al. (arXiv 2505.03399) number them by blocks of blocks. Which end of
Dilip's wires is measured is not known: here they run from the finest bits to the coarsest, which are measured.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data_settings import IMAGES, SIDE

CHUNK = 2048  # images: bounds the memory of states in float64


def image_features(images: np.ndarray, name: str, n_wires: int, bond_dimension: int) -> Tensor:
    """Features of images, float32 (N, D).

    Args:
        images: uint8 (N, S, S), grey.
        name: of `IMAGES`. "pixels": the largest square image up to 28 x 28 of which two
            pixels an amplitude fit; "frqi_reversed":
            D = 2^(n_wires - 1) row by row, with the bits of their numbers in reverse; "frqi_blocks": by blocks of blocks;
            "compressed_frqi": the D = 2^n_wires amplitudes of `compressed` states of "frqi_reversed", the colour first.
        n_wires: qubits.
        bond_dimension: of "compressed_frqi".

    Raises:
        ValueError: another name, or images of another kind; floats would be scaled twice.
    """
    if name not in IMAGES:
        raise ValueError(f"features of whole images are {', '.join(IMAGES)}, not {name!r}")
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise ValueError(f"images must be uint8 (N, S, S), got {images.dtype} {images.shape}")
    if name == "pixels":
        rows = columns = min(SIDE, math.isqrt(2 ** (n_wires + 1)))
    else:
        rows, columns = 2 ** ((n_wires - 1) // 2), 2 ** (n_wires // 2)
    parts = []
    for start in range(0, len(images), CHUNK):
        pixels = resized(images[start : start + CHUNK], rows, columns)
        pixels = by_blocks(pixels) if name == "frqi_blocks" else pixels.flatten(1)
        if name in ("frqi_reversed", "compressed_frqi"):
            pixels = reversed_bits(pixels)
        if name == "compressed_frqi":
            pixels = compressed(frqi_amplitudes(pixels.double()), n_wires, bond_dimension).float()
        parts.append(pixels)
    return torch.cat(parts) if parts else torch.empty(0, 2**n_wires)


def resized(images: np.ndarray, rows: int, columns: int) -> Tensor:
    """Pixels from 0 to 1, float32 (N, rows, columns): bilinear, antialiased, of images (N, S, S) of another size."""
    pixels = torch.from_numpy(images).unsqueeze(1).float() / 255
    if pixels.shape[-2:] != (rows, columns):
        pixels = F.interpolate(pixels, size=(rows, columns), mode="bilinear", antialias=True)
    return pixels.squeeze(1)


def by_blocks(pixels: Tensor) -> Tensor:
    """Pixels (N, 2^a, 2^b), b = a or a + 1, numbered by quadrant, quadrant of the quadrant, ...: (N, 2^(a + b)).

    The bits of row and column take turns, so that neighbouring numbers are neighbouring pixels. Of an odd number of bits
    the first is the column's.
    """
    a, b = (int(math.log2(size)) for size in pixels.shape[1:])
    rows, columns = list(range(1, 1 + a)), list(range(1 + a, 1 + a + b))
    first = columns[: b - a]
    order = [axis for pair in zip(rows, columns[b - a :]) for axis in pair]
    return pixels.view(len(pixels), *(2,) * (a + b)).permute(0, *first, *order).flatten(1)


def reversed_bits(pixels: Tensor) -> Tensor:
    """Pixels (N, 2^m) renumbered by their numbers' bits in reverse."""
    m = pixels.shape[1].bit_length() - 1
    return pixels.view(len(pixels), *(2,) * m).permute(0, *range(m, 0, -1)).flatten(1)


def frqi_amplitudes(pixels: Tensor) -> Tensor:
    """Amplitudes of FRQI with the colour first: (N, P) to (N, 2 P)."""
    angles = math.pi / 2 * pixels
    return torch.cat([angles.cos(), angles.sin()], dim=1) / pixels.shape[1] ** 0.5


def compressed(states: Tensor, n_wires: int, bond_dimension: int) -> Tensor:
    """Real states as matrix product states of that bond dimension, normalised: (N, 2^n_wires) to itself.

    Wire by wire from the first, the left part's singular vectors of the largest singular values are kept, as Dilip et al. do.
    The left part is orthonormal throughout, so every step drops the least that it can.
    """
    rest = states.unsqueeze(1)  # (N, bond, what is on its right)
    isometries = []
    for _ in range(n_wires - 1):
        matrix = rest.reshape(len(states), rest.shape[1] * 2, -1)
        _, vectors = torch.linalg.eigh(matrix @ matrix.mT)  # in rising order
        kept = vectors[..., -bond_dimension:]
        isometries.append(kept)
        rest = kept.mT @ matrix
    for kept in reversed(isometries):
        rest = kept @ rest
        rest = rest.reshape(len(states), rest.shape[1] // 2, -1)
    flat = rest.flatten(1)
    return flat / flat.norm(dim=1, keepdim=True)
