"""Studies of quantum equilibrium propagation: the gradient's error, its time, and tables and figures of what was run.

    python DEQ-Quantum/study_qep.py error --json results/qep/gradient_error.json
    python DEQ-Quantum/study_qep.py time --json results/qep/time.json
    python DEQ-Quantum/study_qep.py table results/qep/mnist4/*.json
    python DEQ-Quantum/study_qep.py figures

`--help` after any of them teaches its flags.
"""

import argparse
import json
import signal
from pathlib import Path

from qep.report import NEEDED, run_table, time_table
from utils.command_line import OneLineParser, fail, share_cores

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS, IMAGES = REPOSITORY / "results" / "qep", REPOSITORY / "images"


def _list_of(kind: type, smallest: float):
    """A parser of numbers that are not smaller than a limit."""

    def read(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not smallest <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"expected {kind.__name__} from {smallest:g}, got {text!r}")
        return value

    return read


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="study_qep.py", description="Error and time of QEP's gradients; tables, figures.")
    studies = parser.add_subparsers(dest="study", required=True, metavar="{error,time,table,figures}")
    count, nudge = _list_of(int, 1), _list_of(float, 1e-6)

    error = studies.add_parser("error", help="error of the gradient against beta and shots",
                               formatter_class=argparse.ArgumentDefaultsHelpFormatter)  # fmt: skip
    betas = [0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5, 0.8, 1.2]
    error.add_argument("--betas", type=nudge, nargs="+", default=betas, metavar="X", help="strengths of the nudge")
    error.add_argument("--shots", type=_list_of(int, 2), nargs="+", default=[100, 1000, 10000, 100000], metavar="N",
                       help="readings of each preparation")  # fmt: skip
    error.add_argument("--n_spins", type=_list_of(int, 3), default=5, metavar="N", help="size of the random models")
    error.add_argument("--problems", type=count, default=4, metavar="N", help="random models")
    error.add_argument("--repetitions", type=count, default=8, metavar="N", help="of every measurement, per model")

    times = studies.add_parser("time", help="seconds per sample against the number of spins",
                               formatter_class=argparse.ArgumentDefaultsHelpFormatter)  # fmt: skip
    times.add_argument("--spins", type=_list_of(int, 5), nargs="+", default=[6, 8, 10, 12, 14], metavar="N",
                       help="sizes")  # fmt: skip
    times.add_argument("--dense_spins", type=int, default=10, metavar="N", help="dense too, up to so many spins")
    times.add_argument("--repetitions", type=count, default=3, metavar="N", help="rounds; the median counts")
    for study in (error, times):
        study.add_argument("--seed", type=_list_of(int, 0), default=1111, metavar="N", help="of models and shots")
        study.add_argument("--json", type=Path, required=True, metavar="FILE", help="where to write what was measured")

    table = studies.add_parser("table", help="a Markdown table of finished runs, or of a time study")
    table.add_argument("files", type=Path, nargs="+", help="results.json files, or one of the time study")
    figures = studies.add_parser("figures", help="the README's figures, from committed results")
    figures.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="(default: results/qep)")
    figures.add_argument("--images", type=Path, default=IMAGES, metavar="FOLDER", help="(default: images)")
    return parser


def _run_study(options: argparse.Namespace) -> None:
    """Measure, and write it with where it was measured; an interrupt keeps nothing half."""
    import torch  # here and below: tables and --help do not wait for it
    from tqdm import tqdm

    from qep import studies
    from runs.log import bar_size
    from runs.machine import environment
    from utils.files import write_json

    o, bar = options, {"disable": None, **bar_size()}
    o.json.parent.mkdir(parents=True, exist_ok=True)  # before minutes of measuring
    if o.study == "error":
        problems = [studies.regression(o.n_spins, o.seed, number) for number in range(o.problems)]
        bias = list(tqdm(studies.measure_bias(problems, o.betas), "bias", 2 + 4 * len(o.betas), **bar))
        rows = studies.measure_shots(problems, o.betas, o.shots, o.repetitions, o.seed)
        shots = list(tqdm(rows, "shots", 2 * len(o.betas) * len(o.shots), **bar))
        content = {"bias": bias, "shots": shots, "best": studies.best_betas(shots)}
    else:
        rows = studies.measure_times(sorted(set(o.spins)), o.dense_spins, o.repetitions, o.seed)
        content = {"points": list(tqdm(rows, "time", **bar))}
    arguments = {name: value for name, value in vars(o).items() if name not in ("study", "json")}
    where = {"study": o.study, "seed": o.seed, **environment(torch.device("cpu")), "arguments": arguments}
    write_json(o.json, where | content)
    print(o.json)


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        fail(f"{path} is no readable results file ({error})")
    if not isinstance(content, dict):
        fail(f"{path} holds no results")
    return content


def _print_table(files: list[Path]) -> None:
    contents = [_read(path) for path in files]
    if len(contents) == 1 and contents[0].get("study") == "time":
        print(time_table(contents[0]["points"]))
        return
    for path, content in zip(files, contents):
        if not set(content) >= NEEDED:
            fail(f"{path} holds no results of a QEP run")
    print(run_table(contents))


def _draw(results: Path, images: Path) -> None:
    from figures import save_figure
    from qep.figures import draw_comparison, draw_gradient_error

    runs = [(_read(path), path.with_suffix(".csv")) for path in sorted((results / "mnist4").glob("*.json"))]
    if not runs:
        fail(f"{results / 'mnist4'} holds no results.json of a run: train first (bash_scripts/qep.sh mnist4)")
    pictures = {
        "qep_mnist4": draw_comparison(runs),
        "qep_gradient_error": draw_gradient_error(_read(results / "gradient_error.json")),
    }
    for name, figure in pictures.items():
        for suffix in (".png", ".svg"):
            save_figure(figure, images / f"{name}{suffix}")
            print(images / f"{name}{suffix}")


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    options = _parser().parse_args(arguments)
    try:
        if options.study == "table":
            _print_table(options.files)
        elif options.study == "figures":
            _draw(options.results, options.images)
        else:
            share_cores()
            _run_study(options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        fail(error)
    except KeyboardInterrupt:
        print("\nstopped; nothing is kept of what was measured")
        raise SystemExit(128 + signal.SIGINT) from None


if __name__ == "__main__":
    main()
