"""The model in one picture: what Fig. 1 of arXiv 2410.23940 explains, in a drawing of our own.

Above, one quantum layer and the loop that solves it for its equilibrium; below, its explicit counterpart, its
gradient, and solvers at work. Nothing is made up: the gates are those of a `Circuit`, the pooled image is
computed from a digit of matplotlib's own font, and the curves come from `deq.solve` on the four-qubit layer.
"""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.textpath import TextPath
from torch import Tensor
from torch.nn.functional import avg_pool2d

from circuits.circuit import build_circuit
from deq import SolverSettings, solve
from figures.circuit_drawing import PARTS, place_operations
from figures.style import BLUE, GREEN, GREY, INK, ORANGE, PALE, PURPLE, VERMILION, blank_canvas, tint
from models.quantum_layer import QuantumLayer

WIDTH, HEIGHT = 12.0, 6.7
FLOW = 4.42  # height of the line along which data flow
SOLVERS = {"fixed_point": ("Picard", GREY), "broyden": ("Broyden", BLUE), "newton": ("Newton", VERMILION)}
SOLVER_STEPS, LOWEST_RESIDUAL = 10, 1e-7
FLOOR = LOWEST_RESIDUAL / 100  # what is below is round-off, and not in the picture
PIXELS = 28


def draw_overview() -> Figure:
    """The picture at the top of the README; about a second of computation, the same on every call."""
    figure, axes = blank_canvas(WIDTH, HEIGHT)
    axes.set_aspect("equal")
    _draw_equilibrium(axes)
    _draw_direct(axes)
    _draw_gradient(axes)
    _draw_solvers(figure, axes)
    return figure


def glyph(character: str) -> Tensor:
    """A character of matplotlib's own font as an image, (28, 28), values in [0, 1]."""
    path = TextPath((0, 0), character, size=28, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    low, high = path.get_extents().get_points()
    fine = 4 * PIXELS  # four samples a pixel and direction soften the edges
    ticks = (np.arange(fine) + 0.5) / 4 - PIXELS / 2
    columns, rows = np.meshgrid(ticks, -ticks)
    inside = path.contains_points(np.stack([columns, rows], -1).reshape(-1, 2) + (low + high) / 2)
    image = torch.from_numpy(inside.reshape(1, 1, fine, fine).astype(np.float64))
    return avg_pool2d(image, 4)[0, 0]


def solver_traces(seed: int = 0, n_parameter_sets: int = 16) -> dict[str, np.ndarray]:
    """Relative residuals of the four-qubit layer, solved for four digits at random parameters.

    Args:
        seed: of the parameters; the global generator is left as it was.
        n_parameter_sets: how many random settings of the circuit.

    Returns:
        For each solver, the median over digits and parameters after each step, (SOLVER_STEPS + 1,); the first
        entry belongs to z = 0, where the relative residual is inf.
    """
    pooled = torch.stack([avg_pool2d(glyph(digit)[None], 6)[0].flatten() for digit in "0369"])
    x = (pooled - 0.1307) / 0.3081
    circuit = build_circuit(4)
    traces: dict[str, list[Tensor]] = {name: [] for name in SOLVERS}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for _ in range(n_parameter_sets):
            h = QuantumLayer(circuit).double().bind(x).reduced()
            for name, collected in traces.items():
                settings = SolverSettings(name, max_steps=SOLVER_STEPS, tol=0.0)
                trace = solve(h, x.new_zeros(len(x), circuit.n_wires), settings).trace
                # a trace ends early where f(z) = z to the last bit for every sample
                collected.append(torch.cat([trace, trace[-1:].expand(SOLVER_STEPS + 1 - len(trace), -1)]))
    return {
        name: torch.cat(collected, dim=1).median(dim=1).values.numpy() for name, collected in traces.items()
    }


def rounded(residuals: np.ndarray) -> np.ndarray:
    """Residuals to a hundredth of a decade, which no machine's rounding reaches: the same picture is the same bytes."""
    return 10 ** np.round(np.log10(np.maximum(residuals, FLOOR)), 2)


def _text(axes: Axes, x: float, y: float, text: str, size: float = 11, **style) -> None:
    style = {"ha": "center", "va": "center", "color": INK, "zorder": 6} | style
    axes.text(x, y, text, fontsize=size, **style)


def _box(
    axes: Axes,
    x: float,
    y: float,
    width: float,
    height: float,
    colour: str,
    strength: float = 0.18,
    zorder: int = 3,
) -> None:
    """A rounded box around the point (x, y), filled with its colour's tint."""
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle=f"round,pad=0,rounding_size={min(0.1, width / 5)}",
            facecolor=tint(colour, strength),
            edgecolor=colour,
            linewidth=1.2,
            zorder=zorder,
        )
    )


