"""MNIST and Fashion-MNIST through torchvision, as plain arrays (section 3.1 of the QDEQ paper).

torchvision knows the mirrors, the checksums and the idx file format; this module only asks it for both halves
and hands on grey images and labels in their original order. Classes, split and pooling are dataset.py's.
"""

from pathlib import Path

import numpy as np
from torchvision.datasets import MNIST, FashionMNIST

SOURCES = {"mnist": MNIST, "fashion_mnist": FashionMNIST}


def load_mnist(dataset: str, root: Path) -> dict[str, np.ndarray]:
    """Download a data set of the MNIST family, or read it where `root` already has it.

    Args:
        dataset: "mnist" or "fashion_mnist".
        root: folder for torchvision's files.

    Returns:
        `train_images` uint8 (60000, 28, 28), `train_labels` uint8 (60000,), `test_images` uint8
        (10000, 28, 28), `test_labels` uint8 (10000,).

    Raises:
        OSError, RuntimeError, http.client.HTTPException: torchvision could not get the files.

    Source: LeCun et al., Proc. IEEE 86 (1998); Xiao et al., arXiv 1708.07747.
    """
    arrays = {}
    for half in ("train", "test"):
        source = SOURCES[dataset](root, train=half == "train", download=True)
        arrays[f"{half}_images"] = source.data.numpy()
        arrays[f"{half}_labels"] = source.targets.numpy().astype(np.uint8)
    return arrays
