"""A run is a folder: where it lies, whether it is new or goes on, its log, and facts of the machine it ran on.

    config.json  metrics.csv  log.txt  checkpoint_last.pt  checkpoint_best.pt  results.json  figures  trackers' files

An existing run is never overwritten: without --restart a taken name gets the next free suffix. With --restart the
settings of the run itself hold, and a flag that contradicts them is refused.
"""

import fcntl
import json
import logging
import platform
import resource
import subprocess
import sys
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import IO

import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from runs import checkpoint
from runs.command_line import CommandLine
from training.settings import SURROUNDINGS, BaseSettings, SettingsError, flag_of

# what a resumed run may do differently: how long, where, and how it is watched
CHANGEABLE = {*SURROUNDINGS, "max_step", "epochs"}
# of the last step, whatever is trained
IN_EVERY_CHECKPOINT = (
    "model", "optimizer", "learning_rate", "step", "best", "meter", "seconds", "steps_timed", "skipped", "wandb_id"
)  # fmt: skip

log = logging.getLogger("qdeq")


@dataclass
class RunFolder:
    """A run: its path, its settings, and the checkpoint to go on from (None: it starts)."""

    path: Path
    settings: BaseSettings
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

        Until `release` no other process can go on with the run.

        Raises:
            SettingsError: it cannot be written, or another process is at it.
        """
        goes_on = self.settings.restart and (self.path / "config.json").exists()
        try:
            if goes_on:
                self._acquire()
                self.results_path.unlink(missing_ok=True)  # of a run that is being extended
            else:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path = _make_free(self.path, self.settings.restart)
            checkpoint.write_json(self.path / "config.json", self.settings.to_dict())
            if not goes_on:
                self._acquire()
        except OSError as error:
            raise SettingsError(f"--work_dir: cannot write the run folder {self.path} ({error.strerror})") from error


    def _acquire(self) -> None:
        self._lock = (self.path / "log.txt").open("a")  # the one file that is never replaced
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise SettingsError(f"another process is at the run {self.path}: let it end, or stop it first") from None
        except OSError:  # a file system without locks
            pass

    def release(self) -> None:
        """Let other processes go on with the run."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def find_run(command: CommandLine) -> RunFolder:
    """The run a command starts or goes on with; writes nothing.

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


def _saved_settings(path: Path, command: CommandLine) -> BaseSettings:
    kind, given = type(command.settings), command.given
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
        if f.name in given and f.name not in CHANGEABLE and given[f.name] != of_run:
            raise SettingsError(
                f"{flag_of(f)} {given[f.name]} contradicts the run to continue ({of_run}): "
                "leave it out, or start a new run without --restart"
            )
    changed = {name: value for name, value in given.items() if name in CHANGEABLE}
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


def start_log(path: Path | None) -> None:
    """Send the log to the screen (beside a progress bar if there is one) and, given a path, to a file."""
    log.setLevel(logging.INFO)
    log.propagate = False
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    screen = logging.StreamHandler(sys.stdout)
    screen.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(screen)
    if path is not None:
        file = logging.FileHandler(path)
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(file)


def beside_bar():
    """Context in which log lines do not tear the progress bar."""
    return logging_redirect_tqdm(loggers=[log])


def choose_device(settings: BaseSettings) -> torch.device:
    """The device --device asks for.

    Raises:
        SettingsError: CUDA where there is none.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("--device cuda: torch sees no CUDA device here; use --device cpu or auto")
    name = ("cuda" if torch.cuda.is_available() else "cpu") if settings.device == "auto" else settings.device
    return torch.device(name)


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory in MB: allocated on the CUDA device, or resident in this process on the CPU (all of Python)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def free_bytes(device: torch.device) -> float:
    """Memory that can still be had, in bytes; inf where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return float("inf")


def environment(device: torch.device) -> dict:
    """Date, versions, device and commit, for results.json; None for what is not there."""
    try:
        torchquantum = metadata.version("torchquantum")
    except metadata.PackageNotFoundError:
        torchquantum = None
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "torchquantum": torchquantum,
        "python": platform.python_version(),
        "device": f"{device.type} ({name})",
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """The commit of this source, with "-dirty" if tracked files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
