"""Random streams. Everything random in step t is a function of (seed, stream, t), so a resumed run needs no state."""

import hashlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed the global generators (parameters' initial values come from torch's)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def generator(seed: int, stream: str, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator for one step of one stream; streams and steps are independent of each other.

    Args:
        seed: the run's seed.
        stream: what it is for, e.g. "dropout".
        step: which step, epoch or batch.
        device: where its numbers are drawn.
    """
    digest = hashlib.blake2b(f"{seed}/{stream}/{step}".encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


def batches(
    n_samples: int, batch_size: int, seed: int, step: int, device: torch.device | str = "cpu"
) -> Iterator[torch.Tensor]:
    """Which samples each batch holds, without end; each epoch goes through all of them once, in its own order.

    Args:
        n_samples: how many there are.
        batch_size: of all batches but an epoch's last, which is what is left.
        seed: the run's seed.
        step: number of steps that have their batch already, 0 at the start.
        device: where the indices are wanted; the order does not depend on it.
    """
    epoch, taken = divmod(step, -(-n_samples // batch_size))
    while True:
        order = torch.randperm(n_samples, generator=generator(seed, "batches", epoch)).to(device)
        yield from order.split(batch_size)[taken:]
        epoch, taken = epoch + 1, 0
