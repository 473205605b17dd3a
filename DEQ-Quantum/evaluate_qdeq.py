"""Numbers of a saved model: accuracy, loss, residuals, solver steps, spectral radius, confusion matrix.

    python DEQ-Quantum/evaluate_qdeq.py runs/NAME [--split test] [--f_solver newton --f_thres 50 --f_tol 1e-6]
"""

from utils.start import start_command

if __name__ == "__main__":
    start_command()

import argparse
import sys
from dataclasses import fields, replace

from runs.command_line import add_flag, read_options
from runs.settings import SettingsError
from training.equilibrium_settings import OF_SOLVER
from training.settings import Settings
from utils.command_line import OneLineParser, fail, integer, one_line_ends, path

# settings that an evaluation may have otherwise than the training; only the first ones change its numbers
OF_NUMBERS = (*OF_SOLVER, "z0", "engine", "spectral_radius_mode")
OF_MACHINE = ("data_dir", "device")


def build_parser() -> argparse.ArgumentParser:
    """The parser; settings that were not given are absent."""
    parser = OneLineParser(
        prog="evaluate_qdeq.py",
        description="Evaluate a trained model; what is left out is as it was trained.",
    )
    parser.add_argument("run", type=path, help="run folder")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="parameters (default: best)")
    parser.add_argument("--split", choices=("test", "val", "train"), default="test", help="images (default: test)")
    parser.add_argument("--max_images", type=integer(1), metavar="N", help="only the first so many (default: all)")
    for f in fields(Settings):
        if f.name in OF_NUMBERS + OF_MACHINE:
            add_flag(parser, f)
    parser.set_defaults(device="auto")  # here, whatever it was trained on
    return parser


def parse_command_line(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read a command line; ends the program with one line on stderr if it cannot work."""
    parser = build_parser()
    options = read_options(parser, Settings, arguments)
    if vars(options).get("z0") == "previous":
        parser.error("--z0 previous is of training: an evaluation begins at zero, or at --z0 x")
    return options


if __name__ == "__main__":
    OPTIONS = parse_command_line()  # before the heavy imports: --help and a wrong flag do not wait for them

import numpy as np
import torch

from dataset import DataError
from engines.protocol import UnsupportedCircuit
from figures import draw_confusion_matrix, save_figure
from models.depth import Stack
from hardware.noise import NoiseError
from runs import checkpoint
from runs.collectives import RankLost
from runs.folder import IN_EVERY_CHECKPOINT
from runs.machine import choose_device
from runs.ranks import ALONE, Ranks, joined_ranks
from runs.resume import IN_BEST
from training.evaluation import confusion_matrix, depth_of, evaluate, load_splits
from training.hardware import build_trained_model, counting_engine
from training.results import conditions
from utils.files import as_json, remove_leftovers, write_json


def main(options: argparse.Namespace) -> None:
    """The command: writes the metrics and the confusion matrix into the run's folder, and prints the metrics."""
    mendable = (
        SettingsError, DataError, checkpoint.CheckpointError, RankLost, ImportError, NoiseError, UnsupportedCircuit, OSError
    )  # fmt: skip
    with one_line_ends(*mendable, smaller="--max_images or --f_thres"), joined_ranks() as ranks:
        result, classes, suffix = measure(options, ranks)
        if not ranks.is_first:
            return
        numbers = as_json({name: value for name, value in result.items() if name != "confusion_matrix"})
        try:
            remove_leftovers(options.run)
            write_json(options.run / f"evaluation_{options.split}{suffix}.json", result)
            figure = draw_confusion_matrix(np.array(result["confusion_matrix"]), classes)
            save_figure(figure, options.run / f"confusion_{options.split}{suffix}.png")
        except OSError as error:
            print(numbers)
            fail(f"cannot write into {options.run} ({error.strerror}): the numbers above are kept nowhere")
        print(numbers)  # last: it fails where nobody reads


def measure(options: argparse.Namespace, ranks: Ranks = ALONE) -> tuple[dict, tuple[int, ...], str]:
    """Evaluate a run, whose images the ranks share out.

    Returns:
        The content of its JSON file, the classes, and what the names of its files end with.
    """
    which = options.checkpoint
    path, needs = options.run / f"checkpoint_{which}.pt", IN_BEST if which == "best" else IN_EVERY_CHECKPOINT
    content = ranks.from_first(lambda: checkpoint.load(path, needs=needs))
    try:
        saved = Settings.from_dict(content["settings"])
    except SettingsError as error:
        raise SettingsError(f"{path} is of another command or version: {error}") from error
    changed = {name: value for name, value in vars(options).items() if name in OF_NUMBERS + OF_MACHINE}
    settings = replace(saved, rand_f_thres_delta=0, batch_chunk=1, shard="batch", keep_states=False, **changed)
    settings.validate()
    kind = ranks.from_first(lambda: choose_device(settings))
    with ranks.together():
        device = ranks.device(kind)
    model = build_trained_model(settings)
    checkpoint.load_weights(model, content["model"], path)
    model.to(device)
    splits = ranks.from_first(lambda: load_splits(settings, torch.device("cpu"))).to(device)
    split = getattr(splits, options.split)
    if options.max_images and options.max_images > len(split) and ranks.is_first:
        too_many = f"more than the {len(split)} images of the {options.split} split: all are used"
        print(f"warning: --max_images {options.max_images} is {too_many}", file=sys.stderr)
    radius_seed = settings.seed if settings.spectral_radius_mode else None
    step = content["step"] if which == "last" else content["best"]["step"]
    depth = depth_of(settings, warming_up=step <= settings.pretrain_steps)
    if counting := counting_engine(model):
        counting.draw_for(options.split, step)
    evaluation = evaluate(model, split, depth, options.max_images, radius_seed, ranks)
    counts = confusion_matrix(split.labels, evaluation.predictions, splits.n_classes)
    result = {
        "run": options.run.name,
        "model": settings.model,
        "checkpoint": which,
        "split": options.split,
        "step": step,
        "n_layer": depth.n_layers if isinstance(depth, Stack) else 0,
        "engine": settings.engine,
        **{name: getattr(settings, name) for name in OF_SOLVER},
        "z0": "x" if depth.from_x else "zero",
        **(conditions(settings) if settings.on_hardware else {}),
        **({} if evaluation.cost is None else {"cost": evaluation.cost.describe()}),
        "images": len(evaluation.predictions),
        **evaluation.metrics,
        "confusion_matrix": counts.tolist(),
    }
    return result, splits.classes, suffix_of(options, saved, len(split))


def suffix_of(options: argparse.Namespace, saved: Settings, n_images: int) -> str:
    """What tells the files of an evaluation under other flags from those of the plain one, whose suffix is empty."""
    flags = {"checkpoint": options.checkpoint} if options.checkpoint != "best" else {}
    flags |= {name: vars(options).get(name, getattr(saved, name)) for name in OF_NUMBERS}
    flags = {name: value for name, value in flags.items() if value != getattr(saved, name, None)}
    if options.max_images and options.max_images < n_images:
        flags["max_images"] = options.max_images
    return "".join(f"_{name}" if value is True else f"_{name}-{value}" for name, value in flags.items())


if __name__ == "__main__":
    main(OPTIONS)
