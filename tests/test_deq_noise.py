"""Maps that are measured: floors, statuses, averages, guards; nothing is the least of several noisy residuals."""

from __future__ import annotations

import math

import pytest
import torch

from deq import ConvergenceError, ConvergenceWarning, SolverSettings, SolverStatus, equilibrium, solve
from deq.proposals import Anderson, Broyden

DIM, BATCH, SIGMA = 4, 400, 0.02  # sqrt(E ||error||^2) = SIGMA sqrt(DIM)
LENGTH = SIGMA * DIM**0.5


class Measured:
    """z -> A z + b with Gaussian errors that are new at every call; it says how large they are."""

    def __init__(self, slope=0.3, sigma=SIGMA, seed=0, tells=True):
        generator = torch.Generator().manual_seed(7)
        a = torch.randn(DIM, DIM, generator=generator, dtype=torch.float64)
        self.a = slope * a / torch.linalg.matrix_norm(a, 2)
        self.b = torch.randn(DIM, generator=generator, dtype=torch.float64)
        self.exact = torch.linalg.solve(torch.eye(DIM, dtype=torch.float64) - self.a, self.b)
        self.sigma, self.generator, self.n_calls = sigma, torch.Generator().manual_seed(seed), 0
        if tells:
            self.noise = lambda z, f_z: z.new_full((len(z),), sigma * DIM**0.5)

    def __call__(self, z):
        self.n_calls += 1
        return z @ self.a.T + self.b + self.sigma * torch.randn(z.shape, generator=self.generator, dtype=z.dtype)

    def error(self, result):
        return (result.z - self.exact).norm(dim=1)


START = torch.zeros(BATCH, DIM, dtype=torch.float64)
NAMES = ("fixed_point", "broyden", "anderson", "newton", "averaged")


@pytest.mark.parametrize("name", NAMES)
def test_the_floor_is_what_fresh_errors_make_at_the_exact_solution(name):
    f = Measured()
    at_solution = solve(f, f.exact.expand(BATCH, DIM), SolverSettings(name, 0, 0.0, "abs"))
    measured = at_solution.abs_residual.square().mean().sqrt()
    assert (at_solution.floor == LENGTH).all() and measured == pytest.approx(LENGTH, rel=0.1)
    relative = solve(f, f.exact.expand(BATCH, DIM), SolverSettings(name, 0, 0.0))
    torch.testing.assert_close(relative.floor, torch.full((BATCH,), LENGTH).double() / f.exact.norm())


@pytest.mark.parametrize("name", [name for name in NAMES if name != "averaged"])
def test_samples_stop_at_the_floor_and_say_so(name):
    f = Measured()
    result = solve(f, START, SolverSettings(name, 40, 1e-6, "abs"))
    assert (result.status == SolverStatus.AT_FLOOR).all() and result.settled.all() and not result.converged.any()
    assert "at the noise floor" in result.describe() and int(result.steps.max()) < 40
    assert f.error(result).mean() < 4 * LENGTH
    assert result.n_f_evals == f.n_calls - result.n_jacobians  # the fresh residual's is counted
    # a tolerance above the floor is met as ever
    loose = solve(f, START, SolverSettings(name, 40, 10 * LENGTH, "abs"))
    assert loose.converged.float().mean() > 0.95 and loose.steps.max() <= result.steps.max()


@pytest.mark.filterwarnings("ignore::deq.ConvergenceWarning")
def test_the_residual_is_fresh_where_the_least_of_noisy_ones_flatters():
    told = Measured()
    fresh = solve(told, START, SolverSettings("fixed_point", 10, 0.0, "abs"))
    untold = Measured(tells=False)
    least = solve(untold, START, SolverSettings("fixed_point", 10, 0.0, "abs"))
    again = (untold(least.z) - least.z).norm(dim=1)
    assert least.abs_residual.mean() < 0.75 * again.mean()  # what is never reported here
    assert fresh.abs_residual.mean() == pytest.approx(float((told(fresh.z) - fresh.z).norm(dim=1).mean()), rel=0.1)
    assert fresh.floor is not None and least.floor is None


def test_an_average_of_n_has_an_error_of_one_over_the_root_of_n():
    """For a linear map the mean of n iterates has (I - A)^-1 e / sqrt(n), to the order of what is left of the start."""
    errors = {}
    for steps in (25, 100, 400):
        f = Measured(seed=steps)
        result = solve(f, START, SolverSettings("averaged", steps, 0.0, "abs", options={"burn_in": 0.2}))
        n_averaged = steps - int(0.2 * steps)
        inverse = torch.linalg.inv(torch.eye(DIM).double() - f.a)
        predicted = SIGMA * torch.linalg.matrix_norm(inverse) / math.sqrt(n_averaged)
        errors[steps] = f.error(result).square().mean().sqrt()
        assert errors[steps] == pytest.approx(float(predicted), rel=0.15)
        assert (result.status == SolverStatus.AT_FLOOR).float().mean() > 0.9  # chi of 4 degrees is above 1.5 in 6 %
    last = Measured()
    picard = solve(last, START, SolverSettings("fixed_point", 100, 0.0, "abs", noise=1e-9))
    assert last.error(picard).mean() > 5 * errors[100]


