"""A run's metrics.csv: one row per event, flushed row by row, and rewound on resume to what the checkpoint knows.

A file that somebody has damaged, emptied or removed does not stop a run: what can be read of it stays, the best
validation comes from the checkpoint, and what is lost is said.
"""

import csv
import hashlib
import logging
import os
from pathlib import Path

from utils.csv_rows import read_rows
from utils.files import atomic_write

log = logging.getLogger("qdeq")


class CsvLog:
    """metrics.csv: one row per event, empty cells for what an event does not measure.

    Args:
        path: the file.
        columns: names of all metrics that may come, "event" and "train_step" among them.
        resume_step: keep the rows of a resumed run up to this step (its test is still to come); None starts anew.
        best: the row of a resumed run's best validation, as its checkpoint tells it; None before the first.
        seal: of a resumed run's rows, as its checkpoint tells it; empty: unknown.

    Attributes:
        kept: the rows of a resumed run, by column.
    """

    def __init__(
        self,
        path: Path,
        columns: tuple[str, ...],
        resume_step: int | None = None,
        best: dict | None = None,
        seal: str = "",
    ):
        kept = [] if resume_step is None else _kept(path, resume_step, best, seal)
        self.kept = [{name: row.get(name, "") for name in columns} for row in kept]
        with atomic_write(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.kept)
        self._file = path.open("a", newline="")
        self._writer = csv.DictWriter(self._file, columns)
        self._seal = _sealed(self.kept)

    @property
    def seal(self) -> str:
        """The SHA-256 of all rows so far, by which a resumed run knows whether they are as it wrote them."""
        return self._seal.hexdigest()

    def log(self, event: str, step: int, metrics: dict) -> None:
        row = {"event": event, "train_step": step, **metrics}
        self._writer.writerow(row)
        self._file.flush()
        self._seal.update(_cells(row))

    def close(self) -> None:
        self._file.close()


def _sealed(rows: list[dict]):
    seal = hashlib.sha256()
    for row in rows:
        seal.update(_cells(row))
    return seal


def _cells(row: dict) -> bytes:
    """The cells that are not empty, in an order that does not depend on the columns."""
    return repr(sorted((name, str(value)) for name, value in row.items() if value not in ("", None))).encode()


def _kept(path: Path, step: int, best: dict | None, seal: str) -> list[dict]:
    """The rows up to a step; says in the log what is missing among them."""
    try:
        rows, problem = read_rows(path, ("event", "train_step"))
        problem = problem or ("" if path.stat().st_size else f"{path} is empty")
    except FileNotFoundError:
        rows, problem = [], f"{path} is gone"
    rows = [row for row in rows if _until(row, step)]
    if seal and not problem and _sealed(rows).hexdigest() != seal:
        problem = f"{path} is not as this run has written it, somewhere it was damaged or changed"
    if problem and path.exists():
        aside = path.with_name(path.name + ".damaged")
        os.replace(path, aside)
        problem += f"; the file as it was is {aside.name} now"
    if best is not None and not any((row["event"], row["train_step"]) == ("val", str(best["train_step"])) for row in rows):
        problem = problem or f"{path} has lost rows"
        problem += f"; the best validation, of step {best['train_step']}, is there again"
        rows = sorted([*rows, best], key=lambda row: int(row["train_step"]))
    if problem:
        log.warning("%s; %d rows up to step %d are kept, others are lost", problem, len(rows), step)
    return rows


def _until(row: dict, step: int) -> bool:
    """Whether a row is of training or validation, and not after `step`."""
    return row["event"] in ("train", "val") and row["train_step"].isdigit() and int(row["train_step"]) <= step
