"""The campaign itself: parts draw their cases, which are tried several at a time; then the table and the JSON.

It knows parts by their two functions and findings by their kind. Started by `__main__`, which has put the copy of the
source on its path.
"""

import importlib
import json
import multiprocessing
import os
import random
import shutil
import sys
import time
import traceback
from collections.abc import Iterable
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.record import machine
from runs.log import bar_size
from runs.machine import environment
from utils.files import write_json, write_text
from utils.markdown import markdown_table

from .children import preload
from .judging import KINDS, Trial
from .subjects import Bench

SHOWN = 6  # findings of a row that are printed; the JSON has them all


def draw(numbers: dict[str, int], seed: int, bench: Bench) -> list[tuple[str, dict, Bench]]:
    """All cases with their parts; those of a part do not depend on which others are tried."""
    return [
        (part, case, bench)
        for part, n in numbers.items()
        for case in module_of(part).cases(n, random.Random(f"{seed} {part}"), bench)
    ]


def module_of(part: str):
    return importlib.import_module(f".{part}", __package__)


def attempt(job: tuple[str, dict, Bench]) -> tuple[str, dict, Trial, float]:
    """Try one case; an error of the campaign's own is a finding too, for what it was to check is then unknown."""
    part, case, bench = job
    began = time.perf_counter()
    try:
        trial = module_of(part).attempt(case, bench)
    except Exception:
        trial = Trial("cases that could not be judged")
        trial.find("lost", traceback.format_exc())
    return part, case, trial, time.perf_counter() - began


def try_all(jobs: list[tuple[str, dict, Bench]], at_a_time: int) -> Iterable[tuple[str, dict, Trial, float]]:
    """Try cases in processes of their own, forked off here; a bar shows how far it is."""
    with multiprocessing.get_context("fork").Pool(at_a_time) as pool:
        trials = pool.imap_unordered(attempt, jobs)
        with tqdm(trials, "faults", len(jobs), unit="case", disable=None, **bar_size()) as bar:
            n_findings = 0
            for tried in bar:
                n_findings += len(tried[2].findings)
                bar.set_postfix(found=n_findings, refresh=False)
                yield tried


def tabulate(tried: Iterable[tuple[str, dict, Trial, float]], parts: Iterable[str]) -> list[dict]:
    """Rows of the table: of what kind how much was tried, and what was found."""
    rows: dict[tuple[str, str], dict] = {}
    for part, case, trial, seconds in tried:
        new = {"part": part, "what": trial.what, "tried": 0, "seconds": 0.0, "found": []}
        row = rows.setdefault((part, trial.what), new)
        row["tried"] += trial.count
        row["seconds"] += seconds
        row["found"] += [{"kind": kind, "what": what, "case": case} for kind, what in trial.findings]
    order = {part: number for number, part in enumerate(parts)}
    return sorted(rows.values(), key=lambda row: (order[row["part"]], row["what"]))


def as_table(rows: list[dict]) -> str:
    """The one table, in Markdown, with a last row of sums."""

    def cells(name: str, what: str, rows: list[dict]) -> list[str]:
        counts = [sum(f["kind"] == kind for row in rows for f in row["found"]) for kind in KINDS]
        return [name, what, *map(str, [sum(row["tried"] for row in rows), *counts])]

    body = [cells(row["part"], row["what"], [row]) for row in rows]
    return markdown_table(["part", "what", "tried", *KINDS], [*body, cells("all", "", rows)])


def as_page(content: dict) -> str:
    """README.md of the results."""
    kinds = "\n".join(f"- *{kind}*: {meaning}." for kind, meaning in KINDS.items())
    return f"""# The fault campaign

Commands are killed, signalled, starved of disk, given damaged or wrong files and wrong words, and run two at a time in
one folder; runs that were killed or damaged are resumed, and their results, metrics and parameters compared bit for bit
with those of the same run left alone. This page is written by

    {content["command"]}

at commit {content["git_commit"]} on {content["date"][:10]}, seed {content["seed"]}, in
{content["minutes"]:.0f} minutes, {content["jobs"]} cases at a time, on {content["machine"]}.
Every finding and its case stand in [campaign.json](campaign.json).

{as_table(content["rows"])}

{kinds}
"""


def main(asked: dict) -> int:
    """Carry the campaign out; the exit status is 1 where anything was found."""
    began = time.perf_counter()
    source, folder = Path(asked["source"]), Path(asked["folder"])
    preload(source)
    bench = Bench(source, folder, {})
    bench.prepare()
    print(f"{time.perf_counter() - began:.0f} s for imports and for the runs that are left alone", flush=True)
    jobs = draw(asked["n"], asked["seed"], bench)
    rows = tabulate(try_all(jobs, asked["jobs"]), asked["n"])
    shutil.rmtree(folder / "cases", ignore_errors=True)
    print(as_table(rows))
    for row in rows:
        for found in row["found"][:SHOWN]:
            print(f"{row['part']} {row['what']}: {found['kind'].upper()} {found['what']}")
        if len(row["found"]) > SHOWN:
            print(f"{row['part']} {row['what']}: and {len(row['found']) - SHOWN} more")
    n_findings = sum(len(row["found"]) for row in rows)
    minutes = (time.perf_counter() - began) / 60
    print(f"{sum(row['tried'] for row in rows)} tried, {n_findings} found, {minutes:.1f} min", flush=True)
    if asked["out"]:
        numbers = " ".join(f"{part}={n}" for part, n in asked["n"].items())
        content = {
            "command": f"bash bash_scripts/test.sh faults --seed {asked['seed']} --n {numbers}",
            "seed": asked["seed"], "jobs": asked["jobs"], "minutes": minutes, "machine": machine(),
            **environment(torch.device("cpu")), "git_commit": asked["commit"], "kinds": KINDS, "rows": rows,
        }  # fmt: skip
        path = Path(asked["out"])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
        write_text(path.with_name("README.md"), as_page(content))
    return 1 if n_findings else 0


if __name__ == "__main__":
    STATUS = main(json.loads(sys.argv[1]))
    os._exit(STATUS)  # libraries that were only preloaded complain at an ordinary end
