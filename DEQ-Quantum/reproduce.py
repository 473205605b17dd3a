"""Regenerate the tables and figures of the QDEQ paper from real runs.

    python DEQ-Quantum/reproduce.py table1|table2|table3|table4|tables     run what is not finished, show the table
    python DEQ-Quantum/reproduce.py table2 --report                        run nothing, write the table
    python DEQ-Quantum/reproduce.py table5                                 search hyper-parameters
    python DEQ-Quantum/reproduce.py theory                                 check the theory
    python DEQ-Quantum/reproduce.py figures                                draw the figures
    python DEQ-Quantum/reproduce.py report --html                          everything anew, and as one page

`--help` after any of them teaches its flags. Each command is one function here; what it needs lies in `reproduction/`.
"""

import argparse
import logging
import signal
import sys
from dataclasses import replace
from pathlib import Path

from reproduction.cluster import connect
from reproduction.collect import kept_path, read_kept
from reproduction.command_line import parse_command_line
from reproduction.jobs import Job, make_job
from reproduction.overview import Overview
from reproduction.report import put_into, write_table
from reproduction.rows import TABLES, Table
from reproduction.schedule import new_stop_path, open_pool, run_all
from reproduction.sweep import DATA, Search, choices_of, searches_in
from reproduction.sweep import write_report as write_search_report
from reproduction.tables import markdown
from runs.settings import SettingsError
from training.settings import Settings
from utils.command_line import fail, share_cores
from utils.files import REPOSITORY, write_text

README, IMAGES = REPOSITORY / "README.md", REPOSITORY / "images"


def run_tables(options: argparse.Namespace) -> None:
    """`table1` to `table4`, `tables`: run what is not finished and show it; with --report only write the tables."""
    if options.report:
        for name in options.tables:
            _write(TABLES[name], options, options.results_dir)
        return
    tables = [_chosen(TABLES[name], options) for name in options.tables]
    jobs = [job for table in tables for job in _jobs(table, options)]
    kept = [job for job in jobs if read_kept(job, options.results_dir) is not None] if options.missing else []
    jobs = [job for job in jobs if job not in kept]
    jobs.sort(key=lambda job: options.seeds.index(job.seed))  # all rows with the first seed come first
    left = [job for job in jobs if job.results() is None]
    print(f"{len(jobs) - len(left)} of {len(jobs)} runs are finished in {options.work_dir}", flush=True)
    if options.dry_run:
        print("\n".join(job.shown_command for job in left))
        return
    if left:
        _run(jobs, left, options)
    # of this command's rows alone, and beside its runs: only --report writes among the results
    shown = options.work_dir / "shown"
    _copy_kept(kept, options.results_dir, shown)
    contents = [_write(table, options, shown) for table in tables]
    if options.wandb != "disabled":
        _log_summaries([content for content in contents if content["rows"]], shown, options)


def _chosen(table: Table, options: argparse.Namespace) -> Table:
    """The table, or only the rows that --rows names."""
    if options.rows is None:
        return table
    return replace(table, rows=tuple(row for row in table.rows if row.name in options.rows))


def _jobs(table: Table, options: argparse.Namespace) -> list[Job]:
    epochs = options.epochs or table.epochs
    return [
        make_job(table, row, seed, epochs, options.work_dir, _watched(options, table.name, row.name))
        for row in table.rows
        for seed in options.seeds
    ]


def _watched(options: argparse.Namespace, group: str, job_type: str) -> tuple[str, ...]:
    """Flags of where a run computes and how it is watched; `report` has none of them, and needs none."""
    given = vars(options)
    data_dir = Path(given.get("data_dir") or Settings().data_dir).resolve()  # absolute: workers start elsewhere
    flags = ["--device", given.get("device", "cpu"), "--tensorboard", "False", "--data_dir", str(data_dir)]
    if given.get("wandb", "disabled") != "disabled":
        flags += ["--wandb", options.wandb, "--wandb_project", options.wandb_project]
        flags += ["--wandb_group", group, "--wandb_job_type", job_type]
    return tuple(flags)


def _run(jobs: list[Job], left: list[Job], options: argparse.Namespace) -> None:
    """Run jobs; ends the program where one failed or a signal came."""
    stop_path = new_stop_path(options.work_dir)
    pool = open_pool(stop_path, options.threads, options.jobs, options.address, options.device == "cuda")
    overview = Overview(jobs, pool.slots)
    for job in jobs:
        if job not in left:
            overview.already(job)
    stopped_by = run_all(left, pool, stop_path, overview)
    failed = [job for job in left if job.results() is None]
    if failed and stopped_by is not None:
        print("stopped; the same command goes on")
        raise SystemExit(128 + stopped_by)
    if failed:
        fail(f"{len(failed)} of {len(jobs)} runs failed; the first with: {failed[0].shown_command}")


def _copy_kept(jobs: list[Job], results_dir: Path, shown: Path) -> None:
    """Show kept results too; those of runs that lie in the work folder are written over them."""
    for job in jobs:
        for suffix in (".json", ".csv"):
            copy = kept_path(job, shown).with_suffix(suffix)
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_text(copy, kept_path(job, results_dir).with_suffix(suffix).read_text())


def _write(table: Table, options: argparse.Namespace, results_dir: Path) -> dict:
    """Keep, write and print one table."""
    content = write_table(table, options.epochs or table.epochs, options.seeds, _jobs(table, options), results_dir)
    print(f"\n{markdown(content)}")
    if content["rows"]:
        print(f"\nwritten to {results_dir / table.name}")
    return content


