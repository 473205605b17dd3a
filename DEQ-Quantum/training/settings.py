"""Every setting of a run in one dataclass: default, meaning and command-line form of each, and their validation.

Flags keep the spelling of the paper's released code. The same object is saved with the run, put in its checkpoints
and shown by the trackers. Knows nothing of models or data; errors name the flag and the remedy.
"""

import math
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from engines import ENGINES
from models.table import MODELS

REPOSITORY = Path(__file__).resolve().parents[2]
PATHS = ("data_dir", "work_dir", "restart_dir", "load")  # of one machine: kept in config.json only
# where a run is and how it is watched: no number of its results depends on these
SURROUNDINGS = (
    "restart", "restart_dir", "name", "work_dir", "data_dir", "device", "wandb", "wandb_project", "wandb_group",
    "wandb_job_type", "tensorboard",
)  # fmt: skip
DATASETS = ("mnist", "fashion_mnist", "cifar10", "digits")


class SettingsError(ValueError):
    """A setting, or a combination of them, that cannot work; the message is one line for the user."""


def setting(default, group: str, help: str, choices: tuple | None = None, flag: str | None = None):
    """A dataclass field that carries what the command line says about it."""
    return field(default=default, metadata={"group": group, "help": help, "choices": choices, "flag": flag})


class BaseSettings:
    """What the settings dataclasses of all kinds of runs share: defaults of paths, saving, and checks by field."""

    def __post_init__(self):
        self.data_dir = self.data_dir or os.environ.get("QDEQ_DATA") or str(REPOSITORY / "data")
        self.work_dir = self.work_dir or str(REPOSITORY / "runs")

    def to_dict(self) -> dict:
        return asdict(self)

    def without_paths(self) -> dict:
        """What is told of them beyond the run's own folder."""
        return {name: value for name, value in asdict(self).items() if name not in PATHS}

    @classmethod
    def from_dict(cls, values: dict) -> "BaseSettings":
        """Settings that were saved with a run.

        Raises:
            SettingsError: an entry this version does not know.
        """
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise SettingsError(f"the saved settings have unknown entries: {', '.join(sorted(unknown))}")
        return cls(**values)

    def check_fields(self, at_least: dict[int, tuple[str, ...]]) -> None:
        """Refuse values that are not of a field's type or choices, not finite, or too small.

        Args:
            at_least: names of fields by the smallest value they may have.

        Raises:
            SettingsError: one line that names the flag.
        """
        for f in fields(self):
            value, choices = getattr(self, f.name), f.metadata["choices"]
            if choices and value not in choices:
                raise SettingsError(f"{flag_of(f)} must be one of {', '.join(map(str, choices))}, got {value}")
            if type(value) is not f.type and not (f.type is float and type(value) is int):
                raise SettingsError(f"{flag_of(f)} must be of type {f.type.__name__}, got {value!r}")
            if f.type is float and not math.isfinite(value):
                raise SettingsError(f"{flag_of(f)} must be a finite number, got {value}")
        for minimum, names in at_least.items():
            for f in fields(self):
                if f.name in names and not getattr(self, f.name) >= minimum:
                    raise SettingsError(f"{flag_of(f)} must be at least {minimum}, got {getattr(self, f.name)}")
        if self.seed >= 2**63:
            raise SettingsError(f"--seed must be below 2^63, got {self.seed}")
        if self.name in (".", "..") or Path(self.name).name != self.name:
            raise SettingsError(f"--name is the name of a folder in --work_dir, not a path: {self.name}")


