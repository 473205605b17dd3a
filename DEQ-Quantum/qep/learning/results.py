"""The end of a QEP run: the test samples measured with the best validated parameters, and what results.json holds."""

from qep.learning.evaluation import affine_map, evaluate, least_squares, linear_classifier
from qep.learning.loop import QEPTraining
from qep.settings import CLASSIFICATION
from runs.lifecycle import failure
from runs.machine import environment, peak_memory_mb

DEGENERATE = "samples had no single ground state: lower --gap_tol, or change --spread or --graph"
NOT_IN_SUMMARY = ("settings",)  # shown already as wandb's config


def measure(training: QEPTraining) -> dict:
    """What results.json holds; the system gets its best validated parameters."""
    s, state, task = training.settings, training.state, training.task
    state.load_best()
    metrics = {f"test_{name}": value for name, value in evaluate(task, task.test).metrics.items()}
    state.log("test", metrics)
    cosines = training.cosines
    return {
        "name": state.folder.path.name,
        "task": s.task,
        "num_classes": s.num_classes if s.task in CLASSIFICATION else None,
        "n_spins": s.size,
        "graph": s.graph,
        "cost": s.cost_kind,
        "estimator": s.estimator,
        "beta": s.beta,
        "shots": s.shots,
        "seed": s.seed,
        "epochs": round(state.epoch, 3),
        "steps": state.step,
        "n_train": len(task.train),
        **metrics,
        "first_val_cost": training.first["cost"],
        "cosine_mean": sum(cosines) / len(cosines) if cosines else None,
        "cosine_min": min(cosines, default=None),
        **{f"best_val_{name}": value for name, value in state.best.items()},
        **_comparison(training),
        "train_seconds": state.seconds,
        "seconds_per_sample": state.seconds / max(1, training.samples_timed),
        "peak_memory_mb": peak_memory_mb(state.device),
        "skipped_samples": state.skipped,
        "failure": failure(state.skipped, training.samples_timed, DEGENERATE, metrics["test_cost"]),
        "remarks": state.remarks,
        "n_parameters": sum(p.numel() for p in training.system.parameters()),
        **environment(state.device),
        "settings": s.without_paths(),
    }


def _comparison(training: QEPTraining) -> dict:
    """What a classical model reaches on the same data."""
    s, task = training.settings, training.task
    if s.task in CLASSIFICATION:
        return {"linear_test_acc": linear_classifier(task.train, task.test, s.num_classes)}
    if s.task == "oscillators":
        best, cost = least_squares(task.train, task.test)
        found = affine_map(task)
        return {
            "least_squares_test_cost": cost,
            "least_squares_map": best.flatten().tolist(),
            "affine_map": found.flatten().tolist(),
            "map_distance": ((found - best).norm() / best.norm()).item(),
        }
    return {}
