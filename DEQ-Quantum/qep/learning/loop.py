"""One training run: the algorithm of Scellier (arXiv 2406.00879) step by step, with validation and checkpoints.

Each step: free equilibrium, measure the outputs, nudge, measure again, and every parameter moves by what its own
observable responded. Everything random in a step is a function of (seed, step), so a run that was stopped resumes bit
for bit on the CPU. The counterpart of training/loop.py.
"""

import logging
from collections.abc import Iterator

import torch
from torch import Tensor

from qep.estimators import QEP, ExactResponse, GradientEstimator, Holomorphic
from qep.ground_states import GroundStateError
from qep.learning.evaluation import cosine, evaluate
from qep.learning.tasks import Task
from qep.measurement import Exact, Measurement, Shots
from qep.settings import QEPSettings
from qep.system import QuantumSystem
from runs import checkpoint
from runs.folder import RunFolder
from runs.lifecycle import TrainingError
from runs.optim import make_optimizer
from runs.signals import Stopped, StopRequest
from runs.state import TrainingState
from utils import seeds

MEASURES = ("cost", "acc", "gap", "gap_min", "degenerate")
COLUMNS = (
    "event", "train_step", "epoch", "lr", "grad_norm", "cosine", "skipped", "seconds_per_step", "seconds_per_sample",
    "peak_memory_mb", "train_cost", "train_acc", "train_gap", *(f"val_{m}" for m in MEASURES),
    "best_val_cost", "best_val_acc", *(f"test_{m}" for m in MEASURES),
)  # fmt: skip

IN_CHECKPOINT = {
    "best": lambda best: not best or "cost" in best,
    "first": lambda first: checkpoint.is_numbers(first) and (not first or "cost" in first),
    "samples_timed": checkpoint.is_count,
    "cosines": lambda cosines: isinstance(cosines, list) and all(type(value) is float for value in cosines),
}

log = logging.getLogger("qdeq")


def build_measurement(s: QEPSettings, system: QuantumSystem) -> Measurement:
    """How --shots, --shots_x and --averages have expectation values measured."""
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
    """One run: its task, its state, and the loop that moves it."""

    def __init__(self, folder: RunFolder, task: Task, device: torch.device):
        s = self.settings = folder.settings
        self.task, self.system, self.device = task, task.system, device
        self.estimator = build_estimator(s, self.system)
        self.exact = ExactResponse(on_degenerate="skip")
        self.state = TrainingState(
            folder, self.system, make_optimizer(self.system, s), device, n_samples=len(task.train)
        )
        last = folder.last or {}
        checkpoint.check(last, IN_CHECKPOINT, folder.last_path)
        self.first: dict[str, float] = last.get("first", {})  # validation of the initial parameters
        self.samples_timed: int = last.get("samples_timed", 0)
        self.cosines: list[float] = last.get("cosines", [])  # to the exact gradient, at the steps that --compare chose

    def save_last(self) -> None:
        self.state.save_last(first=self.first, samples_timed=self.samples_timed, cosines=self.cosines)

    # one step

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches from the next step on, each epoch in its own order."""
        s, train = self.settings, self.task.train
        for chosen in seeds.batches(len(train), s.batch_size, s.seed, self.state.step, self.device):
            yield train.inputs[chosen], train.targets[chosen]

    def train_step(self, x: Tensor, targets: Tensor) -> None:
        """Take the next step on one batch.

        Raises:
            TrainingError: no ground state, or a degenerate one with --on_degenerate error.
        """
        state, step, task = self.state, self.state.step + 1, self.task
        try:
            with state.timed():
                shots = seeds.generator(self.settings.seed, "shots", step, self.device)
                estimate = self.estimator(self.system, x, targets, task.cost, shots)
        except GroundStateError as error:
            raise TrainingError(f"step {step}: {error}") from error
        self.samples_timed += len(x)
        if self.settings.compare and step % self.settings.compare == 0:
            similarity = cosine(estimate, self.exact(self.system, x, targets, task.cost))
            self.cosines.append(similarity.item())
            state.meter.add("cosine", similarity)
        state.skipped += estimate.skipped
        state.meter.add("skipped", torch.tensor(float(estimate.skipped)))
        state.learning_rate.apply(step)
        if estimate.skipped < len(x):
            self._update(estimate.gradients)
            state.meter.add("grad_norm", estimate.flat.norm())
            state.meter.add("cost", estimate.cost)
            state.meter.add("gap", estimate.gap)
            if task.correct is not None:
                state.meter.add("acc", task.correct(estimate.outputs, estimate.targets))
        state.step = step

    def _update(self, gradients: dict[str, Tensor]) -> None:
        for name, parameter in self.system.named_parameters():
            parameter.grad = gradients[name]
        self.state.optimizer.step()
        self.system.constrain()

    # the loop

    def run(self, stop: StopRequest) -> None:
        """Train to the end, validating and saving on the way.

        Raises:
            Stopped: a signal came; the run is saved.
            TrainingError: no ground state, or a degenerate one with --on_degenerate error.
        """
        s, state = self.settings, self.state
        batches = self.batches()
        with state.progress_bar({"cost": "cost", "acc": "acc", "gap": "gap"}) as advance_bar:
            if state.step == 0:
                self.validate()
            while state.step < state.max_step:
                self.train_step(*next(batches))
                advance_bar()
                if state.due(s.log_interval):
                    self._log_training()
                if state.due(s.eval_interval):
                    self.validate()
                    self.save_last()
                if stop.signal is not None:
                    self.save_last()
                    raise Stopped(stop.signal)

    def _log_training(self) -> None:
        means, others = self.state.training_entry()
        others["seconds_per_sample"] = self.state.seconds / self.samples_timed
        metrics = {f"train_{name}": means[name] for name in ("cost", "acc", "gap") if name in means}
        metrics |= {name: means[name] for name in ("grad_norm", "cosine", "skipped") if name in means}
        self.state.log("train", metrics | others)

    def validate(self) -> None:
        """Measure the validation samples; keep the parameters if none were better."""
        state = self.state
        try:
            metrics = evaluate(self.task, self.task.val).metrics
        except GroundStateError as error:
            raise TrainingError(f"validation after step {state.step}: {error}") from error

        self.first = self.first or metrics

        def score(found: dict) -> tuple[float, float]:
            return found.get("acc", 0.0), -found["cost"]

        if not state.best or score(metrics) > score(state.best):
            state.save_best(metrics)
        best = {f"best_val_{name}": state.best[name] for name in ("cost", "acc") if name in state.best}
        state.log("val", {f"val_{name}": value for name, value in metrics.items()} | best)
        accuracy = f"  acc {100 * metrics['acc']:.2f} %" if "acc" in metrics else ""
        log.info(
            "step %d/%d  epoch %.1f  val cost %.3g%s  gap %.3g, smallest %.2g",
            state.step, state.max_step, state.epoch, metrics["cost"], accuracy, metrics["gap"], metrics["gap_min"],
        )  # fmt: skip
        if metrics["degenerate"]:
            log.warning("%.1f %% of the validation samples have a degenerate ground state", 100 * metrics["degenerate"])
