"""Flags that several sub-commands of `reproduce.py` share, and what their values may be. Torch-free."""

import argparse
from pathlib import Path

from reproduction.rows import SEEDS
from utils.command_line import LARGEST_SEED, integer, path
from utils.files import REPOSITORY

COUNT = integer(1, 1_000_000)
CORES = integer(1, 4096)
SEED = integer(0, LARGEST_SEED)


def results_flags() -> argparse.ArgumentParser:
    """Flags of every command: where results lie."""
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument(
        "--results_dir",
        type=path,
        metavar="DIR",
        help="folder of what is kept of them (default: results/paper, with --epochs N results/paper_N-epochs)",
    )
    flags.add_argument(
        "--epochs", type=COUNT, metavar="N", help="runs of so many epochs, not of as many as the paper's"
    )
    return flags


def runs_flags() -> argparse.ArgumentParser:
    """Flags of commands that look at runs."""
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument(
        "--work_dir",
        type=path,
        metavar="DIR",
        help="folder of the runs, <table>/<row>/seed-<n> (default: runs/paper, with --epochs N runs/paper_N-epochs)",
    )
    return flags


def seeds_flags() -> argparse.ArgumentParser:
    """Flags of commands that repeat runs; each trial of a search is a single one."""
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument("--seeds", type=SEED, nargs="+", default=list(SEEDS), metavar="N", help="(default: 0 1 2)")
    return flags


def row_seeds_flags() -> argparse.ArgumentParser:
    """Flags of commands that repeat the runs of a table's rows."""
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument(
        "--seeds",
        type=SEED,
        nargs="+",
        metavar="N",
        help="(default: each row's own, 0 1 2, and also 3 4 for the paper's models in Tables 2 and 3)",
    )
    return flags


def running_flags() -> argparse.ArgumentParser:
    """Flags of commands that train."""
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument(
        "--jobs", type=CORES, metavar="N", help="runs at once (default: as many as there are cores); needs Ray"
    )
    flags.add_argument("--threads", type=CORES, default=1, metavar="N", help="cores of a run (default: 1)")
    flags.add_argument("--address", metavar="HOST:PORT", help="Ray cluster to run on, or auto for the one in reach")
    flags.add_argument(
        "--storage",
        metavar="ADDRESS",
        help="where machines that share no folder leave the runs, s3://, gs:// or any address that fsspec takes",
    )
    flags.add_argument("--data_dir", type=path, metavar="DIR", help="folder of <dataset>.npz, as in train_qdeq.py")
    flags.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default: cpu)")
    flags.add_argument(
        "--wandb", choices=("disabled", "offline", "online"), default="disabled", help="as in train_qdeq.py"
    )
    flags.add_argument("--wandb_project", default="qdeq", metavar="NAME", help="(default: qdeq)")
    flags.add_argument(
        "--dry_run", action="store_true", help="print the commands of the runs that are left, run nothing"
    )
    return flags


def add_images(command: argparse.ArgumentParser) -> None:
    """--images_dir."""
    command.add_argument(
        "--images_dir",
        type=path,
        metavar="DIR",
        help="folder of the figures of results (default: images/paper, for hardware images/hardware, with another "
        "--results_dir images in it)",
    )


def add_missing(command: argparse.ArgumentParser) -> None:
    """--missing."""
    command.add_argument(
        "--missing",
        action="store_true",
        help="leave out runs whose results are kept already in --results_dir, as in a fresh clone those of others",
    )


def add_report(command: argparse.ArgumentParser) -> None:
    """--report."""
    command.add_argument(
        "--report", action="store_true", help="run nothing: keep finished runs' results, print and write the table"
    )


def add_sweep(commands) -> None:
    """`sweep`."""
    about = "train a grid or a list of any flags of train_qdeq.py, each point with every seed, and show the table"
    command = commands.add_parser(
        "sweep",
        help=about,
        description=f"{about.capitalize()}. What all points share follows --, as train_qdeq.py takes it.",
        parents=[running_flags(), seeds_flags()],
    )
    command.add_argument(
        "--grid", action="append", default=[], metavar="FLAG=V,V", help="values of a flag; several: all combinations"
    )
    command.add_argument(
        "--point", action="append", nargs="+", default=[], metavar="FLAG=V", help="one choice of flags; again for more"
    )
    command.add_argument("--list", type=path, metavar="FILE", help="one choice a line, as --lr 0.01 --n_layer 2")
    command.add_argument(
        "--work_dir", type=path, default=REPOSITORY / "runs" / "sweeps", metavar="DIR", help="(default: runs/sweeps)"
    )
    command.add_argument(
        "--name",
        type=folder_name,
        default="sweep",
        metavar="NAME",
        help="its folder in --work_dir, with a folder of runs for each point, table.md and table.json (default: sweep)",
    )
    command.add_argument(
        "--wandb_sweep", type=path, metavar="FILE", help="run nothing: write the grid as the file of a `wandb sweep`"
    )
    add_report(command)


def folder_name(text: str) -> str:
    """A name that is no path."""
    if not text or text in (".", "..") or Path(text).name != text:
        raise argparse.ArgumentTypeError(f"expected the name of a folder, not a path, got {text!r}")
    return text
