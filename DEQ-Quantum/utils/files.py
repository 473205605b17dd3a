"""Text and JSON files, written aside and renamed, so that none is ever half there."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A file to write in place of `path`, which it takes the place of at the end; nothing is left where that fails."""
    aside = path.with_name(path.name + ".tmp")
    try:
        yield aside
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with written_aside(path) as aside:
        aside.write_text(text)


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
