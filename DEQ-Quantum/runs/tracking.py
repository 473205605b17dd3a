"""Where a run's numbers go: metrics.csv always; TensorBoard and Weights & Biases where asked for.

One `log` call per event feeds all of them the same names; which names there are is the training's to say. The CSV is
flushed row by row and rewound on resume, so that a run which was killed has each event once. A dashboard that fails
is warned of and closed: training does not depend on it. wandb is initialised once, and a resumed run keeps its id.
"""

import csv
import logging
from pathlib import Path

from runs.settings import RunSettings
from utils.files import atomic_write

log = logging.getLogger("qdeq")


class CsvLog:
    """metrics.csv: one row per event, empty cells for what an event does not measure.

    Args:
        path: the file.
        columns: names of all metrics that may come, "event" and "train_step" among them.
        resume_step: keep the rows of a resumed run up to this step (its test is still to come); None starts anew.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], resume_step: int | None = None):
        kept = []
        if resume_step is not None and path.exists():
            with path.open(newline="") as file:
                kept = [row for row in csv.DictReader(file) if _until(row, resume_step)]
        kept = [{name: row.get(name, "") for name in columns} for row in kept]
        with atomic_write(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(kept)
        self._file = path.open("a", newline="")
        self._writer = csv.DictWriter(self._file, columns)

    def log(self, event: str, step: int, metrics: dict) -> None:
        self._writer.writerow({"event": event, "train_step": step, **metrics})
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _until(row: dict, step: int) -> bool:
    """Whether a row is whole (a kill can cut the last one), no test, and not after `step`."""
    whole = (row["train_step"] or "").isdigit() and None not in row.values()
    return whole and row["event"] != "test" and int(row["train_step"]) <= step


class TensorBoardLog:
    """TensorBoard events under <run>/tensorboard."""

    def __init__(self, run_dir: Path, resume_step: int | None):
        from torch.utils.tensorboard import SummaryWriter  # here: it takes a second, and only this class needs it

        purge = None if resume_step is None else resume_step + 1
        self._writer = SummaryWriter(run_dir / "tensorboard", purge_step=purge)

    def log(self, event: str, step: int, metrics: dict) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def figures(self, figures: dict, step: int) -> None:
        for name, figure in figures.items():
            self._writer.add_figure(name, figure, step, close=False)

    def close(self) -> None:
        self._writer.close()


class WandbLog:
    """A Weights & Biases run under <run>/wandb.

    Attributes:
        id: of the run, under which a restart resumes it.
    """

    def __init__(self, run_dir: Path, settings: RunSettings, run_id: str | None):
        import wandb  # here: it takes a second, and only this class needs it

        self._wandb = wandb
        self._run = wandb.init(
            project=settings.wandb_project,
            name=" ".join(filter(None, (settings.wandb_job_type, run_dir.name))),
            group=settings.wandb_group or None,
            job_type=settings.wandb_job_type or None,
            id=run_id,
            resume="allow",
            dir=run_dir,
            mode=settings.wandb,
            config=settings.without_paths(),
            tags=settings.tags,
            settings=wandb.Settings(silent=True),
        )
        self.id = self._run.id

    def log(self, event: str, step: int, metrics: dict) -> None:
        # events of one step share a row of wandb's history, and a resumed run continues at its step
        self._run.log({"train_step": step, **metrics}, step=step)

    def figures(self, figures: dict, step: int) -> None:
        self._run.log({name: self._wandb.Image(figure) for name, figure in figures.items()}, step=step)

    def summary(self, values: dict) -> None:
        self._run.summary.update(values)

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=1 if failed else 0)


class Tracker:
    """All the places a run is logged to.

    Args:
        run_dir: the run's folder.
        settings: which dashboards.
        columns: of the CSV.
        resume_step: steps that a resumed run has taken, None for a new run.
        wandb_id: the wandb run to resume.

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
    ):
        self.csv = CsvLog(run_dir / "metrics.csv", columns, resume_step)
        self._dashboards: dict[str, TensorBoardLog | WandbLog] = {}
        if settings.tensorboard:
            self._open("TensorBoard", lambda: TensorBoardLog(run_dir, resume_step))
        if settings.wandb != "disabled":
            self._open("wandb", lambda: WandbLog(run_dir, settings, wandb_id))
        # kept for the checkpoints even if wandb fails later
        self.wandb_id = self._dashboards["wandb"].id if "wandb" in self._dashboards else wandb_id

    def log(self, event: str, step: int, metrics: dict) -> None:
        """One event ("train", "val" or "test") with its metrics, all of them plain numbers that have a column."""
        self.csv.log(event, step, metrics)
        self._each(lambda dashboard: dashboard.log(event, step, metrics))

    def finish(self, step: int, results: dict, figures: dict) -> None:
        """The end of a run: its results as wandb's summary, and figures by name."""
        self._each(lambda dashboard: dashboard.figures(figures, step))
        if "wandb" in self._dashboards:
            self._attempt("wandb", lambda: self._dashboards["wandb"].summary(results))

    def close(self, failed: bool = False) -> None:
        self.csv.close()
        if "wandb" in self._dashboards:
            self._attempt("wandb", lambda: self._dashboards.pop("wandb").close(failed))
        self._each(lambda dashboard: dashboard.close())

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
