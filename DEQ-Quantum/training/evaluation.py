"""Numbers of a model on a split: accuracy, loss, residuals, solver steps, spectral radius, confusion matrix.

Used for validation and test while training, and by evaluate_qdeq.py: no dropout, the full solver cap, the circuit
compiled once for the whole split.
"""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from dataset import Split, Splits, load_features
from deq import SolverSettings
from hardware.cost import Counter
from models.depth import Depth, Equilibrium, Stack
from models.qdeq_model import EquilibriumClassifier, Prediction, Whole
from runs.ranks import ALONE, Ranks
from training.hardware import count_pass, counting_engine
from training.hardware_settings import JACOBIAN_FREE
from training.known_states import KnownStates
from training.settings import Settings
from utils import seeds

BATCH = 2048  # images at a time; no result depends on it
NO_CLASS = -1  # of an image that failed

log = logging.getLogger("qdeq")


@dataclass
class Evaluation:
    """Mean metrics over a split, and each image's predicted class (N,), NO_CLASS for those that failed.

    With shots also what all of it took.
    """

    metrics: dict[str, float]
    predictions: Tensor
    cost: Counter | None = None


def load_splits(settings: Settings, device: torch.device) -> Splits:
    """The data these settings describe, as features on the device.

    Raises:
        DataError: it cannot be had.
    """
    s = settings
    what = s.dataset, s.num_classes, s.n_wires, s.seed, s.data_folder, device, s.reduction
    return load_features(*what, s.chosen_classes, s.bond_dimension, s.n_wires * s.features_per_wire, s.angle_scale)


