"""Pictures of benchmarks: time and peak memory of a training step against the size of the circuit."""

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter, NullLocator

from figures.style import BLUE, GREEN, GREY, INK, ORANGE, PALE, PURPLE, VERMILION

# dashed where a line may lie on the one before
DASHES = (0, (5, 5))
STYLES = ((BLUE, "-"), (GREEN, DASHES), (VERMILION, "-"), (ORANGE, DASHES), (PURPLE, "-"))
MEBI = 2.0**20


def draw_scaling(content: dict) -> Figure:
    """Milliseconds and peak memory of a step: against the wires on the left, against the operations on the right.

    Args:
        content: what `benchmark.py scaling` writes as JSON; of it "points", "arguments", "device" and "machine".
            Points that were left out have neither "times" nor "peak_bytes" and do not show.

    Returns:
        A figure of two by two panels with logarithmic axes, a line per engine and solver setting.
    """
    figure = Figure(
        figsize=(10, 7), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12), facecolor="white"
    )
    grid = figure.subplots(2, 2, sharey="row")
    arguments = content["arguments"]
    styles = dict(zip(sorted({point["label"] for point in content["points"]}), STYLES))
    for column, by in enumerate(("wires", "operations")):
        points = [point for point in content["points"] if point["by"] == by]
        for row, (name, measure) in enumerate(MEASURES.items()):
            _draw_lines(grid[row, column], points, by, name, measure, styles)
    n_operations = {point["n_operations"] for point in content["points"] if point["by"] == "wires"}
    fixed = "".join(f", {n} random operations" for n in n_operations)
    grid[0, 0].set_title(f"a training step{fixed}", fontsize=11, color=INK, loc="left")
    grid[0, 1].set_title(f"a training step, {arguments['n_wires']} wires", fontsize=11, color=INK, loc="left")
    for row, name in enumerate(MEASURES):
        grid[row, 0].set_ylabel(name, color=INK)
    handles = [
        Line2D([], [], color=colour, ls=dashes, marker="o", ms=4) for colour, dashes in styles.values()
    ]
    figure.legend(handles, list(styles), loc="outside upper center", ncols=3, frameon=False, labelcolor=INK)
    figure.supxlabel(
        f"batch {arguments['batch_size']}, {content['device']} on {content['machine']}",
        fontsize=8,
        color=GREY,
    )
    return figure


def _milliseconds(point: dict) -> float | None:
    return 1e3 * point["times"]["median"] if "times" in point else None


def _mebibytes(point: dict) -> float | None:
    return point["peak_bytes"] / MEBI if point.get("peak_bytes") else None


MEASURES = {"median ms": _milliseconds, "peak tensor memory, MiB": _mebibytes}


def _draw_lines(
    axes: Axes, points: list[dict], by: str, name: str, measure: Callable[[dict], float | None], styles: dict
) -> None:
    """One line per contestant; logarithmic axes with ticks at the sizes that were measured."""
    measured = [(p["label"], p[f"n_{by}"], measure(p)) for p in points if measure(p) is not None]
    for label, (colour, dashes) in styles.items():
        line = [(size, value) for of, size, value in measured if of == label]
        if line:
            axes.plot(
                *zip(*line), color=colour, ls=dashes, lw=1.6, marker="o", ms=4, gid=f"{name}: {by}: {label}"
            )
    sizes = sorted({size for _, size, _ in measured})
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(LogFormatter(labelOnlyBase=False))
    axes.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False))
    if by == "operations" and sizes and sizes[0] > 0:
        axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xlabel("wires" if by == "wires" else "random operations", color=INK)
    axes.grid(color=PALE, lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
