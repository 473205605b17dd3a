"""One training run: the algorithm of Scellier (arXiv 2406.00879) step by step, with validation and checkpoints.

Each step: free equilibrium, measure the outputs, nudge, measure again, and every parameter moves by what its own
observable answered. Everything random in a step is a function of (seed, step), so a run that was stopped goes on bit
for bit on the CPU. The counterpart of training.py.
"""

import logging
import time
from collections.abc import Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from qep.estimators import QEP, ExactResponse, GradientEstimator, Holomorphic
from qep.ground_states import GroundStateError
from qep.learning.evaluation import cosine, evaluate
from qep.learning.tasks import Task
from qep.measurement import Exact, Measurement, Shots
from qep.settings import QEPSettings
from qep.system import QuantumSystem
from runs import checkpoint
from runs.folder import RunFolder, beside_bar, peak_memory_mb
from runs.lifecycle import TrainingError
from runs.meter import Meter
from runs.optim import LearningRate
from runs.progress import bar_size
from runs.signals import Stopped, StopRequest
from runs.tracking import Tracker
from utils import seeds

MEASURES = ("cost", "acc", "gap", "gap_min", "degenerate")
COLUMNS = (
    "event", "train_step", "epoch", "lr", "grad_norm", "cosine", "skipped", "seconds_per_step", "seconds_per_sample",
    "peak_memory_mb", "train_cost", "train_acc", "train_gap", *(f"val_{m}" for m in MEASURES),
    "best_val_cost", "best_val_acc", *(f"test_{m}" for m in MEASURES),
)  # fmt: skip

log = logging.getLogger("qdeq")


def build_measurement(s: QEPSettings, system: QuantumSystem) -> Measurement:
    """How --shots, --shots_x and --averages have expectation values read off."""
    if not s.shots:
        return Exact()
    others = [basis for basis in system.bases if set(basis) & set("XY")] if s.shots_x else []
    return Shots(s.shots, dict.fromkeys(others, s.shots_x), s.averages)


def build_estimator(s: QEPSettings, system: QuantumSystem) -> GradientEstimator:
    """The estimator --estimator names."""
    if s.estimator == "exact":
        return ExactResponse(on_degenerate=s.on_degenerate)
    if s.estimator == "holomorphic":
        return Holomorphic(s.beta, on_degenerate=s.on_degenerate)
    return QEP(s.estimator, s.beta, build_measurement(s, system), s.on_degenerate)


