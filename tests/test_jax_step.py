"""The training step in JAX, which is timed beside ours, is the same step: values, gradient, and Adam's move."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from benchmarks.command_line import parse_command_line
from benchmarks.record import Record
from benchmarks.report import text
from benchmarks.step import JAC_LOSS_WEIGHT, SETTINGS, Problem, Step, Variant
from circuits.circuit import build_circuit
from deq import SolverSettings
from engines import make_engine
from models.depth import Equilibrium

jax = pytest.importorskip("jax", reason="JAX is not installed (requirements-peers.txt)")
from benchmarks import jax_step, peer_steps  # noqa: E402

PROBLEM = Problem(4, 32, 3, torch.device("cpu"))


def test_loss_gradient_and_equilibrium_are_those_of_our_step():
    row = peer_steps.compare(jax_step, PROBLEM)
    assert row["equal"] and max(row["loss"], row["gradient"], row["equilibrium"]) < 1e-5


@pytest.mark.parametrize("n_wires", [4, 6])
def test_observables_are_those_of_the_circuit(n_wires):
    circuit = build_circuit(n_wires)
    theta = torch.linspace(-3, 3, circuit.n_parameters)
    v = torch.randn(5, circuit.n_inputs, generator=torch.Generator().manual_seed(0))
    found = jax.vmap(lambda row: jax_step.readouts(jax_step.observables(circuit, theta.numpy()), row))(v.numpy())
    exact = make_engine("statevector", circuit).compile(theta.double()).readouts(v.double())
    torch.testing.assert_close(torch.tensor(np.asarray(found)).double(), exact, rtol=0, atol=2e-6)


@pytest.mark.slow
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


@pytest.mark.slow
def test_in_float64_its_jacobian_loss_and_gradient_are_those_of_the_state_vectors():
    step = Step(Variant("compiled", "newton+exact"), PROBLEM)
    model = PROBLEM.model(Variant("statevector", "newton+exact"), 0.0).double()
    x, y = step.x[:3].double(), step.y[:3]
    depth = Equilibrium(*[SolverSettings(name, 30, 1e-13) for name in ("newton", "exact")])
    vectors = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    p = model(x, depth, with_jac_loss=True, generator=torch.Generator().manual_seed(1))
    (cross_entropy(p.logits, y) + JAC_LOSS_WEIGHT * p.jac_loss).backward()
    own = model.layer.theta, model.head.weight, model.head.bias
    with jax.enable_x64(True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax_step, "TOLERANCE", 1e-13)
        given = [jax.numpy.asarray(t.numpy()) for t in (x, y, vectors, torch.ones_like(x))]
        parameters = jax_step.Parameters(*(jax.numpy.asarray(parameter.detach().numpy()) for parameter in own))
        loss = jax.jit(jax.grad(partial(jax_step.loss_of, model.layer.circuit), has_aux=True))
        found, z = jax.device_get(loss(parameters, *given))
    np.testing.assert_allclose(z, p.z.detach(), atol=1e-12)
    for gradient, parameter in zip(found, own, strict=True):
        np.testing.assert_allclose(gradient, parameter.grad, atol=1e-12)


@pytest.mark.slow
def test_the_section_is_whole_and_says_who_wins(monkeypatch):
    monkeypatch.setattr(peer_steps, "WIRES", (4,))
    monkeypatch.setattr(peer_steps, "BATCH_SIZE", 8)
    monkeypatch.setattr("benchmarks.timing.BLOCK_SECONDS", 1e-3)
    record = Record(parse_command_line(["peers", "--repetitions", "2", "--device", "cpu"]))
    peer_steps.measure_steps(record)
    times = record.content["training_step_4"]["times"]
    alone = [f"compiled, {setting}" for setting in SETTINGS]
    assert set(times) == {peer_steps.IN_JAX, *alone, *(label + peer_steps.TOGETHER for label in alone)}
    assert all(len(found["seconds"]) == 2 for found in times.values()) and record.content["equality"][0]["equal"]
    assert "wins with one model" in text(record.content)
