"""Small multiples: panels of lines with bands around them, and grids of confusion matrices.

A line is the mean over seeds and its band reaches from the lowest to the highest of them. Lines differ in colour and,
where there are more than colours, in their dashes, so that they can be told apart in any kind of colour vision.
"""

import textwrap
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from figures.style import BLUE, GREEN, GREY, INK, ORANGE, PALE, PURPLE, VERMILION

SKY = "#56B4E9"
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, INK)
DASHES = ("-", "--", ":", "-.")
PANEL = (4.6, 3.3)  # inches
LEGEND = 1.6  # inches beside them
APART = 0.16  # lines over categories


@dataclass(frozen=True)
class Line:
    """One line of a panel.

    Attributes:
        label: in the legend.
        x: (n,) positions.
        ys: (n_seeds, n) values; NaN where there is none.
        style: the same number is the same colour and dashes in every panel; None: a grey line to compare with.
        marker: of the points, "" for none.
    """

    label: str
    x: np.ndarray
    ys: np.ndarray
    style: int | None
    marker: str = ""


@dataclass(frozen=True)
class Panel:
    """Axes with lines.

    Attributes:
        title, x_label, y_label: what is said around them.
        lines: at least one.
        log_y: whether the vertical axis is logarithmic; values that are not positive are left out.
        x_ticks: positions on a logarithmic horizontal axis; None: a linear one.
        level: a horizontal line to know of, and what it is called.
        categories: what stands at 0, 1, 2, ...: nothing lies between them, so that points are not joined, and their bands
            are bars, side by side; None: numbers.
    """

    title: str
    x_label: str
    y_label: str
    lines: list[Line]
    log_y: bool = False
    x_ticks: tuple[int, ...] | None = None
    level: tuple[float, str] | None = None
    categories: tuple[str, ...] | None = None


def draw_panels(panels: list[Panel], columns: int) -> Figure:
    """Panels side by side, beside each row of them one legend of its lines.

    Raises:
        ValueError: no panel.
    """
    if not panels:
        raise ValueError("a figure needs at least one panel")
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    size = (PANEL[0] * columns + LEGEND, PANEL[1] * rows)
    figure = Figure(figsize=size, layout=_layout(), facecolor="white")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, panel in zip(grid, panels):
        axes.set_title(panel.title, fontsize=11, color=INK, loc="left")
        axes.set_xlabel(panel.x_label, color=INK)
        axes.set_ylabel(panel.y_label, color=INK)
        axes.grid(color=PALE, lw=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        if panel.log_y:
            axes.set_yscale("log")
        if all((np.asarray(line.x) % 1 == 0).all() for line in panel.lines):
            # as matplotlib's own, but no half epochs
            axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
        if panel.x_ticks:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator(panel.x_ticks))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticks(panel.x_ticks, [str(tick) for tick in panel.x_ticks])
        if panel.categories:
            places = range(len(panel.categories))
            axes.set_xticks(places, panel.categories, fontsize=8, rotation=20, ha="right")
            axes.set_xlim(-0.5, len(places) - 0.5)
        for number, line in enumerate(panel.lines):
            beside = APART * (number - (len(panel.lines) - 1) / 2) if panel.categories else None
            _draw_line(axes, line, panel.log_y, beside)
        if panel.level:
            axes.axhline(panel.level[0], color=GREY, lw=1, ls=":", label=panel.level[1], zorder=0)
    for axes in grid[len(panels) :]:
        axes.remove()
    for start in range(0, len(panels), columns):
        row = grid[start : min(start + columns, len(panels))]
        _draw_legend(row, is_full=len(row) == columns)
    return figure


def _draw_legend(row, is_full: bool) -> None:
    """One legend right of the axes of a row; what is called the same looks the same in all of them."""
    handles = {label: handle for axes in row for handle, label in zip(*axes.get_legend_handles_labels())}
    style = {"frameon": False, "fontsize": 8, "labelcolor": INK, "borderaxespad": 0}
    legend = row[-1].legend(handles.values(), handles, loc="upper left", bbox_to_anchor=(1.03, 1), **style)
    legend.set_in_layout(is_full)  # elsewhere there is room, and columns need not make any


def _draw_line(axes, line: Line, log_y: bool, beside: float | None) -> None:
    """A line and its band; points and bars, so far beside their categories, where it joins nothing."""
    ys = np.atleast_2d(np.asarray(line.ys, dtype=float))
    ys = np.where(np.isfinite(ys) & ((ys > 0) | (not log_y)), ys, np.nan)
    kept = np.isfinite(ys).any(axis=0)
    if not kept.any():
        return
    x, ys = np.asarray(line.x)[kept], ys[:, kept]
    grey = line.style is None
    colour = GREY if grey else COLOURS[line.style % len(COLOURS)]
    dashes = "--" if grey else DASHES[line.style // len(COLOURS) % len(DASHES)]
    marker = line.marker or ("o" if len(x) == 1 else "")
    x, dashes = (x, dashes) if beside is None else (x + beside, "none")
    axes.plot(x, np.nanmean(ys, axis=0), color=colour, ls=dashes, lw=1.5, marker=marker, ms=4, label=line.label)
    if beside is not None:
        axes.vlines(x, np.nanmin(ys, axis=0), np.nanmax(ys, axis=0), color=colour, lw=1.5)
    elif len(ys) > 1:
        axes.fill_between(x, np.nanmin(ys, axis=0), np.nanmax(ys, axis=0), color=colour, alpha=0.18, lw=0)


def draw_confusion_grid(counts: dict[str, np.ndarray], classes: tuple) -> Figure:
    """Confusion matrices side by side, in % of each true class.

    Args:
        counts: (n, n) integers by title, rows the true classes, columns the predicted ones.
        classes: n names.

    Raises:
        ValueError: no matrix, or one that is not (n, n).
    """
    n = len(classes)
    if not counts or any(np.shape(matrix) != (n, n) for matrix in counts.values()):
        raise ValueError(f"{n} classes need ({n}, {n}) counts, got {[np.shape(matrix) for matrix in counts.values()]}")
    columns = min(3, len(counts))
    rows = -(-len(counts) // columns)
    side = 1.3 + 0.29 * max(n, 6)
    figure = Figure(figsize=(side * columns + 0.8, side * rows), layout=_layout(), facecolor="white")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (title, matrix) in zip(grid, counts.items()):
        matrix = np.asarray(matrix, dtype=float)
        shares = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        for true, predicted in np.ndindex(n, n):
            share = shares[true, predicted]
            colour = "white" if share > 55 else INK
            if share >= 0.5:
                axes.text(predicted, true, f"{share:.0f}", ha="center", va="center", fontsize=7, color=colour)
        axes.set_title(textwrap.fill(title, int(10 * side)), fontsize=10, color=INK, loc="left")
        axes.set_xticks(range(n), classes, fontsize=8)
        axes.set_yticks(range(n), classes, fontsize=8)
        axes.set(xlabel="predicted", ylabel="true")
        axes.tick_params(length=0)
        axes.spines[:].set_color(PALE)
    for axes in grid[len(counts) :]:
        axes.remove()
    figure.colorbar(image, ax=list(grid[: len(counts)]), shrink=0.6, label="% of the true class")
    return figure


def _layout() -> ConstrainedLayoutEngine:
    return ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
