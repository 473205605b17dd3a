"""Monotone layers: one equilibrium from everywhere, found by splitting where Picard runs away; and its gradient."""

from __future__ import annotations

import pytest
import torch

from deq import Solver, SolverSettings, SolverStatus, equilibrium, solve
from deq.monotone import BoundMonotone, ForwardBackward, MonotoneLayer, PeacemanRachford
from problems import normal, tight

SPLITTINGS = [ForwardBackward, PeacemanRachford]


def bound(scale=2.0, n_units=6, m=0.5, seed=1):
    torch.manual_seed(seed)
    layer = MonotoneLayer(3, n_units, m, scale).double()
    x = normal(5, 3, seed=2)
    return layer, x, layer.bind(x)


@pytest.mark.parametrize("splitting", SPLITTINGS)
def test_it_is_a_solver_and_finds_the_one_equilibrium_from_everywhere(splitting):
    layer, x, f = bound()
    assert isinstance(splitting(f), Solver)
    settings = SolverSettings(splitting(f), 20_000, 1e-11, "abs")
    ends = [solve(f, 10 * normal(5, 6, seed=seed), settings) for seed in (3, 4)]
    assert all(end.converged.all() for end in ends)
    torch.testing.assert_close(ends[0].z, ends[1].z, rtol=0, atol=1e-8)
    # the definition, by complementarity: z >= 0, z >= W z + c, and one of the two is tight
    slack = ends[0].z - ends[0].z @ layer.weight().T - layer.inject(x)
    assert ends[0].z.min() >= 0 and slack.min() > -1e-9 and (slack * ends[0].z).abs().max() < 1e-8


@pytest.mark.filterwarnings("ignore::deq.ConvergenceWarning")
def test_picard_runs_away_where_splitting_converges_and_peaceman_rachford_is_the_faster():
    _, _, f = bound()
    picard = solve(f, torch.zeros(5, 6, dtype=torch.float64), SolverSettings("fixed_point", 500))
    assert (picard.status != SolverStatus.CONVERGED).all()
    steps = []
    for splitting in SPLITTINGS:
        result = solve(f, torch.zeros(5, 6, dtype=torch.float64), SolverSettings(splitting(f), 20_000, 1e-8))
        assert result.converged.all()
        steps.append(int(result.steps.max()))
    assert steps[1] < steps[0] / 5


def test_forward_backward_falls_at_least_at_its_rate():
    _, _, f = bound(scale=0.7)
    z_star = solve(f, torch.zeros(5, 6, dtype=torch.float64), SolverSettings(PeacemanRachford(f), 2000, 1e-14, "abs")).z
    eye = torch.eye(6, dtype=torch.float64)
    rate = (1 - (f.m / torch.linalg.matrix_norm(eye - f.w, 2)) ** 2).sqrt()
    z, step = torch.zeros(5, 6, dtype=torch.float64), ForwardBackward(f).start(f, torch.Size((5, 6)), 1)
    for _ in range(40):
        moved = step(z, f(z))
        assert ((moved - z_star).norm(dim=1) <= rate * (z - z_star).norm(dim=1) + 1e-9).all()
        z = moved


@pytest.mark.parametrize(("splitting", "backward"), [(PeacemanRachford, "exact"), (PeacemanRachford, "gmres"),
                                                      (PeacemanRachford, "broyden"), (ForwardBackward, "exact")])  # fmt: skip
def test_its_gradient_against_finite_differences(splitting, backward):
    layer, x, _ = bound(scale=1.0, n_units=3, m=1.0)

    def z_star(a, b_skew, x):
        parts = {"a": a, "b_skew": b_skew}
        w = torch.func.functional_call(Weight(layer), {f"layer.{k}": v for k, v in parts.items()}, ())
        f = BoundMonotone(w, layer.inject(x), layer.m)
        settings = SolverSettings(splitting(f), 20_000, 1e-12, "abs")
        return equilibrium(f, x.new_zeros(len(x), 3), settings, tight(backward))[0]

    leaves = (layer.a, layer.b_skew, x[:2].clone().requires_grad_())
    assert torch.autograd.gradcheck(z_star, leaves, eps=1e-6, atol=1e-5)


class Weight(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self):
        return self.layer.weight()


def test_w_is_monotone_by_construction():
    layer, _, f = bound(scale=5.0)
    symmetric = torch.eye(6, dtype=torch.float64) - (f.w + f.w.T) / 2
    assert torch.linalg.eigvalsh(symmetric).min() >= layer.m - 1e-9
    with pytest.raises(ValueError, match="m must be > 0, not 0"):
        MonotoneLayer(1, 1, 0)
