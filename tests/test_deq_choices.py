"""Choices of a solve: damping, patience, waiting, recorded states, phantom gradients, Krylov, one's own solver."""

from __future__ import annotations

import pytest
import torch

from deq import Solver, SolverSettings, SolverStatus, equilibrium, solve, trajectory, unroll
from problems import NEWTON, affine, layer_and_input, mixed_difficulty, normal, tight

# damping, patience, waiting


@pytest.mark.parametrize("solver", ["fixed_point", "broyden"])
@pytest.mark.parametrize("damping", [0.3, 0.7])
def test_damping_takes_that_share_of_the_step(solver, damping):
    # Picard on z = -2 z + 3 diverges, half of its step does not
    z0 = normal(3, 2, seed=1)
    half = solve(lambda z: -2 * z + 3, z0, SolverSettings(solver, 1, 0.0, options={"damping": damping}))
    torch.testing.assert_close(half.f_z, -2 * (z0 + damping * (3 - 3 * z0)) + 3)
    result = solve(lambda z: -2 * z + 3, z0, SolverSettings(solver, 200, 1e-10, options={"damping": min(damping, 0.6)}))
    assert result.converged.all()
    torch.testing.assert_close(result.z, torch.ones_like(z0))


@pytest.mark.filterwarnings("ignore::deq.ConvergenceWarning")
@pytest.mark.parametrize("solver", ["fixed_point", "broyden", "anderson", "newton"])
def test_patience_ends_at_the_floor_of_rounding(solver):
    w, x = 0.3 * normal(4, 4, seed=2).float(), normal(64, 4, seed=3).float()

    def f(z):
        return torch.tanh(z @ w + x)

    endless = solve(f, torch.zeros_like(x), SolverSettings(solver, 200, 1e-12))
    patient = solve(f, torch.zeros_like(x), SolverSettings(solver, 200, 1e-12, patience=4))
    stopped = patient.status != SolverStatus.CONVERGED
    assert (endless.steps[stopped] > patient.steps[stopped]).all() and int(patient.steps.max()) < 60
    assert (patient.status[stopped] == SolverStatus.STAGNATED).all() and patient.residual.max() < 1e-6
    assert stopped.any() and "stagnated" in patient.describe()


def test_waiting_for_all_improves_the_samples_that_were_done_first():
    problem = mixed_difficulty()
    early = solve(problem.f, problem.z0, SolverSettings("fixed_point", 400, 1e-4))
    waited = solve(problem.f, problem.z0, SolverSettings("fixed_point", 400, 1e-4, wait_for_all=True))
    assert waited.converged.all() and waited.n_f_evals == early.n_f_evals
    assert (waited.residual[1:3] < 1e-10).all() and (early.residual[1:3] > 1e-6).all()
    assert (waited.steps == waited.n_f_evals - 1).all()


def test_waiting_for_all_does_not_wait_for_the_lost(monkeypatch):
    c, x = torch.tensor([[0.5], [3.0], [0.1]], dtype=torch.float64), torch.tensor([[1.0], [1.0], [torch.nan]])

    def run():
        return solve(lambda z: c * z + x, torch.zeros(3, 1, dtype=torch.float64),
                     SolverSettings("fixed_point", 400, 1e-9, wait_for_all=True))  # fmt: skip

    result = run()
    assert result.status.tolist() == [SolverStatus.CONVERGED, SolverStatus.DIVERGED, SolverStatus.NON_FINITE]
    assert result.n_f_evals < 60
    for module in ("solvers", "proposals", "watch", "rows", "call"):
        monkeypatch.setattr(f"deq.{module}.host_may_look", lambda z: False)
    blind = run()
    assert torch.equal(blind.status, result.status) and torch.equal(blind.steps, result.steps)
    assert torch.equal(blind.z.nan_to_num(), result.z.nan_to_num())


# polish


@pytest.mark.parametrize("stop_mode", ["rel", "abs"])
@pytest.mark.parametrize("solver", ["fixed_point", "anderson", "broyden", "newton"])
def test_polish_answers_with_f_of_the_iterate(solver, stop_mode):
    a, b, z_star = affine(4, 3, 0.6, seed=31)
    plain, polished = (
        solve(lambda z: z @ a.T + b, torch.zeros_like(b), SolverSettings(solver, 40, 1e-3, stop_mode, polish=polish))
        for polish in (False, True)
    )
    assert torch.equal(polished.z, plain.z @ a.T + b) and torch.equal(polished.residual, plain.residual)
    assert polished.n_f_evals == plain.n_f_evals
    # the error of an affine map shrinks by its norm at least
    error, before = (torch.linalg.vector_norm(z - z_star, dim=1) for z in (polished.z, plain.z))
    assert (error <= 0.6 * before + 1e-15).all()


