"""The README's one table of results: what each data set's tables come to, beside the paper and classical models."""

from reproduction.names import BASELINES, DEPTHS, LINEAR
from reproduction.rows import TABLES, Row
from reproduction.tables import spread_of
from utils.markdown import markdown_table

ENCODING = "amplitude"  # where a table has rows of both
FAMILIES = ("", ENCODING, "baseline")
NARROW, WIDE = (f"{BASELINES[name]}, {DEPTHS['implicit']}" for name in ("classical_narrow", "classical"))
HEADER = ("test accuracy, %", "IMPLICIT", "best DIRECT", "the paper's IMPLICIT", LINEAR, NARROW, WIDE)
DASH = "-"


def summary(contents: list[dict]) -> str | None:
    """The table, and below it over how many seeds its means are taken.

    Args:
        contents: of `build_table`, a line for each that has rows.

    Returns:
        Markdown; None where no table has rows.
    """
    contents = [content for content in contents if content["rows"]]
    if not contents:
        return None
    numbers = sorted({len(row["seeds"]) for content in contents for row in _shown(content).values()})
    seeds = " or ".join(map(str, numbers))
    about = f"Mean ± sample standard deviation over {seeds} seed{'s' * (numbers != [1])}; "
    about += "the best DIRECT is the one with the highest test accuracy."
    epochs = {content["table"]: content["epochs"] for content in contents}
    if any(epochs[name] != TABLES[name].epochs for name in epochs):
        about += " Trained for fewer or more epochs than the paper's models."
    return f"{markdown_table(HEADER, map(_cells, contents))}\n\n{about}"


def _shown(content: dict) -> dict[str, dict]:
    """The finished rows of a table that belong here, by the column they belong to; DIRECT the best on the test set."""
    finished = {row["row"]: row for row in content["rows"]}
    rows = [row for row in TABLES[content["table"]].rows if row.name in finished and row.family in FAMILIES]
    columns = {("qdeq", "implicit"): "implicit", ("linear", ""): "linear", ("classical_narrow", "implicit"): "narrow",
               ("classical", "implicit"): "wide"}  # fmt: skip
    shown = {columns[row.model, row.depth]: finished[row.name] for row in rows if (row.model, row.depth) in columns}
    direct = [finished[row.name] for row in rows if _is_direct(row) and _mean(finished[row.name]) is not None]
    return shown | ({"direct": max(direct, key=_mean)} if direct else {})


def _is_direct(row: Row) -> bool:
    return row.model == "qdeq" and row.flags["mode"] == "direct"


def _mean(row: dict) -> float | None:
    return row["test_acc"]["mean"]


def _cells(content: dict) -> list[str]:
    table, shown = TABLES[content["table"]], _shown(content)
    families = {row.family for row in table.rows}
    (paper,) = (row.paper.test_acc for row in table.rows
                if (row.model, row.depth) == ("qdeq", "implicit") and row.family in ("", ENCODING))  # fmt: skip

    def accuracy(column: str) -> str:
        return spread_of(shown[column]["test_acc"]).text(".2f") if column in shown else DASH

    direct = f" ({table.row(shown['direct']['row']).short})" if "direct" in shown else ""
    return [
        f"{table.data}, {ENCODING}" if ENCODING in families else table.data,
        accuracy("implicit"),
        accuracy("direct") + direct,
        DASH if paper is None else f"{paper:.2f}",
        accuracy("linear"),
        accuracy("narrow"),
        accuracy("wide"),
    ]
