"""Commands as forked children: `python SCRIPT flags` without the seconds of imports, in a process that may be killed.

The parent has imported torch and every module of the source once, on one thread, and has computed nothing; a child then
costs 20 ms. It knows how processes are started, stopped and awaited, and nothing of what they should have done.
"""

import atexit
import gc
import importlib
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

PRELOADED = (
    "torch", "sklearn.datasets", "matplotlib.figure", "matplotlib.backends.backend_agg", "torch.utils.tensorboard",
    "encodings.utf_8_sig", "encodings.idna",
)  # fmt: skip
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@dataclass
class Outcome:
    """How a command ended.

    Attributes:
        status: its exit status, minus the number of the signal that ended it, None where it had to be stopped.
        out, err: what it printed.
        seconds: how long it ran.
    """

    status: int | None
    out: str
    err: str
    seconds: float


class Child:
    """A command that runs.

    Args:
        pid: of its process, the leader of a group.
        pipes: reading ends of its stdout and stderr.
    """

    def __init__(self, pid: int, pipes: tuple[int, int]):
        self.pid, self._began, self._status, self._seconds = pid, time.perf_counter(), None, 0.0
        self._printed = {pipe: b"" for pipe in pipes}
        for pipe in pipes:
            os.set_blocking(pipe, False)

    def wait(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""
        end = time.perf_counter() + seconds
        while self._status is None:
            self._read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status, self._seconds = os.waitstatus_to_exitcode(status), time.perf_counter() - self._began
            elif time.perf_counter() > end:
                return False
            else:
                time.sleep(0.002)
        return True

    def send(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if not self.wait(0):
            os.kill(self.pid, number)

    def end(self, seconds: float) -> Outcome:
        """How it ends within so many seconds; where it does not, it is killed with all it started."""
        in_time = self.wait(seconds)
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.wait(60)
        self._read()
        for pipe in self._printed:
            os.close(pipe)
        out, err = (printed.decode(errors="replace") for printed in self._printed.values())
        return Outcome(self._status if in_time else None, out, err, self._seconds)

    def _read(self) -> None:
        for pipe in self._printed:
            try:
                while part := os.read(pipe, 1 << 16):
                    self._printed[pipe] += part
            except BlockingIOError:
                pass


def preload(source: Path) -> None:
    """Import what commands import, once, before the first child; what is not installed is left out."""
    modules = (path.relative_to(source).with_suffix("") for path in sorted(source.rglob("*.py")))
    for name in [*PRELOADED, *(".".join(m.parts).removesuffix(".__init__") for m in modules)]:
        try:
            importlib.import_module(name)
        except ImportError:
            pass
    gc.collect()
    gc.freeze()  # a child's garbage collection need not copy what it shares with the parent


def start(
    script: Path, flags: Sequence[object], hook: Callable[[], object] = lambda: None, cwd: Path | None = None
) -> Child:
    """Start `python script flags` in a forked child; returns when its signal handlers are those of a new process.

    Args:
        script: of the source that was preloaded.
        flags: its words.
        hook: called in the child before the command.
        cwd: its working directory; None: that of this process.
    """
    (out, new_out), (err, new_err), (ready, say_ready) = os.pipe(), os.pipe(), os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        try:
            _become_new(new_out, new_err, cwd)
            os.closerange(3, say_ready + 1)
            status = _run(script, [str(flag) for flag in flags], hook)
        except BaseException:  # a signal before or after the command
            status = 255
        os._exit(status)
    for pipe in (new_out, new_err, say_ready):
        os.close(pipe)
    os.read(ready, 1)
    os.close(ready)
    return Child(pid, (out, err))


def start_real(script: Path, flags: Sequence[object], cwd: Path | None = None) -> Child:
    """Start `python script flags` as a user does, imports and all."""
    (out, new_out), (err, new_err) = os.pipe(), os.pipe()
    command = [sys.executable, str(script), *map(str, flags)]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=new_out, stderr=new_err, cwd=cwd, start_new_session=True
    )
    process.returncode = 0  # `Child` waits for it, not subprocess
    os.close(new_out)
    os.close(new_err)
    return Child(process.pid, (out, err))


def _become_new(out: int, err: int, cwd: Path | None) -> None:
    """What a new process has: a session, files, signal handlers and nothing to do at its end."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate((nothing, out, err)):
        os.dup2(file, number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)
    for number in STOPPING:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    atexit._clear()
    if cwd is not None:
        os.chdir(cwd)


def _run(script: Path, words: list[str], hook: Callable[[], object]) -> int:
    """The command and its exit status, as the interpreter has it."""
    try:
        hook()
        sys.argv = [str(script), *words]
        runpy.run_path(str(script), run_name="__main__")
        status = 0
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        traceback.print_exc()
        status = 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    return status & 0xFF
