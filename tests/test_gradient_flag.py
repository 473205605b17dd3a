"""--b_solver identity and --gradient shift: which gradient a run takes its steps by."""

import json

import pytest
import torch

import evaluate_qdeq
from conftest import assert_same
from hardware.cost import Counter
from hardware.shift_engine import CompiledShift, ShiftEngine
from hardware.shots import counting_error
from models.table import build_model
from quick_runs import train_quickly
from runs import checkpoint
from training.command_line import parse_command_line
from training.evaluation import depth_of
from training.hardware import build_trained_model, count_pass
from training.settings import Settings

NOISE = ("--noise", "depolarizing:1e-2,readout:0.02,0.05")
SHOTS = (*NOISE, "--gradient", "shift", "--shots", 32, "--n_random_operations", 4)


def small(**changes) -> Settings:
    return Settings(dataset="digits", num_classes=4, n_wires=4, dropout=0.0, **changes)


def results(run):
    return json.loads((run / "results.json").read_text())


def test_identity_takes_q_for_the_incoming_gradient():
    """dl/dtheta = (dl/dz)^T dh/dtheta at the equilibrium, whatever J is."""
    settings = small(b_solver="identity", f_thres=30, f_tol=1e-6)
    torch.manual_seed(0)
    model = build_model(settings)
    x = torch.randn(3, 16)
    found = model(x, depth_of(settings))
    found.logits.sum().backward()
    theta = model.layer.theta
    given, theta.grad = theta.grad.clone(), None
    model.classify(model.layer.lift(model.layer.bind(x).reduced()(found.r))).sum().backward()
    assert given.abs().max() > 1e-3
    assert torch.allclose(given, theta.grad, rtol=1e-3, atol=1e-5)
    theta.grad = None
    model(x, depth_of(small(b_solver="exact", f_thres=30, f_tol=1e-6))).logits.sum().backward()
    assert not torch.allclose(given, theta.grad, rtol=1e-3, atol=1e-3)


def test_without_shots_a_run_is_that_of_autograd(tmp_path):
    same = ("--b_solver", "exact", "--f_tol", 1e-6)
    one, other = (
        train_quickly(tmp_path, name, 3, *NOISE, *same, *more)
        for name, more in (("autograd", ()), ("shift", ("--gradient", "shift")))
    )
    found, wanted = (checkpoint.load(run / "checkpoint_last.pt", needs={})["model"] for run in (other, one))
    for name in wanted:
        assert torch.allclose(found[name], wanted[name], rtol=0, atol=1e-5), name
    assert (results(one)["gradient"], results(other)["gradient"]) == ("autograd", "shift")
    assert results(other)["shots"] is None and "cost" not in results(other)


@pytest.mark.parametrize("more", ((), ("--f_solver", "newton")), ids=("broyden", "newton"))
def test_with_shots_a_run_resumes_bit_for_bit_and_is_evaluated_as_it_was(tmp_path, more):
    whole = train_quickly(tmp_path, "whole", 4, "--eval-interval", 2, *SHOTS, *more)
    train_quickly(tmp_path, "resumed", 2, "--eval-interval", 2, *SHOTS, *more)
    resumed = train_quickly(tmp_path, "resumed", 4, "--restart")
    one, other = (checkpoint.load(run / "checkpoint_last.pt", needs={}) for run in (whole, resumed))
    for entry in ("model", "optimizer", "best", "cost"):
        assert_same(one[entry], other[entry])
    found = evaluate_qdeq.measure(evaluate_qdeq.parse_command_line([str(whole), "--device", "cpu"]))[0]
    assert (found["gradient"], found["loss"]) == ("shift", results(whole)["test_loss"])


