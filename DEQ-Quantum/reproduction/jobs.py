"""One job: one row of a table with one seed, run as a train_qdeq.py process of its own, or with other seeds' in one.

A job is named by its settings: a run folder with the same settings is that job's run, finished or to be resumed, and
a run with any other settings is left alone, also one that another command begins meanwhile. Nothing here imports torch,
so that a worker which only waits for its process stays small.
"""

import ctypes
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, Protocol

from reproduction.rows import Row, Table
from runs.settings import SettingsError, result_fields
from runs.signals import ASKS
from training.command_line import parse_command_line
from training.settings import Settings
from utils.csv_rows import read_rows
from utils.files import REPOSITORY, is_blank, read_json

TRAIN = REPOSITORY / "DEQ-Quantum" / "train_qdeq.py"
ATTEMPTS = 3  # of a process that is killed again and again
POLL = 0.3  # seconds
STOPPED_BY = {128 + number for number in ASKS}
SWITCHES = {f.name for f in fields(Settings) if f.type is bool and f.default is False}
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1


class StopFlag(Protocol):
    """What asks runs to stop once it exists: a file's path, or what machines without a common file system see."""

    def exists(self) -> bool: ...


@dataclass(frozen=True)
class Outcome:
    """How a job ended: "finished", "stopped" (on request, to be resumed) or "failed" with the reason."""

    status: str
    message: str = ""


@dataclass(frozen=True)
class Progress:
    """How far a run is: its epoch, and the accuracy at its last validation in [0, 1]."""

    epoch: float
    val_acc: float


@dataclass(frozen=True)
class Job:
    """One row with one seed.

    Attributes:
        table, row, label: names of the table and the row, and what the row is called.
        seed, epochs: of the run.
        flags: of train_qdeq.py, all but where the run lies.
        path: the run's folder, with a suffix where runs with other settings have taken that name.
        settings: what the flags say.
    """

    table: str
    row: str
    label: str
    seed: int
    epochs: int
    flags: tuple[str, ...]
    path: Path
    settings: Settings = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        return f"{self.label}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where the run lies, or would if it began now: until then another run may take the place."""
        return _folder(self.path, self.settings)

    @property
    def command(self) -> list[str]:
        """Starts the run, or resumes it where it has begun."""
        folder = self.folder
        where = ["--restart", "--name", folder.name, "--work_dir", str(folder.parent)]
        return [sys.executable, str(TRAIN), *self.flags, *where]

    @property
    def shown_command(self) -> str:
        return shlex.join(self.command)

    def results(self) -> dict | None:
        """The content of results.json; None while the run is not finished, or was with other settings."""
        try:
            found = read_json(self.folder / "results.json")
        except (OSError, ValueError):
            return None
        if not isinstance(found, dict) or "test_acc" not in found:
            return None
        return found if same_run(found.get("settings", self.settings.to_dict()), self.settings) else None

    def progress(self) -> Progress | None:
        """How far the run is; None before its first validation, or while that cannot be read."""
        try:
            rows, _ = read_rows(self.folder / "metrics.csv", ("event", "epoch", "val_acc"))
            last = [row for row in rows if row["event"] == "val"][-1]
            return Progress(float(last["epoch"]), float(last["val_acc"]))
        except (OSError, IndexError, ValueError):  # not there yet, or without a validation
            return None


def flags_of(table: Table, row: Row, epochs: int) -> tuple[str, ...]:
    """The flags that make a row, for train_qdeq.py: what is trained and for how long, without a seed.

    A warm-up keeps its share of a run that is shortened, else it would fill the run; so do rows with a length of their own.
    """
    own = epochs if row.epochs is None else max(1, round(row.epochs * epochs / table.epochs))
    flags = table.flags | row.flags | {"epochs": own}
    if "pretrain_steps" in flags:
        flags["pretrain_steps"] = max(1, round(flags["pretrain_steps"] * epochs / table.epochs))
    return tuple(word for name, value in flags.items() for word in words_of(name, value))


def words_of(name: str, value: object) -> tuple[str, ...]:
    """A flag as typed; a switch stands alone or not at all."""
    if name in SWITCHES:
        return (f"--{name}",) if value else ()
    return f"--{name}", str(value)


def make_job(
    table: Table,
    row: Row,
    seed: int,
    epochs: int,
    work_dir: Path,
    extra: tuple[str, ...] = (),
    name: str | None = None,
) -> Job:
    """The job of a row and a seed.

    Args:
        table, row, seed: what is trained.
        epochs: of the table's runs; a row with a length of its own has its share of them, as `flags_of` says.
        work_dir: folder of all runs; this one's is <table>/<row>/seed-<n> in it.
        extra: further flags of train_qdeq.py: device, data folder, trackers.
        name: of the run's folder, in place of seed-<n>.
    """
    flags = (*flags_of(table, row, epochs), "--seed", str(seed), *extra)
    path = work_dir.resolve() / table.name / row.name / (name or f"seed-{seed}")
    settings = parse_command_line(list(flags)).settings
    return Job(table.name, row.name, row.label, seed, settings.epochs, flags, path, settings)


def same_run(saved: dict, wanted: Settings) -> bool:
    """Whether settings that were saved with a run are those wanted, wherever and however watched it ran."""
    try:
        settings = Settings.from_dict(saved)
    except (SettingsError, TypeError):
        return False
    compared = result_fields(Settings)
    return all(getattr(settings, name) == getattr(wanted, name) for name in compared)


