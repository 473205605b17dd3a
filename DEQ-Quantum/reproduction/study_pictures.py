"""The figures of Tables 6 to 9, from the tables that are kept. A panel without data is left out, and so is a figure."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from figures.panels import Line, Panel, draw_panels
from reproduction import gradient_variances
from reproduction.collect import kept_rows, rows_beside
from reproduction.names import DEPTHS
from reproduction.row import Table
from reproduction.study_rows import (
    CAPS,
    COMPARED,
    EVERY_STRING,
    GAINS,
    LONG_AS_PAPERS,
    OPERATIONS,
    PAYS_AT,
    PAYS_OPERATIONS,
    READ_AT,
    STUDIES,
    TOLERANCES,
    WIRES,
    backward,
    cap,
    tolerance,
)

STYLE = {depth: number for number, depth in enumerate(DEPTHS)}
ACCURACY = "test accuracy, %"
VARIANCES = {
    "first_readout": (r"of $\langle Z_0 \rangle$, one layer", len(DEPTHS)),
    "two_designs": ("the same between two-designs", None),
    "implicit": ("of IMPLICIT's loss", STYLE["implicit"]),
    "direct_1": ("of DIRECT-1's loss", STYLE["direct-1"]),
}
LAYERS = {"direct-1": 1, "direct-2": 2, "direct-5": 5, "direct-10": 10}
BEYOND = 20  # where an equilibrium stands beside so many layers
OF_EVERY_STRING = f"{EVERY_STRING}_gain3_{{}}_{LONG_AS_PAPERS}-epochs"
CEILING_OF_MANY_EPOCHS = f"single_copy_{LONG_AS_PAPERS}-epochs"
AGAINST_DEPTH = {
    "z": "z", "zz": "zz", "pauli2": "pauli2", "zz_gain3": "zz, gain 3", "classical": "classical DEQ",
    "z_strings": "z_strings", "z_strings_gain3": "z_strings, gain 3",
}  # fmt: skip


class Kept:
    """The rows of a part's table.json, by name, with those that are told beside it.

    Args:
        table: the part.
        results_dir: where it is kept; nothing of it need be.

    Raises:
        SettingsError: a damaged file.
    """

    def __init__(self, table: Table, results_dir: Path):
        self.title, self.part = table.title, table.part
        self.rows = kept_rows(table.name, results_dir)
        if self.rows:
            self.rows |= rows_beside(table, results_dir)
        self.variances = gradient_variances.of_rows(table, results_dir) if gradient_variances.is_measured(table) else {}

    def line(self, label: str, names: Sequence[str], x: Sequence[float], measure: str, style: int | None, mark="o") -> list[Line]:
        """The rows of those names at their positions, those that are there; no line where none is.

        Rows may have different seeds: a line's band is over those that each has.
        """
        found = [(at, self.rows[name][measure]["values"]) for at, name in zip(x, names) if name in self.rows]
        found = [(at, values) for at, values in found if None not in values]
        if not found:
            return []
        ys = np.full((max(len(values) for _, values in found), len(found)), np.nan)
        for column, (_, values) in enumerate(found):
            ys[: len(values), column] = values
        return [Line(label, np.array([at for at, _ in found]), ys, style, mark)]

    def variance(self, label: str, names: Sequence[str], x: Sequence[float], of: str, style: int | None) -> list[Line]:
        """Gradient variances of the rows' initial models, those that are measured, in a band of one standard error."""
        found = [(at, *self.variances[name][of]) for at, name in zip(x, names) if name in self.variances]
        if not found:
            return []
        at, middle, error = np.array(found).T
        return [Line(label, at, np.stack((middle - error, middle, middle + error)), style, "o")]

    def level(self, name: str, label: str) -> tuple[float, str] | None:
        """A row's mean accuracy as a horizontal line."""
        mean = self.rows[name]["test_acc"]["mean"] if name in self.rows else None
        return None if mean is None else (mean, label)


def draw_studies(results_dir: Path) -> list[tuple[str, str, Figure]]:
    """Every figure for which something is kept: the name of its study, its file's stem, the figure."""
    drawn = []
    for study, draw in (("table6", readouts), ("table7", pays), ("table8", growing), ("table9", solvers)):
        figure = draw([Kept(part, results_dir) for part in STUDIES[study]])
        if figure is not None:
            drawn.append((study, f"{study}_study", figure))
    return drawn


