"""Quantum data, `--dataset states:PATH.npz`: states of qubits with labels, read from one file and checked.

Knows what such a file holds, as `own_data.py` does of images. `make_states.py` writes some.
"""

from pathlib import Path

import numpy as np

from data_files import read_arrays
from own_data import HALVES, own_path

TAKES = (
    "train_states and test_states, (N, 2^n_wires), real or complex amplitudes, wire 0 the most significant bit; and "
    "train_labels and test_labels, (N,), whole numbers or text"
)


def load_states(dataset: str, data_dir: str | Path) -> dict[str, np.ndarray]:
    """States of one's own.

    Args:
        dataset: "states:PATH.npz".
        data_dir: what a relative path is relative to.

    Returns:
        `train_images` and `test_images`, complex64 (N, 2^n), of norm 1; `train_labels` and `test_labels`, (N,), integers or
        text.

    Raises:
        DataError: there is no such file, it is damaged, or it lacks something; one line with what a file holds.
    """
    wanted = [f"{half}_{kind}" for half in HALVES for kind in ("states", "labels")]
    arrays = read_arrays(own_path(dataset, data_dir), wanted, _finding, dataset, TAKES)
    found = {f"{half}_labels": arrays[f"{half}_labels"] for half in HALVES}
    for half in HALVES:
        states = arrays[f"{half}_states"].astype(np.complex128)
        found[f"{half}_images"] = (states / np.linalg.norm(states, axis=1, keepdims=True)).astype(np.complex64)
    return found


def _finding(arrays: dict[str, np.ndarray], names: list[str]) -> str:
    if len(arrays) < 2 * len(HALVES):
        return f"it has {', '.join(names) or 'no arrays'}"
    for half in HALVES:
        states, labels = arrays[f"{half}_states"], arrays[f"{half}_labels"]
        name, of = f"{half}_states", f"{states.dtype} {states.shape}"
        if states.dtype.kind not in "biufc" or states.ndim != 2:
            return f"{name} is {of}, not numbers (N, 2^n_wires)"
        if not states.size:
            return f"{name} is empty, {states.shape}"
        if (width := states.shape[1]) < 2 or width & width - 1:
            return f"{name} is {of}, and {width} amplitudes are those of no number of qubits"
        if labels.dtype.kind not in "biuU" or labels.shape != states.shape[:1]:
            return f"{half}_labels is {labels.dtype} {labels.shape}, not whole numbers or text {states.shape[:1]}"
        norms = np.linalg.norm(states.astype(np.complex128), axis=1)
        if not (np.isfinite(norms) & (norms > 0)).all():
            return f"{name} has a NaN, an inf, or a state of zeros"
    if len({arrays[f"{half}_labels"].dtype.kind == "U" for half in HALVES}) > 1:
        return "one of train_labels and test_labels is text"
    sizes = [arrays[f"{half}_states"].shape[1] for half in HALVES]
    if sizes[0] != sizes[1]:
        return f"train_states have {sizes[0]} amplitudes, test_states {sizes[1]}"
    return ""
