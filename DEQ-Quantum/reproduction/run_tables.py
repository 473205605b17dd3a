"""`reproduce.py table1` to `table4`, `tables` and `table6` to `table9`: run what is not finished, keep it, show it."""

import argparse
from dataclasses import replace
from pathlib import Path

from reproduction import gradient_variances
from reproduction.collect import kept_path, read_kept, write_table
from reproduction.jobs import Job, make_job
from reproduction.overview import Overview
from reproduction.rows import Table
from reproduction.schedule import new_stop_flag, open_pool, run_all
from reproduction.storage import Storage, open_storage
from reproduction.stored_jobs import fetch_runs
from reproduction.study_rows import EVERY_TABLE
from reproduction.tables import markdown
from reproduction.together import side_by_side
from training.settings import Settings
from utils.command_line import fail
from utils.files import REPOSITORY, write_text


def run_tables(options: argparse.Namespace) -> None:
    """Run what is not finished and show it; with --report only write the tables."""
    if options.report:
        for name in options.tables:
            keep_and_show(EVERY_TABLE[name], options, options.results_dir)
        return
    tables = [table for name in _parts(options) if (table := _chosen(EVERY_TABLE[name], options)).rows]
    jobs = [job for table in tables for job in jobs_of(table, options)]
    if of_start := [job for job in jobs if gradient_variances.is_measured(EVERY_TABLE[job.table])]:
        known = options.results_dir if options.missing else None
        gradient_variances.measure(of_start, known, options.dry_run)
    kept = [job for job in jobs if read_kept(job, options.results_dir) is not None] if options.missing else []
    jobs = [job for job in jobs if job not in kept]
    if options.missing:
        print(f"{len(kept)} of {len(kept) + len(jobs)} runs are kept in {options.results_dir}" + ", none is missing" * (not jobs))
    order = options.seeds or sorted({job.seed for job in jobs})
    jobs.sort(key=lambda job: order.index(job.seed))  # all rows with the first seed come first
    if not (run_unfinished(jobs, options, options.work_dir) if jobs else not options.dry_run):
        return
    # of this command's rows alone, and beside its runs: only --report writes among the results
    shown = options.work_dir / "shown"
    _copy_kept(kept, options.results_dir, shown)
    contents = [keep_and_show(table, options, shown) for table in tables]
    if options.wandb != "disabled":
        log_summaries([content for content in contents if content["rows"]], shown, options)


def _parts(options: argparse.Namespace) -> list[str]:
    """The tables that the command makes, or of a study those that --parts names."""
    parts = getattr(options, "parts", None)
    return [name for name in options.tables if parts is None or EVERY_TABLE[name].part in parts]


def _chosen(table: Table, options: argparse.Namespace) -> Table:
    """The table, or only the rows that --rows names, or with --paper_rows the paper's."""
    if options.paper_rows:
        return replace(table, rows=tuple(row for row in table.rows if row.is_papers))
    if options.rows is None:
        return table
    return replace(table, rows=tuple(row for row in table.rows if row.name in options.rows))


def jobs_of(table: Table, options: argparse.Namespace) -> list[Job]:
    """Every row of a table with every seed."""
    epochs = options.epochs or table.epochs
    return [
        make_job(table, row, seed, epochs, options.work_dir, watched(options, table.name, row.name))
        for row in table.rows
        for seed in options.seeds or row.seeds
    ]


def watched(options: argparse.Namespace, group: str, job_type: str) -> tuple[str, ...]:
    """Flags of where a run computes and how it is watched; `report` has none of them, and needs none."""
    given = vars(options)
    flags = ["--device", given.get("device", "cpu"), "--tensorboard", "False"]
    # absolute, as workers start elsewhere; a run that is moved looks for the repository's default where it is
    if (data_folder := (given.get("data_dir") or Settings().data_folder).resolve()) != REPOSITORY / "data":
        flags += ["--data_dir", str(data_folder)]
    if given.get("wandb", "disabled") != "disabled":
        flags += ["--wandb", options.wandb, "--wandb_project", options.wandb_project]
        flags += ["--wandb_group", group, "--wandb_job_type", job_type]
    return tuple(flags)


def run_unfinished(jobs: list[Job], options: argparse.Namespace, folder: Path) -> bool:
    """Run those of the jobs, which lie in a folder, that are not finished; with --dry_run show their commands.

    Ends the program where one failed or a signal came.

    Returns:
        Whether they have been run.
    """
    storage = open_storage(options.storage) if options.storage else None
    if storage is not None:
        fetch_runs(jobs, storage)
    left = [job for job in jobs if job.results() is None]
    print(f"{len(jobs) - len(left)} of {len(jobs)} runs are finished in {folder}", flush=True)
    if options.dry_run:
        print("\n".join(job.shown_command for job in left))
    elif left:
        _run(jobs, left, options, storage)
    return not options.dry_run


def _run(jobs: list[Job], left: list[Job], options: argparse.Namespace, storage: Storage | None) -> None:
    stop = new_stop_flag(options.work_dir, storage)
    gpu = options.device == "cuda"
    pool = open_pool(stop, options.threads, options.jobs, options.address, gpu, storage)
    overview = Overview(jobs, pool.slots)
    for job in jobs:
        if job not in left:
            overview.already(job)
    # machines that share a storage are many, and each run has a copy of its own there
    groups = side_by_side(left, pool.slots) if storage is None else [(job,) for job in left]
    stopped_by = run_all(groups, pool, stop, overview)
    failed = [job for job in left if job.results() is None]
    if failed and stopped_by is not None:
        print("stopped; the same command resumes")
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


def keep_and_show(table: Table, options: argparse.Namespace, results_dir: Path) -> dict:
    """Keep what is finished of a table, write it and print it.

    Returns:
        What `build_table` makes of it.
    """
    epochs = options.epochs or table.epochs
    content = write_table(table, epochs, options.seeds, jobs_of(table, options), results_dir)
    print(f"\n{markdown(content)}")
    if content["rows"]:
        print(f"\nwritten to {results_dir / table.name}")
    return content


def log_summaries(contents: list[dict], results_dir: Path, options: argparse.Namespace) -> None:
    """Each table with its own figures and those that show every table, as a wandb run of its own."""
    if not contents:
        return
    from reproduction.dashboard import log_summary  # here: only a dashboard needs them
    from reproduction.pictures import draw_results

    pictures = draw_results(results_dir, results_dir / "images")
    for content in contents:
        shown_with = (None, content["table"], EVERY_TABLE[content["table"]].study)
        own = [picture for picture in pictures if picture.table in shown_with]
        images = [path for picture in own for path in picture.paths if path.suffix == ".png"]
        log_summary(content, images, options.wandb_project, options.wandb, options.work_dir / "summary")