class QEPTraining:
    """One run: its system, optimiser, counters, and the loop that moves them."""

    def __init__(self, folder: RunFolder, task: Task, device: torch.device):
        s = self.settings = folder.settings
        self.folder, self.task, self.device = folder, task, device
        self.system = task.system
        self.estimator = build_estimator(s, self.system)
        self.exact = ExactResponse(on_degenerate="skip")
        self.steps_per_epoch = -(-len(task.train) // s.batch_size)
        self.max_step = s.max_step or s.epochs * self.steps_per_epoch
        self.optimizer = getattr(torch.optim, s.optim)(self.system.parameters(), lr=s.lr)
        self.learning_rate = LearningRate(self.optimizer, s, self.max_step)
        self.step = 0
        self.best: dict[str, float] = {}
        self.first: dict[str, float] = {}  # validation of the initial parameters
        self.meter = Meter()
        self.seconds, self.samples_timed, self.steps_timed, self.skipped = 0.0, 0, 0, 0
        self.cosines: list[float] = []  # to the exact gradient, at the steps that --compare chose
        if folder.last is not None:
            self._resume(folder.last)

    # state

    def _resume(self, last: dict) -> None:
        checkpoint.load_weights(self.system, last["model"], self.folder.last_path)
        self.optimizer.load_state_dict(last["optimizer"])
        self.learning_rate.load_state_dict(last["learning_rate"])
        self.step, self.best, self.meter = last["step"], last["best"], Meter(last["meter"])
        self.seconds, self.samples_timed = last["seconds"], last["samples_timed"]
        self.steps_timed, self.skipped = last["steps_timed"], last["skipped"]
        self.cosines, self.first = last["cosines"], last["first"]

    def save_last(self) -> None:
        checkpoint.save(
            self.folder.last_path,
            {
                "settings": self.settings.to_dict(),
                "model": self.system.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "learning_rate": self.learning_rate.state_dict(),
                "step": self.step,
                "best": self.best,
                "first": self.first,
                "meter": self.meter.state(),
                "seconds": self.seconds,
                "samples_timed": self.samples_timed,
                "steps_timed": self.steps_timed,
                "skipped": self.skipped,
                "cosines": self.cosines,
                "wandb_id": self.tracker.wandb_id,
            },
        )

    def load_best(self) -> None:
        """Take back the parameters that validated best."""
        best = checkpoint.load(self.folder.best_path, self.device)
        checkpoint.load_weights(self.system, best["model"], self.folder.best_path)

    # one step

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches from the next step on, each epoch in its own order."""
        s, train = self.settings, self.task.train
        for chosen in seeds.batches(len(train), s.batch_size, s.seed, self.step, self.device):
            yield train.inputs[chosen], train.targets[chosen]

    def train_step(self, x: Tensor, targets: Tensor) -> None:
        """Take the next step on one batch.

        Raises:
            TrainingError: no ground state, or a degenerate one with --on_degenerate error.
        """
        step, task = self.step + 1, self.task
        began = time.perf_counter()
        try:
            shots = seeds.generator(self.settings.seed, "shots", step, self.device)
            estimate = self.estimator(self.system, x, targets, task.cost, shots)
        except GroundStateError as error:
            raise TrainingError(f"step {step}: {error}") from error
        self.seconds += time.perf_counter() - began
        self.samples_timed += len(x)
        self.steps_timed += 1
        if self.settings.compare and step % self.settings.compare == 0:
            similarity = cosine(estimate, self.exact(self.system, x, targets, task.cost))
            self.cosines.append(similarity.item())
            self.meter.add("cosine", similarity)
        self.skipped += estimate.skipped
        self.meter.add("skipped", torch.tensor(float(estimate.skipped)))
        self.learning_rate.apply(step)
        if estimate.skipped < len(x):
            self._update(estimate.gradients)
            self.meter.add("grad_norm", estimate.flat.norm())
            self.meter.add("cost", estimate.cost)
            self.meter.add("gap", estimate.gap)
            if task.correct is not None:
                self.meter.add("acc", task.correct(estimate.outputs, estimate.targets))
        self.step = step

    def _update(self, gradients: dict[str, Tensor]) -> None:
        for name, parameter in self.system.named_parameters():
            parameter.grad = gradients[name]
        self.optimizer.step()
        self.system.constrain()

    # the loop

    def start_tracking(self) -> None:
        """Open the CSV and the dashboards, new or where the last checkpoint left them."""
        last = self.folder.last
        resume = {} if last is None else {"resume_step": self.step, "wandb_id": last["wandb_id"]}
        self.tracker = Tracker(self.folder.path, self.settings, **resume, columns=COLUMNS)

    def run(self, stop: StopRequest) -> None:
        """Train to the end, validating and saving on the way.

        Raises:
            Stopped: a signal came; the run is saved.
            TrainingError: no ground state, or a degenerate one with --on_degenerate error.
        """
        s = self.settings
        log_interval, eval_interval = (n or self.steps_per_epoch for n in (s.log_interval, s.eval_interval))
        bar = tqdm(total=self.max_step, initial=self.step, unit="step", disable=None, **bar_size())
        with bar, beside_bar():
            if self.step == 0:
                self.validate()
            batches = self.batches()
            while self.step < self.max_step:
                self.train_step(*next(batches))
                bar.update()
                if self.step % 10 == 0:
                    bar.set_postfix(self._postfix(), refresh=False)
                last = self.step == self.max_step
                if self.step % log_interval == 0 or last:
                    self._log_training()
                if self.step % eval_interval == 0 or last:
                    self.validate()
                    self.save_last()
                if stop.signal is not None:
                    self.save_last()
                    raise Stopped(stop.signal)

    def _postfix(self) -> dict:
        means = self.meter.means()
        return {name: f"{means[name]:.3g}" for name in ("cost", "acc", "gap") if name in means}

    def log(self, event: str, metrics: dict) -> None:
        """Track metrics of the present step."""
        self.tracker.log(event, self.step, {"epoch": self.step / self.steps_per_epoch} | metrics)

    def _log_training(self) -> None:
        means = self.meter.means()
        metrics = {f"train_{name}": means[name] for name in ("cost", "acc", "gap") if name in means}
        metrics |= {name: means[name] for name in ("grad_norm", "cosine", "skipped") if name in means}
        metrics |= {
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds_per_step": self.seconds / self.steps_timed,
            "seconds_per_sample": self.seconds / self.samples_timed,
            "peak_memory_mb": peak_memory_mb(self.device),
        }
        self.log("train", metrics)
        self.meter = Meter()

    def validate(self) -> None:
        """Measure the validation samples; keep the parameters if none were better."""
        try:
            metrics = evaluate(self.task, self.task.val).metrics
        except GroundStateError as error:
            raise TrainingError(f"validation after step {self.step}: {error}") from error

        self.first = self.first or metrics

        def score(found: dict) -> tuple[float, float]:
            return found.get("acc", 0.0), -found["cost"]

        if not self.best or score(metrics) > score(self.best):
            self.best = {"step": self.step, **metrics}
            checkpoint.save(
                self.folder.best_path,
                {"settings": self.settings.to_dict(), "model": self.system.state_dict(), "best": self.best},
            )
        best = {f"best_val_{name}": self.best[name] for name in ("cost", "acc") if name in self.best}
        self.log("val", {f"val_{name}": value for name, value in metrics.items()} | best)
        accuracy = f"  acc {100 * metrics['acc']:.2f} %" if "acc" in metrics else ""
        log.info(
            "step %d/%d  epoch %.1f  val cost %.3g%s  gap %.3g, smallest %.2g",
            self.step, self.max_step, self.step / self.steps_per_epoch, metrics["cost"], accuracy, metrics["gap"],
            metrics["gap_min"],
        )  # fmt: skip
        if metrics["degenerate"]:
            log.warning("%.1f %% of the validation samples have a degenerate ground state", 100 * metrics["degenerate"])
