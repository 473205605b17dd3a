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
_prefix = ""  # of lines on the screen and of the progress bar, where several runs share them


class OwnLog:
    """The log of one of several runs in a process. Within its blocks the log is this run's, with its own file.

    Args:
        name: stands before its lines on the screen.
    """

    def __init__(self, name: str):
        self._before, self._here = (log.handlers, _prefix), ([], f"{name}: ")
        with self:
            start_log(None)

    def __enter__(self) -> None:
        self._before = self._switch(self._here)

    def __exit__(self, *error) -> None:
        self._here = self._switch(self._before)

    @staticmethod
    def _switch(to: tuple[list[logging.Handler], str]) -> tuple[list[logging.Handler], str]:
        global _prefix
        before = log.handlers, _prefix
        log.handlers, _prefix = to
        return before


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
    screen.setFormatter(logging.Formatter(f"{_prefix}%(message)s"))
    log.addHandler(screen if rank_here() == 0 else logging.NullHandler())
    if path is not None:
        # names that are not UTF-8 come out as they came in
        file = logging.FileHandler(path, encoding="utf-8", errors="surrogateescape")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(file)


@contextmanager
def progress_bar(done: int, total: int) -> Iterator[tqdm]:
    """A bar over a run's steps, `done` of which were taken before; log lines in the block do not tear it."""
    with tqdm(total=total, initial=done, desc=_prefix[:-2], unit="step", disable=None, **bar_size()) as bar:
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
