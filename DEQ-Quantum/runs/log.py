"""A run's log, on the screen and in a file, and the progress bar that its lines leave whole."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from utils.launch import rank_here

UNKNOWN = {"ncols": 79, "nrows": 23}  # as tqdm, without the last column and line

log = logging.getLogger("qdeq")


def start_log(path: Path | None) -> None:
    """Send the log to the screen, of several processes that of the first, and, given a path, to a file.

    A line that cannot be written ends no run.
    """
    logging.raiseExceptions = False
    log.setLevel(logging.INFO)
    log.propagate = False
    for handler in list(log.handlers):
        log.removeHandler(handler)
        with suppress(OSError):  # its file may be gone already
            handler.close()
    screen = logging.StreamHandler(sys.stdout)
    screen.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(screen if rank_here() == 0 else logging.NullHandler())
    if path is not None:
        # names that are not UTF-8 come out as they came in
        file = logging.FileHandler(path, encoding="utf-8", errors="surrogateescape")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(file)


@contextmanager
def progress_bar(done: int, total: int) -> Iterator[tqdm]:
    """A bar over a run's steps, `done` of which were taken before; log lines in the block do not tear it."""
    with tqdm(total=total, initial=done, unit="step", disable=None, **bar_size()) as bar:
        with logging_redirect_tqdm(loggers=[log]):
            yield bar


def bar_size() -> dict:
    """tqdm's options for the terminal behind stderr: as large as that, or 80 x 24 where it tells no size.

    Terminals of containers, of CI and of `script` often say 0 x 0, on which tqdm draws nothing.
    """
    try:
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):  # no terminal, and no bar
        return {}
    return {"dynamic_ncols": True} if columns and rows else UNKNOWN
