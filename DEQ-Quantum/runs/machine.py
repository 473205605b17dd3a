"""The machine a run is on: its device, its memory, and what results.json says of it."""

import os
import platform
import resource
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import torch

from runs.settings import RunSettings, SettingsError
from utils.files import REPOSITORY


def choose_device(settings: RunSettings) -> torch.device:
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
    """The commit of this source, with "-dirty" if tracked files differ from it; None where it has no history of its own,
    also inside another repository.
    """
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    of_this_folder = os.environ | {"GIT_CEILING_DIRECTORIES": str(REPOSITORY.parent)}
    for name in ("GIT_DIR", "GIT_WORK_TREE"):  # as a git hook sets them
        of_this_folder.pop(name, None)
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True, env=of_this_folder)
        return run.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
