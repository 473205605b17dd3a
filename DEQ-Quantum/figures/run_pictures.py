"""Pictures of one run: its training curves from metrics.csv, and the confusion matrix of its test images.

Curves show what was measured and nothing else: an empty cell, an inf or a NaN is left out of its line, and a
value that is not positive is left out of a logarithmic axis.
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import PercentFormatter

from circuits.circuit import Circuit
from figures.circuit_drawing import draw_circuit
from figures.metrics import Metrics
from figures.style import BLUE, GREY, INK, ORANGE, PALE, VERMILION, blank_canvas, save_figure

SPLITS = {"train": BLUE, "val": ORANGE, "test": VERMILION}
IMPLICIT = 1.0
RESIDUAL = r"relative residual  $\Vert f(z)-z\Vert\,/\,\Vert z\Vert$"


def draw_training_curves(metrics_csv: Path) -> Figure:
    """Loss, accuracy, residual and solver steps of a run against its epochs.

    Args:
        metrics_csv: the file that `runs.metrics_csv.CsvLog` writes, of a run that may be under way. A
            warm-up (rows of mode 0 before rows of mode 1) is shaded; the test split is a dashed line.

    Returns:
        A figure with a panel for each measure that the file has; with none, one that says so.

    Raises:
        OSError: the file cannot be read.
    """
    metrics = Metrics(metrics_csv)
    panels = [
        (draw, title, names)
        for draw, title, names in (
            (_draw_lines, "cross-entropy loss", ["train_loss", "val_loss"]),
            (_draw_accuracy, "accuracy in %", ["train_acc", "val_acc", "test_acc"]),
            (_draw_residual, RESIDUAL, ["train_res_rel", "val_res_rel"]),
            (_draw_steps, "solver steps", ["train_solver_steps", "val_solver_steps"]),
        )
        if any(len(metrics.line(name)[0]) for name in names)
    ]
    if not panels:
        return _say("no measurements yet")
    n_columns = min(2, len(panels))
    n_rows = -(-len(panels) // n_columns)
    figure = Figure(figsize=(5 * n_columns, 3.4 * n_rows), layout=_layout(), facecolor="white")
    grid = figure.subplots(n_rows, n_columns, squeeze=False).flatten()
    warmup_end = _warmup_end(metrics)
    for axes, (draw, title, names) in zip(grid, panels):
        axes.set_title(title, fontsize=11, color=INK, loc="left")
        axes.set_xlabel("epoch", color=INK)
        axes.grid(color=PALE, lw=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        if warmup_end is not None:
            axes.axvspan(0, warmup_end, facecolor=PALE, alpha=0.7, zorder=0, label="warm-up", gid="warm-up")
        draw(axes, metrics, names)
        axes.set_xlim(left=0)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    for axes in grid[len(panels) :]:
        axes.remove()
    return figure


def draw_run(folder: Path, results: dict, classes: tuple, circuit: Circuit | None) -> dict[str, Path]:
    """The pictures of a finished run: curves, confusion matrix and, where there is one, the circuit.

    Args:
        folder: of the run, with its metrics.csv; the pictures are written there.
        results: what results.json holds.
        classes: names of the classes.
        circuit: of the model's layer.

    Returns:
        The pictures' files by name.
    """
    figures = {
        "confusion_matrix": draw_confusion_matrix(np.array(results["confusion_matrix"]), classes),
        "curves": draw_training_curves(folder / "metrics.csv"),
    }
    if circuit is not None:
        figures["circuit"] = draw_circuit(circuit)
    files = {name: folder / f"{name}.png" for name in figures}
    for name, figure in figures.items():
        save_figure(figure, files[name])
    return files


def _warmup_end(metrics: Metrics) -> float | None:
    """Epoch of the last direct row before the first implicit one; None without a warm-up."""
    mode, epoch = metrics.column("mode"), metrics.column("epoch")
    implicit = np.flatnonzero(mode == IMPLICIT)
    if not len(implicit):
        return None
    before = epoch[: implicit[0]][mode[: implicit[0]] == 0]
    before = before[np.isfinite(before)]
    return float(before.max()) if len(before) else None


def _layout() -> ConstrainedLayoutEngine:
    return ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)


def _say(message: str) -> Figure:
    figure, axes = blank_canvas(6, 2)
    axes.text(3, 1, message, ha="center", va="center", fontsize=13, color=GREY)
    return figure


def _draw_lines(
    axes: Axes, metrics: Metrics, names: list[str], scale: float = 1.0, positive: bool = False
) -> None:
    """One line per column; a single row shows as a dot."""
    for name in names:
        split = name.split("_")[0]
        epoch, value = metrics.line(name, positive)
        if len(epoch):
            marker = "o" if len(epoch) <= 30 else ""
            axes.plot(
                epoch,
                scale * value,
                color=SPLITS[split],
                lw=1.6,
                marker=marker,
                ms=3.5,
                label=split,
                gid=name,
            )


def _draw_accuracy(axes: Axes, metrics: Metrics, names: list[str]) -> None:
    _draw_lines(axes, metrics, [name for name in names if not name.startswith("test")], scale=100)
    _, test = metrics.line("test_acc")
    if len(test):
        label = f"test, {100 * test[-1]:.2f} %"
        axes.axhline(100 * test[-1], color=SPLITS["test"], ls="--", lw=1.4, label=label, gid="test_acc")


def _draw_residual(axes: Axes, metrics: Metrics, names: list[str]) -> None:
    if any(len(metrics.line(name, positive=True)[0]) for name in names):
        axes.set_yscale("log")
    _draw_lines(axes, metrics, names, positive=True)


def _draw_steps(axes: Axes, metrics: Metrics, names: list[str]) -> None:
    """Steps on the left axis, and on the right one the share of samples that converged."""
    _draw_lines(axes, metrics, names)
    axes.set_ylim(bottom=0)
    epoch, converged = metrics.line("val_converged")
    if not len(epoch):
        return
    share = axes.twinx()
    share.plot(epoch, 100 * converged, color=GREY, ls=":", lw=1.6, gid="val_converged")
    share.set_ylim(0, 105)
    share.set_ylabel("converged samples in %", color=GREY)
    share.tick_params(axis="y", colors=GREY)
    share.spines[["top", "left"]].set_visible(False)
    axes.plot([], [], color=GREY, ls=":", lw=1.6, label="val converged, right axis")


def draw_confusion_matrix(counts: np.ndarray, classes: tuple) -> Figure:
    """How many images of each class were taken for which; colours are shares of the true class.

    Args:
        counts: (n, n) integers, rows the true classes, columns the predicted ones.
        classes: n names.

    Raises:
        ValueError: counts is not square, or there are more or fewer names.
    """
    counts = np.asarray(counts)
    n = len(classes)
    if counts.shape != (n, n):
        raise ValueError(f"{n} classes need ({n}, {n}) counts, got {counts.shape}")
    of_class = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, of_class, out=np.zeros(counts.shape), where=of_class > 0)
    size = 2.2 + 0.52 * max(n, 4)
    figure = Figure(figsize=(size + 0.9, size), layout=_layout(), facecolor="white")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for true, predicted in np.ndindex(n, n):
        count = counts[true, predicted]
        colour = "white" if shares[true, predicted] > 0.55 else INK if count else GREY
        axes.text(predicted, true, str(count), ha="center", va="center", fontsize=9, color=colour)
    long_names = max(len(str(name)) for name in classes) > 3
    axes.set_xticks(
        range(n), classes, rotation=45 if long_names else 0, ha="right" if long_names else "center"
    )
    axes.set_yticks(range(n), classes)
    axes.tick_params(length=0)
    axes.spines[:].set_color(PALE)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(_accuracy(counts), fontsize=11, color=INK)
    percent = PercentFormatter(1.0, decimals=0, symbol=" %")
    bar = figure.colorbar(image, shrink=0.8, label="share of the true class", format=percent)
    bar.outline.set_visible(False)
    return figure


def _accuracy(counts: np.ndarray) -> str:
    total = int(counts.sum())
    if not total:
        return "no images"
    correct = int(np.trace(counts))
    return f"accuracy {100 * correct / total:.2f} %  ({correct} of {total} images)"
