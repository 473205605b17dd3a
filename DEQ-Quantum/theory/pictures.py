"""Pictures of the theory's checks, from the plain data of `theory/`: overlaps, solvers, contraction, ablations."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from figures.style import BLUE, GREEN, GREY, INK, ORANGE, PALE, VERMILION
from theory.overlaps import PAPERS_BOUND

SOLVER_STYLES = {
    "Picard": (GREY, ":"), "Anderson": (GREEN, "--"), "Broyden": (BLUE, "-"), "Newton": (VERMILION, "-"),
}  # fmt: skip
LOWEST_RESIDUAL = 1e-16
NORMS = {"l2": (BLUE, "o"), "max": (ORANGE, "s")}


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12), facecolor="white")


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=11, color=INK, loc="left")
    axes.grid(color=PALE, lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def draw_overlaps(overlaps: dict) -> Figure:
    """Overlap of encoded states against squared distance with lower bounds: Fig. 4, and the same for amplitudes.

    Args:
        overlaps: what `theory.overlaps.measure` returns.
    """
    figure = _figure(10, 4.9)
    panels = figure.subplots(1, 2, sharey=True)
    squared = np.linspace(0, 1, 400)
    paper = 1 - np.sin(squared)
    for axes, (encoding, found) in zip(panels, overlaps.items()):
        below = next(b for b in found["bounds"] if b["bound"] == PAPERS_BOUND)["pairs_below"]
        label = f"1 - sin(d²), the paper's: {below} of {found['n_pairs']} pairs below"
        axes.plot(squared, paper, color=VERMILION, lw=2, label=label, gid=f"{encoding} paper")
        axes.set_xlabel("squared distance  d² = ‖z - z′‖²", color=INK)
    axes = panels[0]
    _plain(axes, "angle encoding: one qubit, four rotations")
    axes.set_ylabel("overlap  |⟨ψ(z)|ψ(z′)⟩|²", color=INK)
    axes.plot(squared, np.cos(np.sqrt(squared)) ** 2, color=ORANGE, lw=2, ls="--", label="cos²(d), derived here")
    found = overlaps["angle"]
    axes.scatter(found["distance_squared"], found["overlap"], s=5, color=BLUE, alpha=0.5, lw=0, rasterized=True,
                 gid="angle pairs")  # fmt: skip
    axes = panels[1]
    _plain(axes, "amplitude encoding: two qubits, four amplitudes")
    found = overlaps["amplitude"]
    longest = np.array(found["longest"])
    axes.axhline(0, color=PALE, lw=0.8)
    for radius, dashes in ((1.0, (0, (1, 1.5))), (2.0, (0, (4, 2)))):
        label = f"1 - d²/R², derived here, R = {radius:g}"
        axes.plot(squared, np.clip(1 - squared / radius**2, 0, None), color=ORANGE, lw=2, ls=dashes, label=label)
    points = axes.scatter(found["distance_squared"], found["overlap"], s=5, c=longest, cmap="viridis", alpha=0.7, lw=0,
                          rasterized=True, gid="amplitude pairs")  # fmt: skip
    bar = figure.colorbar(points, ax=axes, label="R = max(‖v‖, ‖v′‖)")
    bar.outline.set_visible(False)
    bar.solids.set_alpha(1)
    for axes in panels:
        axes.set(xlim=(0, 1), ylim=(-0.02, 1.02))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=9, frameon=False, labelcolor=INK)
    return figure


def draw_solver_residuals(convergence: list[dict]) -> Figure:
    """Relative residual against solver step: a column per model, untrained above, trained below.

    Args:
        convergence: what `theory.first_experiments.convergence` returns, for each subject.
    """
    names = list(dict.fromkeys(entry["subject"] for entry in convergence))
    n_rows = max(sum(entry["subject"] == name for entry in convergence) for name in names)
    figure = _figure(1.5 + 3.1 * len(names), 0.9 + 2.9 * n_rows)
    grid = figure.subplots(n_rows, len(names), sharex=True, sharey=True, squeeze=False)
    for column, name in enumerate(names):
        entries = [entry for entry in convergence if entry["subject"] == name]
        for row, axes in enumerate(grid[:, column]):
            if row >= len(entries):
                axes.remove()
                continue
            _plain(axes, f"{name}\n{entries[row]['state']}")
            axes.title.set_fontsize(9)
            _draw_solvers(axes, entries[row]["solvers"])
    for axes in grid[-1]:
        axes.set_xlabel("solver step", color=INK)
    for axes in grid[:, 0]:
        axes.set_ylabel("relative residual", color=INK)
    handles = [Line2D([], [], color=c, ls=ls, lw=1.8) for c, ls in SOLVER_STYLES.values()]
    figure.legend(handles, list(SOLVER_STYLES), loc="outside upper center", ncols=4, frameon=False, labelcolor=INK)
    n_images = convergence[0]["n_images"]
    figure.supxlabel(f"median over {n_images} test images, band: 10 % to 90 %", fontsize=8, color=GREY)
    return figure


def _draw_solvers(axes: Axes, solvers: dict) -> None:
    axes.set_yscale("log")
    for name, found in solvers.items():
        colour, dashes = SOLVER_STYLES[name]
        low, middle, high = (np.clip(found["quantiles"][q], LOWEST_RESIDUAL, None) for q in ("0.1", "0.5", "0.9"))
        steps = np.arange(1, len(middle) + 1)
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)
        axes.plot(steps, middle, color=colour, ls=dashes, lw=1.8, gid=name)
    axes.set_xlim(1, 20)
    axes.set_ylim(LOWEST_RESIDUAL, 10)


def draw_contraction(contraction: list[dict]) -> Figure:
    """Largest and mean ratio ||f(z) - f(z')|| / ||z - z'|| of each model, its bound, and spectral radii.

    Args:
        contraction: what `theory.contraction.measure` returns, for each subject.
    """
    figure = _figure(9, 1.6 + 0.62 * len(contraction))
    axes = figure.subplots()
    _plain(axes, "how far f moves for how far z moves")
    axes.set_xscale("log")
    for row, entry in enumerate(contraction):
        y = len(contraction) - 1 - row
        for offset, (norm, (colour, marker)) in zip((0.18, -0.02), NORMS.items()):
            ratios = [r for r in entry["ratios"] if r["norm"] == norm]
            at_equilibrium = entry["at_equilibrium"][f"norm_{norm}"]
            largest = max(r["largest"] for r in ratios)
            bound = max(at_equilibrium["largest_bound"], *(r["largest_bound"] for r in ratios))
            mean = sum(r["mean"] for r in ratios) / len(ratios)
            axes.plot([mean, largest], [y + offset] * 2, color=colour, lw=3, solid_capstyle="butt")
            axes.plot(largest, y + offset, color=colour, marker=marker, ms=6)
            axes.plot(bound, y + offset, color=colour, marker=marker, ms=6, mfc="white")
            axes.plot(at_equilibrium["largest"], y + offset, color=colour, marker="|", ms=11, mew=2.5)
        radius = entry["at_equilibrium"]["spectral_radius"]
        axes.plot([radius["mean"], radius["largest"]], [y - 0.22] * 2, color=GREEN, lw=3, solid_capstyle="butt")
        axes.plot(radius["largest"], y - 0.22, color=GREEN, marker="D", ms=5)
    axes.axvline(1, color=VERMILION, lw=1.4, ls="--")
    labels = [f"{entry['subject']}\n{entry['state']}" for entry in reversed(contraction)]
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(
        "bar and filled marker: ratio of pairs of states, mean to largest\n"
        "stroke: largest norm of df/dz at an equilibrium; open marker: upper bound",
        color=INK,
        fontsize=9,
    )
    handles = [Line2D([], [], color=c, marker=m, ls="-", lw=3) for c, m in NORMS.values()]
    handles.append(Line2D([], [], color=GREEN, marker="D", ls="-", lw=3))
    names = ["l2 norm", "max norm", "spectral radius at the equilibria"]
    figure.legend(handles, names, loc="outside upper center", ncols=3, frameon=False, labelcolor=INK)
    return figure


def draw_ablations(ablations: list[dict]) -> Figure:
    """Test accuracy, relative residual and spectral radius of each variant, with the spread over seeds.

    Args:
        ablations: what `theory.ablations.measure` returns, for each variant.
    """
    groups = list(dict.fromkeys(entry["ablation"] for entry in ablations))
    figure = _figure(3.6 * len(groups), 7)
    grid = figure.subplots(3, len(groups), sharex="col", sharey="row", squeeze=False)
    rows = (("acc", 100, BLUE), ("res_rel", 1, GREEN), ("spectral_radius", 1, VERMILION))
    for column, group in enumerate(groups):
        entries = [entry for entry in ablations if entry["ablation"] == group]
        labels = [entry["label"] for entry in entries]
        for axes, (name, scale, colour) in zip(grid[:, column], rows):
            # what is not finite is left out
            means = [np.nan if entry[name]["mean"] is None else scale * entry[name]["mean"] for entry in entries]
            spreads = [scale * (entry[name]["std"] or 0.0) for entry in entries]
            axes.errorbar(range(len(entries)), means, spreads, color=colour, marker="o", ms=5, lw=0, elinewidth=1.6,
                          capsize=3, gid=f"{group}: {name}")  # fmt: skip
            long = max(map(len, labels)) > 4
            axes.set_xticks(range(len(labels)), labels, rotation=20 if long else 0, ha="right" if long else "center")
            axes.margins(x=0.12)
            _plain(axes, group if name == "acc" else "")
        grid[1, column].set_yscale("log")
    grid[0, 0].set_ylabel("test accuracy, %", color=INK)
    grid[1, 0].set_ylabel("relative residual", color=INK)
    grid[2, 0].set_ylabel("spectral radius", color=INK)
    first = ablations[0]
    epochs = f"{first['epochs']} epoch{'s' * (first['epochs'] != 1)}"
    about = f"{epochs}, mean and standard deviation over {len(first['seeds'])} seeds"
    figure.supxlabel(about, fontsize=8, color=GREY)
    return figure