def test_an_average_stops_once_its_own_error_meets_the_tolerance():
    f = Measured()
    result = solve(f, START, SolverSettings("averaged", 300, LENGTH / 5, "abs", options={"burn_in": 0.02}))
    assert (result.steps == 6 + 25).all()  # 25 iterates after the burn-in of 6 steps
    assert f.error(result).square().mean().sqrt() < 0.4 * LENGTH


def test_steps_that_fall_are_of_robbins_and_monro():
    """Where Picard diverges, falling steps with a power in (1/2, 1] find the solution."""
    f = Measured()
    f.a = torch.diag(torch.tensor([-3.0, 0.3, 0.1, -0.5], dtype=torch.float64))
    f.exact = f.b / (1 - f.a.diagonal())
    options = {"damping": 0.4, "power": 0.6, "burn_in": 0.3}
    result = solve(f, START, SolverSettings("averaged", 400, 0.0, "abs", options=options))
    assert f.error(result).mean() < LENGTH


def test_averaged_without_noise_is_damped_picard_and_converges():
    f = Measured(sigma=0.0, tells=False)
    result = solve(f, START[:3], SolverSettings("averaged", 60, 1e-9, options={"damping": 0.9}))
    picard = solve(f, START[:3], SolverSettings("fixed_point", 60, 1e-9, options={"damping": 0.9}))
    assert result.converged.all() and result.floor is None and (f.error(result) < 1e-8).all()
    torch.testing.assert_close(result.z, picard.z)


@pytest.mark.filterwarnings("ignore::deq.ConvergenceWarning")
@pytest.mark.parametrize(
    "name, width, slope, steps",
    [("broyden", 4, 0.3, 12), ("broyden", 12, 0.3, 12), ("anderson", 4, 0.3, 12), ("anderson", 12, 0.8, 20)],
)  # Broyden's matrix whole, and as pairs
def test_guarded_solvers_have_no_heavy_tail(name, width, slope, steps, monkeypatch):
    """Updates from differences that are mostly error throw some samples far away; with the guard none."""
    monkeypatch.setattr("deq.noise.FLOORS", 0.0)  # all steps are taken, and answered with the last

    def run():
        a = slope * torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(1)).double())[0]
        generator = torch.Generator().manual_seed(2)

        def f(z):
            return z @ a.T + 1 + SIGMA * torch.randn(z.shape, generator=generator, dtype=z.dtype)

        f.noise = lambda z, f_z: z.new_full((len(z),), SIGMA * width**0.5)
        z0 = torch.zeros(2000, width, dtype=torch.float64)
        result = solve(f, z0, SolverSettings(name, steps, 0.0, "abs"))
        exact = torch.linalg.solve(torch.eye(width).double() - a, torch.ones(width).double())
        return (result.z - exact).norm(dim=1)

    guarded = run()
    for kind in (Broyden, Anderson):
        monkeypatch.setattr(kind, "noise", property(lambda self: None, lambda self, noise: None), raising=False)
    unguarded = run()
    assert guarded.max() < 6 * guarded.median()
    assert unguarded.max() > 2 * guarded.max() and unguarded.mean() > guarded.mean()


def test_settings_name_what_is_wrong_and_outweigh_what_f_says():
    for wrong in (-1.0, math.inf, "much", True):
        with pytest.raises(ValueError, match="noise must be a number >= 0, or None"):
            SolverSettings(noise=wrong)
    with pytest.raises(ValueError, match="burn_in must be a number >= 0 and < 1"):
        SolverSettings("averaged", options={"burn_in": 1.0})
    f = Measured()
    assert solve(f, START, SolverSettings("fixed_point", 3, 0.0, noise=0)).floor is None
    own = solve(f, START, SolverSettings("fixed_point", 3, 0.0, "abs", noise=0.5))
    assert (own.floor == 0.5).all() and (own.status == SolverStatus.AT_FLOOR).all()


