"""Ctrl-C and SIGTERM as a request to stop, which a training loop obeys between two steps."""

import logging
import signal

log = logging.getLogger("qdeq")


class Stopped(Exception):
    """A run was asked to stop, and is saved; `signal` is the number of the signal that asked."""

    def __init__(self, number: int):
        super().__init__(number)
        self.signal = number


class StopRequest:
    """Context in which Ctrl-C or SIGTERM only set `signal`, and the block ends when it can; a second one ends at once.

    Args:
        message: logged when the signal comes.

    Attributes:
        signal: number of the signal that came, None before.
    """

    def __init__(self, message: str = "stopping after this step; once more to stop at once"):
        self._message = message

    def __enter__(self) -> "StopRequest":
        self.signal: int | None = None
        self._before = {n: signal.signal(n, self._request) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number, frame) -> None:
        log.info(self._message)
        self.signal = number
        signal.signal(number, signal.SIG_DFL)
