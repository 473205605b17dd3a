"""What a model comes to on a split with its layer's present engine."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from dataset import Split
from deployment.differences import finite_mean
from models.depth import Depth
from models.qdeq_model import EquilibriumClassifier
from training.evaluation import BATCH, measure


@dataclass
class States:
    """Of N images.

    Attributes:
        r: (N, K) readouts that the model came to.
        measured: each metric's values, (N,).
        seconds: of it all; `compile_seconds` to compile the circuit.
    """

    r: Tensor
    measured: dict[str, Tensor]
    compile_seconds: float
    seconds: float


@torch.no_grad()
def states(model: EquilibriumClassifier, split: Split, depth: Depth) -> States:
    """Classify a split with the layer's present engine."""
    start = time.perf_counter()
    compiled = model.layer.compile()
    compile_seconds = time.perf_counter() - start
    r, parts = [], []
    for x, y in zip(split.features.split(BATCH), split.labels.split(BATCH)):
        prediction = model(x, depth, compiled)
        r.append(prediction.r)
        parts.append(measure(prediction, y))
    measured = {name: torch.cat([part[name] for part in parts]).double() for name in parts[0]}
    return States(torch.cat(r), measured, compile_seconds, time.perf_counter() - start)


def summary(found: States) -> dict[str, float]:
    """Means over the images, and seconds."""
    means = {name: finite_mean(values) for name, values in found.measured.items()}
    return means | {"seconds": found.seconds, "seconds_of_observables": found.compile_seconds}
