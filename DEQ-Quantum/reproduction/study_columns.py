"""What the tables of the studies show of a run: keys of results.json, and how each is written. Torch-free.

`OF_START` is measured besides, of the models that training begins with: see `reproduction/gradient_variances.py`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        header: what stands above it.
        form: how its mean and spread are written.
        scale: from results.json to its unit.
    """

    header: str
    form: str
    scale: float = 1.0


COLUMNS = {
    "test_acc": Column("test accuracy, %", ".2f", 100.0),
    "best_val_acc": Column("validation, %", ".2f", 100.0),
    "n_readouts": Column("readouts", ".0f"),
    "measurement_settings": Column("settings", ".0f"),
    "n_parameters": Column("parameters", ".0f"),
    "train_seconds": Column("training, s", ".0f"),
    "test_res_rel": Column("`res_rel`", ".1e"),
    "test_solver_steps": Column("solver steps", ".1f"),
    "test_converged": Column("converged, %", ".0f", 100.0),
    "test_spectral_radius": Column("spectral radius", ".3f"),
    "readout_variance": Column("variance of d⟨Z₀⟩/dθ", ".1e"),
    "loss_variance": Column("variance of dL/dθ", ".1e"),
}
OF_START = ("readout_variance", "loss_variance")
# explicit layers take no solver steps, models without a circuit ask for no radius; whatever else is missing was not finite
OF_SOME = ("test_solver_steps", "test_converged", "test_spectral_radius")
# no two runs of a row differ in these
EQUAL = ("n_readouts", "measurement_settings", "n_parameters", *OF_START)
