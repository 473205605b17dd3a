"""The figures of the tables: what each shows of the kept results, and where it is written.

Figures 1 to 3 are drawn from the model's and the circuit's own objects; the others, which the paper lacks, from
<results_dir>: seed-<n>.csv and seed-<n>.json of each row. A figure without data is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from circuits.circuit import build_circuit
from dataset import CLASSES
from figures import draw_circuit, draw_overview, save_figure
from figures.panels import Line, Panel, draw_confusion_grid, draw_panels
from reproduction.collect import kept_rows
from reproduction.names import BASELINES, DEPTHS
from reproduction.rows import TABLES, Row, Table
from reproduction.study_pictures import draw_studies
from runs.settings import SettingsError
from utils.csv_rows import read_rows
from utils.files import read_json

SUFFIXES = (".svg", ".png")
# a model of a depth has its style in every figure, and so has a row of a published work
STYLES = [
    *(("qdeq", depth) for depth in DEPTHS),
    *((name, depth) for name in BASELINES for depth in ("direct-1", "implicit")),
    ("linear", ""),
    *dict.fromkeys(row.name for table in TABLES.values() for row in table.rows if row.differs),
]
RESIDUAL = r"$\Vert f(z)-z\Vert\,/\,\Vert z\Vert$"


@dataclass(frozen=True)
class RowData:
    """A row's kept runs: their results.json, and their curves, (n_seeds, n_epochs) each."""

    row: Row
    results: list[dict]
    curves: dict[str, np.ndarray]


@dataclass(frozen=True)
class Picture:
    """A figure that has been written.

    Attributes:
        table: name of the table, or of the study, whose rows it shows; None: those of every table.
        paths: its files, one of each of `SUFFIXES`.
    """

    table: str | None
    paths: tuple[Path, ...]


def load_rows(table: Table, results_dir: Path) -> list[RowData]:
    """The rows of a table of which runs are kept with curves, with the seeds that its table.json names.

    Raises:
        SettingsError: a damaged table.json or file of curves.
    """
    rows = kept_rows(table.name, results_dir)
    data = []
    for row in table.rows:
        seeds = rows[row.name]["seeds"] if row.name in rows else []
        files = [results_dir / table.name / row.name / f"seed-{seed}.json" for seed in seeds]
        curves = [file.with_suffix(".csv") for file in files if file.with_suffix(".csv").exists()]
        if curves:
            results = [read_json(file) for file in files]
            data.append(RowData(row, results, _stacked([_columns(path) for path in curves])))
    return data


def _columns(path: Path) -> dict[str, np.ndarray]:
    lines, problem = read_rows(path, ("epoch",))
    if problem or not lines:
        raise SettingsError(f"{problem or f'{path} is empty'}: restore it, or remove it")
    return {name: np.array([float(line[name] or "nan") for line in lines]) for name in lines[0]}


