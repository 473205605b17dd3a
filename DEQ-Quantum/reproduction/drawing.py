"""`reproduce.py overview`, `circuit` and `run`: one picture each; `figures`: those of the tables."""

import argparse
from pathlib import Path

from runs.settings import SettingsError
from utils.csv_rows import read_rows
from utils.files import REPOSITORY

IMAGES = REPOSITORY / "images"


def draw_overview(options: argparse.Namespace) -> None:
    """The model in one picture."""
    from figures import draw_overview  # here and below: matplotlib and torch take seconds

    _save(draw_overview(), options.out or Path("images/qdeq.png"))


def draw_circuit(options: argparse.Namespace) -> None:
    """A circuit, gate by gate.

    Raises:
        SettingsError: a number of wires that no circuit has.
    """
    from circuits.circuit import build_circuit
    from figures import draw_circuit

    try:
        figure = draw_circuit(build_circuit(options.n_wires, options.encoding))
    except ValueError as error:
        raise SettingsError(error) from error
    suffix = "" if options.encoding == "amplitude" else f"_{options.encoding}"
    _save(figure, options.out or Path(f"images/circuit_{options.n_wires}{suffix}.png"))


def draw_run(options: argparse.Namespace) -> None:
    """The training curves of a run.

    Raises:
        SettingsError: a metrics.csv of which nothing can be read.
    """
    from figures import draw_training_curves

    path = options.run / "metrics.csv"
    rows, problem = read_rows(path)
    if problem and not rows:
        raise SettingsError(problem)
    _save(draw_training_curves(path), options.out or options.run / "curves.png")


def _save(figure, out: Path) -> None:
    from figures import save_figure

    try:
        save_figure(figure, out)
    except ValueError as error:
        raise SettingsError(error) from error
    print(out)


def draw_figures(options: argparse.Namespace) -> None:
    """Figures 1 to 3, and those of the kept results."""
    from reproduction.pictures import draw_fixed, draw_results

    # those of a trial leave the committed ones alone
    own = IMAGES if options.images_dir == IMAGES / "paper" else options.images_dir
    results = [path for picture in draw_results(options.results_dir, options.images_dir) for path in picture.paths]
    for path in [*draw_fixed(own), *results]:
        print(path)
