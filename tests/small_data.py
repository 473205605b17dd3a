"""Small files in the formats that the data sets are published and cached in, for the tests of the data."""

import gzip
import hashlib
import pickle
from io import BytesIO
from pathlib import Path

import numpy as np

SIDES = {"mnist": 28, "fashion_mnist": 28, "cifar10": 32}


def synthetic(side: int = 28, n_train: int = 200, n_test: int = 60, seed: int = 0) -> dict[str, np.ndarray]:
    """Random images in the cached format, the same number of each class, in a shuffled order."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for half, n in (("train", n_train), ("test", n_test)):
        arrays[f"{half}_images"] = rng.integers(0, 256, (n, side, side), dtype=np.uint8)
        arrays[f"{half}_labels"] = rng.permutation(np.arange(n) % 10).astype(np.uint8)
    return arrays


def idx(array: np.ndarray) -> bytes:
    """LeCun's format: 0, 0, type (8 = uint8), number of dimensions, sizes as big-endian int32, values."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def npy(array: np.ndarray) -> bytes:
    """numpy's format of a single array."""
    buffer = BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def write_mnist_mirror(folder: Path, arrays: dict[str, np.ndarray]) -> list[tuple[str, str]]:
    """The four .gz files of a mirror; returns (name, md5) of each."""
    folder.mkdir()
    resources = []
    for half, prefix in (("train", "train"), ("test", "t10k")):
        for kind, suffix in (("images", "images-idx3-ubyte"), ("labels", "labels-idx1-ubyte")):
            path = folder / f"{prefix}-{suffix}.gz"
            path.write_bytes(gzip.compress(idx(arrays[f"{half}_{kind}"])))
            resources.append((path.name, hashlib.md5(path.read_bytes()).hexdigest()))
    return resources


def write_cifar_batches(folder: Path, rng: np.random.Generator) -> tuple[dict, dict]:
    """The batches as torchvision unpacks them; returns colour images (N, 32, 32, 3) and labels per half."""
    folder.mkdir(parents=True)
    images, labels = {"train": [], "test": []}, {"train": [], "test": []}
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        half = "test" if name == "test_batch" else "train"
        colour = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
        planes = colour.transpose(0, 3, 1, 2).reshape(4, -1)
        batch = {"data": planes, "labels": rng.integers(0, 10, 4).tolist()}
        (folder / name).write_bytes(pickle.dumps(batch))
        images[half].append(colour)
        labels[half] += batch["labels"]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("0123456789")}))
    return {half: np.concatenate(parts) for half, parts in images.items()}, labels
