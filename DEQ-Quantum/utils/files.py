"""Atomic writes: a file appears whole under its name, or not at all; text and JSON written so, and what a kill left."""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SEAL = "sha256"
LEFTOVER = re.compile(r"\..+\.([1-9]\d{0,6})\.tmp")


@contextmanager
def atomic_write(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """A temporary path, renamed to `path` at the end of the block, when the disk holds what was written.

    Where the block fails nothing is left, and what was at `path` stays. What a killed process leaves is hidden and
    carries its number: `remove_leftovers`.

    Args:
        path: the file.
        folder: where the temporary one lies, on the same file system; None: beside it. Threads that may write the
            same file at once need one each.

    Raises:
        OSError: it cannot be written; the error names `path`.
    """
    temporary = (folder or path.parent) / f".{path.name}.{os.getpid()}.tmp"
    try:
        yield temporary
        _to_disk(temporary)
        os.replace(temporary, path)
        with suppress(OSError):  # some file systems cannot
            _to_disk(path.parent)
    except OSError as error:
        if error.errno is not None and str(error.filename or temporary) == str(temporary):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        with suppress(OSError):  # it hides no other error
            temporary.unlink()


def _to_disk(path: Path) -> None:
    """Wait until a power cut loses nothing of a file, or of the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes left of atomic writes; a living process keeps its own."""
    for path in folder.iterdir():
        found = LEFTOVER.fullmatch(path.name)
        if found and not _is_another(int(found[1])):
            path.unlink(missing_ok=True)


def _is_another(process: int) -> bool:
    """Whether a process of this number lives, and is not this one."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return process != os.getpid()


def is_blank(folder: Path) -> bool:
    """Whether a folder holds nothing but empty files and what killed processes left of atomic writes."""
    return all(LEFTOVER.fullmatch(p.name) or (p.is_file() and not p.stat().st_size) for p in folder.iterdir())


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8 whatever the locale."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def as_json(content: dict) -> str:
    """JSON that strict readers take too: a number that is not finite, as the loss of a run that diverged, is null."""
    return json.dumps(_finite(content), indent=2, allow_nan=False)


def write_json(path: Path, content: dict) -> None:
    """Write what `as_json` makes of it, atomically."""
    write_text(path, as_json(content) + "\n")


def sealed(content: dict) -> dict:
    """The content and, as its entry "sha256", the checksum of all others, which `read_json` verifies."""
    return content | {SEAL: _checksum(content)}


def _checksum(content: dict) -> str:
    return hashlib.sha256(as_json({k: v for k, v in content.items() if k != SEAL}).encode()).hexdigest()


def read_json(path: Path) -> object:
    """What a JSON file holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not JSON, or not what was `sealed`.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if isinstance(content, dict) and content.get(SEAL, "") not in ("", _checksum(content)):
        raise ValueError("its checksum is wrong: it is damaged or was changed")
    return content


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
