"""The way to Ray: on this machine, or a cluster that runs already."""

import errno
import os
import re

from runs.settings import SettingsError

STARTS = 3  # on this machine: Ray gives itself 30 s to start, which a busy one can take
STORE_BYTES = 100_000_000  # jobs and outcomes are small

# what Ray says, and what to do about it; trying again helps none of them
REMEDIES = (
    ("AF_UNIX path length",
     "the folder of its sockets has too long a name: set RAY_TMPDIR=/tmp"),
    ("Permission denied",
     "it cannot write its temporary folder, perhaps another user's: set RAY_TMPDIR to one of yours"),
    ("No space left|object store size|/dev/shm|minimum allowed",
     "too little room: free /dev/shm (in Docker start with --shm-size 1g) and the folder of RAY_TMPDIR, or set "
     "RAY_TMPDIR to another"),
    ("Address already in use|used by other components",
     "another process has its port: end an older Ray with `ray stop`, or give another port to `ray start --port`"),
    ("Version mismatch",
     "start the cluster with this repository's environment: the same Ray and Python on all machines"),
)  # fmt: skip

# before Ray is imported: nothing is reported to anybody, and a job that takes no GPU is not warned about it
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


def connect(address: str | None, slots: int | None, threads: int, gpu: bool):
    """Connect to Ray.

    Args:
        address: of a running cluster, "auto" for the one in reach; None starts Ray on this machine.
        slots: runs at once, for which it is given cores on this machine; None: all that this process may use.
        threads: cores that a run takes.
        gpu: whether runs need GPUs.

    Returns:
        The module `ray`, connected.

    Raises:
        ImportError: Ray is not installed.
        SettingsError: no cluster answers, Ray does not start, or no machine has what a run takes.
    """
    import ray  # here: seconds, and an extra that need not be installed

    _start(ray, address, slots and slots * threads)
    try:
        check_machines([node["Resources"] for node in ray.nodes() if node["Alive"]], threads, gpu)
    except SettingsError:
        ray.shutdown()
        raise
    return ray


def check_machines(machines: list[dict[str, float]], threads: int, gpu: bool) -> None:
    """Refuse a run that no machine can take: Ray would wait for one without end, and without a word.

    Args:
        machines: what Ray counts on each, as {"CPU": 2.0, "GPU": 1.0}.
        threads, gpu: as in `connect`.

    Raises:
        SettingsError: one line with the flag, what the largest machine has, and the remedy.
    """
    if gpu:
        machines = [machine for machine in machines if machine.get("GPU")]
        if not machines:
            raise SettingsError("--device cuda: Ray sees no GPU here; use --device cpu")
    most = int(max(machine.get("CPU", 0) for machine in machines))
    if threads > most:
        kind = "machine with a GPU" if gpu else "machine"
        remedy = f"use --threads {most}" if most else "start Ray there with --num-cpus"
        raise SettingsError(f"--threads {threads}: the largest {kind} has {most} cores for Ray; {remedy}")


def _start(ray, address: str | None, n_cpus: int | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is not None:
        try:
            ray.init(address, **quiet)
        except Exception as error:  # which it is depends on what is wrong with the address
            ray.shutdown()
            why = remedy(error) or f"no Ray cluster answers there; begin one with `ray start --head` ({_line(error)})"
            raise SettingsError(f"--address {address}: {why}") from error
        return
    here = {"num_cpus": n_cpus or cores(), "include_dashboard": False, "object_store_memory": STORE_BYTES}
    for attempt in range(1, STARTS + 1):
        try:
            ray.init("local", **here, **quiet)
            return
        except Exception as error:  # Ray raises a plain Exception where it is late
            ray.shutdown()
            if (why := remedy(error)) is not None:
                raise SettingsError(f"Ray does not start: {why}") from error
            if attempt == STARTS:
                raise SettingsError(f"Ray does not start, try again where less is running ({_line(error)})") from error


def remedy(error: Exception) -> str | None:
    """What to do about an error of Ray, after its own words; None where trying again may help."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.ENOSPC, errno.EADDRINUSE):
        text = f"{os.strerror(error.errno)} {text}"
    for pattern, what in REMEDIES:
        if re.search(pattern, text):
            return f"{what} ({text[:200]})"
    return None


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
