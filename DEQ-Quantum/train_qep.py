"""Train a quantum system at its ground state by quantum equilibrium propagation (Scellier, arXiv 2406.00879).

The command: settings, task, run folder, training, test, results.json and curves. `--help` teaches the flags. The
counterpart of train_qdeq.py, with the same run folders, trackers and ways to stop and go on.
"""

from qep.settings import parse_command_line
from runs.command_line import CommandLine, fail, share_cores

if __name__ == "__main__":
    share_cores()
    COMMAND = parse_command_line()  # before the heavy imports: --help and a wrong flag do not wait for them

import logging
import signal

from dataset import DataError
from figures import save_figure
from qep.figures import draw_qep_run
from qep.learning.evaluation import affine_map, evaluate, least_squares, linear_classifier
from qep.learning.loop import QEPTraining
from qep.learning.tasks import build_task
from qep.settings import CLASSIFICATION
from runs import checkpoint
from runs.folder import choose_device, environment, find_run, peak_memory_mb, start_log
from runs.lifecycle import TrainingError, carry_out
from training.settings import SettingsError

log = logging.getLogger("qdeq")


def comparison(run: QEPTraining) -> dict:
    """What a classical model reaches on the same data, for results.json."""
    task = run.task
    if run.settings.task in CLASSIFICATION:
        return {"linear_test_acc": linear_classifier(task.train, task.test, run.settings.num_classes)}
    if run.settings.task == "oscillators":
        best, cost = least_squares(task.train, task.test)
        found = affine_map(task)
        return {
            "least_squares_test_cost": cost,
            "least_squares_map": best.flatten().tolist(),
            "affine_map": found.flatten().tolist(),
            "map_distance": ((found - best).norm() / best.norm()).item(),
        }
    return {}


def finish(run: QEPTraining) -> dict:
    """Measure the test samples with the best validated parameters; write results.json and the curves.

    Returns:
        What results.json holds.
    """
    s = run.settings
    run.load_best()
    metrics = {f"test_{name}": value for name, value in evaluate(run.task, run.task.test).metrics.items()}
    run.log("test", metrics)
    results = {
        "name": run.folder.path.name,
        "task": s.task,
        "num_classes": s.num_classes if s.task in CLASSIFICATION else None,
        "n_spins": s.size,
        "graph": s.graph,
        "cost": s.cost_kind,
        "estimator": s.estimator,
        "beta": s.beta,
        "shots": s.shots,
        "seed": s.seed,
        "epochs": round(run.step / run.steps_per_epoch, 3),
        "steps": run.step,
        "n_train": len(run.task.train),
        **metrics,
        "first_val_cost": run.first["cost"],
        "cosine_mean": sum(run.cosines) / len(run.cosines) if run.cosines else None,
        "cosine_min": min(run.cosines, default=None),
        **{f"best_val_{name}": value for name, value in run.best.items()},
        **comparison(run),
        "train_seconds": run.seconds,
        "seconds_per_sample": run.seconds / max(1, run.samples_timed),
        "peak_memory_mb": peak_memory_mb(run.device),
        "skipped_samples": run.skipped,
        "n_parameters": sum(p.numel() for p in run.system.parameters()),
        **environment(run.device),
        "settings": s.without_paths(),
    }
    figures = {"curves": draw_qep_run(run.folder.path / "metrics.csv")}
    for name, figure in figures.items():
        save_figure(figure, run.folder.path / f"{name}.png")
    run.tracker.finish(run.step, {k: v for k, v in results.items() if k != "settings"}, figures)
    checkpoint.write_json(run.folder.results_path, results)
    return results


def train(command: CommandLine) -> None:
    """Carry out a command: open its run folder, train, report. Errors end the program with one line."""
    start_log(None)
    try:
        _train(command)
    except (SettingsError, DataError, TrainingError, checkpoint.CheckpointError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        log.info("stopped before training")
        raise SystemExit(128 + signal.SIGINT) from None


def _train(command: CommandLine) -> None:
    folder = find_run(command)
    device = choose_device(folder.settings)
    run = QEPTraining(folder, build_task(folder.settings, device), device)
    results = carry_out(run, finish, command.warnings)
    if results is None:
        return
    accuracy = f"test accuracy {100 * results['test_acc']:.2f} %  " if "test_acc" in results else ""
    log.info(
        "%stest cost %.3g  (%.1f s of training, %.2f ms a sample)",
        accuracy, results["test_cost"], results["train_seconds"], 1e3 * results["seconds_per_sample"],
    )  # fmt: skip
    log.info("results and curves in %s", run.folder.path)


if __name__ == "__main__":
    train(COMMAND)
