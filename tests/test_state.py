"""The state of a run of any kind: what is counted, saved, resumed and logged."""

import csv
from pathlib import Path

import pytest
import torch

from conftest import assert_same
from runs import checkpoint
from runs.folder import IN_EVERY_CHECKPOINT, RunFolder
from runs.state import TrainingState
from training.settings import Settings

COLUMNS = ("event", "train_step", "epoch", "loss", "lr", "seconds_per_step", "peak_memory_mb")


def begin(path: Path, last: dict | None = None, n_samples: int = 10, **settings) -> TrainingState:
    """A run of a linear model on batches of 4."""
    torch.manual_seed(len(str(last)))  # a resumed model starts from other parameters
    model = torch.nn.Linear(3, 1)
    folder = RunFolder(path, Settings(batch_size=4, tensorboard=False, **settings), last)
    return TrainingState(folder, model, torch.optim.Adam(model.parameters()), torch.device("cpu"), n_samples)


def step(state: TrainingState, measured: float | None = None) -> None:
    """Take a step; its entry in the log is the loss, or what is said to be measured."""
    with state.timed():
        state.optimizer.zero_grad()
        loss = state.model(torch.ones(4, 3)).square().mean()
        loss.backward()
        state.optimizer.step()
    state.meter.add("loss", loss if measured is None else torch.tensor(measured))
    state.step += 1


@pytest.mark.parametrize("n_samples, steps_per_epoch", [(1, 1), (4, 1), (5, 2), (8, 2), (10, 3)])
def test_an_epoch_takes_in_the_last_smaller_batch(tmp_path, n_samples, steps_per_epoch):
    state = begin(tmp_path, n_samples=n_samples, epochs=7)
    assert (state.steps_per_epoch, state.max_step) == (steps_per_epoch, 7 * steps_per_epoch)
    assert begin(tmp_path, n_samples=n_samples, max_step=5).max_step == 5


def test_what_is_due_every_so_many_steps_is_due_after_the_last_one_too(tmp_path):
    state, due = begin(tmp_path, max_step=8), {}
    for interval in (0, 1, 5):  # 0: once an epoch, of three steps
        due[interval] = [step for step in range(1, 9) if setattr(state, "step", step) or state.due(interval)]
    assert due == {0: [3, 6, 8], 1: [1, 2, 3, 4, 5, 6, 7, 8], 5: [5, 8]}


def test_a_saved_state_is_resumed_and_ends_like_one_that_was_not_stopped(tmp_path):
    whole = begin(tmp_path / "a")
    whole.folder.path.mkdir()
    whole.start_tracking(COLUMNS)
    for _ in range(2):
        step(whole)
    whole.save_best({"loss": 0.5})
    whole.skipped = 3
    whole.save_last(mine=[1, 2])
    last = checkpoint.load(whole.folder.last_path)
    assert set(IN_EVERY_CHECKPOINT) <= set(last) and last["mine"] == [1, 2]
    resumed = begin(tmp_path / "a", last)
    counters = ("step", "best", "seconds", "steps_timed", "skipped")
    assert all(getattr(resumed, name) == getattr(whole, name) for name in counters)
    assert (resumed.step, resumed.skipped, resumed.best) == (2, 3, {"step": 2, "loss": 0.5})
    for state in (whole, resumed):
        step(state)
    assert_same(dict(resumed.model.state_dict()), dict(whole.model.state_dict()))
    assert resumed.meter.means() == whole.meter.means()


def test_the_best_parameters_come_back_with_their_metrics(tmp_path):
    state = begin(tmp_path)
    step(state)
    state.save_best({"loss": 0.25})
    best = {name: value.clone() for name, value in state.model.state_dict().items()}
    step(state)
    assert not torch.equal(state.model.weight, best["weight"])
    assert state.load_best() == {"step": 1, "loss": 0.25}
    assert_same(dict(state.model.state_dict()), best)


def test_an_entry_of_the_training_log_covers_the_steps_since_the_last_one(tmp_path):
    state = begin(tmp_path)
    state.start_tracking(COLUMNS)
    for values in ((1.0, 3.0), (5.0,)):
        for value in values:
            step(state, value)
        means, others = state.training_entry()
        state.log("train", means | others)
    state.tracker.close()
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["train_step"], float(row["loss"])) for row in rows] == [("2", 2.0), ("3", 5.0)]
    assert all(float(row["seconds_per_step"]) > 0 and float(row["peak_memory_mb"]) > 10 for row in rows)
    assert float(rows[0]["epoch"]) == 2 / 3
