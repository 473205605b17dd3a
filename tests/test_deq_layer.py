"""EquilibriumLayer: settings of training and evaluation, statistics, warm start, dropout, torch's parametrizations."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from deq import EquilibriumLayer, SolveDropout, SolverSettings, unroll
from problems import normal, tight


class Cell(nn.Module):
    def __init__(self, width=3, dropout=0.0, wrap=lambda linear: linear):
        super().__init__()
        torch.manual_seed(1)
        self.linear = wrap(nn.Linear(width, width).double())
        self.dropout = SolveDropout(dropout)

    def forward(self, z, x):
        return torch.tanh(self.dropout(0.5 * self.linear(z)) + x)


def layer_of(cell, **settings):
    return EquilibriumLayer(cell, None, SolverSettings("broyden", 60, 1e-12), tight("exact"), **settings)


def test_value_and_gradient_are_those_of_the_unrolled_cell():
    cell, x = Cell(), normal(4, 3, seed=2).requires_grad_()
    z, stacked = layer_of(cell)(x), unroll(lambda z: cell(z, x), torch.zeros_like(x), 200)
    torch.testing.assert_close(z, stacked)
    leaves = (*cell.parameters(), x)
    torch.testing.assert_close(*(torch.autograd.grad(out.square().sum(), leaves) for out in (z, stacked)))
    assert torch.autograd.gradcheck(layer_of(cell), (x,))


def test_training_and_evaluation_have_settings_of_their_own_and_the_result_is_kept():
    layer, x = layer_of(Cell(), evaluation_settings=SolverSettings("fixed_point", 2, 0.0)), normal(4, 3, seed=2)
    assert layer.last is None
    layer(x).sum().backward()
    assert layer.last.converged.all() and layer.last.backward.converged.all() and not layer.last.z.requires_grad
    layer.eval()
    layer(x)
    assert layer.last.steps.tolist() == [2] * 4
    layer.evaluation_settings = None
    layer(x)
    assert layer.last.converged.all()


def test_warm_start_on_request_and_only_where_it_fits():
    layer, x = layer_of(Cell()), normal(4, 3, seed=2)
    z = layer(x)
    cold = layer.last.steps
    layer(x)
    assert torch.equal(layer.last.steps, cold)
    again = layer(x + 1e-9, warm_start=True)
    assert (layer.last.steps < cold).all()
    torch.testing.assert_close(again, z, rtol=0, atol=1e-7)
    layer(x[:2], warm_start=True)
    torch.testing.assert_close(layer.last.z, z[:2].detach())
    poisoned = x.clone()
    poisoned[1] = math.nan
    assert layer(poisoned)[1].isnan().all()
    layer(x, warm_start=True)
    assert layer.last.converged.all()


def test_a_start_and_a_state_of_ones_own():
    layer = EquilibriumLayer(
        lambda z, x, y: {"a": 0.5 * z["b"] + x, "b": 0.5 * z["a"] + y},
        lambda x, y: {"a": torch.zeros_like(x), "b": torch.zeros_like(y)},
    )
    z = layer(torch.ones(2, 1), torch.zeros(2, 1))
    torch.testing.assert_close(z["a"], torch.full((2, 1), 4 / 3))
    layer(torch.ones(2, 1), torch.zeros(2, 1), warm_start=True)
    assert layer.last.steps.tolist() == [0, 0]
    assert layer(torch.ones(2, 1), torch.zeros(2, 1), z0=z)["b"].shape == (2, 1)


def test_one_dropout_mask_per_solve():
    cell, x = Cell(dropout=0.5), normal(4, 3, seed=2)
    layer = layer_of(cell)
    z = layer(x)
    assert layer.last.converged.all()
    torch.testing.assert_close(cell(z, x), z)
    mask = cell.dropout._mask
    assert set(mask.unique().tolist()) == {0.0, 2.0}
    z.sum().backward()
    assert not torch.equal(layer(x), z) and not torch.equal(cell.dropout._mask, mask)
    layer.eval()
    torch.testing.assert_close(layer(x), layer(x), rtol=0, atol=0)
    with pytest.raises(ValueError, match="p must be >= 0 and < 1, not 1"):
        SolveDropout(1)


@pytest.mark.parametrize(
    "wrap", [parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal]
)
def test_torchs_parametrizations_serve(wrap):
    cell, x = Cell(wrap=wrap), normal(4, 3, seed=2)
    layer, calls = layer_of(cell), []
    cell.linear.parametrizations.weight[0].register_forward_hook(lambda *_: calls.append(1))
    z = layer(x)
    # once per solve, so that f is one map though spectral_norm iterates at every call in training
    assert len(calls) == 1 and layer.last.converged.all()
    leaves = list(cell.parameters())
    gradients = torch.autograd.grad(z.square().sum(), leaves)
    cell.eval()
    z = unroll(lambda z: cell(z, x), torch.zeros_like(x), 200)
    torch.testing.assert_close(torch.autograd.grad(z.square().sum(), leaves), gradients, rtol=1e-5, atol=1e-8)


def test_it_can_be_copied_and_saved():
    layer, x = layer_of(Cell()), normal(4, 3, seed=2)
    z = layer(x)
    twin = copy.deepcopy(layer)
    assert twin.last is None and layer.last is not None and torch.equal(twin(x), z)
    stream = io.BytesIO()
    torch.save(layer, stream)
    stream.seek(0)
    assert torch.equal(torch.load(stream, weights_only=False)(x), z)
    other = layer_of(Cell())
    other.load_state_dict(layer.state_dict())
    assert "broyden" in repr(other) and torch.equal(other(x), z)
