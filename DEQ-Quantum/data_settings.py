"""Which data a run is trained on: names, classes, and their flags. Torch-free, so that --help is quick."""

import os
from dataclasses import dataclass
from pathlib import Path

from runs.settings import BaseSettings, SettingsError, changed, setting
from utils.command_line import shown
from utils.files import REPOSITORY

IMAGE_SIDES = {"mnist": 28, "fashion_mnist": 28, "cifar10": 32, "digits": 8}  # pixels
DATASETS = tuple(IMAGE_SIDES)
GENERATED = {"percolation": {2: (0, 1)}}  # names of data sets that are drawn, and their labels as in `CLASSES`
IMAGES = ("pixels", "frqi_reversed", "frqi_blocks", "compressed_frqi")  # features of whole images, see `given_images`
ANGLES = ("component_angles", "latent_angles")  # features that are angles, several a wire, see `angles`
SIDE = 28  # pixels of the images that features are made of, and the most features of a side
OWN, STATES = "file:", "states:"  # before the path of a data set of one's own, and of states of qubits
CLASSES = {2: (3, 6), 4: (0, 3, 6, 9), 10: tuple(range(10))}  # by their number: labels of the data set


def prefix_of(dataset: str) -> str:
    """What says that a data set is a file, "file:" or "states:"; "" of those that have a name."""
    return next((prefix for prefix in (OWN, STATES) if dataset.startswith(prefix)), "")


@dataclass
class DataSettings(BaseSettings):
    """What `dataset.load_features` is asked for, as far as all kinds of training choose it."""

    num_classes: int = setting(10, "data", "2 (digits 3, 6), 4 (0, 3, 6, 9) or all 10", tuple(CLASSES),
                               at_least=2)
    data_dir: str = setting("", "data", "folder of the cached <dataset>.npz files (default: $QDEQ_DATA, else data "
                            "in the repository)", path=True, surrounding=True)  # fmt: skip

    @property
    def data_folder(self) -> Path:
        """--data_dir, or its default on this machine."""
        return Path(os.path.expanduser(self.data_dir or os.environ.get("QDEQ_DATA") or REPOSITORY / "data"))


@dataclass
class ImageSettings(DataSettings):
    """The same for every data set of images, also one of one's own.

    That has the name "file:NAME.npz", or "states:NAME.npz", and lies in `data_dir`, which no number of a run depends on: it may be elsewhere when
    the run is resumed or evaluated.
    """

    dataset: str = setting("mnist", "data", f"images to classify: {', '.join(DATASETS)} (needs no download), or "
                           "percolation, random grids of n_wires x n_wires sites: are top and bottom joined (drawn, 2 "
                           f"classes), or {OWN}PATH.npz, images or vectors of your own, or {STATES}PATH.npz, states of "
                           "n_wires qubits, as make_states.py writes (relative to --data_dir where that is given)")
    num_classes: int = changed(DataSettings, "num_classes", choices=None, at_most=100_000,
                               help="2 (digits 3, 6), 4 (0, 3, 6, 9) or all 10; 2 of percolation; of images of your own "
                               "all there are")

    classes: str = setting("", "data", "labels to classify, rising, as 0,1,2,3 (default: those of --num_classes)")

    @property
    def chosen_classes(self) -> tuple[int, ...] | None:
        """The labels of --classes; None where there is none."""
        return tuple(map(int, self.classes.split(","))) if self.classes else None

    @property
    def dataset_name(self) -> str:
        """What folders and tags call it: of a file its name without ending."""
        prefix = prefix_of(self.dataset)
        return Path(self.dataset.removeprefix(prefix)).stem if prefix else self.dataset

    @classmethod
    def completed(cls, given: dict) -> dict:
        given = super().completed(given)
        prefix = prefix_of(given.get("dataset", ""))
        if not (prefix and given["dataset"].endswith(".npz")):
            return given
        path = Path(os.path.abspath(given.get("data_dir", "")), os.path.expanduser(given["dataset"].removeprefix(prefix)))
        found = {"dataset": prefix + path.name}
        if given.get("restart") and "data_dir" not in given and not path.exists():
            return given | found  # resumed from elsewhere: the run knows its folder
        return given | found | {"data_dir": str(path.parent)}

    def validate(self) -> list[str]:
        warnings = super().validate()
        if self.classes:
            self._check_chosen()
        if prefix := prefix_of(self.dataset):
            if not self.dataset.endswith(".npz"):
                raise SettingsError(f"--dataset {self.dataset} must name a file, as {prefix}PATH.npz")
            return warnings
        if self.dataset not in (*DATASETS, *GENERATED):
            known = ", ".join((*DATASETS, *GENERATED))
            own = f"{OWN}PATH.npz or {STATES}PATH.npz"
            raise SettingsError(f"--dataset must be one of {known}, or {own}, got {shown(self.dataset)}")
        of_number = GENERATED.get(self.dataset, CLASSES)
        if self.num_classes not in of_number and not self.classes:
            known = "one of " * (len(of_number) > 1) + ", ".join(map(str, of_number))
            raise SettingsError(f"--num_classes must be {known} with --dataset {self.dataset}, got {self.num_classes}")
        return warnings

    def _check_chosen(self) -> None:
        if self.dataset in GENERATED:
            raise SettingsError(f"--dataset {self.dataset} is classified whole: leave out --classes")
        if prefix_of(self.dataset):
            raise SettingsError("--classes chooses labels of the data sets that have names; of a file all are taken: leave it out")
        words = self.classes.split(",")
        if not set(words) <= set(map(str, range(10))) or words != sorted(set(words)) or len(words) != self.num_classes:
            raise SettingsError(
                f"--classes takes --num_classes labels from 0 to 9, rising, with commas between, as 0,1,2,3: got "
                f"{shown(self.classes)} and --num_classes {self.num_classes}"
            )
