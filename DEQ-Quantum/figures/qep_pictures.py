"""Pictures of quantum equilibrium propagation: a run, runs side by side, and the gradient's error.

Like those of figures/: each `draw_` function returns a figure of its own, and shows what was measured, nothing else.
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from figures.metrics import Metrics
from figures.style import BLUE, GREEN, GREY, INK, ORANGE, PALE, PURPLE, VERMILION, save_figure
from utils.statistics import mean_and_spread

SPLITS = {"train": BLUE, "val": ORANGE, "test": VERMILION}
COST, ANGLE = LOGARITHMIC = ("cost", "1 - cosine to the exact gradient")


def _figure(n_panels: int, height: float = 3.8) -> tuple[Figure, np.ndarray]:
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    figure = Figure(figsize=(5 * n_panels, height), layout=layout, facecolor="white")
    return figure, figure.subplots(1, n_panels, squeeze=False)[0]


def _dress(axes: Axes, title: str, x_label: str) -> None:
    axes.set_title(title, fontsize=11, color=INK, loc="left")
    axes.set_xlabel(x_label, color=INK)
    axes.grid(color=PALE, lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def draw_run(folder: Path) -> dict[str, Path]:
    """Write the pictures of a finished run into its folder; their files by name."""
    file = folder / "curves.png"
    save_figure(draw_qep_run(folder / "metrics.csv"), file)
    return {"curves": file}


def draw_qep_run(metrics_csv: Path) -> Figure:
    """Cost, accuracy, gap and 1 - the gradient's cosine of a run against its epochs.

    Args:
        metrics_csv: of a run of train_qep.py, which may be under way.

    Raises:
        OSError: the file cannot be read.
    """
    panels = {
        COST: ("train_cost", "val_cost", "test_cost"),
        "accuracy": ("train_acc", "val_acc", "test_acc"),
        "mean gap": ("train_gap", "val_gap"),
        ANGLE: ("cosine",),
    }
    metrics = Metrics(metrics_csv)
    lines = {name: metrics.line(name) for names in panels.values() for name in names}
    lines["cosine"] = _angles(metrics)
    shown = {title: [n for n in names if len(lines[n][0])] for title, names in panels.items()}
    shown = {title: names for title, names in shown.items() if names}
    figure, grid = _figure(max(1, len(shown)))
    for axes, (title, names) in zip(grid, shown.items()):
        _dress(axes, title, "epoch")
        for name in names:
            split = name.split("_")[0]
            marker = "o" if len(lines[name][0]) <= 30 else ""
            axes.plot(*lines[name], color=SPLITS.get(split, GREEN), lw=1.6, marker=marker, ms=3.5,
                      label=split if split in SPLITS else None, gid=name)  # fmt: skip
        if title in LOGARITHMIC and all((lines[name][1] > 0).all() for name in names):
            axes.set_yscale("log")
        if len(names) > 1:
            axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return figure


def _angles(metrics: Metrics) -> tuple[np.ndarray, np.ndarray]:
    """Epochs, and 1 - cosine of the angle to the exact gradient."""
    epoch, cosine = metrics.line("cosine")
    return epoch, 1 - cosine


METHODS = {
    "centred": ("QEP, centred", BLUE, "-", "o"),
    "exact": ("exact gradient", VERMILION, (0, (4, 3)), "s"),
}


def draw_comparison(runs: list[tuple[dict, Path]]) -> Figure:
    """Validation accuracy of QEP and of exact gradients through training, and how well the two gradients agree.

    Args:
        runs: results.json of a run and its metrics.csv, all of one task; seeds of an estimator share a line (their
            mean) and a band (lowest to highest).

    Returns:
        Accuracy on the left, a marker for each run's test accuracy and a line for the linear classifier's; on the
        right, 1 - cosine of the angle between QEP's gradient and the exact one.

    Raises:
        OSError: a CSV cannot be read.
    """
    figure, (left, right) = _figure(2, 4.2)
    first = runs[0][0]
    _dress(left, f"{first['task']}, {first['num_classes']} classes: accuracy in % (markers: test)", "epoch")
    _dress(right, "1 - cosine of QEP's and the exact gradient", "epoch")
    for estimator, (label, colour, dashes, marker) in METHODS.items():
        own = [(result, path) for result, path in runs if result["estimator"] == estimator]
        if not own:
            continue
        test = [100 * result["test_acc"] for result, _ in own]
        text = f"{label}: test {mean_and_spread(test).text('.2f')} %" if len(own) > 1 else label
        metrics = [Metrics(path) for _, path in own]
        lines = [m.line("val_acc") for m in metrics]
        _draw_band(left, lines, text, colour, dashes, f"val_acc {estimator}", 100)
        left.plot(np.full(len(test), lines[0][0][-1]), test, color=colour, ls="", marker=marker, ms=7, mfc="none",
                  mew=1.6, gid=f"test_acc {estimator}")  # fmt: skip
        angles = [_angles(m) for m in metrics]
        if estimator != "exact" and all(len(epoch) for epoch, _ in angles):
            _draw_band(right, angles, label, colour, dashes, f"cosine {estimator}", 1)
            right.set_yscale("log")
    linear = 100 * np.array([result["linear_test_acc"] for result, _ in runs])
    left.axhline(linear.mean(), color=GREY, ls=":", lw=1.6, label=f"linear classifier: test {linear.mean():.2f} %",
                 gid="linear")  # fmt: skip
    lowest = min(100 * np.median(Metrics(path).line("val_acc")[1][1:]) for _, path in runs)
    left.set_ylim(lowest - 6, min(100, linear.mean() + 3))
    left.legend(frameon=False, fontsize=9, labelcolor=INK, loc="lower right")
    return figure


def _draw_band(
    axes: Axes, lines: list[tuple[np.ndarray, np.ndarray]], label: str, colour: str, dashes, gid: str, scale: float
) -> None:
    """Mean of several runs' lines, which have the same epochs, and the range of their values."""
    n = min(len(epoch) for epoch, _ in lines)
    epoch, values = lines[0][0][:n], scale * np.stack([value[:n] for _, value in lines])
    axes.plot(epoch, values.mean(0), color=colour, ls=dashes, lw=1.8, label=label, gid=gid)
    axes.fill_between(epoch, values.min(0), values.max(0), color=colour, alpha=0.18, lw=0)


