"""Training steps of several runs side by side, against one run's and against theirs in turn: `train_qdeq.py --seeds`.

The steps are those of training itself, with all that it draws, measures and counts, on batches made here. Adam's
learning rate is 0, so that every repetition works on the same parameters.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.record import Record
from benchmarks.step import JAC_LOSS_WEIGHT, N_CLASSES, Problem
from dataset import Split, Splits
from runs.folder import RunFolder
from training.loop import Training
from training.settings import Settings
from training.side_by_side import SideBySide

TOLERANCES = {"gradient": 1e-3}  # of float32, as solvers that stop at 1e-3 round it
SOLVERS = {"broyden": {}, "newton+exact": {"f_solver": "newton", "b_solver": "exact"}}


def measure_seeds(record: Record) -> None:
    """Steps by one run, by several in turn and by several side by side, in the section `seeds`."""
    o = record.options
    calls: dict[str, Callable[[], object]] = {}
    pairs, record.content["equality"] = set(), []
    for model in o.models:
        for n_wires in sorted(set(o.wires)):
            for name, solvers in SOLVERS.items():
                label = f"{model}, {n_wires} wires, {name}"
                problems = [Problem(n_wires, o.batch_size, o.seed + number, record.device) for number in range(o.seeds)]
                alone, joint = ([training_on(problem, solvers, model) for problem in problems] for _ in range(2))
                together = SideBySide(joint)
                record.content["equality"].append(_compare(label, alone, together, joint))
                one, turn, side = f"{label}: 1 run", f"{label}: {o.seeds} in turn", f"{label}: {o.seeds} side by side"
                calls[one] = lambda first=alone[0]: first.train_step(*_batch(first))
                calls[turn] = lambda runs=alone: [run.train_step(*_batch(run)) for run in runs]
                calls[side] = lambda together=together, runs=joint: together.train_step([_batch(run) for run in runs])
                pairs |= {(turn, side), (side, one)}
    record.time("seeds", f"a training step, batch {o.batch_size}", calls, pairs)


def side_by_side_step(problems: list[Problem], setting: str) -> Callable[[], object]:
    """A step of one run per problem of one size, side by side, with a key of `SOLVERS`."""
    runs = [training_on(problem, SOLVERS[setting]) for problem in problems]
    together = SideBySide(runs)
    return lambda: together.train_step([_batch(run) for run in runs])


def training_on(problem: Problem, solvers: dict, model: str = "amplitude") -> Training:
    """A run of that problem's seed and batch at its first step; nothing is written."""
    settings = Settings(
        model=model if model == "classical" else "qdeq", amplitude_encoder=model != "angle", n_wires=problem.n_wires,
        num_classes=N_CLASSES, seed=problem.seed, batch_size=problem.batch_size, jac_loss_weight=JAC_LOSS_WEIGHT,
        jac_loss_freq=1.0, lr=0.0, **solvers,
    )  # fmt: skip
    split = Split(*problem.batch)
    splits = Splits(split, split, split, tuple(range(N_CLASSES)), problem.n_wires)
    return Training(RunFolder(Path(), settings, None), splits, problem.device)


def _batch(training: Training) -> tuple[Tensor, Tensor]:
    return training.splits.train.features, training.splits.train.labels


def _compare(label: str, alone: list[Training], together: SideBySide, joint: list[Training]) -> dict:
    """Take the first step both ways; how far the gradients are apart, relative."""
    for training in alone:
        training.train_step(*_batch(training))
    together.train_step([_batch(training) for training in joint])
    theirs = torch.stack([torch.cat([p.grad.flatten() for p in training.model.parameters()]) for training in alone])
    found = float((together.parameters.gradients - theirs).norm() / theirs.norm())
    return {"of": f"{label}: side by side", "and": "each alone", "gradient": found, "tolerances": TOLERANCES,
            "equal": found <= TOLERANCES["gradient"]}  # fmt: skip
