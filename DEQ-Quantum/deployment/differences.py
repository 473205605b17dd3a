"""Comparisons of two evaluations on the same images."""

from statistics import NormalDist

from torch import Tensor

CERTAINTY = NormalDist().inv_cdf(0.975)  # of intervals: 95 %


def drop(before: Tensor, after: Tensor) -> dict:
    """Points of accuracy lost, with the interval of paired differences at 95 %.

    Args:
        before, after: (N,) 1 for the same images that are classified rightly, or shares of several draws.
    """
    differences = 100 * (before - after)
    mean = finite_mean(differences)
    if len(differences) < 2:
        return {"drop": mean, "drop_interval": None}
    half = CERTAINTY * float(differences.std(correction=1)) / len(differences) ** 0.5
    return {"drop": mean, "drop_interval": [mean - half, mean + half]}


def finite_mean(values: Tensor) -> float:
    """Over those that are finite, as images without a state are not."""
    return float(values[values.isfinite()].double().mean())
