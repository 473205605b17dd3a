"""CSV files of ours read back, whatever has happened to them: rows of numbers, with at most one column of words.

What can be read is; what cannot is told in words, and is never an exception. Spreadsheet programs save such files with a
byte order mark, semicolons and decimal commas: those are read as well. Knows no file by name.
"""

import csv
from pathlib import Path

WORDS = "event"  # the one column that holds no numbers
SEPARATORS = ",;\t"


def read_rows(path: Path, needed: tuple[str, ...] = (WORDS,)) -> tuple[list[dict[str, str]], str]:
    """The rows of a file, by column.

    Args:
        path: the file; its last line may be under way.
        needed: columns that its header names.

    Returns:
        The rows whose cells are all numbers, or empty; and what could not be read, in words that name the file, "" where
        all could. A last line that is cut short is left out without a word: a file that grows has one now and then.

    Raises:
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    text = data.decode("utf-8-sig", errors="replace")
    header, *lines = text.splitlines() or [""]
    separator = next((mark for mark in SEPARATORS if {*needed} <= {*_cells(header, mark)}), None)
    if separator is None:
        encoding = "is not UTF-8 text, and " if "\ufffd" in text else ""
        return [], f"{path} {encoding}has no header that names {', '.join(needed)}" if data else ""
    columns = _cells(header, separator)
    rows = [_row(line, columns, separator) for line in lines]
    if rows and rows[-1] is None:
        rows.pop()
    whole = [row for row in rows if row is not None]
    lost = len(rows) - len(whole)
    return whole, f"{lost} of {len(rows)} rows of {path} cannot be read" if lost else ""


def _row(line: str, columns: list[str], separator: str) -> dict[str, str] | None:
    """A line's cells by column; None for what is no row of numbers."""
    cells = _cells(line, separator)
    if len(cells) != len(columns):
        return None
    if separator == ";":
        cells = [cell.replace(",", ".") for cell in cells]
    row = dict(zip(columns, cells))
    return row if all(_is_number(cell) for name, cell in row.items() if name != WORDS) else None


def _cells(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:  # a field of more than 131,072 letters
        return []


def _is_number(cell: str) -> bool:
    try:
        return cell == "" or float(cell) is not None
    except ValueError:
        return False
