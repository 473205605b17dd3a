"""Several runs in one process, which take their steps side by side.

Each run is a generator, from its folder to its results, that stops where a step is to be taken: what comes before, between
and after the steps is written once, for one run, and happens run by run. Runs at different steps, as some are where one
was stopped alone, meet where the later ones are. A run that fails ends alone.
"""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from signal import SIGINT

from torch import Tensor

from runs.log import OwnLog, start_log
from runs.settings import changeable_fields, result_fields
from runs.signals import Stopped, StopRequest
from training.loop import Training
from training.settings import Settings
from training.side_by_side import SideBySide

Batch = tuple[Tensor, ...]  # what a training step takes
# First its training, ready for its steps, for which it is sent what may stop it; then the batch of each step, for which it
# is sent whether that could be taken; then None, once all are taken and before it is measured.
Life = Generator[Training | Batch | None, StopRequest | bool | None, None]


class OneOfSeveral:
    """A run among others.

    Args:
        name: for the screen.
        life: the run.
        errors: a context that ends the program, with one line, for errors that are the user's to mend.

    Attributes:
        training: the run's, once it is ready.
        kind: what all of it that counts in a step is, but for its seed: only runs of one kind go side by side.
        batch: of the step that it waits for; None where it waits for none.
        status: the exit status that it asks for; None while it lives.
    """

    training: Training
    kind: tuple

    def __init__(self, name: str, life: Life, errors: Callable[[], AbstractContextManager]):
        self.name, self.log = name, OwnLog(name)
        self._life, self._errors = life, errors
        self.batch: Batch | None = None
        self.status: int | None = None

    def resume(self, value: StopRequest | bool | None = None) -> None:
        """Let it live until it waits again, or ends; the value is what it waits for."""
        self._live(lambda: self._life.send(value))

    def stop(self, number: int) -> None:
        """Save it where it is, between two steps, and end it as that signal does."""

        def save():
            self.training.save()
            return self._life.throw(Stopped(number))

        self._live(save)

    def close(self) -> None:
        """End it, whatever it waits for; nothing more is saved."""
        with self.log:
            self._life.close()
            start_log(None)

    def _live(self, go: Callable[[], Training | Batch | None]) -> None:
        self.batch = None
        with self.log:
            try:
                found = go()
            except StopIteration:
                self.status = 0
            except SystemExit as end:
                self.status = end.code
            except Exception as error:
                self.status = self._say(error)
            else:
                if isinstance(found, Training):
                    self.training, self.kind = found, _kind(found)
                else:
                    self.batch = found

    def _say(self, error: Exception) -> int:
        """Tell why it failed; an error that is nobody's to mend is raised."""
        error.args = (f"{self.name}: {error}",)
        try:
            with self._errors():
                raise error
        except SystemExit as end:
            return end.code


def train_together(runs: Sequence[OneOfSeveral]) -> None:
    """Bring all runs to their ends.

    Raises:
        SystemExit: one of them has failed or a signal came, with its status; the others are finished or saved.
    """
    try:
        for run in runs:
            run.resume()
        living = [run for run in runs if run.status is None]
        _take_steps(living)
        for run in living:
            if run.status is None:
                run.resume()
    except KeyboardInterrupt:
        raise SystemExit(128 + SIGINT) from None
    finally:
        for run in runs:
            run.close()
    if statuses := [run.status for run in runs if run.status]:
        raise SystemExit(max(statuses))


def _take_steps(runs: Sequence[OneOfSeveral]) -> None:
    together: SideBySide | None = None
    with StopRequest() as stop:
        for run in runs:
            run.resume(stop)
        while waiting := [run for run in runs if run.batch is not None]:
            if stop.signal is not None:
                for run in waiting:
                    run.stop(stop.signal)
                return
            first = min(waiting, key=lambda run: run.training.state.step)
            behind = [run for run in waiting if (run.training.state.step, run.kind) == (first.training.state.step, first.kind)]
            trainings = [run.training for run in behind]
            if together is None or together.trainings != trainings:
                together = SideBySide(trainings)
            began = time.perf_counter()
            good = together.train_step([run.batch for run in behind])
            seconds = time.perf_counter() - began
            for run, is_good in zip(behind, good):
                run.training.state.count(seconds / len(behind))
                run.resume(is_good)


def _kind(training: Training) -> tuple:
    settings = training.settings
    names = set(result_fields(Settings)) - changeable_fields(Settings) - {"seed"}
    return training.device, len(training.splits.train), *(getattr(settings, name) for name in sorted(names))
