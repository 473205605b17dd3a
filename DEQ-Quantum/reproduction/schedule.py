"""Many jobs: side by side on Ray, on this machine or a cluster, or one after another where Ray is not installed.

Every job, or group of jobs (`together`), is a process of one thread unless asked otherwise: on a small circuit several such
processes use the cores better than one that shares them, and a run's numbers do not depend on how many there were. `cluster` imports Ray.
"""

import time
import uuid
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol

from reproduction.cluster import connect
from reproduction.jobs import Job, Outcome, StopFlag, run_jobs
from reproduction.overview import Overview
from reproduction.storage import Storage, StorageError
from reproduction.stored_jobs import fetch_run, put_run, run_stored_jobs
from runs.settings import SettingsError
from runs.signals import StopRequest

REFRESH = 1.0  # seconds between looks at the running jobs
LOST_WORKERS = 10  # times a job is given to another worker
SEEN_WITHIN = 60.0  # seconds in which a network file system shows what another machine has written
FETCH_EVERY = 30.0  # seconds between looks at what running jobs have put into a storage


Group = tuple[Job, ...]


class Pool(Protocol):
    """Runs groups of jobs, each in a process of its own; `slots` of them at once."""

    slots: int

    def submit(self, jobs: Group) -> None: ...

    def wait(self, seconds: float) -> list[tuple[Group, list[Outcome]]]:
        """Groups that have ended, and how each of their jobs did, after at most so long."""

    def close(self) -> None: ...


class StopRequestFlag(StopFlag, Protocol):
    """A stop flag that can be raised and taken down."""

    def touch(self) -> None: ...

    def unlink(self, missing_ok: bool = True) -> None: ...


def _work(threads: int, stop: StopFlag, storage: Storage | None) -> tuple:
    """What a worker does with a group of jobs, and with which arguments besides."""
    return (run_jobs, stop, threads) if storage is None else (run_stored_jobs, stop, threads, storage)


class SerialPool:
    """One group after another, in this process' own child."""

    slots = 1

    def __init__(self, stop: StopFlag, threads: int, storage: Storage | None = None):
        self._run, *self._arguments = _work(threads, stop, storage)
        self._executor = ThreadPoolExecutor(max_workers=1)
        self._running: dict[Future, Group] = {}

    def submit(self, jobs: Group) -> None:
        self._running[self._executor.submit(self._run, jobs, *self._arguments)] = jobs

    def wait(self, seconds: float) -> list[tuple[Group, list[Outcome]]]:
        done, _ = wait(self._running, seconds, FIRST_COMPLETED)
        return [(self._running.pop(future), future.result()) for future in done]

    def close(self) -> None:
        self._executor.shutdown()


class RayPool:
    """Groups of jobs as Ray tasks; a task whose worker is lost starts again elsewhere and finds its checkpoint.

    Ray gives a job to one worker at a time, and to another once it knows that the first is lost. On a file system that
    all share, the lock that `run_job` holds excludes two writers besides, whoever started them; a storage knows no
    locks, and there the last worker to claim a run owns it.

    Args:
        stop: see `run_job`; seen by all machines, as the run folders or the storage are.
        threads: cores that a group takes.
        slots: groups at once; None: as many as there are cores, those of machines that join later too.
        address: of a running cluster; None starts Ray on this machine.
        gpu: whether jobs need GPUs, which they share if there are more of them.
        storage: where runs lie; None: in the folder that all machines share.

    Raises:
        ImportError: Ray is not installed.
        SettingsError: Ray does not start or answer, or no machine has the cores or the GPU that a job takes; a storage
            that other processes do not see.
    """

    def __init__(
        self,
        stop: StopFlag,
        threads: int,
        slots: int | None,
        address: str | None,
        gpu: bool,
        storage: Storage | None = None,
    ):
        run, *self._arguments = _work(threads, stop, storage)
        ray = connect(address, slots, threads, gpu)
        try:
            if storage is not None:
                storage.refuse_memory()
        except StorageError:
            ray.shutdown()
            raise
        self._ray, self._slots, self._threads, self._gpu, self._storage = ray, slots, threads, gpu, storage
        share = min(1.0, ray.cluster_resources().get("GPU", 0.0) / self.slots) if gpu else 0.0
        self._task = ray.remote(num_cpus=threads, num_gpus=share, max_retries=LOST_WORKERS)(run)
        self._running: dict[object, Group] = {}

    @property
    def slots(self) -> int:
        resources = self._ray.cluster_resources()
        here = resources.get("GPU", 0.0) if self._gpu else resources.get("CPU", 0.0) // self._threads
        return self._slots or max(1, int(here))

    def submit(self, jobs: Group) -> None:
        self._running[self._task.remote(jobs, *self._arguments)] = jobs

    def wait(self, seconds: float) -> list[tuple[Group, list[Outcome]]]:
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [(jobs := self._running.pop(reference), self._outcomes(jobs, reference)) for reference in done]

    def _outcomes(self, jobs: Group, reference) -> list[Outcome]:
        try:
            outcomes = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return [Outcome("failed", str(error).strip().splitlines()[-1])] * len(jobs)
        return [self._seen(job, outcome) for job, outcome in zip(jobs, outcomes)]

    def _seen(self, job: Job, outcome: Outcome) -> Outcome:
        if outcome.status == "finished" and self._storage is None and not _is_seen(job):
            return Outcome("failed", "another machine has finished it in a folder that is not this one: have all "
                           "machines share --work_dir, or give --storage")  # fmt: skip
        return outcome

    def close(self) -> None:
        self._ray.shutdown()


