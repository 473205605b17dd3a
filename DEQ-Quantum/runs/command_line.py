"""The command line of a run, made from a settings dataclass: one flag a field. Torch-free."""

import argparse
from argparse import ArgumentTypeError
from collections.abc import Callable, Container, Sequence
from dataclasses import Field, dataclass, fields

from runs.settings import BaseSettings, SettingsError, flag_of
from utils.command_line import OneLineParser, boolean, path, shown


@dataclass
class CommandLine:
    """What a user asked for: the settings, which of them the flags named, and warnings to show."""

    settings: BaseSettings
    given: dict
    warnings: list[str]


def settings_parser(
    prog: str, description: str, epilog: str, kind: type[BaseSettings], groups: dict[str, str]
) -> OneLineParser:
    """A parser with a flag for every field of a settings dataclass, and --cuda; flags not given stay absent.

    Args:
        prog, description, epilog: of the command, as argparse has them.
        kind: the dataclass; its fields' names are the parser's destinations.
        groups: what each of the fields' groups is about, in the order of --help; "run" is one of them.
    """
    parser = OneLineParser(
        prog=prog,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=description,
        epilog=epilog,
    )
    groups = {name: parser.add_argument_group(name, about) for name, about in groups.items()}
    for f in fields(kind):
        default = "" if f.default == "" or f.default is False else f" (default: {f.default})"
        add_flag(groups[f.metadata["group"]], f, f.metadata["help"] + default)
    groups["run"].add_argument("--cuda", action="store_true", help="use CUDA; falls back to the CPU with a warning")
    return parser


def read_options(
    parser: argparse.ArgumentParser, kind: type[BaseSettings], arguments: Sequence[str] | None, own: Container[str] = ()
) -> argparse.Namespace:
    """Read a command line some of whose flags are settings; ends the program with one line if a value is wrong.

    Args:
        parser: of the command.
        kind: whose fields such flags are.
        arguments: None: the program's own.
        own: flags of the command that are called as settings and are none.
    """
    options = parser.parse_args(arguments)
    try:
        kind.check_values({name: value for name, value in vars(options).items() if name not in own})
    except SettingsError as error:
        parser.error(str(error))
    return options


def add_flag(parser: argparse.ArgumentParser, f: Field, help: str | None = None) -> None:
    """Add the flag of a settings field, in both spellings; absent where it is not given.

    Args:
        parser: or a group of one.
        f: the field.
        help: in place of the field's own.
    """
    options = {"dest": f.name, "help": help or f.metadata["help"], "default": argparse.SUPPRESS}
    if f.type is bool and f.default is False:
        options["action"] = "store_true"
    elif f.type is bool:
        options |= {"type": boolean, "metavar": "{True,False}"}
    else:
        options |= {"type": _type_of(f), "choices": f.metadata["choices"]}
        if not f.metadata["choices"]:
            options["metavar"] = "PATH" if f.metadata["path"] else {int: "N", float: "X", str: "TEXT"}[f.type]
    parser.add_argument(*dict.fromkeys([flag_of(f), f"--{f.name}"]), **options)


def _type_of(f: Field) -> Callable[[str], object]:
    """How a field is read; whether its number is in range the settings say themselves."""
    return absolute_path if f.metadata["path"] else {int: any_integer, float: any_number}.get(f.type, f.type)


def any_integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"expected an integer, got {shown(repr(text))}") from None


def any_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentTypeError(f"expected a number, got {shown(repr(text))}") from None


def absolute_path(text: str) -> str:
    """A path that a run keeps, wherever it is resumed from; empty: the default."""
    return text and str(path(text).absolute())


def parse_settings(
    arguments: list[str] | None, parser: argparse.ArgumentParser, kind: type[BaseSettings], idle: Sequence[str] = ()
) -> CommandLine:
    """Read a command line; ends the program with one line on stderr if its settings cannot work.

    Args:
        arguments: None: the program's own.
        parser: `settings_parser` of the same dataclass.
        kind: the dataclass to fill.
        idle: flags that the parser accepts and that do nothing.
    """
    return command_line_of(vars(parser.parse_args(arguments)), parser, kind, idle)


def command_line_of(
    given: dict, parser: argparse.ArgumentParser, kind: type[BaseSettings], idle: Sequence[str] = ()
) -> CommandLine:
    """The same from what the parser has read, by name."""
    given, warnings = dict(given), []
    for flag in idle:
        if given.pop(flag[2:], None) is not None:
            warnings.append(f"{flag} does nothing, here as in the released code")
    prefer_cuda = given.pop("cuda", False)
    try:
        given = kind.completed(given)
        kind.validate_flags(given)
        if prefer_cuda and given.get("device") == "cpu":
            raise SettingsError("--cuda and --device cpu contradict each other")
        settings = kind(**given)
        warnings += settings.validate()
    except SettingsError as error:
        parser.error(str(error))
    if prefer_cuda:
        import torch  # here, so that --help and errors do not wait for it

        settings.device = given["device"] = "cuda" if torch.cuda.is_available() else "cpu"
        if settings.device == "cpu":
            warnings.append("--cuda: there is no CUDA device here, running on the CPU")
    return CommandLine(settings, given, warnings)