def test_polish_backward_is_one_more_term_of_the_neumann_series():
    layer, x = layer_and_input()
    z = [
        equilibrium(layer.bind(x), torch.zeros_like(x), NEWTON, SolverSettings("fixed_point", k, 0.0, polish=polish))[0]
        for k, polish in ((3, True), (4, False))
    ]
    polished, longer = (torch.autograd.grad(value.square().sum(), (layer.w, x)) for value in z)
    for a, b in zip(polished, longer):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["exact", "gmres", "bicgstab", "phantom"])
def test_polish_is_refused_where_nothing_is_iterated(name):
    with pytest.raises(ValueError, match=f"polish is for solvers that iterate.*not {name}"):
        SolverSettings(name, polish=True)


# the two ways of keeping the books


def hard_batch(kind: str):
    """Maps of (6, 3) to itself whose samples converge at different steps, diverge, grow, hit the floor, are not finite."""
    c = torch.tensor([0.0, 0.3, -0.95, 1.3, 1.0, 0.5], dtype=torch.float64).unsqueeze(1)
    x = normal(6, 3, seed=41)
    if kind == "lost on the way":
        return lambda z: torch.where(z.abs().amax(1, keepdim=True) > 50, torch.nan, c * z + x)
    if kind == "never finite":
        x = x.index_fill(0, torch.tensor([1]), torch.nan).index_fill(0, torch.tensor([5]), torch.inf)
    if kind == "cubic":
        return lambda z: c * z + 0.1 * z**3 + x
    return lambda z: c * z + x


@pytest.mark.filterwarnings("ignore::deq.ConvergenceWarning")
@pytest.mark.parametrize("tol, choices", [(1e-2, {}), (0.0, {}), (1e-9, {}), (1e-9, {"wait_for_all": True}),
                                          (1e-9, {"patience": 3}), (1e-9, {"polish": True}), (1e-9, {"stop_mode": "abs"})])
@pytest.mark.parametrize("solver", ["fixed_point", "anderson", "broyden", "newton"])
@pytest.mark.parametrize("kind", ["affine", "cubic", "lost on the way", "never finite"])
def test_all_iterates_kept_or_the_best_only_is_the_same_answer(kind, solver, tol, choices, monkeypatch):
    f, settings = hard_batch(kind), SolverSettings(solver, 60, tol, **choices)
    results = []
    for width in (1024, 0):
        monkeypatch.setattr("deq.watch.KEPT_WIDTH", width)
        results.append(solve(f, normal(6, 3, seed=42), settings, record=(0, 2, 7, 70)))
    kept, best = results
    for name in ("z", "f_z", "status", "steps", "residual", "abs_residual", "rel_residual", "trace"):
        torch.testing.assert_close(getattr(kept, name), getattr(best, name), rtol=0, atol=0, equal_nan=True, msg=name)
    assert kept.n_f_evals == best.n_f_evals
    for a, b in zip(kept.states, best.states):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


# states on the way


def test_recorded_states_are_what_shorter_solves_find():
    problem = mixed_difficulty()
    result = solve(problem.f, problem.z0, SolverSettings("broyden", 30, 1e-9), record=(0, 2, 5, 29))
    for n_steps, state in zip((0, 2, 5, 29), result.states):
        assert torch.equal(state, solve(problem.f, problem.z0, SolverSettings("broyden", n_steps, 1e-9, "rel")).z)


