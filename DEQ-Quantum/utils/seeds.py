"""Random streams. Everything random in step t is a function of (seed, stream, t), so a resumed run needs no state."""

import hashlib
import random

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
