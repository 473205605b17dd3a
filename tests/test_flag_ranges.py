"""Every flag of every command, found by walking the parsers: a number out of range and a path that no system has end the
command with one line before anything is made; ~ is the home folder wherever a path is taken."""

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import benchmarks.command_line
import evaluate_qdeq
import qep.settings
import reproduction.command_line
import training.command_line

COMMANDS = {
    "train_qdeq": training.command_line,
    "train_qep": qep.settings,
    "evaluate_qdeq": evaluate_qdeq,
    "reproduce": reproduction.command_line,
    "benchmark": benchmarks.command_line,
}
NEVER = ["1" + "0" * 400, "-1" + "0" * 20, "1e308", "1e39", "nan", "inf", "-inf", "", "x" * 300]
NO_INTEGER = ["1" + "0" * 20, str(2**63), str(2**64), "1.5", "9" * 5000]
LONG = "a" * 300


@dataclass(frozen=True)
class Flag:
    """An argument of a command or of one of its sub-commands, and the words that go before it."""

    command: str
    words: tuple[str, ...]
    action: argparse.Action

    def __str__(self) -> str:
        return " ".join([self.command, *self.words[:2], self.action.dest])

    def parse(self, value: str, joined: bool = False):
        name = self.action.option_strings[:1]
        typed = [f"{name[0]}={value}"] if joined and name else [*name, value]
        return COMMANDS[self.command].parse_command_line([*self.words, *typed])

    def landed(self, value: str, joined: bool = False) -> object:
        """What a value that is accepted becomes."""
        options = self.parse(value, joined)
        settings = getattr(options, "settings", options)
        found = getattr(settings if hasattr(settings, self.action.dest) else options, self.action.dest)
        return found[0] if isinstance(found, list) else found


def flags_of(command: str, parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[Flag]:
    """All that take a value, with what the command needs besides."""
    needed = [a for a in parser._actions if a.required and not isinstance(a, argparse._SubParsersAction)]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield from flags_of(command, sub, (*words, name))
        elif action.type is not None:
            others = [word for a in needed if a is not action for word in (*a.option_strings[:1], "needed")]
            yield Flag(command, (*words, *others), action)


def reads(flag: Flag) -> object:
    """What the flag's type makes of a value that most of them take."""
    for value in ("4", "0.5"):
        try:
            return flag.action.type(value)
        except (argparse.ArgumentTypeError, ValueError):
            pass
    return None


ALL = [flag for command, module in COMMANDS.items() for flag in flags_of(command, module.build_parser())]
NUMBERS = [flag for flag in ALL if type(reads(flag)) in (int, float) and not flag.action.choices]
PATHS = [flag for flag in ALL if isinstance(reads(flag), Path) or flag.action.metavar == "PATH"]
TEXTS = [flag for flag in ALL if flag.action.type is str and not flag.action.choices]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder, which stays so."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    yield
    assert not list(tmp_path.iterdir())


def refused(flag: Flag, value: str, capsys) -> bool:
    """Whether a value ends the command, with one line that names the flag; else it is accepted."""
    try:
        flag.parse(value)
    except SystemExit as end:
        output, error = capsys.readouterr()
        assert end.code == 2 and output == "" and error.count("\n") == 1 and len(error) < 400, error
        assert (flag.action.option_strings or [flag.action.dest])[0] in error
        return True
    return False


def test_the_walk_finds_what_there_is():
    found = {str(flag) for flag in NUMBERS}
    assert {"train_qdeq batch_size", "train_qep spread", "evaluate_qdeq needed f_tol", "reproduce theory seed",
            "reproduce qep error n_spins", "reproduce table1 jobs", "benchmark scaling wires"} <= found  # fmt: skip
    assert len(NUMBERS) > 100 and len(PATHS) > 30


@pytest.mark.parametrize("flag", NUMBERS, ids=str)
def test_a_number_out_of_range_is_refused(flag, capsys):
    for value in NEVER + (NO_INTEGER if type(reads(flag)) is int else []):
        assert refused(flag, value, capsys), f"{flag} {value[:50]} was accepted"
    # what is negative has a meaning in one place only
    assert refused(flag, "-1", capsys) == (flag.action.dest != "max_eval_steps")


@pytest.mark.parametrize("flag", PATHS, ids=str)
def test_a_path_that_no_system_has_is_refused(flag, capsys):
    for value in (LONG, f"a/{LONG}/b", "a/" * 2500):
        assert refused(flag, value, capsys), f"{flag} {value[:50]} was accepted"


@pytest.mark.parametrize("flag", TEXTS, ids=str)
def test_a_text_is_short_enough_for_a_file_name(flag, capsys):
    assert refused(flag, LONG, capsys)


@pytest.mark.parametrize("flag", PATHS, ids=str)
@pytest.mark.parametrize("joined", [False, True])
def test_a_tilde_is_the_home_folder(flag, joined, monkeypatch):
    monkeypatch.setattr(Path, "is_dir", lambda self: not self.suffix)  # where a picture would go
    needs = "--restart" if flag.action.dest == "restart_dir" else None
    flag = Flag(flag.command, (*flag.words, *filter(None, [needs])), flag.action)
    assert Path(flag.landed("~/x.png", joined)) == Path("/home/somebody/x.png")


@pytest.mark.parametrize("command", ["train_qdeq", "train_qep"])
def test_a_run_keeps_its_paths_absolute(command):
    for flag in PATHS:
        if flag.command == command:
            more = ("--restart",) if flag.action.dest == "restart_dir" else ()
            kept = Flag(command, more, flag.action).landed("some/where")
            assert kept == os.path.join(os.getcwd(), "some/where")
            assert Flag(command, more, flag.action).landed("") == ""  # the default
