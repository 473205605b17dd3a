"""Points of a sweep: which flags of train_qdeq.py each changes, all of them checked before anything runs.

A grid is every combination of some flags' values; a list names points one by one; with both each point of the list is
combined with each of the grid. Knows the flags of train_qdeq.py and its parser; nothing of runs.
"""

import difflib
import io
import re
import shlex
from argparse import ArgumentTypeError
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, fields
from hashlib import sha256
from itertools import product

from reproduction.jobs import SWITCHES, words_of
from runs.settings import SettingsError, flag_of, result_fields
from training.command_line import build_parser, parse_command_line
from training.settings import Settings
from utils.command_line import boolean

FIELDS = {spelling: f.name for f in fields(Settings) for spelling in (f.name, flag_of(f)[2:])}
# what reproduce.py says of every run
OWN = {"seed": "--seeds", "seeds": "--seeds", "names": "--seeds", "name": "--name", "work_dir": "--work_dir", "device": "--device", "data_dir": "--data_dir",
       "wandb": "--wandb", "wandb_project": "--wandb_project"}  # fmt: skip
NOT_SWEPT = ("restart", "restart_dir", "debug", "tensorboard", "wandb_group", "wandb_job_type", "cuda")
LONGEST = 100  # letters of a folder's name


@dataclass(frozen=True)
class Point:
    """One choice of flags.

    Attributes:
        values: each flag's value, as typed.
        flags: of train_qdeq.py: what all points share, and these.
    """

    values: dict[str, str]
    flags: tuple[str, ...]

    @property
    def label(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.values.items())

    @property
    def folder(self) -> str:
        """A folder's name, another for each point."""
        text = "_".join(f"{name}-{value}" for name, value in self.values.items())
        plain = re.sub(r"[^A-Za-z0-9_.+-]", "-", text)
        if plain == text and len(text) <= LONGEST:
            return text
        return f"{plain[: LONGEST - 9]}-{sha256(text.encode()).hexdigest()[:8]}"


def points_of(
    grids: Sequence[str], listed: Sequence[Sequence[str]], lines: Iterable[str], common: Sequence[str]
) -> tuple[list[Point], list[str]]:
    """Every point of a sweep.

    Args:
        grids: flag=value,value,... each.
        listed: points as flag=value words.
        lines: points as flags are typed, "--lr 0.01 --n_layer 2"; empty lines and those that begin with # are none.
        common: flags of train_qdeq.py that all points share.

    Returns:
        The points, and what their settings are warned of.

    Raises:
        SettingsError: one line that names the flag.
    """
    shared = _given(common, "the flags after --")
    for name in shared:
        _refuse_own(name, "the flags after --")
    if "load" in shared:  # which file it is tells no run from another, the folder of a point does
        raise SettingsError("the flags after --: --load must be swept, be it with one value: --grid load=PATH")
    grid = _grid(grids)
    chosen = [_one_point(words, f"--point {' '.join(words)}") for words in listed]
    chosen += [_one_point(_words_of_line(line), f"--list: {line.strip()}") for line in lines if _is_point(line)]
    if not grid and not chosen:
        raise SettingsError("a sweep needs --grid FLAG=VALUE,VALUE, --point FLAG=VALUE or --list FILE with points")
    combined = [
        _merge(point, dict(zip(grid, values))) for point in chosen or [{}] for values in product(*grid.values())
    ]
    return _checked(combined, shared, common)


def _grid(grids: Sequence[str]) -> dict[str, list[str]]:
    grid: dict[str, list[str]] = {}
    for text in grids:
        where = f"--grid {text}"
        name, values = _split(text, where)
        if name in grid:
            raise SettingsError(f"{where}: --{name} has a grid already; give all its values in one")
        grid[name] = values.split(",")
        if not all(value.strip() for value in grid[name]):
            raise SettingsError(f"{where}: a value is empty; give --grid {name}=VALUE,VALUE")
    return grid