def _stacked(runs: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    # runs of one row have the same epochs; of a run that lost some only the common beginning is shown
    n = min(len(run["epoch"]) for run in runs)
    return {name: np.stack([run[name][:n] for run in runs]) for name in runs[0]}


def _curve(data: RowData, name: str, scale: float = 1.0) -> Line:
    style = STYLES.index(data.row.name if data.row.differs else (data.row.model, data.row.depth))
    return Line(data.row.short, data.curves["epoch"][0], scale * data.curves[name], style)


def _families(rows: list[RowData]) -> dict[str, list[RowData]]:
    families: dict[str, list[RowData]] = {}
    for data in rows:
        families.setdefault(data.row.family, []).append(data)
    return families


def _where(table: Table, family: str) -> str:
    """A panel's title: the data set, and what sets the family apart."""
    return f"{table.data}, {family}" if family else table.data


def draw_training(table: Table, rows: list[RowData]) -> Figure:
    """Validation accuracy, training loss and residual of all models of a data set against the epoch."""
    panels = []
    for family, members in _families(rows).items():
        where = _where(table, family)
        for measure, name, scale in (
            ("validation accuracy, %", "val_acc", 100.0),
            ("training cross-entropy", "train_loss", 1.0),
            (f"validation {RESIDUAL}", "val_res_rel", 1.0),
        ):
            lines = [_curve(data, name, scale) for data in members]
            panels.append(Panel(where, "epoch", measure, lines, log_y=name == "val_res_rel"))
    return draw_panels(panels, 3)


def draw_depth(tables: dict[str, list[RowData]]) -> Figure | None:
    """Test accuracy against the number L of explicit layers, with IMPLICIT as the limit of many layers."""
    panels = []
    for name, rows in tables.items():
        for family, members in _families(rows).items():
            lines = _depth_lines({data.row.depth: data for data in members if data.row.model == "qdeq"})
            if lines:
                title = _where(TABLES[name], family)
                panels.append(Panel(title, "layers L", "test accuracy, %", lines, x_ticks=(1, 2, 5, 10)))
    return draw_panels(panels, 2) if panels else None


def _depth_lines(members: dict[str, RowData]) -> list[Line]:
    """Lines of the paper's models of one family, by depth."""
    direct = {data.row.flags["n_layer"]: data for data in members.values() if data.row.flags["mode"] == "direct"}
    if len(direct) < 2:
        return []
    depths = np.array(sorted(direct))
    by_seed = {depth: _accuracies(direct[depth]) for depth in depths}
    seeds = sorted(set().union(*by_seed.values()))
    ours = np.array([[by_seed[depth].get(seed, np.nan) for depth in depths] for seed in seeds])
    lines = [Line("DIRECT", depths, ours, 2, "o")]
    paper = {depth: data.row.paper.test_acc for depth, data in direct.items() if data.row.paper.test_acc is not None}
    if paper:
        lines.append(
            Line("DIRECT, paper", np.array(sorted(paper)), np.array([[paper[d] for d in sorted(paper)]]), None, "s")
        )
    ends = np.array([depths[0], depths[-1]])
    for depth in ("implicit", "warmup"):
        if depth in members:
            values = np.array(list(_accuracies(members[depth]).values()))[:, None].repeat(2, axis=1)
            lines.append(Line(DEPTHS[depth], ends, values, STYLES.index(("qdeq", depth))))
    return lines


def _accuracies(data: RowData) -> dict[int, float]:
    """Test accuracy in % by seed."""
    return {result["seed"]: 100 * result["test_acc"] for result in data.results}


def draw_confusions(table: Table, rows: list[RowData]) -> Figure:
    """Confusion matrices of all models of the table's classes on the test set, the seeds' counts added."""
    counts = {
        data.row.label: np.sum([result["confusion_matrix"] for result in data.results], axis=0)
        for data in rows
        if "classes" not in data.row.flags
    }
    return draw_confusion_grid(counts, CLASSES[table.flags["num_classes"]])


def draw_spectral_radii(tables: dict[str, list[RowData]]) -> Figure | None:
    """The Jacobian's spectral radius at the equilibrium, mean over the validation images, through training."""
    panels = []
    for name, rows in tables.items():
        for family, members in _families(rows).items():
            lines = [
                _curve(data, "val_spectral_radius")
                for data in members
                if np.isfinite(data.curves["val_spectral_radius"]).any()
            ]
            if lines:
                title = _where(TABLES[name], family)
                level = (1.0, "1: Picard's iteration converges below")
                panels.append(Panel(title, "epoch", "spectral radius of df/dz", lines, level=level))
    return draw_panels(panels, 2) if panels else None


# the paper's own: Figures 1, 2 and 3
FIXED: dict[str, Callable[[], Figure]] = {
    "qdeq": draw_overview,
    "circuit_4": lambda: draw_circuit(build_circuit(4)),
    "circuit_10": lambda: draw_circuit(build_circuit(10)),
}


def draw_fixed(images_dir: Path) -> list[Path]:
    """Figures 1 to 3; the files that were written."""
    return [path for name, draw in FIXED.items() for path in _save(draw(), images_dir / name)]


def draw_results(results_dir: Path, images_dir: Path) -> list[Picture]:
    """The figures of the kept results, and of which table each is."""
    tables = {name: load_rows(table, results_dir) for name, table in TABLES.items()}
    tables = {name: rows for name, rows in tables.items() if rows}
    figures: list[tuple[str | None, str, Figure | None]] = []
    for name, rows in tables.items():
        figures.append((name, f"training_{name}", draw_training(TABLES[name], rows)))
        figures.append((name, f"confusion_{name}", draw_confusions(TABLES[name], rows)))
    if tables:
        figures.append((None, "accuracy_against_depth", draw_depth(tables)))
        figures.append((None, "spectral_radius", draw_spectral_radii(tables)))
    figures += draw_studies(results_dir)
    return [Picture(table, _save(figure, images_dir / stem)) for table, stem, figure in figures if figure]


def _save(figure: Figure, stem: Path) -> tuple[Path, ...]:
    paths = tuple(stem.with_name(stem.name + suffix) for suffix in SUFFIXES)
    for path in paths:
        save_figure(figure, path)
    return paths
