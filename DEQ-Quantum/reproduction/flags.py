"""Flags that several sub-commands of `reproduce.py` share, and what their values may be. Torch-free."""

import argparse

from utils.command_line import LARGEST_SEED, integer, path

SEEDS = (0, 1, 2)
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
    flags.add_argument(
        "--seeds", type=SEED, nargs="+", default=list(SEEDS), metavar="N", help="(default: 0 1 2)"
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
        help="folder of the figures of results (default: images/paper, with another --results_dir images in it)",
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
