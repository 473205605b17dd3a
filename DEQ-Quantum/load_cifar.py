"""CIFAR-10 through torchvision, in grey, as plain arrays (section 3.1 of the QDEQ paper).

The paper's circuit sees brightness only, so colour is dropped once, here: ITU-R 601 luma, which is Pillow's
mode "L". The images stay 32x32; dataset.py resizes them, chooses classes, splits and pools.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets import CIFAR10


def to_grey(images: np.ndarray) -> np.ndarray:
    """Convert colour images to ITU-R 601 luma.

    Args:
        images: uint8 (N, H, W, 3), red, green, blue.

    Returns:
        uint8 (N, H, W).
    """
    n, height, width, _ = images.shape
    # one tall picture: a single call of Pillow instead of one per image
    tall = Image.fromarray(np.ascontiguousarray(images).reshape(n * height, width, 3))
    return np.array(tall.convert("L")).reshape(n, height, width)


def load_cifar10(root: Path) -> dict[str, np.ndarray]:
    """Download CIFAR-10, or read it where `root` already has it, and convert it to grey.

    Args:
        root: folder for torchvision's files.

    Returns:
        `train_images` uint8 (50000, 32, 32), `train_labels` uint8 (50000,), `test_images` uint8
        (10000, 32, 32), `test_labels` uint8 (10000,).

    Raises:
        OSError, RuntimeError, http.client.HTTPException: torchvision could not get the files.

    Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    arrays = {}
    for half in ("train", "test"):
        source = CIFAR10(root, train=half == "train", download=True)
        arrays[f"{half}_images"] = to_grey(source.data)
        arrays[f"{half}_labels"] = np.array(source.targets, dtype=np.uint8)
    return arrays
