"""Train a quantum system at its ground state by quantum equilibrium propagation (Scellier, arXiv 2406.00879).

The command, from top to bottom: settings, run folder, task, training, test, results.json and curves. `--help` teaches
the flags. The counterpart of train_qdeq.py, with the same run folders, trackers and ways to stop and resume.
"""

from utils.start import start_command

if __name__ == "__main__":
    start_command()

from qep.settings import parse_command_line
from runs.command_line import CommandLine
from utils.command_line import refuse_torchrun

if __name__ == "__main__":
    refuse_torchrun("train_qep.py")
    COMMAND = parse_command_line()  # before the heavy imports: --help and a wrong flag do not wait for them

import logging

from dataset import DataError
from qep.learning.loop import COLUMNS, QEPTraining
from qep.learning.results import NOT_IN_SUMMARY, measure
from qep.learning.tasks import build_task, size_warnings
from runs.folder import find_run
from runs.lifecycle import is_finished, one_line_errors, open_run, refuse_failure
from runs.machine import choose_device
from runs.signals import StopRequest

log = logging.getLogger("qdeq")


def train(command: CommandLine) -> None:
    """Train and test the run that a command starts or resumes. Errors end the program with one line."""
    with one_line_errors(DataError, ImportError, smaller="--batch_size, --n_spins, --n_train or --shots"):
        folder = find_run(command)
        device = choose_device(folder.settings)
        training = QEPTraining(folder, build_task(folder.settings, device), device)
        if is_finished(training.state):
            return
        warnings = [*command.warnings, *size_warnings(folder.settings, training.task)]
        with open_run(training.state, COLUMNS, warnings):
            with StopRequest() as stop:
                training.run(stop)
            results = measure(training)
            from figures.qep_pictures import (
                draw_run,  # here: matplotlib takes seconds, a run that is stopped needs none
            )

            training.state.finish(results, draw_run(training.state.folder.path), NOT_IN_SUMMARY)
            refuse_failure(results)
            accuracy = f"test accuracy {100 * results['test_acc']:.2f} %  " if "test_acc" in results else ""
            log.info(
                "%stest cost %.3g  (%.1f s of training, %.2f ms a sample)",
                accuracy, results["test_cost"], results["train_seconds"], 1e3 * results["seconds_per_sample"],
            )  # fmt: skip
            log.info("results and curves in %s", folder.path)


if __name__ == "__main__":
    train(COMMAND)
