"""Train a quantum deep equilibrium classifier, or a baseline: IMPLICIT, IMPLICIT+WARMUP or DIRECT with L layers.

The command, from top to bottom: settings, run folder, data, training, test, results.json and pictures. `--help`
teaches the flags. Flags are those of the released code of Schleich et al. (arXiv 2410.23940) and more; README.md
beside this file says where the meaning departs from it.
"""

from utils.start import start_command

if __name__ == "__main__":
    start_command()

from runs.command_line import CommandLine
from training.command_line import TrainingCommand, parse_command_line

if __name__ == "__main__":
    COMMAND = parse_command_line()  # before the heavy imports: --help and a wrong flag do not wait for them

import logging
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from dataset import DataError
from engines.protocol import UnsupportedCircuit
from hardware.noise import NoiseError
from runs.folder import find_run
from runs.lifecycle import is_finished, one_line_errors, open_run, refuse_failure
from runs.machine import choose_device
from runs.ranks import joined_ranks
from runs.signals import StopRequest
from training.evaluation import load_splits, size_warnings
from training.loop import Training
from training.memory import refuse_states_that_cannot_fit, refuse_what_cannot_fit
from training.metrics import columns
from training.results import NOT_IN_SUMMARY, measure
from training.settings import Settings
from training.together import Life, OneOfSeveral, train_together

log = logging.getLogger("qdeq")


@contextmanager
def debugging(settings: Settings) -> Iterator[None]:
    """With --debug every gradient is checked for NaN, and the run folder is removed at the end of the block."""
    if not settings.debug:
        yield
        return
    with tempfile.TemporaryDirectory() as folder, torch.autograd.set_detect_anomaly(True):
        settings.work_dir = folder
        yield


def errors() -> AbstractContextManager:
    """Errors that are the user's to mend end the program with one line."""
    smaller = "--batch_size, --n_wires, --f_thres, --b_thres or --n_layer, or raise --batch_chunk"
    return one_line_errors(DataError, ImportError, NoiseError, UnsupportedCircuit, smaller=smaller)


def train(command: TrainingCommand) -> None:
    """Train and test the run, or the runs, that a command starts or resumes. Errors end the program with one line."""
    if command.several:
        train_several(command)
    else:
        train_one(command)


def train_one(command: CommandLine) -> None:
    """Train and test a run."""
    kept = not command.settings.debug
    with errors(), debugging(command.settings), joined_ranks() as ranks:
        folder = ranks.from_first(lambda: find_run(command))
        kind = ranks.from_first(lambda: choose_device(folder.settings))
        with ranks.together():
            device = ranks.device(kind)
            refuse_what_cannot_fit(folder.settings, device, ranks.size)
        splits = ranks.from_first(lambda: load_splits(folder.settings, torch.device("cpu"))).to(device)
        refuse_states_that_cannot_fit(folder.settings, splits)
        training = Training(folder, splits, device, ranks)
        if is_finished(training.state):
            return
        warnings = [*command.warnings, *size_warnings(folder.settings, splits)]
        with open_run(training.state, columns(folder.settings.shots > 0), warnings, kept):
            with StopRequest() as stop:
                training.run(stop)
            finish(training, kept)


def finish(training: Training, kept: bool) -> None:
    """Test a run that has taken its steps, and write what comes of it."""
    results = measure(training)
    if not training.ranks.is_first:
        return
    from figures import draw_run  # here: matplotlib takes seconds, and a run that is stopped needs none

    folder = training.state.folder.path
    circuit = getattr(training.model.layer, "circuit", None)
    figures = draw_run(folder, results, training.splits.classes, circuit)
    training.state.finish(results, figures, NOT_IN_SUMMARY)
    refuse_failure(results)
    log.info(
        "test accuracy %.2f %%  loss %.4f  residual %.1e  (%.1f s of training, %.1f ms a step)",
        100 * results["test_acc"], results["test_loss"], results["test_res_rel"],
        results["train_seconds"], 1e3 * results["seconds_per_step"],
    )  # fmt: skip
    if kept:
        log.info("results, curves and confusion matrix in %s", folder)


def train_several(command: TrainingCommand) -> None:
    """Train and test runs side by side."""
    with errors():
        lives = [life(one, len(command.several)) for one in command.several]
        train_together([OneOfSeveral(f"seed {seed}", own, errors) for seed, own in zip(command.seeds, lives)])


def life(command: CommandLine, n_runs: int) -> Life:
    """What `train_one` does, as one run of several lives through it."""
    folder = find_run(command)
    device = choose_device(folder.settings)
    refuse_what_cannot_fit(folder.settings, device, n_runs=n_runs)
    splits = load_splits(folder.settings, device)
    training = Training(folder, splits, device)
    if is_finished(training.state):
        return
    with open_run(training.state, columns(False), [*command.warnings, *size_warnings(folder.settings, splits)]):
        stop = yield training
        yield from training.steps(stop)
        yield None
        finish(training, kept=True)


if __name__ == "__main__":
    train(COMMAND)
