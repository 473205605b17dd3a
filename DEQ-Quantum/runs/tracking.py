"""Where a run's numbers go: metrics.csv always; TensorBoard and Weights & Biases where asked for.

One `log` call per event feeds all of them the same names; which names there are is the training's to say. All are
written row by row and rewound on resume, so that a run which was killed has each event once. A dashboard that fails
is warned of and closed: training does not depend on it. wandb is initialised once, and a resumed run keeps its id.
"""

import logging
from pathlib import Path

import numpy as np

from runs.metrics_csv import CsvLog
from runs.pictures import as_image
from runs.settings import RunSettings
from runs.wandb_log import WandbLog

log = logging.getLogger("qdeq")


class TensorBoardLog:
    """TensorBoard events under <run>/tensorboard."""

    online = False

    def __init__(self, run_dir: Path, resume_step: int | None):
        from torch.utils.tensorboard import SummaryWriter  # here: it takes a second, and only this class needs it

        purge = None if resume_step is None else resume_step + 1
        self._writer = SummaryWriter(run_dir / "tensorboard", purge_step=purge)

    def log(self, event: str, step: int, metrics: dict) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # else a kill takes two minutes of them

    def figures(self, figures: dict[str, Path], step: int) -> None:
        for name, file in figures.items():
            self._writer.add_image(name, np.asarray(as_image(file)), step, dataformats="HWC")

    def close(self, failed: bool) -> None:
        self._writer.close()


class Tracker:
    """All the places a run is logged to.

    Args:
        run_dir: the run's folder.
        settings: which dashboards.
        columns: of the CSV.
        resume_step: steps that a resumed run has taken, None for a new run.
        wandb_id: the wandb run to resume.
        best, seal: the row of a resumed run's best validation, and the seal of all, as in `CsvLog`.

    Attributes:
        wandb_id: the wandb run's, None without one.
    """

    def __init__(
        self,
        run_dir: Path,
        settings: RunSettings,
        columns: tuple[str, ...],
        resume_step: int | None = None,
        wandb_id: str | None = None,
        best: dict | None = None,
        seal: str = "",
    ):
        self.csv = CsvLog(run_dir / "metrics.csv", columns, resume_step, best, seal)
        self._dashboards: dict[str, TensorBoardLog | WandbLog] = {}
        if settings.tensorboard:
            self._open("TensorBoard", lambda: TensorBoardLog(run_dir, resume_step))
        if settings.wandb != "disabled":
            self._open("wandb", lambda: WandbLog(run_dir, settings, wandb_id, self.csv.kept))
        # kept for the checkpoints even if wandb fails later
        self.wandb_id = self._dashboards["wandb"].id if "wandb" in self._dashboards else wandb_id

    def log(self, event: str, step: int, metrics: dict) -> None:
        """One event ("train", "val" or "test") with its metrics, all of them plain numbers that have a column."""
        self.csv.log(event, step, metrics)
        self._each(lambda dashboard: dashboard.log(event, step, metrics))

    def finish(self, step: int, results: dict, figures: dict[str, Path]) -> None:
        """The end of a run: its results as wandb's summary, and pictures by name; nothing here waits for a network."""
        self._each(lambda dashboard: dashboard.figures(figures, step))
        if "wandb" in self._dashboards:
            self._attempt("wandb", lambda: self._dashboards["wandb"].summary(results))
        for name in [name for name, dashboard in self._dashboards.items() if not dashboard.online]:
            self._attempt(name, lambda name=name: self._dashboards.pop(name).close(failed=False))

    def close(self, failed: bool = False) -> None:
        """Close what is open. Waits for an upload, but for a minute at most."""
        self.csv.close()
        for name in list(self._dashboards):
            self._attempt(name, lambda name=name: self._dashboards.pop(name).close(failed))

    def _open(self, name: str, make) -> None:
        try:
            self._dashboards[name] = make()
        except Exception as error:  # whatever goes wrong in a dashboard, training continues without it
            log.warning("%s is not available, continuing without it: %s", name, error)

    def _each(self, action) -> None:
        for name, dashboard in list(self._dashboards.items()):
            self._attempt(name, lambda: action(dashboard))

    def _attempt(self, name: str, action) -> None:
        try:
            action()
        except Exception as error:  # as above
            log.warning("%s failed, continuing without it: %s", name, error)
            self._dashboards.pop(name, None)
