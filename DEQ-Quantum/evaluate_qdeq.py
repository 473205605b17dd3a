"""Numbers of a saved model: accuracy, loss, residuals, solver steps, spectral radius, confusion matrix.

    python DEQ-Quantum/evaluate_qdeq.py runs/NAME [--split test] [--f_solver newton --f_thres 50 --f_tol 1e-6]
"""

import argparse
import sys
from pathlib import Path

from utils.command_line import OneLineParser, draw_into_files, fail, integer, share_cores


def parse_command_line(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read a command line; ends the program with one line on stderr if it cannot work."""
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
    parser.add_argument("--engine", default=None, help="as in train_qdeq.py; None: as trained")
    parser.add_argument("--max_images", type=integer(1), default=None, help="only the first so many; None: all")
    parser.add_argument("--spectral_radius_mode", action="store_true", help="also the Jacobian's spectral radius")
    parser.add_argument("--data_dir", default=None, help="folder of <dataset>.npz; None: as trained")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to run")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    share_cores()  # before torch is imported
    draw_into_files()
    OPTIONS = parse_command_line()  # before the heavy imports: --help and a wrong flag do not wait for them

from dataset import DataError
from engines.protocol import UnsupportedCircuit
from figures import draw_confusion_matrix, save_figure
from models.depth import Stack
from models.table import build_model
from runs import checkpoint
from runs.folder import IN_EVERY_CHECKPOINT
from runs.machine import choose_device
from runs.resume import IN_BEST
from runs.settings import SettingsError
from training.evaluation import confusion_matrix, depth_of, evaluate, load_splits
from training.settings import Settings
from utils.files import as_json, write_json


def main(options: argparse.Namespace) -> None:
    """The command: prints the metrics, writes evaluation_<split>.json and the confusion matrix into the run."""
    options = vars(options).copy()
    run, which, split_name = options.pop("run"), options.pop("checkpoint"), options.pop("split")
    max_images = options.pop("max_images")
    try:
        path = run / f"checkpoint_{which}.pt"
        content = checkpoint.load(path, needs=IN_BEST if which == "best" else IN_EVERY_CHECKPOINT)
        saved = Settings.from_dict(content["settings"])
        changed = {name: value for name, value in options.items() if value is not None}
        settings = Settings.from_dict(saved.to_dict() | {"rand_f_thres_delta": 0, "batch_chunk": 1} | changed)
        settings.validate()
        device = choose_device(settings)
        model = build_model(settings)
        checkpoint.load_weights(model, content["model"], path)
        model.to(device)
        splits = load_splits(settings, device)
    except (SettingsError, DataError, checkpoint.CheckpointError, ImportError, UnsupportedCircuit) as error:
        fail(error)
    split = getattr(splits, split_name)
    if max_images and max_images > len(split):
        too_many = f"--max_images {max_images} is more than the {len(split)} images of the {split_name} split"
        print(f"warning: {too_many}: all are used", file=sys.stderr)
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
        "n_layer": depth.n_layers if isinstance(depth, Stack) else 0,
        "engine": settings.engine,
        **{name: getattr(settings, name) for name in ("f_solver", "stop_mode", "f_thres", "f_tol")},
        "images": len(evaluation.predictions),
        **evaluation.metrics,
        "confusion_matrix": counts.tolist(),
    }
    print(as_json({k: v for k, v in result.items() if k != "confusion_matrix"}))
    try:
        write_json(run / f"evaluation_{split_name}.json", result)
        figure = draw_confusion_matrix(counts.cpu().numpy(), splits.classes)
        save_figure(figure, run / f"confusion_{split_name}.png")
    except OSError as error:
        fail(f"cannot write into {run} ({error.strerror}): the numbers above are kept nowhere")


if __name__ == "__main__":
    main(OPTIONS)
