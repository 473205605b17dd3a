"""Several ranks of one run in processes of this machine, as torchrun starts them, for the price of one import of torch."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import torch

SECONDS = 120  # a job that takes longer hangs
PATHS = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "DEQ-Quantum")]


def free_port() -> int:
    """A port that nobody listens at."""
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def rank_variables(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun tells a process."""
    return {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port)}  # fmt: skip


def launch(size: int, work: Callable, *arguments: object, output: Path) -> list[int | None]:
    """Call work(*arguments) on every rank, in processes of their own.

    Args:
        size: how many ranks.
        work: a function of a module, which finds its rank in the environment.
        output: folder for what the ranks print, as `rank0.txt`.

    Returns:
        Exit statuses by rank.
    """
    output.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONPATH"] = os.pathsep.join([*PATHS, os.environ.get("PYTHONPATH", "")])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["conftest"])  # imports torch once, for all ranks of all tests
    port = free_port()
    ranks = [context.Process(target=_begin, args=(rank_variables(rank, size, port), output / f"rank{rank}.txt", work,
                                                  arguments)) for rank in range(size)]  # fmt: skip
    for rank in ranks:
        rank.start()
    try:
        for rank in ranks:
            rank.join(SECONDS)
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()
    return [rank.exitcode for rank in ranks]


def _begin(variables: dict[str, str], output: Path, work: Callable, arguments: Sequence[object]) -> None:
    os.environ.update(variables)
    torch.set_num_threads(1)
    file = output.open("w", buffering=1)
    sys.stdout = sys.stderr = file
    work(*arguments)
