"""Signals that ask a command to stop, once and twice, at random times, its imports and its test included: it says one
line, its status is the signal's, and a run that was training has saved.

It knows signals and when they come, and what must come of them.
"""

import random
import shutil
import signal
from functools import partial
from pathlib import Path

from .children import STOPPING, Child, start, start_real
from .judging import Trial, check_manners, error_lines, last_line
from .subjects import LOOPS, NAME, SUBJECTS, Bench, check_finished, without_pictures

OF = "implicit"  # the run that other commands look at
IMPORTS = 6.0  # seconds, about
BEGUN = 0.05  # seconds until the first line of a forked command is run
PATIENCE = 30.0  # seconds from a signal to the end
# {run}: the folder of a finished run, {out}: a new file
OTHERS = {
    "evaluate": "evaluate_qdeq.py {run} --device cpu",
    "reproduce run": "reproduce.py run {run} --out {out}.png",
    "reproduce qep error": "reproduce.py qep error --json {out}.json --n_spins 3 --problems 1 --repetitions 3",
    "benchmark": "benchmark.py step --n_wires 4 --batch_size 4 --repetitions 2",
}
SECONDS = {"evaluate": 0.7, "reproduce run": 1.2, "reproduce qep error": 2.0, "benchmark": 5.0}


def cases(n: int, rng: random.Random, bench: Bench) -> list[dict]:
    """Signals to training, forked off; every fourth to another command, every fifth to a real process, importing."""
    drawn = []
    for i in range(n):
        real, other = i % 5 == 4, i % 4 == 3
        drawn.append({
            "command": rng.choice(list(OTHERS if other else SUBJECTS)), "real": real, "seed": rng.getrandbits(32),
            "signal": int(rng.choice(STOPPING[:1] if real else STOPPING)), "twice": not real and i % 3 == 1,
            "pictures": i % 4 == 0,
        })  # fmt: skip
    return drawn


def attempt(case: dict, bench: Bench) -> Trial:
    """Send a command a signal; where it trains, let the run finish."""
    rng, number, command = random.Random(case["seed"]), signal.Signals(case["signal"]), case["command"]
    trial = Trial(f"{number.name}{' during imports' if case['real'] else ' twice' if case['twice'] else ''}")
    folder = bench.fresh(f"signals-{case['seed']}")
    marks = folder / "marks"
    marks.touch()
    child, delay = begin(case, bench, folder, rng)
    if child.wait(delay):
        trial.what = "that came too late"
    training = marks.read_text() == "began "
    child.send(number)
    if case["twice"]:
        child.wait(rng.uniform(0, 0.3))
        child.send(number)
    end = child.end(PATIENCE)
    training = training and marks.read_text() != "began finished "  # else its last step was taken meanwhile
    how = f"{command}, {number.name}{' twice' if case['twice'] else ''} after {delay:.2f} s"
    check_manners(trial, end, how)
    ends = {0, 128 + number, -number}
    if number == signal.SIGINT and not case["twice"]:
        ends -= {-number}
    if end.status not in ends and end.status is not None:
        trial.find("line", f"{how}: status {end.status}; {last_line(end.out + end.err)}")
    elif len(error_lines(end)) > 1:
        trial.find("line", f"{how}: {len(error_lines(end))} lines on stderr; {last_line(end.err)}")
    if training and not case["twice"] and end.status == -number:
        trial.find("lost", f"{how}: ended without saving, status {end.status}")
    if command in SUBJECTS:
        check_finished(trial, bench.finish(command, folder / "work"), bench, command, folder / "work", how)
    return trial


def begin(case: dict, bench: Bench, folder: Path, rng: random.Random) -> tuple[Child, float]:
    """Start the command of a case; and how long to wait until the signal."""
    command = case["command"]
    if command in OTHERS:
        shutil.copytree(bench.reference(OF), folder / NAME)
        script, *flags = OTHERS[command].format(run=folder / NAME, out=folder / "out").split()
        script, seconds = bench.source / script, SECONDS[command]
    else:
        script, flags = bench.command(command, folder / "work")
        seconds = bench.seconds[command] * (3 if case["pictures"] else 1)
    if case["real"]:
        return start_real(script, flags), rng.uniform(0.1, IMPORTS)
    hook = partial(mark, folder / "marks", case["pictures"])
    return start(script, flags, hook, folder), rng.uniform(BEGUN, seconds)


def mark(path: Path, pictures: bool) -> None:
    """Write down when training begins and when its last step is taken."""
    if not pictures:
        without_pictures()
    for loop in LOOPS:
        def run(self, stop, original=loop.run):
            with path.open("a") as file:
                print("began", end=" ", file=file)
            original(self, stop)
            with path.open("a") as file:
                print("finished", end=" ", file=file)

        loop.run = run
