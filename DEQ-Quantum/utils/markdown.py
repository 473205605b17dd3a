"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, without a line break at its end.

    Args:
        header: names of the columns.
        rows: as many cells each; cells are Markdown themselves.

    Raises:
        ValueError: a row with more or fewer cells than columns.
    """
    lines = [_line(header), "|" + "---|" * len(header)]
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a table of {len(header)} columns got a row of {len(row)}: {list(row)}")
        lines.append(_line(row))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
