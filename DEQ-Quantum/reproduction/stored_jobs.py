"""Jobs whose run folders lie in a storage: fetched before a job starts, put back after each checkpoint and at its end.

Each machine trains in a temporary folder of its own; the folder of the command that asked for the runs becomes a copy
of what the storage holds. Knows jobs and storages; nothing of Ray.
"""

import hashlib
import json
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

from reproduction.jobs import POLL, Job, Outcome, StopFlag, acquire, lock_path, run_job
from reproduction.storage import Storage, StorageError, SupersededError
from runs.settings import result_fields

TRIES, PAUSE = 3, 5.0  # of the last upload, and seconds between them
AT_ONCE = 8  # runs that are looked up at once
LOOKS = 10  # for a folder into which nobody writes


def stored_name(job: Job) -> str:
    """A job's name in a storage: its place, and a digest of the settings that are not their defaults."""
    names = result_fields(type(job.settings))
    defaults = {f.name: f.default for f in fields(job.settings)}
    chosen = {name: value for name in names if (value := getattr(job.settings, name)) != defaults[name]}
    digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()
    return f"{job.table}/{job.row}/{job.path.name}-{digest[:12]}"


class StoredRun:
    """A job while it is trained on this machine.

    Args:
        job: as the command that asked for it has it.
        storage: where its run lies.

    Attributes:
        job: the same, with a folder on this machine.

    Raises:
        StorageError: no access from here.
    """

    def __init__(self, job: Job, storage: Storage):
        self._scratch = Path(tempfile.mkdtemp(prefix="qdeq-"))
        self.job = replace(job, path=self._scratch / job.table / job.row / job.path.name)
        self._sent: float | None = None
        self._owned, self._kept = True, False
        try:
            self._claim = storage.claim(stored_name(job))
            storage.fetch(stored_name(job), self.job.folder)
        except BaseException:
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise

    def sync(self) -> None:
        """Put a copy into the storage if there is a new checkpoint; what fails is tried again with the next one.

        Raises:
            SupersededError: the run has been given to another worker.
        """
        try:
            saved = (self.job.folder / "checkpoint_last.pt").stat().st_mtime_ns
        except FileNotFoundError:
            return
        if saved == self._sent:
            return
        self._sent = saved
        try:
            self._claim.push(self.job.folder)
        except SupersededError:
            self._owned = False
            raise
        except StorageError:
            pass

    def put(self) -> None:
        """Put the last copy into the storage.

        Raises:
            StorageError: it could not be put there; the folder here is kept.
        """
        for left in reversed(range(TRIES)):
            if not self._owned or not self.job.folder.exists():
                return
            try:
                self._claim.push(self.job.folder)
                return
            except SupersededError:
                self._owned = False
            except StorageError as error:
                if not left:
                    self._kept = True
                    where = f"{self.job.folder} on {socket.gethostname()}"
                    raise StorageError(f"{error}; the run is kept in {where}, the same command resumes") from error
                time.sleep(PAUSE)

    def remove(self) -> None:
        """Remove the folder here, unless it is the only one."""
        if not self._kept:
            shutil.rmtree(self._scratch, ignore_errors=True)


def run_stored_jobs(jobs: Sequence[Job], stop: StopFlag, threads: int, storage: Storage) -> list[Outcome]:
    """Run jobs one after another on a machine that shares no folder with others."""
    return [run_stored_job(job, stop, threads, storage) for job in jobs]


def run_stored_job(job: Job, stop: StopFlag, threads: int, storage: Storage) -> Outcome:
    """`run_job` on such a machine."""
    try:
        run = StoredRun(job, storage)
        try:
            outcome = run_job(run.job, stop, threads, run.sync)
            run.put()
            return outcome
        finally:
            run.remove()
    except StorageError as error:
        return Outcome("failed", str(error))


def fetch_run(job: Job, storage: Storage) -> None:
    """Bring what a storage holds of a run into its folder here, unless somebody writes into that.

    Raises:
        StorageError: no access.
    """
    for _ in range(LOOKS):
        folder = job.folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with lock_path(folder).open("w") as lock:
            if acquire(lock) and job.folder == folder:
                storage.fetch(stored_name(job), folder, first="config.json", last="results.json")
                return
        time.sleep(POLL)  # a run with other settings is being fetched into it, or somebody trains there


def fetch_runs(jobs: Iterable[Job], storage: Storage) -> None:
    """`fetch_run` of each that is not finished here."""
    with ThreadPoolExecutor(AT_ONCE) as executor:
        list(executor.map(lambda job: fetch_run(job, storage), (job for job in jobs if job.results() is None)))


def put_run(job: Job, storage: Storage) -> None:
    """Give a storage that holds nothing of a run what there is of it here."""
    if (job.folder / "config.json").exists() and not storage.newest(stored_name(job))[1]:
        storage.claim(stored_name(job)).push(job.folder)
