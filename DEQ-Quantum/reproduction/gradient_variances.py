"""Gradient variances of a table's initial models: measured beside its runs, kept, and shown as columns of its rows.

    <work_dir>/<table>/gradient_variance.json       grows circuit by circuit; one that is there is not measured again
    <results_dir>/<table>/gradient_variance.json    what is kept of it

What is measured is told in `theory/gradient_variance.py`. It belongs to a row's circuit and data, not to one of its runs:
rows of several depths share it, and runs with other seeds do too. A table is measured where its columns ask for it. Nothing
here imports torch before it measures.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from data_settings import CLASSES
from models.table import MODELS
from reproduction.jobs import POLL, Job, acquire, flags_of, lock_path
from reproduction.row import Table
from reproduction.study_columns import OF_START
from runs.settings import SettingsError
from training.command_line import parse_command_line
from training.equilibrium_settings import OF_SOLVER
from training.settings import Settings
from utils.files import read_json, write_json

FILE = "gradient_variance.json"
N_DRAWS = 32  # at most a second each
LOSS_OF = {"implicit": "implicit", "direct-1": "direct_1"}  # by a row's depth
OF = ("first_readout", *LOSS_OF.values())  # of the quantities that `gradient_variance` names, those shown
NEEDED = (*OF, *(f"{name}_error" for name in OF), *(f"{name}_share" for name in OF), "two_designs")
OF_CIRCUIT = ("n_wires", "amplitude_encoder", "ansatz", "n_random_operations", "n_blocks", "readout", "trainable_gates",
              "injection")  # fmt: skip
# the loss is measured as the paper has these; of other rows it would be another
AS_THE_PAPER = ("model", "lift", "z_gain", "z0", *OF_SOLVER, "b_solver", "b_thres", "b_tol")
NOTE = (
    f"Variances are over {N_DRAWS} draws of the initial parameters, then the mean over those parameters that act at all: of the "
    "slope of one layer's first readout on each of the first 8 test images, and of the gradient of the loss, at the row's own "
    "depth, on the first 64."
)


def is_measured(table: Table) -> bool:
    """Whether a table has such columns."""
    return not set(OF_START).isdisjoint(table.columns)


def made_from(settings: Settings) -> dict:
    """What the variances of a run's initial model depend on, but the first draw's seed: circuit, data, how many draws."""
    of_circuit = {name: getattr(settings, name) for name in OF_CIRCUIT}
    of_data = {"dataset": settings.dataset, "classes": list(_classes(settings))}
    return of_circuit | of_data | {"n_draws": N_DRAWS}


def _classes(settings: Settings) -> tuple[int, ...]:
    return settings.chosen_classes or CLASSES[settings.num_classes]


# measuring


def measure(jobs: Sequence[Job], results_dir: Path | None, dry_run: bool) -> None:
    """Measure the circuits of the jobs' rows that are not measured yet, or with dry_run say how many these are.

    Args:
        jobs: of tables with such columns. The first one of a circuit has the seed of its first draw.
        results_dir: where what is kept counts as measured; None: it does not.

    Raises:
        SettingsError: a damaged file, no data, or a row that has more of its own than circuit and data.
    """
    for job in jobs:
        _refuse_other_models(job)
    by_file: dict[Path, list[Job]] = {}
    for job in jobs:
        by_file.setdefault(job.path.parents[1] / FILE, []).append(job)
    wanted = {path: _first_of_each(of_file) for path, of_file in by_file.items()}
    measured = {path: read(path) for path in wanted}
    if results_dir is not None:
        for path in wanted:
            measured[path] = read(results_dir / path.parent.name / FILE) + measured[path]
    n = sum(len(of_file) for of_file in wanted.values())
    n_left = sum(_find(measured[path], job.settings) is None for path, of_file in wanted.items() for job in of_file)
    print(f"gradient variances: {n - n_left} of {n} circuits are measured", flush=True)
    if dry_run:
        return
    with tqdm(total=n_left, desc="gradient variances", unit="circuit", disable=None) as bar:
        for path, of_file in wanted.items():
            _measure_into(path, of_file, measured[path], bar)


def _refuse_other_models(job: Job) -> None:
    default = Settings()
    for name in AS_THE_PAPER:
        if getattr(job.settings, name) != getattr(default, name):
            raise SettingsError(
                f"{job.table}, {job.row}: gradient variances are measured with --{name} {getattr(default, name)}, not "
                f"{getattr(job.settings, name)}: give the row's table no columns {' and '.join(OF_START)}"
            )


def _first_of_each(jobs: list[Job]) -> list[Job]:
    found: list[Job] = []
    for job in jobs:
        if all(made_from(job.settings) != made_from(other.settings) for other in found):
            found.append(job)
    return found


def _measure_into(path: Path, jobs: list[Job], known: list[dict], bar: tqdm) -> None:
    """Add what a file lacks, one circuit after the other; another command that is at this file is waited for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock_path(path).open("w") as lock:
        while not acquire(lock):
            time.sleep(POLL)
        there = read(path)
        for job in jobs:
            if _find(there, job.settings) is not None:
                continue
            entry = _find(known, job.settings)
            if entry is None:
                entry = _measured(job.settings)
                bar.update()
            there.append(entry)
            write_json(path, {"circuits": there})


