"""From a data set's name to what a model trains on: one tensor of features per split.

Section 3.1 of the QDEQ paper: choose the classes, split their training images at random into 80 % training and
20 % validation, keep the standard test set; `features.py` then reduces every image to a few numbers. All of it is
done once and on the CPU, so that every device sees the same numbers. Images are cached as
`<data_dir>/<dataset>.npz`: where that file exists, nothing is downloaded.
"""

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from socket import getdefaulttimeout, setdefaulttimeout

import numpy as np
import torch
from torch import Tensor

from data_settings import CLASSES, DATASETS, IMAGE_SIDES
from features import SIDE, PrincipalComponents, pool_images
from load_digits import load_digits
from utils.files import atomic_write
from utils.seeds import generator

REDUCTIONS = ("pooling", "components")
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")

NETWORK_TIMEOUT = 20  # seconds without an answer


class DataError(ValueError):
    """Data that cannot be had or used; the message is one line for the user, with the remedy."""


@dataclass(frozen=True)
class Split:
    """Images of one split, ready for the model.

    Attributes:
        features: float32 (N, D): pooled pixels row by row, D = n_wires^2, or D = n_wires principal components.
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
        side: pooled features of an image form a side x side picture; side = n_wires.
    """

    train: Split
    val: Split
    test: Split
    classes: tuple[int, ...]
    side: int

    @property
    def n_classes(self) -> int:
        return len(self.classes)


def load_features(
    dataset: str,
    num_classes: int,
    n_wires: int,
    seed: int,
    data_dir: str | Path,
    device: torch.device | str,
    reduction: str = "pooling",
) -> Splits:
    """Load a data set as features.

    Args:
        dataset: one of `DATASETS`.
        num_classes: 2, 4 or 10: the classes of `CLASSES`.
        n_wires: qubits, even, 4..28.
        seed: of the split; the same seed gives the same images on every device.
        data_dir: folder of the cached .npz files (not used for digits).
        device: where the features are kept.
        reduction: "pooling" to n_wires x n_wires features, or "components": the first n_wires principal components
            of the training split.

    Returns:
        The splits, in the file's order. The 80 %, rounded down, are taken after the classes are chosen.

    Raises:
        DataError: see `load_images`; unknown num_classes; n_wires that cannot be pooled to; an empty class; images
            too few or too much alike to have n_wires principal components.

    Source: Schleich et al., arXiv 2410.23940, sections 3.1 and 3.2.
    """
    if num_classes not in CLASSES:
        raise DataError(f"num_classes is {num_classes}; choose one of {', '.join(map(str, CLASSES))}")
    _check_n_wires(n_wires)
    images = load_images(dataset, data_dir)
    classes = CLASSES[num_classes]
    chosen, chosen_labels = _select(images, "train", classes, dataset)
    test, test_labels = _select(images, "test", classes, dataset)
    train_rows, val_rows = split_rows(len(chosen), seed)
    reduce = _reduction(reduction, chosen[train_rows], n_wires)

    def split(pixels: np.ndarray, labels: np.ndarray) -> Split:
        return Split(reduce(pixels).to(device), torch.from_numpy(labels).to(device))

    return Splits(
        train=split(chosen[train_rows], chosen_labels[train_rows]),
        val=split(chosen[val_rows], chosen_labels[val_rows]),
        test=split(test, test_labels),
        classes=classes,
        side=n_wires,
    )


def _reduction(name: str, train_images: np.ndarray, n_wires: int) -> Callable[[np.ndarray], Tensor]:
    """What makes features of images; principal components are those of the training images."""
    if name not in REDUCTIONS:
        raise DataError(f"unknown reduction {name!r}; choose one of {', '.join(REDUCTIONS)}")
    if name == "pooling":
        return lambda images: pool_images(images, n_wires)
    try:
        return PrincipalComponents(train_images, n_wires)
    except ValueError as error:
        raise DataError(f"no principal components: {error}; choose fewer --n_wires or another data set") from error


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


def load_images(dataset: str, data_dir: str | Path) -> dict[str, np.ndarray]:
    """Load a data set's images from `<data_dir>/<dataset>.npz`; a missing file is made from a download.

    Digits come with scikit-learn: data_dir is neither read nor written for them.

    Args:
        dataset: one of `DATASETS`.
        data_dir: folder of the cached .npz files, made where it is missing.

    Returns:
        `train_images` and `test_images`, uint8 (N, S, S), `train_labels` and `test_labels`, uint8 (N,), 0..9,
        in the data set's original order. S is in `IMAGE_SIDES`. CIFAR-10 is grey.

    Raises:
        DataError: unknown data set; corrupt file; no network; data_dir cannot be written.
    """
    if dataset not in DATASETS:
        raise DataError(f"unknown data set {dataset!r}; choose one of {', '.join(DATASETS)}")
    if dataset == "digits":
        return load_digits()
    path = Path(data_dir).expanduser() / f"{dataset}.npz"
    try:
        cached = path.exists()
    except OSError as error:
        raise _folder_error(path.parent, error) from error
    return _read_cache(path, dataset) if cached else _download(path, dataset)


