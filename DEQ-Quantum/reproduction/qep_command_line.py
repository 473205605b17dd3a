"""The command line of `reproduce.py qep`. Torch-free."""

import argparse

from reproduction.flags import COUNT, SEED
from utils.command_line import integer, number, path
from utils.files import REPOSITORY

RESULTS, IMAGES = REPOSITORY / "results" / "qep", REPOSITORY / "images"
BETAS = [0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5, 0.8, 1.2]
EXAMPLES = """examples, from the repository's folder:
  python DEQ-Quantum/reproduce.py qep error --json results/qep/gradient_error.json
  python DEQ-Quantum/reproduce.py qep time --json results/qep/time.json
  python DEQ-Quantum/reproduce.py qep table results/qep/mnist4/*.json
  python DEQ-Quantum/reproduce.py qep figures"""


def add_qep(commands) -> None:
    """`qep` and its studies; which of them is in `study`.

    Args:
        commands: sub-commands of a parser.
    """
    about = "quantum equilibrium propagation: error and time of its gradients, tables and figures of its runs"
    parser = commands.add_parser("qep", help=about, description=about, epilog=EXAMPLES,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    studies = parser.add_subparsers(dest="study", required=True, metavar="{error,time,table,figures}")
    defaults = {"formatter_class": argparse.ArgumentDefaultsHelpFormatter}

    error = studies.add_parser("error", help="error of the gradient against beta and shots", **defaults)
    error.add_argument("--betas", type=number(1e-6, 1e6), nargs="+", default=BETAS, metavar="X",
                       help="strengths of the nudge")  # fmt: skip
    error.add_argument("--shots", type=integer(2, 10_000_000), nargs="+", default=[100, 1000, 10000, 100000], metavar="N",
                       help="of each preparation")  # fmt: skip
    error.add_argument("--n_spins", type=integer(3, 12), default=5, metavar="N", help="size of the random models")
    error.add_argument("--problems", type=COUNT, default=4, metavar="N", help="random models")
    error.add_argument("--repetitions", type=COUNT, default=8, metavar="N", help="of every measurement, per model")

    times = studies.add_parser("time", help="seconds per sample against the number of spins", **defaults)
    times.add_argument("--spins", type=integer(5, 16), nargs="+", default=[6, 8, 10, 12, 14], metavar="N", help="sizes")
    times.add_argument("--dense_spins", type=integer(0, 12), default=10, metavar="N", help="dense too, up to so many spins")
    times.add_argument("--repetitions", type=COUNT, default=3, metavar="N", help="rounds; the median counts")
    for study in (error, times):
        study.add_argument("--seed", type=SEED, default=1111, metavar="N", help="of models and shots")
        study.add_argument("--json", type=path, required=True, default=argparse.SUPPRESS, metavar="FILE",
                           help="where to write what was measured")  # fmt: skip

    table = studies.add_parser("table", help="a Markdown table of finished runs, or of a time study")
    table.add_argument("files", type=path, nargs="+",
                       help="results.json files, or run folders that hold one; or one of the time study")  # fmt: skip
    figures = studies.add_parser("figures", help="the figures of QEP's page, from committed results")
    figures.add_argument("--results", type=path, default=RESULTS, metavar="FOLDER", help="(default: results/qep)")
    figures.add_argument("--images", type=path, default=IMAGES, metavar="FOLDER", help="(default: images)")
