"""The command line of a run, made from a settings dataclass: one flag a field. Torch-free."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields

from runs.settings import BaseSettings, SettingsError, flag_of
from utils.command_line import OneLineParser, boolean


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
        flag, text = flag_of(f), f.metadata["help"]
        if f.default != "" and f.default is not False:
            text += f" (default: {f.default})"
        options = {"dest": f.name, "help": text}
        if f.type is bool and f.default is False:
            options["action"] = "store_true"
        elif f.type is bool:
            options |= {"type": boolean, "metavar": "{True,False}"}
        else:
            options |= {"type": f.type, "choices": f.metadata["choices"]}
            if not f.metadata["choices"]:
                options["metavar"] = {int: "N", float: "X", str: "TEXT"}[f.type]
        spellings = dict.fromkeys([flag, f"--{f.name}"])
        groups[f.metadata["group"]].add_argument(*spellings, **options)
    groups["run"].add_argument("--cuda", action="store_true", help="use CUDA; falls back to the CPU with a warning")
    return parser


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
    given = vars(parser.parse_args(arguments))
    warnings = []
    for flag in idle:
        if given.pop(flag[2:], None) is not None:
            warnings.append(f"{flag} does nothing, here as in the released code")
    prefer_cuda = given.pop("cuda", False)
    try:
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
