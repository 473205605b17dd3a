"""A run from its folder to its results: left alone if it is finished, else logged, trained, measured, stopped softly.

What is trained and what is measured at the end is the training command's to say.
"""

import logging
import signal
from collections.abc import Callable
from typing import Protocol

import torch

from runs.folder import RunFolder, start_log
from runs.signals import Stopped, StopRequest
from runs.tracking import Tracker

log = logging.getLogger("qdeq")


class TrainingError(RuntimeError):
    """Training that cannot go on; the message is one line for the user."""


class Run(Protocol):
    """A training at its first step, or where its checkpoint left it."""

    folder: RunFolder
    device: torch.device
    step: int
    max_step: int
    tracker: Tracker  # from start_tracking on

    def start_tracking(self) -> None: ...

    def run(self, stop: StopRequest) -> None: ...


def carry_out(run: Run, finish: Callable[[Run], dict], warnings: list[str], kept: bool = True) -> dict | None:
    """Train a run to its end and measure it.

    Args:
        run: what is trained. Its folder is made here: a run that could not be built leaves none behind.
        finish: measures the test samples, writes results.json and the pictures, and returns the results.
        warnings: of the command line, for the log.
        kept: whether the folder outlives the command; if not, the log does not send anybody there.

    Returns:
        What `finish` returned; None for a run that was finished before.

    Raises:
        SystemExit: a signal came; the run is saved.
    """
    folder = run.folder
    if run.step >= run.max_step and folder.results_path.exists():
        log.info("%s has finished its %d steps; see results.json, or raise --max_step", folder.path, run.step)
        return None
    folder.create()
    try:
        return _carry_out(run, finish, warnings, kept)
    finally:
        folder.release()


def _carry_out(run: Run, finish: Callable[[Run], dict], warnings: list[str], kept: bool) -> dict:
    """`carry_out`, once the folder is this process' own."""
    folder = run.folder
    start_log(folder.path / "log.txt")
    for warning in warnings:
        log.warning("warning: %s", warning)
    where = f"run folder {folder.path}" if kept else "a run that leaves no folder behind,"
    log.info("%s on %s, %d steps", where, run.device, run.max_step)
    if folder.last is not None:
        log.info("continuing after step %d", run.step)
    run.start_tracking()
    failed = True
    try:
        with StopRequest() as stop:
            run.run(stop)
        results = finish(run)
        failed = False
    except (Stopped, KeyboardInterrupt) as stopped:
        how = f"continue with --restart --restart_dir {folder.path}" if kept else "nothing of it is kept"
        log.info("stopped after step %d; %s", run.step, how)
        raise SystemExit(128 + getattr(stopped, "signal", signal.SIGINT)) from None
    finally:
        run.tracker.close(failed)
    return results