def _card(
    axes: Axes, left: float, bottom: float, right: float, top: float, title: str, rest: str = ""
) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (left, bottom),
            right - left,
            top - bottom,
            boxstyle="round,pad=0,rounding_size=0.15",
            facecolor="#F7F9FB",
            edgecolor=PALE,
            linewidth=1.0,
            zorder=0,
        )
    )
    _text(axes, left + 0.22, top - 0.28, title, 12.5, ha="left", weight="bold")
    _text(axes, left + 0.22, top - 0.56, rest, 10.5, ha="left", color="#52606D")


def _arrow(axes: Axes, points: list[tuple[float, float]], colour: str = INK, width: float = 1.5) -> None:
    """A path of straight pieces that ends in an arrow head."""
    if len(points) > 2:
        axes.plot(
            *zip(*points[:-1]),
            color=colour,
            lw=width,
            solid_capstyle="butt",
            solid_joinstyle="round",
            zorder=2,
        )
    axes.add_patch(
        FancyArrowPatch(
            *points[-2:],
            arrowstyle="-|>",
            mutation_scale=11,
            shrinkA=0,
            shrinkB=0,
            color=colour,
            lw=width,
            zorder=2,
        )
    )


def _image(axes: Axes, pixels: Tensor, x: float, size: float) -> None:
    left, right, bottom, top = x - size / 2, x + size / 2, FLOW - size / 2, FLOW + size / 2
    axes.imshow(
        pixels.numpy(), cmap="gray_r", extent=(left, right, bottom, top), zorder=3, interpolation="nearest"
    )
    axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    axes.plot(
        [left, right, right, left, left], [bottom, bottom, top, top, bottom], color=GREY, lw=1, zorder=4
    )


def _draw_equilibrium(axes: Axes) -> None:
    """The upper card, from the image to its class."""
    _card(axes, 0.15, 3.1, 11.85, 6.55, "QDEQ", "one quantum layer, solved for its equilibrium")
    digit = glyph("3")
    _image(axes, digit, 0.95, 1.0)
    _text(axes, 0.95, FLOW - 0.75, "image")
    _arrow(axes, [(1.5, FLOW), (2.0, FLOW)])
    _text(axes, 1.75, FLOW + 0.2, "pool", 10)
    _image(axes, avg_pool2d(digit[None], 6)[0], 2.42, 0.76)
    _text(axes, 2.42, FLOW - 0.75, r"$x$,  $Q \times Q$", 12)
    _arrow(axes, [(2.85, FLOW), (3.22, FLOW)])
    axes.add_patch(Circle((3.4, FLOW), 0.17, facecolor="white", edgecolor=INK, lw=1.3, zorder=3))
    _text(axes, 3.4, FLOW, "+", 14)
    _arrow(axes, [(3.57, FLOW), (3.95, FLOW)])
    _draw_layer(axes)
    _draw_loop(axes)
    _arrow(axes, [(8.75, FLOW), (9.55, FLOW)], VERMILION)
    _text(axes, 9.25, FLOW - 0.25, r"$z^*$", 14, color=VERMILION)
    _box(axes, 10.1, FLOW, 1.0, 0.9, GREEN)
    _text(axes, 10.1, FLOW, "ReLU\nlinear", linespacing=1.4)
    _arrow(axes, [(10.65, FLOW), (11.05, FLOW)])
    _text(axes, 11.38, FLOW, "class", 12, weight="bold")


def _draw_layer(axes: Axes) -> None:
    """The inside of f: encoding, a circuit of four wires with eight random operations, readout, repeating."""
    left, right = 3.98, 8.75
    _box(axes, (left + right) / 2, FLOW - 0.1, right - left, 1.9, BLUE, 0.05)
    circuit = build_circuit(4, n_random_operations=8)
    placed, n_columns = place_operations(circuit)
    wires = [FLOW + 0.54 - 0.36 * wire for wire in range(circuit.n_wires)]
    start, pitch = 4.84, 2.4 / (n_columns - 1)
    for y in wires:
        axes.plot([4.5, 7.62], [y, y], color=GREY, lw=0.9, zorder=3)
    for gate in placed:
        x, colour = start + pitch * (gate.column - 1), PARTS[gate.part][0]
        *controls, target = (wires[wire] for wire in gate.operation.wires)
        for y in controls:
            axes.plot([x, x], [y, target], color=colour, lw=1.4, zorder=4)
            axes.add_patch(Circle((x, y), 0.045, color=colour, zorder=5))
        if gate.operation.gate == "cnot":
            axes.add_patch(Circle((x, target), 0.08, facecolor="white", edgecolor=colour, lw=1.4, zorder=5))
            for dx, dy in ((0.08, 0), (0, 0.08)):
                axes.plot([x - dx, x + dx], [target - dy, target + dy], color=colour, lw=1.4, zorder=6)
        else:
            _box(axes, x, target, 0.16, 0.22, colour, 0.55, zorder=5)
    _box(axes, 4.42, FLOW, 0.36, 1.4, PURPLE, 0.22)
    _text(axes, 4.42, FLOW, r"encode  $z+x$", 10.5, rotation=90)
    for y in wires:
        _box(axes, 7.49, y, 0.26, 0.26, INK, 0.0, zorder=5)
        _text(axes, 7.49, y, r"$Z$", 9.5)
    _arrow(axes, [(7.68, FLOW), (7.98, FLOW)])
    _box(axes, 8.3, FLOW, 0.56, 1.4, ORANGE)
    _text(axes, 8.3, FLOW, r"repeat  $\times\, Q$", 10.5, rotation=90)
    _text(axes, 6.0, FLOW - 0.86, r"quantum circuit $U(\theta)$ on $Q$ qubits", 10.5)
    _text(axes, 8.3, FLOW - 0.86, r"$f_\theta(z;\,x)$", 11.5, color=BLUE)


