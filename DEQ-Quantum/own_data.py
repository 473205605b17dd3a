"""A data set of one's own, `--dataset file:PATH.npz`: images or vectors with labels, read from one file and checked.

Knows what such a file holds; not how classes are chosen, split or reduced to features. The file is read only.
"""

from pathlib import Path

import numpy as np

from data_files import DataError, read_arrays
from data_settings import prefix_of

KINDS = ("images", "vectors")
HALVES = ("train", "test")
TAKES = (
    "train_images and test_images, uint8 (N, S, S), grey, or train_vectors and test_vectors, finite numbers (N, D); and "
    "train_labels and test_labels, (N,), whole numbers or text"
)


def load_own(dataset: str, data_dir: str | Path) -> dict[str, np.ndarray]:
    """Images or vectors of one's own.

    Args:
        dataset: "file:PATH.npz".
        data_dir: what a relative path is relative to.

    Returns:
        `train_images` and `test_images`, uint8 (N, S, S) or float32 vectors (N, D); `train_labels` and `test_labels`,
        (N,), integers or text.

    Raises:
        DataError: there is no such file, it is damaged, or it lacks something; one line with what a file holds.
    """
    path = own_path(dataset, data_dir)
    wanted = [f"{half}_{kind}" for half in HALVES for kind in (*KINDS, "labels")]
    arrays = read_arrays(path, wanted, _finding, dataset, TAKES)
    kind = _kind(arrays)
    if kind == "vectors":
        arrays |= {f"{half}_vectors": arrays[f"{half}_vectors"].astype(np.float32) for half in HALVES}
    return {
        f"{half}_{to}": arrays[f"{half}_{of}"] for half in HALVES for to, of in (("images", kind), ("labels", "labels"))
    }


def own_path(dataset: str, data_dir: str | Path) -> Path:
    """The file of "file:PATH.npz" or "states:PATH.npz".

    Raises:
        DataError: there is none.
    """
    path = Path(data_dir).expanduser() / dataset.removeprefix(prefix_of(dataset))
    if not path.exists():
        raise DataError(
            f"--dataset {dataset}: there is no file {path}; --data_dir is its folder, also where a run is resumed elsewhere"
        )
    return path


def _kind(arrays: dict[str, np.ndarray]) -> str | None:
    """Which of `KINDS` it has of both halves; None: neither, or all."""
    whole = [kind for kind in KINDS if all(f"{half}_{kind}" in arrays for half in HALVES)]
    return whole[0] if len(whole) == 1 else None


def _finding(arrays: dict[str, np.ndarray], names: list[str]) -> str:
    kind = _kind(arrays)
    if kind is None or not {"train_labels", "test_labels"} <= set(arrays):
        return f"it has {', '.join(names) or 'no arrays'}"
    for half in HALVES:
        values, labels = arrays[f"{half}_{kind}"], arrays[f"{half}_labels"]
        name, of = f"{half}_{kind}", f"{values.dtype} {values.shape}"
        if kind == "images" and (values.dtype != np.uint8 or values.ndim != 3 or values.shape[1] != values.shape[2]):
            return f"{name} is {of}, not uint8 (N, S, S)"
        if kind == "vectors" and (values.dtype.kind not in "biuf" or values.ndim != 2):
            return f"{name} is {of}, not numbers (N, D)"
        if not values.size:
            return f"{name} is empty, {values.shape}"
        if labels.dtype.kind not in "biuU" or labels.shape != values.shape[:1]:
            return f"{half}_labels is {labels.dtype} {labels.shape}, not whole numbers or text {values.shape[:1]}"
        if kind == "vectors" and not (np.abs(values.astype(np.float64)) <= np.finfo(np.float32).max).all():
            return f"{name} has a NaN, an inf, or a number beyond float32"
    sizes = [arrays[f"{half}_{kind}"].shape[1:] for half in HALVES]
    if len({arrays[f"{half}_labels"].dtype.kind == "U" for half in HALVES}) > 1:
        return "one of train_labels and test_labels is text"
    if kind == "vectors" and sizes[0] != sizes[1]:
        return f"train_vectors are of {sizes[0][0]} numbers, test_vectors of {sizes[1][0]}"
    return ""
