"""One optimiser step: its batch in parts, the Jacobian loss's weight, gradients that are not finite, its number."""

import math
from copy import deepcopy
from dataclasses import replace
from itertools import islice

import pytest
import torch

from conftest import assert_same, train_here
from runs import checkpoint
from runs.folder import find_run
from runs.lifecycle import TrainingError
from training import loop as training
from training.command_line import parse_command_line
from training.evaluation import confusion_matrix, load_splits
from training.loop import Training

DIGITS = ("--dataset", "digits", "--num_classes", 4, "--n_wires", 4, "--batch_size", 64, "--device", "cpu",
          "--tensorboard", "False")  # fmt: skip
CPU = torch.device("cpu")


def begin(*flags: object) -> Training:
    """A training on the digits at its first step; nothing is written."""
    command = parse_command_line(list(map(str, (*DIGITS, *flags))))
    return Training(find_run(command), load_splits(command.settings, CPU), CPU)


# the batch in parts


@pytest.mark.parametrize("loss", [(), ("--jac_loss_weight", 0.8, "--jac_loss_freq", 1)], ids=["", "with jac_loss"])
@pytest.mark.parametrize("way", [(), ("--mode", "direct", "--n_layer", 2)], ids=["implicit", "direct"])
def test_a_batch_in_parts_takes_the_same_step(way, loss):
    """Each part draws as many multiples of 16 normal numbers as it has images, hence the vectors of the whole."""
    runs = []
    for parts in (1, 4):
        run = begin("--dropout", 0, "--clip", 0, "--batch_chunk", parts, "--optim", "SGD", *way, *loss)
        run.model.double()
        sizes = []
        run.model.register_forward_pre_hook(lambda model, inputs: sizes.append(len(inputs[0])))
        x, y = next(run.batches())
        run.train_step(x[:10].double(), y[:10])
        assert sizes == {1: [10], 4: [3, 3, 3, 1]}[parts]
        runs.append(run)
    whole, in_parts = runs
    gradients = [torch.cat([p.grad.flatten() for p in run.model.parameters()]) for run in runs]
    assert gradients[0].abs().max() > 1e-3
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(in_parts.model.state_dict(), whole.model.state_dict(), rtol=1e-12, atol=1e-14)
    assert in_parts.state.meter.means() == pytest.approx(whole.state.meter.means(), rel=1e-10)
    assert ("jac_loss" in whole.state.meter.means()) == bool(loss and not way)


# the Jacobian loss


def test_jacobian_weight_is_raised_after_every_so_many_steps_up_to_its_limit():
    run = begin("--jac_loss_weight", 0.5, "--jac_loss_freq", 1, "--jac_incremental", 3)
    assert [run.jac_weight(step) for step in range(1, 8)] == pytest.approx([0.5, 0.5, 0.5, 0.6, 0.6, 0.6, 0.7])
    assert [run.jac_weight(step) for step in (45, 46, 48, 49, 1000)] == pytest.approx([1.9, 2, 2, 2, 2])


@pytest.mark.parametrize("flags, weight", [(("--jac_incremental", 0), 0.5), (("--jac_incremental", 3), 3.0)])
def test_jacobian_weight_stays_without_increments_or_from_beyond_the_limit(flags, weight):
    run = begin("--jac_loss_weight", weight, "--jac_loss_freq", 1, *flags)
    assert {run.jac_weight(step) for step in (1, 3, 4, 1000)} == {weight}


def test_a_step_takes_its_own_jacobian_weight():
    """With weights 0, 0, 0.1 the third step is the first to carry the Jacobian loss; two runs tell its weight."""
    runs = [begin("--jac_loss_freq", 1, "--jac_loss_weight", w, "--jac_incremental", n) for w, n in ((0, 2), (0.1, 0))]
    raised, constant = runs
    x, y = next(raised.batches())
    for _ in range(2):
        raised.train_step(x, y)
        assert "jac_loss" not in raised.state.meter.means()
    constant.model.load_state_dict(raised.model.state_dict())
    constant.state.step = raised.state.step
    for run in runs:
        run.train_step(x, y)
    for a, b in zip(raised.model.parameters(), constant.model.parameters()):
        assert torch.equal(a.grad, b.grad)


# gradients that are not finite


WAYS = [(), ("--model", "linear", "--mode", "direct", "--n_layer", 1)]


