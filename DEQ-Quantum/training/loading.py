"""--load: a run begins with the parameters of another, which may have been trained with another circuit."""

import os
from dataclasses import fields
from pathlib import Path

from models.qdeq_model import EquilibriumClassifier
from runs import checkpoint
from runs.folder import IN_EVERY_CHECKPOINT
from runs.ranks import Ranks
from runs.settings import flag_of
from training.settings import ModelSettings, Settings

# settings of the model with which the same parameters mean the same
SAME_CIRCUIT = {"mode", "n_layer", "dropout", "engine"}
IN_LOADED = {name: IN_EVERY_CHECKPOINT[name] for name in ("model", "settings")}


def load_parameters(model: EquilibriumClassifier, settings: Settings, ranks: Ranks) -> str:
    """Load what --load names, a checkpoint or a run folder, into a model.

    Returns:
        a warning, where these parameters were of another circuit; else "".

    Raises:
        CheckpointError: there is nothing to load, or it does not fit.
    """
    path = Path(settings.load)
    path = path / "checkpoint_best.pt" if os.path.isdir(path) else path
    remedy = "use the --model, --n_wires, --num_classes, --ansatz and --trainable_gates it was trained with"
    try:
        content = ranks.from_first(lambda: checkpoint.load(path, needs=IN_LOADED))
    except checkpoint.CheckpointError as error:
        raise checkpoint.CheckpointError(f"--load: {error}") from error
    checkpoint.load_weights(model, content["model"], path, remedy)
    different = another_circuit(content["settings"], settings)
    return f"--load: {path} was trained with another circuit: {different}" if different else ""


def another_circuit(theirs: dict, ours: Settings) -> str:
    """How settings that were saved with parameters differ from those of the model they are loaded into; "" if not."""
    different = [
        f"{flag_of(f)} {theirs.get(f.name, f.default)}, here {getattr(ours, f.name)}"  # older than a setting: its default
        for f in fields(ModelSettings)
        if f.name not in SAME_CIRCUIT and theirs.get(f.name, f.default) != getattr(ours, f.name)
    ]
    return "; ".join(different)
