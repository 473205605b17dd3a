"""What every command does before its imports: streams that last, Ctrl-C in one line, shared cores,
pictures without a display.

Called where a file is run as a program, never where it is imported. Knows nothing of what the command does, and imports
nothing that takes time.
"""

import errno
import io
import os
import signal
import sys

READER_GONE = (errno.EPIPE, errno.EIO, errno.EBADF)


class _LastingOutput(io.FileIO):
    """Output that outlives its reader: what is written after `| head` or a terminal has gone is forgotten.

    Any other error, such as a full disk, is raised once; what comes after it is forgotten too.
    """

    gone = False

    def write(self, data) -> int | None:
        try:
            return len(data) if self.gone else super().write(data)
        except OSError as error:
            self.gone = True
            if error.errno in READER_GONE:
                return len(data)
            raise


def start_command() -> None:
    """Prepare the process for a command."""
    _keep_streams()
    end_at_ctrl_c()
    share_cores()
    draw_into_files()


def _keep_streams() -> None:
    """Open what the caller closed, as by 2>&-, and let stdout and stderr last.

    Where the locale knows ASCII alone they are UTF-8, so that any name can be shown.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, this one
    for number, name in ((1, "stdout"), (2, "stderr")):
        before = getattr(sys, name)
        encoding = "utf-8" if before is None else before.encoding
        utf8 = encoding.lower() in ("ascii", "us-ascii", "ansi_x3.4-1968", "utf-8")
        # the names of files that are not UTF-8 come out as they came in
        encoding, errors = ("utf-8", "surrogateescape") if utf8 else (encoding, "backslashreplace")
        buffer = io.BufferedWriter(_LastingOutput(number, "w", closefd=False))
        line_by_line = before is None or before.line_buffering or before.write_through
        setattr(sys, name, io.TextIOWrapper(buffer, encoding, errors, line_buffering=line_by_line))


def end_at_ctrl_c() -> None:
    """Until a command can answer it, Ctrl-C ends the program at once, in one line and without a traceback.

    A KeyboardInterrupt would be raised anywhere in an import, and be lost or wrapped where the library catches it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as in a background job
        signal.signal(signal.SIGINT, _end)


def _end(number: int, frame) -> None:
    os.write(2, b"stopped\n")  # not through sys.stderr, which may be in the middle of a line
    os._exit(128 + number)


def share_cores() -> None:
    """Let (GNU) OpenMP's threads sleep soon while they wait for each other; call it before torch is imported.

    By default they spin for long, and where another process needs one of the cores a step of 30 ms then takes a
    second, because the thread that is waited for is not scheduled. What the user has set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def draw_into_files() -> None:
    """Let matplotlib draw without a display; call it before matplotlib is imported.

    A command started from a notebook inherits the notebook's backend, which is nothing to a process of its own and which
    matplotlib refuses to be imported with.
    """
    os.environ["MPLBACKEND"] = "agg"
