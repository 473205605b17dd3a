"""Numbers of a saved model: accuracy, loss, residuals, solver steps, spectral radius, confusion matrix.

    python DEQ-Quantum/evaluate_qdeq.py runs/NAME [--split test] [--f_solver newton --f_thres 50 --f_tol 1e-6]

`evaluate` is also what training uses for validation and test: no dropout, the full solver cap, the circuit met once
for the whole split.
"""

from utils.cli import OneLineParser, fail, share_cores

if __name__ == "__main__":
    share_cores()  # before torch is imported

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from dataset import DataError, Split, Splits, load_features
from deq import SolverSettings
from figures import draw_confusion_matrix, save_figure
from models.baselines import ClassicalClassifier, ComponentClassifier, LinearClassifier, ReadoutClassifier
from models.qdeq_model import Depth, EquilibriumClassifier, QDEQModel
from utils import checkpoint, seeds
from utils.files import as_json
from utils.run_folder import choose_device
from utils.settings import Settings, SettingsError

BATCH = 2048  # images at a time; no result depends on it


@dataclass
class Evaluation:
    """Mean metrics over a split, and each image's predicted class (N,)."""

    metrics: dict[str, float]
    predictions: Tensor


def build_model(settings: Settings) -> EquilibriumClassifier:
    """The model these settings describe; initial parameters come from torch's global generator."""
    s = settings
    n_features = s.n_wires**2
    if s.model == "wang2022":
        return ReadoutClassifier(s.n_wires, s.num_classes, s.encoding, s.engine, s.trainable_gates)
    if s.model == "classical":
        return ClassicalClassifier(n_features, n_features, s.num_classes, s.dropout)
    if s.model == "classical_narrow":
        return ClassicalClassifier(n_features, s.n_wires, s.num_classes, s.dropout)
    if s.model == "linear":
        return LinearClassifier(n_features, s.num_classes)
    if s.model == "alam2021":
        return ComponentClassifier(s.n_wires, s.num_classes, s.engine, s.trainable_gates, s.dropout)
    return QDEQModel(s.n_wires, s.num_classes, s.encoding, s.engine, s.trainable_gates, s.dropout)


def load_splits(settings: Settings, device: torch.device) -> Splits:
    """The data these settings describe, as features on the device.

    Raises:
        DataError: it cannot be had.
    """
    s = settings
    return load_features(s.dataset, s.num_classes, s.n_wires, s.seed, s.data_dir, device, s.reduction)


def depth_of(settings: Settings, warming_up: bool = False, fewer_steps: int = 0) -> Depth:
    """How deep the layer is made: --n_layer layers for DIRECT and the warm-up, else the equilibrium.

    Args:
        settings: the run's settings.
        warming_up: whether this step belongs to the warm-up.
        fewer_steps: taken off the forward cap, as training does at random.
    """
    s = settings
    return Depth(
        n_layer=s.n_layer if s.mode == "direct" or warming_up else 0,
        forward=SolverSettings(s.f_solver, s.f_thres - fewer_steps, s.f_tol, s.stop_mode),
        backward=SolverSettings(s.b_solver, s.b_thres, s.b_tol, s.stop_mode),
    )


@torch.no_grad()
def evaluate(
    model: EquilibriumClassifier,
    split: Split,
    depth: Depth,
    max_images: int | None = None,
    spectral_radius_seed: int | None = None,
) -> Evaluation:
    """Classify a split.

    Args:
        model: the classifier; left in the mode (train or eval) it was in.
        split: features and labels on the model's device.
        depth: equilibrium or stack of layers.
        max_images: only the first so many, None for all.
        spectral_radius_seed: also report the spectral radius of df/dz, the mean over the first `BATCH` images, with
            random starts from this seed.
    """
    was_training = model.training
    model.eval()
    compiled = model.layer.compile()
    sums: dict[str, Tensor] = {}
    predictions = []

    def add(**values: Tensor) -> None:
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value.double().sum()

    images = zip(split.features[:max_images].split(BATCH), split.labels[:max_images].split(BATCH))
    for number, (x, y) in enumerate(images):
        p = model(x, depth, compiled)
        predictions.append(p.logits.argmax(-1))
        add(
            loss=cross_entropy(p.logits, y, reduction="none"),
            acc=predictions[-1] == y,
            res=p.res,
            res_rel=p.res_rel,
        )
        if p.solver is not None:
            add(solver_steps=p.solver.steps, converged=p.solver.converged)
        if spectral_radius_seed is not None and number == 0:
            generator = seeds.generator(spectral_radius_seed, "spectral radius", 0, x.device)
            with torch.enable_grad():
                radius = model.spectral_radius(compiled.bind(x), p.z, generator)
    model.train(was_training)
    predicted = torch.cat(predictions)
    metrics = {name: (total / len(predicted)).item() for name, total in sums.items()}
    if spectral_radius_seed is not None:
        metrics["spectral_radius"] = radius.double().mean().item()
    return Evaluation(metrics, predicted)


