"""The command line of `reproduce.py`. Torch-free, so that --help and a wrong flag do not wait for it."""

import argparse
import sys
from pathlib import Path

from circuits.encodings import ENCODINGS
from data_settings import DATASETS
from reproduction.flags import (
    COUNT,
    SEED,
    add_images,
    add_missing,
    add_report,
    add_sweep,
    results_flags,
    row_seeds_flags,
    running_flags,
    runs_flags,
    seeds_flags,
)
from reproduction.hardware_rows import rows as hardware_rows
from reproduction.names import DEPTHS
from reproduction.qep_command_line import add_qep
from reproduction.rows import TABLES, Table
from reproduction.search import DATA
from reproduction.study_rows import ABOUT, STUDIES
from utils.command_line import OneLineParser, integer, path
from utils.files import REPOSITORY

TRIALS = 20
HTML_IN_RESULTS = Path("")

EXAMPLES = """examples:
  every row of Table 2 with all its seeds, on all cores; the same command resumes where it was stopped:
    python reproduce.py table2
  what that would run, and a shorter trial of two of its rows:
    python reproduce.py table2 --dry_run
    python reproduce.py table2 --rows implicit direct-1 --seeds 0 --epochs 2
  Tables 1 to 4 in one go on a Ray cluster whose machines share this folder:
    python reproduce.py tables --address auto
  the same without baselines, all of it from nothing on this machine's cores:
    python reproduce.py tables --paper_rows
  the search of one cell of Table 5, in shorter trials:
    python reproduce.py table5 --data mnist10 --models implicit --trials 30 --epochs 30
  any flags of train_qdeq.py, each combination with three seeds:
    python reproduce.py sweep --grid lr=0.01,0.05 --grid optim=Adam,SGD --seeds 0 1 2 -- --dataset digits --n_wires 4
  in a fresh clone, only what the kept results lack:
    python reproduce.py tables --missing
  the tables of what is finished, without running anything:
    python reproduce.py table2 --report
  what the readouts of Table 6 reach on one data set, and how Table 9's solvers do, without the rest:
    python reproduce.py table6 --parts mnist10 --rows pauli2_implicit zz_implicit
    python reproduce.py table9 --parts strong
  a table of runs of your own, and the training curves of one:
    python reproduce.py table ../runs/*
    python reproduce.py run ../runs/NAME
  a circuit, gate by gate:
    python reproduce.py circuit --n_wires 6 --encoding angle --out circuit.svg

Ctrl-C lets every run save and end. Exit status: 0 done; 1 a run failed; 2 a wrong flag; 130 interrupted."""


def build_parser() -> argparse.ArgumentParser:
    """One sub-command for each table, and more; its name is in `command`."""
    parser = OneLineParser(
        prog="reproduce.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Regenerate the tables and figures of the QDEQ paper from real runs.",
        epilog=EXAMPLES,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_tables(commands)
    add_sweep(commands)
    _add_report_command(commands)
    _add_theory(commands)
    _add_run_table(commands)
    _add_pictures(commands)
    _add_dashboard(commands)
    _add_hardware(commands)
    add_qep(commands)
    return parser


def _add_tables(commands) -> None:
    searching = [results_flags(), runs_flags(), running_flags()]
    parents = [*searching, row_seeds_flags()]
    for table in TABLES.values():
        about = f"{table.title}: {len(table.rows)} rows of {table.epochs} epochs"
        command = commands.add_parser(table.name, help=about, description=about, parents=parents)
        which = command.add_mutually_exclusive_group()
        which.add_argument("--rows", nargs="+", choices=[row.name for row in table.rows], help="only these rows")
        _add_paper_rows(which)
        command.set_defaults(tables=[table.name])
        add_missing(command)
        add_report(command)
    for name, parts in STUDIES.items():
        _add_study(commands, name, parts, parents)
    about = "Tables 1 to 4 in one go"
    command = commands.add_parser("tables", help=about, description=about, parents=parents)
    _add_paper_rows(command)
    command.set_defaults(tables=list(TABLES), rows=None)
    add_missing(command)
    add_report(command)
    about = "search the hyper-parameters of Table 5 on the validation set (needs requirements-sweep.txt)"
    command = commands.add_parser("table5", help=about, description=about, parents=searching)
    command.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA), help="(default: all)")
    command.add_argument("--models", nargs="+", choices=list(DEPTHS), default=list(DEPTHS), help="(default: all)")
    command.add_argument(
        "--trials",
        type=COUNT,
        default=TRIALS,
        metavar="N",
        help=f"choices tried of each model on each data set (default: {TRIALS})",
    )
    add_report(command)
    about = "draw Figures 1 to 3 and those of the kept results"
    command = commands.add_parser("figures", help=about, description=about, parents=[results_flags()])
    add_images(command)


