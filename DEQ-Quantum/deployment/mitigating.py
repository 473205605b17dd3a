"""A trained model under noise with mitigation: calibrated on training images, measured on the same images as without.

Nothing but training images is looked at before the evaluation. Expectation values are exact, also those of the
calibration: what is shown is the bias that mitigation leaves, not the variance that it adds.
"""

from collections.abc import Sequence
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from dataset import Split
from deployment.counts import count_states
from deployment.differences import drop
from deployment.states import States, states, summary
from engines.protocol import ReadoutMap
from hardware.cost import CircuitCost, Counter
from hardware.mitigation import IMAGES, MitigatedEngine, mitigated, rescaled
from hardware.noise import Noise, NoiseError
from models.depth import Depth
from models.qdeq_model import EquilibriumClassifier

IMAGES_OF_HEAD = 2000  # the first training images, on which the head is trained again
STEPS_OF_HEAD = 100  # of L-BFGS


def prepare(model: EquilibriumClassifier, noise: Noise, encoding_noise: Noise, ways: Sequence[str]) -> MitigatedEngine:
    """The engine of a combination of --mitigate, before what needs images.

    Raises:
        NoiseError, UnsupportedCircuit: a part of it that this model or noise does not have.
    """
    if "head" in ways and not any(parameter.requires_grad for parameter in model.head.parameters()):
        raise NoiseError("--mitigate head trains the head again, and this model's has no parameters: leave it out")
    return mitigated(model.layer.circuit, noise, encoding_noise, inverted="readout" in ways, extrapolated="zne" in ways)


def evaluate(
    model: EquilibriumClassifier, depth: Depth, engine: MitigatedEngine, ways: Sequence[str], train: Split, split: Split,
    right: Tensor,
) -> dict:  # fmt: skip
    """What is left of the noise; the model's engine and head are put back.

    Args:
        model, depth: what is evaluated, its own engine without noise.
        engine: of `prepare`.
        ways: of --mitigate.
        train: images of the calibrations.
        split: images of the evaluation.
        right: (N,) 1 where the model without noise is right.

    Returns:
        accuracy, drop with its interval, and circuits: for an evaluation of f, and for the calibrations, where every
        image costs the evaluations of its solve; "counts" of both by purpose, without shots.
    """
    counter, cost = Counter(), CircuitCost(engine.n_circuits * CircuitCost.of(engine.circuit).value, 0, 0)
    n_calibration = 2 * ("readout" in ways)
    if "rescale" in ways:
        x = train.features[:IMAGES]
        noisy, ideal = readouts_at_ideal_states(model, depth, engine, x)
        engine = rescaled(engine, noisy, ideal)
        n_calibration += len(x) * cost.value
    if n_calibration:
        counter.count("calibration", n_calibration, 0)
    with borrowed(model, engine):
        if "head" in ways:
            found = states(model, Split(train.features[:IMAGES_OF_HEAD], train.labels[:IMAGES_OF_HEAD]), depth)
            train_head(model, found, train.labels[:IMAGES_OF_HEAD])
            count_states(counter, cost, depth, _steps(found), purpose="calibration")
        found = states(model, split, depth)
    count_states(counter, cost, depth, _steps(found))
    return {
        "mitigation": "+".join(ways),
        "circuits_of_f": cost.value,
        "circuits_of_calibration": counter.by_purpose["calibration"].circuits,
        "counts": counter.describe(),
        **summary(found),
        **drop(right, found.measured["acc"]),
    }


def _steps(found: States) -> list[int]:
    """That each image's solve took; 0 for each where there is none."""
    steps = found.measured.get("solver_steps")
    return [0] * len(found.r) if steps is None else steps.long().tolist()


@torch.no_grad()
def readouts_at_ideal_states(
    model: EquilibriumClassifier, depth: Depth, engine: MitigatedEngine, x: Tensor
) -> tuple[Tensor, Tensor]:
    """Readouts under noise and simulated without, at the inputs of the layers that the model without noise comes to.

    Returns:
        both (N, K), of images that have a finite state.
    """
    found = model(x, depth)
    r = found.r[found.r.isfinite().all(1)]
    x = x[found.r.isfinite().all(1)]
    ideal = _reduced(model, x)(r)
    with borrowed(model, engine):
        return _reduced(model, x)(r), ideal


def train_head(model: EquilibriumClassifier, found: States, labels: Tensor) -> None:
    """The head alone, from where it is, by L-BFGS on the cross entropy of the states that noise leaves."""
    kept = found.r.isfinite().all(1)
    r, labels = found.r[kept], labels[kept]
    state = model.layer.lift(r) if model.layer.lift.sees_state else r
    parameters = list(model.head.parameters())
    optimizer = torch.optim.LBFGS(parameters, max_iter=STEPS_OF_HEAD, line_search_fn="strong_wolfe")

    @torch.enable_grad()
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(model.classify(state), labels)
        loss.backward()
        return loss

    optimizer.step(closure)


@contextmanager
def borrowed(model: EquilibriumClassifier, engine: MitigatedEngine):
    """The model with another engine; afterwards with its own, and with the head that it had."""
    own, head = model.layer.engine, deepcopy(model.head.state_dict())
    model.layer.engine = engine
    try:
        yield
    finally:
        model.layer.engine = own
        model.head.load_state_dict(head)


def _reduced(model: EquilibriumClassifier, x: Tensor) -> ReadoutMap:
    return model.layer.bind(x).reduced()
