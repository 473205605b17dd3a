"""scikit-learn's handwritten digits: real data that is installed with the library, nothing to download.

1797 images of 8x8 pixels, values 0..16, a part of UCI's Optical Recognition of Handwritten Digits. The paper
does not use them: they are QDEQ's quick start. There is no standard test set; the last 360 images in the
library's order are ours: a random draw would put every writer into training and test alike.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

N_TEST = 360
SIDE = 8
MAX_VALUE = 16


def load_digits() -> dict[str, np.ndarray]:
    """Load the digits, grey values stretched from 0..16 to 0..255.

    Returns:
        `train_images` uint8 (1437, 8, 8), `train_labels` uint8 (1437,), `test_images` uint8 (360, 8, 8) and
        `test_labels` uint8 (360,), in the library's order.

    Raises:
        ImportError: scikit-learn is not installed.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
    """
    # scikit-learn's own file, 64 pixels and the label a row; its import would take seconds
    library = find_spec("sklearn")
    if library is None:
        raise ImportError("the digits data set comes with scikit-learn, which is not installed; see requirements.txt")
    rows = np.loadtxt(Path(library.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    images = np.rint(rows[:, :-1].reshape(-1, SIDE, SIDE) * (255 / MAX_VALUE)).astype(np.uint8)
    labels = rows[:, -1].astype(np.uint8)
    return {
        "train_images": images[:-N_TEST],
        "train_labels": labels[:-N_TEST],
        "test_images": images[-N_TEST:],
        "test_labels": labels[-N_TEST:],
    }
