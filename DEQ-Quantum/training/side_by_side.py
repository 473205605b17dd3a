"""The training step of several runs at once: models of one kind, each with its own data, draws, clip and optimiser.

The runs' settings differ in their seed alone, and they are at one step. Samples of all make one batch, so that what acts
on every sample alone is called once; losses are added up, so that no gradient mixes. Each run's numbers are those that
it would have alone, but for rounding. Knows nothing of folders, logs or what comes between two steps.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from models.side_by_side import WholeOfSeveral, capped, side_by_side
from runs.stacked import StackedParameters
from training.evaluation import depth_of, measure, measure_backward
from training.loop import Training
from training.sums import SumsOfSeveral
from utils import seeds


class SideBySide:
    """Several runs, which take their steps together.

    Args:
        trainings: at one step, with as many training images each.
    """

    def __init__(self, trainings: Sequence[Training]):
        self.trainings = trainings
        for training in trainings:
            training.n_together = len(trainings)
        self.model = side_by_side([training.model for training in trainings])
        self.parameters = StackedParameters(
            [training.model for training in trainings], [training.state.optimizer for training in trainings]
        )

    def train_step(self, batches: Sequence[tuple[Tensor, ...]]) -> list[bool]:
        """Take the next step of every run.

        Args:
            batches: of each, x (B, D) and y (B,), and with --z0 previous their places (B,) in the training split.

        Returns:
            Which runs could take it; the others had no finite gradient.
        """
        first, n_runs = self.trainings[0], len(self.trainings)
        s, step = first.settings, first.state.step + 1
        fewer_steps, jac_weights = zip(*(training.draws(step) for training in self.trainings))
        generators = [seeds.generator(t.settings.seed, "step", step, t.device) for t in self.trainings]
        for training in self.trainings:
            training.state.learning_rate.apply(step)
        self.parameters.gradients.zero_()
        parts = [torch.stack(of_runs).chunk(s.batch_chunk, dim=1) for of_runs in zip(*batches)]
        n_images, taken = len(batches[0][1]), SumsOfSeveral(n_runs)
        for x_part, y_part, *which in zip(*parts):
            size = y_part.shape[1]
            caps = torch.tensor([s.f_thres - fewer for fewer in fewer_steps], device=x_part.device).repeat_interleave(size)
            depth = depth_of(s, first.warming_up(step), min(fewer_steps))
            with_caps = capped(depth, caps) if len(set(fewer_steps)) > 1 else depth
            whole = WholeOfSeveral(size, generators=generators, with_jac_loss=[weight > 0 for weight in jac_weights])
            r0 = self._begin_at(which, step, x_part)
            p = self.model(x_part.flatten(0, 1), with_caps, with_jac_loss=any(jac_weights), whole=whole, r0=r0)
            measured = measure(p, y_part.flatten())
            if p.solver is not None:
                measured["solver_steps"] = torch.minimum(p.solver.steps, caps)
            losses = measured["loss"]
            if p.failed is not None:
                losses = torch.where(p.failed, 0.0, losses)
            share = size / n_images
            # of those that have a Jacobian loss all weights are equal
            (losses.sum() / n_images + max(jac_weights) * share * p.jac_loss.sum()).backward()
            taken.add(measured | measure_backward(p), p.failed, share * p.jac_loss)
            if r0 is not None:
                for training, places, reached in zip(self.trainings, which[0], p.r.chunk(n_runs)):
                    training.previous.keep(places, reached)
        return self._update(taken, jac_weights)

    def _begin_at(self, which: Sequence[Tensor], step: int, like: Tensor) -> Tensor | None:
        """`Training.begin_at` of each run's images, (S B, n_units); `which` holds their places (S, B) or nothing."""
        places = which[0] if which else [None] * len(self.trainings)
        begin = [training.begin_at(own, step, like) for training, own in zip(self.trainings, places)]
        return None if begin[0] is None else torch.cat(begin)

    def _update(self, taken: SumsOfSeveral, jac_weights: Sequence[float]) -> list[bool]:
        """Clip, move, and count what was measured."""
        norms = self.parameters.clip(self.trainings[0].settings.clip or math.inf)
        # the one wait for a GPU in every step
        *sums, jac_losses, norms = torch.cat([taken.sums, taken.jac_loss.view(1, -1), norms.double().view(1, -1)]).tolist()
        good = []
        for row, (training, jac_weight) in enumerate(zip(self.trainings, jac_weights)):
            for name, totals, counts in zip(taken.names, sums, taken.counts.tolist()):
                training.state.meter.add_sum(name, totals[row], counts[row])
            if jac_weight > 0:
                training.state.meter.add_sum("jac_loss", jac_losses[row], 1)
            training.state.meter.add_sum("grad_norm", norms[row], 1)
            failed = int(taken.failed[row])
            training.failed = training.failed + failed
            good.append(math.isfinite(norms[row]) and failed < taken.n_images)
        self.parameters.step(good)
        for training in self.trainings:
            training.state.step += 1
        return good
