"""A circuit as a picture, drawn from the `Circuit` that the engines run: Figs 2 and 3 of arXiv 2410.23940.

Operations are packed to the left, part by part, so that no vertical line crosses another gate; long circuits
continue in further rows. The colour of a gate says which part it belongs to: the encoding, the random
operations, the trainable gates of the four-qubit blocks, their fixed gates.
"""

from dataclasses import dataclass
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Patch

from circuits.ansatz import BLOCK, RANDOM
from circuits.circuit import Circuit
from circuits.encodings import AngleEncoding, StateEncoding
from circuits.operations import Operation
from figures.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, VERMILION, blank_canvas, tint

PARTS = {
    "encoder": (PURPLE, "encoding of v = z + x"),
    "random": (BLUE, "random, rotations trainable"),
    "untrained": (GREY, "random, not trained"),
    "trainable": (ORANGE, "blocks, trainable"),
    "frozen": (VERMILION, "blocks, not trained"),
    "fixed": (GREEN, "blocks, fixed"),
    "ansatz": (BLUE, "ansatz"),
}
COLUMNS_PER_ROW = 26
INCHES_PER_COLUMN = 0.5
LEFT, RIGHT, TOP, BOTTOM, ROW_GAP = 1.3, 0.6, 2.2, 0.9, 1.3
GATE_HALF_WIDTH, GATE_HALF_HEIGHT, TARGET_RADIUS, DOT_RADIUS = 0.4, 0.36, 0.2, 0.1


@dataclass(frozen=True)
class Placed:
    """One operation of a circuit and where it is drawn.

    Attributes:
        number: position among the encoder's and then the ansatz's operations.
        operation: what is drawn.
        part: key of PARTS.
        column: moment, from 0.
    """

    number: int
    operation: Operation
    part: str
    column: int


def _part(circuit: Circuit, operation: Operation) -> str:
    """The part of the ansatz that an operation belongs to."""
    if operation.part == RANDOM:
        return "random" if circuit.trained else "untrained"
    if operation.part != BLOCK:
        return "ansatz"
    if operation.parameter is None:
        return "fixed"
    return "trainable" if operation.parameter in circuit.trained else "frozen"


def place_operations(circuit: Circuit) -> tuple[list[Placed], int]:
    """Columns for a circuit's operations: as far left as order allows, parts one after the other.

    Args:
        circuit: any circuit. A state takes column 0.

    Returns:
        The placed operations in order, and the number of columns they take, that of the encoding included.
    """
    placed: list[Placed] = []
    n_columns = int(not isinstance(circuit.encoding, AngleEncoding))
    encoder, ansatz = circuit.encoding.operations, circuit.ansatz.operations
    parts = ["encoder"] * len(encoder) + [_part(circuit, operation) for operation in ansatz]
    numbered = zip(parts, enumerate(encoder + ansatz))
    for part, group in groupby(numbered, key=lambda item: item[0]):
        free = [n_columns] * circuit.n_wires
        for _, (number, operation) in group:
            # a gate on two wires also takes the wires its line crosses
            crossed = range(min(operation.wires), max(operation.wires) + 1)
            column = max(free[wire] for wire in crossed)
            for wire in crossed:
                free[wire] = column + 1
            placed.append(Placed(number, operation, part, column))
        n_columns = max(free)
    return placed, n_columns


class _Paper:
    """The canvas, and where columns and wires lie on it."""

    def __init__(self, circuit: Circuit, n_columns: int):
        self.n_wires = circuit.n_wires
        self.n_rows = -(-n_columns // COLUMNS_PER_ROW)
        self.columns_per_row = -(-n_columns // self.n_rows)
        self.n_columns = n_columns
        width = max(LEFT + self.columns_per_row + RIGHT, 18.0)
        self.height = TOP + self.n_rows * (self.n_wires + ROW_GAP) - ROW_GAP + BOTTOM
        self.figure, self.axes = blank_canvas(width, self.height, INCHES_PER_COLUMN)

    def x(self, column: int) -> float:
        return LEFT + column % self.columns_per_row + 0.5

    def y(self, column: int, wire: int) -> float:
        row = column // self.columns_per_row
        return self.height - TOP - row * (self.n_wires + ROW_GAP) - wire - 0.5


def draw_circuit(circuit: Circuit) -> Figure:
    """The circuit, gate by gate; theta_i under a gate's name is entry i of the layer's parameters.

    Args:
        circuit: any number of wires and operations.

    Returns:
        A figure as large as the circuit needs. Every gate's box or target carries the gid "gate-<number>" and
        every wire of every row "wire-<wire>", which become the ids of an SVG's elements.
    """
    placed, n_columns = place_operations(circuit)
    paper = _Paper(circuit, n_columns + 1)
    _draw_wires(paper, circuit)
    if not isinstance(circuit.encoding, AngleEncoding):
        _draw_state_encoding(paper, circuit)
    for gate in placed:
        _draw_operation(paper, gate)
    for wire in range(circuit.n_wires):
        if read := circuit.readout.letters(wire):
            _draw_measurement(paper.axes, paper.x(n_columns), paper.y(n_columns, wire), read)
    _draw_heading(paper, circuit, placed)
    return paper.figure


def _draw_wires(paper: _Paper, circuit: Circuit) -> None:
    for row in range(paper.n_rows):
        first = row * paper.columns_per_row
        last = min(first + paper.columns_per_row, paper.n_columns) - 1
        goes_on = last < paper.n_columns - 1
        for wire in range(circuit.n_wires):
            y = paper.y(first, wire)
            ends = [LEFT - 0.15, paper.x(last) + (0.75 if goes_on else 0)]
            paper.axes.plot(ends, [y, y], color=GREY, lw=0.9, zorder=1, gid=f"wire-{wire}")
            label = rf"$q_{{{wire}}}$" if row else rf"$q_{{{wire}}}\;\,|0\rangle$"
            paper.axes.text(LEFT - 0.28, y, label, ha="right", va="center", fontsize=9, color=INK)


def _draw_box(
    axes: Axes, x: float, y: float, half_width: float, half_height: float, colour: str, gid=None
) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x - half_width, y - half_height),
            2 * half_width,
            2 * half_height,
            boxstyle="round,pad=0,rounding_size=0.1",
            facecolor=tint(colour, 0.22),
            edgecolor=colour,
            linewidth=1.1,
            zorder=3,
            gid=gid,
        )
    )


