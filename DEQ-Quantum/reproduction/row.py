"""A row of a table of the paper, and a table, as data: what is trained, and the numbers to compare with. Torch-free."""

from dataclasses import dataclass, field

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Paper:
    """The paper's numbers of a row; None where it gives none.

    Attributes:
        test_acc: in %.
        peak_memory_mb: of the GPU, in MB.
        train_seconds: runtime on an RTX 2070.
        test_res: residual, element-wise relative.
    """

    test_acc: float | None = None
    peak_memory_mb: float | None = None
    train_seconds: float | None = None
    test_res: float | None = None


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: of its folder, one in a table.
        short: what it is called beside the rows of its family, as in a figure's legend.
        flags: its own, for train_qdeq.py.
        paper: the paper's numbers.
        family: what sets it apart from rows of the same model and depth, as the encoding does in Table 1; figures give
            each family panels of its own. "" where nothing does.
        model: the value of --model.
        depth: key of `KINDS`; "" where depth changes nothing.
        seeds: that it is trained with where none are asked for.
        epochs: that it is trained for, where not as many as the table's other rows.
        differs: how it differs from the work it is of, where its circuit and training are that work's; its number is then
            that work's own.
    """

    name: str
    short: str
    flags: dict
    paper: Paper = field(default_factory=Paper)
    family: str = ""
    model: str = "qdeq"
    depth: str = ""
    seeds: tuple[int, ...] = SEEDS
    epochs: int | None = None
    differs: str = ""

    @property
    def label(self) -> str:
        """What it is called in a table."""
        return f"{self.short}, {self.family}" if self.family else self.short

    @property
    def is_papers(self) -> bool:
        """Whether it is one of the paper's own models as the paper describes them."""
        return self.model == "qdeq" and "trainable_gates" not in self.flags


@dataclass(frozen=True)
class Table:
    """One table of the paper.

    Attributes:
        name: of its folder.
        data: the paper's name of the data set.
        title: what stands above it.
        flags: that its rows share.
        epochs: of its runs.
        rows: in the order in which they are shown.
        notes: what to know when reading it.
        study, part: where it is one of several tables that a command makes: the command, and which of them it is.
        columns: what is shown of a row, keys of `study_columns.COLUMNS`; (): the paper's columns.
        beside: rows of other tables, (table, row), to be told beside its own.
    """

    name: str
    data: str
    title: str
    flags: dict
    epochs: int
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    study: str = ""
    part: str = ""
    columns: tuple[str, ...] = ()
    beside: tuple[tuple[str, str], ...] = ()

    def row(self, name: str) -> Row:
        """The row of that name; a KeyError if there is none."""
        return {row.name: row for row in self.rows}[name]
