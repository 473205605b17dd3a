"""A run in Weights & Biases: its history, pictures and summary whole, whenever it was stopped and resumed.

The step of an event in wandb's history is a function of the event alone, so wandb's last one tells what it has. On
resume the others are logged again from metrics.csv, and none twice. The run's own step is the metric "train_step".
"""

import json
import logging
from pathlib import Path

from runs.pictures import as_image
from runs.settings import RunSettings
from runs.wandb_files import mend, parts

EVENTS = ("train", "val", "test", "figures")
UPLOAD_SECONDS = 45.0  # after which wandb takes 12 s more to give up a server that is lost

log = logging.getLogger("qdeq")


def place(event: str, step: int) -> int:
    """The step in wandb's history of an event: events of one step follow each other."""
    return len(EVENTS) * step + EVENTS.index(event)


class WandbLog:
    """A Weights & Biases run under <run>/wandb.

    Args:
        run_dir: the run's folder.
        settings: mode, project, group, job type, and the config that is shown.
        run_id: of the run to resume; None: a new one, or that which a run killed before its first checkpoint has left.
        kept: rows of metrics.csv that a resumed run keeps; those that wandb lacks are logged.

    Attributes:
        id: of the run, under which a restart resumes it.
        online: whether `close` waits for a server.
    """

    _open: set[str] = set()  # runs of this process that wandb still serves

    def __init__(self, run_dir: Path, settings: RunSettings, run_id: str | None, kept: list[dict]):
        import wandb  # here: it takes a second, and only this class needs it

        self._wandb, self.online = wandb, settings.wandb == "online"
        before = parts(run_dir, run_id, settings.wandb)
        if run_id is None and before:
            run_id = before[-1].stem.removeprefix("run-")
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
            settings=wandb.Settings(
                silent=True, finish_timeout=UPLOAD_SECONDS, finish_timeout_raises=True,
                reinit="create_new" if self._open else "default",  # else wandb takes it for the one that is open
            ),  # fmt: skip
        )
        self.id = self._run.id
        self._open.add(self.id)
        self._run.define_metric("*", step_metric="train_step")
        self._last = self._last_of_server() if self.online else max(map(_last_of_file, before), default=-1)
        if self.online:
            log.info("wandb: %s", self._run.url)
        for row in kept:
            numbers = {name: _number(cell) for name, cell in row.items() if cell and name not in ("event", "train_step")}
            self.log(row["event"], int(row["train_step"]), numbers)

    def _last_of_server(self) -> int:
        summary = self._run.summary
        return _last_place(self._run.starting_step - 1, summary.get("train_step"))

    def log(self, event: str, step: int, metrics: dict) -> None:
        if place(event, step) > self._last:
            self._run.log({"train_step": step, **metrics}, step=place(event, step))

    def figures(self, figures: dict[str, Path], step: int) -> None:
        self.log("figures", step, {name: self._wandb.Image(as_image(file)) for name, file in figures.items()})

    def summary(self, values: dict) -> None:
        self._run.summary.update(values)

    def close(self, failed: bool) -> None:
        """Wait until everything is written or uploaded; says how to send what a lost server has not taken."""
        folder = Path(self._run.dir).parent
        try:
            self._open.discard(self.id)
            self._run.finish(exit_code=1 if failed else 0)
            if not self.online and not self._open:
                self._wandb.teardown()  # its process ends, and only then is the file whole
        except (TimeoutError, KeyboardInterrupt):
            if not self.online:
                raise
            log.warning("wandb has not received everything; send the rest with: wandb sync --include-online %s", folder)


def _last_of_file(path: Path) -> int:
    """The last step of the history in one part of a run; -1 for an empty one."""
    from wandb.proto.wandb_internal_pb2 import Record  # here: as wandb itself

    last = -1
    for content in mend(path):
        record = Record.FromString(content)
        if record.WhichOneof("record_type") == "history":
            steps = [json.loads(item.value_json) for item in record.history.item if item.key == "train_step"]
            last = _last_place(record.history.step.num, *steps)
    return last


def _last_place(last: int, train_step: int | None = None) -> int:
    """What `place` gave to the last event, of which wandb says its step and ours.

    Runs of older versions have them equal: training and validation of a step were one event.
    """
    return place("val", last) if last == train_step and last > 0 else last


def _number(cell: str) -> int | float:
    return int(cell) if cell.isdigit() else float(cell)