ESTIMATORS = {
    "positive": ("positive", BLUE, "-", "o"),
    "negative": ("negative", ORANGE, (0, (4, 3)), "s"),
    "centred": ("centred", VERMILION, "-", "^"),
    "holomorphic": ("holomorphic, 4 points", GREEN, "-", "D"),
}
SHOT_COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE)


def draw_gradient_error(content: dict) -> Figure:
    """The gradient's relative error against beta: exact expectation values on the left, shots on the right.

    Args:
        content: what `reproduce.py qep error` writes; of it "bias", "shots", "best".

    Returns:
        Two panels with logarithmic axes: on the left oracles without a beta as horizontal lines, on the right a line
        per number of shots, solid for centred and dashed for positive, with a star at its best beta.
    """
    figure, (left, right) = _figure(2, 4.4)
    _dress(left, "relative error of the gradient, exact expectation values", "beta")
    _dress(right, "with shots per preparation; stars: best beta", "beta")
    for name, (label, colour, dashes, marker) in ESTIMATORS.items():
        line = [(row["beta"], row["error"]) for row in content["bias"] if row["estimator"] == name]
        if line:
            left.plot(*zip(*line), color=colour, ls=dashes, marker=marker, ms=4, lw=1.6, label=label,
                      gid=f"bias {name}")  # fmt: skip
    for row, dashes in zip([row for row in content["bias"] if row["beta"] is None], (":", "-.")):
        left.axhline(row["error"], color=GREY, ls=dashes, lw=1.4, label=row["estimator"],
                     gid=f"bias {row['estimator']}")  # fmt: skip
    colours = dict(zip(sorted({row["shots"] for row in content["shots"]}), SHOT_COLOURS))
    for kind, dashes in (("centred", "-"), ("positive", (0, (2, 2)))):
        for shots, colour in colours.items():
            line = [(row["beta"], row["error"]) for row in content["shots"]
                    if (row["estimator"], row["shots"]) == (kind, shots)]  # fmt: skip
            if line:
                right.plot(*zip(*line), color=colour, ls=dashes, lw=1.6, gid=f"shots {kind} {shots}",
                           label=f"{shots:,} shots" if kind == "centred" else None)  # fmt: skip
        stars = [row for row in content["best"] if row["estimator"] == kind and row["shots"] in colours]
        for row in stars:
            right.plot(row["beta"], row["error"], marker="*", ms=13, color=colours[row["shots"]], mec=INK, mew=0.6,
                       ls="", gid=f"best {kind} {row['shots']}")  # fmt: skip
    right.plot([], [], color=GREY, ls="-", label="centred")
    right.plot([], [], color=GREY, ls=(0, (2, 2)), label="positive")
    for axes in (left, right):
        axes.set(xscale="log", yscale="log")
    # between the lines of the two oracles
    left.legend(frameon=False, fontsize=9, labelcolor=INK, ncols=2, loc="lower left", bbox_to_anchor=(0, 0.1))
    right.legend(frameon=False, fontsize=9, labelcolor=INK)
    return figure
