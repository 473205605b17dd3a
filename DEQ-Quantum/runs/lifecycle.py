"""A run from its folder to its results, and how a command ends that cannot go through with it.

    with one_line_errors():
        ...find the run, its device and data, build the training
        if is_finished(state):
            return
        with open_run(state, columns, warnings):
            with StopRequest() as stop:
                ...train
            ...measure, write the results
"""

import logging
import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from runs.checkpoint import CheckpointError
from runs.collectives import RankLost
from runs.log import start_log
from runs.ranks import RanksDiffer
from runs.settings import SettingsError
from runs.signals import Stopped
from runs.state import TrainingState
from utils.command_line import one_line_ends

MOST_SKIPPED = 0.9  # of what a run should have learnt from

log = logging.getLogger("qdeq")


class TrainingError(RuntimeError):
    """Training that cannot continue; the message is one line for the user."""


@contextmanager
def one_line_errors(*more: type[Exception], smaller: str = "--batch_size") -> Iterator[None]:
    """Start the log on the screen; errors that are the user's to mend end the program with one line.

    Args:
        more: such errors beyond those of runs.
        smaller: the flags that make a run need less memory.
    """
    start_log(None)
    mendable = (SettingsError, TrainingError, CheckpointError, RankLost, RanksDiffer, OSError, *more)
    with one_line_ends(*mendable, smaller=smaller, stopped="stopped before training"):
        yield


def is_finished(state: TrainingState) -> bool:
    """Whether there is nothing left to do in this run; says so in the log.

    Raises:
        TrainingError: it has finished, and learnt nothing.
    """
    folder = state.folder
    finished, results = state.ranks.from_first(lambda: (state.finished, folder.results()))
    if finished:
        log.info("%s has finished its %d steps; see results.json, or raise --max_step", folder.path, state.step)
        if state.ranks.is_first and (folder.notes or not state.best_is_kept):
            _mend(state)
        refuse_failure(results)
        return True
    if state.step >= state.max_step and folder.results_path.exists():
        folder.notes.append(f"{folder.results_path} holds no results of the {state.step} steps: they are measured again")
    return False


def _mend(state: TrainingState) -> None:
    """Write anew what is damaged in the folder of a finished run, and say so."""
    state.folder.create()
    state.write_best()
    state.folder.release()
    for note in state.folder.notes:
        log.warning("warning: %s", note)


def failure(skipped: int, of: int, why: str, loss: float) -> str | None:
    """What results.json says of a run that learnt nothing, None of any other.

    Args:
        skipped, of: what was left out of the updates, and of how many.
        why: what these are, why they were left out, and the remedy.
        loss: of the test.
    """
    if skipped > MOST_SKIPPED * of:
        return f"{skipped} of {of} {why}"
    return None if math.isfinite(loss) else "the test's loss is not a finite number: lower --lr"


def refuse_failure(results: dict) -> None:
    """End a run that learnt nothing as one that failed.

    Raises:
        TrainingError: its results say so.
    """
    if results.get("failure"):
        raise TrainingError(f"the run has learnt nothing: {results['failure']}")


@contextmanager
def open_run(state: TrainingState, columns: tuple[str, ...], warnings: list[str], kept: bool = True) -> Iterator[None]:
    """The block in which a run is trained and measured: its folder is locked, its log and trackers are open.

    The folder is made here: a run that could not be built leaves none behind.

    Args:
        state: of the run.
        columns: of its metrics.csv.
        warnings: of the command line, for the log.
        kept: whether the folder outlives the command; if not, the log does not send anybody there.

    Raises:
        SystemExit: the block was stopped by a signal, with 128 + its number; the run is saved.
        TrainingError: a file cannot be written.
    """
    try:
        with _opened(state, columns, warnings, kept) if state.ranks.is_first else nullcontext():
            yield
    except Stopped as stopped:
        # torchrun ends the others where one ends: none may before the first one has closed the run
        state.ranks.wait()
        raise SystemExit(128 + stopped.signal) from None
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None


@contextmanager
def _opened(state: TrainingState, columns: tuple[str, ...], warnings: list[str], kept: bool) -> Iterator[None]:
    folder = state.folder
    folder.create()
    try:
        start_log(folder.path / "log.txt")
        for warning in [*warnings, *folder.notes]:
            log.warning("warning: %s", warning)
        where = f"run folder {folder.path}" if kept else "a run that leaves no folder behind,"
        log.info("%s on %s, %d steps", where, state.device, state.max_step)
        if folder.last is not None:
            log.info("continuing after step %d", state.step)
        state.write_best()
        state.start_tracking(columns)
        failed = True
        try:
            yield
            failed = False
        except (Stopped, KeyboardInterrupt):
            how = f"continue with --restart --restart_dir {folder.path}" if kept else "nothing of it is kept"
            log.info("stopped after step %d; %s", state.step, how)
            raise
        finally:
            state.tracker.close(failed)
    except OSError as error:
        where, why = error.filename or f"into {folder.path}", error.strerror or error
        raise TrainingError(
            f"cannot write {where} ({why}); once that is mended, continue with --restart --restart_dir {folder.path}"
        ) from error
    finally:
        folder.release()
