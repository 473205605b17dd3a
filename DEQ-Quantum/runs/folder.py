"""A run is a folder: where it lies, whether it is new or resumed, and who may write into it.

    config.json  metrics.csv  log.txt  checkpoint_last.pt  checkpoint_previous.pt  checkpoint_best.pt  results.json
    figures  trackers' files

An existing run is never overwritten: without --restart a taken name gets the next free suffix. With --restart the
settings of the run itself hold, and a flag that contradicts them is refused. A run resumes from its last checkpoint, or
from the one before where the last is damaged; a checkpoint of another run is refused.
"""

import fcntl
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO

from runs import checkpoint
from runs.checkpoint import CheckpointError, is_count, is_duration, is_numbers, is_parameters, is_table
from runs.command_line import CommandLine
from runs.settings import RunSettings, SettingsError, changeable_fields, flag_of, result_fields
from utils.files import is_blank, read_json, remove_leftovers, write_json


def _is_best(value: object) -> bool:
    return is_numbers(value) and (not value or is_count(value.get("step")))


def _is_meter(value: object) -> bool:
    if not (isinstance(value, dict) and is_numbers(value.get("sums")) and is_table(value.get("counts"), int)):
        return False
    return value["sums"].keys() == value["counts"].keys() and all(count > 0 for count in value["counts"].values())


def _is_learning_rate(value: object) -> bool:
    return is_numbers(value) and is_count(value.get("stalled")) and {"best_loss", "decay"} <= value.keys()


# of the last step, whatever is trained, and what it must be
IN_EVERY_CHECKPOINT = {
    "settings": lambda value: is_table(value, object) and all(is_count(value.get(n)) for n in ("max_step", "epochs")),
    "model": is_parameters,
    "optimizer": lambda value: isinstance(value, dict),
    "learning_rate": _is_learning_rate,
    "step": is_count,
    "best": _is_best,
    "meter": _is_meter,
    "seconds": is_duration,
    "steps_timed": is_count,
    "skipped": is_count,
    "wandb_id": lambda value: value is None or type(value) is str,
}
# the same, but older versions wrote none
IN_NEW_CHECKPOINTS = {
    "best_model": lambda value: value is None or is_parameters(value),
    "device": lambda value: type(value) is str,
    "metrics_sha256": lambda value: type(value) is str,
    "remarks": lambda value: isinstance(value, list) and all(type(line) is str for line in value),
}


@dataclass
class RunFolder:
    """A run: its path, its settings, its last checkpoint (None: it starts), and what its user must be told.

    Attributes:
        notes: lines for the log, where the run does not simply resume as it was.
        goes_back: whether `last` is the checkpoint before the last, which is damaged.
    """

    path: Path
    settings: RunSettings
    last: dict | None
    notes: list[str] = field(default_factory=list)
    goes_back: bool = False
    _seen: tuple | None = field(default=None, repr=False, compare=False)  # of the last checkpoint, before it was read
    _lock: IO | None = field(default=None, repr=False, compare=False)

    @property
    def last_path(self) -> Path:
        return self.path / "checkpoint_last.pt"

    @property
    def previous_path(self) -> Path:
        return self.path / "checkpoint_previous.pt"

    @property
    def best_path(self) -> Path:
        return self.path / "checkpoint_best.pt"

    @property
    def results_path(self) -> Path:
        return self.path / "results.json"

    def results(self) -> dict | None:
        """What results.json holds; None where there is none, or anything else."""
        try:
            content = read_json(self.results_path)
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def create(self) -> None:
        """Make the folder of a run that has none yet, under the next free name, and write its settings.

        Until `release` no other process can resume the run. What a killed process left half written is removed.

        Raises:
            SettingsError: it cannot be written, or another process holds the run.
        """
        try:
            if not (self.settings.restart and _has_begun(self.path)):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path = _make_free(self.path, self.settings.restart)
            self._acquire()
            if _look_of(self.last_path) != self._seen:
                self.release()
                raise SettingsError(f"another process has gone on with the run {self.path} meanwhile: start again")
            remove_leftovers(self.path)
            if self.goes_back:  # first: the damaged one must not become the one before the next
                os.replace(self.previous_path, self.last_path)
            write_json(self.path / "config.json", self.settings.to_dict())
        except OSError as error:
            self.release()
            path = error.filename2 or error.filename or self.path
            raise SettingsError(f"--work_dir or --name: cannot write {path} ({error.strerror})") from error

    def _acquire(self) -> None:
        self._lock = (self.path / "log.txt").open("a")  # the one file that is never replaced
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise SettingsError(f"another process holds the run {self.path}: let it end, or stop it first") from None
        except OSError:  # a file system without locks
            pass

    def release(self) -> None:
        """Let other processes resume the run."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def find_run(command: CommandLine) -> RunFolder:
    """The run a command starts or resumes; writes nothing.

    Raises:
        SettingsError: nothing to restart, or flags that contradict the run's settings.
        checkpoint.CheckpointError: no checkpoint of it can be used, or it is another run's.
    """
    settings = command.settings
    path = Path(settings.restart_dir or settings.runs_folder / settings.run_name)
    try:
        has_begun = _has_begun(path)
    except OSError as error:
        flag = "--restart_dir" if settings.restart_dir else "--work_dir or --name"
        raise SettingsError(f"{flag}: cannot look into {path} ({error.strerror})") from error
    if settings.restart_dir and not has_begun:
        raise SettingsError(f"--restart_dir {path} is not a run folder (no config.json in it)")
    if not (settings.restart and has_begun):
        return RunFolder(path, settings, None)
    run = RunFolder(path, settings, None)
    run._seen = _look_of(run.last_path)
    run.last = _last_checkpoint(run)
    run.settings = _saved_settings(run, command)
    if run.last is not None:
        _refuse_another_run(run)
        _note_changes(run, command)
    return run


def _look_of(path: Path) -> tuple | None:
    """What tells a file from the one that replaces it; None where none can be read."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _has_begun(path: Path) -> bool:
    """Whether a folder holds a run that can be resumed: it has settings, or a checkpoint that knows them."""
    return any((path / name).exists() for name in ("config.json", "checkpoint_last.pt", "checkpoint_previous.pt"))


