"""The table of a sweep, a row for each point: mean and spread over seeds, as JSON and as Markdown made from that."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from reproduction.grid import Point
from reproduction.jobs import Job
from reproduction.overview import duration
from reproduction.tables import spread_of
from utils.files import write_json, write_text
from utils.markdown import markdown_table
from utils.statistics import mean_and_spread

# of results.json: the factor to the unit of the table, the column's name and how its numbers are written
MEASURES = {
    "test_acc": (100.0, "test accuracy, %", ".2f"),
    "best_val_acc": (100.0, "validation, %", ".2f"),
    "test_res_rel": (1.0, "`res_rel`", ".1e"),
    "train_seconds": (1.0, "training, s", ".0f"),
    "n_parameters": (1.0, "parameters", ".0f"),
}


def build_sweep_table(name: str, points: Sequence[Point], jobs: Sequence[Job], common: Sequence[str]) -> dict:
    """The table as plain data.

    Args:
        name: of the sweep.
        points: in the order of its rows.
        jobs: every point with every seed; a job's row is its point's folder.
        common: flags that all points share.
    """
    found = {(job.row, job.seed): results for job in jobs if (results := job.results()) is not None}
    rows = []
    for point in points:
        runs = {seed: results for (row, seed), results in found.items() if row == point.folder}
        if runs:
            rows.append({"point": point.values, "label": point.label, "seeds": list(runs), **_measured(runs.values())})
    return {
        "sweep": name,
        "flags": shlex.join(common),
        "seeds": list(dict.fromkeys(job.seed for job in jobs)),
        "rows": rows,
        "missing": [job.name for job in jobs if (job.row, job.seed) not in found],
        "runs_of_commit": dict(sorted(Counter(str(run["git_commit"]) for run in found.values()).items())),
        "devices": sorted({run["device"] for run in found.values()}),
        "train_seconds_in_all": sum(run["train_seconds"] for run in found.values()),
    }


def _measured(runs) -> dict:
    content = {}
    for name, (scale, _, _) in MEASURES.items():
        values = [None if run[name] is None else scale * run[name] for run in runs]
        content[name] = asdict(mean_and_spread(values)) | {"values": values}
    return content


def sweep_markdown(content: dict) -> str:
    """The table, which point is best on the validation set, and what is missing."""
    about = f" ({content['flags']})" if content["flags"] else ""
    parts = [f"**Sweep {content['sweep']}**{about}"]
    rows = content["rows"]
    if rows:
        flags = list(dict.fromkeys(name for row in rows for name in row["point"]))
        header = [*flags, *(column for _, column, _ in MEASURES.values()), "seeds"]
        parts.append(markdown_table(header, [_cells(row, flags) for row in rows]))
        ranked = [row for row in rows if row["best_val_acc"]["mean"] is not None]
        best = max(ranked, key=lambda row: row["best_val_acc"]["mean"], default=None)
        commits = ", ".join(f"{commit} ({n})" for commit, n in content["runs_of_commit"].items())
        parts.append(
            (f"Best on the validation set: {best['label']}. " if best else "")
            + f"Runs of commits: {commits}; on {' and '.join(content['devices'])}; "
            + f"training took {duration(content['train_seconds_in_all'])} in all."
        )
    if content["missing"]:
        parts.append("Not run yet: " + "; ".join(content["missing"]) + ".")
    return "\n\n".join(parts)


def _cells(row: dict, flags: list[str]) -> list[str]:
    measures = [spread_of(row[name]).text(form) for name, (_, _, form) in MEASURES.items()]
    return [*(row["point"].get(flag, "") for flag in flags), *measures, ", ".join(map(str, row["seeds"]))]


def write_sweep_table(content: dict, folder: Path) -> str:
    """Write table.json and table.md, and give the Markdown back."""
    text = sweep_markdown(content)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "table.json", content)
    write_text(folder / "table.md", text + "\n")
    return text
