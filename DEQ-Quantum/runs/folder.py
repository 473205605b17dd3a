"""A run is a folder: where it lies, whether it is new or resumed, and who may write into it.

    config.json  metrics.csv  log.txt  checkpoint_last.pt  checkpoint_best.pt  results.json  figures  trackers' files

An existing run is never overwritten: without --restart a taken name gets the next free suffix. With --restart the
settings of the run itself hold, and a flag that contradicts them is refused.
"""

import fcntl
import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO

from runs import checkpoint
from runs.command_line import CommandLine
from runs.settings import RunSettings, SettingsError, changeable_fields, flag_of
from utils.files import write_json

# of the last step, whatever is trained
IN_EVERY_CHECKPOINT = (
    "model", "optimizer", "learning_rate", "step", "best", "meter", "seconds", "steps_timed", "skipped", "wandb_id"
)  # fmt: skip


@dataclass
class RunFolder:
    """A run: its path, its settings, and its last checkpoint (None: it starts)."""

    path: Path
    settings: RunSettings
    last: dict | None
    _lock: IO | None = field(default=None, repr=False, compare=False)

    @property
    def last_path(self) -> Path:
        return self.path / "checkpoint_last.pt"

    @property
    def best_path(self) -> Path:
        return self.path / "checkpoint_best.pt"

    @property
    def results_path(self) -> Path:
        return self.path / "results.json"

    def create(self) -> None:
        """Make the folder of a run that has none yet, under the next free name, and write its settings.

        Until `release` no other process can resume the run.

        Raises:
            SettingsError: it cannot be written, or another process holds the run.
        """
        resumed = self.settings.restart and (self.path / "config.json").exists()
        try:
            if resumed:
                self._acquire()
                self.results_path.unlink(missing_ok=True)  # of a run that is being extended
            else:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path = _make_free(self.path, self.settings.restart)
            write_json(self.path / "config.json", self.settings.to_dict())
            if not resumed:
                self._acquire()
        except OSError as error:
            raise SettingsError(f"--work_dir: cannot write the run folder {self.path} ({error.strerror})") from error

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
        checkpoint.CheckpointError: its checkpoint cannot be read.
    """
    settings = command.settings
    path = Path(settings.restart_dir or Path(settings.work_dir) / settings.run_name)
    if settings.restart_dir and not (path / "config.json").exists():
        raise SettingsError(f"--restart_dir {path} is not a run folder (no config.json in it)")
    if not (settings.restart and (path / "config.json").exists()):
        return RunFolder(path, settings, None)
    last_path = path / "checkpoint_last.pt"
    # a run killed before its first checkpoint starts again, in its own folder
    last = checkpoint.load(last_path, needs=IN_EVERY_CHECKPOINT) if last_path.exists() else None
    return RunFolder(path, _saved_settings(path, command), last)


def _saved_settings(path: Path, command: CommandLine) -> RunSettings:
    """The settings of the run to resume, with what the command may change of them."""
    kind, given = type(command.settings), command.given
    changeable = changeable_fields(kind)
    try:
        saved = json.loads((path / "config.json").read_text())
    except OSError as error:
        raise SettingsError(f"cannot read {path}/config.json ({error.strerror})") from error
    except ValueError as error:
        raise SettingsError(f"{path}/config.json is not JSON ({error}): start anew without --restart") from error
    if not isinstance(saved, dict):
        raise SettingsError(f"{path}/config.json holds no settings: start anew without --restart")
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
    settings = kind.from_dict(saved | changed)
    settings.validate()
    return settings


def _make_free(path: Path, restart: bool) -> Path:
    suffix = 1
    while True:
        candidate = path if suffix == 1 else path.with_name(f"{path.name}-{suffix}")
        try:
            candidate.mkdir()
            return candidate
        except FileExistsError:
            if restart and candidate.is_dir() and not any(candidate.iterdir()):
                return candidate  # of a run that was killed before it wrote anything
            suffix += 1
