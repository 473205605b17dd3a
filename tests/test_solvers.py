"""Solvers: mathematical facts on a zoo with known answers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from deq import SolverSettings, solve
from problems import (
    ALL,
    CASE_NAMES,
    CASES,
    COSINE_FIXED_POINT,
    affine,
    mixed_difficulty,
    normal,
    rotation,
    with_spectral_norm,
)

STRICT = {"tol": 1e-10, "stop_mode": "abs"}


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
