"""Units of a classical layer read by counting: the moments of a binomial, and draws that repeat."""

import torch

from deployment.counted_units import CountedUnits
from models.classical_layers import TanhLayer


def test_counts_have_the_mean_and_the_spread_of_a_binomial_and_are_new_at_every_call():
    torch.manual_seed(0)
    layer, x = TanhLayer(16, 4), torch.randn(1, 16).expand(20000, 16)
    units = CountedUnits(layer, 25, seed=3)
    f = units.bind(x)
    z = torch.full((len(x), 4), 0.3)
    exact, counted, again = layer(z, x)[0], f(z), f(z)
    assert units.calls == 2 and not torch.equal(counted, again)
    assert torch.equal(counted, CountedUnits(layer, 25, seed=3).bind(x)(z))
    assert not torch.equal(counted, CountedUnits(layer, 25, seed=4).bind(x)(z))
    outcomes = 12.5 * (counted + 1)  # how many of 25 were +1
    assert torch.allclose(outcomes, outcomes.round(), atol=1e-4) and 0 <= outcomes.min() and outcomes.max() <= 25
    variance = (1 - exact**2) / 25
    assert ((counted.mean(0) - exact).abs() < 5 * (variance / len(x)).sqrt()).all()
    assert torch.allclose(counted.var(0), variance, rtol=0.05)
    # what the solver is told is the root mean square of the error
    errors = (counted - exact).square().sum(1).mean().sqrt()
    assert torch.allclose(f.noise(z, counted).mean(), errors, rtol=0.03)
    assert torch.corrcoef(counted.T).fill_diagonal_(0).abs().max() < 0.04  # units are drawn apart


def test_a_unit_that_is_nan_reads_nan_and_changes_no_other():
    units, values = CountedUnits(TanhLayer(16, 4), 25, seed=3), torch.tensor([[0.5, torch.nan], [-1.0, 1.0]])
    found = units.counted(values)
    assert found[0, 1].isnan() and found[0, 0].isfinite() and found[1].tolist() == [-1, 1]
