"""From run folders to what is committed: each run's results and curves, and the table made of them.

<results_dir>/<table>/<row>/seed-<n>.json    results.json as the run wrote it
<results_dir>/<table>/<row>/seed-<n>.csv     one line per epoch: the figures' data
<results_dir>/<table>/table.{json,csv,md}    the table
<results_dir>/<table>/gradient_variance.json of initial models, where the table shows them
"""

import csv
import io
import logging
from pathlib import Path

from reproduction import gradient_variances
from reproduction.jobs import Job, same_run
from reproduction.row import Table
from reproduction.study_rows import EVERY_TABLE
from reproduction.tables import as_csv, build_table, markdown, spread_of
from runs.settings import SettingsError
from training.command_line import parse_command_line
from utils.csv_rows import read_rows
from utils.files import read_json, write_json, write_text

log = logging.getLogger("qdeq")

CURVES = ("train_loss", "train_acc", "val_loss", "val_acc", "val_res", "val_res_rel", "val_spectral_radius")


def kept_path(job: Job, results_dir: Path) -> Path:
    """Where a job's results are kept."""
    return results_dir / job.table / job.row / f"seed-{job.seed}.json"


def collect(jobs: list[Job], results_dir: Path) -> int:
    """Keep the results of the jobs that are finished.

    Returns:
        How many they are.
    """
    n_finished = 0
    for job in jobs:
        results = job.results()
        if results is None:
            continue
        n_finished += 1
        path = kept_path(job, results_dir)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, results)
        _keep_curves(job.folder / "metrics.csv", path.with_suffix(".csv"))
    return n_finished


def _keep_curves(metrics_csv: Path, path: Path) -> None:
    """Write the curves, unless some of them are lost and those kept before are there."""
    try:
        text, problem = curves(metrics_csv)
    except FileNotFoundError:
        text, problem = "", f"{metrics_csv} is gone"
    if problem:
        log.warning("%s: %s", problem, "the curves kept before stay" if path.exists() else "its curves lack what is lost")
    if text and not (problem and path.exists()):
        write_text(path, text)


def curves(metrics_csv: Path) -> tuple[str, str]:
    """A run's curves as CSV: training and validation of each epoch in one line, six digits of each number.

    Returns:
        The text, "" without any row; and what is lost, in words, "" where nothing is.
    """
    events, problem = read_rows(metrics_csv, ("event", "train_step", "epoch", "mode"))
    if not events:
        return "", problem or f"{metrics_csv} is empty"
    by_step: dict[str, dict] = {}
    for event in events:
        if event["event"] in ("train", "val"):
            line = by_step.setdefault(event["train_step"], {"epoch": _short(event["epoch"]), "mode": event["mode"]})
            line |= {name: _short(event[name]) for name in CURVES if event.get(name)}
    text = io.StringIO()
    writer = csv.DictWriter(text, ("epoch", "mode", *CURVES), lineterminator="\n")
    writer.writeheader()
    writer.writerows(by_step.values())
    return text.getvalue(), problem


def _short(cell: str) -> str:
    return f"{float(cell):.6g}" if cell else ""


def read_kept(job: Job, results_dir: Path) -> dict | None:
    """A job's kept results; None where there are none of a run with its settings.

    Raises:
        SettingsError: a file that is no results.json.
    """
    path = kept_path(job, results_dir)
    if not path.exists():
        return None
    try:
        results = read_json(path)
        saved = results["settings"]
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{path} is no results file of a run ({error!r}); remove it") from error
    return results if same_run(saved, parse_command_line(list(job.flags)).settings) else None


def kept_rows(name: str, results_dir: Path) -> dict[str, dict]:
    """The rows of a kept table.json by their names; none where there is no such file.

    Args:
        name: of the table.
        results_dir: where it is kept.

    Raises:
        SettingsError: a file with something else.
    """
    path = results_dir / name / "table.json"
    if not path.exists():
        return {}
    try:
        return {row["row"]: row for row in read_json(path)["rows"]}
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{path} is no table ({error!r}); remove it, and write it anew with --report") from error


def rows_beside(table: Table, results_dir: Path) -> dict[str, dict]:
    """The rows of other tables that are told beside a table's own, those that are kept, by their names.

    Raises:
        SettingsError: a damaged table.json.
    """
    found = {row: kept_rows(name, results_dir).get(row) for name, row in table.beside}
    return {name: row for name, row in found.items() if row}


def told_beside(table: Table, results_dir: Path) -> list[str]:
    """What rows of other tables, kept in the same folder, reach: one sentence, or none where there are none.

    Raises:
        SettingsError: a damaged table.json.
    """
    told = [f"{row['label']} {spread_of(row['test_acc']).text('.2f')} %" for row in rows_beside(table, results_dir).values()]
    if not told:
        return []
    other = EVERY_TABLE[table.beside[0][0]]
    name = (other.study or other.name).replace("table", "Table ")
    return [f"Of {name} ({other.epochs} epochs), to compare with: {'; '.join(told)}."]


def write_table(table: Table, epochs: int, seeds: list[int] | None, jobs: list[Job], results_dir: Path) -> dict:
    """Keep what is finished, then write table.md, table.csv and table.json of all that is kept.

    Args:
        table, epochs, seeds: as in `build_table`.
        jobs: every row with every seed.
        results_dir: where results are kept.

    Returns:
        The table; without rows, and unwritten, where there is no finished run.

    Raises:
        SettingsError: a damaged results file.
    """
    collect(jobs, results_dir)
    of_start = {}
    if gradient_variances.is_measured(table) and jobs:
        gradient_variances.keep(jobs, results_dir)
        of_start = gradient_variances.columns_of(table, results_dir)
    kept = {(job.row, job.seed): read_kept(job, results_dir) for job in jobs}
    found = {key: value | of_start.get(key[0], {}) for key, value in kept.items() if value}
    content = build_table(table, epochs, seeds, found, told_beside(table, results_dir))
    if content["rows"]:
        folder = results_dir / table.name
        write_json(folder / "table.json", content)
        write_text(folder / "table.csv", as_csv(content))
        write_text(folder / "table.md", markdown(content) + "\n")
    return content
