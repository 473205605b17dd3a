"""`reproduce.py table5`: search hyper-parameters, keep and show what was found."""

import argparse
import signal

from reproduction.cluster import connect
from reproduction.rows import TABLES
from reproduction.run_tables import watched
from reproduction.search import DATA, Search, choices_of, searches_in, write_report
from reproduction.storage import Storage, open_storage
from utils.command_line import fail


def run_searches(options: argparse.Namespace) -> None:
    """Search hyper-parameters and show what was found; with --report only write it."""
    if options.report:
        print(f"\n{write_report(_searched(options), options.results_dir) or 'no trial is finished yet'}")
        return
    searches = [_search(data, model, options) for data in options.data for model in options.models]
    if options.dry_run:
        for one in searches:
            n_choices = len(choices_of(one.data, one.model))
            print(f"{one.data} {one.model}: {min(options.trials, n_choices)} of {n_choices} choices")
        return
    storage = open_storage(options.storage) if options.storage else None
    failed = _run(searches, options, storage)
    print(f"\n{write_report(searches, options.work_dir / 'shown') or 'no trial is finished yet'}")
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
    extra = watched(options, "table5", f"{data} {model}")
    return Search(data, model, options.epochs or TABLES[DATA[data]].epochs, options.work_dir, extra)


def _run(searches: list[Search], options: argparse.Namespace, storage: Storage | None) -> list[str]:
    """Run searches; ends the program where a signal came.

    Returns:
        A line for each that failed.
    """
    try:
        from reproduction import tuning  # here: an extra, and seconds
    except ImportError as error:
        fail(f"table5 needs Ray Tune and Optuna: pip install -r requirements-sweep.txt ({error})")
    gpu = 1 / (options.jobs or 1) if options.device == "cuda" else 0
    if storage is not None:
        storage.refuse_memory()
    connect(options.address, options.jobs, options.threads, options.device == "cuda")
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))  # which Tune handles
    failed = []
    for one in searches:
        print(f"{one.data} {one.model}", flush=True)
        outcome = tuning.run_search(one, options.trials, options.threads, gpu, options.jobs, storage)
        if outcome.status == "stopped":
            print("stopped; the same command resumes")
            raise SystemExit(128 + signal.SIGINT)
        if outcome.status == "failed":
            failed.append(f"{one.data} {one.model}, {outcome.message}")
    return failed
