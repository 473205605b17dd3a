"""Signals that ask a run to stop, which a training loop obeys between two steps.

Ctrl-C and SIGTERM; SIGHUP, of a terminal that closes; SIGUSR1, by which Slurm tells that the time is nearly up.
"""

import logging
import signal

ASKS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
INSISTS = (signal.SIGINT, signal.SIGTERM)  # a second one ends at once; a closing terminal may send several SIGHUP

log = logging.getLogger("qdeq")


class Stopped(Exception):
    """A run was asked to stop, and is saved; `signal` is the number of the signal that asked."""

    def __init__(self, number: int):
        super().__init__(number)
        self.signal = number


class StopRequest:
    """Context in which the signals of ASKS only set `signal`, and the block ends when it can; a second Ctrl-C or SIGTERM
    ends at once. SIGHUP stays ignored where it is, as under nohup.

    Args:
        message: logged when the signal comes.

    Attributes:
        signal: number of the signal that came, None before.
    """

    def __init__(self, message: str = "stopping after this step; once more to stop at once"):
        self._message = message

    def __enter__(self) -> "StopRequest":
        self.signal: int | None = None
        ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
        self._before = {n: signal.signal(n, self._request) for n in ASKS if n not in ignored}
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number, frame) -> None:
        log.info(self._message)
        self.signal = number
        if number in INSISTS:
            signal.signal(number, signal.SIG_DFL)
