"""Table 5: the search of hyper-parameters of Appendix E of the paper, on the validation set, and its report.

What is searched, a trial as a job, and what was found. Ray Tune and Optuna, which propose and stop trials, are in
`tuning`; this module reads run folders only.
"""

import json
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from reproduction.jobs import Job, make_job
from reproduction.names import DEPTHS
from reproduction.rows import KINDS, TABLE_5, TABLES, Row, Table
from utils.files import read_json, write_json, write_text
from utils.markdown import markdown_table

# data sets by the names that Table 5's columns have here, and the table that trains on them
DATA = {"mnist4": "table1", "mnist10": "table2", "fashion10": "table3", "cifar10": "table4"}
LEARNING_RATES = (0.005, 0.0075, 0.01, 0.05, 0.1)
JACOBIAN = {"jac_loss_weight": (0.0, 0.5, 0.8), "jac_loss_freq": (0.0, 0.5, 0.8, 1.0)}
WARMUP = {"pretrain_steps": (1875, 2355, 3750), "n_layer": (1, 2)}
# Table 5's choice for CIFAR-10 is 2350, which Appendix E's space lacks: it takes the place of 2355, five steps away
WARMUP_OF = {"cifar10": WARMUP | {"pretrain_steps": (1875, 2350, 3750)}}
STOPPED_EARLY = "stopped_early"  # a file in the run folder of a trial that the scheduler has stopped
SEED = 0  # of every trial: the paper chooses by single runs too


def space_of(data: str, model: str) -> dict[str, tuple]:
    """What is searched for a model on a data set: the values of each flag."""
    space: dict[str, tuple] = {"lr": LEARNING_RATES}
    if model in ("implicit", "warmup"):
        space |= JACOBIAN
    return space | WARMUP_OF.get(data, WARMUP) if model == "warmup" else space


def choices_of(data: str, model: str) -> list[dict]:
    """Every choice that there is."""
    space = space_of(data, model)
    every = [dict(zip(space, values)) for values in product(*space.values())]
    return [choice for choice in every if choice == canonical(choice)]


def canonical(choice: dict) -> dict:
    """One choice for all that train the same: without a weight the frequency means nothing, and the reverse."""
    if choice.get("jac_loss_weight") and choice.get("jac_loss_freq"):
        return dict(choice)
    return {name: 0.0 if name in JACOBIAN else value for name, value in choice.items()}


def papers_choice(data: str, model: str) -> dict:
    """Table 5's best, as a choice in the space."""
    best = KINDS[model] | TABLE_5[data][model]
    return canonical({name: best.get(name, 0.0) for name in space_of(data, model)})


@dataclass(frozen=True)
class Search:
    """One cell of Table 5: a model on a data set.

    Attributes:
        data, model: keys of `DATA` and `DEPTHS`.
        epochs: of a trial; searches of other lengths are other searches.
        work_dir: its runs lie in <work_dir>/table5/<data>/<model>.
        extra: further flags of train_qdeq.py.
    """

    data: str
    model: str
    epochs: int
    work_dir: Path
    extra: tuple[str, ...] = ()

    @property
    def table(self) -> Table:
        return TABLES[DATA[self.data]]

    @property
    def folder(self) -> Path:
        return self.work_dir.resolve() / "table5" / self.data / self.model

    def job(self, choice: dict) -> Job:
        """A trial: its run folder is named by what was chosen, so that the same choice is the same run."""
        choice = canonical(choice)
        name = "_".join(f"{flag}-{value:g}" for flag, value in choice.items())
        flags = {name: value for name, value in self.table.flags.items() if name != "spectral_radius_mode"}
        table = replace(self.table, name=self.data, flags=flags)
        row = Row(self.model, name, KINDS[self.model] | choice, depth=self.model)
        return make_job(table, row, SEED, self.epochs, self.work_dir / "table5", self.extra, name=name)


def searches_in(work_dir: Path) -> list[Search]:
    """Every search that has runs in a folder of runs, one for each length that their settings name."""
    return [
        Search(data, model, epochs, work_dir)
        for data in DATA
        for model in DEPTHS
        for epochs in _lengths(work_dir / "table5" / data / model)
    ]


def _lengths(folder: Path) -> list[int]:
    lengths = set()
    for path in folder.glob("*/config.json"):
        try:
            lengths.add(read_json(path)["epochs"])
        except (OSError, ValueError, KeyError, TypeError):  # damaged: no trial of any search
            continue
    return sorted(lengths)


@dataclass(frozen=True)
class Trial:
    """What is known of one choice; accuracies in %, `test_acc` None of a trial that was stopped early."""

    choice: dict
    epochs: float
    val_acc: float
    test_acc: float | None