@pytest.mark.parametrize("way", WAYS, ids=["qdeq", "linear"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_without_a_finite_gradient_changes_nothing_and_is_counted(way, value):
    run = begin(*way)
    x, y = next(run.batches())
    run.train_step(x, y)
    before = deepcopy((run.model.state_dict(), run.state.optimizer.state_dict()))
    run.train_step(torch.full_like(x, value), y)
    assert (run.state.step, run.state.skipped, int(run.failed)) == (2, 1, len(y))
    assert_same((run.model.state_dict(), run.state.optimizer.state_dict()), before)
    handle = run.model.head.weight.register_hook(lambda gradient: gradient * value)
    run.train_step(x, y)
    handle.remove()
    assert (run.state.step, run.state.skipped) == (3, 2)
    assert_same((run.model.state_dict(), run.state.optimizer.state_dict()), before)
    run.train_step(x, y)
    assert (run.state.step, run.state.skipped) == (4, 2)
    assert all(p.isfinite().all() for p in run.model.parameters())
    assert not torch.equal(run.model.head.weight, before[0]["head.weight"])


@pytest.mark.parametrize("way", [*WAYS, ("--batch_chunk", 3), ("--jac_loss_weight", 0.8, "--jac_loss_freq", 1)],
                         ids=["qdeq", "linear", "parts", "jac_loss"])  # fmt: skip
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_image_that_is_not_finite_is_left_out_and_counted(way, value):
    """The step is that of the other images, whose losses are still divided by the whole batch."""
    run, without = begin(*way, "--dropout", 0, "--clip", 0), begin(*way, "--dropout", 0, "--clip", 0)
    x, y = next(run.batches())
    poisoned = x.clone()
    poisoned[3, 5] = value
    run.train_step(poisoned, y)
    assert (run.state.step, run.state.skipped, int(run.failed)) == (1, 0, 1)
    means = run.state.meter.means()
    assert all(math.isfinite(mean) for mean in means.values()) and means["acc"] < 1
    if "jac_loss" not in means:
        others = [i for i in range(len(y)) if i != 3]
        without.train_step(x[others], y[others])
        scale = len(others) / len(y)
        for p, p0 in zip(run.model.parameters(), without.model.parameters()):
            torch.testing.assert_close(p.grad, scale * p0.grad, rtol=1e-3, atol=1e-5)
        assert means["loss"] == pytest.approx(without.state.meter.means()["loss"], rel=1e-4)


def test_an_image_that_is_not_finite_is_counted_as_wrong_by_an_evaluation():
    run = begin("--f_solver", "newton", "--spectral_radius_mode")
    run.train_step(*next(run.batches()))
    split = run.splits.val
    clean = run.evaluate(split)
    features = split.features.clone()
    chosen = int((clean.predictions == split.labels).nonzero()[0])
    features[chosen] = math.nan
    found = run.evaluate(replace(split, features=features))
    n = len(split)
    assert found.metrics["acc"] == pytest.approx(clean.metrics["acc"] - 1 / n)
    assert found.predictions[chosen] == -1 and math.isfinite(found.metrics["loss"])
    assert found.metrics["spectral_radius"] == pytest.approx(clean.metrics["spectral_radius"], rel=0.1)
    assert confusion_matrix(split.labels, found.predictions, 4).sum() == n - 1


def test_too_many_skipped_steps_end_the_training():
    run = begin("--model", "linear", "--mode", "direct", "--n_layer", 1)
    x, y = next(run.batches())
    for _ in range(training.MOST_SKIPPED_STEPS - 1):
        run.train_step(x * math.nan, y)
    run.train_step(x, y)  # a good step between them does not start the count anew
    with pytest.raises(TrainingError, match=f"{training.MOST_SKIPPED_STEPS} steps had no finite gradient"):
        run.train_step(x * math.nan, y)


def test_skipped_steps_of_before_a_restart_count_and_the_end_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "MOST_SKIPPED_STEPS", 3)
    diverging = (*DIGITS, "--model", "linear", "--optim", "SGD", "--lr", 1e30, "--weight_decay", 1e30, "--clip", 0,
                 "--work_dir", tmp_path)  # fmt: skip
    with pytest.raises(SystemExit):  # two are skipped, and the test's loss is not finite
        train_here(*diverging, "--max_step", 3, "--name", "d")
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        train_here("--restart", "--restart_dir", tmp_path / "d", "--max_step", 4)
    error = capsys.readouterr().err
    assert end.value.code == 1 and error.count("\n") == 1 and "3 steps" in error and "--lr" in error


# where the counting starts


def test_start_train_steps_goes_on_where_a_loaded_run_ended(tmp_path):
    """SGD has no memory, so parameters and the number of steps taken are all of a run's state."""
    flags = ("--optim", "SGD", "--scheduler", "inv_sqrt", "--warmup_step", 3, "--n_layer", 1, "--pretrain_steps", 7,
             "--jac_loss_weight", 0.5, "--jac_loss_freq", 0.5, "--jac_incremental", 6, "--max_step", 12)  # fmt: skip
    whole = begin(*flags)
    for x, y in islice(whole.batches(), 12):
        if whole.state.step == 6:
            checkpoint.save(tmp_path / "a.pt", {"model": whole.model.state_dict(), "settings": whole.settings.to_dict()})
        whole.train_step(x, y)
    later = begin(*flags, "--load", tmp_path / "a.pt", "--start_train_steps", 6)
    for x, y in islice(later.batches(), 6):
        later.train_step(x, y)
    assert (later.state.step, later.state.max_step) == (12, 12)
    assert_same(dict(later.model.state_dict()), dict(whole.model.state_dict()))
