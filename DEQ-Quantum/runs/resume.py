"""What a resumed run takes from its checkpoints beyond plain counters, and what its user must be told of it.

Knows checkpoints, optimisers and the learning rate; not how a step is taken, nor what is measured.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runs import checkpoint
from runs.checkpoint import CheckpointError, is_count, is_table
from runs.folder import IN_EVERY_CHECKPOINT, RunFolder
from runs.optim import LearningRate, load_optimizer

# of checkpoint_best.pt
IN_BEST = {
    "settings": IN_EVERY_CHECKPOINT["settings"],
    "model": IN_EVERY_CHECKPOINT["model"],
    "best": lambda value: is_table(value, object) and is_count(value.get("step")),
}


def restore(model: nn.Module, optimizer: torch.optim.Optimizer, last: dict, folder: RunFolder) -> None:
    """Load parameters and the optimiser's state from the last checkpoint.

    Raises:
        CheckpointError: they are of another model or optimiser.
    """
    checkpoint.load_weights(model, last["model"], folder.last_path)
    try:
        load_optimizer(optimizer, last["optimizer"])
    except ValueError as error:
        raise CheckpointError(
            f"{folder.last_path} holds no state of this run's --optim {folder.settings.optim} ({error})"
        ) from error


@dataclass(frozen=True)
class Best:
    """Where the best parameters of a resumed run are.

    Attributes:
        model: the parameters; None: lost.
        is_kept: whether checkpoint_best.pt holds them.
        damage: why it does not, where it is damaged or missing.
    """

    model: dict[str, Tensor] | None
    is_kept: bool
    damage: str = ""


def find_best(last: dict, folder: RunFolder) -> Best:
    """The parameters that validated best until the last checkpoint, `last`.

    It holds them itself. One of an older version does not: they are then those of checkpoint_best.pt, or the last ones
    where no step after the best was taken.

    Raises:
        CheckpointError: they are of another model.
    """
    model, kept, damage = last.get("best_model"), None, ""
    try:
        content = checkpoint.load(folder.best_path, needs=IN_BEST)
        if content["best"]["step"] == last["best"]["step"]:
            kept = content["model"]
    except CheckpointError as error:
        damage = str(error)
    if model is None:
        model = last["model"] if last["best"]["step"] == last["step"] else kept
    if model is None:
        return Best(None, False, damage or f"{folder.best_path} is of another step")
    shapes = {name: value.shape for name, value in last["model"].items()}
    if {name: value.shape for name, value in model.items()} != shapes:
        raise CheckpointError(f"{folder.last_path} holds best parameters of another shape; {checkpoint.ANOTHER_RUN}")
    is_kept = kept is not None and all(name in kept and torch.equal(model[name], kept[name]) for name in model)
    return Best(model, is_kept, damage)


def changes(last: dict, device: torch.device, rate: LearningRate, length: int) -> list[str]:
    """Why the steps to come are not those that the run would have taken without the stop, a line each.

    Args:
        last: the checkpoint.
        device: of the steps to come.
        rate: their learning rate.
        length: steps of the run when it was stopped.
    """
    found, step = [], last["step"]
    before = last.get("device", device.type)
    if before != device.type:
        found.append(f"resumed on {device.type}, until then on {before}: numbers differ by round-off")
    if rate.depends_on_length and length != rate.max_step and step < rate.max_step:
        was = LearningRate(rate.optimizer, rate.settings, length).at(step)
        found.append(
            f"--scheduler {rate.settings.scheduler} over {rate.max_step} steps in place of {length}: the learning rate "
            f"goes from {was:.3g} to {rate.at(step + 1):.3g}, as in no run of one length"
        )
    return found
