"""What a benchmark says on screen, made from the same plain data that goes into its JSON file."""

from collections.abc import Callable

from benchmarks import ranks
from benchmarks.peer_steps import WIRES
from benchmarks.peers import sequence_rows, table_rows
from benchmarks.scaling import MEBI

MS = 1e3


def text(content: dict) -> str:
    """All tables of a benchmark, whole or interrupted.

    Args:
        content: the JSON file's content.
    """
    where = f"{content['device']} on {content['machine']}"
    head = (
        f"benchmark {content['benchmark']}: {where}, torch {content['torch']}, commit {content['git_commit']}"
    )
    parts = [head, *(f"note: {note}" for note in content["notes"])]
    for name, render in SECTIONS.items():
        if content.get(name):
            parts.append(render(content[name]))
    if not content["complete"]:
        parts.append("interrupted: this is what was measured until then")
    return "\n\n".join(parts)


def table(header: list[str], rows: list[list[str]]) -> str:
    """Columns side by side, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    lines = []
    for first, *others in [header, ["-" * width for width in widths], *rows]:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:])]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def _times(section: dict) -> str:
    """Times, and below them how many times longer one takes than another."""
    times = [
        [label, *(f"{MS * summary[name]:.3f}" for name in ("median", "lowest", "highest"))]
        for label, summary in section["times"].items()
    ]
    parts = [table([section["title"], "median ms", "lowest", "highest"], times)]
    if section["ratios"]:
        ratios = [
            [f"{r['slow']} / {r['fast']}", *(f"{r[name]:.1f} x" for name in ("ratio", "lowest", "highest"))]
            for r in section["ratios"]
        ]
        parts.append(table(["how many times faster", "of medians", "lowest round", "highest"], ratios))
    return "\n\n".join(parts)


def _equality(rows: list[dict]) -> str:
    """Largest relative differences, each with the tolerance it is held to."""
    names = list(rows[0]["tolerances"])
    header = ["relative difference, at most (tolerance)", *names, ""]
    lines = [
        [f"{row['of']} : {row['and']}"]
        + [f"{row[name]:.1e} ({row['tolerances'][name]:g})" for name in names]
        + ["equal" if row["equal"] else "NOT EQUAL"]
        for row in rows
    ]
    return table(header, lines)


def _solves(rows: list[dict]) -> str:
    header = [
        "forward solve",
        "steps",
        "most",
        "f calls",
        "Jacobians",
        "residual, median",
        "worst",
        "converged",
    ]
    return table(
        header,
        [
            [
                row["label"],
                f"{row['steps_mean']:.1f}",
                str(row["steps_max"]),
                str(row["n_f_evals"]),
                str(row["n_jacobians"]),
                f"{row['residual_median']:.1e}",
                f"{row['residual_worst']:.1e}",
                f"{100 * row['converged']:.1f} %",
            ]
            for row in rows
        ],
    )


def _points(points: list[dict]) -> str:
    """Time and memory of every point; those left out with the reason."""
    header = ["step", "wires", "operations", "median ms", "peak MiB", ""]
    rows = []
    for point in points:
        milliseconds = f"{MS * point['times']['median']:.2f}" if "times" in point else "-"
        peak = f"{point['peak_bytes'] / MEBI:.2f}" if "peak_bytes" in point else "-"
        size = [str(point["n_wires"]), str(point["n_operations"])]
        rows.append([point["label"], *size, milliseconds, peak, point.get("skipped", "")])
    return (
        table(header, rows)
        + "\npeak: tensors held at once beyond those there before, not the process's memory"
    )


def _flatness(found: dict[str, dict]) -> str:
    return "\n".join(
        f"{label}: largest peak / smallest peak = {f['ratio']:.3f} from {f['from']} to {f['to']} operations"
        for label, f in found.items()
    )


SECTIONS: dict[str, Callable] = {
    "step": _times,
    "equality": _equality,
    "one_f": _times,
    "one_f_equality": _equality,
    "solve": _times,
    "solves": _solves,
    "points": _points,
    "flatness": _flatness,
    "peers": lambda rows: table(*table_rows(rows)),
    "sequence": lambda rows: table(*sequence_rows(rows)),
    "seeds": _times,
    **{f"training_step_{n_wires}": _times for n_wires in WIRES},
    "ranks": lambda rows: table(*ranks.table_rows(rows)),
}