def confusion_matrix(labels: Tensor, predictions: Tensor, n_classes: int) -> Tensor:
    """Counts, (n_classes, n_classes): rows are the true classes, columns the predicted ones."""
    labels = labels[: len(predictions)]
    flat = torch.bincount(labels * n_classes + predictions, minlength=n_classes**2)
    return flat.view(n_classes, n_classes)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="evaluate_qdeq.py",
        description="Evaluate a trained model; solver flags replace those it was trained with.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="which parameters")
    parser.add_argument("--split", choices=("test", "val", "train"), default="test", help="which images")
    for name, kind in (("f_solver", str), ("stop_mode", str), ("f_thres", int), ("f_tol", float)):
        parser.add_argument(f"--{name}", type=kind, default=None, help="as in train_qdeq.py; None: as trained")
    parser.add_argument("--engine", default=None, help="compiled or torchquantum; None: as trained")
    parser.add_argument("--max_images", type=int, default=None, help="only the first so many; None: all")
    parser.add_argument("--spectral_radius_mode", action="store_true", help="also the Jacobian's spectral radius")
    parser.add_argument("--data_dir", default=None, help="folder of <dataset>.npz; None: as trained")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to run")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """The command: prints the metrics, writes evaluation_<split>.json and the confusion matrix into the run."""
    options = vars(_parser().parse_args(arguments))
    run, which, split_name = options.pop("run"), options.pop("checkpoint"), options.pop("split")
    max_images = options.pop("max_images")
    if max_images is not None and max_images < 1:
        fail(f"--max_images must be at least 1, got {max_images}")
    try:
        path = run / f"checkpoint_{which}.pt"
        content = checkpoint.load(path, needs=("settings", "model", "step" if which == "last" else "best"))
        saved = Settings.from_dict(content["settings"])
        changed = {name: value for name, value in options.items() if value is not None}
        settings = Settings.from_dict(saved.to_dict() | {"rand_f_thres_delta": 0, "batch_chunk": 1} | changed)
        settings.validate()
        device = choose_device(settings)
        model = build_model(settings)
        checkpoint.load_weights(model, content["model"], path)
        model.to(device)
        splits = load_splits(settings, device)
    except (SettingsError, DataError, checkpoint.CheckpointError, ImportError) as error:
        fail(error)
    split = getattr(splits, split_name)
    radius_seed = settings.seed if settings.spectral_radius_mode else None
    step = content["step"] if which == "last" else content["best"]["step"]
    depth = depth_of(settings, warming_up=step <= settings.pretrain_steps)
    evaluation = evaluate(model, split, depth, max_images, radius_seed)
    counts = confusion_matrix(split.labels, evaluation.predictions, splits.n_classes)
    result = {
        "run": run.name,
        "model": settings.model,
        "checkpoint": which,
        "split": split_name,
        "step": step,
        "n_layer": depth.n_layer,
        "engine": settings.engine,
        **{name: getattr(settings, name) for name in ("f_solver", "stop_mode", "f_thres", "f_tol")},
        "images": len(evaluation.predictions),
        **evaluation.metrics,
        "confusion_matrix": counts.tolist(),
    }
    print(as_json({k: v for k, v in result.items() if k != "confusion_matrix"}))
    try:
        checkpoint.write_json(run / f"evaluation_{split_name}.json", result)
        figure = draw_confusion_matrix(counts.cpu().numpy(), splits.classes)
        save_figure(figure, run / f"confusion_{split_name}.png")
    except OSError as error:
        fail(f"cannot write into {run} ({error.strerror}): the numbers above are kept nowhere")


if __name__ == "__main__":
    main()
