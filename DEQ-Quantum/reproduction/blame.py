"""Which flag of `reproduce.py` a file that fails belongs to. Torch-free; knows folders, not what is written to them."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runs.settings import SettingsError

OUTPUTS = ("html", "images_dir", "results_dir", "work_dir")


@contextmanager
def flag_of_a_file(options: argparse.Namespace) -> Iterator[None]:
    """Errors of files in, or on the way to, a folder that a flag chooses name this flag.

    Args:
        options: of the command line, as parsed: also folders that were not given.

    Raises:
        SettingsError: in place of such an OSError.
    """
    try:
        yield
    except OSError as error:
        path = error.filename2 or error.filename
        if not isinstance(path, str | Path) or (flag := _flag_of(Path(path), options)) is None:
            raise
        why = error.strerror or error
        raise SettingsError(f"{flag}: cannot use {path} ({why}); mend that, or choose another with {flag}") from error


def _flag_of(path: Path, options: argparse.Namespace) -> str | None:
    """Of the flags whose places hold the path the innermost; else, of those that lie in it, the outermost."""
    path = path.absolute()
    places = {name: Path(place).absolute() for name in OUTPUTS if (place := getattr(options, name, None))}
    depth = {name: len(place.parts) for name, place in places.items()}
    if holding := [name for name, place in places.items() if path.is_relative_to(place)]:
        return f"--{max(holding, key=depth.get)}"
    beyond = [name for name, place in places.items() if place.is_relative_to(path)]
    return f"--{min(beyond, key=depth.get)}" if beyond else None