@pytest.mark.parametrize("changes", (
    {}, {"b_solver": "identity"}, {"amplitude_encoder": False}, {"mode": "direct", "n_layer": 3}, {"f_solver": "newton"},
    {"f_solver": "newton", "b_solver": "identity", "amplitude_encoder": False},
    {"trainable_gates": "none"}, {"trainable_gates": "none", "mode": "direct", "n_layer": 3},
))  # fmt: skip
def test_what_is_counted_is_what_is_run(changes, monkeypatch):
    monkeypatch.setattr("deq.noise.FLOORS", 0.0)  # no sample stops before the others
    settings = small(gradient="shift", shots=1000, f_tol=1e-9, **changes)
    model, depth = build_trained_model(settings), depth_of(settings)
    run, counted = Counter(), Counter()
    model.layer.engine.chip.counter = run
    p = model(torch.randn(5, 16), depth)
    p.logits.sum().backward()
    count_pass(counted, model.layer.engine, depth, p, with_gradient=True)
    assert counted.by_purpose == run.by_purpose and counted.rounds == run.rounds


@pytest.mark.parametrize("b_solver, jacobians", [("exact", 11), ("identity", 10)])
def test_newton_counts_a_jacobian_before_every_step(tmp_path, monkeypatch, b_solver, jacobians):
    """K evaluations, J circuits for each of K - 1 steps, in a round of their own; J more for a backward solve."""
    monkeypatch.setattr("deq.noise.FLOORS", 0.0)  # no sample stops before the others
    flags = ("--shots", 1000, "--f_solver", "newton", "--b_solver", b_solver, "--f_tol", 1e-9, "--rand_f_thres_delta", 0)
    run = train_quickly(tmp_path, "run", 2, *SHOTS, *flags)
    step = results(run)["cost"]["training_step"]
    assert (step["circuits_solve"], step["circuits_jacobian"]) == (64 * 11, 64 * 8 * jacobians)
    test = results(run)["cost"]["test"]
    assert test["circuits_jacobian"] == 10 * 8 * test["circuits_residual"]
    assert step["rounds"] == 11 + 10 + 1


def test_newtons_equilibrium_is_within_a_few_floors():
    settings = small(gradient="shift", shots=4096, f_solver="newton")
    torch.manual_seed(0)
    model, x = build_trained_model(settings), torch.randn(60, 16)
    with torch.no_grad():
        found = model(x, depth_of(settings))
        model.layer.engine = build_model(small()).layer.engine
        exact = model(x, depth_of(small(f_solver="newton", f_thres=50, f_tol=1e-6)))
    assert bool(exact.solver.converged.all()) 
    errors = (found.r - exact.r).norm(dim=1) / counting_error(exact.r, 4096)
    assert errors.max() < 5 and errors.mean() < 1.5 and found.solver.steps.double().mean() < 4


def test_engines():
    exact = build_trained_model(small(gradient="shift", b_solver="identity")).layer
    assert isinstance(exact.engine, ShiftEngine) and isinstance(exact.compile().circuit, CompiledShift)
    assert (exact.engine.shots, exact.engine.jacobian_free) == (0, True)
    counting = build_trained_model(small(gradient="shift", shots=7, seed=3)).layer.engine
    assert (counting.shots, counting.engine.seed, counting.jacobian_free) == (7, 3, False)


ENCODING = "--gradient shift --noise readout:0.1 --encoding_noise depolarizing:1e-2"


@pytest.mark.parametrize("flags, words", [
    ("--gradient shift --jac_loss_weight 1 --jac_loss_freq 0.5", "use --jac_loss_freq 0, or --gradient autograd"),
    ("--gradient shift --model linear", "--gradient shift is of circuits, and --model linear has none"),
    ("--gradient shift --engine statevector", "--gradient shift has an engine of its own"),
    ("--gradient shift --shard columns", "leave out --gradient shift"),
    (ENCODING, "use --amplitude_encoder False, or take no such slope (--b_solver identity, or one layer)"),
    (ENCODING + " --mode direct --n_layer 2", "leave --encoding_noise out"),
])  # fmt: skip
def test_what_cannot_work_is_one_line(flags, words, capsys):
    with pytest.raises(SystemExit) as end:
        parse_command_line(flags.split())
    error = capsys.readouterr().err
    assert (end.value.code, error.count("\n")) == (2, 1) and words in error, error


def test_what_needs_no_slope_in_amplitudes_works_with_noise_of_their_encoding():
    for flags in ("--b_solver identity", "--mode direct --n_layer 1", "--amplitude_encoder False"):
        assert parse_command_line(f"{ENCODING} {flags}".split()).settings.by_shifts
