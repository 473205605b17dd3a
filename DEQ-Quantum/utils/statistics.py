"""Mean and spread over repeated runs, as numbers and as text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

NOT_FINITE = "not finite"


@dataclass(frozen=True)
class Spread:
    """What several runs measured of one quantity.

    Attributes:
        mean: None where a run has no finite value.
        std: sample standard deviation (n - 1); None there too, and for a single run.
    """

    mean: float | None
    std: float | None

    def text(self, form: str, scale: float = 1.0) -> str:
        """ "mean ± std", or the mean alone.

        Args:
            form: how each number is formatted, as ".2f".
            scale: multiplies both, as 100 for %.
        """
        if self.mean is None:
            return NOT_FINITE
        text = format(scale * self.mean, form)
        return text if self.std is None else f"{text} ± {format(scale * self.std, form)}"


def mean_and_spread(values: Sequence[float | None]) -> Spread:
    """Mean and sample standard deviation.

    Args:
        values: at least one; with one that is not finite, for which results.json has None, both are None.
    """
    if not all(value is not None and math.isfinite(value) for value in values):
        return Spread(None, None)
    return Spread(mean(values), stdev(values) if len(values) > 1 else None)
