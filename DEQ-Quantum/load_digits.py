"""scikit-learn's handwritten digits: real data that is installed with the library, nothing to download.

1797 images of 8x8 pixels, values 0..16, a part of UCI's Optical Recognition of Handwritten Digits. The paper
does not use them: they are QDEQ's quick start. There is no standard test set; the last 360 images in the
library's order are ours: a random draw would put every writer into training and test alike.
"""

import numpy as np
from sklearn.datasets import load_digits as sklearn_digits

N_TEST = 360
MAX_VALUE = 16


def load_digits() -> dict[str, np.ndarray]:
    """Load the digits, grey values stretched from 0..16 to 0..255.

    Returns:
        `train_images` uint8 (1437, 8, 8), `train_labels` uint8 (1437,), `test_images` uint8 (360, 8, 8) and
        `test_labels` uint8 (360,), in the library's order.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
    """
    digits = sklearn_digits()
    images = np.rint(digits.images * (255 / MAX_VALUE)).astype(np.uint8)
    labels = digits.target.astype(np.uint8)
    return {
        "train_images": images[:-N_TEST],
        "train_labels": labels[:-N_TEST],
        "test_images": images[-N_TEST:],
        "test_labels": labels[-N_TEST:],
    }
