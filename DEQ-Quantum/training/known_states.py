"""The states of images where no gate trains: f is the same at every step, so each image's state is found once and kept.

What is left of a step is the head. Solves are those of an evaluation, with the whole --f_thres: no step draws a cap.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from tqdm import tqdm

from models.depth import Depth
from models.qdeq_model import EquilibriumClassifier, Prediction

PART = 512  # images at a time


@dataclass(frozen=True)
class KnownSolve:
    """What is told of the solves, as `SolverResult` tells it; there is no backward solve.

    Attributes:
        steps, settled: (B,).
    """

    steps: Tensor
    settled: Tensor
    backward: None = None


@dataclass(frozen=True)
class Found:
    """What a pass finds but for its logits, as `Prediction` and `SolverResult` have it.

    Attributes:
        z, r, res, res_rel: (B, width), (B, n_units) and twice (B,).
        failed: (B,), False where no image has failed.
        steps, settled: (B,); None for a stack of layers.
    """

    z: Tensor
    r: Tensor
    res: Tensor
    res_rel: Tensor
    failed: Tensor
    steps: Tensor | None
    settled: Tensor | None

    @classmethod
    def of_pass(cls, p: Prediction) -> "Found":
        """That of a pass."""
        failed = torch.zeros_like(p.res, dtype=torch.bool) if p.failed is None else p.failed
        of_solver = (None, None) if p.solver is None else (p.solver.steps, p.solver.settled)
        return cls(p.z, p.r, p.res, p.res_rel, failed, *of_solver)

    def room_for(self, n_images: int) -> "Found":
        """Tensors of the same kinds for so many images."""
        return self._of_each(lambda values: values.new_empty(n_images, *values.shape[1:]))

    def write(self, part: "Found", start: int) -> None:
        """Take in those of a part, from the start-th image on."""
        for field in fields(self):
            if (values := getattr(part, field.name)) is not None:
                getattr(self, field.name)[start : start + len(values)] = values

    def of(self, which: Tensor | slice) -> "Found":
        """Those at these places."""
        return self._of_each(lambda values: values[which])

    def _of_each(self, change) -> "Found":
        values = [getattr(self, field.name) for field in fields(self)]
        return Found(*(None if one is None else change(one) for one in values))


class KnownStates:
    """Predictions for images of one split, but for the head.

    Args:
        model: whose layer does not train; of its head nothing is kept.
        features: (N, D), N at least 1.
        depth: equilibrium or stack of layers.
        what: the images, for the progress bar.

    Attributes:
        radii: spectral radii that an evaluation has found at them, which need not be found again; None before.
    """

    def __init__(self, model: EquilibriumClassifier, features: Tensor, depth: Depth, what: str):
        was_training = model.training
        model.eval()
        compiled = model.layer.compile()
        self._model, self.radii, found = model, None, None
        for start in tqdm(range(0, len(features), PART), f"states of {what}", leave=False, disable=None):
            with torch.no_grad():
                part = Found.of_pass(model(features[start : start + PART], depth, compiled))
            found = part.room_for(len(features)) if found is None else found
            found.write(part, start)
        self._found, self._some_failed = found, bool(found.failed.any())
        model.train(was_training)

    def of(self, which: Tensor | slice, generator: torch.Generator | None = None) -> Prediction:
        """The prediction for images at these places, (B,), with the head as it is now, under autograd.

        Args:
            which: their places in the split.
            generator: of dropout.
        """
        found, model = self._found.of(which), self._model
        state = found.z if model.layer.lift.sees_state else found.r
        if self._some_failed:
            state = state.nan_to_num(nan=0.0)
        logits = model.classify(state, generator)
        if self._some_failed:
            logits = logits.masked_fill(found.failed.unsqueeze(-1), torch.nan)
        solve = None if found.steps is None else KnownSolve(found.steps, found.settled)
        failed = found.failed if self._some_failed else None
        return Prediction(logits, found.z, found.r, found.res, found.res_rel, logits.new_zeros(()), solve, failed)


def bytes_of_states(n_images: int, n_readouts: int, width: int) -> int:
    """What so many images' states take, in single precision."""
    return n_images * (4 * (n_readouts + width + 3) + 2)