def _split(text: str, where: str) -> tuple[str, str]:
    """Name and value of flag=value."""
    spelling, equals, value = text.removeprefix("--").partition("=")
    if not equals or not value:
        raise SettingsError(f"{where}: expected FLAG=VALUE, got {text!r}")
    if spelling not in FIELDS and spelling not in NOT_SWEPT:
        near = difflib.get_close_matches(spelling, FIELDS, 1)
        raise SettingsError(f"{where}: train_qdeq.py has no flag --{spelling}" + "".join(f" (--{n}?)" for n in near))
    name = FIELDS.get(spelling, spelling)
    _refuse_own(name, where)
    return name, value


def _refuse_own(name: str, where: str) -> None:
    if name in OWN:
        raise SettingsError(f"{where}: --{name} is given by the sweep's own {OWN[name]}, before the --")
    if name in NOT_SWEPT:
        raise SettingsError(f"{where}: --{name} is no flag to sweep: leave it out")


def _one_point(words: Sequence[str], where: str) -> dict[str, str]:
    point: dict[str, str] = {}
    for word in words:
        name, value = _split(word, where)
        if name in point:
            raise SettingsError(f"{where}: --{name} is given twice")
        point[name] = value
    return point


def _is_point(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _words_of_line(line: str) -> list[str]:
    """flag=value words of flags as typed; a switch stands alone."""
    words: list[str] = []
    try:
        typed = shlex.split(line)
    except ValueError as error:
        raise SettingsError(f"--list: {line.strip()}: {error}") from error
    for word in typed:
        if word.startswith("--"):
            words.append(word if "=" in word else f"{word}=True")
        elif words and words[-1].endswith("=True"):
            words[-1] = words[-1].removesuffix("True") + word
        else:
            raise SettingsError(f"--list: {line.strip()}: expected flags as train_qdeq.py has them, got {word!r}")
    return words


def _merge(point: dict[str, str], of_grid: dict[str, str]) -> dict[str, str]:
    for name in point:
        if name in of_grid:
            raise SettingsError(f"--grid {name}: a point of the list gives --{name} too; give it in one of them")
    return point | of_grid


def _checked(combined: list[dict[str, str]], shared: set[str], common: Sequence[str]) -> tuple[list[Point], list[str]]:
    points, warnings, seen = [], {}, {}
    for values in combined:
        where = " ".join(f"{name}={value}" for name, value in values.items())
        if twice := sorted(shared & set(values)):
            raise SettingsError(f"{where}: --{twice[0]} stands among the flags after -- too; give it in one place")
        words = [word for name, value in values.items() for word in words_of(name, _value(name, value, where))]
        flags = (*common, *words)
        command = _in_one_line(lambda flags=flags: parse_command_line(list(flags)), where)
        key = tuple(getattr(command.settings, name) for name in (*result_fields(Settings), "load"))
        if key in seen:
            raise SettingsError(f"{where} and {seen[key]} are the same run: give each value once")
        seen[key] = where
        points.append(Point(values, flags))
        warnings |= {f"{where}: {warning}": None for warning in command.warnings}
    return points, list(warnings)


def _value(name: str, text: str, where: str) -> object:
    if name not in SWITCHES:
        return text
    try:
        return boolean(text)
    except ArgumentTypeError as error:
        raise SettingsError(f"{where}: --{name}: {error}") from error


def _given(flags: Sequence[str], where: str) -> set[str]:
    """Names of the settings that flags give, before it is asked whether they go together."""
    return set(vars(_in_one_line(lambda: build_parser().parse_args(list(flags)), where)))


def _in_one_line(parse, where: str):
    """What a parser makes of flags; its own way of ending the program becomes an error that says where."""
    errors = io.StringIO()
    try:
        with redirect_stderr(errors):
            return parse()
    except SystemExit as end:
        if not end.code:  # --help
            raise
        message = errors.getvalue().strip().removeprefix("train_qdeq.py: ").removesuffix(" (see --help)")
        raise SettingsError(f"{where}: {message}") from None
