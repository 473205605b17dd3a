"""Settings of a run as a dataclass whose fields are its flags, and the parts that all kinds of training share.

A settings dataclass is composed by inheritance of parts, each of which lies where it is read and checks its own
fields; outside it is flat: one name, one flag, one entry of config.json for each field. The same object is saved with
the run, put in its checkpoints and shown by the trackers. Torch-free; errors name the flag and the remedy.
"""

import math
from dataclasses import Field, asdict, dataclass, field, fields
from pathlib import Path

from utils.command_line import LARGEST, LARGEST_FLOAT, LARGEST_SEED, LONGEST_NAME, shown
from utils.files import REPOSITORY


class SettingsError(ValueError):
    """A setting, or a combination of them, that cannot work; the message is one line for the user."""


def setting(
    default,
    group: str,
    help: str,
    choices: tuple | None = None,
    flag: str | None = None,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    positive: bool = False,
    path: bool = False,
    surrounding: bool = False,
    changeable: bool = False,
):
    """A dataclass field with what the command line says about it and what it is to a run.

    Args:
        default: the field's default.
        group, help: where `--help` shows it and what it says.
        choices: all values it may have; None: any.
        flag: its spelling; None: --name, as the field.
        at_least, at_most: the smallest and the largest value; None: the largest that any number of its type may have.
        positive: whether it must be above 0.
        path: a path of one machine, which leaves the run's folder in no tracker or results file; "" where it was not
            given, so that a run that is moved finds the default of the machine it is on.
        surrounding: where the run lies and how it is watched: no number of its results depends on it.
        changeable: a resumed run may do it differently; surroundings always may.
    """
    about = {"group": group, "help": help, "choices": choices, "flag": flag, "at_least": at_least, "at_most": at_most,
             "positive": positive, "path": path, "surrounding": surrounding, "changeable": changeable}  # fmt: skip
    return field(default=default, metadata=about)


def changed(part: type, name: str, **changes):
    """The field `name` of a part with another default or anything else that `setting` takes."""
    (f,) = [f for f in fields(part) if f.name == name]
    return setting(**{"default": f.default, **f.metadata, **changes})


def flag_of(f: Field) -> str:
    """The command-line spelling of a settings field."""
    return f.metadata["flag"] or f"--{f.name}"


def changeable_fields(kind: type) -> set[str]:
    """Names of what a resumed run may do differently: how long, where, and how it is watched."""
    return {f.name for f in fields(kind) if f.metadata["changeable"] or f.metadata["surrounding"]}


def result_fields(kind: type) -> list[str]:
    """Names of the settings that make a run's numbers: two runs that share them are the same run."""
    return [f.name for f in fields(kind) if not (f.metadata["surrounding"] or f.metadata["path"])]


@dataclass
class BaseSettings:
    """Saving and checking by field. Parts extend `validate`, calling that of super first."""

    def to_dict(self) -> dict:
        return asdict(self)

    def without_paths(self) -> dict:
        """What is told of them beyond the run's own folder."""
        return {f.name: getattr(self, f.name) for f in fields(self) if not f.metadata["path"]}

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

    def validate(self) -> list[str]:
        """Refuse what cannot work.

        Returns:
            Warnings about settings that will have no effect.

        Raises:
            SettingsError: one line that names the flag.
        """
        self.check_values(self.to_dict())
        return []

    @classmethod
    def check_values(cls, values: dict) -> None:
        """Refuse values that no run can have, whatever others it has.

        Raises:
            SettingsError: one line that names the flag.
        """
        for f in fields(cls):
            if f.name in values:
                _check(f, values[f.name])

    @classmethod
    def completed(cls, given: dict) -> dict:
        """The values of flags, with what follows from them for other settings."""
        return given

    @classmethod
    def validate_flags(cls, given: dict) -> None:
        """Refuse flags that contradict each other when both are given, whatever values a saved run has.

        Raises:
            SettingsError: one line that names the flags.
        """


def _check(f: Field, value: object) -> None:
    """Refuse a value that is not of the field's type or choices, not finite, or out of range."""
    about, flag = f.metadata, flag_of(f)
    if about["choices"] and value not in about["choices"]:
        raise SettingsError(f"{flag} must be one of {', '.join(map(str, about['choices']))}, got {shown(value)}")
    if type(value) is not f.type and not (f.type is float and type(value) is int):
        raise SettingsError(f"{flag} must be of type {f.type.__name__}, got {shown(repr(value))}")
    if f.type is str and not about["path"] and len(value.encode(errors="surrogatepass")) > LONGEST_NAME:
        raise SettingsError(f"{flag} must have at most {LONGEST_NAME} bytes, got {shown(value)}")
    if f.type not in (int, float):
        return
    most = about["at_most"] or {int: LARGEST, float: LARGEST_FLOAT}[f.type]
    if f.type is float and not (type(value) is int or math.isfinite(value)):
        raise SettingsError(f"{flag} must be a finite number, got {value}")
    if about["at_least"] is not None and value < about["at_least"]:
        raise SettingsError(f"{flag} must be at least {about['at_least']}, got {shown(value)}")
    if about["positive"] and value <= 0:
        raise SettingsError(f"{flag} must be positive, got {shown(value)}")
    if value > most:
        raise SettingsError(f"{flag} must be at most {most}, got {shown(value)}")


