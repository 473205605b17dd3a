"""Whether a run can fit into memory, told before it is tried for hours."""

import torch

from dataset import Splits
from engines import bytes_needed
from models.table import MODELS
from runs.machine import free_bytes
from runs.settings import SettingsError
from training.evaluation import BATCH
from training.known_states import bytes_of_states
from training.settings import Settings


def refuse_what_cannot_fit(s: Settings, device: torch.device, n_ranks: int = 1, n_runs: int = 1) -> None:
    """Refuse a run, or so many side by side, whose state vectors alone do not fit.

    As its engine counts them: in a training step, or in a validation, which takes `evaluation.BATCH` images at a time.

    Raises:
        SettingsError: they take more memory than is free.
    """
    describe = MODELS[s.model].circuit
    if describe is None:
        return
    circuit, free = describe(s), free_bytes(device)
    step = bytes_needed(s.engine, circuit, s.batch_size // s.batch_chunk)
    validation = bytes_needed(s.engine, circuit, BATCH, with_gradient=False)
    needed = max(step * n_runs, validation) / (n_ranks if s.shard == "columns" else 1)
    if needed > free:
        smaller_batch_helps = validation <= free and bytes_needed(s.engine, circuit, 1) < step
        fewer = "--seeds or wires" if n_runs > 1 else "wires"
        raise SettingsError(
            f"--n_wires {s.n_wires}: state vectors alone take {needed / 1e9:.0f} GB and {free / 1e9:.0f} GB are free; "
            f"use fewer {fewer}" + (" or a smaller --batch_size" if smaller_batch_helps else "")
        )


def refuse_states_that_cannot_fit(s: Settings, splits: Splits) -> None:
    """Refuse --keep_states where the states of all images do not fit beside what is there.

    Raises:
        SettingsError: they take more memory than is free.
    """
    if not s.keep_states:
        return
    n_images = len(splits.train) + len(splits.val.labels[: s.max_eval_images])
    circuit = MODELS[s.model].circuit(s)
    needed = bytes_of_states(n_images, circuit.n_readouts, circuit.n_fed_back)
    free = free_bytes(splits.train.features.device)
    if needed > free:
        raise SettingsError(
            f"--keep_states: the states of {n_images} images take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
            "leave it out, or choose a --readout of fewer numbers"
        )
