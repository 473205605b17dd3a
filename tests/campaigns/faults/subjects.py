"""The runs that are tried, small ones of both kinds of training, and what their numbers must be: those of the same run
left alone, bit for bit but for times and memory.

It knows commands, run folders and hooks into training, and nothing of faults.
"""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

import figures
from campaigns.same_runs import read_metrics, read_results
from figures import qep_pictures
from qep.learning.loop import QEPTraining
from runs import checkpoint
from training.loop import Training

from .children import Child, Outcome, start
from .judging import Trial, check_manners, last_line

STEPS = 24
OFTEN = f"--max_step {STEPS} --eval-interval 4 --log-interval 2"
CLASSIFIER = f"--dataset digits --num_classes 4 --n_wires 4 --batch_size 64 {OFTEN}"
# name: script and flags
SUBJECTS = {
    "implicit": f"train_qdeq.py {CLASSIFIER} --dropout 0.1 --jac_loss_weight 0.5 --jac_loss_freq 0.5",
    "warm-up": f"train_qdeq.py {CLASSIFIER} --n_layer 1 --pretrain_steps 10 --scheduler cosine "
    "--amplitude_encoder False",
    "direct": f"train_qdeq.py {CLASSIFIER} --mode direct --n_layer 2 --scheduler dev_perf --optim RMSprop",
    "qep": "train_qep.py --task digits --num_classes 2 --n_train 64 --batch_size 8 --n_spins 5 --shots 100 --beta 0.3 "
    f"{OFTEN}",
    "qep xor": f"train_qep.py --task xor --compare 3 --optim SGD {OFTEN}",
}
LOOPS = (Training, QEPTraining)
NAME = "r"
# where a run lies and how it was continued are no numbers of it
NOT_COMPARED = {"results.json name", "results.json settings restart"}
# entries of checkpoints
COMPARED = {"checkpoint_last.pt": ("model", "optimizer", "step", "best"), "checkpoint_best.pt": ("model",)}
PICTURES = {"curves.png", "confusion_matrix.png", "circuit.png"}
ENOUGH = 120  # seconds for a run, on a machine that does other things too


@dataclass
class Bench:
    """Where the campaign works.

    Attributes:
        source: the folder of the scripts, of the modules that are imported here.
        folder: a temporary one.
        seconds: how long each subject takes when it is left alone, without pictures.
    """

    source: Path
    folder: Path
    seconds: dict[str, float]

    def reference(self, subject: str) -> Path:
        """The folder of the run that was left alone, with pictures."""
        return self.folder / "references" / subject.replace(" ", "_") / NAME

    def half(self, subject: str) -> Path:
        """The folder of a run that was killed after step 14: its last checkpoint is of step 12."""
        return self.folder / "halves" / subject.replace(" ", "_") / NAME

    def fresh(self, name: str) -> Path:
        """A new folder for one case."""
        folder = self.folder / "cases" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def prepare(self, names: Sequence[str] = tuple(SUBJECTS)) -> None:
        """Run the subjects that are not there yet.

        Raises:
            RuntimeError: one does not even finish when it is left alone.
        """
        for name in names:
            for folder, hook, status in (
                (self.reference(name), None, 0), (self.folder / "timed", without_pictures, 0),
                (self.half(name), partial(after_steps, 14, leave), 3),
            ):  # fmt: skip
                if folder.exists():
                    continue
                began = time.perf_counter()
                end = self.train(name, folder.parent, folder.name, hook=hook).end(ENOUGH)
                if end.status != status:
                    raise RuntimeError(f"{name} ends with status {end.status} when left alone: {end.out}{end.err}")
                if hook is without_pictures:
                    self.seconds[name] = time.perf_counter() - began
                    shutil.rmtree(folder)

    def command(self, subject: str, work_dir: Path, name: str = NAME) -> tuple[Path, list[str]]:
        """Script and flags that start a subject, or resume it."""
        script, *flags = SUBJECTS[subject].split()
        where = ["--work_dir", str(work_dir), "--name", name, "--restart"]
        return self.source / script, [*flags, "--device", "cpu", "--tensorboard", "False", *where]

    def train(
        self,
        subject: str,
        work_dir: Path,
        name: str = NAME,
        hook: Callable[[], object] | None = None,
        more: Sequence = (),
    ) -> Child:
        """Start a subject, or resume it.

        Args:
            subject: which.
            work_dir, name: where.
            hook: called in the child; None: as a user has it, pictures and all.
            more: flags that are added.
        """
        script, flags = self.command(subject, work_dir, name)
        return start(script, [*flags, *more], hook or (lambda: None))

    def finish(self, subject: str, work_dir: Path, more: Sequence = ()) -> Outcome:
        """Resume a subject and let it end, without pictures."""
        return self.train(subject, work_dir, hook=without_pictures, more=more).end(ENOUGH)

    def evaluate(self, folder: Path, hook: Callable[[], object] = lambda: None, more: Sequence = ()) -> Child:
        """Start `evaluate_qdeq.py` of a run folder."""
        return start(self.source / "evaluate_qdeq.py", [folder, "--device", "cpu", *more], hook)