@dataclass
class RunSettings(BaseSettings):
    """Where a run is kept and how it is watched. The whole adds two properties: `run_name` and `tags` (strings)."""

    name: str = setting("", "run", "name of the run", surrounding=True)
    work_dir: str = setting("", "run", "folder that holds the run folders, none of which is ever overwritten "
                            "(default: runs in the repository)", path=True, surrounding=True)
    restart: bool = setting(False, "run", "continue the run --restart_dir, or --name in --work_dir, if it has begun",
                            surrounding=True)
    restart_dir: str = setting("", "run", "run folder to continue with --restart", path=True, surrounding=True)
    device: str = setting("auto", "run", "auto: CUDA where there is one", ("auto", "cpu", "cuda"), surrounding=True)
    log_interval: int = setting(0, "run", "steps between training log entries; 0: once an epoch",
                                flag="--log-interval", at_least=0)
    eval_interval: int = setting(0, "run", "steps between validations, each with a checkpoint; 0: once an epoch",
                                 flag="--eval-interval", at_least=0)
    wandb: str = setting("disabled", "run", "Weights & Biases", ("disabled", "offline", "online"), surrounding=True)
    wandb_project: str = setting("qdeq", "run", "its project", surrounding=True)
    wandb_group: str = setting("", "run", "its group, as of all runs of one table", surrounding=True)
    wandb_job_type: str = setting("", "run", "its job type, as of all runs of one row", surrounding=True)
    tensorboard: bool = setting(True, "run", "write TensorBoard events into the run folder", surrounding=True)

    @property
    def runs_folder(self) -> Path:
        """--work_dir, or its default."""
        return Path(self.work_dir or REPOSITORY / "runs")

    def validate(self) -> list[str]:
        warnings = super().validate()
        if self.name in (".", "..") or Path(self.name).name != self.name:
            raise SettingsError(f"--name is the name of a folder in --work_dir, not a path: {self.name}")
        if self.restart_dir and not self.restart:
            raise SettingsError("--restart_dir names the run to continue: add --restart")
        return warnings


@dataclass
class OptimisationSettings(BaseSettings):
    """How parameters are trained, as far as all kinds of training choose it: read by optim.py and state.py."""

    optim: str = setting("Adam", "optimisation", "optimiser", ("Adam", "SGD", "Adagrad", "RMSprop", "RAdam"))
    lr: float = setting(0.05, "optimisation", "learning rate", positive=True)
    scheduler: str = setting("constant", "optimisation", "learning rate over time", ("constant", "cosine", "inv_sqrt"))
    warmup_step: int = setting(0, "optimisation", "steps of the learning rate's ramp from 0 to --lr", at_least=0)
    eta_min: float = setting(0.0, "optimisation", "cosine: last learning rate", at_least=0)
    batch_size: int = setting(256, "optimisation", "samples per step", at_least=1)
    epochs: int = setting(100, "optimisation", "passes over the training set, unless --max_step is given",
                          at_least=1, changeable=True)
    max_step: int = setting(0, "optimisation", "optimiser steps in all; 0: as --epochs says", at_least=0,
                            changeable=True)
    seed: int = setting(1111, "optimisation", "of everything that is random", at_least=0, at_most=LARGEST_SEED)

    def validate(self) -> list[str]:
        warnings = super().validate()
        if self.scheduler == "inv_sqrt" and self.warmup_step < 1:
            raise SettingsError("--scheduler inv_sqrt decays from the end of its ramp: give --warmup_step")
        if self.eta_min and self.scheduler != "cosine":
            warnings.append("--eta_min has no effect without --scheduler cosine")
        return warnings

    @classmethod
    def validate_flags(cls, given: dict) -> None:
        super().validate_flags(given)
        if "epochs" in given and given.get("max_step"):
            raise SettingsError("--epochs and --max_step both set the length of the run: give one of them")


@dataclass
class PlateauSettings(OptimisationSettings):
    """The same with a learning rate that decays when the validation loss stalls: --scheduler dev_perf."""

    scheduler: str = changed(OptimisationSettings, "scheduler", choices=("constant", "cosine", "inv_sqrt", "dev_perf"))
    decay_rate: float = setting(0.5, "optimisation", "dev_perf: factor on the learning rate when val_loss stalls",
                                positive=True, at_most=1)
    patience: int = setting(0, "optimisation", "dev_perf: validations without improvement before a decay", at_least=0)
    lr_min: float = setting(0.0, "optimisation", "dev_perf: lowest learning rate", at_least=0)

    def validate(self) -> list[str]:
        warnings = super().validate()
        if self.decay_rate == 1:
            raise SettingsError("--decay_rate must be below 1: it would not decay")
        if self.scheduler != "dev_perf":
            idle = [name for name in ("patience", "lr_min") if getattr(self, name)]
            warnings += [f"--{name} has no effect without --scheduler dev_perf" for name in idle]
        return warnings
