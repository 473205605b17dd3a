"""What torchrun tells a process through its environment. Torch-free, so that a wrong flag does not wait for torch."""

import os
import time

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
PATIENCE = 5.0  # seconds


def world_size() -> int:
    """How many processes were started together; 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in VARIABLES) else 1


def rank_here() -> int:
    """This process's number among them, from 0."""
    return int(os.environ["RANK"]) if world_size() > 1 else 0


def let_first_speak() -> None:
    """Wait before an error is told: where the first process fails too, it tells, and torchrun ends the others."""
    if rank_here():
        time.sleep(PATIENCE)
