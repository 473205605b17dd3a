"""What a training step measures of its images, added up: of one run, or of several side by side.

Knows names and numbers, not what they mean.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Sums:
    """What one step measures of its batch.

    Attributes:
        sums: (name, sum over images, their number), in the order in which they came up.
        failed: images without a finite state.
        jac_loss: the Jacobian loss.
        reached: (B, n_units) equilibria, zero of images that another process has; None: nobody asks for them.
    """

    sums: list[tuple[str, Tensor | float, int]] = field(default_factory=list)
    failed: Tensor | int = 0
    jac_loss: Tensor | float = 0.0
    reached: Tensor | None = None

    def add(self, measured: dict[str, Tensor], failed: Tensor | None, count: int) -> None:
        """Take in what was measured of some images, all at once.

        Args:
            measured: (n,) values by name.
            failed: (n,) images that have no loss and no residual; None: none.
            count: of them the first so many count.
        """
        values = torch.stack([of_image.detach() for of_image in measured.values()])[:, :count].double()
        counts = [count] * len(measured)
        on_cpu = values.device.type == "cpu"
        # on a GPU a failed image shows as NaN in the entry: to leave it out the host would have to wait
        if failed is not None and on_cpu and count:
            missing = [of_image.is_floating_point() for of_image in measured.values()]
            values = values.masked_fill(failed & torch.tensor(missing).unsqueeze(1), 0.0)
            n_failed = int(failed.sum())
            counts = [count - n_failed * is_missing for is_missing in missing]
        totals = values.sum(1)
        self.sums += zip(measured, totals.tolist() if on_cpu else totals.unbind(), counts)


class SumsOfSeveral:
    """What a step measures of its batch, by run.

    Attributes:
        names: of what is measured.
        sums, counts: (n_names, S) sums over images that have a value, and how many have.
        jac_loss: (S,).
        failed: (S,) images without a finite state.
        n_images: of each run.
    """

    def __init__(self, n_runs: int):
        self.n_runs, self.n_images = n_runs, 0
        self.names: list[str] = []
        self.sums, self.jac_loss = torch.zeros(()), torch.zeros(n_runs)
        self.counts = torch.zeros((), dtype=torch.long)
        self.failed = torch.zeros(n_runs, dtype=torch.long)

    def add(self, measured: dict[str, Tensor], failed: Tensor | None, jac_loss: Tensor) -> None:
        """Take in (S B,) values by name, images that have no loss and no residual, and (S,) Jacobian losses."""
        self.names = list(measured)
        values = torch.stack([of_image.detach() for of_image in measured.values()]).double().unflatten(1, (self.n_runs, -1))
        self.n_images += values.shape[2]
        counts = torch.full(values.shape[:2], values.shape[2])
        if failed is not None and failed.any():
            failed = failed.view(self.n_runs, -1)
            missing = torch.tensor([of_image.is_floating_point() for of_image in measured.values()], device=failed.device)
            values = values.masked_fill(missing.view(-1, 1, 1) & failed, 0.0)
            n_failed = failed.sum(1).cpu()
            counts = counts - missing.cpu().unsqueeze(1) * n_failed
            self.failed = self.failed + n_failed
        self.sums = self.sums.to(values.device) + values.sum(2)
        self.jac_loss = self.jac_loss.to(values.device) + jac_loss.detach().double()
        self.counts = self.counts + counts
