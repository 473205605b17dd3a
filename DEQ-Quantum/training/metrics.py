"""The metrics of a QDEQ run and where each is measured. What names them, as the columns of metrics.csv, derives from
this list. Torch-free."""

from dataclasses import dataclass

EVENTS = ("train", "val", "best_val", "test")


@dataclass(frozen=True)
class Metric:
    """One number per image, or per split, whose mean is logged.

    Attributes:
        name: in metrics.csv and results.json behind the event's, as in "val_loss".
        events: of `EVENTS`, those that measure it.
        label: beside the progress bar; empty where it is not shown there.
    """

    name: str
    events: tuple[str, ...] = EVENTS
    label: str = ""


METRICS = (
    Metric("loss", label="loss"),
    Metric("acc", label="acc"),
    Metric("res"),
    Metric("res_rel", label="residual"),
    Metric("solver_steps", ("train", "val", "test"), label="solver"),
    Metric("converged", ("train", "val", "test")),
    Metric("jac_loss", ("train",)),
    Metric("spectral_radius", ("val", "test")),
)
# of the implicit gradient's linear solve; their columns come last, because older files have none
BACKWARD_METRICS = (Metric("b_converged", ("train",)), Metric("b_res_rel", ("train",)))


# of quantum circuits: in the training's entries the mean of a step, else of all images; only where there are shots
COSTS = ("circuits", "shots", "rounds", "jobs", "circuits_solve", "circuits_residual", "circuits_jacobian", "circuits_shift")


def names(event: str) -> tuple[str, ...]:
    """Names of the metrics of an event of `EVENTS`, without it."""
    return tuple(metric.name for metric in METRICS if event in metric.events)


LABELS = {metric.name: metric.label for metric in METRICS if metric.label}
COLUMNS = (
    "event", "train_step", "epoch", "mode", "lr", "grad_norm", "seconds_per_step", "peak_memory_mb",
    *(f"{event}_{name}" for event in EVENTS for name in names(event)),
    *(f"train_{metric.name}" for metric in BACKWARD_METRICS),
)  # fmt: skip
COLUMNS_WITH_SHOTS = (*COLUMNS, *(f"{event}_{name}" for event in ("train", "val", "test") for name in COSTS), "shots_so_far")


def columns(with_shots: bool) -> tuple[str, ...]:
    """Of metrics.csv."""
    return COLUMNS_WITH_SHOTS if with_shots else COLUMNS
