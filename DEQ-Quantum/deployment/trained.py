"""A trained run read back: settings, model and the checkpoint's step."""

from argparse import Namespace
from dataclasses import dataclass, fields, replace
from pathlib import Path

from dataset import Split
from deq import SolverSettings
from hardware.noise import NoiseError
from models.classical_layers import TanhLayer
from models.depth import Depth, Stack
from models.qdeq_model import EquilibriumClassifier
from models.table import build_model
from runs import checkpoint
from runs.folder import IN_EVERY_CHECKPOINT
from runs.resume import IN_BEST
from runs.settings import SettingsError, result_fields
from training.equilibrium_settings import OF_SOLVER
from training.evaluation import depth_of
from training.hardware_settings import HardwareSettings
from training.settings import Settings

# what counted equilibria are held against
TIGHT = SolverSettings("broyden", 100, 1e-6, patience=10)
WITHOUT_NOISE = {f.name: f.default for f in fields(HardwareSettings)}


@dataclass(frozen=True)
class Trained:
    """What a run holds.

    Attributes:
        settings: of the run, those of the command line changed, without noise and shots, which commands have of their own.
        saved: as it was trained.
        model: with its parameters, in evaluation mode; it has a circuit, unless a classical one was asked for too.
        depth: equilibrium, or stack of layers.
        step: of the checkpoint.
    """

    settings: Settings
    saved: Settings
    model: EquilibriumClassifier
    depth: Depth
    step: int

    def recipe(self) -> dict:
        """How it was trained: what runs share that differ in their seed, their name and their folders alone."""
        names = [name for name in result_fields(Settings) if name != "seed"]
        return {name: getattr(self.saved, name) for name in names} | {"load": bool(self.saved.load)}

    def describe(self, split: Split) -> dict:
        """What is evaluated, as JSON says it."""
        s = self.settings
        return {
            "model": s.model, "encoding": s.encoding, "n_wires": s.n_wires, "step": self.step,
            "n_layer": self.depth.n_layers if isinstance(self.depth, Stack) else 0,
            **{name: getattr(s, name) for name in OF_SOLVER},
            "images": len(split),
        }  # fmt: skip


def checkpoint_path(options: Namespace) -> Path:
    """Where the parameters lie that a command line asks for."""
    return options.run / f"checkpoint_{options.checkpoint}.pt"


def named(options: Namespace) -> str:
    """The run as the command line names it."""
    return f"{'--runs' if 'runs' in options else '--run'} {options.run}"


def read_trained(options: Namespace, changes: tuple[str, ...] = (), classical_too: bool = False) -> Trained:
    """The run in `options.run`, at `options.checkpoint`.

    Args:
        options: a command line.
        changes: settings that it may have otherwise than the training.
        classical_too: a `TanhLayer` will do as well as a circuit.

    Raises:
        CheckpointError, SettingsError: the folder holds no such run.
        NoiseError: its model has no circuit.
    """
    which = options.checkpoint
    path, needs = checkpoint_path(options), IN_BEST if which == "best" else IN_EVERY_CHECKPOINT
    content = checkpoint.load(path, needs=needs)
    try:
        saved = Settings.from_dict(content["settings"])
    except SettingsError as error:
        raise SettingsError(f"{path} is of another command or version: {error}") from error
    changed = {name: value for name, value in vars(options).items() if name in changes}
    as_trained = replace(saved, rand_f_thres_delta=0, batch_chunk=1, shard="batch", keep_states=False)
    settings = replace(as_trained, **WITHOUT_NOISE, **changed)
    settings.validate()
    model = build_model(settings).eval()
    if not (hasattr(model.layer, "circuit") or classical_too and isinstance(model.layer, TanhLayer)):
        raise NoiseError(f"{named(options)} is of --model {settings.model}, which has no circuit: name one that has")
    if settings.encoding == "turned_states" or settings.injection != "add":
        kind = "--dataset states:FILE" if settings.encoding == "turned_states" else f"--injection {settings.injection}"
        raise NoiseError(f"{named(options)} is of {kind}, whose encoding has no rules for hardware here: name a run without")
    checkpoint.load_weights(model, content["model"], path)
    step = content["step"] if which == "last" else content["best"]["step"]
    return Trained(settings, saved, model, depth_of(settings, warming_up=step <= settings.pretrain_steps), step)
