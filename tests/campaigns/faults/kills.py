"""Kills at random times: a run is killed again and again, resumed each time, and must end with the numbers of one that
was left alone. A few are killed as real processes, their imports included.

It knows when to kill and what must come of it; `writes` knows the moments of writing.
"""

import random
import shutil
import signal

from .children import start_real
from .judging import Trial, check_manners
from .subjects import ENOUGH, NAME, SUBJECTS, Bench, check_finished, without_pictures

KILLS_A_RUN = 5
IMPORTS = 5.0  # seconds, about


def cases(n: int, rng: random.Random, bench: Bench) -> list[dict]:
    """Runs with 5 kills each, n in all; every tenth begins as a real process, every eighth draws its pictures."""
    names = list(SUBJECTS)
    return [
        {
            "subject": names[i % len(names)], "seed": rng.getrandbits(32), "real": i % 10 == 0,
            "pictures": i % 8 == 3, "kills": min(KILLS_A_RUN, n - i * KILLS_A_RUN),
        }
        for i in range(-(-n // KILLS_A_RUN))
    ]  # fmt: skip


def attempt(case: dict, bench: Bench) -> Trial:
    """Kill a run so many times; then let it finish."""
    rng, subject = random.Random(case["seed"]), case["subject"]
    work_dir = bench.fresh(f"kills-{case['seed']}")
    trial = Trial("of real processes" if case["real"] else f"of {subject}", 0)
    hook = None if case["pictures"] else without_pictures
    long = bench.seconds[subject] * (4 if case["pictures"] else 1)
    while trial.count < case["kills"]:
        # the first of a real process; the others are forked off, or half of the time would go into imports
        if case["real"] and trial.count == 0:
            script, flags = bench.command(subject, work_dir)
            child, delay = start_real(script, flags), rng.uniform(0, long + IMPORTS)
        else:
            child, delay = bench.train(subject, work_dir, hook=hook), rng.uniform(0, long)
        if child.wait(delay):  # finished before it was killed: once more, from the start
            check_finished(trial, child.end(0), bench, subject, work_dir, f"{subject} after {trial.count} kills")
            if trial.findings:
                return trial
            shutil.rmtree(work_dir / NAME)
        else:
            child.send(signal.SIGKILL)
            trial.count += 1
            check_manners(trial, child.end(ENOUGH), f"{subject}, killed")
    end = bench.train(subject, work_dir, hook=hook).end(ENOUGH)
    check_finished(trial, end, bench, subject, work_dir, f"{subject} after {trial.count} kills")
    return trial
