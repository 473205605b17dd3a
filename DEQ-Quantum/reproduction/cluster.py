"""The way to Ray: on this machine, or a cluster that runs already."""

import os

from utils.settings import SettingsError

STARTS = 3  # on this machine: Ray gives itself 30 s to start, which a busy one can take
STORE_BYTES = 100_000_000  # jobs and outcomes are small

# before Ray is imported: nothing is reported to anybody, and a job that takes no GPU is not warned about it
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


def connect(address: str | None, n_cpus: int | None):
    """Connect to Ray.

    Args:
        address: of a running cluster, "auto" for the one in reach; None starts Ray on this machine.
        n_cpus: cores to use on this machine; None: all that this process may use.

    Returns:
        The module `ray`, connected.

    Raises:
        ImportError: Ray is not installed.
        SettingsError: no cluster answers, or Ray does not start.
    """
    import ray  # here: seconds, and an extra that need not be installed

    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is not None:
        try:
            ray.init(address, **quiet)
        except Exception as error:  # which it is depends on what is wrong with the address
            raise SettingsError(f"--address {address}: no Ray cluster answers there ({_line(error)})") from error
        return ray
    here = {"num_cpus": n_cpus or cores(), "include_dashboard": False, "object_store_memory": STORE_BYTES}
    for attempt in range(1, STARTS + 1):
        try:
            ray.init("local", **here, **quiet)
            break
        except Exception as error:  # Ray raises a plain Exception where it is late
            ray.shutdown()
            if attempt == STARTS:
                raise SettingsError(f"Ray does not start, try again where less is running ({_line(error)})") from error
    return ray


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
