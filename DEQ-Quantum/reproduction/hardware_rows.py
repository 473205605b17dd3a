"""What the study of hardware looks at: trained models, and what is done to them. Torch-free.

Models are those of Table 1, from the same run folders (of the narrow classical one units are read by counting, as qubits
are), two of Table 2 to confirm them on ten qubits, and those that only this study has: the ansatz five times in one coherent
circuit, the one model for which "shallower" is an argument about noise (its layers are measured once, where those of DIRECT-5
are measured five times), and models that were trained under noise or with shots, beside the same without.
"""

from dataclasses import dataclass, replace

from reproduction.names import DEPTHS
from reproduction.rows import TABLES, Row, Table

DEPOLARIZING = tuple(f"depolarizing:{p}" for p in ("1e-4", "3e-4", "1e-3", "3e-3", "1e-2", "3e-2"))
OTHERS = ("damping:100,80", "damping:50,25", "readout:0.01", "readout:0.05", "readout:0.012,0.068", "coherent:0.03",
          "coherent:0.1")  # fmt: skip
DEVICES = tuple(f"device:{name}" for name in ("quito", "manila", "sherbrooke", "aachen"))  # of 2021 to 2026
SHOTS = (128, 1024, 8192)
WAYS = ("readout", "zne", "rescale", "head", "readout+rescale", "readout+rescale+head")

COHERENT = "coherent-5"
SHARED = TABLES["table1"].flags
OWN = Table(
    "hardware",
    "MNIST-4",
    "MNIST-4, 4 qubits",
    SHARED,
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
TRAINED_NOISE, TRAINED_SHOTS = "depolarizing:1e-2", 1024
TRAINED_WITH = {
    "clean": ("trained without noise", {}),
    "noise": (f"trained under {TRAINED_NOISE}", {"noise": TRAINED_NOISE}),
    "shots": (f"values of {TRAINED_SHOTS} shots, exact gradients", {"shots": TRAINED_SHOTS}),
}
TRAINED = Table(
    "hardware_trained",
    "MNIST-4",
    "MNIST-4, 4 qubits, amplitude encoding",
    SHARED,
    30,
    tuple(
        Row(f"{depth}_{how}", f"{DEPTHS[depth]}, {label}", TABLES["table1"].row(f"amplitude_{depth}").flags | flags,
            family="30 epochs", depth=depth)
        for depth in ("implicit", "direct-1")
        for how, (label, flags) in TRAINED_WITH.items()
    ),
)  # fmt: skip
TEN_QUBITS = ("implicit", "direct-1")
# models at which measured gradients are looked at, and with how many draws of every number of shots
WITH_GRADIENTS = ("amplitude_implicit", "amplitude_direct-1", "amplitude_direct-5")
DRAWS = 4
# of the first seed's run; on ten qubits a compilation of the encoding takes seconds
TRANSPILED = {
    "amplitude_implicit": ("--device", "manila", "sherbrooke"),
    "angle_implicit": ("--device", "manila", "sherbrooke"),
    "implicit": ("--device", "guadalupe", "sherbrooke", "--optimization_level", "1", "3", "--seeds", "3"),
}
# of the first seed's run: equilibria and layers on a machine that Aer simulates, compiled for it, from counts alone
ON_MACHINE = ("amplitude_implicit", "amplitude_direct-1", "angle_implicit", "angle_direct-1")
OF_MACHINE = ("--device", "manila", "--shots", "4096", "--images", "100")


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
# classical units read as qubits are: the control
COUNTED_UNITS = tuple(replace(suite, noises=("none",)) for suite in SUITES if "--shots" in suite.flags)
# readouts are logits: no head to train again
WITHOUT_HEAD = Suite("mitigation", DEVICES, ("--mitigate", *(way for way in WAYS if "head" not in way)))
# what a solver makes of eleven evaluations of f and no tolerance; the last one is the residual's
SOLVERS = ("fixed_point", "broyden", "anderson", "averaged")
OF_SOLVERS = tuple(
    Suite(f"{solver}, {shots} shots", ("none",),
          ("--shots", str(shots), "--f_solver", solver, "--f_thres", "10", "--f_tol", "1e-9"))
    for solver in SOLVERS for shots in SHOTS
)  # fmt: skip
# other over-rotations of one strength, for what is the draw's and what is the strength's
DRAWN = Suite("coherent draws", tuple(f"coherent:0.03,{seed}" for seed in (1, 2, 3, 4)))
WITH_DRAWS = tuple(f"amplitude_{depth}" for depth in ("implicit", "warmup", "direct-10", "direct-1"))
# one layer with as many shots in all as equilibria take: Broyden's 3.2 circuits of 128 and 4 of 1024, and 11 that are averaged
TOTALS = (410, 1408, 4096, 11264)
WITH_TOTALS = "amplitude_direct-1"
AT_EQUAL_TOTALS = tuple(Suite(f"{shots} shots", ("none",), ("--shots", str(shots))) for shots in TOTALS)
TEN = Suite(
    "ten qubits",
    ("depolarizing:1e-3", "depolarizing:1e-2", "device:guadalupe", "device:sherbrooke", "device:aachen"),
)
SHOTS_OF_TEN = (1024, 8192, 65536)
TEN_COUNTED = tuple(
    Suite(f"{shots} shots", ("none",), ("--shots", str(shots), "--repeat", "1", "--max_images", "2000"))
    for shots in SHOTS_OF_TEN
)
# shots of each circuit of models that are measured once, by row, and how often
SURROGATES = {"amplitude_implicit": (SHOTS, 5), "implicit": (SHOTS_OF_TEN, 1)}


def rows() -> list[tuple[Table, Row]]:
    """The study's models, each with the table whose run it is."""
    table1, table2 = TABLES["table1"], TABLES["table2"]
    names = [row.name for row in table1.rows if row.is_papers] + ["wang2022-direct-1", "wang2022-implicit"]
    names += ["classical_narrow-implicit", "classical_narrow-direct-1"]
    own = [(table, row) for table in (OWN, TRAINED) for row in table.rows]
    return [*((table1, table1.row(name)) for name in names), *own, *((table2, table2.row(name)) for name in TEN_QUBITS)]


def suites_of(table: Table, row: Row) -> tuple[Suite, ...]:
    """The evaluations of a model."""
    if table.name == "table2":
        return (TEN, *TEN_COUNTED)
    if table is TRAINED:
        return tuple(suite for suite in SUITES if suite.name in ("ansatz", f"{TRAINED_SHOTS} shots"))
    if row.model == "classical_narrow":
        return COUNTED_UNITS
    if row.model == "wang2022":
        return tuple(WITHOUT_HEAD if suite.name == "mitigation" else suite for suite in SUITES)
    suites = (*SUITES, *OF_SOLVERS) if row.depth == "implicit" else SUITES
    suites = (*suites, DRAWN) if row.name in WITH_DRAWS else suites
    return (*suites, *AT_EQUAL_TOTALS) if row.name == WITH_TOTALS else suites
