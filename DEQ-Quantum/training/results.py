"""The end of a run: the test split measured with the best validated parameters, and what results.json holds of it."""

from torch import Tensor

from dataset import test_images_sha256
from hardware.cost import DELAY_US, Counter
from runs.lifecycle import failure
from runs.machine import environment, peak_memory_mb
from models.table import MODELS
from training.evaluation import confusion_matrix
from training.hardware import described
from training.loop import Training
from training.metrics import BACKWARD_METRICS
from training.settings import CIRCUIT_SETTINGS, Settings

# large, or shown already as wandb's config or history
NOT_IN_SUMMARY = ("settings", "confusion_matrix", "mode")


def conditions(s: Settings) -> dict:
    """Under what a model was trained, validated and tested: noise, with dates and sources of machines, and shots."""
    noise, of_encoding = s.noises()
    return {
        **noise.describe(),
        "encoding_noise": of_encoding.describe() if of_encoding.channels else None,
        "shots": s.shots or None,
        "gradient": s.gradient,
    }


def costs(training: Training, test: Counter) -> dict:
    """What the run's circuits took: all steps, the mean step, the test, and its mean image; hours at `DELAY_US` a shot."""
    n_images, steps = len(training.splits.test), training.state.step - training.settings.start_train_steps
    return {
        "max_circuits_per_job": test.max_circuits,
        "delay_us": DELAY_US,
        "training": training.cost.describe() | {"hours": training.cost.hours()},
        "training_step": {name: value / steps for name, value in training.cost.describe().items()},
        "test": test.describe() | {"hours": test.hours()},
        "inference": {name: value / n_images for name, value in test.describe().items() if name not in ("rounds", "jobs")},
    }


def accuracy_of_first(n: int, labels: Tensor, predictions: Tensor) -> dict[str, float]:
    """Accuracy on the first n images of a split, by its name in results.json; {} where n is 0 or there are fewer."""
    if not 0 < n <= len(labels):
        return {}
    return {f"test_acc_first_{n}": (predictions[:n] == labels[:n]).double().mean().item()}


def measure(training: Training) -> dict:
    """What results.json holds, on the first rank; the model gets its best validated parameters."""
    s, state, splits = training.settings, training.state, training.splits
    best = state.load_best()
    training.draw_for("test", best["step"])
    evaluation = training.evaluate(splits.test)
    metrics = {f"test_{name}": value for name, value in evaluation.metrics.items()}
    training.log("test", metrics | {f"test_{name}": value for name, value in described(evaluation.cost).items()})
    if not training.ranks.is_first:
        return {}
    circuit = getattr(training.model.layer, "circuit", None)
    steps, why = state.step - s.start_train_steps, "steps had no finite gradient: lower --lr"
    return {
        "name": state.folder.path.name,
        "model": s.model,
        "dataset": s.dataset,
        "num_classes": s.num_classes,
        "n_wires": s.n_wires,
        "encoding": s.encoding,
        "mode": "warmup" if s.pretrain_steps else s.mode,
        "n_layer": s.n_layer,
        "engine": s.engine,
        "trainable_gates": s.trainable_gates,
        **{name: getattr(s, name) for name in CIRCUIT_SETTINGS},
        "n_readouts": None if circuit is None else circuit.n_readouts,
        "measurement_settings": None if circuit is None else len(circuit.readout.settings()),
        "seed": s.seed,
        "epochs": round(state.epoch, 3),
        "steps": state.step,
        **metrics,
        **accuracy_of_first(MODELS[s.model].first_images, splits.test.labels, evaluation.predictions),
        **{f"best_val_{name}": value for name, value in best.items()},
        # over the last entry of the training log, as metrics.csv has them; null for a stack of layers
        **{f"train_{metric.name}": state.entry.get(metric.name) for metric in BACKWARD_METRICS},
        "train_seconds": state.seconds + training.seconds_of_states,
        "seconds_per_step": state.seconds / max(1, state.steps_timed),
        "peak_memory_mb": peak_memory_mb(state.device),
        "skipped_steps": state.skipped,
        "failed_images": int(training.failed),
        "failure": failure(state.skipped, steps, why, metrics["test_loss"]),
        "remarks": state.remarks,
        "n_parameters": sum(p.numel() for p in training.model.parameters()),
        "confusion_matrix": confusion_matrix(splits.test.labels, evaluation.predictions, splits.n_classes).tolist(),
        "test_images_sha256": test_images_sha256(s.dataset, s.data_folder, s.n_wires),
        **environment(state.device),
        "world_size": training.ranks.size,
        "backend": training.ranks.backend,
        # with their number, train_seconds is this run's equal share of the steps that they took as one
        "runs_together": training.n_together,
        **(conditions(s) if s.on_hardware else {}),
        **({} if evaluation.cost is None else {"cost": costs(training, evaluation.cost)}),
        "settings": s.without_paths(),
    }
