"""What goes wrong in a solve is said, and costs no one else: hidden divergence, samples without a finite f."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from deq import ConvergenceError, ConvergenceWarning, SolverSettings, SolverStatus, equilibrium, solve
from problems import ALL, BACKWARD, NEWTON, normal, tight

# Anderson with a ridge that drowns the normal equations is Picard
GROWING = [
    SolverSettings("fixed_point"),
    SolverSettings("anderson", options={"ridge": 1e6}),
    SolverSettings(lambda z, f_z: f_z),
    SolverSettings("fixed_point", options={"damping": 0.9}),
]


def diagonal(*slopes: float) -> torch.Tensor:
    return torch.tensor(slopes, dtype=torch.float64)


# growth of z hides no divergence


@pytest.mark.filterwarnings("ignore::deq.ConvergenceWarning")
@pytest.mark.parametrize("slope", [1.2, -1.2, 1.05, 3.0])
@pytest.mark.parametrize("n_steps", [10, 50, 200])
def test_backward_picard_beyond_radius_one_returns_nothing_blown_up(slope, n_steps):
    x = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    z_star, result = equilibrium(
        lambda z: z * diagonal(slope, 0.3) + x, torch.zeros_like(x), NEWTON, SolverSettings("fixed_point", n_steps)
    )
    z_star.sum().backward()
    assert x.grad.abs().max() < 20 and not result.backward.converged.any()
    if n_steps * abs(math.log(abs(slope))) > math.log(200):
        assert (result.backward.status == SolverStatus.DIVERGED).all(), result.backward.describe()


@pytest.mark.filterwarnings("ignore::deq.ConvergenceWarning")
@pytest.mark.parametrize("solver", GROWING, ids=["picard", "anderson", "own", "damped"])
@pytest.mark.parametrize("start", [0.0, 1.0, 30.0])
def test_forward_growth_is_told_from_convergence(solver, start):
    x = normal(3, 2, seed=1)
    result = solve(lambda z: z * diagonal(1.2, 0.3) + x, torch.full_like(x, start), solver)
    picked = torch.linalg.vector_norm(result.z, dim=1)
    assert (picked < 15 * max(1.0, start)).all(), result.z
    assert (result.status == SolverStatus.DIVERGED).all(), result.describe()


@pytest.mark.filterwarnings("ignore::deq.ConvergenceWarning")
@pytest.mark.parametrize("solver", ["fixed_point", lambda z, f_z: f_z], ids=["picard", "own"])
@pytest.mark.parametrize("f", [lambda z: z + 1, lambda z: 1.005 * z + 1], ids=["shift", "slow growth"])
def test_a_relative_residual_that_growth_alone_has_made_small_is_no_convergence(f, solver):
    result = solve(f, torch.zeros(2, 1, dtype=torch.float64), SolverSettings(solver, 400, 1e-2))
    assert result.trace.min() <= 1e-2 and not result.converged.any()


def test_a_start_that_solves_has_converged_and_one_near_needs_no_fall():
    result = solve(
        torch.cos, torch.full((1, 1), 0.7390851332, dtype=torch.float64), SolverSettings("fixed_point", tol=1e-3)
    )
    assert result.converged.all() and result.steps.tolist() == [0]


# a failed sample costs nobody else


def broken_in(sample: int, kind: str):
    """(w, x) -> f, whose sample is not finite, in several ways that leave NaN or inf in the graph."""

    def make(w, x):
        mask = (torch.arange(len(x)) == sample).unsqueeze(1)

        def f(z):
            inner = torch.tanh(z @ w + x)
            if kind == "nan":
                return torch.where(mask, math.nan, 1.0) * inner
            if kind == "inside":
                return torch.tanh(torch.where(mask, math.nan, 1.0) * z @ w) @ w + x
            if kind == "overflow":
                return inner * torch.where(mask, (1e3 * torch.ones_like(z)).exp(), 1.0) @ w
            if kind == "pole":
                return inner + torch.where(mask, 0.0 * inner, 1.0).log() @ w
            if kind == "later":  # finite at the start
                return inner + torch.where(mask & (z.abs().amax(dim=1, keepdim=True) > 0.1), math.nan, 0.0)
            raise ValueError(kind)

        return f

    return make


KINDS = ["nan", "inside", "overflow", "pole", "later"]


@pytest.mark.filterwarnings("ignore::deq.ConvergenceWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backward", [*BACKWARD, "phantom"])
@pytest.mark.parametrize("forward", ["broyden", "fixed_point"])
def test_shared_parameters_get_the_gradient_of_the_sound_samples_alone(forward, backward, kind):
    w0, x = 0.2 * normal(3, 3, seed=2), normal(4, 3, seed=3)

    def gradient(make, x):
        w = w0.clone().requires_grad_()
        # parameters meet sums over samples that hold other samples' zeros, so the bits may differ in the last digit
        forward_settings = SolverSettings(forward, 60, 1e-12)
        z, result = equilibrium(make(w, x), torch.zeros_like(x), forward_settings, SolverSettings(backward, 60, 1e-12))
        z[result.status != SolverStatus.NON_FINITE].square().sum().backward()
        return w.grad, result

    spoilt, result = gradient(broken_in(1, kind), x)
    mates = [0, 2, 3]
    sound, _ = gradient(broken_in(-1, kind), x[mates])
    assert result.counts()[SolverStatus.NON_FINITE] == 1
    torch.testing.assert_close(spoilt, sound, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore::deq.ConvergenceWarning")
def test_even_a_loss_over_all_samples_leaves_the_gradient_finite():
    w, x = (0.2 * normal(3, 3, seed=2)).requires_grad_(), normal(4, 3, seed=3)
    z, result = equilibrium(broken_in(1, "nan")(w, x), torch.zeros_like(x))
    z.square().mean().backward()
    assert z[1].isnan().all() and w.grad.isfinite().all() and w.grad.abs().sum() > 0


@pytest.mark.filterwarnings("ignore::deq.ConvergenceWarning")
@pytest.mark.parametrize("backward", BACKWARD)
def test_a_pole_of_the_derivative_alone_gives_no_gradient_and_is_counted(backward):
    # sqrt at 0: f is finite there, its slope is not
    w = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    z, result = equilibrium(lambda z: w * (z.abs() * x).sqrt(), torch.zeros_like(x) + x, NEWTON, tight(backward))
    z.sum().backward()
    # z = w sqrt(z x) gives z = w^2 x
    assert result.backward.status[0] == SolverStatus.NON_FINITE
    torch.testing.assert_close(w.grad, 2 * w.detach())


@pytest.mark.parametrize("backward", BACKWARD)
def test_a_gradient_that_comes_in_as_nan_stays_with_its_sample(backward):
    w, x = (0.2 * normal(3, 3, seed=2)).requires_grad_(), normal(3, 3, seed=3)
    z, result = equilibrium(lambda z: torch.tanh(z @ w + x), torch.zeros_like(x), NEWTON, tight(backward))
    z.backward(torch.tensor([[1.0], [math.nan], [1.0]], dtype=torch.float64).expand(3, 3))
    assert w.grad.isfinite().all() and result.backward.status.tolist() == [0, SolverStatus.NON_FINITE, 0]


@pytest.mark.parametrize("backward", BACKWARD)
def test_diverged_samples_give_no_gradient_if_asked(backward):
    slopes = torch.tensor([[0.5], [4.0]], dtype=torch.float64)

    def gradient(**choice):
        x = torch.ones(2, 1, dtype=torch.float64, requires_grad=True)
        settings = SolverSettings("fixed_point", 60, 1e-9)
        z, result = equilibrium(lambda z: slopes * z + x, torch.zeros_like(x), settings, tight(backward), **choice)
        z.sum().backward()
        return x.grad.flatten().tolist(), result

    (sound, diverged), result = gradient()
    assert result.status.tolist() == [SolverStatus.CONVERGED, SolverStatus.DIVERGED] and diverged != 0
    kept, gone = gradient(without_gradient=(SolverStatus.NON_FINITE, SolverStatus.DIVERGED))[0]
    assert kept == sound and gone == 0


@pytest.mark.filterwarnings("ignore::deq.ConvergenceWarning")
@pytest.mark.parametrize("grad_order", [1, 2])
def test_the_kept_out_sample_changes_no_second_derivative(grad_order):
    def derivative(w, x, make):
        z, result = equilibrium(make(w, x), torch.zeros_like(x), NEWTON, tight("exact"), grad_order=2)
        (first,) = torch.autograd.grad(z[result.status == SolverStatus.CONVERGED].square().sum(), w, create_graph=True)
        return torch.autograd.grad(first.square().sum(), w)[0]

    w, x = (0.2 * normal(3, 3, seed=2)).requires_grad_(), normal(4, 3, seed=3)
    spoilt = derivative(w, x, broken_in(1, "nan"))
    torch.testing.assert_close(spoilt, derivative(w, x[[0, 2, 3]], broken_in(-1, "nan")))


# what f may do to z


def writes(z):
    z.mul_(0.5).add_(1)
    return torch.cos(z)


def zeroes(z):
    kept = 0.5 * torch.cos(z.clone())
    z.zero_()
    return kept


class Reuses:
    """Answers in one and the same piece of memory."""

    def __call__(self, z):
        if torch.is_grad_enabled():
            return 0.5 * torch.cos(z)
        self.buffer = getattr(self, "buffer", torch.empty_like(z))
        return torch.mul(torch.cos(z), 0.5, out=self.buffer)


IMPURE = [
    (writes, lambda z: torch.cos(0.5 * z + 1)),
    (zeroes, lambda z: 0.5 * torch.cos(z)),
    (Reuses(), lambda z: 0.5 * torch.cos(z)),
]


@pytest.mark.parametrize("solver", ALL)
@pytest.mark.parametrize("width", [3, 600])
@pytest.mark.parametrize(("f", "pure"), IMPURE, ids=["writes", "zeroes", "reuses"])
def test_an_f_that_writes_into_z_or_reuses_memory_solves_as_a_pure_one(f, pure, solver, width):
    if solver == "newton" and width > 3:
        pytest.skip("a dense system")
    if isinstance(f, Reuses):
        f = Reuses()
    z0 = normal(2, width, seed=4)
    before = z0.clone()
    settings = SolverSettings(solver, 60, 1e-12)
    result, expected = solve(f, z0, settings), solve(pure, z0, settings)
    assert torch.equal(z0, before) and result.converged.all()
    assert torch.equal(result.z, expected.z) and torch.equal(result.f_z, expected.f_z)
    if width == 3:
        x = torch.zeros(2, width, dtype=torch.float64, requires_grad=True)
        z, _ = equilibrium(lambda z: f(z) + x, z0, settings, tight("broyden"))
        z_pure, _ = equilibrium(lambda z: pure(z) + x, z0, settings, tight("broyden"))
        torch.testing.assert_close(torch.autograd.grad(z.sum(), x), torch.autograd.grad(z_pure.sum(), x))
    assert torch.equal(z0, before)


def test_an_f_that_begins_to_write_is_refused():
    calls = []

    def f(z):
        calls.append(1)
        return 0.5 * z.add_(1) if len(calls) > 2 else 0.5 * (z + 1)

    with pytest.raises(ValueError, match=r"f writes into z in place at some calls only: give it z.clone\(\)"):
        solve(f, torch.zeros(1, 2), SolverSettings("fixed_point", 10, 0.0))


# nothing converged


def fails(solver="fixed_point", **settings):
    return SolverSettings(solver, **({"max_steps": 3} | settings))


@pytest.mark.parametrize("solver", ALL)
def test_a_batch_of_which_nothing_converged_is_warned_of(solver):
    f, z0 = (lambda z: z + 1), torch.zeros(2, 2)
    with pytest.warns(
        ConvergenceWarning, match=f"the equilibrium with {solver}: no sample .*step limit: the tolerance"
    ):
        solve(f, z0, fails(solver))
    with pytest.raises(ConvergenceError, match="2 of 2 samples step limit") as caught:
        solve(f, z0, fails(solver), throw=True)
    assert caught.value.result.z.shape == (2, 2)


@pytest.mark.parametrize("backward", BACKWARD)
def test_so_is_a_backward_solve(backward):
    x = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    settings = SolverSettings(backward, 3, 1e-9)

    def f(z):  # 0 is an equilibrium where I - J = 0
        return torch.where(z == 0, z + x, 0.0)

    z, _ = equilibrium(f, x.detach(), backward=settings)
    with pytest.warns(ConvergenceWarning, match="the implicit gradient with"):
        z.sum().backward()
    z, _ = equilibrium(f, x.detach(), backward=settings, throw=True)
    with pytest.raises(ConvergenceError, match="the implicit gradient with"):
        z.sum().backward()


def test_the_warning_is_shown_once_and_deliberate_numbers_of_steps_are_not_warned_of():
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        for scale in (1.0, 2.0, 3.0):
            solve(lambda z: z + scale, torch.zeros(2, 2), fails())
        assert len(shown) == 1
        solve(lambda z: z + 1, torch.zeros(2, 2), fails(tol=0.0))
        solve(lambda z: z + 1, torch.zeros(2, 2), fails(max_steps=0))
        solve(lambda z: z * torch.tensor([[1.0], [0.0]]) + 1, torch.zeros(2, 2), fails())
        solve(torch.cos, torch.zeros(0, 2), fails())
        assert len(shown) == 1
        # it points at the caller's line
        equilibrium(lambda z: z + 1, torch.zeros(2, 2), fails())
        assert [warning.filename for warning in shown] == [__file__] * 2
