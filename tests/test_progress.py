"""A progress bar is drawn on every terminal, also on one that tells no size."""

import fcntl
import os
import struct
import sys
import termios

import pytest
from tqdm import tqdm

from runs.log import bar_size


@pytest.fixture
def terminal(monkeypatch):
    """Put a new terminal of some size behind stderr; gives back a function that reads a line from it."""
    reader, writer = os.openpty()
    stderr = os.fdopen(writer, "w")

    def line() -> str:
        text = ""
        while not text.endswith("\n"):  # which ends the bar; a terminal hands over what it has by and by
            text += os.read(reader, 10_000).decode()
        return text

    def start(columns: int, rows: int):
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        monkeypatch.setattr(sys, "stderr", stderr)
        return line

    yield start
    stderr.close()
    os.close(reader)


@pytest.mark.parametrize("columns, rows", [(0, 0), (0, 24), (80, 0), (80, 24), (120, 40)])
def test_the_bar_fills_the_line_of_any_terminal(terminal, columns, rows):
    shown = terminal(columns, rows)
    with tqdm(total=3, unit="step", disable=None, **bar_size()) as bar:
        bar.update(3)
    last = shown().rstrip("\r\n").split("\r")[-1]
    assert last.startswith("100%|") and "3/3" in last and last.endswith("]")
    assert len(last) == (columns or 80) - 1


def test_without_a_terminal_there_is_no_bar(capsys):
    with tqdm(total=3, disable=None, **bar_size()) as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""
