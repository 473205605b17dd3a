"""The command line of `reproduce.py`. Torch-free, so that --help and a wrong flag do not wait for it."""

import argparse
from pathlib import Path

from data_settings import DATASETS
from reproduction.rows import MODELS, TABLES
from reproduction.sweep import DATA
from utils.command_line import OneLineParser
from utils.files import REPOSITORY

SEEDS = (0, 1, 2)
TRIALS = 20
HTML_IN_RESULTS = Path("")

EXAMPLES = """examples:
  every row of Table 2 with three seeds, on all cores; the same command goes on where it was stopped:
    python reproduce.py table2
  what that would run, and a shorter trial of two of its rows:
    python reproduce.py table2 --dry_run
    python reproduce.py table2 --rows implicit direct-1 --seeds 0 --epochs 2
  Tables 1 to 4 in one go on a Ray cluster whose machines share this folder:
    python reproduce.py tables --address auto
  the search of one cell of Table 5, in shorter trials:
    python reproduce.py table5 --data mnist10 --models implicit --trials 30 --epochs 30
  in a fresh clone, only what the kept results lack:
    python reproduce.py tables --missing
  the tables of what is finished, without running anything:
    python reproduce.py table2 --report

Ctrl-C lets every run save and end. Exit status: 0 done; 1 a run failed; 2 a wrong flag; 130 interrupted."""


