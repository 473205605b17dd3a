"""A trained model without a circuit, with its units read by counting: the control of what shots do to circuits."""

from argparse import Namespace
from dataclasses import replace

from dataset import Split
from deployment.counted_units import CountedUnits
from deployment.differences import finite_mean
from deployment.sampled import sampled
from deployment.shifts import jacobian, radius
from deployment.states import states, summary
from deployment.trained import TIGHT, Trained, named
from hardware.noise import NoiseError
from models.depth import Stack
from training.evaluation import BATCH


def refuse_noise_of_gates(trained: Trained, options: Namespace) -> None:
    """What such a model cannot have.

    Raises:
        NoiseError: one line with what it can.
    """
    if any(noise.channels for noise in options.noise) or options.encoding_noise or options.mitigate or not options.shots:
        raise NoiseError(
            f"{named(options)} is of --model {trained.settings.model}, which has no circuit: --noise none --shots N "
            "alone reads its units by counting"
        )


def evaluation_of_units(trained: Trained, split: Split, options: Namespace) -> dict:
    """As `evaluation` of a circuit, for every --noise the same."""
    model, depth = trained.model.to(split.features.device), trained.depth
    ideal = states(model, split, depth)
    exact = ideal if isinstance(depth, Stack) else states(model, split, replace(depth, forward=TIGHT))
    draws = [CountedUnits(model.layer, options.shots, options.seed + k) for k in range(options.repeat)]
    x = split.features[:BATCH]
    at = jacobian(model.layer.bind(x), ideal.r[:BATCH])
    counted = sampled(model, split, depth, draws, exact.r, ideal.measured["acc"])
    ideal = summary(ideal) | {"spectral_radius": finite_mean(radius(at))}
    rows = [{**noise.describe(), **ideal, "counted": counted} for noise in options.noise]
    return trained.describe(split) | {"ideal": ideal, "rows": rows}