def _measured(settings: Settings) -> dict:
    """One entry of the file: what it was made from, facts of the machine, and the variances.

    Raises:
        SettingsError: no data.
    """
    import torch  # here and below: --help and a dry run do not wait for it

    from dataset import DataError
    from runs.machine import environment
    from theory.gradient_variance import first_test_images, gradient_variance

    classes = _classes(settings)
    try:
        x, labels = first_test_images(settings.dataset, settings.n_wires, settings.data_folder, classes=classes)
    except DataError as error:
        raise SettingsError(error) from error
    began = time.process_time()  # not the clock's: the command may share its core
    circuit = MODELS[settings.model].circuit(settings)
    variances = gradient_variance(circuit, x, labels, len(classes), N_DRAWS, seed=settings.seed)
    facts = environment(torch.device("cpu")) | {"seconds": round(time.process_time() - began, 1)}
    return {"made_from": made_from(settings), "seed": settings.seed, **facts, "variances": variances}


# reading


def read(path: Path) -> list[dict]:
    """The entries of a file, one a circuit; none where there is no file.

    Raises:
        SettingsError: a file with something else.
    """
    if not path.exists():
        return []
    try:
        entries = read_json(path)["circuits"]
        numbers = [entry["variances"][name] for entry in entries for name in NEEDED]
        if all(isinstance(entry["made_from"], dict) for entry in entries) and all(map(math.isfinite, numbers)):
            return entries
        why = "a number is missing"
    except (ValueError, KeyError, TypeError) as error:
        why = repr(error)
    raise SettingsError(f"{path} holds no gradient variances ({why}): remove it")


def _find(entries: list[dict], settings: Settings) -> dict | None:
    made = made_from(settings)
    return next((entry for entry in entries if entry["made_from"] == made), None)


def keep(jobs: Sequence[Job], results_dir: Path) -> None:
    """Keep what is measured of the circuits of a table's jobs; what the work folder lacks stays as it was kept.

    Raises:
        SettingsError: a damaged file.
    """
    there = read(jobs[0].path.parents[1] / FILE)
    found = [entry for job in _first_of_each(jobs) if (entry := _find(there, job.settings))]
    if not found:
        return
    path = results_dir / jobs[0].table / FILE
    new = [entry["made_from"] for entry in found]
    content = [entry for entry in read(path) if entry["made_from"] not in new] + found
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"circuits": content})


def of_rows(table: Table, results_dir: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """The kept variances of each row's initial models with their standard errors, by the names of `OF`, and "two_designs".

    They are means over the parameters that the quantity depends on: only those can be compared with two-designs, as a
    readout of a shallow circuit sees few wires.

    Raises:
        SettingsError: a damaged file.
    """
    entries, found = read(results_dir / table.name / FILE), {}
    for row in table.rows:
        settings = parse_command_line(list(flags_of(table, row, table.epochs))).settings
        if (entry := _find(entries, settings)) is not None:
            numbers = entry["variances"]
            found[row.name] = {name: _of_acting(numbers, name) for name in OF} | {"two_designs": (numbers["two_designs"], 0.0)}
    return found


def _of_acting(numbers: dict[str, float], name: str) -> tuple[float, float]:
    share = numbers[f"{name}_share"] or 1.0
    return numbers[name] / share, numbers[f"{name}_error"] / share


def columns_of(table: Table, results_dir: Path) -> dict[str, dict[str, float]]:
    """`OF_START` of each row: one layer's first readout, and the loss at the row's own depth."""
    return {
        name: {"readout_variance": found["first_readout"][0], "loss_variance": found[LOSS_OF[table.row(name).depth]][0]}
        for name, found in of_rows(table, results_dir).items()
    }