def readouts(parts: list[Kept]) -> Figure | None:
    """Table 6: accuracy of each readout at each depth, and the ceiling of a single copy."""
    panels, places = [], range(len(COMPARED))
    for part in parts:
        lines = []
        for depth in READ_AT:
            names = [f"{readout}_{depth}" for readout in COMPARED]
            lines += part.line(DEPTHS[depth], names, places, "test_acc", STYLE[depth])
        if lines:
            level = part.level("single_copy", "single-copy ceiling")
            panels.append(Panel(part.title, "", ACCURACY, lines, level=level, categories=COMPARED))
    panels += _of_every_string(parts)
    return draw_panels(panels, 2) if panels else None


def _of_every_string(parts: list[Kept]) -> list[Panel]:
    """How far each depth with every string ends above the ceiling that is trained as long, on each data set."""
    parts = [part for part in parts if CEILING_OF_MANY_EPOCHS in part.rows]
    lines = []
    for depth in READ_AT:
        name = OF_EVERY_STRING.format(depth)
        above = [(at, np.array(part.rows[name]["test_acc"]["values"]) - part.rows[CEILING_OF_MANY_EPOCHS]["test_acc"]["mean"])
                 for at, part in enumerate(parts) if name in part.rows]  # fmt: skip
        if above:
            ys = np.full((max(len(values) for _, values in above), len(above)), np.nan)
            for column, (_, values) in enumerate(above):
                ys[: len(values), column] = values
            lines.append(Line(DEPTHS[depth], np.array([at for at, _ in above]), ys, STYLE[depth], "o"))
    if not lines:
        return []
    title = f"xyz_strings, gain 3, gates not trained, {LONG_AS_PAPERS} epochs"
    level, names = (0.0, "single-copy ceiling"), tuple(part.title.split(",")[0] for part in parts)
    return [Panel(title, "", "above the ceiling, points", lines, level=level, categories=names)]


def pays(parts: list[Kept]) -> Figure | None:
    """Table 7: on MNIST-4 accuracy and spectral radius against the gain of z, accuracy against the circuit's operations and
    where z enters; on CIFAR-10 and percolation accuracy against depth."""
    digits, cifar, percolation = parts
    panels = []
    for readout in ("z", "zz", "pauli2"):
        lines = []
        for depth in PAYS_AT:
            names = [f"{readout}_gain{gain:g}_{depth}" for gain in GAINS]
            lines += digits.line(DEPTHS[depth], names, GAINS, "test_acc", STYLE[depth])
        if lines:
            level = digits.level(f"{readout}_direct-1", "DIRECT-1")
            panels.append(Panel(f"MNIST-4, {readout}", "gain of z", ACCURACY, lines, level=level))
    radii = []
    for number, readout in enumerate(("z", "zz", "pauli2")):
        names = [f"{readout}_gain{gain:g}_implicit" for gain in GAINS]
        radii += digits.line(f"IMPLICIT, {readout}", names, GAINS, "test_spectral_radius", len(DEPTHS) + number)
    if radii:
        panels.append(Panel("MNIST-4: spectral radius", "gain of z", "", radii, level=(1.0, "1")))
    n_of_gains = len(panels)
    panels += _against_operations(digits) + _against_injection(digits)
    n_of_digits = len(panels)
    panels += _against_depth(cifar) + _against_depth(percolation)
    if not panels:
        return None
    figure = draw_panels(panels, 2)
    for axes in figure.axes[:n_of_gains]:
        axes.set_xscale("log")
        axes.set_xticks(GAINS, [f"{gain:g}" for gain in GAINS])
        axes.minorticks_off()
    for axes in figure.axes[n_of_digits : len(panels)]:
        axes.set_xscale("log")
        axes.set_xticks([*LAYERS.values(), BEYOND], [*map(str, LAYERS.values()), "IMPLICIT"])
        axes.minorticks_off()
    return figure


