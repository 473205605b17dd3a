"""The end of a run: the test split measured with the best validated parameters; what results.json and pictures show."""

import numpy as np

from dataset import test_images_sha256
from models.table import MODELS
from runs.machine import environment, peak_memory_mb
from training.evaluation import confusion_matrix
from training.loop import Training
from utils.files import write_json

# large, or shown already as wandb's config or history
NOT_IN_SUMMARY = ("settings", "confusion_matrix", "mode")


def write_results(training: Training) -> dict:
    """Measure the test split; write results.json and the pictures, and give both to the trackers.

    Returns:
        What results.json holds.
    """
    state = training.state
    results = measure(training)
    figures = draw(training, results)
    shown = {name: value for name, value in results.items() if name not in NOT_IN_SUMMARY}
    state.tracker.finish(state.step, shown, figures)
    write_json(state.folder.results_path, results)
    return results


def measure(training: Training) -> dict:
    """What results.json holds; the model gets its best validated parameters."""
    s, state, splits = training.settings, training.state, training.splits
    best = state.load_best()
    evaluation = training.evaluate(splits.test)
    metrics = {f"test_{name}": value for name, value in evaluation.metrics.items()}
    training.log("test", metrics)
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
        "seed": s.seed,
        "epochs": round(state.epoch, 3),
        "steps": state.step,
        **metrics,
        **{f"best_val_{name}": value for name, value in best.items()},
        "train_seconds": state.seconds,
        "seconds_per_step": state.seconds / max(1, state.steps_timed),
        "peak_memory_mb": peak_memory_mb(state.device),
        "skipped_steps": state.skipped,
        "n_parameters": sum(p.numel() for p in training.model.parameters()),
        "confusion_matrix": confusion_matrix(splits.test.labels, evaluation.predictions, splits.n_classes).tolist(),
        "test_images_sha256": test_images_sha256(s.dataset, s.data_dir),
        **environment(state.device),
        "settings": s.without_paths(),
    }


def draw(training: Training, results: dict) -> dict:
    """Draw and save a run's pictures: confusion matrix, curves and, where there is one, the circuit.

    Returns:
        Figures by name.
    """
    # here: matplotlib takes seconds to import, and trainings that end without a picture need none
    from figures import draw_circuit, draw_confusion_matrix, draw_training_curves, save_figure

    path = training.state.folder.path
    figures = {
        "confusion_matrix": draw_confusion_matrix(np.array(results["confusion_matrix"]), training.splits.classes),
        "curves": draw_training_curves(path / "metrics.csv"),
    }
    if MODELS[training.settings.model].circuit is not None:
        figures["circuit"] = draw_circuit(training.model.layer.circuit)
    for name, figure in figures.items():
        save_figure(figure, path / f"{name}.png")
    return figures
