"""One training run: one optimiser step, and the loop with validation and checkpoints.

Section 3.3 of Schleich et al. (arXiv 2410.23940): a batch, its logits at the equilibrium (or after L layers),
cross-entropy plus, on some steps, the Jacobian loss, clip, update. Everything random in a step is a function of
(seed, step), so a run that was stopped resumes bit for bit on the CPU. Knows nothing of command lines.
"""

import logging
import math
import signal
import time
from collections.abc import Generator, Iterator
from contextlib import closing

import torch
from torch import Tensor

from dataset import Split, Splits
from models.qdeq_model import Whole
from hardware.cost import Counter
from runs import checkpoint
from runs.folder import RunFolder
from runs.lifecycle import TrainingError
from runs.optim import clip_gradient, make_optimizer
from runs.ranks import ALONE, Ranks
from runs.settings import SettingsError
from runs.signals import Stopped, StopRequest
from runs.state import TrainingState
from training import metrics
from training.evaluation import Evaluation, depth_of, evaluate, measure, measure_backward
from training.hardware import build_trained_model, count_pass, counting_engine, described
from training.known_states import KnownStates
from training.loading import load_parameters
from training.previous import Previous
from training.sums import Sums
from utils import seeds

JAC_INCREMENT, JAC_WEIGHT_LIMIT = 0.1, 2.0
MOST_SKIPPED_STEPS = 100

IN_CHECKPOINT = {
    "failed": checkpoint.is_count,
    "seconds_of_states": checkpoint.is_duration,
    "best": lambda best: not best or set(metrics.names("best_val")) <= set(best),
}

log = logging.getLogger("qdeq")