def _against_operations(digits: Kept) -> list[Panel]:
    """Accuracy with zz against the circuit's operations; its rows of 50 are those of gain 1."""
    sizes, lines = sorted((50, *PAYS_OPERATIONS)), []
    for depth in ("direct-1", *PAYS_AT):
        with_50 = "zz_direct-1" if depth == "direct-1" else f"zz_gain1_{depth}"
        names = [f"zz_random{n}_{depth}" if n in PAYS_OPERATIONS else with_50 for n in sizes]
        lines += digits.line(DEPTHS[depth], names, sizes, "test_acc", STYLE[depth])
    return [Panel("MNIST-4, zz", "random operations", ACCURACY, lines, x_ticks=tuple(sizes))] if lines else []


def _against_injection(digits: Kept) -> list[Panel]:
    """Accuracy with z added to the data, as in the paper, and on wires of its own."""
    lines = []
    for depth in ("direct-1", *PAYS_AT):
        added = "" if depth == "direct-1" else "_gain1"
        names = [f"{readout}{where}_{depth}" for readout in ("z", "zz") for where in (added, "_concatenate")]
        lines += digits.line(DEPTHS[depth], names, range(len(names)), "test_acc", STYLE[depth])
    places = tuple(f"{readout}, {where}" for readout in ("z", "zz") for where in ("added", "own wires"))
    return [Panel("MNIST-4: where z enters", "", ACCURACY, lines, categories=places)] if lines else []


def _against_depth(part: Kept) -> list[Panel]:
    """Accuracy against the number of layers, the equilibrium as a star beyond the last; no panel where nothing is kept.

    One layer sees no z: it is the same whatever the gain. A gain of 1 need not be in a row's name.
    """

    def row(name: str, depth: str) -> str:
        named = f"{name}_gain1_{depth}"
        return named if named in part.rows else f"{name.partition('_gain')[0] if depth == 'direct-1' else name}_{depth}"

    lines = []
    for number, (name, label) in enumerate(AGAINST_DEPTH.items(), len(DEPTHS)):
        names = [row(name, depth) for depth in LAYERS]
        lines += part.line(label, names, list(LAYERS.values()), "test_acc", number)
        lines += part.line(f"{label}: IMPLICIT", [row(name, "implicit")], [BEYOND], "test_acc", number, "*")
    level = part.level("single_copy", "single-copy ceiling")
    return [Panel(part.title, "layers", ACCURACY, lines, level=level)] if lines else []


def growing(parts: list[Kept]) -> Figure | None:
    """Table 8: accuracy, solver steps, spectral radius and variance of initial gradients against wires and operations."""
    panels = []
    for part, sizes, unit in zip(parts, (WIRES, OPERATIONS), ("wires", "operations")):
        for measure, title, depths in (
            ("test_acc", ACCURACY, ("implicit", "direct-1")),
            ("test_solver_steps", "solver steps", ("implicit",)),
            ("test_spectral_radius", "spectral radius", ("implicit",)),
        ):
            lines = []
            for depth in depths:
                lines += part.line(DEPTHS[depth], [f"{n}_{unit}_{depth}" for n in sizes], sizes, measure, STYLE[depth])
            if lines:
                panels.append(Panel(title, unit, "", lines, x_ticks=sizes))
        lines = []
        for of, (label, style) in VARIANCES.items():
            lines += part.variance(label, [f"{n}_{unit}_implicit" for n in sizes], sizes, of, style)
        if lines:
            panels.append(Panel("variance of a gradient at the start", unit, "", lines, log_y=True, x_ticks=sizes))
    return draw_panels(panels, 2) if panels else None


def solvers(parts: list[Kept]) -> Figure | None:
    """Table 9: accuracy against the caps of either solve and against the tolerance."""
    panels = []
    for names, x, title in (
        ([cap(n) for n in CAPS], CAPS, "most forward steps"),
        ([tolerance(tol) for tol in TOLERANCES], TOLERANCES, "tolerance"),
        ([backward(n) for n in CAPS], CAPS, "most backward steps"),
    ):
        lines = []
        for number, part in enumerate(parts):
            lines += part.line("z, gain 1" if part.part == "paper" else "zz, gain 3", names, x, "test_acc", number)
        if lines:
            panels.append(Panel(title, "", ACCURACY, lines))
    if not panels:
        return None
    figure = draw_panels(panels, 3)
    for axes in figure.axes[: len(panels)]:
        axes.set_xscale("log")
    return figure