def size_warnings(settings: Settings, splits: Splits) -> list[str]:
    """Settings that ask for more images than there are, which takes all of them: one line each, with both numbers."""
    s, (n_train, n_val) = settings, (len(splits.train), len(splits.val))
    warnings = []
    if s.batch_size > n_train:
        warnings.append(f"--batch_size {s.batch_size} is more than the {n_train} training images: every step has all")
    if s.max_eval_steps > (batches := -(-n_val // s.batch_size)):
        asked = f"--max_eval_steps {s.max_eval_steps} is more than the {batches} batches of the {n_val} validation images"
        warnings.append(f"{asked}: all are used")
    return warnings


def depth_of(settings: Settings, warming_up: bool = False, fewer_steps: int = 0) -> Depth:
    """How deep the layer is made: --n_layer layers for DIRECT and the warm-up, else the equilibrium.

    Args:
        settings: the run's settings.
        warming_up: whether this step belongs to the warm-up.
        fewer_steps: taken off the forward cap, as training does at random.
    """
    s = settings
    from_x = s.z0 == "x"
    if s.mode == "direct" or warming_up:
        return Stack(s.n_layer, from_x)
    options = {"memory": s.f_memory} if s.f_memory else {}
    name, steps = ("fixed_point", 0) if s.b_solver == JACOBIAN_FREE else (s.b_solver, s.b_thres)
    return Equilibrium(
        forward=SolverSettings(s.f_solver, s.f_thres - fewer_steps, s.f_tol, s.stop_mode, options),
        backward=SolverSettings(name, steps, s.b_tol, s.stop_mode),
        from_x=from_x,
    )


def measure(p: Prediction, labels: Tensor) -> dict[str, Tensor]:
    """What is measured of every image, by its name in `metrics.METRICS`: (B,) each; only the loss has a gradient.

    Images that failed have no loss and no residual (NaN), are classified wrongly and have not converged. One whose
    equilibrium is counted has, at the floor that shots leave.
    """
    measured = {
        "loss": cross_entropy(p.logits, labels, reduction="none"),
        "acc": p.logits.argmax(-1) == labels,
        "res": p.res,
        "res_rel": p.res_rel,
    }
    if p.solver is not None:
        measured |= {"solver_steps": p.solver.steps, "converged": p.solver.settled}
    if p.failed is not None:
        measured |= {name: measured[name] & ~p.failed for name in ("acc", "converged") if name in measured}
    return measured


def measure_backward(p: Prediction) -> dict[str, Tensor]:
    """What is measured of every image's gradient after a backward pass, by its name in `metrics.BACKWARD_METRICS`.

    (B,) each; {} for a stack of layers. An image that failed has not converged.
    """
    solve = None if p.solver is None else p.solver.backward
    if solve is None:
        return {}
    converged = solve.converged if p.failed is None else solve.converged & ~p.failed
    return {"b_converged": converged, "b_res_rel": solve.rel_residual}


def finite(values: Tensor, p: Prediction) -> Tensor:
    """Those of (B,) values that images have which did not fail."""
    return values if p.failed is None or not values.is_floating_point() else values[~p.failed]


@torch.no_grad()
def evaluate(
    model: EquilibriumClassifier,
    split: Split,
    depth: Depth,
    max_images: int | None = None,
    spectral_radius_seed: int | None = None,
    ranks: Ranks = ALONE,
    known: KnownStates | None = None,
) -> Evaluation:
    """Classify a split, which the ranks share out among themselves; all get the same answer.

    Args:
        model: the classifier; left in the mode (train or eval) it was in.
        split: features and labels on the model's device.
        depth: equilibrium or stack of layers.
        max_images: only the first so many, None for all.
        spectral_radius_seed: also report the spectral radius of df/dz, the mean over the first `BATCH` images, with
            random starts from this seed.
        ranks: all call this with the same arguments.
        known: the states of the split's first `max_images`, of one process, which need not be found again.
    """
    was_training = model.training
    model.eval()
    compiled = model.layer.compile() if known is None else None
    counting, cost = counting_engine(model), Counter()
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    predicted = torch.zeros_like(split.labels[:max_images])

    images = zip(split.features[:max_images].split(BATCH), split.labels[:max_images].split(BATCH), predicted.split(BATCH))
    for number, (x, y, of_batch) in enumerate(images):
        n_images, own = len(x), ranks.share(len(x))
        x, y = x[own.rows], y[own.rows]
        p = model(x, depth, compiled) if known is None else known.of(slice(number * BATCH, number * BATCH + n_images))
        if counting is not None:
            count_pass(cost, counting, depth, p)
        classes = p.logits.argmax(-1)
        if own.count:
            of_batch[own.rows] = classes if p.failed is None else torch.where(p.failed, NO_CLASS, classes)
        measured = measure(p, y)
        if spectral_radius_seed is not None and number == 0:
            radii = None if known is None else known.radii
            if radii is None:
                generator = seeds.generator(spectral_radius_seed, "spectral radius", 0, x.device)
                f = model.layer.bind(x) if compiled is None else compiled.bind(x)
                with torch.enable_grad():
                    radii = model.spectral_radius(f, p.z, generator, Whole(n_images, own.rows))
            if known is not None:
                known.radii = radii
            measured["spectral_radius"] = radii
        for name, values in measured.items():
            values = finite(values, p) if own.count else values[:0]
            sums[name] = sums.get(name, 0.0) + values.double().sum()
            counts[name] = counts.get(name, 0) + len(values)
    model.train(was_training)
    found = ranks.sum_in_place([predicted], [*sums.values(), *counts.values()])
    metrics = {name: float(total / count) for name, total, count in zip(sums, found, found[len(sums):])}
    if n_failed := int((predicted == NO_CLASS).sum()):
        log.warning("%d of %d images have no finite state and are counted as wrong", n_failed, len(predicted))
    return Evaluation(metrics, predicted, None if counting is None else cost)


def confusion_matrix(labels: Tensor, predictions: Tensor, n_classes: int) -> Tensor:
    """Counts, (n_classes, n_classes): rows are the true classes, columns the predicted ones, without NO_CLASS."""
    labels = labels[: len(predictions)][predictions != NO_CLASS]
    predictions = predictions[predictions != NO_CLASS]
    flat = torch.bincount(labels * n_classes + predictions, minlength=n_classes**2)
    return flat.view(n_classes, n_classes)