def test_throw_and_gradients_take_the_floor_for_an_answer():
    f = Measured()
    result = solve(f, START, SolverSettings("fixed_point", 40, 1e-6, "abs"), throw=True)
    assert result.settled.all()
    with pytest.raises(ConvergenceError):
        solve(Measured(tells=False), START, SolverSettings("fixed_point", 40, 1e-6, "abs"), throw=True)
    b = f.b.clone().requires_grad_()

    def layer(z):
        return f(z) - f.b + b

    layer.noise = f.noise
    z, result = equilibrium(layer, START, SolverSettings("averaged", 60, 0.0, "abs"), SolverSettings("exact"))
    (gradient,) = torch.autograd.grad(z.sum(), b)
    expected = BATCH * torch.linalg.inv(torch.eye(DIM).double() - f.a).sum(0)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)
    assert result.floor is not None


def test_a_mean_of_iterates_that_do_not_settle_is_not_at_the_floor():
    """Around a cycle of two the mean is no solution, however many iterates it has."""
    f = Measured(sigma=0.01)

    def cycles(z):
        return -1.5 * torch.tanh(2 * z) + 1 + 0.01 * torch.randn(z.shape, generator=f.generator, dtype=z.dtype)

    cycles.noise = lambda z, f_z: z.new_full((len(z),), 0.02)
    with pytest.warns(ConvergenceWarning, match="no sample of the batch converged"):
        result = solve(cycles, START, SolverSettings("averaged", 50, 0.01, "abs"))
    assert (result.status == SolverStatus.MAX_STEPS).all() and (result.residual > 50 * result.floor).all()


@pytest.mark.parametrize("stop_mode", ["rel", "abs"])
def test_no_sample_diverges_because_errors_once_cancelled(stop_mode):
    """The least of 50 residuals of one entry is far below the floor; against the floor nothing has grown."""
    errors = torch.Generator().manual_seed(4)

    def f(z):
        return 0.3 * z + 1 + 0.01 * torch.randn(z.shape, generator=errors, dtype=z.dtype)

    f.noise = lambda z, f_z: z.new_full((len(z),), 0.01)
    result = solve(f, torch.zeros(1000, 1).double(), SolverSettings("averaged", 50, 0.0, stop_mode))
    assert not (result.status == SolverStatus.DIVERGED).any()
    assert (result.trace.amin(0) < result.floor / 50).float().mean() > 0.3  # as `Watch` would have it
    at_floor = (result.status == SolverStatus.AT_FLOOR).double().mean()
    assert at_floor == pytest.approx(math.erf(1.5 / math.sqrt(2)), abs=0.05)  # |error| < 1.5, but for the mean's own


@pytest.mark.filterwarnings("ignore::deq.ConvergenceWarning")
@pytest.mark.parametrize("name", ["fixed_point", "averaged"])
def test_failed_samples_go_back_to_a_finite_iterate_near_the_least_residual(name):
    def grows(z):
        return 3 * z + 1 + 0.001 * torch.randn(z.shape, dtype=z.dtype)

    def breaks(z):
        return torch.where(z > 2, math.nan, z * z + 1 + 0.001 * torch.randn(z.shape, dtype=z.dtype))

    for f, status in ((grows, SolverStatus.DIVERGED), (breaks, SolverStatus.NON_FINITE)):
        f.noise = lambda z, f_z: z.new_full((len(z),), 0.001)
        settings = SolverSettings(name, 20, 0.0, "abs", {"burn_in": 0.0} if name == "averaged" else {})
        result = solve(f, torch.zeros(20, 1).double(), settings)
        assert (result.status == status).all()
        assert (result.residual < 1.01).all() and (result.z < 1.01).all() and result.f_z.isfinite().all()


@pytest.mark.filterwarnings("ignore::deq.ConvergenceWarning")
@pytest.mark.parametrize("name", ["fixed_point", "averaged"])
def test_a_state_that_grows_does_not_converge_by_its_length(name):
    generator = torch.Generator().manual_seed(0)

    def shift(z):
        return z + 1 + 0.001 * torch.randn(z.shape, dtype=z.dtype, generator=generator)

    shift.noise = lambda z, f_z: z.new_full((len(z),), 0.001)
    result = solve(shift, torch.zeros(2000, 1).double(), SolverSettings(name, 50, 0.05))
    assert (result.rel_residual < 0.05).any() and not result.settled.any()


def test_what_met_the_tolerance_but_for_errors_is_within_errors_of_it():
    f = Measured(slope=0.9)
    result = solve(f, START, SolverSettings("fixed_point", 80, 10 * LENGTH, "abs"))
    assert result.settled.all() and (result.residual <= 15 * LENGTH).all()
    assert torch.equal(result.converged, result.residual <= 10 * LENGTH) and 0.5 < result.converged.double().mean() < 1


