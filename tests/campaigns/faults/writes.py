"""Kills at every kind of write: before, in the middle of and after each, whatever file it is; then the command is given
once more, and must come to what it comes to when it is left alone.

Which writes there are is found out from commands that are left alone; `moments` knows how to kill there.
"""

import json
import random
import re
import shutil
import signal
from pathlib import Path

from .children import Outcome
from .judging import Trial, check_manners, last_line
from .moments import WAYS, Moments
from .subjects import ENOUGH, NAME, SUBJECTS, Bench, check_finished, difference, without_pictures

EVALUATION = "evaluation"
OF = "implicit"  # the run that is evaluated


def cases(n: int, rng: random.Random, bench: Bench) -> list[dict]:
    """Each kind of write in each way, of one command after the other, until there are n."""
    moments: dict[tuple[str, str, str], dict[str, list[int]]] = {}
    for command in (*SUBJECTS, EVALUATION):
        folder = bench.fresh("moments")
        record = folder / "record"
        start(command, bench, folder, Moments(folder / "work", record)).end(ENOUGH)
        for number, line in enumerate(record.read_text().splitlines()):
            operation, name = json.loads(line)
            for way in WAYS:
                moments.setdefault((operation, plain(name), way), {}).setdefault(command, []).append(number)
    kinds = list(moments)
    rng.shuffle(kinds)
    drawn = []
    for number in range(n):
        operation, name, way = kind = kinds[number % len(kinds)]
        command = rng.choice(list(moments[kind]))
        at = rng.choice(moments[kind][command])
        drawn.append({"command": command, "at": at, "way": way, "operation": operation, "name": name})
    return drawn


def plain(name: str) -> str:
    """The name of a file for that of a temporary one: .NAME.PID.tmp."""
    return re.fullmatch(r"\.?(.*?)(\.\d+)?(\.tmp)?", name)[1]


def start(command: str, bench: Bench, folder: Path, hook=lambda: None):
    """Start a subject in `folder`/work, or the evaluation of a finished one that lies there."""
    work_dir = folder / "work"
    if command != EVALUATION:
        work_dir.mkdir(exist_ok=True)
        return bench.train(command, work_dir, hook=hook)
    if not work_dir.exists():
        shutil.copytree(bench.reference(OF), work_dir / NAME)
    return bench.evaluate(work_dir / NAME, hook)


def attempt(case: dict, bench: Bench) -> Trial:
    """Kill a command at one moment; then give it again."""
    command, at, way, name = case["command"], case["at"], case["way"], case["name"]
    how = f"{command}, killed {way} {case['operation']} {name} ({at})"
    trial = Trial(f"of {name}")
    folder = bench.fresh(f"writes-{command.replace(' ', '_')}-{at}-{way}")
    end = start(command, bench, folder, Moments(folder / "work", folder / "record", at, way)).end(ENOUGH)
    if end.status != -signal.SIGKILL:
        trial.find("numbers", f"{how}: the command was not killed there, it does not write the same each time")
    check_manners(trial, end, how)
    again = start(command, bench, folder, hook=lambda: None if ".png" in name else without_pictures()).end(ENOUGH)
    if command == EVALUATION:
        check_evaluated(trial, again, folder / "work" / NAME, bench.reference(OF), how)
    else:
        check_finished(trial, again, bench, command, folder / "work", how)
    return trial


def check_evaluated(trial: Trial, end: Outcome, folder: Path, reference: Path, how: str) -> None:
    """Find what a run that was evaluated again must not be: damaged, or of other numbers than its training said."""
    check_manners(trial, end, how)
    if end.status != 0:
        trial.find("lost", f"{how}: status {end.status} when given again; {last_line(end.out + end.err)}")
        return
    said, found = (json.loads((folder / name).read_text()) for name in ("results.json", "evaluation_test.json"))
    if (said["test_acc"], said["test_loss"]) != (found["acc"], found["loss"]):
        trial.find("numbers", f"{how}: accuracy {found['acc']} and loss {found['loss']}")
    if (differs := difference(reference, folder)) is not None:
        trial.find("numbers", f"{how}: {differs}")
    files = {path.name for folder in (reference, folder) for path in folder.iterdir()}
    if left := files - {path.name for path in reference.iterdir()} - {"evaluation_test.json", "confusion_test.png"}:
        trial.find("left", f"{how}: {', '.join(sorted(left))}")
