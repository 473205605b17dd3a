"""From a data set's name to what a model trains on: one tensor of features per split.

Section 3.1 of the QDEQ paper: choose the classes, split their training images at random into 80 % training and
20 % validation, keep the standard test set; `features.py` then reduces every image to a few numbers. All of it is
done once and on the CPU, so that every device sees the same numbers. `data_files.py` and `own_data.py` have the images.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from angles import Angles
from autoencoder import Latents, cache_folder
from data_files import DataError, load_images
from data_settings import ANGLES, CLASSES, GENERATED, IMAGES, OWN, STATES, prefix_of
from features import SIDE, PrincipalComponents, pad_vectors, parts_of_states, pool_images
from given_images import image_features
from load_percolation import load_percolation
from own_data import load_own
from own_states import load_states
from utils.seeds import generator

REDUCTIONS = ("pooling", "components", *ANGLES, *IMAGES)


@dataclass(frozen=True)
class Split:
    """Images of one split, ready for the model.

    Attributes:
        features: float32 (N, D): D = n_wires^2 pooled pixels row by row, or numbers of a vector of one's own and zeros;
            D = n_wires principal components; angles of an encoding with several a wire; what `given_images`
            makes of whole images; or D = 2 2^n_wires, real and then
            imaginary parts of a state's amplitudes.
        labels: int64 (N,), 0..n_classes-1: positions in `Splits.classes`.
    """

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Splits:
    """The three splits of a data set.

    Attributes:
        train, val, test: the splits, all on one device.
        classes: the data set's own labels of the chosen classes, in the order of the new labels.
        side: n_wires; pooled features of an image form a side x side picture.
    """

    train: Split
    val: Split
    test: Split
    classes: tuple
    side: int

    @property
    def n_classes(self) -> int:
        return len(self.classes)

    def to(self, device: torch.device | str) -> "Splits":
        """The same on a device."""
        splits = {name: getattr(self, name) for name in ("train", "val", "test")}
        return replace(self, **{n: Split(s.features.to(device), s.labels.to(device)) for n, s in splits.items()})


def load_features(
    dataset: str,
    num_classes: int,
    n_wires: int,
    seed: int,
    data_dir: str | Path,
    device: torch.device | str,
    reduction: str = "pooling",
    classes: tuple[int, ...] | None = None,
    bond_dimension: int = 0,
    n_angles: int = 0,
    angle_scale: float = 1.0,
) -> Splits:
    """Load a data set as features.

    Args:
        dataset: one of `DATASETS` or `GENERATED`, or "file:PATH.npz", or "states:PATH.npz".
        num_classes: 2, 4 or 10: the classes of `CLASSES`; of a file as many as it has; 2 of percolation.
        n_wires: qubits, 4..28, even with pooling; also the sites of a side of percolation, from 6.
        seed: of the split; the same seed gives the same images on every device.
        data_dir: folder of the cached .npz files (not used for digits and percolation), and of a relative PATH.
        device: where the features are kept.
        reduction: "pooling" to n_wires x n_wires features, or "components": the first n_wires principal components
            of the training split; "component_angles" or "latent_angles": principal components, or latents of an
            autoencoder that learns the training split, as angles; or whole images as `given_images.IMAGES` names them.
        classes: num_classes labels in place of those of `CLASSES`, rising.
        bond_dimension: of the states of "compressed_frqi".
        n_angles, angle_scale: how many angles, and the largest of each over the training split, in radians.

    Returns:
        The splits, in the file's order. The 80 %, rounded down, are taken after the classes are chosen.

    Raises:
        DataError: see `load_images`, `own_data.load_own` and `own_states.load_states`; num_classes that there are not; n_wires that cannot be pooled
            to, or are not those of the states; an empty class; more numbers in a vector than features; images too few or too much alike to have n_wires
            principal components.

    Source: Schleich et al., arXiv 2410.23940, sections 3.1 and 3.2.
    """
    of_number = GENERATED.get(dataset, CLASSES)
    if num_classes not in of_number and not prefix_of(dataset) and classes is None:
        raise DataError(f"num_classes is {num_classes}; choose one of {', '.join(map(str, of_number))}")
    _check_n_wires(n_wires, reduction)
    images = _load(dataset, data_dir, n_wires)
    if classes is None:
        classes = _own_classes(images, num_classes, dataset) if prefix_of(dataset) else of_number[num_classes]
    chosen, chosen_labels = _select(images, "train", classes, dataset)
    test, test_labels = _select(images, "test", classes, dataset)
    train_rows, val_rows = split_rows(len(chosen), seed)
    drawn = f"the 80 % of train_images of {dataset} that --seed {seed} draws for training have none"
    _check_classes(chosen_labels[train_rows], classes, drawn)
    if reduction in ANGLES:
        seen = chosen[train_rows]
        if reduction == "component_angles":
            reduce = _components(seen, n_angles, ", fewer --features_per_wire")
        else:
            reduce = _latents(seen, n_angles, seed, data_dir)
        reduce = Angles(reduce, seen, angle_scale)
    else:
        reduce = _reduction(reduction, chosen[train_rows], n_wires, bond_dimension)

    def split(pixels: np.ndarray, labels: np.ndarray) -> Split:
        return Split(reduce(pixels).to(device), torch.from_numpy(labels).to(device))

    return Splits(
        train=split(chosen[train_rows], chosen_labels[train_rows]),
        val=split(chosen[val_rows], chosen_labels[val_rows]),
        test=split(test, test_labels),
        classes=classes,
        side=n_wires,
    )


def _load(dataset: str, data_dir: str | Path, n_wires: int) -> dict[str, np.ndarray]:
    if dataset == "percolation":
        try:
            return load_percolation(n_wires)
        except ValueError as error:
            raise DataError(f"--dataset percolation: {error}; choose another --n_wires, which is the side") from error
    return {OWN: load_own, STATES: load_states, "": load_images}[prefix_of(dataset)](dataset, data_dir)


def _own_classes(arrays: dict[str, np.ndarray], num_classes: int, dataset: str) -> tuple:
    """The labels of a data set of one's own, in rising order.

    Raises:
        DataError: there are not num_classes of them, or some in the test images alone.
    """
    classes, of_test = (np.unique(arrays[f"{half}_labels"]).tolist() for half in ("train", "test"))
    shown = ", ".join(map(str, classes[:10])) + (", ..." if len(classes) > 10 else "")
    if others := [label for label in of_test if label not in classes]:
        raise DataError(f"--dataset {dataset}: test_labels has {others[0]}, and train_labels only {shown}")
    if len(classes) != num_classes:
        remedy = f"give --num_classes {len(classes)}" if len(classes) > 1 else "there must be two or more"
        raise DataError(f"--dataset {dataset}: train_labels has {len(classes)} classes ({shown}), not {num_classes}: {remedy}")
    return tuple(classes)


def _reduction(name: str, train_images: np.ndarray, n_wires: int, bond_dimension: int) -> Callable[[np.ndarray], Tensor]:
    """What makes features of images; principal components are those of the training images."""
    if name not in REDUCTIONS:
        raise DataError(f"unknown reduction {name!r}; choose one of {', '.join(REDUCTIONS)}")
    if np.iscomplexobj(train_images):
        if name != "pooling":
            raise DataError(f"states are taken as they are, and {name} are made of images: choose --model qdeq")
        if (n_qubits := train_images.shape[1].bit_length() - 1) != n_wires:
            raise DataError(f"these are states of {n_qubits} qubits: choose --n_wires {n_qubits}, not {n_wires}")
        return parts_of_states
    if name in IMAGES:
        if train_images.ndim == 2:
            raise DataError(f"{name} makes states of images, and this data set has vectors: choose --model qdeq")
        return lambda images: image_features(images, name, n_wires, bond_dimension)
    if name == "pooling" and train_images.ndim == 2:
        if (width := train_images.shape[1]) > n_wires**2:
            enough = next((n for n in range(4, SIDE + 1, 2) if n**2 >= width), None)
            remedy = f"choose --n_wires {enough}, or fewer numbers" if enough else f"at most {SIDE**2} can be used"
            raise DataError(f"vectors of {width} numbers are more than the {n_wires**2} inputs of {n_wires} wires: {remedy}")
        return lambda vectors: pad_vectors(vectors, n_wires**2)
    if name == "pooling":
        return lambda images: pool_images(images, n_wires)
    return _components(train_images, n_wires)


def _components(train_images: np.ndarray, n: int, also: str = "") -> PrincipalComponents:
    try:
        return PrincipalComponents(train_images, n)
    except ValueError as error:
        raise DataError(f"no principal components: {error}; choose fewer --n_wires{also} or another data set") from error


def _latents(train_images: np.ndarray, n: int, seed: int, data_dir: str | Path) -> Latents:
    if train_images.ndim == 2:
        raise DataError("the autoencoder learns images, and this data set has vectors: choose --model alam2021_pca")
    return Latents(train_images, n, seed, cache_folder(data_dir))


def split_rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw 80 % of n rows for training and leave the rest for validation.

    Args:
        n: number of rows.
        seed: of the draw; no global generator is read or moved.

    Returns:
        Row numbers in rising order, int64: training (4n // 5,) and validation (the rest,).
    """
    order = torch.randperm(n, generator=generator(seed, "split", 0)).numpy()
    n_train = 4 * n // 5
    return np.sort(order[:n_train]), np.sort(order[n_train:])


