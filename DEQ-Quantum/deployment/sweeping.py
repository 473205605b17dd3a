"""`hardware.py sweep`: many trained runs under the same noises; runs that differ in their seed alone are one model.

The file of results grows run by run, so a sweep that was stopped goes on where it was.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from deployment.evaluation import evaluate_run
from figures.panels import Line, Panel, draw_panels
from figures.style import save_figure
from hardware.noise import NoiseError
from models.table import MODELS
from utils.files import read_json, write_json
from utils.markdown import markdown_table
from utils.statistics import Spread, mean_and_spread

# flags that make two evaluations different, besides the run
ASKED = ("checkpoint", "noise", "encoding_noise", "shots", "mitigate", "repeat", "seed", "split", "max_images",
         "f_solver", "stop_mode", "f_thres", "f_tol")  # fmt: skip


def run_sweep(options: Namespace) -> None:
    """Measures what the file lacks, writes it run by run, prints a table, draws a picture beside the file."""
    asked = {name: _shown(getattr(options, name, None)) for name in ASKED}
    kept = _read(options.json, asked)
    for run in tqdm(options.runs, desc="runs", unit="run", disable=None):
        name = str(run.resolve())
        if name not in kept:
            kept[name] = evaluate_run(Namespace(**(vars(options) | {"run": run})))
            write_json(options.json, {"asked": asked, "runs": kept})
    found = [kept[str(run.resolve())] for run in options.runs]
    print(table(found))
    picture = options.json.with_suffix(".png")
    save_figure(draw(found), picture)
    print(f"\nwritten to {options.json} and {picture}")


def _read(path: Path, asked: dict) -> dict[str, dict]:
    """The evaluations in a file, by the path of their run; none where there is no file.

    Raises:
        NoiseError: it holds something else.
    """
    if not path.exists():
        return {}
    try:
        content = read_json(path)
        if content["asked"] == asked:
            return content["runs"]
        what = "holds a sweep with other flags"
    except (ValueError, KeyError, TypeError):
        what = "holds no sweep"
    raise NoiseError(f"--json {path} {what}: name another file, or remove it")


def _shown(value: object) -> object:
    """A flag's value as JSON keeps it."""
    if isinstance(value, (list, tuple)):
        return [_shown(item) for item in value]
    return getattr(value, "text", value)


def label(content: dict) -> str:
    """What runs that differ in their seed share: model, depth, encoding, wires."""
    depth = f"DIRECT-{content['n_layer']}" if content["n_layer"] else "IMPLICIT"
    name = MODELS[content["model"]].label
    return ", ".join([*([name] if name else []), depth, content["encoding"], f"{content['n_wires']} wires"])


def by_label(contents: Sequence[dict]) -> dict[str, list[dict]]:
    """Evaluations of each model, in the order in which models come."""
    groups: dict[str, list[dict]] = {}
    for content in contents:
        groups.setdefault(label(content), []).append(content)
    return groups


def accuracy(contents: Sequence[dict], row: int | None) -> Spread:
    """Over runs, in [0, 1]: under the noise of that number, or without any."""
    return mean_and_spread([(c["ideal"] if row is None else c["rows"][row])["acc"] for c in contents])


def table(contents: Sequence[dict]) -> str:
    """Accuracy in % by model and noise, mean and sample standard deviation over seeds."""
    noises = [row["noise"] for row in contents[0]["rows"]]
    rows = [
        [name, *(accuracy(group, row).text(".2f", 100) for row in (None, *range(len(noises)))), str(len(group))]
        for name, group in by_label(contents).items()
    ]
    return markdown_table(["accuracy, %", "no noise", *noises, "runs"], rows)


def draw(contents: Sequence[dict]) -> Figure:
    """Accuracy of every model against the noises, in the order in which they were named."""
    noises = ["no noise", *(row["noise"] for row in contents[0]["rows"])]
    places = np.arange(len(noises))
    lines = [
        Line(
            name,
            places,
            100 * np.array([[c["ideal"]["acc"], *(row["acc"] for row in c["rows"])] for c in group]),
            number,
            "o",
        )
        for number, (name, group) in enumerate(by_label(contents).items())
    ]
    figure = draw_panels([Panel("", "", "accuracy, %", lines)], 1)
    axes = figure.axes[0]
    axes.set_xticks(places, noises, rotation=30, ha="right", fontsize=7)
    return figure