class Training:
    """One run: its model and data, its state, and the loop that moves it.

    Where several processes share the run, each takes its rows of every batch, and all take the same step.
    """

    def __init__(self, folder: RunFolder, splits: Splits, device: torch.device, ranks: Ranks = ALONE):
        s = self.settings = folder.settings
        self.splits, self.device, self.ranks = splits, device, ranks
        seeds.seed_everything(s.seed)
        self.model = build_trained_model(s).to(device)
        self.counting = counting_engine(self.model)
        self.cost = Counter()  # of all steps, with shots
        self.previous = Previous(len(splits.train), self.model.layer.n_units) if s.z0 == "previous" else None
        if s.shard == "columns" and not ranks.alone:
            self.model.layer.engine.share_columns(ranks)
        optimizer = make_optimizer(self.model, s, s.weight_decay)
        state = TrainingState(folder, self.model, optimizer, device, len(splits.train), s.start_train_steps, ranks)
        self.state = state
        # images without a finite state so far, as often as they came up; on the device, so that a GPU is not waited for
        self.failed: Tensor | int = 0
        self.known: dict[str, KnownStates] = {}  # by split, with --keep_states
        self.seconds_of_states = 0.0  # spent on finding them, every time that the run was begun or resumed
        self.n_together = 1  # runs that take their steps as one, this one among them
        if folder.last is not None:
            checkpoint.check(folder.last, IN_CHECKPOINT, folder.last_path)
            self.failed = folder.last.get("failed", 0)
            self.seconds_of_states = folder.last.get("seconds_of_states", 0.0)
            if self.counting is not None:
                self.cost.load_state(folder.last["cost"])
            if self.previous is not None:
                self.previous.load_state(folder.last, device, folder.last_path)
        self.stop: StopRequest | None = None
        self.must_stop = False
        if folder.last is None and s.load:
            if warning := load_parameters(self.model, s, ranks):
                folder.notes.append(warning)
        if state.step >= state.max_step and folder.last is None:
            raise SettingsError(f"--start_train_steps {state.step} leaves no step of the run's {state.max_step}")
        if s.pretrain_steps >= state.max_step:
            raise SettingsError(f"--pretrain_steps {s.pretrain_steps} fills the run's {state.max_step} steps")
        ranks.check_equal(self.model)

    # one step

    def warming_up(self, step: int) -> bool:
        """Whether the step-th step, counted from 1, goes through explicit layers to warm up."""
        return step <= self.settings.pretrain_steps

    def mode(self, step: int) -> int:
        """0: explicit layers, 1: equilibrium."""
        return int(self.settings.mode == "implicit" and not self.warming_up(step))

    def batches(self) -> Iterator[tuple[Tensor, ...]]:
        """What `train_step` takes, from the next step on, each epoch in its own order."""
        s, train = self.settings, self.splits.train
        for chosen in seeds.batches(len(train.labels), s.batch_size, s.seed, self.state.step, self.device):
            places = (chosen,) if self.previous is not None or s.keep_states else ()
            yield train.features[chosen], train.labels[chosen], *places

    def jac_weight(self, step: int) -> float:
        """Weight of the Jacobian loss at the step-th step, counted from 1: raised after every jac_incremental steps."""
        s = self.settings
        if not s.jac_incremental:
            return s.jac_loss_weight
        raised = s.jac_loss_weight + JAC_INCREMENT * ((step - 1) // s.jac_incremental)
        return max(s.jac_loss_weight, min(raised, JAC_WEIGHT_LIMIT))

    def draws(self, step: int) -> tuple[int, float]:
        """What the step-th step draws: steps off the forward solver's cap, and the weight of its Jacobian loss, or 0."""
        s = self.settings
        draws = seeds.generator(s.seed, "draws", step)
        fewer_steps = int(torch.randint(s.rand_f_thres_delta + 1, (), generator=draws))
        with_jac_loss = float(torch.rand((), generator=draws)) < s.jac_loss_freq
        return fewer_steps, self.jac_weight(step) if with_jac_loss and self.mode(step) else 0.0

    def begin_at(self, which: Tensor | None, step: int, like: Tensor) -> Tensor | None:
        """(B, n_units) equilibria where the step-th step begins with --z0 previous; None: as the depth says.

        Args:
            which: (B,) places of the samples in the training split; None: they are not known.
            step: in a warm-up there are none.
            like: a tensor of the samples' dtype and device.
        """
        return None if self.previous is None or which is None or not self.mode(step) else self.previous.of(which, like)

    def train_step(self, x: Tensor, y: Tensor, which: Tensor | None = None) -> None:
        """Take the next step on one batch, the same on all ranks.

        Args:
            x, y: (B, D) and (B,).
            which: (B,) places of the samples in the training split: for --z0 previous, without them solves begin at
                zero and are not remembered; for --keep_states, which needs them.
        """
        s, state, step = self.settings, self.state, self.state.step + 1
        fewer_steps, jac_weight = self.draws(step)
        depth = depth_of(s, self.warming_up(step), 0 if self.known else fewer_steps)
        generator = seeds.generator(s.seed, "step", step, self.device)

        state.learning_rate.apply(step)
        state.optimizer.zero_grad()
        r0, cost = self.begin_at(which, step, x), Counter()
        taken = Sums(reached=None if r0 is None else torch.zeros_like(r0))
        parts = [[None] * s.batch_chunk if v is None else v.chunk(s.batch_chunk) for v in (x, y, r0, taken.reached, which)]
        for number, (x_part, y_part, r0_part, reached, places) in enumerate(zip(*parts)):
            self.draw_for(f"training {number}", step)
            own = self.ranks.share(len(y_part))
            whole = Whole(len(y_part), own.rows)
            if self.known:
                p = self.known["train"].of(places, generator)
            else:
                p = self.model(
                    x_part[own.rows], depth, with_jac_loss=jac_weight > 0, generator=generator, whole=whole,
                    r0=None if r0_part is None else r0_part[own.rows],
                )  # fmt: skip
            if self.counting is not None:
                count_pass(cost, self.counting, depth, p, with_gradient=True, with_jac_loss=jac_weight > 0)
            measured = measure(p, y_part[own.rows])
            share = own.count / len(y)
            losses = measured["loss"]
            if p.failed is not None:
                losses = torch.where(p.failed, 0.0, losses)
            loss = losses.sum() / len(y) + jac_weight * share * p.jac_loss
            (loss if own.count else 0.0 * loss).backward()
            if p.failed is not None:
                taken.failed = taken.failed + p.failed[: own.count].sum()
            taken.add(measured | measure_backward(p), p.failed, own.count)
            taken.jac_loss = taken.jac_loss + share * p.jac_loss.detach()
            if reached is not None and own.count:
                reached[own.rows] = p.r.nan_to_num(nan=0.0)
        self._add_up(taken)
        if taken.reached is not None:
            self.previous.keep(which, taken.reached)
        self._count(taken, cost, jac_weight)
        # the one value that a GPU is waited for at every step: such a gradient must not enter the optimiser's state
        norm = clip_gradient(self.model.parameters(), s.clip or math.inf)
        state.meter.add_sum("grad_norm", norm, 1)
        if math.isfinite(norm) and taken.failed < len(y):
            state.optimizer.step()
        else:
            self.skip(step)
        state.step = step

    def _count(self, taken: Sums, cost: Counter, jac_weight: float) -> None:
        """Count what a step has measured of the whole batch."""
        meter = self.state.meter
        for name, total, count in taken.sums:
            meter.add_sum(name, total, count)
        if self.counting is not None:
            self.cost.add(cost)
            for name, value in described(cost).items():
                meter.add_sum(name, value, 1)
        if jac_weight > 0:
            meter.add_sum("jac_loss", taken.jac_loss.double(), 1)
        self.failed = self.failed + taken.failed

    def _add_up(self, taken: Sums) -> None:
        """Make the gradient, what was measured and what was reached those of the whole batch, on every rank."""
        if self.ranks.alone:
            return
        asked = self.stop is not None and self.stop.signal is not None
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        of_samples = [] if taken.reached is None else [taken.reached]
        _, totals, counts = zip(*taken.sums)
        numbers = [asked, taken.failed, taken.jac_loss, *totals, *counts]
        sums = self.ranks.sum_in_place([*gradients, *of_samples], numbers)
        n_asked, failed, taken.jac_loss, *sums = sums
        self.must_stop, taken.failed = bool(n_asked), int(failed)
        taken.sums = [(name, total, int(count)) for (name, *_), total, count in
                      zip(taken.sums, sums, sums[len(totals):])]  # fmt: skip

    def skip(self, step: int) -> None:
        """Count a step that could not be taken.

        Raises:
            TrainingError: there are too many.
        """
        self.state.skipped += 1
        log.warning("step %d: no finite gradient, the step is skipped", step)
        if self.state.skipped >= MOST_SKIPPED_STEPS:
            raise TrainingError(
                f"{self.state.skipped} steps had no finite gradient; lower --lr, or look for the cause with --debug"
            )

    # the loop

    def run(self, stop: StopRequest) -> None:
        """Train to the end, validating and saving on the way.

        Raises:
            Stopped: a signal came; the run is saved.
        """
        with closing(self.steps(stop)) as steps:
            for batch in steps:
                with self.state.timed():
                    self.train_step(*batch)

    def steps(self, stop: StopRequest) -> Generator[tuple[Tensor, ...], bool | None, None]:
        """The batches of the steps to come: whoever iterates takes each step before it asks for the next batch.

        Between the steps the run is logged, validated and saved. A step that could not be taken, and has not been counted
        as skipped, is told of by sending False.

        Raises:
            Stopped: a signal came; the run is saved.
            TrainingError: too many steps could not be taken.
        """
        s, state, self.stop = self.settings, self.state, stop
        batches = self.batches()
        if s.keep_states and state.step < state.max_step:
            self.find_states()
        with state.progress_bar(metrics.LABELS) as advance_bar:
            while state.step < state.max_step:
                if state.step == s.pretrain_steps:
                    # the warm-up's best is of another model
                    state.best = {}
                    state.learning_rate.best_loss = float("inf")
                if (yield next(batches)) is False:
                    self.skip(state.step)
                advance_bar()
                if state.due(s.log_interval):
                    self._log_training()
                if state.due(s.eval_interval) or state.step == s.pretrain_steps:
                    self.validate()
                    self.save()
                if stop.signal is not None if self.ranks.alone else self.must_stop:
                    self.save()
                    # another rank may have got the signal
                    raise Stopped(stop.signal or signal.SIGTERM)

    def find_states(self) -> None:
        """Find those of all training and validation images, for --keep_states; counts as time of training."""
        began, depth = time.perf_counter(), depth_of(self.settings)
        images = {"train": self.splits.train.features, "val": self.splits.val.features[: self.settings.max_eval_images]}
        self.known = {name: KnownStates(self.model, x, depth, f"the {name} split") for name, x in images.items()}
        took = time.perf_counter() - began
        self.seconds_of_states += took
        log.info("states of %d images found in %.0f s", sum(map(len, images.values())), took)

    def save(self) -> None:
        """Write the checkpoint to resume from.

        Raises:
            RanksDiffer: the ranks' parameters are not the same.
        """
        self.ranks.check_equal(self.model)
        counted = {} if self.counting is None else {"cost": self.cost.state()}
        remembered = {} if self.previous is None else self.previous.state()
        found = {"seconds_of_states": self.seconds_of_states} if self.settings.keep_states else {}
        self.state.save_last(failed=int(self.failed), **counted, **remembered, **found)

    def log(self, event: str, values: dict) -> None:
        """Track metrics of the present step."""
        self.state.log(event, {"mode": self.mode(self.state.step), **values})

    def _log_training(self) -> None:
        means, others = self.state.training_entry()
        others["grad_norm"] = means.pop("grad_norm")
        if self.counting is not None:
            others["shots_so_far"] = self.cost.shots
        self.log("train", {f"train_{name}": value for name, value in means.items()} | others)

    def draw_for(self, stream: str, step: int) -> None:
        """Name what the coming shots are drawn for, if there are any: "val" or "test" with the step of the parameters."""
        if self.counting is not None:
            self.counting.draw_for(stream, step)

    def evaluate(self, split: Split, max_images: int | None = None, known: KnownStates | None = None) -> Evaluation:
        """Measure a split, or its first images, with the present parameters; `known` are the states of all of them."""
        s = self.settings
        radius_seed = s.seed if s.spectral_radius_mode else None
        depth = depth_of(s, self.warming_up(self.state.step))
        return evaluate(self.model, split, depth, max_images, radius_seed, self.ranks, known)

    def validate(self) -> None:
        """Measure the validation split; keep the parameters if none were better."""
        state = self.state
        self.draw_for("val", state.step)
        evaluation = self.evaluate(self.splits.val, self.settings.max_eval_images, self.known.get("val"))
        found = evaluation.metrics
        if not state.best or (found["acc"], -found["loss"]) > (state.best["acc"], -state.best["loss"]):
            state.save_best(found)
        state.learning_rate.after_validation(found["loss"])
        best = {f"best_val_{name}": state.best[name] for name in metrics.names("best_val")}
        self.log("val", {f"val_{name}": value for name, value in (found | described(evaluation.cost)).items()} | best)
        steps = f"  solver steps {found['solver_steps']:.1f}" if "solver_steps" in found else ""
        log.info(
            "step %d/%d  epoch %.1f  val loss %.4f  acc %.2f %%  residual %.1e%s",
            state.step, state.max_step, state.epoch, found["loss"], 100 * found["acc"], found["res_rel"], steps,
        )  # fmt: skip
