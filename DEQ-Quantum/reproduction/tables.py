"""A table of the paper from finished runs: mean and spread over seeds beside the paper's numbers.

Built as plain data (`build_table`), which is its JSON; Markdown and CSV are made from that. A row without runs is
listed with the command that runs it, never filled in.
"""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from models.table import MODELS
from reproduction.overview import duration
from reproduction.rows import Row, Table
from reproduction.study_columns import COLUMNS, EQUAL, OF_SOME
from utils.markdown import markdown_table
from utils.statistics import Spread, mean_and_spread

# what a table shows of a run, and the factor from results.json to its unit
MEASURES = {
    "test_acc": 100.0,  # %
    "peak_memory_mb": 1.0,
    "train_seconds": 1.0,
    "test_res": 1.0,
    "test_res_rel": 1.0,
    "n_parameters": 1.0,
}
# by the SHA-256 of the test images that a number was measured on
KNOWN_TEST_IMAGES = {
    "ff08298cb7b59508bbc55375820d050d4e25779965c79d66f29714597900ca48": "The test set is partly JPEG-decoded: its "
    "images 0 to 999 are exact, 1000 to 9999 were decoded from JPEG of quality 75 (mean error 6/255 per colour pixel, "
    "before pooling).",
}
FIRST_IMAGES_OF = "MNIST-4"  # the data of the logs that have an accuracy on the first test images
HEADER = ("model", "test accuracy, %", "paper", "difference", "peak memory, MB (paper)", "training, s (paper)",
          "`res` (paper)", "`res_rel`", "parameters", "seeds")  # fmt: skip


def build_table(
    table: Table,
    epochs: int,
    seeds: list[int] | None,
    results: dict[tuple[str, int], dict],
    further_notes: Sequence[str] = (),
) -> dict:
    """The table as plain data.

    Args:
        table: what belongs in it.
        epochs: how long its runs trained.
        seeds: which it wants; None: each row's own.
        results: results.json of the finished runs, by row name and seed.
        further_notes: sentences besides the table's own.
    """
    rows = []
    left: dict[tuple[int, ...], list[Row]] = {}  # rows that lack the same seeds take one command
    for row in table.rows:
        wanted = seeds or row.seeds
        runs = [results[row.name, seed] for seed in wanted if (row.name, seed) in results]
        if runs:
            rows.append(_row(row, runs, table.columns))
        if len(runs) < len(wanted):
            left.setdefault(tuple(seed for seed in wanted if (row.name, seed) not in results), []).append(row)
    runs = list(results.values())
    images = dict.fromkeys(run.get("test_images_sha256") for run in runs)
    return {
        "table": table.name,
        "title": table.title,
        "epochs": epochs,
        "paper_epochs": table.epochs,
        **({"columns": list(table.columns)} if table.columns else {}),  # the paper's are known
        "seeds": seeds or sorted({seed for row in table.rows for seed in row.seeds}),
        "rows": rows,
        "missing": [
            {
                "rows": [row.name for row in lacking],
                "labels": [row.label for row in lacking],
                "seeds": list(missing),
                "command": _command(table, lacking, missing, epochs),
            }
            for missing, lacking in left.items()
        ],
        "notes": [
            *table.notes,
            *further_notes,
            *_of_first_images(table, seeds, results),
            *(KNOWN_TEST_IMAGES[sha] for sha in images if sha in KNOWN_TEST_IMAGES),
        ],
        "differs": {row.label: row.differs for row in table.rows if row.differs and any(row.name == r["row"] for r in rows)},
        "runs_of_commit": dict(sorted(Counter(str(run["git_commit"]) for run in runs).items())),
        "devices": sorted({run["device"] for run in runs}),
        "train_seconds_in_all": sum(run["train_seconds"] for run in runs),
    }


def _of_first_images(table: Table, seeds: list[int] | None, results: dict[tuple[str, int], dict]) -> list[str]:
    """How often rows are right on as many test images as the work that they are of was tested on; one sentence a row."""
    notes = []
    if table.data != FIRST_IMAGES_OF:
        return notes
    for row in table.rows:
        if not (n := MODELS[row.model].first_images):
            continue
        runs = [results[row.name, seed] for seed in seeds or row.seeds if (row.name, seed) in results]
        found = [100 * run[key] for run in runs if (key := f"test_acc_first_{n}") in run]
        if found and len(found) == len(runs):
            notes.append(f"{row.label}, on the first {n} test images of its classes alone: {mean_and_spread(found).text('.2f')} %.")
    return notes


