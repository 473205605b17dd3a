"""What the command lines of all commands share. Torch-free, so that --help and a wrong flag do not wait for it."""

import argparse
import os
import sys
from collections.abc import Callable

from utils.launch import let_first_speak, rank_here, world_size


class OneLineParser(argparse.ArgumentParser):
    """Errors in one line, with where to read on."""

    def error(self, message: str):
        let_first_speak()
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def boolean(text: str) -> bool:
    """True or False from a command line, where `bool("False")` would be True."""
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"expected True or False, got {text!r}")
    return values[text.lower()]


def integer(minimum: int, maximum: int | None = None, even: bool = False) -> Callable[[str], int]:
    """A parser of integers in a range, both ends included."""
    needs = f"an {'even ' if even else ''}integer from {minimum}" + (f" to {maximum}" if maximum else "")

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected {needs}, got {text!r}") from None
        if value < minimum or (maximum is not None and value > maximum) or (even and value % 2):
            raise argparse.ArgumentTypeError(f"expected {needs}, got {value}")
        return value

    return read


def positive(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return value


def share_cores() -> None:
    """Let (GNU) OpenMP's threads sleep soon while they wait for each other; call it before torch is imported.

    By default they spin for long, and where another process needs one of the cores a step of 30 ms then takes a
    second, because the thread that is waited for is not scheduled. What the user has set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def draw_into_files() -> None:
    """Let matplotlib draw without a display; call it before matplotlib is imported.

    A command started from a notebook inherits the notebook's backend, which is nothing to a process of its own and which
    matplotlib refuses to be imported with.
    """
    os.environ["MPLBACKEND"] = "agg"


def fail(message: object) -> None:
    """End the program with one line on stderr and exit status 1."""
    let_first_speak()
    print(f"error: {f'process {rank_here()}: ' if rank_here() else ''}{message}", file=sys.stderr)
    raise SystemExit(1)


def refuse_torchrun(prog: str) -> None:
    """End a program that works in one process where torchrun has started several."""
    if world_size() > 1:
        fail(f"{prog} works in one process: start it without torchrun")
