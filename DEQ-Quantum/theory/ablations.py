"""What a short training makes of other solver caps, other starts of the parameters, and other Jacobian weights.

Four classes on 4 qubits with amplitude encoding, a few epochs, several seeds; one thing is changed at a time. Accuracy
is that of the test images with the trained solver cap; the spectral radius is taken where the solver stops.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import torch

from dataset import Splits
from theory.subjects import train_for
from training.evaluation import depth_of, evaluate
from training.settings import Settings
from utils.statistics import mean_and_spread

CAPS = (1, 2, 3, 5, 10, 20)
SCALES = {"uniform ±π": math.pi, "uniform ±π/4": math.pi / 4, "uniform ±0.1": 0.1, "all zero": 0.0}
WEIGHTS = (0.0, 0.1, 0.5, 0.8, 2.0)
MEASURES = ("acc", "loss", "res_rel", "solver_steps", "spectral_radius", "ms_per_step")


@dataclass(frozen=True)
class Variant:
    """One change of the settings: which ablation it belongs to, what it is called, and what it changes.

    Attributes:
        scale: parameters start uniform in +-scale; None leaves them as they are drawn.
    """

    ablation: str
    label: str
    changes: dict = field(default_factory=dict)
    scale: float | None = None


def variants() -> list[Variant]:
    """All that are compared."""
    return [
        *(
            # the backward cap stays; no random shortening, so that a cap of 1 is one
            Variant("solver cap", str(cap), {"f_thres": cap, "rand_f_thres_delta": 0})
            for cap in CAPS
        ),
        *(Variant("start of the parameters", label, scale=scale) for label, scale in SCALES.items()),
        *(
            Variant("Jacobian weight", f"{weight:g}", {"jac_loss_weight": weight, "jac_loss_freq": float(weight > 0)})
            for weight in WEIGHTS
        ),
    ]


def measure(variant: Variant, settings: Settings, splits: dict[int, Splits], epochs: int, seeds: Sequence[int]) -> dict:
    """Train a variant with every seed.

    Args:
        variant: what is changed.
        settings: what all variants share.
        splits: the data of each seed, since the seed draws the split.
        epochs: passes over the training images.
        seeds: of parameters, split and batches.

    Returns:
        Mean and standard deviation of each measure over the seeds.
    """
    values = {name: [] for name in MEASURES}
    for seed in seeds:
        s = replace(settings, seed=seed, **variant.changes)
        n_steps = epochs * -(-len(splits[seed].train) // s.batch_size)
        began = time.process_time()  # of this process alone: others may share the core
        model = train_for(s, splits[seed], n_steps, lambda model: rescale(model, variant.scale)).model
        values["ms_per_step"].append(1e3 * (time.process_time() - began) / n_steps)
        metrics = evaluate(model, splits[seed].test, depth_of(s), spectral_radius_seed=seed).metrics
        for name in MEASURES[:-1]:
            values[name].append(metrics[name])
    return {
        "ablation": variant.ablation,
        "label": variant.label,
        "epochs": epochs,
        "seeds": list(seeds),
        **{name: asdict(mean_and_spread(found)) for name, found in values.items()},
    }


@torch.no_grad()
def rescale(model, scale: float | None) -> None:
    """Shrink circuit parameters drawn from [-pi, pi) to [-scale, scale)."""
    if scale is not None:
        model.layer.theta.mul_(scale / math.pi)