def trials_of(search: Search) -> list[Trial]:
    """All trials that have ended, finished or stopped early."""
    trials = []
    for choice in choices_of(search.data, search.model):
        job = search.job(choice)
        progress, results = job.progress(), job.results()
        if results is not None:
            trials.append(Trial(choice, results["epochs"], 100 * results["best_val_acc"], 100 * results["test_acc"]))
        elif progress is not None and (job.folder / STOPPED_EARLY).exists():
            trials.append(Trial(choice, progress.epoch, 100 * progress.val_acc, None))
    return trials


def _best_first(trials: list[dict]) -> list[dict]:
    """Those that are finished, the best on the validation set first, then those that were stopped early."""
    return sorted(trials, key=lambda trial: (trial["test_acc"] is None, -trial["val_acc"]))


def write_report(searches: list[Search], results_dir: Path) -> str | None:
    """Write <results_dir>/table5: every trial of every search as JSON, and the best beside the paper's as Markdown.

    Trials that were kept before stay, but where the same choice has been run anew.

    Returns:
        The Markdown; None, and nothing written, where no trial is finished.
    """
    kept_path = results_dir / "table5" / "trials.json"
    cells = {_key(cell): cell for cell in (read_json(kept_path) if kept_path.exists() else [])}
    for search in searches:
        about = {"data": search.data, "model": search.model, "epochs": search.epochs, "seed": SEED}
        new = [vars(trial) for trial in trials_of(search)]
        tried = [trial["choice"] for trial in new]
        kept = cells.get(_key(about), {"trials": []})["trials"]
        trials = _best_first(new + [trial for trial in kept if trial["choice"] not in tried])
        if trials and trials[0]["test_acc"] is not None:
            cells[_key(about)] = about | {"trials": trials}
    if not cells:
        return None
    found = [cells[key] for key in sorted(cells)]
    text = markdown(found)
    kept_path.parent.mkdir(parents=True, exist_ok=True)
    write_text(kept_path, json.dumps(found, indent=1) + "\n")
    write_json(kept_path.with_name("table.json"), {"cells": [_summary(cell) for cell in found]})
    write_text(kept_path.with_name("table.md"), text + "\n")
    return text


def _key(cell: dict) -> tuple[int, int, int]:
    """Of a search of one length, in the order of Table 5."""
    return list(DATA).index(cell["data"]), list(DEPTHS).index(cell["model"]), cell["epochs"]


def _summary(cell: dict) -> dict:
    """The best trial of a cell, and the paper's choice, which is a trial too once it has run."""
    paper = papers_choice(cell["data"], cell["model"])
    same = [trial for trial in cell["trials"] if trial["choice"] == paper and trial["test_acc"] is not None]
    return {
        "data": cell["data"],
        "model": cell["model"],
        "epochs": cell["epochs"],
        "paper_epochs": TABLES[DATA[cell["data"]]].epochs,
        "best": cell["trials"][0],
        "paper_choice": paper,
        "paper_trial": same[0] if same else None,
        "n_finished": sum(trial["test_acc"] is not None for trial in cell["trials"]),
        "n_stopped": sum(trial["test_acc"] is None for trial in cell["trials"]),
    }


HEADER = ("data", "model", "best found", "validation, %", "test, %", "Table 5's choice", "validation, %", "test, %",
          "trials (stopped early)", "epochs")  # fmt: skip


def markdown(cells: list[dict]) -> str:
    """The best found beside Table 5's, chosen by validation accuracy."""
    rows = []
    for cell in map(_summary, cells):
        best, paper = cell["best"], cell["paper_trial"]
        length = f"{cell['epochs']}" + (
            f" (paper: {cell['paper_epochs']})" if cell["epochs"] != cell["paper_epochs"] else ""
        )
        row = [cell["data"], DEPTHS[cell["model"]], _words(best["choice"]), f"{best['val_acc']:.2f}"]
        row += [f"{best['test_acc']:.2f}", _words(cell["paper_choice"])]
        row += [f"{paper['val_acc']:.2f}", f"{paper['test_acc']:.2f}"] if paper else ["not run", ""]
        rows.append([*row, f"{cell['n_finished'] + cell['n_stopped']} ({cell['n_stopped']})", length])
    return "\n\n".join(
        [
            "**Hyper-parameters**, searched as in Appendix E, one seed, chosen on the validation set",
            markdown_table(HEADER, rows),
            "lr: learning rate; w, f: weight and frequency of the Jacobian loss; warm-up: its steps and layers.",
        ]
    )


def _words(choice: dict) -> str:
    text = f"lr {choice['lr']:g}"
    if "pretrain_steps" in choice:
        text += f", warm-up {choice['pretrain_steps']:g} x {choice['n_layer']:g}"
    if "jac_loss_weight" in choice:
        text += f", w {choice['jac_loss_weight']:g}, f {choice['jac_loss_freq']:g}"
    return text