def _last_checkpoint(run: RunFolder) -> dict | None:
    """The checkpoint to resume from; None: a run that was killed before its first starts again, in its own folder."""
    if not run.last_path.exists() and not run.previous_path.exists():
        return None
    try:
        return _read(run.last_path)
    except CheckpointError as error:
        damage = str(error)
    try:
        content = _read(run.previous_path)
    except CheckpointError as error:
        raise CheckpointError(
            f"{damage}, and no other can take its place ({error}): where you have no copy, remove checkpoint_last.pt "
            "and checkpoint_previous.pt, and the run restarts at step 0"
        ) from error
    run.goes_back = True
    run.notes.append(f"{damage}: the run goes back to step {content['step']}, that of {run.previous_path.name}")
    return content


def _read(path: Path) -> dict:
    content = checkpoint.load(path, needs=IN_EVERY_CHECKPOINT)
    checkpoint.check(content, IN_NEW_CHECKPOINTS, path)
    return content


def _refuse_another_run(run: RunFolder) -> None:
    """Refuse a checkpoint that was made with other settings than those of its folder."""
    path, kind, saved = run.previous_path if run.goes_back else run.last_path, type(run.settings), run.last["settings"]
    if unknown := sorted(set(saved) - {f.name for f in fields(kind)}):
        raise CheckpointError(f"{path} is of another command or version: it has settings that are unknown here "
                              f"({', '.join(unknown)})")  # fmt: skip
    compared = set(result_fields(kind)) - changeable_fields(kind)
    for f in fields(kind):
        theirs, ours = saved.get(f.name, f.default), getattr(run.settings, f.name)
        if f.name in compared and theirs != ours:
            raise CheckpointError(
                f"{path} is of another run: it has {flag_of(f)} {theirs}, and config.json has {ours}: "
                "put the run's own checkpoint back, or start a new run without --restart"
            )


def _note_changes(run: RunFolder, command: CommandLine) -> None:
    """Tell which settings of config.json, that no number depends on, are not those of the checkpoint."""
    chosen = {"restart", *command.given}
    if chosen & {"epochs", "max_step"}:  # each sets the other's place
        chosen |= {"epochs", "max_step"}
    for f in fields(type(run.settings)):
        theirs, ours = run.last["settings"].get(f.name, f.default), getattr(run.settings, f.name)
        if theirs != ours and f.name not in chosen and not f.metadata["path"]:
            run.notes.append(f"config.json has {flag_of(f)} {ours}, and the last checkpoint {theirs}")


def _saved_settings(run: RunFolder, command: CommandLine) -> RunSettings:
    """The settings of the run to resume, with what the command may change of them."""
    kind, given, path = type(command.settings), command.given, run.path / "config.json"
    changeable = changeable_fields(kind)
    saved = _config(run, path)
    for f in fields(kind):
        of_run = saved.get(f.name, f.default)  # a run older than a setting has its default
        if f.name in given and f.name not in changeable and given[f.name] != of_run:
            raise SettingsError(
                f"{flag_of(f)} {given[f.name]} contradicts the run to continue ({of_run}): "
                "leave it out, or start a new run without --restart"
            )
    changed = {name: value for name, value in given.items() if name in changeable}
    if "epochs" in given:
        changed["max_step"] = 0
    try:
        settings = kind.from_dict(saved | changed)
        settings.validate()
    except SettingsError as error:
        raise SettingsError(f"{error} (settings of {path} and flags of this command)") from error
    return settings


def _config(run: RunFolder, path: Path) -> dict:
    """The content of config.json, or what the checkpoint knows of it."""
    try:
        saved = read_json(path)
        if isinstance(saved, dict):
            return saved
        reason = "holds no settings"
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except ValueError as error:
        reason = f"is not JSON ({error})"
    if run.last is None:
        raise SettingsError(f"{path} {reason}: start anew without --restart")
    run.notes.append(f"{path} {reason}: it is made anew from the checkpoint's settings")
    return run.last["settings"]


def _make_free(path: Path, restart: bool) -> Path:
    suffix = 1
    while True:
        candidate = path if suffix == 1 else path.with_name(f"{path.name}-{suffix}")
        try:
            candidate.mkdir()
            return candidate
        except FileExistsError:
            if restart:
                if candidate.is_dir() and is_blank(candidate):
                    return candidate  # of a run that was killed before it wrote its settings
                raise SettingsError(f"--restart: {path} is no run folder (no config.json in it), and not empty: "
                                    "choose another --name") from None  # fmt: skip
            suffix += 1
