"""Which data a run is trained on: names, classes, and their flags. Torch-free, so that --help is quick."""

import os
from dataclasses import dataclass
from pathlib import Path

from runs.settings import BaseSettings, setting
from utils.files import REPOSITORY

IMAGE_SIDES = {"mnist": 28, "fashion_mnist": 28, "cifar10": 32, "digits": 8}  # pixels
DATASETS = tuple(IMAGE_SIDES)
SIDE = 28  # pixels of the images that features are made of, and the most features of a side
CLASSES = {2: (3, 6), 4: (0, 3, 6, 9), 10: tuple(range(10))}  # by their number: labels of the data set


@dataclass
class DataSettings(BaseSettings):
    """What `dataset.load_features` is asked for, as far as all kinds of training choose it."""

    num_classes: int = setting(10, "data", "2 (digits 3, 6), 4 (0, 3, 6, 9) or all 10", tuple(CLASSES))
    data_dir: str = setting("", "data", "folder of the cached <dataset>.npz files (default: $QDEQ_DATA, else data "
                            "in the repository)", path=True, surrounding=True)  # fmt: skip

    @property
    def data_folder(self) -> Path:
        """--data_dir, or its default on this machine."""
        return Path(os.path.expanduser(self.data_dir or os.environ.get("QDEQ_DATA") or REPOSITORY / "data"))


@dataclass
class ImageSettings(DataSettings):
    """The same for every data set of images."""

    dataset: str = setting("mnist", "data", "images to classify; digits needs no download", DATASETS)
