"""`reproduce.py hardware`: train the study's models, put each under every noise, keep that, write tables and figures.

A model's evaluations are one file, results/hardware/<row>/seed-<n>.json, which grows suite by suite: a study that was
stopped goes on where it was, and `--report` needs neither runs nor torch.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from reproduction import hardware_tables
from reproduction.hardware_rows import (
    DRAWS, OF_MACHINE, ON_MACHINE, SHOTS, SURROGATES, TRANSPILED, WITH_GRADIENTS, Suite, rows, suites_of,
)  # fmt: skip
from reproduction.jobs import Job, make_job
from reproduction.run_tables import run_unfinished, watched
from runs.settings import SettingsError
from utils.command_line import fail
from utils.csv_rows import read_rows
from utils.files import read_json, write_json, write_text


def run_hardware(options: argparse.Namespace) -> None:
    """Train and evaluate what is not there yet; show it all."""
    if not options.report:
        jobs = [
            make_job(table, row, seed, options.epochs or table.epochs, options.work_dir, watched(options, table.name, row.name))
            for table, row in rows()
            for seed in options.seeds
            if options.rows is None or row.name in options.rows
        ]
        if not run_unfinished(jobs, options, options.work_dir):
            return
        of_row = {row.name: (table, row) for table, row in rows()}
        for job in tqdm(jobs, desc="models", unit="model", disable=None):
            kept = kept_path(options.results_dir, job.row, job.seed)
            evaluate(job, suites_of(*of_row[job.row]), kept, options.data_dir)
            if job.row in WITH_GRADIENTS:
                keep_gradients(job, kept, options.data_dir)
            if job.row in SURROGATES:
                keep_surrogates(job, kept, options.data_dir)
            if job.row in ON_MACHINE and job.seed == options.seeds[0]:
                on_machine(job, options.results_dir / "machines" / f"{job.row}.json", options.data_dir)
            if job.row in TRANSPILED and job.seed == options.seeds[0]:
                transpile(job, options.results_dir / "transpile" / f"{job.row}.json")
    write_all(options.results_dir, options.images_dir)


def kept_path(results_dir: Path, row: str, seed: int) -> Path:
    """Where a model's evaluations are kept."""
    return results_dir / row / f"seed-{seed}.json"


def read_kept(path: Path) -> dict:
    """A model's evaluations: {"row", "seed", "run", "suites": {name: {"flags", "found"}}}; without any suite where it is new.

    Raises:
        SettingsError: a file with something else.
    """
    if not path.exists():
        return {"suites": {}}
    try:
        content = read_json(path)
        if isinstance(content["suites"], dict):
            return content
    except (ValueError, KeyError, TypeError):
        pass
    raise SettingsError(f"{path} holds no evaluations: remove it")


def evaluate(job: Job, suites: Sequence[Suite], path: Path, data_dir: Path | None) -> None:
    """Every suite that the file lacks or that was of another run or with other flags."""
    results = job.results()
    run = {name: results[name] for name in ("git_commit", "test_acc", "n_parameters", "train_seconds")}
    kept = read_kept(path)
    if kept.get("run") != run:
        label = job.label if job.table != "table2" else f"{job.label}, MNIST-10"
        kept = {"row": job.row, "label": label, "seed": job.seed, "run": run, "suites": {}}
        if job.settings.shots:
            kept["curve"] = training_curve(job.folder)
    for suite in suites:
        if kept["suites"].get(suite.name, {}).get("flags") != suite.words:
            kept["suites"][suite.name] = {"flags": suite.words, "found": found(job.folder, suite, data_dir)}
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, kept)


def keep_gradients(job: Job, path: Path, data_dir: Path | None) -> None:
    """How well gradients with shots point at the trained model, unless that is kept already."""
    from deployment.command_line import parse_command_line
    from deployment.gradients import cosines

    kept = read_kept(path)
    if "gradients" not in kept:
        options = parse_command_line(["evaluate", *words_of(job.folder, data_dir), "--noise", "none"])
        write_json(path, kept | {"gradients": cosines(options, SHOTS, DRAWS)})


def keep_surrogates(job: Job, path: Path, data_dir: Path | None) -> None:
    """The trained circuit measured once, with several numbers of shots, unless that is kept already."""
    from deployment.command_line import parse_command_line
    from deployment.surrogates import measure_once

    kept = read_kept(path)
    shots, repeat = SURROGATES[job.row]
    if [found["shots"] for found in kept.get("surrogate", [])] != list(shots):
        words = ["surrogate", *words_of(job.folder, data_dir), "--repeat", str(repeat), "--shots"]
        found = [measure_once(parse_command_line([*words, str(n)])) for n in shots]
        write_json(path, kept | {"surrogate": found})


def training_curve(run: Path) -> list[list[float]]:
    """Of a run with shots: [shots so far, validation accuracy] of every validation."""
    rows, _ = read_rows(run / "metrics.csv")
    shots, curve = 0.0, []
    for row in rows:
        shots = float(row.get("shots_so_far") or shots)
        if row["event"] == "val":
            curve.append([shots, float(row["val_acc"])])
    return curve


def transpile(job: Job, path: Path) -> None:
    """What a trained circuit costs on machines, unless that is kept already."""
    from deployment.command_line import parse_command_line
    from deployment.on_machine import run_transpile

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        words = ["transpile", "--run", str(job.folder), "--json", str(path), *TRANSPILED[job.row]]
        run_transpile(parse_command_line(words))


def on_machine(job: Job, path: Path, data_dir: Path | None) -> None:
    """A trained model from counts of a simulated machine, unless that is kept already."""
    from deployment.command_line import parse_command_line
    from deployment.on_machine import run_on_machine

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        run_on_machine(parse_command_line(["run", *words_of(job.folder, data_dir), "--json", str(path), *OF_MACHINE]))


def found(run: Path, suite: Suite, data_dir: Path | None) -> dict:
    """What `hardware.py evaluate` says of a run; ends the program where the data or the run cannot be read."""
    from dataset import DataError  # here: --help and a dry run do not wait for torch
    from deployment.command_line import parse_command_line
    from deployment.evaluation import evaluate_run
    from runs.checkpoint import CheckpointError

    try:
        return evaluate_run(parse_command_line(["evaluate", *words_of(run, data_dir), *suite.words]))
    except (DataError, CheckpointError) as error:
        fail(error)


def words_of(run: Path, data_dir: Path | None) -> tuple[str, ...]:
    """Flags that name a run and its data."""
    return ("--run", str(run), *(("--data_dir", str(data_dir)) if data_dir else ()))


def write_all(results_dir: Path, images_dir: Path) -> None:
    """Tables, as Markdown, and figures, of all that is kept."""
    from reproduction.hardware_pictures import draw_all

    kept = hardware_tables.load(results_dir)
    if not kept:
        print(f"nothing is kept in {results_dir}")
        return
    transpiled = {path.stem: read_json(path) for path in sorted((results_dir / "transpile").glob("*.json"))}
    machines = {path.stem: read_json(path) for path in sorted((results_dir / "machines").glob("*.json"))}
    text = hardware_tables.markdown(kept, transpiled, machines)
    write_text(results_dir / "tables.md", text + "\n")
    print(text)
    for path in draw_all(kept, images_dir):
        print(path)