@pytest.mark.parametrize("backward", [tight("exact"), tight("broyden"), SolverSettings("phantom", 3)])
def test_a_trajectory_gives_each_state_the_gradient_of_an_equilibrium_there(backward):
    layer, x = layer_and_input()
    f = layer.bind(x)
    states, result = trajectory(f, torch.zeros_like(x), (1, 3), SolverSettings("fixed_point", 60, 1e-12), backward)
    alone = equilibrium(f, torch.zeros_like(x), SolverSettings("fixed_point", 60, 1e-12), backward)[0]
    assert len(states) == 3 and torch.equal(states[-1], result.z)
    torch.testing.assert_close(torch.autograd.grad(states[2].sum(), layer.w, retain_graph=True),
                               torch.autograd.grad(alone.sum(), layer.w))  # fmt: skip
    assert torch.equal(states[0], unroll(f, torch.zeros_like(x), 1)) and torch.equal(states[1], result.states[1])
    c = normal(2, 3, seed=4)
    (found,) = torch.autograd.grad((states[0] * c).sum(), layer.w)
    z = states[0].detach()
    jacobian = layer.bind(x, offers_jacobian=True).jacobian(z)
    if backward.name == "phantom":
        q = sum((c.unsqueeze(1) @ torch.linalg.matrix_power(jacobian, k)).squeeze(1) for k in range(3))
    else:
        q = torch.linalg.solve((torch.eye(3, dtype=z.dtype) - jacobian).mT, c)
    (expected,) = torch.autograd.grad((f(z) * q.detach()).sum(), layer.w)
    torch.testing.assert_close(found, expected)


# phantom gradients


@pytest.mark.parametrize("tau", [1.0, 0.5])
@pytest.mark.parametrize("n_steps", [1, 2, 5, 300])
@pytest.mark.parametrize("offers_jacobian", [False, True])
def test_phantom_is_the_gradient_of_damped_steps_unrolled_at_the_equilibrium(n_steps, tau, offers_jacobian):
    layer, x = layer_and_input()
    f = layer.bind(x, offers_jacobian)
    phantom = SolverSettings("phantom", n_steps, options={"tau": tau})
    z, result = equilibrium(f, torch.zeros_like(x), NEWTON, phantom)
    stacked = unroll(f, result.z, n_steps, tau)
    leaves, c = (layer.w, layer.b, x), normal(2, 3, seed=4)
    gradients = [torch.autograd.grad((out * c).sum(), leaves) for out in (z, stacked)]
    torch.testing.assert_close(*gradients)
    if n_steps == 300:
        exact, _ = equilibrium(f, torch.zeros_like(x), NEWTON, tight("exact"))
        torch.testing.assert_close(torch.autograd.grad((exact * c).sum(), leaves), gradients[0])


def test_phantom_says_what_it_cannot():
    for bad in ({"backward": SolverSettings("phantom", 0)}, {"backward": SolverSettings("phantom"), "grad_order": 2}):
        with pytest.raises(ValueError, match="phantom takes max_steps >= 1 and grad_order 1"):
            equilibrium(torch.cos, torch.zeros(1, 1), **bad)
    with pytest.raises(ValueError, match="'phantom' solves linear systems only"):
        solve(torch.cos, torch.zeros(1, 1), SolverSettings("phantom"))
    with pytest.raises(ValueError, match="tau must be > 0 and <= 1, not 0"):
        unroll(torch.cos, torch.zeros(1, 1), 1, tau=0)


# Krylov


@pytest.mark.parametrize(("solver", "options"), [("gmres", {"memory": 40}), ("gmres", {}), ("bicgstab", {})])
@pytest.mark.parametrize("norm", [0.9, 1.5, 3.0])
def test_krylov_solves_systems_of_any_radius_without_a_matrix(solver, options, norm):
    if norm > 2 and not options:
        pytest.skip("short recurrences and restarts are for systems that are not far from positive")
    a, _, _ = affine(40, 5, norm, seed=5)
    x = normal(5, 40, seed=6).requires_grad_()
    c = normal(5, 40, seed=7)
    c[3] = 0  # a gradient of zero is solved by zero
    z, result = equilibrium(
        lambda z: z @ a.T + x, x.detach(), NEWTON, SolverSettings(solver, 200, 1e-11, options=options)
    )
    (z * c).sum().backward()
    assert result.backward.converged.all() and result.backward.steps[3] == 0
    torch.testing.assert_close(x.grad, torch.linalg.solve(torch.eye(40, dtype=a.dtype) - a.T, c.T).T)