def test_images_sha256(dataset: str, data_dir: str | Path, n_wires: int) -> str:
    """Which test images a number was measured on: the SHA-256 of their bytes, whatever file they came in."""
    return hashlib.sha256(_load(dataset, data_dir, n_wires)["test_images"].tobytes()).hexdigest()


def _check_n_wires(n_wires: int, reduction: str) -> None:
    even = reduction not in IMAGES
    if n_wires % 2 and even or not 4 <= n_wires <= SIDE:
        raise DataError(f"n_wires is {n_wires}; choose {'an even' if even else 'a'} number from 4 to {SIDE}")


def _select(
    arrays: dict[str, np.ndarray], half: str, classes: tuple, dataset: str
) -> tuple[np.ndarray, np.ndarray]:
    """The images of the classes, and their labels renamed to positions in `classes`, which rise; int64."""
    images, labels = arrays[f"{half}_images"], arrays[f"{half}_labels"]
    known = np.array(classes)
    position = np.searchsorted(known, labels).clip(max=len(classes) - 1).astype(np.int64)
    renamed = np.where(known[position] == labels, position, -1)
    chosen = renamed >= 0
    _check_classes(renamed, classes, f"{half}_images of {dataset} has none")
    return images[chosen], renamed[chosen]


def _check_classes(renamed: np.ndarray, classes: tuple, finding: str) -> None:
    """Refuse images, by the positions of their labels in `classes`, that leave a class out."""
    missing = [str(label) for position, label in enumerate(classes) if not (renamed == position).any()]
    if missing:
        raise DataError(
            f"{finding} of class {', '.join(missing)}; choose other --num_classes, or data with images of all "
            f"the classes {', '.join(map(str, classes))}"
        )
