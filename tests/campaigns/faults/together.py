"""Two processes at one run folder at the same time: the one that comes second says one line, and neither is harmed.

It knows which pairs there are.
"""

import random
import shutil
import time

from .children import Child, start
from .judging import Trial, check_manners, check_refusal
from .subjects import ENOUGH, NAME, SUBJECTS, Bench, check_finished, difference, without_pictures

# two processes, the second some time after the first
PAIRS = {
    "start and start": (False, False), "start and restart": (False, True), "restart and restart": (True, True),
    "restart and restart, half done": (True, True), "restart and evaluate": (True, None),
}  # fmt: skip
DONE = "has finished its"
HELD = "another process "  # holds the run, or has gone on with it
OF_EVALUATION = ("evaluation_test.json", "confusion_test.png")


def cases(n: int, rng: random.Random, bench: Bench) -> list[dict]:
    """Pairs of commands; every second pair at the same time."""
    return [
        {
            "pair": list(PAIRS)[i % len(PAIRS)], "subject": rng.choice(list(SUBJECTS)[:3]),
            "delay": rng.random() * rng.randrange(2), "seed": rng.getrandbits(32),
        }
        for i in range(n)
    ]  # fmt: skip


def attempt(case: dict, bench: Bench) -> Trial:
    """Start both, wait for both, and look at what is there."""
    pair, subject = case["pair"], case["subject"]
    trial, work_dir = Trial(pair), bench.fresh(f"together-{case['seed']}")
    delay = case["delay"] * bench.seconds[subject]
    how = f"{pair} of {subject} after {delay:.2f} s"
    if "half" in pair or "evaluate" in pair:
        shutil.copytree(bench.half(subject), work_dir / NAME)

    def begin(restart: bool | None) -> Child:
        if restart is None:
            return bench.evaluate(work_dir / NAME)
        script, flags = bench.command(subject, work_dir)
        return start(script, [flag for flag in flags if restart or flag != "--restart"], without_pictures)

    first = begin(PAIRS[pair][0])
    time.sleep(delay)
    second = begin(PAIRS[pair][1])
    ends = [child.end(ENOUGH) for child in (first, second)]
    for end in ends:
        if end.status == 0:
            check_manners(trial, end, how)
        else:
            check_refusal(trial, end, how, names=HELD)
    if pair.startswith("restart and restart") and not any(end.status or DONE in end.out for end in ends):
        trial.find("accepted", f"{how}: both went on in one folder")
    if all(end.status for end in ends):
        trial.find("lost", f"{how}: neither went on")
    for name in OF_EVALUATION:
        (work_dir / NAME / name).unlink(missing_ok=True)
    if pair == "start and start":  # each has a folder of its own
        for folder in work_dir.iterdir():
            if (differs := difference(bench.reference(subject), folder)) is not None:
                trial.find("numbers", f"{how}: {folder.name}, {differs}")
        if len(list(work_dir.iterdir())) != 2:
            trial.find("lost", f"{how}: {len(list(work_dir.iterdir()))} runs where there should be two")
    else:
        second_folder = work_dir / f"{NAME}-2"
        if pair == "start and restart" and second_folder.exists():  # the one without --restart came second
            if (differs := difference(bench.reference(subject), second_folder)) is not None:
                trial.find("numbers", f"{how}: {second_folder.name}, {differs}")
            shutil.rmtree(second_folder)
        check_finished(trial, bench.finish(subject, work_dir), bench, subject, work_dir, how)
    return trial
