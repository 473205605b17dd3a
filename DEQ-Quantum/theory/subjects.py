"""Models that the checks look at: untrained and trained, with test images, in float64.

A trained one is trained here for a few epochs, with the hyper-parameters of the tables' rows; or it is the best checkpoint
of a run folder that the user names.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from dataset import Splits
from deq import SolverSettings
from models.classical_layers import TanhLayer
from models.depth import Equilibrium
from models.qdeq_model import EquilibriumClassifier
from models.table import build_model
from runs import checkpoint
from runs.folder import RunFolder
from runs.resume import IN_BEST
from runs.settings import SettingsError
from theory import bounds
from training.evaluation import load_splits
from training.loop import Training
from training.settings import Settings

CPU = torch.device("cpu")
# to the last digits of float64 where Newton gets there
TIGHT = Equilibrium(SolverSettings("newton", 40, 1e-14), SolverSettings("exact", 1))


@dataclass(frozen=True)
class Subject:
    """A model and what it is looked at with.

    Attributes:
        name: what is classified, with which model.
        state: "untrained", "trained, N epochs" or "run ROW/NAME".
        settings: of the model.
        model: in float64, in eval mode.
        x: (B, D) features of the first test images, in float64.
        test_acc: accuracy on these images at the equilibrium.
    """

    name: str
    state: str
    settings: Settings
    model: EquilibriumClassifier
    x: Tensor
    test_acc: float


def wanted(dataset: str, seed: int, data_dir: str) -> dict[str, Settings]:
    """The models that are looked at by default, by name."""
    common = {"dataset": dataset, "seed": seed, "data_dir": data_dir, "lr": 0.05}
    four = Settings(num_classes=4, n_wires=4, **common)
    ten = Settings(num_classes=10, n_wires=10, jac_loss_weight=0.8, jac_loss_freq=1.0, **common)
    return {
        "4 classes, 4 qubits, amplitude": four,
        "4 classes, 4 qubits, angle": replace(four, amplitude_encoder=False),
        "10 classes, 10 qubits, amplitude": ten,
        # the learning rate that the tables give classical models
        "4 classes, classical": replace(four, model="classical", lr=0.005),
    }


def train_for(settings: Settings, splits: Splits, n_steps: int, prepare=None) -> Training:
    """Train as train_qdeq.py does, keeping nothing on disk.

    Args:
        settings: of the run.
        splits: its data.
        n_steps: optimiser steps; 0 leaves the model as it starts.
        prepare: called with the model before the first step.
    """
    training = Training(RunFolder(Path(), replace(settings, max_step=max(1, n_steps)), None), splits, CPU)
    if prepare is not None:
        prepare(training.model)
    batches = training.batches()
    for _ in range(n_steps):
        training.train_step(*next(batches))
    return training


def untrained_and_trained(name: str, settings: Settings, epochs: int, n_images: int) -> list[Subject]:
    """One model before and after a short training."""
    splits = load_splits(settings, CPU)
    subjects = []
    for state, n_epochs in (("untrained", 0), (f"trained, {epochs} epochs", epochs)):
        n_steps = n_epochs * -(-len(splits.train) // settings.batch_size)
        model = train_for(settings, splits, n_steps).model
        subjects.append(_subject(name, state, settings, model, splits, n_images))
    return subjects


def run_names(folders: Sequence[Path]) -> dict[Path, str]:
    """What run folders are called: the last two parts of each path, or as many more as tell all of them apart."""
    # one folder written in two ways is looked at once
    paths = {folder.resolve().parts: folder for folder in folders}
    n_parts = 2
    while len({parts[-n_parts:] for parts in paths}) < len(paths):
        n_parts += 1
    return {folder: Path(*parts[-n_parts:]).as_posix() for parts, folder in paths.items()}


def of_run(folder: Path, name: str, data_dir: str, n_images: int) -> Subject:
    """The best checkpoint of a run.

    Args:
        folder: of the run.
        name: what it is called.
        data_dir: folder of <dataset>.npz.
        n_images: test images.

    Raises:
        checkpoint.CheckpointError, SettingsError, DataError: it cannot be used.
    """
    path = folder / "checkpoint_best.pt"
    content = checkpoint.load(path, needs=IN_BEST)
    settings = replace(Settings.from_dict(content["settings"]), data_dir=data_dir)
    model = build_model(settings)
    if not isinstance(model.layer, TanhLayer) and (settings.encoding not in bounds.ENCODINGS or settings.injection != "add"):
        kind = f"--model {settings.model}" if settings.injection == "add" else f"--injection {settings.injection}"
        raise SettingsError(f"--runs {folder}: there are no bounds for {kind}; leave it out")
    checkpoint.load_weights(model, content["model"], path)
    parts = (settings.dataset, f"{settings.num_classes} classes", f"{settings.n_wires} qubits", settings.encoding)
    subject = ", ".join(parts) + ("" if settings.model == "qdeq" else f", {settings.model}")
    return _subject(subject, f"run {name}", settings, model, load_splits(settings, CPU), n_images)


@torch.no_grad()
def _subject(name: str, state: str, settings: Settings, model, splits: Splits, n_images: int) -> Subject:
    model = copy.deepcopy(model).double().eval()
    x, labels = splits.test.features[:n_images].double(), splits.test.labels[:n_images]
    test_acc = (model(x, TIGHT).logits.argmax(1) == labels).double().mean().item()
    return Subject(name, state, settings, model, x, test_acc)
