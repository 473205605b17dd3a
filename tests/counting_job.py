"""A job whose process counts and needs no torch, for tests of what becomes of jobs; importable by Ray's workers."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from reproduction.jobs import Job, make_job
from reproduction.rows import TABLES

PREPARE = """
import os, signal, sys, time
from pathlib import Path

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
(folder / 'config.json').write_text(sys.argv[2])
last, log, metrics = folder / 'checkpoint_last.pt', (folder / 'log.txt').open('a'), folder / 'metrics.csv'
n = int(last.read_text()) if last.exists() else 0
log.write(f'from {n}\\n')
log.flush()

def save():
    (folder / 'new').write_text(str(n))
    os.replace(folder / 'new', last)

def finish():
    (folder / 'results.json').write_text('{"test_acc": 0.5, "best_val_acc": 0.5, "epochs": %d}' % n)
"""
STOP = "\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"  # at once
# each step is in the log once, however often the process is asked to stop: it stops between two
COUNT = """
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
if not metrics.exists():
    metrics.write_text('event,epoch,val_acc\\n')
while n < {end}:
    if asked:
        sys.exit(143)
    n += 1
    log.write(f'step {{n}}\\n')
    log.flush()
    with metrics.open('a') as file:
        file.write(f'val,{{n}},0.5\\n')
    save()
    time.sleep({pause})
finish()
"""


@dataclass(frozen=True)
class CountingJob(Job):
    """A job whose process is a piece of Python that finds `n` as its last checkpoint has it, `save` and `finish`."""

    code: str = ""

    @property
    def command(self):
        config = json.dumps(self.settings.to_dict())
        return [sys.executable, "-c", PREPARE + self.code, str(self.folder), config]


def counting(work_dir: Path, code: str, seed: int = 0, epochs: int = 10) -> CountingJob:
    """One that stops at once when it is asked to."""
    table = TABLES["table2"]
    job = make_job(table, table.row("implicit"), seed, epochs, work_dir / "asked")
    return CountingJob(**vars(job), code=STOP + code)


def as_counting(job: Job, pause: float) -> CountingJob:
    """One that counts its epochs, and stops between two."""
    return CountingJob(**vars(job), code=COUNT.format(end=job.epochs, pause=pause))


def steps_of(log: Path) -> list[int]:
    """The steps in a log, in order."""
    return [int(line.split()[1]) for line in log.read_text().splitlines() if line.startswith("step")]
