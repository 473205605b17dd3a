"""Products of several parameters side by side: a batch is S equally long runs of samples, each for parameters of its own.

Whatever acts on every sample alone, as a solver does, then serves all S at the price of one.
"""

import torch
from torch import Tensor


def times_own(samples: Tensor, matrices: Tensor) -> Tensor:
    """Products of samples with a matrix of all, or of their run.

    Args:
        samples: (S B, n).
        matrices: (n, m), or (S, n, m).

    Returns:
        (S B, m).
    """
    if matrices.dim() == 2:
        return samples @ matrices
    runs = samples.view(len(matrices), samples.shape[0] // len(matrices), -1)
    return torch.bmm(runs, matrices).flatten(0, 1)


def add_times_own(base: Tensor, samples: Tensor, matrices: Tensor, alpha: float = 1) -> Tensor:
    """base + alpha `times_own`: (S B, m), (S B, n), (n, m) or (S, n, m) to (S B, m)."""
    if matrices.dim() == 2:
        return torch.addmm(base, samples, matrices, alpha=alpha)
    runs = (len(matrices), samples.shape[0] // len(matrices), -1)
    return torch.baddbmm(base.view(runs), samples.view(runs), matrices, alpha=alpha).flatten(0, 1)