def _row(row: Row, runs: list[dict], columns: Sequence[str] = ()) -> dict:
    content = {"row": row.name, "label": row.label, "seeds": [run["seed"] for run in runs]}
    if columns:
        scales = {name: COLUMNS[name].scale for name in columns}
        return content | {name: _measured(runs, name, scale) for name, scale in scales.items()}
    for name, scale in MEASURES.items():
        content[name] = _measured(runs, name, scale) | {"paper": getattr(row.paper, name, None)}
    accuracy = content["test_acc"]
    compared = None not in (accuracy["mean"], accuracy["paper"])
    accuracy["difference"] = accuracy["mean"] - accuracy["paper"] if compared else None
    return content


def _measured(runs: list[dict], name: str, scale: float) -> dict:
    """Mean and spread of a number of results.json, which models without it lack; and each run's."""
    values = [None if run.get(name) is None else scale * run[name] for run in runs]
    return asdict(mean_and_spread(values)) | {"values": values}


def _command(table: Table, rows: list[Row], seeds: Sequence[int], epochs: int) -> str:
    names = [row.name for row in rows]
    which = [table.study, "--parts", table.part] if table.study else [table.name]
    words = ["python DEQ-Quantum/reproduce.py", *which, "--rows", *names, "--seeds", *map(str, seeds)]
    if epochs != table.epochs:
        words += ["--epochs", str(epochs)]
    return " ".join(words)


def markdown(content: dict) -> str:
    """The table and what to know about it, as it stands in the README."""
    parts = [f"**{content['title']}**, {_length(content)}"]
    if content["rows"]:
        if columns := content.get("columns"):
            parts.append(_study_table(columns, content["rows"]))
        else:
            parts.append(markdown_table(HEADER, map(_cells, content["rows"])))
    commits = ", ".join(f"{commit} ({n})" for commit, n in content["runs_of_commit"].items())
    about = list(content["notes"])
    if commits:
        took = duration(content["train_seconds_in_all"])
        about.append(f"Runs of commits: {commits}; on {' and '.join(content['devices'])}; training took {took} in all.")
    parts += [" ".join(about)] * bool(about)
    if differs := content.get("differs"):  # tables of older versions have none
        lines = "\n".join(f"- {label}: {text}" for label, text in differs.items())
        parts.append(f"How the rows of published works differ from these; beside them stand the works' own numbers:\n\n{lines}")
    if content["missing"]:
        parts.append(
            "Not run yet:\n\n"
            + "\n".join(
                f"- {'; '.join(group['labels'])} (seeds {', '.join(map(str, group['seeds']))}): `{group['command']}`"
                for group in content["missing"]
            )
        )
    return "\n\n".join(parts)


def _length(content: dict) -> str:
    epochs, paper = content["epochs"], content["paper_epochs"]
    text = f"{epochs} epoch{'s' * (epochs != 1)}"
    whose = "the study's" if content.get("columns") else "the paper's"
    return text if epochs == paper else f"{text}, **not {whose} {paper}** (warm-ups changed in proportion)"


def spread_of(measure: dict) -> Spread:
    """Mean and spread of one measure of a row of `build_table`."""
    return Spread(measure["mean"], measure["std"])


def _cells(row: dict) -> list[str]:
    accuracy = row["test_acc"]
    return [
        row["label"],
        spread_of(accuracy).text(".2f"),
        _number(accuracy["paper"], ".2f"),
        _number(accuracy["difference"], "+.2f"),
        *(
            _number(row[name]["mean"], form)
            + ("" if row[name]["paper"] is None else f" ({row[name]['paper']:{paper}})")
            for name, form, paper in (
                ("peak_memory_mb", ".0f", "g"),
                ("train_seconds", ".0f", ".0f"),
                ("test_res", ".1e", ".1e"),
            )
        ),
        _number(row["test_res_rel"]["mean"], ".1e"),
        _number(row["n_parameters"]["mean"], ".0f"),
        ", ".join(map(str, row["seeds"])),
    ]


def _study_table(columns: Sequence[str], rows: list[dict]) -> str:
    def cells(row: dict) -> list[str]:
        found = [_study_cell(row[name], name) for name in columns]
        return [row["label"], *found, ", ".join(map(str, row["seeds"]))]

    return markdown_table(("model", *(COLUMNS[name].header for name in columns), "seeds"), map(cells, rows))


def _study_cell(measure: dict, name: str) -> str:
    spread, form = spread_of(measure), COLUMNS[name].form
    missing = name in OF_SOME and set(measure["values"]) == {None}
    return _number(spread.mean, form) if name in EQUAL or missing else spread.text(form)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def as_csv(content: dict) -> str:
    """The rows with every mean, standard deviation and number of the paper, one line each."""
    lines = []
    for row in content["rows"]:
        line = {"row": row["row"], "label": row["label"], "epochs": content["epochs"], "n": len(row["seeds"])}
        line["seeds"] = " ".join(map(str, row["seeds"]))
        for name in content.get("columns") or MEASURES:
            line |= {
                f"{name}_{key}": row[name][key] for key in ("mean", "std", "paper", "difference") if key in row[name]
            }
        lines.append(line)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]) if lines else ["row"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
