"""Solvers sample by sample: nobody depends on batch mates; statuses, guards, options."""

from __future__ import annotations

import math

import pytest
import torch

from deq import SolverSettings, SolverStatus, solve
from problems import (
    ALL,
    COSINE_FIXED_POINT,
    expansion,
    mixed_difficulty,
    normal,
)

STRICT = {"tol": 1e-10, "stop_mode": "abs"}


# samples are solved for themselves


@pytest.mark.parametrize("solver", ALL)
def test_answers_do_not_depend_on_batch_mates(solver):
    c = torch.tensor([[0.0], [0.5], [-0.9], [0.7], [2.5]], dtype=torch.float64)
    x = normal(5, 3, seed=51)
    choice = SolverSettings(solver, 60, 1e-9)
    whole = solve(lambda z: c * torch.sin(z) + x, torch.zeros_like(x), choice)
    for i in range(5):
        alone = solve(lambda z: c[i] * torch.sin(z) + x[i], torch.zeros(1, 3, dtype=torch.float64), choice)
        torch.testing.assert_close(whole.z[i : i + 1], alone.z, rtol=1e-12, atol=1e-12)
        assert whole.steps[i] == alone.steps[0] and whole.status[i] == alone.status[0]


@pytest.mark.parametrize("solver", ALL)
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_poisoned_sample_leaves_its_batch_mates_bitwise_untouched(solver, poison):
    x = normal(4, 3, seed=61)
    spoilt = x.clone()
    spoilt[1, 2] = poison
    choice = SolverSettings(solver, 40, 1e-10)
    clean = solve(lambda z: 0.8 * torch.sin(z) + x, torch.zeros_like(x), choice)
    mixed = solve(lambda z: 0.8 * torch.sin(z) + spoilt, torch.zeros_like(x), choice)
    mates = [0, 2, 3]
    for name in ("z", "f_z", "status", "steps", "residual", "abs_residual", "rel_residual"):
        assert torch.equal(getattr(clean, name)[mates], getattr(mixed, name)[mates]), name
    assert mixed.status[1] == SolverStatus.NON_FINITE
    # no starting point passes for an answer
    assert mixed.z[1].isnan().all() and mixed.residual[1] == math.inf
    assert mixed.counts()[SolverStatus.NON_FINITE] == 1


def test_a_sample_that_turns_non_finite_returns_its_best_finite_iterate():
    # 1 -> 0.9 -> 0.8 -> ...; below 0.55 the map is no more
    def f(z):
        return torch.where(z > 0.55, z - 0.1 * z**2, math.nan)

    z0 = torch.tensor([[1.0]], dtype=torch.float64)
    result = solve(f, z0, SolverSettings("fixed_point", 50, 0.0, "abs"))
    assert result.status[0] == SolverStatus.NON_FINITE
    assert result.z.isfinite().all() and 0.55 < float(result.z) < 0.61
    assert float(result.residual) == pytest.approx(0.1 * float(result.z) ** 2)
    assert int(result.steps) == len(result.trace) - 1 < 50


@pytest.mark.parametrize("solver", ALL)
def test_samples_freeze_when_they_converge(solver):
    problem = mixed_difficulty()
    choice = SolverSettings(solver, 200, 1e-6, "abs")
    result = solve(problem.f, problem.z0, choice)
    for i, n_steps in enumerate(result.steps.tolist()):
        assert result.trace[n_steps, i] <= 1e-6 and (result.trace[:n_steps, i] > 1e-6).all()
        assert (result.trace[n_steps:, i] == result.residual[i]).all()
        short = solve(problem.f, problem.z0, SolverSettings(solver, n_steps, 1e-6, "abs"))
        assert torch.equal(short.z[i], result.z[i])
    assert result.n_f_evals == len(result.trace) == int(result.steps.max()) + 1


def test_a_frozen_sample_does_not_heed_what_f_says_of_it_later():
    # as with sums whose order, and so whose last digits, change from call to call
    calls = []

    def f(z):
        calls.append(1)
        return torch.cat([torch.full_like(z[:1], 1.0 if len(calls) < 4 else 9.0), 0.9 * z[1:] + 1])

    result = solve(f, torch.zeros(2, 1, dtype=torch.float64), SolverSettings("fixed_point", 10, 1e-9))
    assert result.converged.tolist() == [True, False] and result.steps.tolist() == [1, 10]
    assert result.f_z[0] == 1.0 and result.residual[0] == 0.0


# statuses and guards


def test_picard_on_an_expansion_diverges_and_returns_the_best_iterate():
    problem = expansion()
    result = solve(problem.f, problem.z0, SolverSettings("fixed_point", 200, stop_mode="abs"))
    assert (result.status == SolverStatus.DIVERGED).all() and int(result.steps.max()) < 30
    assert torch.equal(result.residual, result.trace.min(dim=0).values)
    assert "diverged" in result.describe()


@pytest.mark.parametrize("solver", ALL)
@pytest.mark.parametrize("stop_mode", ["rel", "abs"])
def test_a_shift_has_no_fixed_point_and_says_so(solver, stop_mode):
    z0 = normal(3, 2, seed=71)
    result = solve(lambda z: z + 1, z0, SolverSettings(solver, 30, 1e-3, stop_mode))
    assert not result.converged.any()
    assert result.z.isfinite().all() and result.n_f_evals == 31
    assert "3 of 3 samples step limit" in result.describe()


