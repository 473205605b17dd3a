"""`reproduce.py theory`: measure what is not measured yet, print the tables, draw the figures."""

import argparse

from training.settings import Settings
from utils.command_line import fail


def run_theory(options: argparse.Namespace) -> None:
    """Measure, print and draw; what has been measured by the same source is read back."""
    # here: torch takes seconds to import, and no other command needs it in this process
    import theory
    from dataset import DataError
    from figures import save_figure
    from runs.checkpoint import CheckpointError

    out = options.results_dir / "theory"
    data_dir = str(options.data_dir or Settings().data_folder)
    try:
        figures = theory.run(out, options.seed, data_dir, options.runs, theory.Plan(dataset=options.dataset))
    except (DataError, CheckpointError) as error:
        fail(error)
    for name, figure in figures.items():
        for suffix in ("svg", "png"):
            save_figure(figure, options.images_dir / f"{name}.{suffix}")
    print((out / "theory.md").read_text())
    print(f"written to {out}, figures to {options.images_dir}")