def _integer(minimum: int):
    """A parser of integers from a minimum."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(f"expected an integer from {minimum}, got {text!r}")
        return value

    return read


COUNT = _integer(1)


def _results() -> argparse.ArgumentParser:
    """Flags of every command: where results lie."""
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument(
        "--results_dir",
        type=Path,
        metavar="DIR",
        help="folder of what is kept of them (default: results/paper, with --epochs N results/paper_N-epochs)",
    )
    flags.add_argument(
        "--epochs", type=COUNT, metavar="N", help="runs of so many epochs, not of as many as the paper's"
    )
    return flags


def _runs() -> argparse.ArgumentParser:
    """Flags of commands that look at runs."""
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument(
        "--work_dir",
        type=Path,
        metavar="DIR",
        help="folder of the runs, <table>/<row>/seed-<n> (default: runs/paper, with --epochs N runs/paper_N-epochs)",
    )
    return flags


def _seeds() -> argparse.ArgumentParser:
    """Flags of commands that repeat runs; each trial of a search is a single one."""
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument(
        "--seeds", type=_integer(0), nargs="+", default=list(SEEDS), metavar="N", help="(default: 0 1 2)"
    )
    return flags


def _running() -> argparse.ArgumentParser:
    """Flags of commands that train."""
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument(
        "--jobs", type=COUNT, metavar="N", help="runs at once (default: as many as there are cores); needs Ray"
    )
    flags.add_argument("--threads", type=COUNT, default=1, metavar="N", help="cores of a run (default: 1)")
    flags.add_argument("--address", metavar="HOST:PORT", help="Ray cluster to run on, or auto for the one in reach")
    flags.add_argument("--data_dir", type=Path, metavar="DIR", help="folder of <dataset>.npz, as in train_qdeq.py")
    flags.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default: cpu)")
    flags.add_argument(
        "--wandb", choices=("disabled", "offline", "online"), default="disabled", help="as in train_qdeq.py"
    )
    flags.add_argument("--wandb_project", default="qdeq", metavar="NAME", help="(default: qdeq)")
    flags.add_argument(
        "--dry_run", action="store_true", help="print the commands of the runs that are left, run nothing"
    )
    return flags


def build_parser() -> argparse.ArgumentParser:
    """One sub-command for each table, and more."""
    parser = OneLineParser(
        prog="reproduce.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Regenerate the tables and figures of the QDEQ paper from real runs.",
        epilog=EXAMPLES,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    searching = [_results(), _runs(), _running()]
    parents = [*searching, _seeds()]
    for table in TABLES.values():
        about = f"{table.title}: {len(table.rows)} rows of {table.epochs} epochs"
        command = commands.add_parser(table.name, help=about, description=about, parents=parents)
        command.add_argument("--rows", nargs="+", choices=[row.name for row in table.rows], help="only these rows")
        command.set_defaults(tables=[table.name])
        _add_missing(command)
        _add_report(command)
    about = "Tables 1 to 4 in one go"
    command = commands.add_parser("tables", help=about, description=about, parents=parents)
    command.set_defaults(tables=list(TABLES), rows=None)
    _add_missing(command)
    _add_report(command)
    about = "search the hyper-parameters of Table 5 on the validation set (needs requirements-sweep.txt)"
    command = commands.add_parser("table5", help=about, description=about, parents=searching)
    command.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA), help="(default: all)")
    command.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS), help="(default: all)")
    command.add_argument(
        "--trials",
        type=COUNT,
        default=TRIALS,
        metavar="N",
        help=f"choices tried of each model on each data set (default: {TRIALS})",
    )
    _add_report(command)
    about = "draw Figures 1 to 3 and those of the kept results"
    command = commands.add_parser("figures", help=about, description=about, parents=[_results()])
    _add_images(command)
    about = "keep what is finished; write all tables, figures and the README's tables anew"
    command = commands.add_parser("report", help=about, description=about, parents=[_results(), _runs(), _seeds()])
    _add_images(command)
    command.add_argument(
        "--html",
        type=Path,
        nargs="?",
        const=HTML_IN_RESULTS,
        metavar="FILE",
        help="also one self-contained page of them (default: report.html in --results_dir)",
    )
    _add_theory(commands)
    return parser


def _add_theory(commands) -> None:
    about = "checks of the theory: contraction, Theorem 3, convergence, implicit gradient, ablations, Fig. 4"
    command = commands.add_parser(
        "theory",
        help=about,
        description=about.capitalize() + ". Trains what it looks at for a few epochs; about 3 minutes of one core.",
    )
    command.add_argument("--seed", type=_integer(0), default=0, metavar="N", help="of all that is random (default: 0)")
    command.add_argument(
        "--runs", type=Path, nargs="+", default=[], metavar="DIR", help="run folders whose models are looked at besides"
    )
    command.add_argument("--data_dir", type=Path, metavar="DIR", help="folder of <dataset>.npz, as in train_qdeq.py")
    command.add_argument("--dataset", choices=DATASETS, default="mnist", help="of the models (default: mnist)")
    command.add_argument(
        "--results_dir",
        type=Path,
        metavar="DIR",
        help="results are written to its folder theory (default: results/paper; with another --dataset or --seed, or "
        "with --runs, a folder that says so, as results/paper_digits_seed-1_runs)",
    )
    _add_images(command)
    command.set_defaults(epochs=None)


def _add_images(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--images_dir",
        type=Path,
        metavar="DIR",
        help="folder of the figures of results (default: images/paper, with another --results_dir images in it)",
    )


def _add_missing(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--missing",
        action="store_true",
        help="leave out runs whose results are kept already in --results_dir, as in a fresh clone those of others",
    )


def _add_report(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--report", action="store_true", help="run nothing: keep finished runs' results, print and write the table"
    )


def _refuse_beside_report(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if getattr(options, "rows", None):
        parser.error("--report shows whole tables: leave out --rows")
    idle = {action.dest: action.default for action in _running()._actions} | {"missing": False, "trials": TRIALS}
    for name, default in idle.items():
        if getattr(options, name, default) != default:
            parser.error(f"--report runs nothing: leave out --{name}")


def parse_command_line(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read a command line; ends the program with one line on stderr if it is wrong."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if getattr(options, "report", False):
        _refuse_beside_report(parser, options)
    # trials of a search are seldom as long as the paper's runs: its table says how long, cell by cell
    shortened = options.epochs is not None and options.command != "table5"
    apart = [f"{options.epochs}-epochs"] if shortened else []
    if options.command == "theory":  # what the repository keeps is of MNIST and seed 0 alone
        changed = {
            options.dataset: options.dataset != "mnist",
            f"seed-{options.seed}": options.seed,
            "runs": options.runs,
        }
        apart = [name for name, differs in changed.items() if differs]
    folder = "_".join(["paper", *apart])
    if "work_dir" in options:
        options.work_dir = options.work_dir or REPOSITORY / "runs" / folder
    # resolved, so that the committed folders are known however they are written
    options.results_dir = (options.results_dir or REPOSITORY / "results" / folder).resolve()
    if "images_dir" in options:
        of_paper = options.results_dir == REPOSITORY / "results" / "paper"
        images = REPOSITORY / "images" / "paper" if of_paper else options.results_dir / "images"
        options.images_dir = (options.images_dir or images).resolve()
    if getattr(options, "html", None) == HTML_IN_RESULTS:
        options.html = options.results_dir / "report.html"
    if "seeds" in options:
        options.seeds = list(dict.fromkeys(options.seeds))
    return options