@dataclass
class Settings(BaseSettings):
    """Settings of one training run. Fields are the flags; `help` says what each does."""

    # model
    model: str = setting("qdeq", "model", "qdeq, or a baseline trained the same way: " + ", ".join(
                         f"{m.name} ({m.about})" for m in MODELS.values() if m.label), tuple(MODELS))
    dataset: str = setting("mnist", "data", "images to classify; digits needs no download", DATASETS)
    num_classes: int = setting(10, "data", "2 (digits 3, 6), 4 (0, 3, 6, 9) or all 10", (2, 4, 10))
    data_dir: str = setting("", "data", "folder of the cached <dataset>.npz files (default: $QDEQ_DATA, else data "
                            "in the repository)")
    n_wires: int = setting(10, "model", "qubits, even, from 4; images are pooled to n_wires x n_wires features, also "
                           "where there is no circuit")
    amplitude_encoder: bool = setting(True, "model", "True: features are amplitudes; False: rotation angles")
    mode: str = setting("implicit", "model", "implicit: equilibrium; direct: n_layer weight-tied layers",
                        ("implicit", "direct"))
    n_layer: int = setting(0, "model", "layers of --mode direct, or of the warm-up before --mode implicit")
    dropout: float = setting(0.05, "model", "probability of dropping an entry of the equilibrium in training; "
                             " and ".join(m.name for m in MODELS.values() if not m.has_dropout) + " have none")
    engine: str = setting("compiled", "model", "; ".join(f"{n}: {e.about}" for n, e in ENGINES.items()),
                          tuple(ENGINES))
    trainable_gates: str = setting("all", "model", "released: freeze the four-qubit blocks' gates, as the released "
                                   "code does", ("all", "released"))
    # optimisation
    optim: str = setting("Adam", "optimisation", "optimiser", ("Adam", "SGD", "Adagrad", "RMSprop", "RAdam"))
    lr: float = setting(0.05, "optimisation", "learning rate (Table 5 of the paper: 0.0075 to 0.1)")
    scheduler: str = setting("constant", "optimisation", "learning rate over time, after a linear ramp of "
                             "--warmup_step steps", ("constant", "cosine", "inv_sqrt", "dev_perf"))
    warmup_step: int = setting(0, "optimisation", "steps of the learning rate's ramp from 0 to --lr")
    eta_min: float = setting(0.0, "optimisation", "cosine: last learning rate")
    decay_rate: float = setting(0.5, "optimisation", "dev_perf: factor on the learning rate when val_loss stalls")
    patience: int = setting(0, "optimisation", "dev_perf: validations without improvement before a decay")
    lr_min: float = setting(0.0, "optimisation", "dev_perf: lowest learning rate")
    clip: float = setting(0.25, "optimisation", "largest gradient norm; 0 does not clip")
    weight_decay: float = setting(0.0, "optimisation", "L2 penalty")
    batch_size: int = setting(256, "optimisation", "images per step")
    batch_chunk: int = setting(1, "optimisation", "split each batch into this many parts to save memory")
    epochs: int = setting(100, "optimisation", "passes over the training set, unless --max_step is given")
    max_step: int = setting(0, "optimisation", "optimiser steps in all, warm-up included; 0: as --epochs says")
    pretrain_steps: int = setting(0, "optimisation", "warm-up: first steps through --n_layer explicit layers")
    start_train_steps: int = setting(0, "optimisation", "steps taken before the first one, as by --load's run; they "
                                     "count in --max_step and --pretrain_steps")
    seed: int = setting(1111, "optimisation", "of parameters, split, batches, dropout and random vectors")
    # equilibrium
    f_solver: str = setting("broyden", "equilibrium", "solver of z = f(z; x); newton (exact Jacobian) is the fastest "
                            "with the compiled amplitude engine", ("broyden", "anderson", "fixed_point", "newton"))
    b_solver: str = setting("broyden", "equilibrium", "solver of the gradient's linear system; exact: direct solve",
                            ("broyden", "anderson", "fixed_point", "exact"))
    stop_mode: str = setting("rel", "equilibrium", "residual that stops: rel ||f(z)-z||/||z||, abs ||f(z)-z||",
                             ("rel", "abs"))
    f_thres: int = setting(10, "equilibrium", "most forward solver steps")
    b_thres: int = setting(10, "equilibrium", "most backward solver steps")
    f_tol: float = setting(1e-3, "equilibrium", "residual at which a sample's forward solve stops")
    b_tol: float = setting(1e-3, "equilibrium", "residual at which a sample's backward solve stops")
    rand_f_thres_delta: int = setting(2, "equilibrium", "training draws the forward cap from f_thres - {0..delta}")
    jac_loss_weight: float = setting(0.0, "equilibrium", "weight of ||J_f||_F^2 / numel(z) in the loss")
    jac_loss_freq: float = setting(0.0, "equilibrium", "fraction of steps that carry the Jacobian loss, 0 to 1")
    jac_incremental: int = setting(0, "equilibrium", "raise the Jacobian weight by 0.1 every so many steps, up to 2")
    spectral_radius_mode: bool = setting(False, "equilibrium", "report the Jacobian's spectral radius at validation "
                                         "(mean over the first 2048 images)")
    # the run
    name: str = setting("", "run", "name of the run (default: made from data set, model and seed)")
    work_dir: str = setting("", "run", "folder that holds the run folders, none of which is ever overwritten "
                            "(default: runs in the repository)")
    restart: bool = setting(False, "run", "continue the run --restart_dir, or --name in --work_dir, if it has begun")
    restart_dir: str = setting("", "run", "run folder to continue with --restart")
    load: str = setting("", "run", "start from the parameters of this checkpoint (.pt) or run folder")
    device: str = setting("auto", "run", "auto: CUDA where there is one", ("auto", "cpu", "cuda"))
    log_interval: int = setting(0, "run", "steps between training log entries; 0: once an epoch", flag="--log-interval")
    eval_interval: int = setting(0, "run", "steps between validations, each with a checkpoint; 0: once an epoch",
                                 flag="--eval-interval")
    max_eval_steps: int = setting(-1, "run", "batches of --batch_size images per validation, -1: all images; the test "
                                  "is always whole")
    wandb: str = setting("disabled", "run", "Weights & Biases", ("disabled", "offline", "online"))
    wandb_project: str = setting("qdeq", "run", "its project")
    wandb_group: str = setting("", "run", "its group, as of all runs of one table")
    wandb_job_type: str = setting("", "run", "its job type, as of all runs of one row")
    tensorboard: bool = setting(True, "run", "write TensorBoard events into the run folder")
    debug: bool = setting(False, "run", "check every gradient for NaN (slow) and leave no run folder behind")

    @property
    def encoding(self) -> str:
        """How features enter the circuit: amplitude, angle, components (as angles), or none without a circuit."""
        return MODELS[self.model].encoding(self)

    @property
    def reduction(self) -> str:
        """What `dataset.load_features` makes of the images."""
        return MODELS[self.model].features

    @property
    def run_name(self) -> str:
        """--name, or one made from what was chosen."""
        kind = f"direct{self.n_layer}" if self.mode == "direct" else "warmup" if self.pretrain_steps else "implicit"
        model = MODELS[self.model]
        encoding = self.encoding if len(model.encodings) > 1 else ""
        kind = kind if model.has_depth else ""
        model = model.name if model.label else ""
        parts = (self.dataset, f"{self.num_classes}c", f"{self.n_wires}q", encoding, model, kind, f"seed{self.seed}")
        return self.name or "_".join(filter(None, parts))

    @property
    def tags(self) -> list[str]:
        """What Weights & Biases files the run under."""
        return [self.dataset, f"{self.num_classes}C"]

    def validate(self) -> list[str]:
        """Refuse what cannot work.

        Returns:
            Warnings about settings that will have no effect.

        Raises:
            SettingsError: one line that names the flag.
        """
        self._check_ranges()
        if wrong := MODELS[self.model].check(self):
            raise SettingsError(wrong)
        if self.mode == "direct" and self.n_layer < 1:
            raise SettingsError("--mode direct needs --n_layer, the number of layers (1 or more)")
        if self.mode == "direct" and self.pretrain_steps:
            raise SettingsError("--pretrain_steps warms up --mode implicit; with --mode direct leave it at 0")
        if self.pretrain_steps and self.n_layer < 1:
            raise SettingsError("--pretrain_steps needs --n_layer, the number of layers of the warm-up (1 or more)")
        if self.max_step and self.pretrain_steps >= self.max_step:
            raise SettingsError("--pretrain_steps must be smaller than --max_step: the warm-up would never end")
        if self.max_step and self.start_train_steps >= self.max_step:
            raise SettingsError("--start_train_steps must be smaller than --max_step")
        if self.mode == "implicit" and self.rand_f_thres_delta >= self.f_thres:
            raise SettingsError(
                f"--rand_f_thres_delta {self.rand_f_thres_delta} takes up to so many of the --f_thres {self.f_thres} "
                f"forward steps, and one must remain: add --rand_f_thres_delta {self.f_thres - 1}, or raise --f_thres"
            )
        if self.batch_chunk > self.batch_size:
            raise SettingsError("--batch_chunk cannot exceed --batch_size")
        if self.scheduler == "inv_sqrt" and self.warmup_step < 1:
            raise SettingsError("--scheduler inv_sqrt decays from the end of its ramp: give --warmup_step")
        if self.restart_dir and not self.restart:
            raise SettingsError("--restart_dir names the run to continue: add --restart")
        if self.restart and self.debug:
            raise SettingsError("--debug leaves no run folder behind: there is nothing to --restart")
        return self._without_effect()

    def _check_ranges(self) -> None:
        at_least = {
            0: ("n_layer", "warmup_step", "eta_min", "patience", "lr_min", "clip", "weight_decay", "pretrain_steps",
                "max_step", "start_train_steps", "rand_f_thres_delta", "jac_loss_weight", "jac_incremental", "seed",
                "log_interval", "eval_interval"),
            1: ("batch_size", "batch_chunk", "epochs", "f_thres", "b_thres"),
            -1: ("max_eval_steps",),
        }
        self.check_fields(at_least)
        if self.n_wires < 4 or self.n_wires % 2:
            raise SettingsError(f"--n_wires must be an even number from 4, got {self.n_wires}")
        for name in ("lr", "f_tol", "b_tol"):
            if getattr(self, name) <= 0:
                raise SettingsError(f"--{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.jac_loss_freq <= 1:
            raise SettingsError(f"--jac_loss_freq is a fraction of the steps, 0 to 1, got {self.jac_loss_freq}")
        if not 0 <= self.dropout < 1:
            raise SettingsError(f"--dropout is a probability below 1, got {self.dropout}")
        if not 0 < self.decay_rate < 1:
            raise SettingsError(f"--decay_rate must lie between 0 and 1, got {self.decay_rate}")
        if self.max_eval_steps == 0:
            raise SettingsError("--max_eval_steps 0 would validate on nothing: give -1 for all batches")

    def _without_effect(self) -> list[str]:
        warnings = [f"--{name} has no effect with --model {self.model}" for name in self._idle_with_model()]
        if self.mode == "implicit" and self.n_layer and not self.pretrain_steps:
            warnings.append("--n_layer has no effect: --mode implicit uses it for a warm-up of --pretrain_steps")
        if bool(self.jac_loss_weight or self.jac_incremental) != bool(self.jac_loss_freq):
            warnings.append("no Jacobian loss: it needs both --jac_loss_weight and --jac_loss_freq")
        elif self.jac_loss_freq and self.mode == "direct":
            warnings.append("--jac_loss_weight has no effect with --mode direct")
        for scheduler, names in {"dev_perf": ("patience", "lr_min"), "cosine": ("eta_min",)}.items():
            warnings += [f"--{n} has no effect without --scheduler {scheduler}" for n in names
                         if getattr(self, n) and self.scheduler != scheduler]  # fmt: skip
        return warnings

    def _idle_with_model(self) -> list[str]:
        """Settings that differ from their default although the model does not read them."""
        model = MODELS[self.model]
        idle = []
        if model.circuit is None:
            idle += ["engine", "trainable_gates"]
        if len(model.encodings) < 2:
            idle += ["amplitude_encoder"]
        if not model.has_dropout:
            idle += ["dropout"]
        if not model.has_depth:
            idle += ["pretrain_steps", "jac_loss_weight", "jac_loss_freq"]
        return [f.name for f in fields(self) if f.name in idle and getattr(self, f.name) != f.default]


def flag_of(f) -> str:
    """The command-line spelling of a settings field."""
    return f.metadata["flag"] or f"--{f.name}"
