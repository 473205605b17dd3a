"""Draw a picture: the model's overview, a circuit, or the training curves of a run.

    python DEQ-Quantum/draw_figures.py overview [--out images/qdeq.png]
    python DEQ-Quantum/draw_figures.py circuit --n_wires 10 [--encoding angle] [--out images/circuit_10.svg]
    python DEQ-Quantum/draw_figures.py run runs/NAME

The suffix of --out (.png, .svg, .pdf) chooses the format.
"""

import argparse
import csv
from pathlib import Path

from circuits.circuit import build_circuit
from circuits.encodings import ENCODINGS
from figures import draw_circuit, draw_overview, draw_training_curves, save_figure
from utils.command_line import OneLineParser, fail


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="draw_figures.py", description="Draw the overview, a circuit, or a run's curves."
    )
    pictures = parser.add_subparsers(dest="picture", required=True, metavar="{overview,circuit,run}")
    overview = pictures.add_parser("overview", help="the model in one picture")
    circuit = pictures.add_parser("circuit", help="a circuit, gate by gate")
    circuit.add_argument(
        "--n_wires", type=int, default=10, metavar="N", help="qubits, even, from 4 (default: 10)"
    )
    circuit.add_argument("--encoding", choices=ENCODINGS, default="amplitude", help="(default: amplitude)")
    run = pictures.add_parser("run", help="the training curves of a run")
    run.add_argument("run", type=Path, help="run folder, with a metrics.csv in it")
    for picture, default in (
        (overview, "images/qdeq.png"),
        (circuit, "images/circuit_<n_wires>.png, with _angle for that encoding"),
        (run, "curves.png in the run folder"),
    ):
        picture.add_argument(
            "--out", type=Path, metavar="FILE", help=f".png, .svg or .pdf (default: {default})"
        )
    return parser


def main(arguments: list[str] | None = None) -> None:
    """The command: draws the picture and prints where it lies."""
    options = _parser().parse_args(arguments)
    try:
        if options.picture == "overview":
            figure, out = draw_overview(), Path("images/qdeq.png")
        elif options.picture == "circuit":
            figure = draw_circuit(build_circuit(options.n_wires, options.encoding))
            suffix = "" if options.encoding == "amplitude" else f"_{options.encoding}"
            out = Path(f"images/circuit_{options.n_wires}{suffix}.png")
        else:
            figure, out = draw_training_curves(options.run / "metrics.csv"), options.run / "curves.png"
        out = options.out or out
        save_figure(figure, out)
    except (ValueError, OSError, csv.Error) as error:
        fail(error)
    print(out)


if __name__ == "__main__":
    main()