# hooks, called in a child before its command


def without_pictures() -> None:
    """Pictures take longer than these runs."""
    figures.draw_run = qep_pictures.draw_run = lambda *args: {}
    figures.draw_confusion_matrix = figures.save_figure = lambda *args: None


def after_steps(n_steps: int, action: Callable[[], object]) -> None:
    """Do something after the n-th step that this process takes, and draw no pictures."""
    without_pictures()
    taken = 0
    for loop in LOOPS:
        def step(self, *batch, original=loop.train_step):
            nonlocal taken
            original(self, *batch)
            taken += 1
            if taken == n_steps:
                action()

        loop.train_step = step


def leave() -> None:
    """End the process as a kill does, but with status 3."""
    os._exit(3)


def before_training(action: Callable[[object], object]) -> None:
    """Do something with a training that is about to take its first step."""
    for loop in LOOPS:
        loop.run = lambda self, *args: action(self)


# numbers


def difference(reference: Path, folder: Path) -> str | None:
    """The first difference between the run that was left alone and another; None: they are the same."""
    for read in (read_results, read_metrics):
        ours, theirs = read(reference), read(folder)
        for place in dict.fromkeys([*ours, *theirs]):
            if place not in NOT_COMPARED and ours.get(place) != theirs.get(place):
                return f"{place}: {ours.get(place, 'nothing')} when left alone, {theirs.get(place, 'nothing')} here"
    for name in COMPARED:
        ours, theirs = checkpoint.load(reference / name), checkpoint.load(folder / name)
        for entry in COMPARED[name]:
            if not same(ours[entry], theirs[entry]):
                return f"{name}: {entry} is another one"
    return None


def same(a: object, b: object) -> bool:
    """Equal in structure and every bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def check_finished(trial: Trial, end: Outcome, bench: Bench, subject: str, work_dir: Path, how: str) -> None:
    """Find what a run that was resumed to its end must not be: lost, of other numbers, beside others, with left-overs.

    Args:
        trial: what is written into.
        end: of the last command.
        bench, subject, work_dir: which run, and where.
        how: what was done to it, in words.
    """
    check_manners(trial, end, how)
    if end.status != 0:
        trial.find("lost", f"{how}: status {end.status} on --restart; {last_line(end.out + end.err)}")
        return
    folders = sorted(path.name for path in work_dir.iterdir() if path.is_dir())
    if folders != [NAME]:
        trial.find("left", f"{how}: run folders {', '.join(folders)}")
        return
    reference = bench.reference(subject)
    try:
        if (differs := difference(reference, work_dir / NAME)) is not None:
            trial.find("numbers", f"{how}: {differs}")
    except (OSError, ValueError, KeyError, checkpoint.CheckpointError) as error:
        trial.find("lost", f"{how}: {error!r}")
    expected = {path.name for path in reference.iterdir()} | PICTURES
    if left := sorted(path.name for path in (work_dir / NAME).iterdir() if path.name not in expected):
        trial.find("left", f"{how}: {', '.join(left)}")
