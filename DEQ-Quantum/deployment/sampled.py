"""A trained model whose circuits are read by counting: what a finite number of shots does to it, in several draws.

Residuals that a solver sees are noisy, and the least of them is kept, so they say too little: the residual told here is
measured with shots of its own at the state that was returned, beside the floor that shots alone make.

Circuits are those that a machine would run. A batch is simulated until its last sample stops, but on a machine a sample
that has stopped is not run again: it takes one circuit for each of its steps and one where it starts, or one for each layer,
and one for the residual, which is measured once there.
"""

import warnings
from collections.abc import Sequence
from statistics import mean, stdev

import torch
from torch import Tensor

from dataset import Split
from deployment.counted_units import CountedUnits
from deployment.counts import count_states, mean_of
from deployment.differences import drop, finite_mean
from deq import ConvergenceWarning
from hardware.aer import AerEngine
from hardware.cost import CircuitCost, Counter
from hardware.shift_engine import ShiftEngine
from hardware.shots import ShotEngine, residual_floor
from models.depth import Depth
from models.layer import Compiled
from models.qdeq_model import EquilibriumClassifier
from training.evaluation import BATCH


@torch.no_grad()
def sampled(
    model: EquilibriumClassifier,
    split: Split,
    depth: Depth,
    engines: Sequence[ShotEngine | ShiftEngine | AerEngine | CountedUnits],
    exact: Tensor,
    ideal: Tensor,
) -> dict:
    """Means over the draws, one for each engine; a quantum layer's engine is left as the last of them.

    "circuits" and "counts", these by purpose, are of all images in one draw, that go through each round together.

    Args:
        model, split, depth: what is evaluated.
        engines: of the same shots and noise, with different seeds; units are a classical layer's, compiled.
        exact: (N, K) readouts that the model comes to with as many shots as one likes.
        ideal: (N,) 1 where the model without noise is right.
    """
    draws, counts, right, traces = [], [], [], []
    for engine in engines:
        compiled = engine if isinstance(engine, CountedUnits) else _with(model, engine)
        parts: list[tuple[Tensor, ...]] = []
        n_jacobians = 0
        for x, y in zip(split.features.split(BATCH), split.labels.split(BATCH)):
            with warnings.catch_warnings():  # no solve converges to less than the floor
                warnings.simplefilter("ignore", ConvergenceWarning)
                found = model(x, depth, compiled)
            r = found.r
            fresh = compiled.bind(x).reduced()(r)  # with shots that no solver has seen
            if engine is engines[0] and found.solver is not None:
                traces.append(found.solver.trace.nan_to_num(posinf=float("nan")))
            steps = torch.full_like(y, 0) if found.solver is None else found.solver.steps
            n_jacobians = 0 if found.solver is None else max(n_jacobians, found.solver.n_jacobians)
            residual = (fresh - r).norm(dim=1) / r.norm(dim=1)
            parts.append(((found.logits.argmax(-1) == y).double(), residual, residual_floor(r, engine.shots), r, steps))
        correct, residual, floor, r, steps = (torch.cat(part) for part in zip(*parts))
        right.append(correct)
        counts.append(_counts(engine, depth, steps.tolist(), n_jacobians))
        draws.append({
            "acc": finite_mean(correct),
            "res_fresh": finite_mean(residual),
            "res_floor": finite_mean(floor),
            "error": finite_mean((r - exact).norm(dim=1) / exact.norm(dim=1)),
            "solver_steps": finite_mean(steps),
            "circuits": float(counts[-1].circuits),
        })  # fmt: skip
    means = {name: mean(draw[name] for draw in draws) for name in draws[0]}
    accuracies = [draw["acc"] for draw in draws]
    return {
        "shots": engines[0].shots,
        "draws": len(draws),
        "seeds": [engine.seed for engine in engines],
        **means,
        "counts": mean_of(counts),
        "acc_std": stdev(accuracies) if len(draws) > 1 else None,
        **drop(ideal, torch.stack(right).mean(0)),
        "trace": _mean_trace(traces),
    }


def _counts(
    engine: ShotEngine | ShiftEngine | AerEngine | CountedUnits, depth: Depth, steps: Sequence[int], n_jacobians: int
) -> Counter:
    """What a machine runs for images that took so many steps, and for their residuals."""
    cost = CircuitCost(1, 0, 0) if isinstance(engine, CountedUnits) else CircuitCost.of(engine.circuit)
    counter, n_circuits = Counter(), len(steps) * cost.value
    count_states(counter, cost, depth, steps, engine.shots, n_jacobians)
    counter.count("residual", n_circuits, n_circuits * engine.shots)
    return counter


def _with(model: EquilibriumClassifier, engine: ShotEngine | ShiftEngine | AerEngine) -> Compiled:
    model.layer.engine = engine
    return model.layer.compile()


def _mean_trace(traces: Sequence[Tensor]) -> list[float]:
    """Mean residual that the solver saw after every step, of batches (steps + 1, B); those that stopped repeat theirs."""
    if not traces:
        return []
    n = max(map(len, traces))
    longest = [torch.cat([trace, trace[-1:].expand(n - len(trace), -1)]) for trace in traces]
    return [finite_mean(step) if step.isfinite().any() else None for step in torch.cat(longest, 1)]