def _add_study(commands, name: str, parts: tuple[Table, ...], parents: list) -> None:
    about = f"{ABOUT[name]}: {', '.join(f'{part.part} ({len(part.rows)} rows of {part.epochs} epochs)' for part in parts)}"
    command = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".", parents=parents)
    rows = dict.fromkeys(row.name for part in parts for row in part.rows)
    command.add_argument("--parts", nargs="+", choices=[part.part for part in parts], help="only these tables of it")
    command.add_argument("--rows", nargs="+", choices=list(rows), metavar="ROW", help=f"only these rows: {', '.join(rows)}")
    command.set_defaults(tables=[part.name for part in parts], paper_rows=False)
    add_missing(command)
    add_report(command)


def _add_paper_rows(command) -> None:
    command.add_argument(
        "--paper_rows", action="store_true", help="only the paper's own models: no baselines, no released gates"
    )


def _add_report_command(commands) -> None:
    about = "keep what is finished; write all tables, figures and the pages that show them anew"
    parents = [results_flags(), runs_flags(), row_seeds_flags()]
    command = commands.add_parser("report", help=about, description=about, parents=parents)
    add_images(command)
    command.add_argument(
        "--html",
        type=path,
        nargs="?",
        const=HTML_IN_RESULTS,
        metavar="FILE",
        help="also one self-contained page of them (default: report.html in --results_dir)",
    )


def _add_theory(commands) -> None:
    about = "checks of the theory: Eqs. 6 to 56, contraction, Theorem 3, convergence, implicit gradient, ablations, Fig. 4"
    command = commands.add_parser(
        "theory",
        help=about,
        description=about.capitalize() + ". Trains what it looks at for a few epochs; about 2 minutes of one core.",
    )
    command.add_argument("--seed", type=SEED, default=0, metavar="N", help="of all that is random (default: 0)")
    command.add_argument(
        "--runs", type=path, nargs="+", default=[], metavar="DIR", help="run folders whose models are looked at besides"
    )
    command.add_argument("--data_dir", type=path, metavar="DIR", help="folder of <dataset>.npz, as in train_qdeq.py")
    command.add_argument("--dataset", choices=DATASETS, default="mnist", help="of the models (default: mnist)")
    command.add_argument(
        "--results_dir",
        type=path,
        metavar="DIR",
        help="results are written to its folder theory (default: results/paper; with another --dataset or --seed, or "
        "with --runs, a folder that says so, as results/paper_digits_seed-1_runs)",
    )
    add_images(command)
    command.set_defaults(epochs=None)


def _add_hardware(commands) -> None:
    about = "Table 1's models under noise, by counting and with mitigation: train them, evaluate, write tables and figures"
    command = commands.add_parser(
        "hardware", help=about, description=about, parents=[results_flags(), runs_flags(), running_flags(), seeds_flags()]
    )
    command.add_argument("--rows", nargs="+", choices=[row.name for _, row in hardware_rows()], help="only these models")
    add_images(command)
    add_report(command)


def _add_run_table(commands) -> None:
    about = "a Markdown table of finished runs, those that differ in their seed in one row"
    command = commands.add_parser("table", help=about, description=about)
    command.add_argument("files", type=path, nargs="+", help="results.json files, or run folders that hold one")


