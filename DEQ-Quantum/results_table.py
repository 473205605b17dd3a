"""A Markdown table of finished runs, from their results.json files.

    python DEQ-Quantum/results_table.py results/engines/compiled-*.json

Runs that differ in their seed only share a row: mean and standard deviation over seeds, and how many. Reads files,
knows nothing of models.
"""

import argparse
import json
from pathlib import Path
from statistics import mean, stdev

from reproduction.rows import BASELINES
from utils.command_line import OneLineParser, fail

# what makes two runs the same but for the seed
SAME = ("model", "dataset", "num_classes", "n_wires", "encoding", "mode", "n_layer", "trainable_gates", "engine",
        "epochs")  # fmt: skip
HEADER = (
    "| model | encoding | epochs | test accuracy, % | `res` | `res_rel` | training, s | ms a step | seeds |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def model_name(result: dict) -> str:
    """The paper's name of a run's model, after the baseline's where it is one."""
    if result["model"] == "linear":
        return "linear classifier"
    depth = {"implicit": "IMPLICIT", "warmup": "IMPLICIT+WARMUP", "direct": f"DIRECT-{result['n_layer']}"}
    baseline = BASELINES.get(result["model"])
    return f"{baseline}: {depth[result['mode']]}" if baseline else depth[result["mode"]]


def spread(values: list[float | None], form: str, scale: float = 1.0) -> str:
    """Mean, and standard deviation where there are several values; a file has null for what was not finite."""
    if None in values:
        return "not finite"
    values = [scale * value for value in values]
    text = format(mean(values), form)
    return f"{text} ± {format(stdev(values), form)}" if len(values) > 1 else text


def table(results: list[dict]) -> str:
    """The rows, in the order in which their first runs come; a file that names no model is of QDEQ."""
    rows: dict[tuple, list[dict]] = {}
    for result in ({"model": "qdeq"} | result for result in results):
        rows.setdefault(tuple(result[name] for name in SAME), []).append(result)
    lines = [HEADER]
    for runs in rows.values():
        first = runs[0]

        def cell(name: str, form: str, scale: float = 1.0) -> str:
            return spread([run[name] for run in runs], form, scale)

        cells = [
            model_name(first) + (" (block gates frozen)" if first["trainable_gates"] == "released" else ""),
            first["encoding"],
            f"{first['epochs']:g}",
            cell("test_acc", ".2f", 100),
            cell("test_res", ".1e"),
            cell("test_res_rel", ".1e"),
            cell("train_seconds", ".0f"),
            cell("seconds_per_step", ".1f", 1e3),
            ", ".join(str(run["seed"]) for run in runs),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The command: prints the table."""
    parser = OneLineParser(
        prog="results_table.py",
        description="Print a Markdown table of finished runs.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("files", type=Path, nargs="+", help="results.json files, or run folders that hold one")
    results = []
    needed = {*SAME[1:], "test_acc", "test_res", "test_res_rel", "train_seconds", "seconds_per_step", "seed"}
    for path in parser.parse_args(arguments).files:
        path = path / "results.json" if path.is_dir() else path
        try:
            results.append(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            fail(f"{path} is no readable results file ({error})")
        if not isinstance(results[-1], dict) or not needed <= set(results[-1]):
            fail(f"{path} holds no results of a run")
    print(table(results))


if __name__ == "__main__":
    main()
