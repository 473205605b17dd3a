"""How well gradients point that are measured with shots: at a trained model, against the exact one, by shots.

Every derivative is measured, in the parameters by shift rules, in what f feeds back by two circuits a number
(`hardware.shift_engine`); the linear system of the implicit gradient is solved exactly, or not at all (Jacobian-free).
"""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, cosine_similarity

from dataset import Split
from deployment.trained import read_trained
from deq import SolverSettings
from engines.protocol import Engine
from hardware.cost import Counter
from hardware.engine import NO_NOISE, NoisyEngine
from hardware.shift_engine import ShiftEngine
from hardware.shots import ShotEngine
from models.depth import Depth, Stack
from models.qdeq_model import EquilibriumClassifier
from training.evaluation import load_splits

BATCH = 64  # training images, of one step


def cosines(options: Namespace, shots: Sequence[int], n_draws: int) -> list[dict]:
    """Of a run, one entry for every number of shots and way to the gradient.

    Args:
        options: of `hardware.py evaluate`: run, checkpoint, data_dir, device.
        shots: of every circuit.
        n_draws: steps with shots of their own.

    Returns:
        {"way", "shots", "cosines": of the circuit's parameters with the exact gradient, "circuits": of an image}.
    """
    trained = read_trained(options, ("data_dir", "device"))
    model = trained.model
    train = load_splits(trained.settings, torch.device("cpu")).train
    batch = Split(train.features[:BATCH], train.labels[:BATCH])
    depth = trained.depth
    ways = {"one layer after another": (depth, False)}
    if not isinstance(depth, Stack):
        solved = replace(depth, backward=SolverSettings("exact"))
        ways = {"exact backward solve": (solved, False), "Jacobian-free": (solved, True)}
    circuit, own = model.layer.circuit, model.layer.engine
    found = []
    try:
        for way, (of_way, jacobian_free) in ways.items():
            # the first way's is the gradient itself, of which the Jacobian-free one is an approximation
            exact = gradient(model, next(iter(ways.values()))[0], batch, NoisyEngine(circuit, NO_NOISE))
            for n in shots:
                counter = Counter()
                engine = ShiftEngine(ShotEngine(circuit, n), counter=counter, jacobian_free=jacobian_free)
                draws = []
                for step in range(n_draws):
                    engine.draw_for("gradient", step)
                    draws.append(float(cosine_similarity(gradient(model, of_way, batch, engine), exact, dim=0)))
                found.append({"way": way, "shots": n, "cosines": draws,
                              "circuits": counter.circuits / (n_draws * len(batch))})  # fmt: skip
    finally:
        model.layer.engine = own
    return found


def gradient(model: EquilibriumClassifier, depth: Depth, batch: Split, engine: Engine) -> Tensor:
    """Of the mean cross entropy, in the circuit's trained parameters: (n,)."""
    model.layer.engine = engine
    loss = cross_entropy(model(batch.features, depth).logits, batch.labels)
    (found,) = torch.autograd.grad(loss, [model.layer.theta])
    return found.flatten()
