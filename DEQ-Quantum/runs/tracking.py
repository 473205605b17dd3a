"""Where a run's numbers go: metrics.csv always; TensorBoard and Weights & Biases where asked for.

One `log` call per event feeds all of them the same names. The CSV is flushed row by row and rewound on resume, so
that a run which was killed has each event once. A failing dashboard warns and is let go: training does not depend
on it. wandb is initialised once, and a resumed run goes on under its old id.
"""

import csv
import logging
from pathlib import Path

from training.settings import BaseSettings
from utils.files import atomic_write

PASS_METRICS = ("loss", "acc", "res", "res_rel", "solver_steps", "converged", "jac_loss", "spectral_radius")
COLUMNS = (
    "event", "train_step", "epoch", "mode", "lr", "grad_norm", "seconds_per_step", "peak_memory_mb",
    *(f"train_{m}" for m in PASS_METRICS if m != "spectral_radius"),
    *(f"val_{m}" for m in PASS_METRICS if m != "jac_loss"),
    *(f"best_val_{m}" for m in ("loss", "acc", "res", "res_rel")),
    *(f"test_{m}" for m in PASS_METRICS if m != "jac_loss"),
)  # fmt: skip

log = logging.getLogger("qdeq")


class CsvLog:
    """metrics.csv: one row per event, empty cells for what an event does not measure.

    Args:
        path: the file.
        resume_step: keep the rows up to this step of a run that goes on (its test is still to come); None starts
            anew.
        columns: names of all metrics that may come, after "event" and "train_step".
    """

    def __init__(self, path: Path, resume_step: int | None = None, columns: tuple[str, ...] = COLUMNS):
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
        id: to go on under the same run after a restart.
    """

    def __init__(self, run_dir: Path, settings: BaseSettings, run_id: str | None):
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
        # events of one step share a row of wandb's history, and a resumed run goes on at its step
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
        resume_step: last step that the run has behind it, None for a new run.
        wandb_id: the wandb run to go on with.
        columns: of the CSV.

    Attributes:
        wandb_id: the wandb run's, None without one.
    """

    def __init__(
        self,
        run_dir: Path,
        settings: BaseSettings,
        resume_step: int | None = None,
        wandb_id: str | None = None,
        columns: tuple[str, ...] = COLUMNS,
    ):
        self.csv = CsvLog(run_dir / "metrics.csv", resume_step, columns)
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
        except Exception as error:  # whatever goes wrong in a dashboard, training goes on without it
            log.warning("%s is not available, going on without it: %s", name, error)

    def _each(self, action) -> None:
        for name, dashboard in list(self._dashboards.items()):
            self._attempt(name, lambda: action(dashboard))

    def _attempt(self, name: str, action) -> None:
        try:
            action()
        except Exception as error:  # as above
            log.warning("%s failed, going on without it: %s", name, error)
            self._dashboards.pop(name, None)