def _draw_loop(axes: Axes) -> None:
    top = 5.66
    _arrow(axes, [(9.0, FLOW), (9.0, top), (3.4, top), (3.4, FLOW + 0.18)], VERMILION)
    _text(axes, 3.62, FLOW + 0.42, r"$z$", 14, color=VERMILION)
    frame = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": VERMILION, "lw": 1.2}
    _text(axes, 6.35, top, r"root solver, until  $z^* = f_\theta(z^*;\,x)$", 12, color=VERMILION, bbox=frame)


def _draw_direct(axes: Axes) -> None:
    """The explicit counterpart, layer after layer."""
    _card(axes, 0.15, 0.15, 4.35, 2.95, "DIRECT", r"$L$ layers that share one $\theta$")
    y, feed = 1.45, 0.7
    layers = {"1": 1.05, "2": 1.9, "L": 3.2}
    axes.plot([0.6, layers["L"]], [feed, feed], color=INK, lw=1.5, zorder=2)
    _text(axes, 0.45, feed, r"$x$", 13)
    _text(axes, 0.45, y, r"$0$", 12)
    start = 0.58
    for name, x in layers.items():
        if name == "L":
            _arrow(axes, [(start, y), (2.38, y)])
            _text(axes, 2.55, y, "···", 12)
            start = 2.72
        _arrow(axes, [(start, y), (x - 0.3, y)])
        _arrow(axes, [(x, feed), (x, y - 0.31)])
        _box(axes, x, y, 0.56, 0.6, BLUE)
        _text(axes, x, y, r"$f_\theta$", 13)
        _text(axes, x, y + 0.47, rf"${name}$", 10.5, color=GREY)
        start = x + 0.28
    _arrow(axes, [(start, y), (3.78, y)])
    _text(axes, 4.02, y, r"$z_L$", 13)


def _draw_gradient(axes: Axes) -> None:
    _card(axes, 4.55, 0.15, 8.25, 2.95, "Implicit gradient", "needs the equilibrium, not the way there")
    formula = (
        r"$\dfrac{d\ell}{d\theta} = \dfrac{\partial\ell}{\partial z^*}"
        r"\,(I - J_f)^{-1}\,\dfrac{\partial f_\theta}{\partial\theta}$"
    )
    _text(axes, 6.4, 1.5, formula, 15)
    _text(axes, 6.4, 0.68, "one linear system per batch;\nmemory does not grow with depth", 10.5)


def _draw_solvers(figure: Figure, canvas: Axes) -> None:
    """Residual against step, for each solver."""
    _card(canvas, 8.45, 0.15, 11.85, 2.95, "Solvers at work", "4 qubits, random parameters")
    axes = figure.add_axes((9.2 / WIDTH, 0.68 / HEIGHT, 2.3 / WIDTH, 1.4 / HEIGHT), facecolor="none")
    axes.set_yscale("log")
    axes.set(xlim=(1, SOLVER_STEPS), ylim=(LOWEST_RESIDUAL, 1))
    for name, trace in solver_traces().items():
        label, colour = SOLVERS[name]
        axes.plot(range(len(trace)), rounded(trace), color=colour, lw=1.8, label=label, gid=name)
    axes.set_xticks([1, 5, 10])
    axes.set_yticks([1, 1e-3, 1e-6])
    axes.minorticks_off()
    axes.tick_params(labelsize=10, colors=INK, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("step", fontsize=10, color=INK, labelpad=1)
    axes.set_ylabel("rel. residual", fontsize=10, color=INK, labelpad=2)
    axes.legend(
        loc="upper right", bbox_to_anchor=(1.04, 1.06), frameon=False, fontsize=10, labelcolor="linecolor",
        handlelength=1.0, handletextpad=0.5, labelspacing=0.3, borderaxespad=0,
    )  # fmt: skip
