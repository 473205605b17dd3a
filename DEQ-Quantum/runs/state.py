"""The state of a run, whatever is trained: parameters, optimiser and counters, saved, resumed and logged in one place.

A training loop holds one and adds what is its own; it is no base class.
"""

import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from runs import checkpoint
from runs.folder import RunFolder
from runs.log import progress_bar
from runs.machine import peak_memory_mb
from runs.meter import Meter
from runs.optim import LearningRate
from runs.ranks import ALONE, Ranks
from runs.resume import changes, find_best, restore
from runs.tracking import Tracker
from utils.files import sealed, write_json


class TrainingState:
    """A run at its first step, or where its last checkpoint left it.

    Args:
        folder: of the run; its settings have the fields of `RunSettings` and `OptimisationSettings`.
        model: what is trained, on its device, with its initial parameters.
        optimizer: of the model's parameters.
        device: where the run is computed.
        n_samples: of the training set.
        start: steps that count as taken before a new run's first one.
        ranks: those of the run; the first one alone writes, logs and shows.

    Attributes:
        steps_per_epoch, max_step: optimiser steps of an epoch and of the whole run.
        learning_rate: the schedule.
        step: optimiser steps taken.
        best: metrics of the best validation so far and its "step"; empty before the first.
        best_model: the parameters of that step.
        best_is_kept: whether checkpoint_best.pt holds them.
        remarks: lines for results.json, where the run's numbers are not those of one run in one piece.
        meter: means since the last entry of the training log.
        seconds, steps_timed: time spent in training steps, and in how many.
        entry: means of the last entry of the training log.
        skipped: what was left out of the updates, in the unit that the loop counts.
        tracker: from `start_tracking` on.
    """

    tracker: Tracker

    def __init__(
        self,
        folder: RunFolder,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        n_samples: int,
        start: int = 0,
        ranks: Ranks = ALONE,
    ):
        s = folder.settings
        self.folder, self.model, self.optimizer, self.device = folder, model, optimizer, device
        self.ranks = ranks
        self.steps_per_epoch = -(-n_samples // s.batch_size)
        self.max_step = self._length(s.max_step, s.epochs)
        self.learning_rate = LearningRate(optimizer, s, self.max_step)
        self.step = start
        self.best: dict[str, float] = {}
        self.best_model: dict[str, Tensor] | None = None
        self.remarks: list[str] = []
        self.best_is_kept = True
        self.meter = Meter()
        self.entry: dict[str, float] = {}
        self.seconds, self.steps_timed, self.skipped = 0.0, 0, 0
        if folder.last is not None:
            self._resume(folder.last)

    def _resume(self, last: dict) -> None:
        restore(self.model, self.optimizer, last, self.folder)
        self.learning_rate.load_state_dict(last["learning_rate"])
        self.step, self.best, self.meter = last["step"], last["best"], Meter(last["meter"])
        self.entry = last.get("entry", {})  # older checkpoints have none
        self.seconds, self.steps_timed, self.skipped = last["seconds"], last["steps_timed"], last["skipped"]
        self.remarks = list(last.get("remarks", []))
        if self.best:
            self._resume_best(last)
        for change in changes(last, self.device, self.learning_rate, self._length(**last["settings"])):
            self._remark(change)

    def _resume_best(self, last: dict) -> None:
        found = self.ranks.from_first(lambda: find_best(last, self.folder))
        self.best_model, self.best_is_kept = found.model, found.is_kept
        if found.model is None:
            to_come = self.step < self.max_step
            then = "the best validation is counted anew" if to_come else "the test takes those of the last step"
            self._remark(f"{found.damage}: the best parameters, of step {self.best['step']}, are lost, and {then}")
            self.best, self.best_model = ({}, None) if to_come else ({"step": self.step}, self._parameters())
        elif found.damage:
            self.folder.notes.append(f"{found.damage}: it is written anew from {self.folder.last_path.name}")

    def _length(self, max_step: int, epochs: int, **_) -> int:
        return max_step or epochs * self.steps_per_epoch

    def _remark(self, text: str) -> None:
        self.remarks.append(f"after step {self.step}: {text}")
        self.folder.notes.append(self.remarks[-1])

    def _parameters(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    # counting

    @property
    def epoch(self) -> float:
        """Passes over the training set that the steps taken make."""
        return self.step / self.steps_per_epoch

    @property
    def finished(self) -> bool:
        """Whether all steps are taken and their results are written, whole."""
        results = self.folder.results() or {}
        return self.step >= self.max_step and results.get("steps") == self.step

    def due(self, interval: int) -> bool:
        """Whether it is time for what comes every `interval` steps (0: once an epoch) and after the last one."""
        return self.step % (interval or self.steps_per_epoch) == 0 or self.step == self.max_step

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the block as the time of one training step."""
        began = time.perf_counter()
        yield
        self.count(time.perf_counter() - began)

    def count(self, seconds: float) -> None:
        """Count the time of one training step; with it the results of fewer steps are gone."""
        if self.ranks.is_first:
            self.folder.results_path.unlink(missing_ok=True)
        self.seconds += seconds
        self.steps_timed += 1

    # checkpoints

    def save_last(self, **more: object) -> None:
        """Write the checkpoint to resume from, with the loop's own entries; the one before it is kept."""
        if not self.ranks.is_first:
            return
        checkpoint.save(
            self.folder.last_path,
            {
                "settings": self.folder.settings.to_dict(),
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "learning_rate": self.learning_rate.state_dict(),
                "step": self.step,
                "best": self.best,
                "best_model": self.best_model if self.best else None,
                "meter": self.meter.state(),
                "entry": self.entry,
                "seconds": self.seconds,
                "steps_timed": self.steps_timed,
                "skipped": self.skipped,
                "wandb_id": self.tracker.wandb_id,
                "metrics_sha256": self.tracker.csv.seal,
                "device": self.device.type,
                "remarks": self.remarks,
                **more,
            },
            self.folder.previous_path,
        )

    def save_best(self, metrics: dict[str, float]) -> None:
        """Keep the present parameters as the best, with their validation metrics."""
        self.best, self.best_model, self.best_is_kept = {"step": self.step, **metrics}, self._parameters(), False
        self.write_best()

    def write_best(self) -> None:
        """Write checkpoint_best.pt, if it does not hold the best parameters."""
        if self.ranks.is_first and self.best and not self.best_is_kept:
            settings = self.folder.settings.to_dict()
            checkpoint.save(
                self.folder.best_path, {"settings": settings, "model": self.best_model, "best": self.best}
            )
        self.best_is_kept = True

    def load_best(self) -> dict[str, float]:
        """Load the parameters that validated best.

        Returns:
            Their validation metrics and "step".
        """
        self.model.load_state_dict(self.best_model)
        return self.best

    # what is shown and logged

    @contextmanager
    def progress_bar(self, labels: dict[str, str]) -> Iterator[Callable[[], None]]:
        """A progress bar over the steps; log lines in the block do not tear it.

        Args:
            labels: what is shown beside it, the meter's names with their labels.

        Yields:
            What moves the bar, called after every step.
        """

        def advance() -> None:
            bar.update()
            if self.step % 10 == 0:
                means = self.meter.means()
                shown = {label: f"{means[name]:.3g}" for name, label in labels.items() if name in means}
                bar.set_postfix(shown, refresh=False)

        if not self.ranks.is_first:
            yield lambda: None
            return
        with progress_bar(self.step, self.max_step) as bar:
            yield advance

    def start_tracking(self, columns: tuple[str, ...]) -> None:
        """Open the CSV and the dashboards, new or where the last checkpoint left them."""
        last, folder = self.folder.last, self.folder
        resume = {}
        if last is not None:
            resume = {"resume_step": self.step, "wandb_id": last["wandb_id"], "best": self._best_row(),
                      "seal": last.get("metrics_sha256", "")}  # fmt: skip
        self.tracker = Tracker(folder.path, folder.settings, columns, **resume)

    def _best_row(self) -> dict | None:
        """The row of metrics.csv of the best validation so far."""
        if not self.best:
            return None
        step, measured = self.best["step"], {name: value for name, value in self.best.items() if name != "step"}
        values = {f"{event}_{name}": value for event in ("val", "best_val") for name, value in measured.items()}
        return {"event": "val", "train_step": step, "epoch": step / self.steps_per_epoch, **values}

    def log(self, event: str, metrics: dict) -> None:
        """Track metrics of the present step."""
        if not self.ranks.is_first:
            return
        self.tracker.log(event, self.step, {"epoch": self.epoch, **metrics})

    def finish(self, results: dict, figures: dict[str, Path], not_in_summary: Container[str]) -> None:
        """Give results and pictures to the trackers, and write results.json.

        After it only a dashboard that is online may wait, for its upload.

        Args:
            results: what results.json holds.
            figures: the pictures' .png files by name.
            not_in_summary: results that the dashboards' summary does without.
        """
        shown = {name: value for name, value in results.items() if name not in not_in_summary}
        self.tracker.finish(self.step, shown, figures)
        write_json(self.folder.results_path, sealed(results))

    def training_entry(self) -> tuple[dict[str, float], dict[str, float]]:
        """What is logged of the steps since the last entry, which is then forgotten.

        Returns:
            The meter's means by name; learning rate, seconds per step and peak memory.
        """
        self.entry, self.meter = self.meter.means(), Meter()
        return dict(self.entry), {
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds_per_step": self.seconds / self.steps_timed,
            "peak_memory_mb": peak_memory_mb(self.device),
        }
