"""Many jobs: side by side on Ray, on this machine or a cluster, or one after another where Ray is not installed.

Every job is a process of one thread unless asked otherwise: on a small circuit several such processes use the cores
better than one that shares them, and a run's numbers do not depend on how many there were. `cluster` imports Ray.
"""

import uuid
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol

from reproduction.cluster import connect
from reproduction.jobs import Job, Outcome, run_job
from reproduction.overview import Overview
from runs.settings import SettingsError
from runs.signals import StopRequest

REFRESH = 1.0  # seconds between looks at the running jobs
LOST_WORKERS = 10  # times a job is given to another worker


class Pool(Protocol):
    """Runs jobs; `slots` of them at once."""

    slots: int

    def submit(self, job: Job) -> None: ...

    def wait(self, seconds: float) -> list[tuple[Job, Outcome]]:
        """Jobs that have ended, after at most so long."""

    def close(self) -> None: ...


class SerialPool:
    """One job after another, in this process' own child."""

    slots = 1

    def __init__(self, stop_path: Path, threads: int):
        self._stop_path, self._threads = stop_path, threads
        self._executor = ThreadPoolExecutor(max_workers=1)
        self._running: dict[Future, Job] = {}

    def submit(self, job: Job) -> None:
        self._running[self._executor.submit(run_job, job, self._stop_path, self._threads)] = job

    def wait(self, seconds: float) -> list[tuple[Job, Outcome]]:
        done, _ = wait(self._running, seconds, FIRST_COMPLETED)
        return [(self._running.pop(future), future.result()) for future in done]

    def close(self) -> None:
        self._executor.shutdown()


class RayPool:
    """Jobs as Ray tasks; a task whose worker is lost starts again elsewhere and finds its checkpoint.

    Args:
        stop_path: see `run_job`; on a cluster in a folder that all machines share, as the run folders are.
        threads: cores that a job takes.
        slots: jobs at once; None: as many as there are cores.
        address: of a running cluster; None starts Ray on this machine.
        gpu: whether jobs need GPUs, which they share if there are more of them.

    Raises:
        ImportError: Ray is not installed.
        SettingsError: Ray does not start or answer, or no machine has the cores or the GPU that a job takes.
    """

    def __init__(self, stop_path: Path, threads: int, slots: int | None, address: str | None, gpu: bool):
        ray = connect(address, slots, threads, gpu)
        self._ray, self._stop_path, self._threads = ray, stop_path, threads
        resources = ray.cluster_resources()
        n_gpus = resources.get("GPU", 0.0)
        self.slots = slots or max(1, int(n_gpus if gpu else resources["CPU"] // threads))
        share = min(1.0, n_gpus / self.slots) if gpu else 0.0
        self._task = ray.remote(num_cpus=threads, num_gpus=share, max_retries=LOST_WORKERS)(run_job)
        self._running: dict[object, Job] = {}

    def submit(self, job: Job) -> None:
        self._running[self._task.remote(job, self._stop_path, self._threads)] = job

    def wait(self, seconds: float) -> list[tuple[Job, Outcome]]:
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [(self._running.pop(reference), self._outcome(reference)) for reference in done]

    def _outcome(self, reference) -> Outcome:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return Outcome("failed", str(error).strip().splitlines()[-1])

    def close(self) -> None:
        self._ray.shutdown()


def open_pool(stop_path: Path, threads: int, slots: int | None, address: str | None, gpu: bool) -> Pool:
    """Ray where it is installed, else one job after another, which is said in a line.

    Raises:
        SettingsError: an address without Ray, or as `RayPool` says.
    """
    try:
        return RayPool(stop_path, threads, slots, address, gpu)
    except ImportError as error:
        if address:
            raise SettingsError(f"--address needs Ray: pip install -r requirements-sweep.txt ({error})") from error
        print("Ray is not installed (requirements-sweep.txt): the runs follow one after another")
        return SerialPool(stop_path, threads)


def run_all(jobs: Sequence[Job], pool: Pool, stop_path: Path, overview: Overview) -> int | None:
    """Run jobs to their ends, or until Ctrl-C or SIGTERM, which let the running ones save first.

    Returns:
        The number of the signal that came, None without one.
    """
    waiting, n_running = deque(jobs), 0
    with StopRequest("stopping: the runs save and end; once more to stop at once") as stop:
        try:
            while n_running or (waiting and stop.signal is None):
                while waiting and n_running < pool.slots and stop.signal is None:
                    job = waiting.popleft()
                    pool.submit(job)
                    overview.started(job)
                    n_running += 1
                for job, outcome in pool.wait(REFRESH) if n_running else ():
                    overview.ended(job, outcome)
                    n_running -= 1
                overview.refresh()
                if stop.signal is not None:
                    stop_path.touch()
        finally:
            # whatever ended the loop, no run continues unwatched
            if n_running:
                stop_path.touch()
            pool.close()
            stop_path.unlink(missing_ok=True)
    overview.close()
    return stop.signal


def new_stop_path(work_dir: Path) -> Path:
    """A file name of this command alone; see `run_job`."""
    work_dir.mkdir(parents=True, exist_ok=True)
    return work_dir.resolve() / f".stop-{uuid.uuid4().hex}"
