"""Atomic writes: a file appears whole under its name, or not at all; text and JSON written so."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@contextmanager
def atomic_write(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """A temporary path, renamed to `path` at the end of the block.

    Where the block fails nothing is left, and what was at `path` stays.

    Args:
        path: the file.
        folder: where the temporary one lies, on the same file system; None: beside it. Processes that may write the
            same file at once need one each.
    """
    temporary = (folder or path.parent) / (path.name + ".tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text)


def as_json(content: dict) -> str:
    """JSON that strict readers take too: a number that is not finite, as the loss of a run that diverged, is null."""
    return json.dumps(_finite(content), indent=2, allow_nan=False)


def write_json(path: Path, content: dict) -> None:
    """Write what `as_json` makes of it, atomically."""
    write_text(path, as_json(content) + "\n")


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
