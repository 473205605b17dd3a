"""From a data set's name to what a model trains on: one tensor of pooled features per split.

Sections 3.1 and 3.2 of the QDEQ paper: choose the classes, split their training images at random into 80 %
training and 20 % validation, keep the standard test set; scale pixels to [0, 1], normalise with MNIST's
constants for every data set, pool to n_wires x n_wires. All of it is done once and on the CPU, so that every
device sees the same numbers. Images are cached as `<data_dir>/<dataset>.npz`: where that file exists, nothing
is downloaded.
"""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from socket import getdefaulttimeout, setdefaulttimeout

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.seeds import generator

CLASSES = {2: (3, 6), 4: (0, 3, 6, 9), 10: tuple(range(10))}
IMAGE_SIDES = {"mnist": 28, "fashion_mnist": 28, "cifar10": 32, "digits": 8}
DATASETS = tuple(IMAGE_SIDES)
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")

SIDE = 28  # of the images that are pooled
MEAN, STD = 0.1307, 0.3081  # MNIST's, of pixels in [0, 1]
PAPER_POOLING = {4: {"kernel_size": 6}, 10: {"kernel_size": 5, "stride": 3, "padding": 2}}
POOLING_CHUNK = 4096  # images: bounds the memory of float images
NETWORK_TIMEOUT = 20  # seconds without an answer


class DataError(ValueError):
    """Data that cannot be had or used; the message is one line for the user, with the remedy."""


@dataclass(frozen=True)
class Split:
    """Images of one split, ready for the model.

    Attributes:
        features: float32 (N, D), D = n_wires^2, normalised and pooled, row by row.
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
        side: features of an image form a side x side picture; side = n_wires.
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
    dataset: str, num_classes: int, n_wires: int, seed: int, data_dir: str | Path, device: torch.device | str
) -> Splits:
    """Load a data set as pooled features.

    Args:
        dataset: one of `DATASETS`.
        num_classes: 2, 4 or 10: the classes of `CLASSES`.
        n_wires: qubits, even, 4..28; an image becomes n_wires x n_wires features.
        seed: of the split; the same seed gives the same images on every device.
        data_dir: folder of the cached .npz files (not used for digits).
        device: where the features are kept.

    Returns:
        The splits, in the file's order. The 80 %, rounded down, are taken after the classes are chosen.

    Raises:
        DataError: see `load_images`; unknown num_classes; n_wires that cannot be pooled to; an empty class.

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

    def split(pixels: np.ndarray, labels: np.ndarray) -> Split:
        return Split(pool_images(pixels, n_wires).to(device), torch.from_numpy(labels).to(device))

    return Splits(
        train=split(chosen[train_rows], chosen_labels[train_rows]),
        val=split(chosen[val_rows], chosen_labels[val_rows]),
        test=split(test, test_labels),
        classes=classes,
        side=n_wires,
    )


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


def pool_images(images: np.ndarray, n_wires: int) -> Tensor:
    """Normalise images and pool them to n_wires x n_wires features, as section 3.2 of the paper does.

    Images of another size are first resized to 28x28 (bilinear, antialiased). 4 qubits: mean of 6x6 pixels,
    the last 4 rows and columns unused. 10 qubits: mean of 5x5 pixels at stride 3 with a border of 2 zeros,
    which count and are zeros of the normalised image. Any other number: adaptive average pooling.

    Args:
        images: uint8 (N, S, S), grey.
        n_wires: qubits, even, 4..28.

    Returns:
        float32 (N, n_wires^2), row by row.

    Raises:
        DataError: n_wires is odd or outside 4..28.
    """
    _check_n_wires(n_wires)
    features = torch.empty(len(images), n_wires**2)
    for start in range(0, len(images), POOLING_CHUNK):
        pixels = torch.from_numpy(images[start : start + POOLING_CHUNK]).unsqueeze(1).float() / 255
        if pixels.shape[-1] != SIDE:
            pixels = F.interpolate(pixels, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        pixels = (pixels - MEAN) / STD
        if n_wires in PAPER_POOLING:
            pooled = F.avg_pool2d(pixels, **PAPER_POOLING[n_wires])
        else:
            pooled = F.adaptive_avg_pool2d(pixels, n_wires)
        features[start : start + POOLING_CHUNK] = pooled.flatten(1)
    return features


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
        from load_digits import load_digits  # here: scikit-learn takes a second to import

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
            aside = Path(folder) / path.name
            np.savez_compressed(aside, **arrays)
            os.replace(aside, path)
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
