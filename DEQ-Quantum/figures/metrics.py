"""A run's metrics.csv as numbers, for its pictures."""

import csv
import math
from pathlib import Path

import numpy as np


class Metrics:
    """The rows of a metrics.csv, column by column; the run may be under way.

    Args:
        path: the file that `runs.tracking.CsvLog` writes.

    Raises:
        OSError: it cannot be read.
    """

    def __init__(self, path: Path | str):
        with Path(path).open(newline="") as file:
            self._rows = list(csv.DictReader(file))

    def column(self, name: str) -> np.ndarray:
        """(n_rows,) numbers, NaN for what is not one."""
        return np.array([_number(row.get(name)) for row in self._rows])

    def line(self, name: str, positive: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Epochs and values of a column, where both are finite numbers (and the value is positive)."""
        epoch, value = self.column("epoch"), self.column(name)
        kept = np.isfinite(epoch) & np.isfinite(value)
        if positive:
            kept &= value > 0
        return epoch[kept], value[kept]


def _number(cell: str | None) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return math.nan
