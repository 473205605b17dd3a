"""The training step in JAX, which is timed beside ours, is the same step: values, gradient, and Adam's move."""

from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.step import Problem, Step, Variant
from circuits.circuit import build_circuit
from engines import make_engine

jax = pytest.importorskip("jax", reason="JAX is not installed (requirements-peers.txt)")
from benchmarks import jax_step, peer_steps  # noqa: E402

PROBLEM = Problem(4, 32, 3, torch.device("cpu"))


def test_loss_gradient_and_equilibrium_are_those_of_our_step():
    row = peer_steps.compare(jax_step, PROBLEM)
    assert row["equal"] and max(row["loss"], row["gradient"], row["equilibrium"]) < 1e-5


def test_observables_are_those_of_the_circuit():
    circuit = build_circuit(4)
    theta = torch.linspace(-3, 3, circuit.n_parameters)
    v = torch.randn(5, circuit.n_inputs, generator=torch.Generator().manual_seed(0))
    found = jax.vmap(lambda row: jax_step.readouts(jax_step.observables(circuit, theta.numpy()), row))(v.numpy())
    exact = make_engine("statevector", circuit).compile(theta.double()).readouts(v.double())
    torch.testing.assert_close(torch.tensor(np.asarray(found)).double(), exact, rtol=0, atol=2e-6)


def test_it_moves_as_torchs_adam_does():
    step = Step(Variant("compiled", "newton+exact"), PROBLEM)
    p, x, y = peer_steps._inputs(jax_step, step)
    moved, moments = p, jax_step.start(p)
    take = jax_step.training_step(step.model.layer.circuit, learning_rate=0.1)
    gradient = jax.jit(jax.grad(partial(jax_step.loss_of, step.model.layer.circuit), has_aux=True))
    parameter = torch.nn.Parameter(torch.tensor(np.asarray(p.bias)))
    adam = torch.optim.Adam([parameter], lr=0.1)
    for number in range(3):
        key = jax.random.key(number)
        of_loss, of_dropout = jax.random.split(key)
        vectors = jax.random.normal(of_loss, x.shape, x.dtype)
        mask = jax.random.bernoulli(of_dropout, 1 - jax_step.DROPOUT, x.shape) / (1 - jax_step.DROPOUT)
        g, _ = gradient(moved, x, y, vectors, mask.astype(x.dtype))
        norm = sum(float((part**2).sum()) for part in g) ** 0.5
        parameter.grad = torch.tensor(np.asarray(g.bias)) * min(1.0, jax_step.CLIP / norm)
        adam.step()
        moved, moments = take(moved, moments, key, x, y)
        np.testing.assert_allclose(np.asarray(moved.bias), parameter.detach().numpy(), atol=1e-5)