def test_images_sha256(dataset: str, data_dir: str | Path) -> str:
    """Which test images a number was measured on: the SHA-256 of their bytes, whatever file they came in."""
    return hashlib.sha256(load_images(dataset, data_dir)["test_images"].tobytes()).hexdigest()


def _check_n_wires(n_wires: int) -> None:
    if n_wires % 2 or not 4 <= n_wires <= SIDE:
        raise DataError(f"n_wires is {n_wires}; choose an even number from 4 to {SIDE}")


def _select(
    arrays: dict[str, np.ndarray], half: str, classes: tuple[int, ...], dataset: str
) -> tuple[np.ndarray, np.ndarray]:
    """The images of the classes, and their labels renamed to positions in `classes`, int64."""
    images, labels = arrays[f"{half}_images"], arrays[f"{half}_labels"]
    missing = [c for c in classes if not (labels == c).any()]
    if missing:
        raise DataError(
            f"{half}_images of {dataset} has none of class {', '.join(map(str, missing))}; "
            "delete the .npz file to download it again, or choose other num_classes"
        )
    position = np.full(256, -1, dtype=np.int64)
    position[list(classes)] = range(len(classes))
    renamed = position[labels]
    chosen = renamed >= 0
    return images[chosen], renamed[chosen]


def _read_cache(path: Path, dataset: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in ARRAYS}
    except PermissionError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; mend its permissions") from error
    except KeyError as error:
        raise _corrupt(path, f"no {'/'.join(ARRAYS)} in it") from error
    except Exception as error:  # a damaged file makes zipfile and numpy raise more kinds than a list can hold
        raise _corrupt(path, "not a whole .npz file") from error
    _check_arrays(arrays, path, IMAGE_SIDES[dataset])
    return arrays


def _check_arrays(arrays: dict[str, np.ndarray], path: Path, side: int) -> None:
    for half in ("train", "test"):
        images, labels = arrays[f"{half}_images"], arrays[f"{half}_labels"]
        shapes = ((images, "images", (*images.shape[:1], side, side)), (labels, "labels", images.shape[:1]))
        for array, kind, shape in shapes:
            if array.dtype != np.uint8 or array.shape != shape:
                raise _corrupt(path, f"{half}_{kind} is {array.dtype} {array.shape}, not uint8 {shape}")
        if (labels > 9).any():
            raise _corrupt(path, f"{half}_labels has {labels.max()}, not 0..9")


def _download(path: Path, dataset: str) -> dict[str, np.ndarray]:
    """Get the images from torchvision and write the cache."""
    # here: torchvision takes seconds to import
    if dataset == "cifar10":
        from load_cifar import load_cifar10 as load
    else:
        from load_mnist import load_mnist as load
    arguments = () if dataset == "cifar10" else (dataset,)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # a folder of this download's own: what an interrupted one leaves is never taken for a whole one
        scratch = tempfile.TemporaryDirectory(prefix=f".{dataset}-", dir=path.parent)
    except OSError as error:
        raise _folder_error(path.parent, error) from error
    with scratch as folder:
        arrays = _fetch(load, (*arguments, Path(folder)), path)
        try:
            with atomic_write(path, Path(folder)) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, **arrays)
        except OSError as error:
            raise _folder_error(path.parent, error) from error
    return arrays


def _fetch(load, arguments: tuple, path: Path) -> dict[str, np.ndarray]:
    timeout = getdefaulttimeout()
    setdefaulttimeout(NETWORK_TIMEOUT)  # torchvision sets none: a silent network would hang the run
    try:
        return load(*arguments)
    except (OSError, RuntimeError, HTTPException) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(  # torchvision's last line is the cause, the others list its mirrors
            f"cannot download {path.stem} ({lines[-1]}); connect to the network, or copy {path.name} from a "
            f"machine that has it into {path.parent}, or try the digits data set, which needs no download"
        ) from error
    finally:
        setdefaulttimeout(timeout)


def _corrupt(path: Path, finding: str) -> DataError:
    return DataError(f"{path} is corrupt ({finding}); delete it to download it again")


def _folder_error(folder: Path, error: OSError) -> DataError:
    reason = error.strerror or str(error)
    remedy = "choose another with --data_dir or $QDEQ_DATA"
    return DataError(f"cannot use the data folder {folder}: {reason}; {remedy}")