def _is_seen(job: Job) -> bool:
    until = time.monotonic() + SEEN_WITHIN
    while job.results() is None:
        if time.monotonic() > until:
            return False
        time.sleep(REFRESH)
    return True


class FetchingPool:
    """Another pool, whose jobs' runs lie in a storage: what has ended, and at times what runs, is fetched from there.

    Args:
        pool: runs the jobs.
        storage: where it leaves their runs.
    """

    def __init__(self, pool: Pool, storage: Storage):
        self._pool, self._storage = pool, storage
        self._running: list[Job] = []
        self._fetched = time.monotonic()

    @property
    def slots(self) -> int:
        return self._pool.slots

    def submit(self, jobs: Group) -> None:
        for job in jobs:
            put_run(job, self._storage)
        self._pool.submit(jobs)
        self._running += jobs

    def wait(self, seconds: float) -> list[tuple[Group, list[Outcome]]]:
        ended = [(jobs, [self._fetch(job, outcome) for job, outcome in zip(jobs, outcomes)])
                 for jobs, outcomes in self._pool.wait(seconds)]  # fmt: skip
        over = {job for jobs, _ in ended for job in jobs}
        self._running = [job for job in self._running if job not in over]
        if time.monotonic() - self._fetched > FETCH_EVERY:
            for job in self._running:
                self._fetch(job, Outcome("running"))
            self._fetched = time.monotonic()
        return ended

    def _fetch(self, job: Job, outcome: Outcome) -> Outcome:
        try:
            fetch_run(job, self._storage)
        except StorageError as error:
            return Outcome("failed", str(error)) if outcome.status == "finished" else outcome
        return outcome

    def close(self) -> None:
        self._pool.close()


def open_pool(
    stop: StopFlag, threads: int, slots: int | None, address: str | None, gpu: bool, storage: Storage | None = None
) -> Pool:
    """Ray where it is installed, else one job after another, which is said in a line.

    Raises:
        SettingsError: an address without Ray, or as `RayPool` says.
    """
    try:
        pool = RayPool(stop, threads, slots, address, gpu, storage)
    except ImportError as error:
        if address:
            raise SettingsError(f"--address needs Ray: pip install -r requirements-sweep.txt ({error})") from error
        print("Ray is not installed (requirements-sweep.txt): the runs follow one after another")
        pool = SerialPool(stop, threads, storage)
    return pool if storage is None else FetchingPool(pool, storage)


def run_all(groups: Sequence[Group], pool: Pool, stop_flag: StopRequestFlag, overview: Overview) -> int | None:
    """Run jobs, those of a group in one process, to their ends, or until Ctrl-C or SIGTERM, which let the running ones save first.

    Returns:
        The number of the signal that came, None without one.
    """
    waiting, n_running = deque(groups), 0
    with StopRequest("stopping: the runs save and end; once more to stop at once") as stop:
        try:
            while n_running or (waiting and stop.signal is None):
                while waiting and n_running < pool.slots and stop.signal is None:
                    jobs = waiting.popleft()
                    pool.submit(jobs)
                    overview.started(*jobs)
                    n_running += 1
                for jobs, outcomes in pool.wait(REFRESH) if n_running else ():
                    for job, outcome in zip(jobs, outcomes):
                        overview.ended(job, outcome)
                    n_running -= 1
                overview.refresh()
                if stop.signal is not None:
                    stop_flag.touch()
        finally:
            # whatever ended the loop, no run continues unwatched
            if n_running:
                stop_flag.touch()
            pool.close()
            stop_flag.unlink(missing_ok=True)
    overview.close()
    return stop.signal


def new_stop_flag(work_dir: Path, storage: Storage | None = None) -> StopRequestFlag:
    """What this command alone stops its runs with: a file in their folder, or in their storage; see `run_job`."""
    name = f".stop-{uuid.uuid4().hex}"
    if storage is not None:
        return storage.flag(name)
    work_dir.mkdir(parents=True, exist_ok=True)
    return work_dir.resolve() / name
