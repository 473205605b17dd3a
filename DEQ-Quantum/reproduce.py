"""Regenerate the tables and figures of the QDEQ paper from real runs.

    python DEQ-Quantum/reproduce.py table1|table2|table3|table4|tables [--seeds 0 1 2] [--report]
    python DEQ-Quantum/reproduce.py theory

`--help` after any of them teaches its flags. Each command is one function here; what it needs lies in `reproduction/`.
"""

import argparse
import logging
import signal
import sys
from dataclasses import replace
from pathlib import Path

from reproduction import report
from reproduction.command_line import parse_command_line
from reproduction.jobs import Job, make_job
from reproduction.overview import Overview
from reproduction.rows import TABLES, Table
from reproduction.schedule import new_stop_path, open_pool, run_all
from reproduction.tables import markdown
from utils.cli import fail, share_cores
from utils.settings import Settings, SettingsError


def run_tables(options: argparse.Namespace) -> None:
    """`table1` to `table4`, `tables`: run what is not finished, then show the tables; --report only writes them."""
    if options.report:
        for name in options.tables:
            _write_table(TABLES[name], options)
        return
    tables = [_chosen(TABLES[name], options) for name in options.tables]
    jobs = [job for table in tables for job in _jobs(table, options)]
    jobs.sort(key=lambda job: options.seeds.index(job.seed))  # all rows with the first seed come first
    finished = [job for job in jobs if job.results() is not None]
    left = [job for job in jobs if job not in finished]
    print(f"{len(finished)} of {len(jobs)} runs are finished in {options.work_dir}", flush=True)
    if options.dry_run:
        print("\n".join(job.shown_command for job in left))
        return
    if left:
        _run(jobs, left, options)
    for table in tables:
        of_table = [job for job in jobs if job.table == table.name]
        print("\n" + report.show_table(table, _epochs(table, options), options.seeds, of_table))


def _chosen(table: Table, options: argparse.Namespace) -> Table:
    """The table, or only the rows that --rows names."""
    if options.rows is None:
        return table
    return replace(table, rows=tuple(row for row in table.rows if row.name in options.rows))


def _write_table(table: Table, options: argparse.Namespace) -> dict:
    """Keep, write and print one table."""
    epochs = _epochs(table, options)
    content = report.write_table(table, epochs, options.seeds, _jobs(table, options), options.results_dir)
    print(markdown(content) + "\n")
    if content["rows"]:
        print(f"written to {options.results_dir / table.name}\n")
    return content


def _epochs(table: Table, options: argparse.Namespace) -> int:
    return options.epochs or table.epochs


def _jobs(table: Table, options: argparse.Namespace) -> list[Job]:
    epochs = _epochs(table, options)
    watched = ["--device", options.device, "--tensorboard", "False", "--data_dir", str(_data_dir(options))]
    jobs = []
    for row in table.rows:
        extra = [*watched]
        if options.wandb != "disabled":
            extra += ["--wandb", options.wandb, "--wandb_project", options.wandb_project]
            extra += ["--wandb_group", table.name, "--wandb_job_type", row.name]
        jobs += [make_job(table, row, seed, epochs, options.work_dir, tuple(extra)) for seed in options.seeds]
    return jobs


def _data_dir(options: argparse.Namespace) -> Path:
    """Absolute, because workers start elsewhere."""
    return Path(options.data_dir or Settings().data_dir).resolve()


def _run(jobs: list[Job], left: list[Job], options: argparse.Namespace) -> None:
    """Run jobs; ends the program where one failed or a signal came."""
    stop_path = new_stop_path(options.work_dir)
    pool = open_pool(stop_path, options.threads, options.jobs, options.address, options.device == "cuda")
    overview = Overview(jobs, pool.slots)
    for job in jobs:
        if job not in left:
            overview.already(job)
    signal = run_all(left, pool, stop_path, overview)
    failed = [job for job in left if job.results() is None]
    if failed and signal is not None:
        print("stopped; the same command goes on")
        raise SystemExit(128 + signal)
    if failed:
        fail(f"{len(failed)} of {len(jobs)} runs failed; the first with: {failed[0].shown_command}")


def run_theory(options: argparse.Namespace) -> None:
    """`theory`: measure what is not measured yet, print the tables, draw the figures."""
    # here: torch takes seconds to import, and no other command needs it in this process
    import theory
    from dataset import DataError
    from figures import save_figure
    from utils.checkpoint import CheckpointError

    out = options.results_dir / "theory"
    data_dir = str(options.data_dir or Settings().data_dir)
    try:
        figures = theory.run(out, options.seed, data_dir, options.runs, theory.Plan(dataset=options.dataset))
    except (DataError, CheckpointError) as error:
        fail(error)
    except KeyboardInterrupt:
        print("\nstopped; what is measured is kept, the same command goes on")
        raise SystemExit(128 + signal.SIGINT) from None
    for name, figure in figures.items():
        for suffix in ("svg", "png"):
            save_figure(figure, options.images_dir / f"{name}.{suffix}")
    print((out / "theory.md").read_text())
    print(f"written to {out}, figures to {options.images_dir}")


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


COMMANDS = {**{name: run_tables for name in TABLES}, "tables": run_tables, "theory": run_theory}

if __name__ == "__main__":
    main()
