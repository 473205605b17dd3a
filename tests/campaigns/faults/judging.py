"""What a command must never do, read from how it ended: tracebacks, errors of no or many lines, no end.

It knows words and statuses, and nothing of what was tried.
"""

import signal
from dataclasses import dataclass, field

from .children import Outcome

# what can be found, and the columns of the table
KINDS = {
    "lost": "a run or a file is gone, or cannot be resumed",
    "numbers": "other numbers than those of the run that was left alone",
    "accepted": "damage was taken for good, and nobody said so",
    "traceback": "a traceback, or the process crashed",
    "line": "an error that is not one line, or does not name file or flag",
    "endless": "did not end within its time",
    "left": "files or folders that should not be there",
}
TRACES = ("Traceback (most recent call last)", "--- Logging error ---", "Exception ignored", "terminate called",
          "Fatal Python error")  # fmt: skip
CRASHES = {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL}


@dataclass
class Trial:
    """One case that was tried.

    Attributes:
        what: the row of the table.
        count: how many things were tried in it.
        findings: (kind, what was found) of all that fell short.
    """

    what: str
    count: int = 1
    findings: list[tuple[str, str]] = field(default_factory=list)

    def find(self, kind: str, what: str) -> None:
        assert kind in KINDS
        self.findings.append((kind, what.encode("ascii", "backslashreplace").decode().replace("\n", " ")))


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "nothing was printed"


def check_manners(trial: Trial, end: Outcome, how: str) -> None:
    """Find tracebacks, crashes and what did not end.

    Args:
        trial: what is written into.
        end: of the command.
        how: what was done to it, in words.
    """
    if end.status is None:
        trial.find("endless", f"{how}: still running after {end.seconds:.0f} s; {last_line(end.out + end.err)}")
    if end.status in CRASHES or any(trace in end.out + end.err for trace in TRACES):
        text = end.err if any(trace in end.err for trace in TRACES) else end.out + end.err
        trial.find("traceback", f"{how}: status {end.status}, {last_line(text)}")


def error_lines(end: Outcome) -> list[str]:
    """Lines on stderr, without those of a usage message."""
    lines = [line for line in end.err.splitlines() if line.strip()]
    if lines and lines[0].startswith("usage:"):
        lines = [line for line in lines[1:] if not line.startswith(" ")]
    return lines


def check_refusal(trial: Trial, end: Outcome, how: str, names: str | None = None) -> None:
    """Find what a refusal must not be: with another status than 1 or 2, of none or many lines, naming nothing.

    Args:
        trial, end, how: as in `check_manners`, which is called too.
        names: a word that the line must have; None: any.
    """
    before = len(trial.findings)
    check_manners(trial, end, how)
    if len(trial.findings) > before:
        return
    lines = error_lines(end)
    if end.status not in (1, 2):
        trial.find("line", f"{how}: status {end.status}; {last_line(end.out + end.err)}")
    elif len(lines) != 1:
        trial.find("line", f"{how}: {len(lines)} lines on stderr; {last_line(end.err)}")
    elif names is not None and names not in lines[0]:
        trial.find("line", f"{how}: the line names no {names}: {lines[0][:300]}")
