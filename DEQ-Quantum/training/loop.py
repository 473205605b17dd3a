"""One training run: its state, one optimiser step, the loop with validation and checkpoints.

Section 3.3 of Schleich et al. (arXiv 2410.23940): a batch, its logits at the equilibrium (or after L layers),
cross-entropy plus, on some steps, the Jacobian loss, clip, update. Everything random in a step is a function of
(seed, step), so a run that was stopped goes on bit for bit on the CPU. Knows nothing of command lines.
"""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from dataset import Split, Splits
from models.depth import Equilibrium
from models.table import build_model
from runs import checkpoint
from runs.folder import RunFolder, beside_bar, peak_memory_mb
from runs.lifecycle import TrainingError
from runs.meter import Meter
from runs.optim import LearningRate, make_optimizer
from runs.progress import bar_size
from runs.signals import Stopped, StopRequest
from runs.tracking import Tracker
from training.evaluation import Evaluation, depth_of, evaluate
from training.settings import SettingsError
from utils import seeds

JAC_INCREMENT, JAC_WEIGHT_LIMIT = 0.1, 2.0
MOST_SKIPPED_STEPS = 100
METERS = ("loss", "acc", "res", "res_rel", "solver_steps", "converged")

log = logging.getLogger("qdeq")


class Training:
    """One run: its model, optimiser, counters, and the loop that moves them."""

    def __init__(self, folder: RunFolder, splits: Splits, device: torch.device):
        s = self.settings = folder.settings
        self.folder, self.splits, self.device = folder, splits, device
        seeds.seed_everything(s.seed)
        self.model = build_model(s).to(device)
        self.steps_per_epoch = -(-len(splits.train.labels) // s.batch_size)
        self.max_step = s.max_step or s.epochs * self.steps_per_epoch
        self.optimizer = make_optimizer(self.model, s)
        self.learning_rate = LearningRate(self.optimizer, s, self.max_step)
        self.step = s.start_train_steps
        self.best: dict[str, float] = {}
        self.meter = Meter()
        self.seconds, self.steps_timed, self.skipped = 0.0, 0, 0
        if folder.last is not None:
            self._resume(folder.last)
        elif s.load:
            self._load_parameters(Path(s.load))
        if self.step >= self.max_step and folder.last is None:
            raise SettingsError(f"--start_train_steps {self.step} leaves no step of the run's {self.max_step}")
        if s.pretrain_steps >= self.max_step:
            raise SettingsError(f"--pretrain_steps {s.pretrain_steps} fills the run's {self.max_step} steps")

    # state

    def _resume(self, last: dict) -> None:
        checkpoint.load_weights(self.model, last["model"], self.folder.last_path)
        self.optimizer.load_state_dict(last["optimizer"])
        self.learning_rate.load_state_dict(last["learning_rate"])
        self.step, self.best, self.meter = last["step"], last["best"], Meter(last["meter"])
        self.seconds, self.steps_timed, self.skipped = last["seconds"], last["steps_timed"], last["skipped"]

    def _load_parameters(self, path: Path) -> None:
        path = path / "checkpoint_best.pt" if path.is_dir() else path
        remedy = "use the --model, --n_wires, --num_classes and --trainable_gates it was trained with"
        checkpoint.load_weights(self.model, checkpoint.load(path, self.device, needs=("model",))["model"], path, remedy)

    def save_last(self) -> None:
        checkpoint.save(
            self.folder.last_path,
            {
                "settings": self.settings.to_dict(),
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "learning_rate": self.learning_rate.state_dict(),
                "step": self.step,
                "best": self.best,
                "meter": self.meter.state(),
                "seconds": self.seconds,
                "steps_timed": self.steps_timed,
                "skipped": self.skipped,
                "wandb_id": self.tracker.wandb_id,
            },
        )

    def _save_best(self, metrics: dict) -> None:
        self.best = {"step": self.step, **metrics}
        checkpoint.save(
            self.folder.best_path,
            {"settings": self.settings.to_dict(), "model": self.model.state_dict(), "best": self.best},
        )

    # one step

    def warming_up(self, step: int) -> bool:
        """Whether the step-th step, counted from 1, goes through explicit layers to warm up."""
        return step <= self.settings.pretrain_steps

    def mode(self, step: int) -> int:
        """0: explicit layers, 1: equilibrium."""
        return int(self.settings.mode == "implicit" and not self.warming_up(step))

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches from the next step on, each epoch in its own order."""
        s, train = self.settings, self.splits.train
        for chosen in seeds.batches(len(train.labels), s.batch_size, s.seed, self.step, self.device):
            yield train.features[chosen], train.labels[chosen]

    def jac_weight(self, step: int) -> float:
        """Weight of the Jacobian loss at the step-th step, counted from 1: raised after every jac_incremental steps."""
        s = self.settings
        if not s.jac_incremental:
            return s.jac_loss_weight
        raised = s.jac_loss_weight + JAC_INCREMENT * ((step - 1) // s.jac_incremental)
        return max(s.jac_loss_weight, min(raised, JAC_WEIGHT_LIMIT))

    def train_step(self, x: Tensor, y: Tensor) -> None:
        """Take the next step on one batch: x (B, D), y (B,)."""
        s, step = self.settings, self.step + 1
        draws = seeds.generator(s.seed, "draws", step)
        fewer_steps = int(torch.randint(s.rand_f_thres_delta + 1, (), generator=draws))
        with_jac_loss = float(torch.rand((), generator=draws)) < s.jac_loss_freq
        depth = depth_of(s, self.warming_up(step), fewer_steps)
        jac_weight = self.jac_weight(step) if with_jac_loss and isinstance(depth, Equilibrium) else 0.0
        generator = seeds.generator(s.seed, "step", step, self.device)

        self.learning_rate.apply(step)
        self.optimizer.zero_grad()
        jac_loss = 0.0
        for x_part, y_part in zip(x.chunk(s.batch_chunk), y.chunk(s.batch_chunk)):
            p = self.model(x_part, depth, with_jac_loss=jac_weight > 0, generator=generator)
            losses = cross_entropy(p.logits, y_part, reduction="none")
            share = len(y_part) / len(y)
            (losses.sum() / len(y) + jac_weight * share * p.jac_loss).backward()
            values = [losses, p.logits.argmax(-1) == y_part, p.res, p.res_rel]
            if p.solver is not None:
                values += [p.solver.steps, p.solver.converged]
            for name, value in zip(METERS, values):
                self.meter.add(name, value)
            jac_loss = jac_loss + share * p.jac_loss.detach()
        if jac_weight > 0:
            self.meter.add("jac_loss", jac_loss)
        limit = s.clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self.meter.add("grad_norm", norm)
        # the one value that a GPU is waited for at every step: such a gradient must not enter the optimiser's state
        if torch.isfinite(norm):
            self.optimizer.step()
        else:
            self._skip(step)
        self.step = step

    def _skip(self, step: int) -> None:
        self.skipped += 1
        log.warning("step %d: the gradient is not finite, the step is skipped", step)
        if self.skipped >= MOST_SKIPPED_STEPS:
            raise TrainingError(
                f"{self.skipped} steps had no finite gradient; lower --lr, or look for the cause with --debug"
            )

    # the loop

    def start_tracking(self) -> None:
        """Open the CSV and the dashboards, new or where the last checkpoint left them."""
        last = self.folder.last
        resume = {} if last is None else {"resume_step": self.step, "wandb_id": last["wandb_id"]}
        self.tracker = Tracker(self.folder.path, self.settings, **resume)

    def run(self, stop: StopRequest) -> None:
        """Train to the end, validating and saving on the way.

        Raises:
            Stopped: a signal came; the run is saved.
        """
        s = self.settings
        log_interval, eval_interval = (n or self.steps_per_epoch for n in (s.log_interval, s.eval_interval))
        bar = tqdm(total=self.max_step, initial=self.step, unit="step", disable=None, **bar_size())
        with bar, beside_bar():
            batches = self.batches()
            while self.step < self.max_step:
                if self.step == s.pretrain_steps:
                    # the warm-up's best is of another model
                    self.best = {}
                    self.learning_rate.best_loss = float("inf")
                began = time.perf_counter()
                self.train_step(*next(batches))
                self.seconds += time.perf_counter() - began
                self.steps_timed += 1
                bar.update()
                if self.step % 10 == 0:
                    bar.set_postfix(self._postfix(), refresh=False)
                last = self.step == self.max_step
                if self.step % log_interval == 0 or last:
                    self._log_training()
                if self.step % eval_interval == 0 or last or self.step == s.pretrain_steps:
                    self.validate()
                    self.save_last()
                if stop.signal is not None:
                    self.save_last()
                    raise Stopped(stop.signal)

    def _postfix(self) -> dict:
        means = self.meter.means()
        names = {"loss": "loss", "acc": "acc", "res_rel": "residual", "solver_steps": "solver"}
        return {shown: f"{means[name]:.3g}" for name, shown in names.items() if name in means}

    def log(self, event: str, metrics: dict) -> None:
        """Track metrics of the present step."""
        where = {"epoch": self.step / self.steps_per_epoch, "mode": self.mode(self.step)}
        self.tracker.log(event, self.step, where | metrics)

    def _log_training(self) -> None:
        means = self.meter.means()
        metrics = {f"train_{name}": value for name, value in means.items() if name != "grad_norm"}
        metrics |= {
            "grad_norm": means["grad_norm"],
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds_per_step": self.seconds / self.steps_timed,
            "peak_memory_mb": peak_memory_mb(self.device),
        }
        self.log("train", metrics)
        self.meter = Meter()

    def evaluate(self, split: Split, max_images: int | None = None) -> Evaluation:
        """Measure a split, or its first images, with the present parameters."""
        s = self.settings
        radius_seed = s.seed if s.spectral_radius_mode else None
        return evaluate(self.model, split, depth_of(s, self.warming_up(self.step)), max_images, radius_seed)

    def validate(self) -> None:
        """Measure the validation split; keep the parameters if none were better."""
        s = self.settings
        max_images = s.max_eval_steps * s.batch_size if s.max_eval_steps > 0 else None
        metrics = self.evaluate(self.splits.val, max_images).metrics
        score = (metrics["acc"], -metrics["loss"])
        if not self.best or score > (self.best["acc"], -self.best["loss"]):
            self._save_best(metrics)
        self.learning_rate.after_validation(metrics["loss"])
        best = {f"best_val_{name}": self.best[name] for name in ("loss", "acc", "res", "res_rel")}
        logged = {f"val_{name}": value for name, value in metrics.items()}
        self.log("val", logged | best)
        steps = f"  solver steps {metrics['solver_steps']:.1f}" if "solver_steps" in metrics else ""
        log.info(
            "step %d/%d  epoch %.1f  val loss %.4f  acc %.2f %%  residual %.1e%s",
            self.step, self.max_step, self.step / self.steps_per_epoch,
            metrics["loss"], 100 * metrics["acc"], metrics["res_rel"], steps,
        )  # fmt: skip
