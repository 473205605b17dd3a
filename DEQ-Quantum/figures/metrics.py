"""A run's metrics.csv as numbers, for its pictures."""

import logging
from pathlib import Path

import numpy as np

from utils.csv_rows import read_rows

log = logging.getLogger("qdeq")


class Metrics:
    """The rows of a metrics.csv, column by column; the run may be under way.

    Args:
        path: the file that `runs.metrics_csv.CsvLog` writes; what of it cannot be read is said in the log.

    Raises:
        OSError: it cannot be read.
    """

    def __init__(self, path: Path | str):
        self._rows, problem = read_rows(Path(path))
        if problem:
            log.warning("%s", problem)

    def column(self, name: str) -> np.ndarray:
        """(n_rows,) numbers, NaN for what is not one."""
        return np.array([float(row.get(name) or "nan") for row in self._rows])

    def line(self, name: str, positive: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Epochs and values of a column, where both are finite numbers (and the value is positive)."""
        epoch, value = self.column("epoch"), self.column(name)
        kept = np.isfinite(epoch) & np.isfinite(value)
        if positive:
            kept &= value > 0
        return epoch[kept], value[kept]
