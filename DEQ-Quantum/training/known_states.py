"""The states of images where no gate trains: f is the same at every step, so each image's state is found once and kept.

What is left of a step is the head. Solves are those of an evaluation, with the whole --f_thres: no step draws a cap.
"""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from models.depth import Depth
from models.qdeq_model import EquilibriumClassifier, Prediction

PART = 512  # images at a time

log = logging.getLogger("qdeq")


@dataclass(frozen=True)
class KnownSolve:
    """What is told of the solves, as `SolverResult` tells it; there is no backward solve.

    Attributes:
        steps, settled: (B,).
    """

    steps: Tensor
    settled: Tensor
    backward: None = None


class KnownStates:
    """Predictions for images of one split, but for the head.

    Args:
        model: whose layer does not train; of its head nothing is kept.
        features: (N, D).
        depth: equilibrium or stack of layers.
        what: the images, for the progress bar.

    Attributes:
        radii: spectral radii that an evaluation has found at them, which need not be found again; None before.
    """

    def __init__(self, model: EquilibriumClassifier, features: Tensor, depth: Depth, what: str):
        was_training = model.training
        model.eval()
        compiled = model.layer.compile()
        self._model, self._values, self.radii = model, {}, None
        for start in tqdm(range(0, len(features), PART), f"states of {what}", leave=False, disable=None):
            with torch.no_grad():
                p = model(features[start : start + PART], depth, compiled)
            for name, values in _of_images(p).items():
                if name not in self._values:
                    self._values[name] = values.new_empty(len(features), *values.shape[1:])
                self._values[name][start : start + PART] = values
        self._some_failed = bool(self._values["failed"].any()) if self._values else False
        model.train(was_training)

    def of(self, which: Tensor | slice, generator: torch.Generator | None = None) -> Prediction:
        """The prediction for images at these places, (B,), with the head as it is now, under autograd.

        Args:
            which: their places in the split.
            generator: of dropout.
        """
        known = {name: values[which] for name, values in self._values.items()}
        model, failed = self._model, known["failed"] if self._some_failed else None
        logits = model.classify(known["z" if model.layer.lift.sees_state else "r"].nan_to_num(nan=0.0), generator)
        if failed is not None:
            logits = logits.masked_fill(failed.unsqueeze(-1), torch.nan)
        solve = KnownSolve(known["steps"], known["settled"]) if "steps" in known else None
        return Prediction(
            logits, known["z"], known["r"], known["res"], known["res_rel"], logits.new_zeros(()), solve, failed
        )  # fmt: skip


def _of_images(p: Prediction) -> dict[str, Tensor]:
    """What is kept of a prediction, (B, ...) each."""
    failed = torch.zeros_like(p.res, dtype=torch.bool) if p.failed is None else p.failed
    kept = {"z": p.z, "r": p.r, "res": p.res, "res_rel": p.res_rel, "failed": failed}
    return kept if p.solver is None else kept | {"steps": p.solver.steps, "settled": p.solver.settled}