def _add_pictures(commands) -> None:
    about = "the training curves of a run"
    run = commands.add_parser("run", help=about, description=about)
    run.add_argument("run", type=path, help="run folder, with a metrics.csv in it")
    about = "a circuit, gate by gate"
    circuit = commands.add_parser("circuit", help=about, description=about)
    circuit.add_argument("--n_wires", type=integer(4, 28, even=True), default=10, metavar="N",
                         help="qubits, even, to 28 (default: 10)")  # fmt: skip
    circuit.add_argument("--encoding", choices=ENCODINGS, default="amplitude", help="(default: amplitude)")
    about = "the model in one picture"
    overview = commands.add_parser("overview", help=about, description=about)
    for picture, default in (
        (run, "curves.png in the run folder"),
        (circuit, "images/circuit_<n_wires>.png, with the name of another encoding than amplitude"),
        (overview, "images/qdeq.png"),
    ):
        picture.add_argument("--out", type=path, metavar="FILE", help=f".png, .svg or .pdf (default: {default})")


def _add_dashboard(commands) -> None:
    about = "the layout of the tables' runs in Weights & Biases (needs requirements-sweep.txt)"
    command = commands.add_parser("dashboard", help=about, description=about)
    command.add_argument("--entity", metavar="NAME", help="make it online, for this user or team; else write its JSON")
    command.add_argument("--wandb_project", default="qdeq", metavar="NAME", help="(default: qdeq)")
    out = REPOSITORY / "runs" / "dashboard.json"
    command.add_argument("--out", type=path, default=out, metavar="FILE", help="(default: runs/dashboard.json)")


def _refuse_beside_report(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    for name in ("rows", "parts", "paper_rows"):
        if getattr(options, name, None):
            parser.error(f"--report shows whole tables: leave out --{name}")
    idle = {action.dest: action.default for action in running_flags()._actions} | {"missing": False, "trials": TRIALS}
    for name, default in idle.items():
        if getattr(options, name, default) != default:
            parser.error(f"--report runs nothing: leave out --{name}")


def _refuse_rows_of_other_parts(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    parts = [part for part in STUDIES[options.command] if part.part in options.parts]
    there = {row.name for part in parts for row in part.rows}
    if others := [name for name in options.rows if name not in there]:
        named = f"--parts {' '.join(options.parts)} has no --rows {' '.join(others)}"
        parser.error(f"{named}: name their part too, or leave out --parts")


def parse_command_line(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read a command line; ends the program with one line on stderr if it is wrong."""
    parser = build_parser()
    words = list(sys.argv[1:] if arguments is None else arguments)
    # what follows -- is for train_qdeq.py, whose own parser reads it
    end = words.index("--") if words[:1] == ["sweep"] and "--" in words else len(words)
    options = parser.parse_args(words[:end])
    options.train_flags = words[end + 1 :]
    if getattr(options, "report", False):
        _refuse_beside_report(parser, options)
    if getattr(options, "parts", None) and options.rows:
        _refuse_rows_of_other_parts(parser, options)
    if "results_dir" in options:
        _choose_folders(options)
    if getattr(options, "seeds", None):
        options.seeds = list(dict.fromkeys(options.seeds))
    return options


def _choose_folders(options: argparse.Namespace) -> None:
    """Folders that were not given: those of the paper's tables, or their own where other runs are asked for."""
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
    of_results = "_".join(["hardware", *apart]) if options.command == "hardware" else folder
    if "work_dir" in options:
        options.work_dir = options.work_dir or REPOSITORY / "runs" / folder
    # resolved, so that the committed folders are known however they are written
    options.results_dir = (options.results_dir or REPOSITORY / "results" / of_results).resolve()
    if "images_dir" in options:
        of_committed = {REPOSITORY / "results" / name: REPOSITORY / "images" / name for name in ("paper", "hardware")}
        images = of_committed.get(options.results_dir, options.results_dir / "images")
        options.images_dir = (options.images_dir or images).resolve()
    if getattr(options, "html", None) == HTML_IN_RESULTS:
        options.html = options.results_dir / "report.html"
