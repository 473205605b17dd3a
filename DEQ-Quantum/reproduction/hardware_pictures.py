"""The figures of the study of hardware, from the evaluations that are kept."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from figures.panels import Line, Panel, draw_panels
from figures.style import GREY, INK, save_figure
from hardware.devices import read_device
from reproduction.hardware_rows import COHERENT, DEPOLARIZING, DEVICES, SHOTS, SOLVERS, WAYS
from reproduction.hardware_tables import Kept, circuits_of_images, gradients, values

SUFFIXES = (".svg", ".png")
SHOWN = ("amplitude_implicit", "amplitude_direct-1", "amplitude_direct-10", COHERENT,
         "angle_implicit", "angle_direct-1", "angle_direct-10")  # fmt: skip


def draw_all(kept: Kept, images_dir: Path) -> list[Path]:
    """Writes every figure for which something is kept; their paths."""
    figures = {"crossover": crossover(kept), "shift": shift(kept), "mitigation": mitigation(kept), "solvers": solvers(kept),
               "training": training(kept)}  # fmt: skip
    paths = []
    for name, figure in figures.items():
        if figure is not None:
            for suffix in SUFFIXES:
                paths.append(images_dir / f"{name}{suffix}")
                save_figure(figure, paths[-1])
    return paths


def crossover(kept: Kept) -> Figure | None:
    """Accuracy against the strength of depolarising noise, in the ansatz and in all gates; machines as ticks."""
    strengths = np.array([float(noise.partition(":")[2]) for noise in DEPOLARIZING])
    panels = []
    for suite, title in (("ansatz", "noise in the ansatz"), ("all gates", "noise in the ansatz and the encoding")):
        lines = []
        for number, name in enumerate(SHOWN):
            found = [values(kept.get(name, []), suite, noise, lambda row: row["acc"]) for noise in DEPOLARIZING]
            if all(found):
                lines.append(Line(kept[name][0]["label"], strengths, 100 * np.array(found).T, number, "o"))
        if lines:
            panels.append(Panel(title, "depolarising $p$ of a gate on two wires", "test accuracy, %", lines))
    if not panels:
        return None
    figure = draw_panels(panels, 2)
    for axes in figure.axes[: len(panels)]:
        _log_x(axes)
        for noise in DEVICES:
            device = read_device(noise.partition(":")[2])
            at = 4 / 3 * device.two_wires_error  # of the average infidelity, p = e d / (d - 1)
            axes.axvline(at, color=GREY, lw=0.8, ls=":", zorder=0)
            axes.text(at, 0.02, device.name, rotation=90, fontsize=7, color=GREY, ha="right", transform=axes.get_xaxis_transform())
    return figure


def shift(kept: Kept) -> Figure | None:
    """How far noise moves the states, measured against the first order, and what becomes of the spectral radius."""
    names = [name for name in SHOWN if name in kept and name != COHERENT]
    lines = {"shift": [], "radius": []}
    for number, name in enumerate(names):
        label = kept[name][0]["label"]
        found = [[values(kept[name], "ansatz", noise, lambda row, key=key: row[key]) for noise in DEPOLARIZING]
                 for key in ("shift_predicted", "shift", "spectral_radius")]  # fmt: skip
        if not all(map(all, found)):
            continue
        predicted, measured, radius = map(np.array, found)
        lines["shift"].append(Line(label, predicted.mean(1), measured.T, number, "o"))
        if "implicit" in name:
            strengths = np.array([float(noise.partition(":")[2]) for noise in DEPOLARIZING])
            lines["radius"].append(Line(label, strengths, radius.T, number, "o"))
    if not lines["shift"]:
        return None
    panels = [Panel("shift of the state, relative", "to first order", "measured", lines["shift"], log_y=True)]
    if lines["radius"]:
        panels.append(Panel("spectral radius", "depolarising $p$ of a gate on two wires", "", lines["radius"]))
    figure = draw_panels(panels, 2)
    for axes in figure.axes[: len(panels)]:
        _log_x(axes)
    low, high = figure.axes[0].get_xlim()
    figure.axes[0].plot([low, high], [low, high], color=GREY, lw=0.8, ls=":", zorder=0)
    return figure


def solvers(kept: Kept) -> Figure | None:
    """Error of the equilibrium against all shots of an image, and the residuals that solvers see, with the floor."""
    errors, traces, floor = [], [], []
    for number, solver in enumerate(SOLVERS):
        suites = [f"{solver}, {shots} shots" for shots in SHOTS]
        runs = [run for run in kept.get("amplitude_implicit", []) if set(suites) <= set(run["suites"])]
        if not runs:
            continue
        counted = [[run["suites"][suite]["found"]["rows"][0]["counted"] for run in runs] for suite in suites]
        shots = [np.mean(circuits_of_images(runs, suite, "none")) * n for suite, n in zip(suites, SHOTS)]
        errors.append(Line(solver, np.array(shots), np.array([[c["error"] for c in of] for of in counted]).T, number, "o"))
        seen = [c["trace"] for c in counted[1]]
        n = min(map(len, seen))
        seen = np.array([[np.nan if value is None else value for value in trace[:n]] for trace in seen])
        traces.append(Line(solver, np.arange(n), seen, number, "o"))
        floor += [c["res_floor"] for c in counted[1]]
    if not errors:
        return None
    level = (float(np.mean(floor)), "floor of the shots")
    figure = draw_panels([
        Panel("error of the equilibrium, relative", "shots of an image in all", "", errors, log_y=True),
        Panel(f"residual that solvers see, {SHOTS[1]} shots", "step", "", traces, log_y=True, level=level),
    ], 2)  # fmt: skip
    _log_x(figure.axes[0])
    return figure


def training(kept: Kept) -> Figure | None:
    """Cosines of measured gradients against the shots of an image, and training with shots against all of them."""
    of_gradients = [
        Line(f"{label}, {way}", np.array([entry["shots"] * entry["circuits"] for entry in entries]),
             np.array([entry["cosines"] for entry in entries]).T, number, "o")
        for number, ((label, way), entries) in enumerate(gradients(kept).items())
    ]  # fmt: skip
    curves = []
    for number, runs in enumerate(of_row for of_row in kept.values() if all("curve" in run for run in of_row)):
        n = min(len(run["curve"]) for run in runs)
        shots, accuracies = np.array([run["curve"][:n] for run in runs]).transpose(2, 0, 1)
        curves.append(Line(runs[0]["label"], shots.mean(0), 100 * accuracies, len(of_gradients) + number))
    panels = []
    if of_gradients:
        panels.append(Panel("measured gradients", "shots of an image in a step", "cosine with the exact gradient", of_gradients))
    if curves:
        panels.append(Panel("training with shots", "shots so far", "validation accuracy, %", curves))
    if not panels:
        return None
    figure = draw_panels(panels, 2)
    for axes in figure.axes[: len(panels)]:
        _log_x(axes)
    return figure


def _log_x(axes: Axes) -> None:
    """A logarithmic axis whose only labels are powers of ten."""
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())


def mitigation(kept: Kept) -> Figure | None:
    """Accuracy on machines: without noise, with it, and with every way of mitigation."""
    names = [name for name in ("amplitude_implicit", "amplitude_direct-1", "angle_implicit", "angle_direct-1")
             if any("mitigation" in run["suites"] for run in kept.get(name, []))]  # fmt: skip
    if not names:
        return None
    ways = ("no noise", "noisy", *WAYS)
    figure = Figure(figsize=(11, 2.6 * len(names)), layout="constrained", facecolor="white")
    for axes, name in zip(figure.subplots(len(names), 1, squeeze=False, sharex=True).flatten(), names):
        for place, noise in enumerate(DEVICES):
            heights = [values(kept[name], "mitigation", which, lambda row: row["acc"]) for which in (None, noise)]
            entries = values(kept[name], "mitigation", noise, lambda row: row["mitigated"])
            heights += [[found["acc"] for entry in entries for found in entry if found["mitigation"] == way] for way in WAYS]
            for number, height in enumerate(heights):
                if height:
                    x = place + (number - len(ways) / 2 + 0.5) * 0.1
                    axes.bar(x, 100 * np.mean(height), 0.09, color=f"C{number}", label=ways[number] if not place else None,
                             yerr=100 * np.std(height, ddof=1) if len(height) > 1 else None, error_kw={"lw": 0.8})  # fmt: skip
        axes.set_title(kept[name][0]["label"], fontsize=10, color=INK, loc="left")
        axes.set_ylabel("test accuracy, %", color=INK)
        axes.set_ylim(40, 100)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xticks(range(len(DEVICES)), [noise.partition(":")[2] for noise in DEVICES])
    figure.axes[0].legend(loc="upper left", bbox_to_anchor=(1.0, 1), frameon=False, fontsize=8)
    return figure
