"""Training commands of both kinds that are killed at a checkpoint and resumed, in this process: for tests of damage."""

import csv
import json
from pathlib import Path

import pytest

import train_qdeq
import train_qep
from conftest import no_pictures
from qep.settings import parse_command_line as parse_qep
from runs import checkpoint
from runs.state import TrainingState
from training.command_line import parse_command_line as parse_qdeq

QUICK = ("--device", "cpu", "--tensorboard", "False", "--max_step", 8, "--eval-interval", 2, "--log-interval", 1)
COMMANDS = {
    "qdeq": (train_qdeq, parse_qdeq, ("--dataset", "digits", "--num_classes", 4, "--n_wires", 4, "--batch_size", 32)),
    "linear": (train_qdeq, parse_qdeq, ("--dataset", "digits", "--num_classes", 4, "--n_wires", 4, "--model", "linear")),
    "qep": (train_qep, parse_qep, ("--task", "xor", "--batch_size", 2)),
}
OF_THE_MACHINE = {"date", "train_seconds", "seconds_per_step", "seconds_per_sample", "peak_memory_mb", "name", "sha256"}


class Killed(BaseException):
    """A kill, as far as the run's files can tell."""


class Command:
    """A training command whose runs lie in a folder."""

    def __init__(self, kind: str, folder: Path, monkeypatch):
        self.kind, self.folder, self.monkeypatch = kind, folder, monkeypatch
        self.module, self.parse, self.flags = COMMANDS[kind]

    def train(self, *flags: object, name: str = "r") -> Path:
        words = [*self.flags, *QUICK, *flags, "--work_dir", self.folder, "--name", name]
        with no_pictures():
            self.module.train(self.parse(list(map(str, words))))
        return self.folder / name

    def kill_after(self, step: int, *flags: object, name: str = "r") -> Path:
        """A run that is killed right after a checkpoint."""
        save = TrainingState.save_last

        def kill(state, **more):
            save(state, **more)
            if state.step >= step:
                raise Killed

        with self.monkeypatch.context() as patch:
            patch.setattr(TrainingState, "save_last", kill)
            with pytest.raises(Killed):
                self.train(*flags, name=name)
        return self.folder / name

    def resume(self, *flags: object, name: str = "r") -> Path:
        words = ["--restart", "--restart_dir", self.folder / name, *flags]
        with no_pictures():
            self.module.train(self.parse(list(map(str, words))))
        return self.folder / name


def numbers(run: Path) -> tuple[dict, list[dict]]:
    """What must not depend on how often a run was stopped."""
    results = json.loads((run / "results.json").read_text())
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    settings = {n: v for n, v in results.pop("settings").items() if n not in ("name", "restart")}
    keep = {n: v for n, v in results.items() if n not in OF_THE_MACHINE}
    return keep | settings, [{n: v for n, v in row.items() if n not in OF_THE_MACHINE} for row in rows]


def flip(path: Path, at: float = 0.5) -> None:
    """One wrong bit."""
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 4
    path.write_bytes(content)


def rewrite(path: Path, **entries: object) -> None:
    """Change entries of a checkpoint, the checksum with them."""
    checkpoint.save(path, checkpoint.load(path) | entries)


@pytest.fixture(params=["linear", "qep"])
def command(request, tmp_path, monkeypatch) -> Command:
    return Command(request.param, tmp_path, monkeypatch)


@pytest.fixture
def line(capsys):
    """Run what must end in one line with status 1, and give that line."""

    def run(action, *arguments: object, **more: object) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            action(*arguments, **more)
        error = capsys.readouterr().err
        assert end.value.code == 1 and error.count("\n") == 1 and error.strip().isprintable(), error
        return error

    return run
