"""--b_solver identity and --gradient shift: which gradient a run takes its steps by."""

import torch

from models.table import build_model
from training.evaluation import depth_of
from training.settings import Settings


def small(**changes) -> Settings:
    return Settings(dataset="digits", num_classes=4, n_wires=4, dropout=0.0, **changes)


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
