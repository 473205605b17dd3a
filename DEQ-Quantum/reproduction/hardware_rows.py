"""What the study of hardware looks at: trained models, and what is done to them. Torch-free.

Models are those of Table 1, from the same run folders, and one that only this study has: the ansatz five times in one
coherent circuit, the one model for which "shallower" is an argument about noise. Its layers are measured once, where
those of DIRECT-5 are measured five times.
"""

from dataclasses import dataclass

from reproduction.rows import TABLES, Row, Table

DEPOLARIZING = tuple(f"depolarizing:{p}" for p in ("1e-4", "3e-4", "1e-3", "3e-3", "1e-2", "3e-2"))
OTHERS = ("damping:100,80", "damping:50,25", "readout:0.01", "readout:0.05", "readout:0.012,0.068", "coherent:0.03",
          "coherent:0.1")  # fmt: skip
DEVICES = tuple(f"device:{name}" for name in ("quito", "manila", "sherbrooke", "aachen"))  # of 2021 to 2026
SHOTS = (128, 1024, 8192)
WAYS = ("readout", "zne", "rescale", "head", "readout+rescale", "readout+rescale+head")

COHERENT = "coherent-5"
OWN = Table(
    "hardware",
    "MNIST-4",
    "MNIST-4, 4 qubits",
    TABLES["table1"].flags,
    TABLES["table1"].epochs,
    (
        Row(
            COHERENT,
            "5 layers without measuring",
            TABLES["table1"].row("amplitude_direct-1").flags | {"n_blocks": 5},
            family="amplitude",
            depth="direct-1",
        ),
    ),
)


@dataclass(frozen=True)
class Suite:
    """One evaluation of every model.

    Attributes:
        name: of its part of a model's file.
        flags: of `hardware.py evaluate`.
        noises: the texts of --noise among them, in order.
    """

    name: str
    noises: tuple[str, ...]
    flags: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """Of the command line, without the run."""
        return ["--noise", *self.noises, *self.flags]


SUITES = (
    Suite("ansatz", (*DEPOLARIZING, *OTHERS, *DEVICES)),
    Suite("all gates", (*DEPOLARIZING, *DEVICES), ("--encoding_noise", "same")),
    *(Suite(f"{shots} shots", ("none", "device:manila"), ("--shots", str(shots))) for shots in SHOTS),
    Suite("mitigation", DEVICES, ("--mitigate", *WAYS)),
)
# readouts are logits: no head to train again
WITHOUT_HEAD = Suite("mitigation", DEVICES, ("--mitigate", *(way for way in WAYS if "head" not in way)))


def rows() -> list[tuple[Table, Row]]:
    """The study's models, each with the table whose run it is."""
    table1 = TABLES["table1"]
    names = [row.name for row in table1.rows if row.is_papers] + ["wang2022-direct-1", "wang2022-implicit"]
    return [*((table1, table1.row(name)) for name in names), *((OWN, row) for row in OWN.rows)]


def suites_of(row: Row) -> tuple[Suite, ...]:
    """The evaluations of a model."""
    if row.model == "wang2022":
        return tuple(WITHOUT_HEAD if suite.name == "mitigation" else suite for suite in SUITES)
    return SUITES
