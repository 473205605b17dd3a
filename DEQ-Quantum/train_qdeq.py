"""Train a quantum deep equilibrium classifier, or a baseline: IMPLICIT, IMPLICIT+WARMUP or DIRECT with L layers.

The command: settings, data, run folder, training, test, results.json and pictures. `--help` teaches the flags.
Flags are those of the released code of Schleich et al. (arXiv 2410.23940) and more; ../README.md says where the
meaning departs from it.
"""

from runs.command_line import CommandLine, fail, parse_command_line, share_cores

if __name__ == "__main__":
    share_cores()
    COMMAND = parse_command_line()  # before the heavy imports: --help and a wrong flag do not wait for them

import logging
import signal
import tempfile

import torch

from dataset import DataError, test_images_sha256
from engines import bytes_needed
from figures import draw_circuit, draw_confusion_matrix, draw_training_curves, save_figure
from models.table import MODELS
from runs import checkpoint
from runs.folder import choose_device, environment, find_run, free_bytes, peak_memory_mb, start_log
from runs.lifecycle import TrainingError, carry_out
from training.evaluation import confusion_matrix, load_splits
from training.loop import Training
from training.settings import Settings, SettingsError

# large, or shown already as wandb's config or history
NOT_IN_SUMMARY = ("settings", "confusion_matrix", "mode")

log = logging.getLogger("qdeq")


def finish(run: Training) -> dict:
    """Measure the test split with the best validated parameters; write results.json and the pictures.

    Returns:
        What results.json holds.
    """
    s = run.settings
    best = checkpoint.load(run.folder.best_path, run.device)
    checkpoint.load_weights(run.model, best["model"], run.folder.best_path)
    evaluation = run.evaluate(run.splits.test)
    metrics = {f"test_{name}": value for name, value in evaluation.metrics.items()}
    run.log("test", metrics)
    counts = confusion_matrix(run.splits.test.labels, evaluation.predictions, run.splits.n_classes)
    results = {
        "name": run.folder.path.name,
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
        "epochs": round(run.step / run.steps_per_epoch, 3),
        "steps": run.step,
        **metrics,
        **{f"best_val_{name}": value for name, value in best["best"].items()},
        "train_seconds": run.seconds,
        "seconds_per_step": run.seconds / max(1, run.steps_timed),
        "peak_memory_mb": peak_memory_mb(run.device),
        "skipped_steps": run.skipped,
        "n_parameters": sum(p.numel() for p in run.model.parameters()),
        "confusion_matrix": counts.tolist(),
        "test_images_sha256": test_images_sha256(s.dataset, s.data_dir),
        **environment(run.device),
        "settings": s.without_paths(),
    }
    figures = {
        "confusion_matrix": draw_confusion_matrix(counts.cpu().numpy(), run.splits.classes),
        "curves": draw_training_curves(run.folder.path / "metrics.csv"),
    }
    if MODELS[s.model].circuit is not None:
        figures["circuit"] = draw_circuit(run.model.layer.circuit)
    for name, figure in figures.items():
        save_figure(figure, run.folder.path / f"{name}.png")
    run.tracker.finish(run.step, {k: v for k, v in results.items() if k not in NOT_IN_SUMMARY}, figures)
    checkpoint.write_json(run.folder.results_path, results)
    return results


def train(command: CommandLine) -> None:
    """Carry out a command: open its run folder, train, report. Errors end the program with one line."""
    start_log(None)
    try:
        if command.settings.debug:
            with tempfile.TemporaryDirectory() as folder, torch.autograd.set_detect_anomaly(True):
                command.settings.work_dir = folder
                _train(command)
        else:
            _train(command)
    except (SettingsError, DataError, TrainingError, checkpoint.CheckpointError, ImportError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        log.info("stopped before training")
        raise SystemExit(128 + signal.SIGINT) from None


def _refuse_what_cannot_fit(s: Settings, device: torch.device) -> None:
    """Before it is tried for hours: what goes into the circuit, what comes out and its gradient are held at once.

    Raises:
        SettingsError: these alone take more memory than is free.
    """
    describe = MODELS[s.model].circuit
    if describe is None:
        return
    circuit, size = describe(s), s.batch_size // s.batch_chunk
    needed, free = bytes_needed(s.engine, circuit, size), free_bytes(device)
    if needed > free:
        helps = bytes_needed(s.engine, circuit, 1) < needed
        raise SettingsError(
            f"--n_wires {s.n_wires}: state vectors alone take {needed / 1e9:.0f} GB and {free / 1e9:.0f} GB are free; "
            "use fewer wires" + (" or a smaller --batch_size" if helps else "")
        )


def _train(command: CommandLine) -> None:
    folder = find_run(command)
    device = choose_device(folder.settings)
    _refuse_what_cannot_fit(folder.settings, device)
    run = Training(folder, load_splits(folder.settings, device), device)
    kept = not command.settings.debug
    results = carry_out(run, finish, command.warnings, kept)
    if results is None:
        return
    log.info(
        "test accuracy %.2f %%  loss %.4f  residual %.1e  (%.1f s of training, %.1f ms a step)",
        100 * results["test_acc"], results["test_loss"], results["test_res_rel"],
        results["train_seconds"], 1e3 * results["seconds_per_step"],
    )  # fmt: skip
    if kept:
        log.info("results, curves and confusion matrix in %s", run.folder.path)


if __name__ == "__main__":
    train(COMMAND)
