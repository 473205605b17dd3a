"""The moments at which a process writes: every change to a file below one folder, counted, and a kill at a chosen one.

It wraps the calls by which Python changes files (open, write, replace, rename, unlink, mkdir, fsync, torch.save), so
that whatever is written is covered without being named, and knows nothing of what the files are.
"""

import builtins
import io
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import torch

WAYS = ("before", "middle", "after")


class Moments:
    """A hook that counts, and kills.

    Args:
        folder: below which files count.
        record: where each moment is written down, a line of JSON: [operation, name of the file].
        at: number of the moment at which the process is killed; None: it only counts.
        way: before the operation, in the middle of it, or after it.
    """

    def __init__(self, folder: Path, record: Path, at: int | None = None, way: str = "before"):
        self.folder, self.record, self.at, self.way, self.number = str(folder), record, at, way, -1

    def __call__(self) -> None:
        """Wrap; in the child."""
        self._out = os.open(self.record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._open, save, fsync = io.open, torch.save, os.fsync
        io.open = builtins.open = self._wrapped_open
        for name in ("replace", "rename"):
            setattr(os, name, self._wrapped_rename(name, getattr(os, name)))
        for name in ("unlink", "remove", "rmdir", "mkdir"):
            setattr(os, name, self._wrapped(name, getattr(os, name)))

        def wrapped_save(content, target, *args, **options):
            def half() -> None:
                whole = io.BytesIO()
                save(content, whole, *args, **options)
                Path(target).write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])

            return self.moment("save", target, lambda: save(content, target, *args, **options), half)

        def wrapped_fsync(file):
            number = file if isinstance(file, int) else file.fileno()
            path = os.readlink(f"/proc/self/fd/{number}") if os.path.exists("/proc/self/fd") else ""
            return self.moment("fsync", path, lambda: fsync(file))

        torch.save, os.fsync = wrapped_save, wrapped_fsync

    def moment(self, operation: str, path: object, do: Callable, half: Callable[[], object] = lambda: None):
        """Do an operation on a path; where it is the chosen one, die before, in the middle, or after."""
        if not isinstance(path, str | os.PathLike) or not os.path.abspath(path).startswith(self.folder):
            return do()
        self.number += 1
        os.write(self._out, (json.dumps([operation, os.path.basename(path)]) + "\n").encode())
        if self.number != self.at:
            return do()
        self.at = None  # what follows is no moment of its own
        try:
            if self.way != "before":
                (half if self.way == "middle" else do)()
        finally:  # also where the operation fails, as mkdir of what is there
            os.kill(os.getpid(), signal.SIGKILL)

    def _wrapped(self, name: str, original: Callable) -> Callable:
        return lambda path, *args, **options: self.moment(name, path, lambda: original(path, *args, **options))

    def _wrapped_rename(self, name: str, original: Callable) -> Callable:
        def wrapped(source, target, **options):
            def half() -> None:  # as if what is renamed had been written by half
                os.truncate(source, os.path.getsize(source) // 2)

            return self.moment(name, target, lambda: original(source, target, **options), half)

        return wrapped

    def _wrapped_open(self, path, mode="r", *args, **options):
        if not set(mode) & set("wax+"):
            return self._open(path, mode, *args, **options)
        file = self.moment("open", path, lambda: self._open(path, mode, *args, **options))
        return Written(file, path, self) if isinstance(path, str | os.PathLike) else file


class Written:
    """An open file whose writes are moments."""

    def __init__(self, file, path: object, moments: Moments):
        self._file, self._path, self._moments = file, path, moments

    def write(self, content):
        def half() -> None:
            self._file.write(content[: len(content) // 2])
            self._file.flush()

        def do():
            n = self._file.write(content)
            if self._moments.at is None:
                self._file.flush()
            return n

        return self._moments.moment("write", self._path, do, half)

    def __getattr__(self, name: str):
        return getattr(self._file, name)

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *error):
        return self._file.__exit__(*error)

    def __iter__(self):
        return iter(self._file)
