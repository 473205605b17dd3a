"""What is seen while jobs run: runs finished, accuracy so far, time left.

On a terminal a block of lines is drawn over again, one line for each row of a table; elsewhere, as in a log file, each
event is a line.
"""

import shutil
import sys
import time
from statistics import mean

from reproduction.jobs import Job, Outcome
from utils.statistics import mean_and_spread

STATUS_EVERY = 600.0  # seconds, where the block cannot be drawn
UP, CLEAR = "\x1b[{}A", "\x1b[J"


def duration(seconds: float) -> str:
    """A time in the two units that matter: 45 s, 12 min, 3 h 05 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


class Overview:
    """Follows jobs from their start to their end.

    Args:
        jobs: all of them, in the order in which they will run.
        slots: how many run at once.
        stream: where it is shown.
        clock: seconds, monotonic.
    """

    def __init__(self, jobs: list[Job], slots: int, stream=None, clock=time.monotonic):
        self._jobs, self._slots, self._clock = jobs, slots, clock
        self._stream = stream or sys.stdout
        self._live = self._stream.isatty()
        self._began = self._said = clock()
        self._drawn = 0
        # running jobs: when, at which epoch, and with how many in one process, whose time they share
        self._starts: dict[Job, tuple[float, float, int]] = {}
        self._first_seen: dict[Job, tuple[float, float]] = {}  # the same at the first validation, imports done
        self._ends: dict[Job, Outcome] = {}
        self._accuracy: dict[Job, float] = {}
        self._seconds_per_epoch: dict[tuple[str, str], list[float]] = {}

    def already(self, job: Job) -> None:
        """A run that was finished before."""
        self._ends[job] = Outcome("finished")
        self._accuracy[job] = job.results()["test_acc"]

    def started(self, *jobs: Job) -> None:
        """Jobs that run in one process."""
        for job in jobs:
            progress = job.progress()
            self._starts[job] = self._clock(), progress.epoch if progress else 0.0, len(jobs)
            self._say(f"{job.table}: {job.name} starts" + (f" at epoch {progress.epoch:g}" if progress else ""))

    def ended(self, job: Job, outcome: Outcome) -> None:
        began, first_epoch, n_together = self._starts.pop(job)
        seconds = self._clock() - began
        self._ends[job] = outcome
        results = job.results() if outcome.status == "finished" else None
        if results is None:
            self._say(f"{job.table}: {job.name} {outcome.status}{': ' * bool(outcome.message)}{outcome.message}")
            return
        self._accuracy[job] = results["test_acc"]
        epochs = job.epochs - first_epoch
        if epochs > 0:
            self._seconds_per_epoch.setdefault((job.table, job.row), []).append(seconds / epochs / n_together)
        self._say(
            f"{job.table}: {job.name} finished in {duration(seconds)}: test accuracy "
            f"{100 * results['test_acc']:.2f} %   [{self.status()}]"
        )

    def refresh(self) -> None:
        """Draw the block anew, or now and then say how far it is."""
        if self._live:
            self._erase()
            columns, rows = shutil.get_terminal_size()
            # neither a line that wraps nor one that has left the screen could be drawn over
            lines = [line[: columns - 1] for line in (self.status(), *self.lines(max(1, rows - 3)))]
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()
            self._drawn = len(lines)
        elif self._clock() - self._said > STATUS_EVERY:
            self._say("\n".join([self.status(), *self.lines()]))

    def close(self) -> None:
        self._erase()
        self._say("\n".join([self.status(), *self.lines()]))

    def status(self) -> str:
        """One line: how many runs have ended, and how long it took and will take."""
        count = [sum(end.status == status for end in self._ends.values()) for status in ("finished", "failed")]
        text = f"{count[0]} of {len(self._jobs)} runs finished"
        text += f", {count[1]} failed" if count[1] else ""
        text += f", {len(self._starts)} running; {duration(self._clock() - self._began)} so far"
        left = self.seconds_left() if len(self._ends) < len(self._jobs) else None
        return text if left is None else f"{text}, about {duration(left)} left"

    def lines(self, at_most: int | None = None) -> list[str]:
        """A line for each row that has begun; of too many those that run, those that ended last, and how many more."""
        texts = self._row_texts()
        if at_most is None or len(texts) <= at_most:
            return [text for text, _ in texts]
        newest_first = range(len(texts) - 1, -1, -1)
        kept = sorted(newest_first, key=lambda index: not texts[index][1])[: at_most - 1]
        return [*(texts[index][0] for index in sorted(kept)), f"  and {len(texts) - len(kept)} more rows"]

    def _row_texts(self) -> list[tuple[str, bool]]:
        """The line of each row that has begun, and whether it runs."""
        rows: dict[tuple[str, str], list[Job]] = {}
        for job in self._jobs:
            rows.setdefault((job.table, job.label), []).append(job)
        texts = []
        for (table, label), jobs in rows.items():
            done = [100 * self._accuracy[job] for job in jobs if job in self._accuracy]
            parts = [f"{len(done)}/{len(jobs)} seeds"]
            if done:
                parts.append(f"test {mean_and_spread(done).text('.2f')} %")
            running = [self._running(job) for job in jobs if job in self._starts]
            parts += running
            parts += [f"seed {job.seed} failed" for job in jobs if self._status_of(job) == "failed"]
            if len(parts) > 1:
                texts.append((f"  {table} {label:<28} {', '.join(parts)}", bool(running)))
        return texts

    def _status_of(self, job: Job) -> str | None:
        return self._ends[job].status if job in self._ends else None

    def _running(self, job: Job) -> str:
        progress = job.progress()
        if progress is None:
            return f"seed {job.seed} at epoch 0/{job.epochs}"
        return f"seed {job.seed} at epoch {progress.epoch:.0f}/{job.epochs}, val {100 * progress.val_acc:.2f} %"

    def seconds_left(self) -> float | None:
        """About how long the rest takes, from the pace of each row, or of all rows for one that has not begun yet."""
        pace = {row: mean(values) for row, values in self._seconds_per_epoch.items()}
        epochs_left = {
            job: float(job.epochs) for job in self._jobs if job not in self._ends and job not in self._starts
        }
        for job, (_, first_epoch, n_together) in self._starts.items():
            progress = job.progress()
            epoch = progress.epoch if progress else first_epoch
            epochs_left[job] = job.epochs - epoch
            if epoch > first_epoch:
                seen_at, seen_epoch = self._first_seen.setdefault(job, (self._clock(), epoch))
                if epoch > seen_epoch:
                    per_epoch = (self._clock() - seen_at) / (epoch - seen_epoch)
                    pace.setdefault((job.table, job.row), per_epoch / n_together)
        if not pace:
            return None
        usual = mean(pace.values())
        seconds = [left * pace.get((job.table, job.row), usual) for job, left in epochs_left.items()]
        return max(sum(seconds) / self._slots, max(seconds, default=0.0))

    def _say(self, text: str) -> None:
        self._erase()
        self._said = self._clock()
        self._stream.write(f"{time.strftime('%H:%M')}  {text}\n")
        self._stream.flush()

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write(UP.format(self._drawn) + CLEAR)
            self._drawn = 0