def test_gmres_ends_within_d_steps_and_restarts():
    a, _, _ = affine(6, 4, 0.95, seed=8)
    x = normal(4, 6, seed=9).requires_grad_()
    for options, most in (({}, 6), ({"memory": 3}, 60)):
        z, result = equilibrium(
            lambda z: z @ a.T + x, x.detach(), NEWTON, SolverSettings("gmres", 60, 1e-9, options=options)
        )
        (gradient,) = torch.autograd.grad(z.sum(), x)
        torch.testing.assert_close(
            gradient, torch.linalg.solve(torch.eye(6, dtype=a.dtype) - a.T, torch.ones(6, 4, dtype=a.dtype)).T
        )
        assert int(result.backward.steps.max()) <= most and result.backward.converged.all()


def test_gmres_survives_a_rotation_that_stalls_short_recurrences():
    # I - J^T is skew: every residual is orthogonal to its image
    turn = torch.tensor([[1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    x = normal(3, 2, seed=10).requires_grad_()
    z, result = equilibrium(lambda z: z @ turn.T + x, x.detach(), NEWTON, SolverSettings("gmres", 10, 1e-10))
    z.sum().backward()
    expected = torch.linalg.solve(torch.eye(2, dtype=turn.dtype) - turn.T, torch.ones(2, 3, dtype=turn.dtype)).T
    torch.testing.assert_close(x.grad, expected)


@pytest.mark.parametrize("solver", ["gmres", "bicgstab"])
def test_krylov_answers_without_the_hosts_look(solver, monkeypatch):
    for module in ("solvers", "proposals", "watch", "rows", "call", "adjoint", "krylov"):
        monkeypatch.setattr(f"deq.{module}.host_may_look", lambda z: False)
    a, _, _ = affine(6, 4, 0.8, seed=8)
    x = normal(4, 6, seed=9).requires_grad_()
    z, _ = equilibrium(lambda z: z @ a.T + x, x.detach(), NEWTON, SolverSettings(solver, 25, 1e-9))
    z.sum().backward()
    torch.testing.assert_close(
        x.grad, torch.linalg.solve(torch.eye(6, dtype=a.dtype) - a.T, torch.ones(6, 4, dtype=a.dtype)).T
    )


# solvers of one's own


class Secant:
    """Steffensen's idea, entry by entry: a user's solver with a history, and a count of its starts."""

    starts = 0

    def start(self, f, shape, max_steps):
        self.starts += 1
        memory = {}

        def step(z, f_z):
            g = f_z - z
            slope = (g - memory["g"]) / (z - memory["z"]) if memory else torch.full_like(g, -1.0)
            memory.update(z=z, g=g)
            return z - torch.where(slope.isfinite() & (slope != 0), g / slope, -g)

        return step


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: SolverSettings(s, 50, 1e-6)], ids=["bare", "in settings"])
def test_a_solver_of_ones_own(wrap):
    mine = Secant()
    assert isinstance(mine, Solver)
    results = [solve(torch.cos, torch.zeros(3, 2, dtype=torch.float64), wrap(mine)) for _ in range(2)]
    assert mine.starts == 2 and results[0].converged.all() and int(results[0].steps.max()) < 10
    assert torch.equal(results[0].trace, results[1].trace) and results[0].n_jacobians == 0


def test_a_bare_step_is_a_solver():
    problem = mixed_difficulty()
    mine = solve(problem.f, problem.z0, SolverSettings(lambda z, f_z: f_z, 30))
    assert torch.equal(mine.trace, solve(problem.f, problem.z0, SolverSettings("fixed_point", 30)).trace)


def test_a_bare_solver_serves_the_equilibrium_as_well():
    x = normal(2, 3, seed=12).requires_grad_()
    z, result = equilibrium(lambda z: 0.3 * torch.cos(z) + x, torch.zeros_like(x), Secant(), lambda q, h_q: h_q)
    expected, _ = equilibrium(lambda z: 0.3 * torch.cos(z) + x, torch.zeros_like(x), NEWTON, tight("exact"))
    assert result.converged.all()
    found, exact = (torch.autograd.grad(out.sum(), x) for out in (z, expected))
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-6)


def test_ones_own_solver_of_the_backward_pass():
    x = normal(4, 5, seed=11).requires_grad_()
    expected = None
    for backward in (tight("exact"), SolverSettings(lambda q, h_q: q + 0.15 * (h_q - q), 4000, 1e-12)):
        z, _ = equilibrium(lambda z: -1.5 * torch.tanh(z) + x, x.detach(), NEWTON, backward)
        (gradient,) = torch.autograd.grad(z.sum(), x)
        expected = gradient if expected is None else expected
        torch.testing.assert_close(gradient, expected)
