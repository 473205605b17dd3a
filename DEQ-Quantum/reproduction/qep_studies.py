"""`reproduce.py qep`: the error and the time of QEP's gradients, and tables and figures of what was run."""

import argparse
import signal
from collections.abc import Sequence
from pathlib import Path

from reproduction.qep_tables import NEEDED, run_table, time_table
from reproduction.run_table import read_results
from runs.settings import SettingsError
from utils.files import write_json


def run_qep(options: argparse.Namespace) -> None:
    """One of `error`, `time`, `table` and `figures`."""
    if options.study == "table":
        print(table_of_files(options.files))
    elif options.study == "figures":
        _draw(options.results, options.images)
    else:
        try:
            _measure(options)
        except KeyboardInterrupt:
            print("\nstopped; nothing is kept of what was measured")
            raise SystemExit(128 + signal.SIGINT) from None


def table_of_files(paths: Sequence[Path]) -> str:
    """The table of QEP runs' results.json files, or of one of the time study.

    Raises:
        SettingsError: a file that is none.
    """
    if len(paths) == 1 and read_results(paths[0], set(), "a QEP run").get("study") == "time":
        return time_table(read_results(paths[0], {"points"}, "the time study")["points"])
    return run_table([read_results(path, NEEDED, "a QEP run") for path in paths])


def _measure(options: argparse.Namespace) -> None:
    """Measure, and write it with where it was measured; an interrupt keeps nothing half."""
    import torch  # here and below: tables and --help do not wait for it
    from tqdm import tqdm

    from benchmarks import qep_gradients as studies
    from runs.log import bar_size
    from runs.machine import environment

    o, bar = options, {"disable": None, **bar_size()}
    o.json.parent.mkdir(parents=True, exist_ok=True)  # before minutes of measuring
    try:
        if o.study == "error":
            problems = [studies.regression(o.n_spins, o.seed, number) for number in range(o.problems)]
            bias = list(tqdm(studies.measure_bias(problems, o.betas), "bias", 2 + 4 * len(o.betas), **bar))
            rows = studies.measure_shots(problems, o.betas, o.shots, o.repetitions, o.seed)
            shots = list(tqdm(rows, "shots", 2 * len(o.betas) * len(o.shots), **bar))
            content = {"bias": bias, "shots": shots, "best": studies.best_betas(shots)}
        else:
            rows = studies.measure_times(sorted(set(o.spins)), o.dense_spins, o.repetitions, o.seed)
            content = {"points": list(tqdm(rows, "time", **bar))}
    except (ValueError, RuntimeError) as error:
        raise SettingsError(error) from error
    arguments = {name: value for name, value in vars(o).items() if name not in ("command", "study", "json")}
    where = {"study": o.study, "seed": o.seed, **environment(torch.device("cpu")), "arguments": arguments}
    write_json(o.json, where | content)
    print(o.json)


def _draw(results: Path, images: Path) -> None:
    from figures import save_figure
    from figures.qep_pictures import draw_comparison, draw_gradient_error

    runs = [
        (read_results(path, NEEDED | {"test_acc", "linear_test_acc"}, "a QEP run"), path.with_suffix(".csv"))
        for path in sorted((results / "mnist4").glob("*.json"))
    ]
    if not runs:
        raise SettingsError(
            f"{results / 'mnist4'} holds no results.json of a run: train first (bash_scripts/qep.sh mnist4)"
        )
    errors = read_results(results / "gradient_error.json", {"bias", "shots", "best"}, "the error study")
    pictures = {"qep_mnist4": draw_comparison(runs), "qep_gradient_error": draw_gradient_error(errors)}
    for name, figure in pictures.items():
        for suffix in (".png", ".svg"):
            save_figure(figure, images / f"{name}{suffix}")
            print(images / f"{name}{suffix}")
