"""The training step of the quantum model by this library and by a JAX program, which must first be equal.

Knows `step.py`'s steps, those of several seeds (`seeds.py`) and `jax_step.py`'s program, the latter imported only where
it is asked; nothing of other peers. Both take Newton's steps to the same tolerance and cap, on the same parameters,
features and labels. What several seeds side by side take is told per model.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks.equality import SOLVER_TOLERANCE, difference, verdict
from benchmarks.record import Record
from benchmarks.seeds import side_by_side_step
from benchmarks.step import DROPOUT, SETTINGS, Problem, Step, Variant
from utils import seeds

WIRES = (4, 10)
BATCH_SIZE, N_SEEDS = 256, 3
TOGETHER = f", {N_SEEDS} seeds side by side, per model"
IN_JAX = "jax, newton"
NEWTON = Variant("compiled", "newton+exact")


def measure_steps(record: Record) -> None:
    """Sections `training_step_4` and `training_step_10` of times, and rows of `equality`."""
    try:
        import jax  # noqa: F401  whoever has loaded the program has not thereby installed JAX

        from benchmarks import jax_step
    except ImportError as error:
        record.content["notes"].append(f"no training step in JAX: {error} (see requirements-peers.txt)")
        return
    record.content["jax"] = jax_step.VERSION
    record.content["equality"] = []
    for n_wires in WIRES:
        problem = Problem(n_wires, BATCH_SIZE, record.options.seed, torch.device("cpu"))
        record.content["equality"].append(compare(jax_step, problem))
        began = time.perf_counter()
        in_jax = step_in_jax(jax_step, problem)
        in_jax()
        compiled_in = time.perf_counter() - began
        steps: dict[str, Callable] = {IN_JAX: in_jax}
        problems = [replace(problem, seed=problem.seed + number) for number in range(N_SEEDS)]
        for variant in (Variant("compiled", setting) for setting in SETTINGS):
            steps[variant.label] = Step(variant, problem)
            steps[variant.label + TOGETHER] = side_by_side_step(problems, variant.setting)
        title = f"a training step, {n_wires} wires, batch {BATCH_SIZE}; JAX compiled in {compiled_in:.1f} s"
        section = f"training_step_{n_wires}"
        record.time(section, title, steps, {(IN_JAX, label) for label in steps if label != IN_JAX},
                    {label: N_SEEDS for label in steps if label.endswith(TOGETHER)})  # fmt: skip
        if times := record.content[section].get("times"):
            medians = {label: found["median"] for label, found in times.items()}
            record.content["notes"].append(verdict_of(n_wires, medians))


def verdict_of(n_wires: int, medians: dict[str, float]) -> str:
    """Who is fastest with one model, and who of all per model, in a sentence with milliseconds."""
    alone = {label: seconds for label, seconds in medians.items() if not label.endswith(TOGETHER)}
    fastest, of_all = min(alone, key=alone.get), min(medians, key=medians.get)
    told = ", ".join(f"{label} {1e3 * medians[label]:.2f} ms" for label in dict.fromkeys((fastest, of_all, IN_JAX)))
    return f"a training step of {n_wires} wires: {fastest} wins with one model, of all {of_all} ({told})"


def _inputs(jax_step, step: Step) -> tuple:
    """The model's parameters, and features and labels, as JAX has them."""
    from jax import numpy as jnp

    model = step.model
    tensors = (model.layer.full_theta(), model.head.weight, model.head.bias)
    parameters = jax_step.Parameters(*(jnp.asarray(tensor.detach().numpy()) for tensor in tensors))
    return parameters, jnp.asarray(step.x.numpy()), jnp.asarray(step.y.numpy())


def step_in_jax(jax_step, problem: Problem) -> Callable[[], None]:
    """The whole step as a call, compiled at the first one; the host waits for its end."""
    import jax

    step = Step(NEWTON, problem)
    parameters, x, y = _inputs(jax_step, step)
    take, moments = jax_step.training_step(step.model.layer.circuit), jax_step.start(parameters)
    keys = iter(jax.random.split(jax.random.key(problem.seed, impl="rbg"), 2**16))
    last = next(keys)

    def call() -> None:
        jax.block_until_ready(take(parameters, moments, next(keys, last), x, y))

    return call


def compare(jax_step, problem: Problem) -> dict:
    """Loss, gradient and equilibrium of both, with the same random vectors and dropout mask: a row of `equality`."""
    import jax
    from jax import numpy as jnp

    step = Step(NEWTON, problem)
    loss, z, _ = step.losses_backward()
    generator = seeds.generator(problem.seed, "benchmark step", 0, problem.device)
    # what the model drew, in its order
    vectors = jnp.asarray(torch.randn(z.shape, generator=generator).numpy())
    mask = jnp.asarray(((torch.rand(z.shape, generator=generator) >= DROPOUT) / (1 - DROPOUT)).numpy())
    parameters, x, y = _inputs(jax_step, step)

    def loss_of(p):
        return jax_step.loss_of(step.model.layer.circuit, p, x, y, vectors, mask)

    (loss_in_jax, z_in_jax), gradient = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(parameters)
    ours = [step.model.layer.theta.grad, step.model.head.weight.grad, step.model.head.bias.grad]
    differences = {
        "loss": difference(torch.tensor(float(loss_in_jax)), loss),
        "gradient": max(difference(torch.tensor(jax.device_get(g)), o) for g, o in zip(gradient, ours, strict=True)),
        "equilibrium": difference(torch.tensor(jax.device_get(z_in_jax)), z),
    }
    tolerances = dict.fromkeys(differences, SOLVER_TOLERANCE)
    return verdict(f"{IN_JAX}, {problem.n_wires} wires", NEWTON.label, differences, tolerances)