def _folder(path: Path, wanted: Settings) -> Path:
    suffix = 1
    while True:
        folder = path if suffix == 1 else path.with_name(f"{path.name}-{suffix}")
        if not folder.exists() or is_blank(folder):
            return folder
        try:
            saved = read_json(folder / "config.json")
        except (OSError, ValueError):
            saved = None
        if isinstance(saved, dict) and same_run(saved, wanted):
            return folder
        suffix += 1


def run_job(job: Job, stop: StopFlag, threads: int, watch: Callable[[], None] = lambda: None) -> Outcome:
    """`run_jobs` of one."""
    (outcome,) = run_jobs((job,), stop, threads, watch)
    return outcome


def run_jobs(
    jobs: Sequence[Job], stop: StopFlag, threads: int, watch: Callable[[], None] = lambda: None
) -> list[Outcome]:
    """Train jobs to their ends in one process, resuming their last checkpoints; one that is killed is started again.

    Two workers never write one run: a lock beside its folder is held for as long as its process lives, even where
    the worker that started it is gone. While one waits for it, the folder may turn out to be that of a run with other
    settings: then it looks for another.

    Args:
        jobs: what to run: one, or several that differ in their seed alone.
        stop: once it exists, the runs are asked to save and stop.
        threads: of the process.
        watch: called often while the process runs; what it raises stops the process and comes back.
    """
    for job in jobs:
        job.path.parent.mkdir(parents=True, exist_ok=True)
    while not stop.exists():
        with ExitStack() as files:
            if (locks := _locks(jobs, files)) is not None:
                return _run(jobs, stop, threads, watch, locks)
        time.sleep(POLL)  # another command is at one of these runs, or what a lost worker has left
    return [Outcome("stopped") for _ in jobs]


def _locks(jobs: Sequence[Job], files: ExitStack) -> list[int] | None:
    """The locks of all jobs' folders, held until the files are closed; None where one is not to be had."""
    locks = []
    for job in jobs:
        folder = job.folder
        lock = files.enter_context(lock_path(folder).open("w"))
        if not (acquire(lock) and job.folder == folder):
            return None
        locks.append(lock.fileno())
    return locks


def lock_path(folder: Path) -> Path:
    """The file beside a run's folder that who writes into it holds."""
    return folder.parent / f".{folder.name}.lock"


def acquire(lock: IO) -> bool:
    """Whether an open file's lock is ours now."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _run(
    jobs: Sequence[Job], stop: StopFlag, threads: int, watch: Callable[[], None], locks: Sequence[int]
) -> list[Outcome]:
    """`run_jobs`, once the locks are held."""
    why, lines = f"killed {ATTEMPTS} times (out of memory?)", []
    for _ in range(ATTEMPTS):
        left = [job for job in jobs if job.results() is None]
        if not left or stop.exists():
            break
        status, said = _train(left, stop, threads, watch, locks)
        if status >= 0 and status not in STOPPED_BY:
            why, lines = f"exit status {status}", said
            break
    return [_outcome(job, stop, [line for line in lines if len(jobs) == 1 or f"seed {job.seed}: " in line] or [why])
            for job in jobs]  # fmt: skip


def _outcome(job: Job, stop: StopFlag, lines: list[str]) -> Outcome:
    """How a job ended of which its process has said these lines."""
    if job.results() is not None:
        return Outcome("finished")
    return Outcome("stopped") if stop.exists() else Outcome("failed", lines[-1])


def command_of(jobs: Sequence[Job]) -> list[str]:
    """Starts the runs of jobs in one process, or resumes those that have begun."""
    if len(jobs) == 1:
        return jobs[0].command
    seeds, names = [str(job.seed) for job in jobs], [job.folder.name for job in jobs]
    where = ["--restart", "--work_dir", str(jobs[0].folder.parent)]
    return [sys.executable, str(TRAIN), *without_seed(jobs[0].flags), *where, "--seeds", *seeds, "--names", *names]


def without_seed(flags: Sequence[str]) -> tuple[str, ...]:
    """A job's flags but for --seed and its value."""
    at = flags.index("--seed")
    return (*flags[:at], *flags[at + 2 :])


def _train(
    jobs: Sequence[Job], stop: StopFlag, threads: int, watch: Callable[[], None], locks: Sequence[int]
) -> tuple[int, list[str]]:
    """One process, from start to end; its exit status (negative: the signal that killed it) and lines of errors."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command_of(jobs),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=environment,
            pass_fds=locks,
            start_new_session=True,  # the terminal's Ctrl-C reaches us, and we ask the process once
            preexec_fn=_end_with_parent,
        )
        try:
            status = _wait(process, stop, watch)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        errors.seek(0)
        return status, errors.read().strip().splitlines()


def _wait(process: subprocess.Popen, stop: StopFlag, watch: Callable[[], None]) -> int:
    """The exit status of a process, which is asked once to stop where that is wanted."""
    asked = False
    while True:
        try:
            return process.wait(POLL)
        except subprocess.TimeoutExpired:
            watch()
            if stop.exists() and not asked:
                asked = True
                process.terminate()


def _end_with_parent() -> None:
    """On Linux, have the process stop softly where the worker that watches it is killed."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
