"""Where the solves of training samples begin with --z0 previous: at the equilibria that the run last found for them.

Parameters move little between two visits of a sample, and so does its equilibrium. This is the fixed-point reuse of Bai,
Geng, Savani and Kolter ("Deep equilibrium optical flow estimation", CVPR 2022) over epochs instead of a video's frames.
"""

from pathlib import Path

import torch
from torch import Tensor

from runs.checkpoint import CheckpointError

ENTRY = "previous_r"  # of a checkpoint, once there is anything to remember


class Previous:
    """The last equilibrium of every training sample, in the space of readouts, zero before the first.

    Args:
        n_samples: of the training set.
        n_units: numbers in r.

    Attributes:
        r: (n_samples, n_units), of the equilibria's dtype and device; None before the first.
    """

    def __init__(self, n_samples: int, n_units: int):
        self.shape, self.r = (n_samples, n_units), None

    def of(self, which: Tensor, like: Tensor) -> Tensor:
        """(B, n_units) of the samples at these places (B,); `like` has their dtype and device before any is known."""
        return like.new_zeros(len(which), self.shape[1]) if self.r is None else self.r[which]

    def keep(self, which: Tensor, r: Tensor) -> None:
        """Remember r (B, n_units) of samples (B,); of those that failed, which are NaN, zero."""
        if self.r is None:
            self.r = r.new_zeros(self.shape)
        self.r[which] = r.nan_to_num(nan=0.0)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {} if self.r is None else {ENTRY: self.r}

    def load_state(self, content: dict, device: torch.device, path: Path) -> None:
        """Remember what a checkpoint at `path` holds, nothing where it has no such entry.

        Raises:
            CheckpointError: it is of other samples or of another model, or not of finite numbers.
        """
        self.r = content.get(ENTRY)
        if self.r is None:
            return
        fits = isinstance(self.r, Tensor) and self.r.dtype == torch.float32 and tuple(self.r.shape) == self.shape
        if not (fits and self.r.isfinite().all()):
            raise CheckpointError(f"{path} is not a usable checkpoint (its entry {ENTRY} is not of this run's images)")
        self.r = self.r.to(device)
