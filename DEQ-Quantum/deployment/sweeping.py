"""`hardware.py sweep`: many trained runs under the same noises; runs that differ in their seed alone are one model.

The file of results grows run by run, so a sweep that was stopped goes on where it was; a run that was trained again since
is measured again, known by its checkpoint's checksum.
"""

import hashlib
import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from deployment.evaluation import evaluate_run, prepared
from deployment.trained import checkpoint_path
from figures.panels import Line, Panel, draw_panels
from figures.style import save_figure
from hardware.noise import NoiseError
from models.table import MODELS
from runs.settings import result_fields
from training.equilibrium_settings import OF_SOLVER
from training.settings import Settings
from utils.files import read_json, write_json
from utils.markdown import markdown_table
from utils.statistics import Spread, mean_and_spread

# flags that make two evaluations different, besides the run
ASKED = ("checkpoint", "noise", "encoding_noise", "shots", "mitigate", "repeat", "seed", "split", "max_images", *OF_SOLVER)

# of what `Trained.recipe` names
DEFAULTS = {f.name: f.default for f in fields(Settings) if f.name in result_fields(Settings) and f.name != "seed"}
DEFAULTS["load"] = False


def run_sweep(options: Namespace) -> None:
    """Measures what the file lacks, writes it run by run, prints a table, draws a picture beside the file."""
    asked = {name: _shown(getattr(options, name, None)) for name in ASKED}
    kept = _read(options.json, asked)
    named = [_named(options, run) for run in dict.fromkeys(run.resolve() for run in options.runs)]
    missing = [one for one in named if kept.get(one.key, {}).get("checkpoint_sha256") != one.checksum]
    for one in tqdm(missing, desc="runs", unit="run", disable=None):
        known = {"settings": one.recipe, "checkpoint_sha256": one.checksum}
        kept[one.key] = evaluate_run(one.options) | known
        write_json(options.json, {"asked": asked, "runs": kept})
    found = [kept[one.key] for one in named]
    print(table(found))
    picture = options.json.with_suffix(".png")
    save_figure(draw(found), picture)
    print(f"\nwritten to {options.json} and {picture}")


@dataclass(frozen=True)
class Named:
    """A run that is asked for and can be evaluated.

    Attributes:
        key: its folder, under which the file has it.
        options: of `hardware.py evaluate`.
        checksum: of its checkpoint.
        recipe: see `Trained.recipe`.
    """

    key: str
    options: Namespace
    checksum: str
    recipe: dict


def _named(options: Namespace, run: Path) -> Named:
    """The run in a folder, refused before any is evaluated: see `prepared`."""
    of_run = Namespace(**(vars(options) | {"run": run}))
    trained, _ = prepared(of_run)
    checksum = hashlib.sha256(checkpoint_path(of_run).read_bytes()).hexdigest()
    return Named(str(run), of_run, checksum, trained.recipe())


def _read(path: Path, asked: dict) -> dict[str, dict]:
    """The evaluations in a file, by the path of their run; none where there is no file.

    Raises:
        NoiseError: it holds something else.
    """
    if not path.exists():
        return {}
    try:
        content = read_json(path)
        if dict.fromkeys(ASKED) | content["asked"] == asked:  # older than a flag: it was not given
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
    """What a model is called: its name, depth, encoding, wires."""
    implicit = "IMPLICIT+WARMUP" if content["settings"]["pretrain_steps"] else "IMPLICIT"
    depth = f"DIRECT-{content['n_layer']}" if content["n_layer"] else implicit
    name = MODELS[content["model"]].label
    return ", ".join([*([name] if name else []), depth, content["encoding"], f"{content['n_wires']} wires"])


def by_label(contents: Sequence[dict]) -> dict[str, list[dict]]:
    """Evaluations of each model, in the order in which models come.

    Runs are of one model where all settings of their training agree but the seed. Models of one label are told apart by
    those settings in which they differ and that are not the default.
    """
    groups: dict[str, dict[str, list[dict]]] = {}  # by label, then by settings
    recipes: dict[str, dict] = {}
    for content in contents:
        recipe = DEFAULTS | content["settings"]
        key = json.dumps(recipe, sort_keys=True)
        recipes[key] = recipe
        groups.setdefault(label(content), {}).setdefault(key, []).append(content)
    found = {}
    for name, alike in groups.items():
        differing = [s for s in DEFAULTS if len({recipes[key][s] for key in alike}) > 1]
        for key, group in alike.items():
            told = (f"{s} {recipes[key][s]}" for s in differing if recipes[key][s] != DEFAULTS[s])
            found[", ".join([name, *told])] = group
    return found


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