def _log_summaries(contents: list[dict], results_dir: Path, options: argparse.Namespace) -> None:
    """Each table with its own figures and those that show every table."""
    if not contents:
        return
    from reproduction.dashboard import log_summary  # here: only a dashboard needs them
    from reproduction.pictures import draw_results

    images = [path for path in draw_results(results_dir, results_dir / "images") if path.suffix == ".png"]
    for content in contents:
        others = tuple(f"_{name}" for name in TABLES if name != content["table"])
        own = [path for path in images if not path.stem.endswith(others)]
        log_summary(content, own, options.wandb_project, options.wandb, options.work_dir / "summary")


def search(options: argparse.Namespace) -> None:
    """`table5`: search hyper-parameters and show what was found; with --report only write it."""
    if options.report:
        print(f"\n{write_search_report(_searched(options), options.results_dir) or 'no trial is finished yet'}")
        return
    searches = [_search(data, model, options) for data in options.data for model in options.models]
    if options.dry_run:
        for one in searches:
            n_choices = len(choices_of(one.data, one.model))
            print(f"{one.data} {one.model}: {min(options.trials, n_choices)} of {n_choices} choices")
        return
    failed = _run_searches(searches, options)
    print(f"\n{write_search_report(searches, options.work_dir / 'shown') or 'no trial is finished yet'}")
    if failed:
        fail(f"{len(failed)} of {len(searches)} searches failed: {failed[0]}")


def _searched(options: argparse.Namespace) -> list[Search]:
    """What has been searched of what is asked for: without --epochs searches of every length."""
    return [
        one
        for one in searches_in(options.work_dir)
        if one.data in options.data and one.model in options.models and options.epochs in (None, one.epochs)
    ]


def _search(data: str, model: str, options: argparse.Namespace) -> Search:
    extra = _watched(options, "table5", f"{data} {model}")
    return Search(data, model, options.epochs or TABLES[DATA[data]].epochs, options.work_dir, extra)


def _run_searches(searches: list[Search], options: argparse.Namespace) -> list[str]:
    """Run searches; ends the program where a signal came. Gives back a line for each that failed."""
    try:
        from reproduction import tuning  # here: an extra, and seconds
    except ImportError as error:
        fail(f"table5 needs Ray Tune and Optuna: pip install -r requirements-sweep.txt ({error})")
    gpu = 1 / (options.jobs or 1) if options.device == "cuda" else 0
    connect(options.address, options.jobs, options.threads, options.device == "cuda")
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # which Tune meets
    failed = []
    for one in searches:
        print(f"{one.data} {one.model}", flush=True)
        outcome = tuning.run_search(one, options.trials, options.threads, gpu, options.jobs)
        if outcome.status == "stopped":
            print("stopped; the same command goes on")
            raise SystemExit(128 + signal.SIGINT)
        if outcome.status == "failed":
            failed.append(f"{one.data} {one.model}, {outcome.message}")
    return failed


def draw(options: argparse.Namespace) -> None:
    """`figures`: Figures 1 to 3, and those of the kept results."""
    from reproduction.pictures import draw_fixed, draw_results  # here: matplotlib and torch take seconds

    # those of a trial leave the committed ones alone
    own = IMAGES if options.images_dir == IMAGES / "paper" else options.images_dir
    for path in [*draw_fixed(own), *draw_results(options.results_dir, options.images_dir)]:
        print(path)


def write_report(options: argparse.Namespace) -> None:
    """`report`: keep what is finished; tables, figures, the README's tables and, if asked for, the page anew."""
    contents = [_write(table, options, options.results_dir) for table in TABLES.values()]
    tables = {content["table"]: markdown(content) for content in contents}
    if found := write_search_report(searches_in(options.work_dir), options.results_dir):
        tables["table5"] = found
    draw(options)
    if options.results_dir == REPOSITORY / "results" / "paper":
        for name in put_into(README, tables):
            print(f"README.md has no place for {name}: <!-- reproduce.py {name} --> and <!-- end -->")
    if options.html:
        from reproduction.page import write_page

        pages = sorted(options.results_dir.glob("*/*.md"))
        images = {path.name: path for folder in (IMAGES, options.images_dir) for path in sorted(folder.glob("*.png"))}
        write_page(options.html, pages, list(images.values()))
        print(options.html)


def run_theory(options: argparse.Namespace) -> None:
    """`theory`: measure what is not measured yet, print the tables, draw the figures."""
    # here: torch takes seconds to import, and no other command needs it in this process
    import theory
    from dataset import DataError
    from figures import save_figure
    from runs.checkpoint import CheckpointError

    out = options.results_dir / "theory"
    data_dir = str(options.data_dir or Settings().data_dir)
    try:
        figures = theory.run(out, options.seed, data_dir, options.runs, theory.Plan(dataset=options.dataset))
    except (DataError, CheckpointError) as error:
        fail(error)
    for name, figure in figures.items():
        for suffix in ("svg", "png"):
            save_figure(figure, options.images_dir / f"{name}.{suffix}")
    print((out / "theory.md").read_text())
    print(f"written to {out}, figures to {options.images_dir}")


COMMANDS = {
    **dict.fromkeys(TABLES, run_tables),
    "tables": run_tables,
    "table5": search,
    "figures": draw,
    "report": write_report,
    "theory": run_theory,
}


def main(arguments: list[str] | None = None) -> None:
    """The command: what it cannot do ends it with one line."""
    options = parse_command_line(arguments)
    share_cores()
    log = logging.getLogger("qdeq")
    log.setLevel(logging.INFO)
    log.addHandler(logging.StreamHandler(sys.stdout))
    try:
        COMMANDS[options.command](options)
    except (SettingsError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        print("\nstopped; what is done is kept, the same command goes on")
        raise SystemExit(128 + signal.SIGINT) from None


if __name__ == "__main__":
    main()
