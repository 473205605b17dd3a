"""Solvers: mathematical facts on a zoo with known answers, then statuses, guards and errors."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from deq import SolverSettings, SolverStatus, solve
from problems import (
    ALL,
    CASE_NAMES,
    CASES,
    COSINE_FIXED_POINT,
    affine,
    expansion,
    mixed_difficulty,
    normal,
    rotation,
    with_spectral_norm,
)

STRICT = {"tol": 1e-10, "stop_mode": "abs"}


# mathematics


@pytest.mark.parametrize(("problem", "solver"), CASES, ids=CASE_NAMES)
def test_every_solver_finds_the_known_answer(problem, solver):
    result = solve(problem.f, problem.z0, SolverSettings(solver, problem.max_steps, **STRICT))
    assert result.converged.all(), result.describe()
    # ||z - z*|| <= ||(I - J)^-1|| ||f(z) - z||, and no problem of the zoo exceeds a factor of 1e3
    torch.testing.assert_close(result.z, problem.z_star, rtol=0, atol=1e-7)
    torch.testing.assert_close(result.f_z, problem.f(result.z), rtol=0, atol=0)


def test_picard_residuals_decay_at_the_contraction_factor():
    problem = mixed_difficulty()
    result = solve(problem.f, problem.z0, SolverSettings("fixed_point", 20, 0.0, "abs"))
    ratios = result.trace[6:16] / result.trace[5:15]
    expected = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64).expand(10, 3)
    torch.testing.assert_close(ratios[:, 1:], expected, rtol=1e-6, atol=0)


def test_first_step_of_broyden_and_anderson_is_picards():
    z0 = normal(3, 4, seed=11)
    traces = [
        solve(torch.cos, z0, SolverSettings(s, 1, 0.0)).trace for s in ("fixed_point", "broyden", "anderson")
    ]
    torch.testing.assert_close(traces[1], traces[0], rtol=1e-13, atol=0)
    torch.testing.assert_close(traces[2], traces[0], rtol=1e-13, atol=0)


@pytest.mark.parametrize("n_dims", [1, 2, 5, 8])
def test_broyden_ends_within_2d_steps_on_linear_maps(n_dims):
    # Gay's theorem (SIAM J. Numer. Anal. 16, 1979): 2d updates suffice, whatever the eigenvalues
    a, b, z_star = affine(n_dims, 6, 3.0, seed=20 + n_dims)
    result = solve(
        lambda z: z @ a.T + b, torch.zeros_like(b), SolverSettings("broyden", 2 * n_dims + 1, 1e-7, "abs")
    )
    assert result.converged.all(), result.trace
    torch.testing.assert_close(result.z, z_star, rtol=0, atol=1e-5)


def test_anderson_with_full_memory_ends_within_d_plus_1_steps_on_linear_maps():
    # Walker & Ni 2011: equivalent to GMRES, which ends after d steps; Anderson evaluates one more
    a, b, z_star = affine(6, 5, 0.8, seed=31)
    result = solve(
        lambda z: z @ a.T + b, torch.zeros_like(b), SolverSettings("anderson", 8, 1e-6, "abs", {"memory": 6})
    )
    assert result.converged.all() and int(result.steps.max()) <= 8
    torch.testing.assert_close(result.z, z_star, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mixing", [1.0, 0.6])
def test_anderson_follows_its_definition_when_the_window_slides(mixing):
    # the textbook's form, apart from ours: weights that sum to one over the last 4 iterates, by least squares
    w, x = with_spectral_norm(normal(8, 8, seed=35), 0.95), normal(1, 8, seed=36)

    def f(z):
        return torch.tanh(z @ w.T + x)

    zs, residuals = [torch.zeros_like(x)], []
    for _ in range(12):
        window = torch.cat(zs[-4:])
        g = f(window) - window
        residuals.append(g[-1].norm())
        weights = torch.ones(1, dtype=torch.float64)
        if len(window) > 1:
            free = torch.linalg.lstsq((g[:-1] - g[-1]).T, -g[-1].unsqueeze(1)).solution.flatten()
            weights = torch.cat([free, 1 - free.sum(dim=0, keepdim=True)])
        zs.append((weights @ (window + mixing * g)).unsqueeze(0))
    options = {"memory": 3, "mixing": mixing}
    result = solve(f, torch.zeros_like(x), SolverSettings("anderson", 11, 0.0, "abs", options))
    torch.testing.assert_close(result.trace.flatten(), torch.stack(residuals), rtol=1e-6, atol=1e-13)


def test_anderson_keeps_its_rate_when_differences_shrink_by_decades():
    # old differences are 1e6 times longer than new ones here; a ridge relative to them would stop progress
    a = torch.diag(torch.tensor([0.05, -0.03, 0.02], dtype=torch.float64))
    result = solve(
        lambda z: z @ a + 1, torch.zeros(1, 3, dtype=torch.float64), SolverSettings("anderson", 8, 1e-14)
    )
    assert result.converged.all(), result.trace


def test_newton_converges_quadratically_on_the_cosine():
    z0 = torch.tensor([[0.5]], dtype=torch.float64)
    error = []
    for n_steps in range(4):
        z = solve(torch.cos, z0, SolverSettings("newton", n_steps, 0.0)).z
        error.append(abs(float(z) - COSINE_FIXED_POINT))
    # Newton's constant for cos(z) - z at its root: cos / (2 (1 + sin)) = 0.2207
    assert error[2] / error[1] ** 2 == pytest.approx(0.2207, rel=0.02)
    assert error[3] / error[2] ** 2 == pytest.approx(0.2207, rel=0.02)


def test_newton_solves_an_affine_map_in_one_step_with_one_jacobian():
    a, b, _ = affine(5, 4, 3.0, seed=37)
    result = solve(lambda z: z @ a.T + b, torch.zeros_like(b), SolverSettings("newton", 5, 1e-12))
    assert result.steps.tolist() == [1] * 4 and result.n_jacobians == 1 and result.n_f_evals == 2


def test_anderson_turns_a_rotation_inwards_with_enough_memory():
    problem = rotation()
    result = solve(problem.f, problem.z0, SolverSettings("anderson", 400, 1e-6, "abs", options={"memory": 14}))
    assert result.converged.all(), result.describe()
    torch.testing.assert_close(result.z, problem.z_star, rtol=0, atol=1e-4)


def test_newton_prefers_the_jacobian_that_f_offers():
    class Wrong:
        def __call__(self, z):
            return 0.5 * z + 1

        def jacobian(self, z):
            return torch.zeros(len(z), 2, 2, dtype=z.dtype)  # zero: Newton becomes Picard

    f = Wrong()
    z0 = torch.zeros(3, 2, dtype=torch.float64)
    newton, picard = (solve(f, z0, SolverSettings(name, 6, 0.0)) for name in ("newton", "fixed_point"))
    assert torch.equal(newton.trace, picard.trace)


def test_newton_takes_value_and_jacobian_from_one_pass_where_f_offers_that():
    a, b, _ = affine(5, 4, 0.9, seed=37)
    z0, seen = torch.zeros_like(b), []

    class Joint:
        def __call__(self, z):
            raise AssertionError("the value comes with the Jacobian")

        def value_and_jacobian(self, z):
            seen.append(z.clone())
            return torch.tanh(z @ a.T + b), (1 - torch.tanh(z @ a.T + b) ** 2).unsqueeze(2) * a

    settings = SolverSettings("newton", 20, 1e-10)
    joint, plain = (solve(f, z0, settings) for f in (Joint(), lambda z: torch.tanh(z @ a.T + b)))
    assert joint.converged.all() and len(seen) == joint.n_f_evals == plain.n_f_evals
    torch.testing.assert_close(joint.trace, plain.trace, rtol=1e-6, atol=1e-12)
    Joint.value_and_jacobian = lambda self, z: (z, z)
    with pytest.raises(ValueError, match="jacobian"):
        solve(Joint(), z0, settings)


@pytest.mark.parametrize("width", [1, 4, 8])
@pytest.mark.parametrize("damping", [1.0, 0.6])
def test_broyden_with_its_matrix_whole_takes_the_steps_of_its_pairs(width, damping, monkeypatch):
    """Also beyond convergence, where updates are lost in rounding, and for a sample whose f does not change."""
    a, b, _ = affine(width, 5, 1.4, seed=38)
    b[0] = torch.nan
    f = lambda z: torch.where(torch.arange(5).unsqueeze(1) == 1, b, torch.tanh(z @ a.T) + b)  # noqa: E731
    settings = SolverSettings("broyden", 40, 1e-9, options={"damping": damping, "memory": 9})
    whole = solve(f, torch.zeros_like(b), settings)
    monkeypatch.setattr("deq.proposals.WHOLE_WIDTH", 0)
    pairs = solve(f, torch.zeros_like(b), settings)
    assert torch.equal(whole.status, pairs.status) and torch.equal(whole.steps, pairs.steps)
    torch.testing.assert_close(whole.trace, pairs.trace, rtol=1e-3, atol=1e-11, equal_nan=True)
    torch.testing.assert_close(whole.z, pairs.z, rtol=1e-8, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize(("solver", "options"), [("broyden", {}), ("anderson", {"memory": 3})])
def test_values_in_a_subspace_give_the_iterates_of_the_small_problem(solver, options):
    # as many differences as dimensions would leave some of Anderson's coefficients to rounding
    # the lift repeats each of n values n times, as the layer's readouts are repeated
    n = 4
    w, x = with_spectral_norm(normal(n, n * n, seed=41), 1.5), normal(3, n * n, seed=42)

    def lift(small):
        return small.repeat_interleave(n, dim=1)

    def readout(z):
        return torch.sin((z + x) @ w.T)

    for n_steps in range(1, 9):
        choice = SolverSettings(solver, n_steps, 0.0, "abs", options=options)
        small = solve(lambda r: readout(lift(r)), torch.zeros(3, n, dtype=torch.float64), choice)
        large = solve(lambda z: lift(readout(z)), torch.zeros(3, n * n, dtype=torch.float64), choice)
        torch.testing.assert_close(large.trace, small.trace * math.sqrt(n), rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(large.z, lift(small.z), rtol=1e-6, atol=1e-12)


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    n_dims=st.integers(1, 7),
    batch=st.integers(1, 4),
    norm=st.floats(0.0, 0.9),
    solver=st.sampled_from(ALL),
    stop_mode=st.sampled_from(["rel", "abs"]),
)
def test_a_contraction_is_solved_from_anywhere(seed, n_dims, batch, norm, solver, stop_mode):
    w = with_spectral_norm(normal(n_dims, n_dims, seed=seed), norm)
    x, z0 = normal(batch, n_dims, seed=seed + 1), 5 * normal(batch, n_dims, seed=seed + 2)

    def f(z):
        return torch.tanh(z @ w.T + x)

    result = solve(f, z0, SolverSettings(solver, 400, 1e-9, stop_mode))
    truth = z0
    for _ in range(400):
        truth = f(truth)
    assert result.converged.all(), result.describe()
    torch.testing.assert_close(result.z, truth, rtol=0, atol=1e-6)
    # the report is what its definitions say
    gap = torch.linalg.vector_norm(f(result.z) - result.z, dim=1)
    torch.testing.assert_close(result.abs_residual, gap, rtol=1e-6, atol=1e-15)
    torch.testing.assert_close(result.rel_residual, gap / result.z.norm(dim=1), rtol=1e-6, atol=1e-15)
    assert torch.equal(result.residual, result.rel_residual if stop_mode == "rel" else result.abs_residual)
    assert (result.residual <= result.trace.min(dim=0).values * (1 + 1e-12)).all()


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
