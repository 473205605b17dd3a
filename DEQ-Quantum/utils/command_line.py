"""What the command lines of all commands share: their errors, and what their values may be.

Torch-free, so that --help and a wrong flag do not wait for it.
"""

import argparse
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.launch import let_first_speak, rank_here, world_size

LARGEST, LARGEST_SEED = 2**31 - 1, 2**63 - 1
LARGEST_FLOAT = 1e30  # its products with others stay within single precision's 3e38
LONGEST_NAME, LONGEST_PATH = 255, 3800  # bytes; Linux ends paths at 4096, and files come into the folders
# how torch, CUDA and numpy say that there is not enough memory, beyond MemoryError
OUT_OF_MEMORY = ("out of memory", "n't allocate memory", "not allocate memory", "not enough memory", "ALLOC_FAILED",
                 "Storage size calculation", "integer multiplication overflow", "bad_alloc")  # fmt: skip


class OneLineParser(argparse.ArgumentParser):
    """Errors in one line, with where to read on."""

    def error(self, message: str):
        let_first_speak()
        self.exit(2, f"{self.prog}: {one_line(message)} (see --help)\n")

    def _get_values(self, action: argparse.Action, arg_strings: list[str]):
        if action.option_strings and arg_strings == ["--"]:  # argparse takes --x=-- for no word at all
            self.error(f"argument {'/'.join(action.option_strings)}: expected one argument")
        return super()._get_values(action, arg_strings)


def one_line(message: object) -> str:
    return " ".join(str(message).splitlines())


def shown(value: object) -> str:
    """A value as an error names it: all of it, or the beginning of a long one."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text)} characters)"


def boolean(text: str) -> bool:
    """True or False from a command line, where `bool("False")` would be True."""
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"expected True or False, got {shown(repr(text))}")
    return values[text.lower()]


def integer(minimum: int, maximum: int = LARGEST, even: bool = False) -> Callable[[str], int]:
    """A parser of integers in a range, both ends included."""
    needs = f"an {'even ' if even else ''}integer from {minimum} to {maximum}"

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected {needs}, got {shown(repr(text))}") from None
        if not minimum <= value <= maximum or (even and value % 2):
            raise argparse.ArgumentTypeError(f"expected {needs}, got {shown(value)}")
        return value

    return read


def number(minimum: float, maximum: float = LARGEST_FLOAT, above: bool = False) -> Callable[[str], float]:
    """A parser of numbers in a range, both ends included; with `above`, the lower end is not."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not minimum <= value <= maximum or (above and value == minimum):
            needs = f"a number {'above' if above else 'from'} {minimum:g}, at most {maximum:g}"
            raise argparse.ArgumentTypeError(f"expected {needs}, got {shown(repr(text))}")
        return value

    return read


def path(text: str) -> Path:
    """A path as the shell takes it, with ~ for the home folder also in --flag=~/folder, where the shell leaves it."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got ''")
    found = Path(os.path.expanduser(text))
    longest = max((len(os.fsencode(part)) for part in found.parts), default=0)
    if longest > LONGEST_NAME or len(os.fsencode(found.absolute())) > LONGEST_PATH:
        raise argparse.ArgumentTypeError(f"a name in a path has at most {LONGEST_NAME} bytes, got {shown(repr(text))}")
    return found


def fail(message: object) -> None:
    """End the program with one line on stderr and exit status 1."""
    let_first_speak()
    rank = f"process {rank_here()}: " if rank_here() else ""
    print(f"error: {rank}{one_line(message)}", file=sys.stderr)
    raise SystemExit(1)


def refuse_torchrun(prog: str) -> None:
    """End a program that works in one process where torchrun has started several."""
    if world_size() > 1:
        fail(f"{prog} works in one process: start it without torchrun")


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)


@contextmanager
def one_line_ends(*errors: type[Exception], smaller: str, stopped: str = "stopped") -> Iterator[None]:
    """Run a command: errors that are the user's to mend, lack of memory and Ctrl-C end it with one line each.

    Args:
        errors: such errors; their message is the line.
        smaller: the flags that make the command need less memory.
        stopped: the line at Ctrl-C.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # `start.end_at_ctrl_c` has done its part
    try:
        yield
        sys.stdout.flush()  # here, where it can still be told that it fails
    except KeyboardInterrupt:
        if rank_here() == 0:
            print(stopped)
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception as error:
        if is_out_of_memory(error):
            fail(f"out of memory: make it smaller with {smaller}")
        if not isinstance(error, errors):
            raise
        fail(error)
    finally:
        signal.signal(signal.SIGINT, before)