@pytest.mark.parametrize("one_pass", [False, True])
def test_newton_takes_a_jacobian_that_is_measured_once_to_the_floor(one_pass):
    """What is wrong in J only slows the steps down, and f need not be a contraction."""
    f = Measured(sigma=0.001)
    f.a = torch.diag(torch.tensor([-1.5, 0.3, 0.1, -0.5], dtype=torch.float64))
    f.exact = f.b / (1 - f.a.diagonal())
    errors, calls = torch.Generator().manual_seed(5), []

    def jacobian(z):
        calls.append(len(z))
        return f.a + 0.02 * torch.randn(len(z), DIM, DIM, generator=errors, dtype=z.dtype)

    f.jacobian = jacobian
    if one_pass:
        f.value_and_jacobian = lambda z: (f(z), jacobian(z))
    settings = SolverSettings("newton", 20, 0.0, "abs", {"jacobians": 1})
    result = solve(f, START, settings)
    assert len(calls) == 1 and result.n_jacobians == 1 and result.n_f_evals == f.n_calls
    assert (result.status == SolverStatus.AT_FLOOR).all() and result.steps.double().mean() < 5
    amplified = 0.001 * torch.linalg.matrix_norm(torch.linalg.inv(torch.eye(DIM).double() - f.a))
    assert f.error(result).square().mean().sqrt() < 2 * amplified


def test_without_errors_newton_with_one_jacobian_is_the_chord_method():
    """Its error falls by the factor (f'(z*) - f'(z0)) / (1 - f'(z0)) a step, where Newton's is squared."""
    z0, root = torch.full((1, 1), 0.6, dtype=torch.float64), 0.7390851332151607

    def found(n_steps, jacobians):
        return solve(torch.cos, z0, SolverSettings("newton", n_steps, 0.0, "abs", {"jacobians": jacobians}))

    before, after = (float(found(n_steps, 1).z) - root for n_steps in (2, 3))
    factor = (math.sin(0.6) - math.sin(root)) / (1 + math.sin(0.6))
    assert after / before == pytest.approx(factor, rel=0.01)
    newton = found(4, None)
    assert found(4, 1).n_jacobians == 1 and newton.n_jacobians == 4 and newton.residual < 1e-15


def test_f_tells_its_errors_of_the_states_that_it_maps():
    seen = []

    def f(z):
        return {"a": 0.3 * z["a"] + 1, "b": 0.2 * z["b"]}

    def noise(z, f_z):
        seen.append((z["a"].shape, f_z["b"].shape))
        return torch.full((3,), 0.01)

    f.noise = noise
    result = solve(f, {"a": torch.ones(3, 2, 2), "b": torch.ones(3)}, SolverSettings("anderson", 30, 0.0, "abs"))
    assert (result.status == SolverStatus.AT_FLOOR).all() and set(seen) == {((3, 2, 2), (3,))}

    class Image:
        def __init__(self):
            self.noise = lambda z, f_z: z.new_full(z.shape[:1], 0.1) * (z.shape == (2, 1, 4, 4))

        def __call__(self, z):
            return 0.5 * z

    for dtype in (torch.float32, torch.bfloat16):
        start = torch.ones(2, 1, 4, 4, dtype=dtype)
        assert (solve(Image(), start, SolverSettings("broyden", 30, 0.0, "abs")).floor > 0.09).all()
    layer = Image()
    for wrong in (0.1, lambda z, f_z: torch.tensor(0.1), lambda z, f_z: 0.1):
        layer.noise = wrong
        with pytest.raises(ValueError, match=r"must return 2 numbers, one for each sample.*SolverSettings\(noise=0\)"):
            solve(layer, torch.ones(2, 1, 4, 4))
    assert solve(layer, torch.ones(2, 1, 4, 4), SolverSettings(noise=0)).floor is None


@pytest.mark.parametrize("name", NAMES)
def test_what_torch_func_sees_of_a_measured_map_is_what_the_loop_sees(name):
    x = torch.linspace(-1, 1, 6).view(2, 3).double()

    def loss(w):
        settings = SolverSettings(name, 20, 0.0, noise=1e-9)  # in truth exact, so that both see the same
        z, _ = equilibrium(lambda z: torch.tanh(z @ w + x), torch.zeros_like(x), settings, SolverSettings("exact"))
        return z.square().sum()

    ws = 0.2 * torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    batched = torch.func.vmap(torch.func.grad(loss))(ws)
    for w, gradient in zip(ws.requires_grad_(), batched):
        (one,) = torch.autograd.grad(loss(w), w)
        torch.testing.assert_close(gradient, one, rtol=1e-4, atol=1e-5)


def test_two_solves_of_the_same_errors_are_the_same():
    for name in NAMES:
        first, second = (solve(Measured(seed=3), START, SolverSettings(name, 12, 0.0)) for _ in range(2))
        assert torch.equal(first.z, second.z) and torch.equal(first.status, second.status)