def _draw_state_encoding(paper: _Paper, circuit: Circuit) -> None:
    encoding, name = circuit.encoding, circuit.encoding.name.replace("_", " ")
    n_wires = encoding.n_state_wires if isinstance(encoding, StateEncoding) else paper.n_wires
    x, top, bottom = paper.x(0), paper.y(0, 0), paper.y(0, n_wires - 1)
    half_height = (top - bottom) / 2 + GATE_HALF_HEIGHT
    colour = PARTS["encoder"][0]
    _draw_box(paper.axes, x, (top + bottom) / 2, GATE_HALF_WIDTH, half_height, colour, f"{name.replace(' ', '-')}-encoding")
    kind = "state" if name == "turned states" else f"{name} encoding"
    of = "z + x" if encoding.n_data is None else "x"
    text = f"{kind} of {of}" if n_wires >= 6 else f"{kind}\nof {of}"
    paper.axes.text(
        x, (top + bottom) / 2, text, rotation=90, ha="center", va="center", fontsize=9, color=INK, zorder=4,
        linespacing=1.3,
    )  # fmt: skip


def _draw_operation(paper: _Paper, gate: Placed) -> None:
    """A box on the last wire, or the sign of a target for CNOT; wires before it control."""
    operation, colour, gid = gate.operation, PARTS[gate.part][0], f"gate-{gate.number}"
    axes, x = paper.axes, paper.x(gate.column)
    *controls, target = (paper.y(gate.column, wire) for wire in operation.wires)
    for y in controls:
        axes.plot([x, x], [y, target], color=colour, lw=1.4, zorder=2)
        axes.add_patch(Circle((x, y), DOT_RADIUS, color=colour, zorder=3))
    if operation.gate == "cnot":
        ring = Circle(
            (x, target), TARGET_RADIUS, facecolor="white", edgecolor=colour, lw=1.4, zorder=3, gid=gid
        )
        axes.add_patch(ring)
        for dx, dy in ((TARGET_RADIUS, 0), (0, TARGET_RADIUS)):
            axes.plot([x - dx, x + dx], [target - dy, target + dy], color=colour, lw=1.4, zorder=4)
        return
    _draw_box(axes, x, target, GATE_HALF_WIDTH, GATE_HALF_HEIGHT, colour, gid)
    name = operation.gate.upper()
    if controls:
        name = name.removeprefix("C")  # the dot says that it is controlled
    if operation.parameter is None:
        axes.text(x, target, name, ha="center", va="center", fontsize=9, color=INK, zorder=4)
        return
    symbol = "v" if gate.part == "encoder" else r"\theta"
    axes.text(x, target + 0.12, name, ha="center", va="center", fontsize=9, color=INK, zorder=4)
    label = rf"${symbol}_{{{operation.parameter}}}$"
    axes.text(x, target - 0.2, label, ha="center", va="center", fontsize=7, color=INK, zorder=4)


def _draw_measurement(axes: Axes, x: float, y: float, letters: str) -> None:
    _draw_box(axes, x, y, GATE_HALF_WIDTH, GATE_HALF_HEIGHT, GREY)
    axes.text(x, y, rf"$\langle {letters} \rangle$", ha="center", va="center", fontsize=9, color=INK, zorder=4)


def _draw_heading(paper: _Paper, circuit: Circuit, placed: list[Placed]) -> None:
    n_cnots = sum(operation.gate == "cnot" for operation in circuit.ansatz.operations)
    n_frozen = len(circuit.frozen)
    title = (
        f"{circuit.n_wires} qubits, {circuit.encoding.name} encoding: {len(circuit.ansatz.operations)} operations, "
        f"{n_cnots} CNOTs, {circuit.n_parameters} parameters"
        + (f", {circuit.n_parameters - n_frozen} of them trained" if n_frozen else "")
    )
    paper.axes.text(
        LEFT - 0.15, paper.height - 0.65, title, fontsize=13, fontweight="bold", color=INK, va="center"
    )
    swatches = []
    for part, (colour, name) in PARTS.items():
        count = sum(gate.part == part for gate in placed)
        if count:
            if part == "encoder" and circuit.encoding.n_data is not None:
                name = "encoding of v = [x, z]"
            label = f"{name} ({count})"
            swatches.append(Patch(facecolor=tint(colour, 0.22), edgecolor=colour, linewidth=1.1, label=label))
    paper.axes.legend(
        handles=swatches,
        ncols=len(swatches),
        loc="center left",
        bbox_to_anchor=(LEFT - 0.15, paper.height - 1.45),
        bbox_transform=paper.axes.transData,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.2,
        handleheight=1.2,
        frameon=False,
        fontsize=10,
        labelcolor=INK,
    )
