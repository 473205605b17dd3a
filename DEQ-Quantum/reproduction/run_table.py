"""`reproduce.py table`: a Markdown table of finished runs, from their results.json files.

Runs that differ in their seed only share a row: mean and standard deviation over seeds, and how many. Reads files,
knows nothing of the paper's rows.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from models.table import MODELS
from runs.settings import SettingsError
from training.settings import CIRCUIT_SETTINGS
from utils.files import read_json
from utils.markdown import markdown_table
from utils.statistics import mean_and_spread

# what makes two runs the same but for the seed
SAME = ("model", "dataset", "num_classes", "n_wires", "encoding", "mode", "n_layer", "trainable_gates", "engine",
        "epochs")  # fmt: skip
# a file that names no model is of QDEQ
NEEDED = {*SAME[1:], "test_acc", "test_res", "test_res_rel", "train_seconds", "seconds_per_step", "seed"}
HEADER = ("model", "encoding", "epochs", "test accuracy, %", "`res`", "`res_rel`", "training, s", "ms a step", "seeds")


def read_results(path: Path, needed: set[str], about: str) -> dict:
    """A JSON file with at least these keys.

    Args:
        path: the file, or a run folder with its results.json.
        needed: keys.
        about: whose results they are, for the message.

    Raises:
        SettingsError: it cannot be read, or lacks one.
    """
    path = path / "results.json" if path.is_dir() else path
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} is no readable results file ({error})") from error
    if not isinstance(content, dict) or not needed <= set(content):
        raise SettingsError(f"{path} holds no results of {about}")
    return content


def show_table(options: argparse.Namespace) -> None:
    """`reproduce.py table`: print the table of files."""
    print(table_of_files(options.files))


def table_of_files(paths: Sequence[Path]) -> str:
    """The table of results.json files, or of run folders that hold one.

    Raises:
        SettingsError: a file that is none.
    """
    return run_table([read_results(path, NEEDED, "a run") for path in paths])


def run_table(results: list[dict]) -> str:
    """The rows, in the order in which their first runs come."""
    rows: dict[tuple, list[dict]] = {}
    for result in ({"model": "qdeq"} | CIRCUIT_SETTINGS | result for result in results):
        rows.setdefault(tuple(result[name] for name in (*SAME, *CIRCUIT_SETTINGS)), []).append(result)
    return markdown_table(HEADER, map(_row, rows.values()))


def _row(runs: list[dict]) -> list[str]:
    first = runs[0]

    def cell(name: str, form: str, scale: float = 1.0) -> str:
        return mean_and_spread([run[name] for run in runs]).text(form, scale)

    others = [f"{name} {first[name]}" for name, paper in CIRCUIT_SETTINGS.items() if first[name] != paper]
    others += {"all": [], "released": ["block gates frozen"], "none": ["gates not trained"]}[first["trainable_gates"]]
    return [
        model_name(first) + (f" ({', '.join(others)})" if others else ""),
        first["encoding"],
        f"{first['epochs']:g}",
        cell("test_acc", ".2f", 100),
        cell("test_res", ".1e"),
        cell("test_res_rel", ".1e"),
        cell("train_seconds", ".0f"),
        cell("seconds_per_step", ".1f", 1e3),
        ", ".join(str(run["seed"]) for run in runs),
    ]


def model_name(result: dict) -> str:
    """The paper's name of a run's depth, after that of its model where it is not the paper's own."""
    model = MODELS.get(result["model"])
    if model is None:
        raise SettingsError(f"results of --model {result['model']}, which is none of {', '.join(MODELS)}")
    if not model.has_depth:
        return model.label
    depth = {"implicit": "IMPLICIT", "warmup": "IMPLICIT+WARMUP", "direct": f"DIRECT-{result['n_layer']}"}
    return f"{model.label}: {depth[result['mode']]}" if model.label else depth[result["mode"]]