def test_newton_takes_picards_step_where_i_minus_j_is_singular():
    slope = torch.tensor([[1.0], [0.5]], dtype=torch.float64)
    result = solve(
        lambda z: slope * z + 1, torch.zeros(2, 1, dtype=torch.float64), SolverSettings("newton", 1, 0.0)
    )
    assert result.trace[1].tolist() == [1.0, 0.0] and float(result.z[1]) == 2.0


def test_best_iterate_is_returned_not_the_last():
    # Picard on a shrinking, then growing rotation: residuals first fall, then rise
    def f(z):
        return torch.where(z.abs() > 1, 0.5 * z, 1.0 + z + 2 * (1 - z.abs()))

    result = solve(
        f, torch.tensor([[7.0]], dtype=torch.float64), SolverSettings("fixed_point", 6, 0.0, "abs")
    )
    assert float(result.residual) == float(result.trace.min()) < float(result.trace[-1])
    assert float((f(result.z) - result.z).abs()) == float(result.residual)


@pytest.mark.parametrize("solver", ALL)
def test_no_steps_return_the_start_with_its_residual(solver):
    z0 = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    result = solve(lambda z: 2 * z, z0, SolverSettings(solver, 0))
    assert torch.equal(result.z, z0) and torch.equal(result.f_z, 2 * z0)
    # 5 / 5, and 0/0 := 0
    assert result.rel_residual.tolist() == [1.0, 0.0] and result.abs_residual.tolist() == [5.0, 0.0]
    assert result.status.tolist() == [SolverStatus.MAX_STEPS, SolverStatus.CONVERGED]
    assert result.trace.shape == (1, 2) and result.n_f_evals == 1 and result.steps.tolist() == [0, 0]


def test_relative_residual_at_zero_is_infinite():
    result = solve(lambda z: z + 1, torch.zeros(1, 2), SolverSettings("fixed_point", 0))
    assert result.rel_residual.tolist() == [math.inf]


@pytest.mark.parametrize("solver", ALL)
@pytest.mark.parametrize("shape", [(1,), (1, 1), (3,), (2, 3), (1, 2, 3), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_trailing_shape_and_dtype(solver, shape, dtype):
    z0 = torch.zeros(shape, dtype=dtype, requires_grad=True)
    result = solve(torch.cos, z0, SolverSettings(solver, 60, 1e-5))
    assert result.z.shape == result.f_z.shape == shape
    assert result.z.dtype == result.residual.dtype == dtype and not result.z.requires_grad
    assert result.status.shape == result.steps.shape == result.residual.shape == shape[:1]
    torch.testing.assert_close(
        result.z, torch.full(shape, COSINE_FIXED_POINT, dtype=dtype), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("solver", ALL)
def test_the_loop_reads_no_value_on_the_host_of_an_accelerator(solver):
    # meta tensors have no values: any read of one raises
    z0 = torch.zeros(3, 4, device="meta")
    result = solve(torch.cos, z0, SolverSettings(solver, 8))
    assert result.z.shape == (3, 4) and result.trace.shape == (9, 3)


@pytest.mark.parametrize("solver", ALL)
def test_running_all_steps_gives_what_stopping_early_gives(solver, monkeypatch):
    problem = mixed_difficulty()
    choice = SolverSettings(solver, 150, 1e-8)
    early = solve(problem.f, problem.z0, choice)
    for module in ("solvers", "proposals", "watch", "rows", "call"):
        monkeypatch.setattr(f"deq.{module}.host_may_look", lambda z: False)
    late = solve(problem.f, problem.z0, choice)
    assert torch.equal(early.z, late.z) and torch.equal(early.status, late.status)
    assert torch.equal(early.steps, late.steps) and torch.equal(early.residual, late.residual)
    assert late.n_f_evals == 151


# options


def test_broyden_restarts_when_its_memory_is_full():
    problem = expansion()
    tight = solve(problem.f, problem.z0, SolverSettings("broyden", 4, 0.0, options={"memory": 2}))
    roomy = solve(problem.f, problem.z0, SolverSettings("broyden", 4, 0.0))
    torch.testing.assert_close(tight.trace[:4], roomy.trace[:4], rtol=1e-12, atol=0)  # pairs, and a matrix
    assert not torch.allclose(tight.trace[4], roomy.trace[4])
    contraction = solve(torch.cos, problem.z0, SolverSettings("broyden", 60, 1e-9, options={"memory": 2}))
    assert contraction.converged.all()


def test_anderson_mixes_and_survives_parallel_differences():
    z0 = torch.zeros(2, 3, dtype=torch.float64)
    half = solve(lambda z: z * 0 + 1, z0, SolverSettings("anderson", 1, 0.0, "abs", {"mixing": 0.5}))
    assert torch.equal(half.z, z0 + 0.5)
    # all differences are parallel: the normal equations have rank one at every step
    for ridge in (0.0, None):
        parallel = solve(
            lambda z: 0.9 * z + 1, z0, SolverSettings("anderson", 60, 1e-9, options={"ridge": ridge})
        )
        assert parallel.converged.all()


def test_float32_anderson_with_a_failing_factorisation_still_answers(monkeypatch):
    monkeypatch.setattr(
        torch.linalg, "cholesky_ex", lambda a: (a * math.nan, torch.ones(len(a), dtype=torch.int32))
    )
    result = solve(torch.cos, torch.zeros(2, 3), SolverSettings("anderson", 80, 1e-5))
    picard = solve(torch.cos, torch.zeros(2, 3), SolverSettings("fixed_point", 80, 1e-5))
    assert result.converged.all() and torch.equal(result.steps, picard.steps)
