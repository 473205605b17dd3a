"""Optimisers by name, and the learning rate over time against closed forms."""

import math
from copy import deepcopy

import pytest
import torch

from conftest import assert_same
from runs.optim import LearningRate, clip_gradient, load_optimizer, make_optimizer
from training.settings import Settings

LR = 0.04


def schedule(scheduler: str, max_step: int = 100, **options) -> LearningRate:
    settings = Settings(scheduler=scheduler, lr=LR, **options)
    return LearningRate(make_optimizer(torch.nn.Linear(2, 1), settings), settings, max_step)


@pytest.mark.parametrize("name", ["Adam", "SGD", "Adagrad", "RMSprop", "RAdam"])
def test_optimizer_is_the_one_named_and_trains_all_parameters(name):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = make_optimizer(model, Settings(optim=name, lr=0.05), weight_decay=0.01)
    assert isinstance(optimizer, getattr(torch.optim, name))
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.05, 0.01)
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]
    before = [p.clone() for p in model.parameters()]
    model(torch.ones(4, 3)).square().sum().backward()
    optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("name", ["Adam", "SGD", "Adagrad", "RMSprop", "RAdam"])
def test_steps_are_those_of_torch_and_bit_by_bit_the_same_after_a_resume(name):
    """The state that is resumed may be that of torch's plain optimiser, as older checkpoints have it."""
    own, resumed, plain, of_plain = (torch.nn.Linear(3, 2).double() for _ in range(4))
    models = [own, resumed, plain, of_plain]
    for model in models:
        model.load_state_dict(own.state_dict())
    settings = Settings(optim=name, lr=0.05)
    optimizers = [make_optimizer(model, settings, weight_decay=0.01) for model in models]
    optimizers[2] = getattr(torch.optim, name)(plain.parameters(), lr=0.05, weight_decay=0.01)
    for step in range(8):
        if step == 5:
            for i, source in ((1, 0), (3, 2)):
                optimizers[i] = make_optimizer(models[i], settings)
                models[i].load_state_dict(models[source].state_dict())
                load_optimizer(optimizers[i], deepcopy(optimizers[source].state_dict()))
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            model(torch.arange(12.0).double().view(4, 3) - step).square().sum().backward()
            optimizer.step()
            assert torch.is_grad_enabled()
        assert_same(own.state_dict(), resumed.state_dict())
        for other in (plain, of_plain):
            torch.testing.assert_close(own.state_dict(), other.state_dict(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("limit", [0.25, 2.0, math.inf])
def test_the_clip_is_torchs(limit):
    torch.manual_seed(0)
    first = torch.nn.Linear(3, 2)
    first.unused = torch.nn.Parameter(torch.ones(2))
    models = first, deepcopy(first)
    for model in models:
        model(torch.ones(4, 3)).square().sum().backward()
    norms = clip_gradient(models[0].parameters(), limit), torch.nn.utils.clip_grad_norm_(models[1].parameters(), limit)
    assert norms[0] == pytest.approx(float(norms[1]), rel=1e-6) and norms[0] > 2
    for own, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(own.grad, theirs.grad, rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_told_and_left(value):
    weight = torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.tensor([1.0, value, 2.0])
    assert not math.isfinite(clip_gradient([weight], 0.5))
    assert (weight.grad[0], weight.grad[2]) == (1, 2)


def test_weight_decay_pulls_towards_zero():
    weight = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(weight.weight)
    optimizer = make_optimizer(weight, Settings(optim="SGD", lr=0.5), weight_decay=0.1)
    (0 * weight(torch.ones(1, 1))).sum().backward()
    optimizer.step()
    assert weight.weight.item() == pytest.approx(1 - 0.5 * 0.1)


@pytest.mark.parametrize("scheduler", ["constant", "cosine", "inv_sqrt", "dev_perf"])
def test_every_scheduler_starts_with_the_linear_ramp(scheduler):
    rate = schedule(scheduler, warmup_step=8)
    assert [rate.at(step) for step in range(1, 9)] == pytest.approx([LR * step / 8 for step in range(1, 9)])


@pytest.mark.parametrize("warmup_step", [0, 7])
def test_constant(warmup_step):
    rate = schedule("constant", warmup_step=warmup_step)
    assert all(rate.at(step) == LR for step in range(max(1, warmup_step), 101))


@pytest.mark.parametrize("warmup_step", [0, 20])
def test_cosine_falls_from_lr_to_eta_min_over_the_run(warmup_step):
    eta_min = 0.01
    rate = schedule("cosine", warmup_step=warmup_step, eta_min=eta_min)
    for step in range(max(1, warmup_step), 101):
        angle = math.pi * (step - warmup_step) / (100 - warmup_step)
        assert rate.at(step) == pytest.approx(eta_min + (LR - eta_min) * (1 + math.cos(angle)) / 2, rel=1e-6)
    assert rate.at((100 + warmup_step) // 2) == pytest.approx((LR + eta_min) / 2, rel=1e-6)
    assert rate.at(100) == pytest.approx(eta_min, rel=1e-6)


def test_cosine_of_a_run_that_is_all_ramp():
    assert schedule("cosine", max_step=5, warmup_step=5).at(5) == pytest.approx(LR)


def test_inv_sqrt_halves_each_time_the_steps_quadruple():
    rate = schedule("inv_sqrt", warmup_step=5)
    assert [rate.at(step) for step in (5, 20, 80)] == pytest.approx([LR, LR / 2, LR / 4])
    assert rate.at(37) == pytest.approx(LR * math.sqrt(5 / 37))


def test_dev_perf_decays_after_more_than_patience_stalls():
    rate = schedule("dev_perf", patience=1, decay_rate=0.5)
    rates = []
    #           better  stall  decay  better  stall  better  stall  decay  stall  decay
    for loss in (1.0, 1.1, 1.0, 0.9, 0.95, 0.8, 0.8, float("nan"), 0.9, 0.81):
        rate.after_validation(loss)
        rates.append(rate.at(1) / LR)
    assert rates == pytest.approx([1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125])


def test_dev_perf_stops_at_lr_min_and_is_never_raised_by_it():
    low, high = schedule("dev_perf", lr_min=0.015), schedule("dev_perf", lr_min=1.0)
    rates = []
    for _ in range(4):
        for rate in (low, high):
            rate.after_validation(1.0)
        rates.append(low.at(1))
        assert high.at(1) == LR
    assert rates == pytest.approx([LR, LR / 2, 0.015, 0.015])


@pytest.mark.parametrize("scheduler", ["constant", "cosine", "inv_sqrt"])
def test_validation_moves_only_dev_perf(scheduler):
    rate = schedule(scheduler, warmup_step=2)
    before = [rate.at(step) for step in range(1, 20)]
    for _ in range(5):
        rate.after_validation(1.0)
    assert [rate.at(step) for step in range(1, 20)] == before


def test_apply_sets_every_parameter_group():
    layers = [torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)]
    optimizer = torch.optim.SGD([{"params": layer.parameters()} for layer in layers], lr=9.0)
    rate = LearningRate(optimizer, Settings(lr=LR, warmup_step=4), 100)
    assert rate.apply(1) == pytest.approx(LR / 4)
    assert [group["lr"] for group in optimizer.param_groups] == [rate.at(1)] * 2


def test_state_goes_on_where_it_was(tmp_path):
    losses = [1.0, 1.2, 0.9, 1.0, 1.1, 1.2, 0.8, 0.9, 0.9, 0.9]
    whole = schedule("dev_perf", patience=1)
    expected = []
    for loss in losses:
        whole.after_validation(loss)
        expected.append(whole.at(1))
    assert len(set(expected)) > 2
    for cut in range(len(losses)):
        first, second = schedule("dev_perf", patience=1), schedule("dev_perf", patience=1)
        for loss in losses[:cut]:
            first.after_validation(loss)
        torch.save(first.state_dict(), tmp_path / "state.pt")
        second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        rates = []
        for loss in losses[cut:]:
            second.after_validation(loss)
            rates.append(second.at(1))
        assert rates == expected[cut:]
